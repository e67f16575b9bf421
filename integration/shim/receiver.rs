// SPDX-License-Identifier: Apache-2.0
//! containerd's ear: the service that shims tell events to (ttrpc, `Events/Forward`). Written by hand, so that it can stop
//! reading with the connection open, close, and open again, as containerd does.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use containerd_shim_protos::events::task;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::proto::{Request, Response};
use corten_integration::eventually;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::Shutdown;

/// Of a frame: length, stream, type, flags.
const HEAD: usize = 10;
const RESPONSE: u8 = 2;

/// An event, as far as tests look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its topic without `/tasks/`.
    pub topic: String,
    /// The container.
    pub container: String,
    /// The process: the container's id for init.
    pub process: String,
    /// Its number, where the event has one.
    pub pid: u32,
    /// How it ended, where it has.
    pub status: u32,
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub path: PathBuf,
    shared: Arc<Shared>,
    listener: Option<Arc<UnixListener>>,
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    /// Held from a call's first byte to its answer's last.
    busy: Mutex<()>,
    is_stopped: Mutex<bool>,
    turned: Condvar,
    connections: Mutex<Vec<UnixStream>>,
}

impl Receiver {
    /// Listens at `path`.
    pub fn open(path: &Path) -> Self {
        let mut receiver = Self {
            path: path.into(),
            shared: Arc::default(),
            listener: None,
        };
        receiver.reopen();
        receiver
    }

    /// Listens again.
    pub fn reopen(&mut self) {
        let listener = Arc::new(UnixListener::bind(&self.path).unwrap());
        self.listener = Some(Arc::clone(&listener));
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let copy = stream.try_clone().unwrap();
                held(&shared.connections).push(copy);
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
    }

