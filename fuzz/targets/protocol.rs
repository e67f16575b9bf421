// SPDX-License-Identifier: Apache-2.0
//! Messages between the runtime and the container's init, as they come out of the socket: what init sends may be anything,
//! as may what somebody sends to the gate. Each input goes through a socket, so that its length is what is checked.

#![no_main]

use std::os::fd::{AsFd, OwnedFd};

use corten::cli::report;
use corten::protocol::{Channel, ChildEnd, ParentEnd, ToChild, ToParent};
use corten_sys::socket;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TO_PARENT: (OwnedFd, ParentEnd) = {
        let (ours, theirs) = socket::pair().expect("a pair of sockets");
        (ours, Channel::over(theirs))
    };
    static TO_CHILD: (OwnedFd, ChildEnd) = {
        let (ours, theirs) = socket::pair().expect("a pair of sockets");
        (ours, Channel::over(theirs))
    };
}

/// The longest message that is taken.
const LONGEST: usize = 64 << 10;

fuzz_target!(|data: &[u8]| {
    // Longer than libFuzzer likes its inputs.
    let repeated = data
        .strip_prefix(b"*")
        .filter(|rest| !rest.is_empty())
        .map(|rest| rest.repeat((LONGEST + 64) / rest.len()));
    let data = repeated.as_deref().unwrap_or(data);
    TO_PARENT.with(|(ours, channel)| {
        socket::send(ours.as_fd(), data).expect("it is sent");
        let received = channel.receive();
        let Ok(Some(message)) = received else {
            // Nothing is the end; all else that is no message is an error that names itself.
            assert_eq!(data.is_empty(), matches!(received, Ok(None)));
            return;
        };
        assert!(data.len() <= LONGEST);
        let written = serde_json::to_vec(&message).expect("it can be written");
        let again: ToParent = serde_json::from_slice(&written).expect("it can be read");
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
        if let ToParent::Failed { error, .. } = message {
            shown(error);
        }
    });
    TO_CHILD.with(|(ours, channel)| {
        socket::send(ours.as_fd(), data).expect("it is sent");
        if let Ok(Some(message)) = channel.receive() {
            let written = serde_json::to_vec(&message).expect("it can be written");
            assert_eq!(
                serde_json::from_slice::<ToChild>(&written).ok(),
                Some(message)
            );
        }
    });
});

/// A container's error is the user's message: it has a bound, and the log's lines stay lines.
fn shown(error: corten::error::Error) {
    let text = error.to_string();
    let bounded = error.shortened().to_string();
    assert!(
        bounded.chars().count() <= text.chars().count() + 1,
        "{bounded:?}"
    );
    for format in [report::Format::Text, report::Format::Json] {
        let line = report::line(
            format,
            report::Level::Error,
            &bounded,
            std::time::Duration::ZERO,
        );
        let (last, others) = line.as_bytes().split_last().expect("a line");
        assert!(
            *last == b'\n' && !others.iter().any(|byte| *byte < b' '),
            "{line:?}"
        );
    }
}
