// SPDX-License-Identifier: Apache-2.0
//! A seccomp agent: it is told of a process by the runtime, and answers the calls that the process's filter leaves to it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use corten_sys::seccomp::{Answer, Notification, answer_notification, next_notification};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::trial::eventually;
use crate::user::everyones;

/// The agent, with all that it was told and asked.
#[derive(Debug)]
pub struct Agent {
    /// What `listenerPath` is.
    pub path: PathBuf,
    told: Arc<Mutex<Vec<Value>>>,
    asked: Arc<Mutex<Vec<i32>>>,
}

impl Agent {
    /// Listens at `path` and answers every call with `answer`. Its threads end with what they listen to.
    pub fn listen(path: PathBuf, answer: fn(&Notification) -> Answer) -> Self {
        let socket = everyones(&path);
        let (told, asked) = (Arc::default(), Arc::default());
        let agent = Self {
            path,
            told: Arc::clone(&told),
            asked: Arc::clone(&asked),
        };
        thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                let (state, listener) = message(&stream);
                told.lock().expect("what was told").push(state);
                let asked = Arc::clone(&asked);
                thread::spawn(move || serve(&listener, answer, &asked));
            }
        });
        agent
    }

    /// The state that came as message number `index`.
    #[track_caller]
    pub fn told(&self, index: usize) -> Value {
        eventually("word of a process", || {
            self.told.lock().expect("what was told").get(index).cloned()
        })
    }

    /// How many processes it was told of.
    pub fn count(&self) -> usize {
        self.told.lock().expect("what was told").len()
    }

    /// The numbers of the calls that it was asked about.
    pub fn asked(&self) -> Vec<i32> {
        self.asked.lock().expect("what was asked").clone()
    }
}

fn message(stream: impl AsFd) -> (Value, OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; 64 << 10];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        flags,
    )
    .expect("recvmsg");
    let listener = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let state = serde_json::from_slice(&text[..got.bytes]).expect("a state in one message");
    (state, listener.expect("a listener with the first message"))
}

fn serve(listener: &OwnedFd, answer: fn(&Notification) -> Answer, asked: &Mutex<Vec<i32>>) {
    loop {
        let mut wanted = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut wanted, None).expect("poll the listener");
        if wanted[0].revents().contains(PollFlags::HUP) {
            // Nobody has the filter any more.
            return;
        }
        // ENOENT: who asked was killed meanwhile.
        let Ok(notification) = next_notification(listener.as_fd()) else {
            continue;
        };
        asked
            .lock()
            .expect("what was asked")
            .push(notification.number);
        // The process may be gone by now.
        answer_notification(listener.as_fd(), notification.id, answer(&notification)).ok();
    }
}
