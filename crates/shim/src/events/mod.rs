// SPDX-License-Identifier: Apache-2.0
//! What has happened, told to containerd: each event once, in its order, whether or not containerd listens at the moment.
//!
//! ```text
//! service ─ event ─▶ queue.rs (memory, then a file) ─▶ publisher.rs (one call at a time) ─▶ containerd
//! ```
//!
//! A call that has no answer yet is waited for as long as the connection lives: a containerd that is stopped goes on later,
//! and would hear of an event twice that was sent again. Only where the connection ends is the last event sent anew.

mod publisher;
mod queue;

pub use publisher::Publisher;

use containerd_shim_protos::events::task;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::topics;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use crate::clock;

/// An event of a task: its topic, and the name of its message.
pub trait Event: Message {
    /// Under what containerd publishes it.
    const TOPIC: &'static str;
    /// The message's full name.
    const FULL_NAME: &'static str;
}

macro_rules! events {
    ($($name:ident $topic:ident;)*) => {
        $(impl Event for task::$name {
            const TOPIC: &'static str = topics::$topic;
            const FULL_NAME: &'static str = concat!("containerd.events.", stringify!($name));
        })*
    };
}

events! {
    TaskCreate TASK_CREATE_EVENT_TOPIC;
    TaskStart TASK_START_EVENT_TOPIC;
    TaskOOM TASK_OOM_EVENT_TOPIC;
    TaskExit TASK_EXIT_EVENT_TOPIC;
    TaskDelete TASK_DELETE_EVENT_TOPIC;
    TaskExecAdded TASK_EXEC_ADDED_EVENT_TOPIC;
    TaskExecStarted TASK_EXEC_STARTED_EVENT_TOPIC;
    TaskPaused TASK_PAUSED_EVENT_TOPIC;
    TaskResumed TASK_RESUMED_EVENT_TOPIC;
    TaskCheckpointed TASK_CHECKPOINTED_EVENT_TOPIC;
}

/// The message of `Forward`, encoded: `event` of now, in containerd's `namespace`.
fn forwarded<E: Event>(event: &E, namespace: &str) -> protobuf::Result<Vec<u8>> {
    let envelope = Envelope {
        timestamp: MessageField::some(clock::now()),
        namespace: namespace.to_owned(),
        topic: E::TOPIC.to_owned(),
        event: MessageField::some(Any {
            type_url: E::FULL_NAME.to_owned(),
            value: event.write_to_bytes()?,
            ..Any::default()
        }),
        ..Envelope::default()
    };
    let request = ForwardRequest {
        envelope: MessageField::some(envelope),
        ..ForwardRequest::default()
    };
    request.write_to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_in_an_envelope() {
        let event = task::TaskExit {
            container_id: "c".into(),
            exit_status: 7,
            ..task::TaskExit::default()
        };
        let bytes = forwarded(&event, "n").unwrap();
        let envelope = ForwardRequest::parse_from_bytes(&bytes)
            .unwrap()
            .envelope
            .unwrap();
        assert_eq!(
            (envelope.namespace.as_str(), envelope.topic.as_str()),
            ("n", "/tasks/exit")
        );
        let any = envelope.event.unwrap();
        assert_eq!(any.type_url, "containerd.events.TaskExit");
        assert_eq!(task::TaskExit::parse_from_bytes(&any.value).unwrap(), event);
    }
}
