// SPDX-License-Identifier: Apache-2.0
//! The runtime's program, called for a container: with the streams of a process that it is to launch, or with none but its own
//! answer. Nobody waits here: `Shim::finish` is told of the end.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::spawn;

use crate::children::{Errand, Key, Purpose};
use crate::error::{Error, Result};
use crate::runtime::{self, Standard};
use crate::shim::Shim;
use crate::ttrpc::server::Call;

/// A call that launches a process.
#[derive(Debug)]
pub(super) struct Launching {
    purpose: Purpose,
    words: Vec<String>,
    pid_file: PathBuf,
}

impl Launching {
    /// Its verb, and where the process's number is written to.
    pub(super) fn new(purpose: Purpose, verb: &str, pid_file: PathBuf) -> Self {
        let mut launching = Self {
            purpose,
            words: vec![verb.to_owned()],
            pid_file: pid_file.clone(),
        };
        launching.option("--pid-file", &pid_file);
        launching
    }

    /// Adds a flag.
    pub(super) fn flag(&mut self, name: &str) {
        self.words.push(name.to_owned());
    }

    /// Adds an option whose value is a path.
    pub(super) fn option(&mut self, name: &str, path: &Path) {
        self.words
            .extend([name.to_owned(), path.display().to_string()]);
    }
}

impl Shim {
    /// Calls the runtime to launch `key`, whose streams are open: they are what the call has. What goes wrong it logs to a file
    /// of its own. `file` is what it reads, removed afterwards.
    pub(super) fn call_with_streams(
        &mut self,
        key: &Key,
        mut launching: Launching,
        file: Option<&Path>,
    ) -> Result<()> {
        let number = self.number();
        let container = self.container(&key.container)?;
        let bundle = &container.bundle;
        let process = container.process(&key.container, &key.who)?;
        let Some(launch) = &process.launch else {
            return Err(Error::precondition("nothing is being launched"));
        };
        if let Some(console) = &launch.console {
            launching.option("--console-socket", console.path());
        }
        launching.words.push(key.container.clone());
        let log = bundle.path().join(format!("log-{number}.json"));
        let standard = Standard(launch.opened.standard.each_ref().map(AsFd::as_fd));
        let words = &launching.words;
        let pid = container
            .runtime
            .call(Some(&log), words, standard, bundle)?;
        let errand = Errand {
            key: key.clone(),
            purpose: launching.purpose,
            call: Some(launch.call),
            log: Some(log),
            said: None,
            pid_file: Some(launching.pid_file),
            file: file.map(Path::to_owned),
        };
        self.children.began(pid, errand);
        Ok(())
    }

    /// Calls the runtime for something that has no streams of its own.
    pub(super) fn call_runtime(
        &mut self,
        key: &Key,
        purpose: Purpose,
        words: &[String],
        input: Option<&[u8]>,
        call: Option<Call>,
    ) -> Result<()> {
        let container = self.container(&key.container)?;
        let stdin = spawn::memory_file("input", input.unwrap_or_default())?;
        let said = runtime::answers()?;
        let standard = Standard([stdin.as_fd(), said[0].as_fd(), said[1].as_fd()]);
        let bundle = &container.bundle;
        let pid = container.runtime.call(None, words, standard, bundle)?;
        let errand = Errand {
            key: key.clone(),
            purpose,
            call,
            log: None,
            said: Some(said),
            pid_file: None,
            file: None,
        };
        self.children.began(pid, errand);
        Ok(())
    }
}
