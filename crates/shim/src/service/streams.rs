// SPDX-License-Identifier: Apache-2.0
//! A process's streams while it lives and after: `ResizePty`, `CloseIO`, loggers, and what is left to move at the end.

use std::os::fd::AsFd;
use std::time::Instant;

use containerd_shim_protos::api::{CloseIORequest, ResizePtyRequest};
use corten_sys::tty;

use super::end::SIGKILL;
use super::{Answered, done};
use crate::children::Key;
use crate::container::Process;
use crate::error::{Code, Error, Result};
use crate::log;
use crate::reactor::{Interest, Source};
use crate::shim::{Logging, Shim, Timer};
use crate::stdio::{FINISH, LAST_MOMENT, Logger, READY, Stream, TERMINATE, Word};

const SIGTERM: i32 = 15;

impl Shim {
    pub(super) fn resize(&mut self, request: &ResizePtyRequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let container = self.container(&request.id)?;
        let process = container.process(&request.id, &key.who)?;
        // Clients send sizes without asking whether there is a terminal: it is no error.
        if let Some(terminal) = &process.terminal {
            let characters = |count| u16::try_from(count).unwrap_or(u16::MAX);
            let (rows, columns) = (characters(request.height), characters(request.width));
            tty::set_size(terminal.as_fd(), rows, columns)?;
        }
        done()
    }

    pub(super) fn close_input(&mut self, request: &CloseIORequest) -> Answered {
        let key = Key::of(&request.id, &request.exec_id);
        let container = self.container(&request.id)?;
        let process = container.process(&request.id, &key.who)?;
        if request.stdin {
            // What was written before is still read.
            let input = |(stream, _): &&(Stream, u32)| *stream == Stream::Input;
            let pumps: Vec<u32> = process
                .pumps
                .iter()
                .filter(input)
                .map(|(_, n)| *n)
                .collect();
            for number in pumps {
                self.pumps.drain(number, &self.reactor);
            }
        }
        done()
    }

    /// Lets go of the streams of a process that has ended. What its pipes still hold is moved first, however slowly it is
    /// read; but nobody who has inherited them keeps them open.
    pub(super) fn drain_streams(&mut self, process: &Process) {
        for (stream, number) in &process.pumps {
            match stream {
                Stream::Input => self.pumps.close(*number, &self.reactor),
                Stream::Output => {
                    self.pumps.drain(*number, &self.reactor);
                }
            }
        }
        self.finish_logger(process);
    }

    /// Lets go of the streams of a process that never was.
    pub(super) fn close_streams(&mut self, process: &Process) {
        for (_, number) in &process.pumps {
            self.pumps.close(*number, &self.reactor);
        }
        self.finish_logger(process);
    }

    fn finish_logger(&mut self, process: &Process) {
        if let Some(number) = process
            .logger
            .filter(|number| self.loggers.contains_key(number))
        {
            self.timers
                .push((Instant::now() + FINISH, Timer::Finish(number)));
        }
    }

    /// Has `key` launched when `logger` is ready.
    pub(super) fn wait_for_logger(&mut self, key: &Key, logger: Logger) -> Result<()> {
        let number = self.number();
        self.children.logs(logger.pid(), number);
        let container = self.container_mut(&key.container)?;
        container.process_mut(&key.container, &key.who)?.logger = Some(number);
        self.reactor
            .add(logger.says(), Source::Logger(number), Interest::Read)?;
        self.timers
            .push((Instant::now() + READY, Timer::Ready(number)));
        let waits = Some(key.clone());
        self.loggers.insert(number, Logging { logger, waits });
        Ok(())
    }

    /// A logger says that it is ready, or was never going to be.
    pub(crate) fn logger_speaks(&mut self, number: u32) {
        let Some(logging) = self.loggers.get(&number) else {
            return;
        };
        let word = logging.logger.word();
        if !matches!(word, Ok(Word::None)) {
            self.reactor.remove(logging.logger.says());
        }
        match word {
            Ok(Word::None) => {}
            Ok(Word::Ready) => self.logger_is_ready(number),
            // Who ends closes what it has a moment before, and is reaped by then.
            Ok(Word::Closed) => {
                let moment = Instant::now() + LAST_MOMENT;
                self.timers.push((moment, Timer::Settled(number)));
            }
            Err(error) => self.logger_failed(number, error),
        }
    }

    /// A logger is ready: whoever has waited is launched.
    pub(crate) fn logger_is_ready(&mut self, number: u32) {
        let waits = self.loggers.get_mut(&number);
        if let Some(key) = waits.and_then(|logging| logging.waits.take())
            && let Err(error) = self.launch(&key)
        {
            self.not_launched(&key, error);
        }
    }

    /// A logger is of no use to whoever has waited.
    fn logger_failed(&mut self, number: u32, error: Error) {
        let waits = self.loggers.get_mut(&number);
        if let Some(key) = waits.and_then(|logging| logging.waits.take()) {
            self.not_launched(&key, error);
        }
    }

    /// A logger has taken too long.
    pub(crate) fn logger_is_late(&mut self, number: u32) {
        let Some(logging) = self.loggers.get(&number) else {
            return;
        };
        if logging.waits.is_some() {
            logging.logger.signal(SIGKILL);
            let text = format!("the logger was not ready within {} s", READY.as_secs());
            self.logger_failed(number, Error::new(Code::DeadlineExceeded, text));
        }
    }

    /// The container is gone, and its logger is not.
    pub(crate) fn logger_shall_end(&mut self, number: u32) {
        if let Some(logging) = self.loggers.get(&number) {
            logging.logger.signal(SIGTERM);
            self.timers
                .push((Instant::now() + TERMINATE, Timer::Terminate(number)));
        }
    }

    /// It was asked to end.
    pub(crate) fn logger_must_end(&mut self, number: u32) {
        if let Some(logging) = self.loggers.get(&number) {
            logging.logger.signal(SIGKILL);
        }
    }

    /// A logger has ended.
    pub(crate) fn logger_ended(&mut self, number: u32) {
        let Some(logging) = self.loggers.remove(&number) else {
            return;
        };
        self.reactor.remove(logging.logger.says());
        if let Some(key) = logging.waits {
            let error = Error::new(Code::Unknown, "the logger has ended before it was ready");
            self.not_launched(&key, error);
        }
    }

    /// A process could not even be given to its runtime.
    fn not_launched(&mut self, key: &Key, error: Error) {
        log::warn(format_args!("launch {key:?}: {error}"));
        let Ok(container) = self.container_mut(&key.container) else {
            return;
        };
        let process = container.process_mut(&key.container, &key.who);
        let launch = process.ok().and_then(|process| process.launch.take());
        if key.is_init() {
            self.discard(&key.container);
        } else {
            self.never_ran(key);
        }
        if let Some(launch) = launch {
            self.answer(launch.call, Err(error));
        }
    }
}
