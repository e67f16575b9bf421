// SPDX-License-Identifier: Apache-2.0
//! What a shim sees of containerd: a socket that takes events.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::Empty;
use containerd_shim_protos::events::task::{TaskDelete, TaskExit};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim::{Events, create_events};
use containerd_shim_protos::ttrpc::{self, Server, TtrpcContext};

use crate::Result;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An event of a container's end.
#[derive(Debug)]
struct Heard {
    topic: String,
    id: String,
    at: Instant,
}

/// The directory of everything, and the socket in it.
pub struct Containerd {
    work: PathBuf,
    heard: Receiver<Heard>,
    server: Server,
}

struct Ear(Mutex<Sender<Heard>>);

impl Events for Ear {
    fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let at = Instant::now();
        let envelope = request.envelope.unwrap_or_default();
        let event = envelope.event.unwrap_or_default();
        let id = match envelope.topic.as_str() {
            "/tasks/delete" => {
                TaskDelete::parse_from_bytes(&event.value).map(|event| event.container_id)
            }
            "/tasks/exit" => TaskExit::parse_from_bytes(&event.value).map(|event| event.id),
            _ => Ok(String::new()),
        };
        let heard = Heard {
            topic: envelope.topic,
            id: id.unwrap_or_default(),
            at,
        };
        if let Ok(sender) = self.0.lock() {
            // Nobody listens any more at the end.
            let _ = sender.send(heard);
        }
        Ok(Empty::new())
    }
}

impl Containerd {
    /// Listens.
    pub fn new() -> Result<Self> {
        let work = PathBuf::from(format!("/run/corten-shims-{}", std::process::id()));
        std::fs::create_dir(&work)?;
        let (sender, heard) = channel();
        let service = create_events(Arc::new(Ear(Mutex::new(sender))));
        let address = format!("unix://{}", work.join("events").display());
        let mut server = Server::new().bind(&address)?.register_service(service);
        server.start()?;
        Ok(Self {
            work,
            heard,
            server,
        })
    }

    /// Where everything is.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Waits for the event `topic` of `id`; when it came.
    pub fn hears(&self, topic: &str, id: &str) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left)?;
            if heard.topic == topic && heard.id == id {
                return Ok(heard.at);
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.server.stop_listen_unix();
        if let Err(error) = std::fs::remove_dir_all(&self.work) {
            eprintln!("remove {}: {error}", self.work.display());
        }
    }
}

/// The one thing that ttrpc's server wants said to be stopped without waiting for its threads.
trait StopListening {
    fn stop_listen_unix(&mut self);
}

impl StopListening for Server {
    fn stop_listen_unix(&mut self) {
        std::mem::take(self).stop_listen();
    }
}