    /// Ends all connections, between one event and the next, and listens no more.
    pub fn close(&mut self) {
        if let Some(listener) = self.listener.take() {
            std::fs::remove_file(&self.path).unwrap();
            rustix::net::shutdown(&listener, Shutdown::Both).unwrap();
        }
        let _between = held(&self.shared.busy);
        for connection in held(&self.shared.connections).drain(..) {
            // Whose other side has gone is no connection any more.
            connection.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    /// Reads no more, with all connections open, as one that was sent SIGSTOP.
    pub fn stop(&self) {
        *held(&self.shared.is_stopped) = true;
    }

    /// Goes on.
    pub fn go_on(&self) {
        *held(&self.shared.is_stopped) = false;
        self.shared.turned.notify_all();
    }

    /// What was heard up to now.
    pub fn events(&self) -> Vec<Event> {
        held(&self.shared.events).clone()
    }

    /// The same as lines: `topic process`, with `status` for ends.
    pub fn lines(&self) -> Vec<String> {
        self.events().iter().map(Event::line).collect()
    }

    /// Waits until something was heard `count` times.
    #[track_caller]
    pub fn hears(&self, count: usize, line: &str) {
        eventually(&format!("{count} events {line:?}"), || {
            let lines = self.lines();
            (lines.iter().filter(|own| *own == line).count() >= count).then_some(())
        });
    }
}

impl Event {
    fn read(request: &ForwardRequest) -> Self {
        let envelope = request.envelope.as_ref().expect("an envelope");
        let any = envelope.event.as_ref().expect("an event");
        let topic = envelope
            .topic
            .strip_prefix("/tasks/")
            .expect("a task's topic");
        assert!(envelope.timestamp.is_some(), "{envelope:?}");
        assert_eq!(envelope.namespace, crate::pod::NAMESPACE);
        let mut event = Self {
            topic: topic.to_owned(),
            ..Self::default()
        };
        let bytes = &any.value;
        let name = any.type_url.strip_prefix("containerd.events.Task");
        match (name.expect("a task's event"), topic) {
            ("Create", "create") => {
                let read = task::TaskCreate::parse_from_bytes(bytes).unwrap();
                (event.container, event.pid) = (read.container_id, read.pid);
                assert!(read.bundle.starts_with('/') && read.io.is_some());
            }
            ("Start", "start") => {
                let read = task::TaskStart::parse_from_bytes(bytes).unwrap();
                (event.container, event.pid) = (read.container_id, read.pid);
            }
            ("ExecAdded", "exec-added") => {
                let read = task::TaskExecAdded::parse_from_bytes(bytes).unwrap();
                (event.container, event.process) = (read.container_id, read.exec_id);
            }
            ("ExecStarted", "exec-started") => {
                let read = task::TaskExecStarted::parse_from_bytes(bytes).unwrap();
                (event.container, event.process, event.pid) =
                    (read.container_id, read.exec_id, read.pid);
            }
            ("Exit", "exit") => {
                let read = task::TaskExit::parse_from_bytes(bytes).unwrap();
                assert!(read.exited_at.seconds > 0, "{read:?}");
                (event.container, event.process, event.pid) =
                    (read.container_id, read.id, read.pid);
                event.status = read.exit_status;
            }
            ("Delete", "delete") => {
                let read = task::TaskDelete::parse_from_bytes(bytes).unwrap();
                assert!(read.exited_at.seconds > 0, "{read:?}");
                (event.container, event.pid) = (read.container_id, read.pid);
                event.status = read.exit_status;
            }
            ("OOM", "oom") => {
                event.container = task::TaskOOM::parse_from_bytes(bytes).unwrap().container_id;
            }
            ("Paused", "paused") => {
                event.container = task::TaskPaused::parse_from_bytes(bytes)
                    .unwrap()
                    .container_id;
            }
            ("Resumed", "resumed") => {
                event.container = task::TaskResumed::parse_from_bytes(bytes)
                    .unwrap()
                    .container_id;
            }
            (name, topic) => panic!("Task{name} under /tasks/{topic}"),
        }
        if event.process.is_empty() {
            event.process.clone_from(&event.container);
        }
        event
    }

    /// `topic process`, with `status` for ends.
    pub fn line(&self) -> String {
        let Self {
            topic,
            process,
            status,
            ..
        } = self;
        match topic.as_str() {
            "exit" | "delete" => format!("{topic} {process} {status}"),
            _ => format!("{topic} {process}"),
        }
    }
}

fn serve(mut stream: UnixStream, shared: &Shared) {
    loop {
        let mut wanted = [PollFd::new(&stream, PollFlags::IN)];
        poll(&mut wanted, None).unwrap();
        let mut stopped = held(&shared.is_stopped);
        while *stopped {
            stopped = shared.turned.wait(stopped).unwrap();
        }
        drop(stopped);
        let _busy = held(&shared.busy);
        if !answer(&mut stream, shared) {
            return;
        }
    }
}

/// Takes one event; false at the end.
fn answer(stream: &mut UnixStream, shared: &Shared) -> bool {
    let mut head = [0; HEAD];
    if stream.read_exact(&mut head).is_err() {
        return false;
    }
    let [l0, l1, l2, l3, s0, s1, s2, s3, ..] = head;
    let mut message = vec![0; u32::from_be_bytes([l0, l1, l2, l3]) as usize];
    stream.read_exact(&mut message).unwrap();
    let request = Request::parse_from_bytes(&message).unwrap();
    assert_eq!(
        request.service,
        "containerd.services.events.ttrpc.v1.Events"
    );
    assert_eq!(request.method, "Forward");
    let event = Event::read(&ForwardRequest::parse_from_bytes(&request.payload).unwrap());
    // No status is success, and so is no payload: the answer is empty.
    let body = Response::new().write_to_bytes().unwrap();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let answer = [&length[..], &[s0, s1, s2, s3, RESPONSE, 0], &body].concat();
    // One that can't be answered any more comes again.
    let answered = stream.write_all(&answer).is_ok();
    if answered {
        held(&shared.events).push(event);
    }
    answered
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.go_on();
        self.close();
    }
}

/// Holds events to what is true of every container: it was created, then started; whoever was executed was added, then
/// started, then ended; init ended after all of them; it was deleted; each once.
#[track_caller]
pub fn are_legal(events: &[Event]) {
    use std::collections::BTreeMap;
    let mut containers: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        containers.entry(&event.container).or_default().push(event);
    }
    for (id, own) in containers {
        let lines: Vec<String> = own.iter().map(|event| event.line()).collect();
        let mut once = lines.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), lines.len(), "twice: {lines:#?}");
        let place = |topic: &str, process: &str| {
            let is_it = |event: &&Event| event.topic == topic && event.process == process;
            let mut found = (0..own.len()).filter(|at| is_it(&own[*at]));
            let first = found.next();
            assert!(
                found.next().is_none(),
                "{topic} {process} twice: {lines:#?}"
            );
            first
        };
        let in_order = |places: &[Option<usize>]| {
            let there: Vec<usize> = places.iter().flatten().copied().collect();
            there.is_sorted()
        };
        assert_eq!(place("create", id), Some(0), "{lines:#?}");
        let (start, exit) = (place("start", id), place("exit", id));
        assert!(in_order(&[Some(0), start, exit]), "{lines:#?}");
        if let Some(deleted) = place("delete", id) {
            assert_eq!(deleted, own.len() - 1, "{lines:#?}");
        }
        for event in own.iter().filter(|event| event.process != id) {
            let name = &event.process;
            let [added, started, ended] =
                ["exec-added", "exec-started", "exit"].map(|topic| place(topic, name));
            assert_eq!(started.is_some(), ended.is_some(), "{name}: {lines:#?}");
            assert!(
                added.is_some() && in_order(&[added, started, ended]),
                "{name}: {lines:#?}"
            );
            assert!(
                in_order(&[ended, exit]),
                "{name} ends after init: {lines:#?}"
            );
        }
    }
}
