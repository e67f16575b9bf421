// SPDX-License-Identifier: Apache-2.0
//! A shim that lives on though containerd has given it up: it was killed in the middle of a start, or found it too slow to
//! answer. `delete` has removed the container under it; the shim is told so, and ends if it has no other.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{DeleteRequest, ShutdownRequest};
use corten_sys::signal::wait_readable;
use corten_sys::{Errno, socket};
use protobuf::Message;

use crate::error::{Code, Error, Result};
use crate::ttrpc::frame::{Call, Frame, Input, Output};

/// How long all of it may take: what has no container any more takes little.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a container may take to be known as ended, before it is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// How much is read at once.
const CHUNK: usize = 4096;

/// Has the shim at `path`, if one listens there, forget container `id`, and end where that was its last.
pub fn dismiss(path: &Path, id: &str, namespace: &str) -> Result<()> {
    let socket = match socket::connect_stream(path) {
        Ok(socket) => socket,
        Err(error) if [Errno::CONNREFUSED, Errno::NOENT].contains(&error.errno()) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut caller = Caller {
        socket,
        input: Input::default(),
        namespace,
        stream: 1,
        end: Instant::now() + PATIENCE,
    };
    let delete = DeleteRequest {
        id: id.to_owned(),
        ..DeleteRequest::default()
    };
    loop {
        match caller.call("Delete", &delete)? {
            // It has not heard of the end yet, which was before this.
            Answer::NotYet if Instant::now() < caller.end => std::thread::sleep(PAUSE),
            Answer::NotYet | Answer::Settled => break,
        }
    }
    caller
        .call("Shutdown", &ShutdownRequest::default())
        .map(drop)
}

struct Caller<'a> {
    socket: OwnedFd,
    input: Input,
    namespace: &'a str,
    stream: u32,
    end: Instant,
}

/// What came of a call.
enum Answer {
    /// It was carried out, or there is nothing that it is about.
    Settled,
    /// The container's state does not allow it.
    NotYet,
}

impl Caller<'_> {
    /// Makes a call.
    fn call(&mut self, method: &str, request: &impl Message) -> Result<Answer> {
        let payload = request.write_to_bytes();
        let payload = payload.map_err(|error| Error::new(Code::Unknown, error.to_string()))?;
        let mut output = Output::default();
        let call = Call {
            service: "containerd.task.v2.Task",
            method,
            namespace: self.namespace,
            payload,
        };
        output.request(self.stream, call);
        while !output.left().is_empty() {
            match socket::send_some(self.socket.as_fd(), output.left()) {
                Ok(sent) => output.wrote(sent),
                Err(error) if has_ended(&error) => return Ok(Answer::Settled),
                Err(error) => return Err(error.into()),
            }
        }
        let answer = self.answer(method)?;
        self.stream += 2;
        Ok(answer)
    }

    fn answer(&mut self, method: &str) -> Result<Answer> {
        loop {
            while let Some(frame) = self.input.frame() {
                match frame {
                    Frame::Response(stream, response) if stream == self.stream => {
                        let code = response.status.code.value();
                        return Ok(match code == Code::FailedPrecondition as i32 {
                            true => Answer::NotYet,
                            false => Answer::Settled,
                        });
                    }
                    _ => {}
                }
            }
            let left = self.end.saturating_duration_since(Instant::now());
            if wait_readable(&[self.socket.as_fd()], Some(left))?.is_none() {
                let text = format!(
                    "{method}: no answer from the shim within {} s",
                    PATIENCE.as_secs()
                );
                return Err(Error::new(Code::DeadlineExceeded, text));
            }
            match socket::receive_some(self.socket.as_fd(), CHUNK) {
                Ok(bytes) if bytes.is_empty() => return Ok(Answer::Settled),
                Ok(bytes) => self.input.push(&bytes),
                Err(error) if has_ended(&error) => return Ok(Answer::Settled),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether the shim has ended meanwhile, which is what is wanted: with what it was asked still unread, it is a reset.
fn has_ended(error: &corten_sys::Error) -> bool {
    [Errno::PIPE, Errno::CONNRESET].contains(&error.errno())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_meanwhile_is_no_error() {
        let path = std::env::temp_dir().join(format!("corten-survivor-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(PAUSE * 5);
            drop(listener);
        });
        dismiss(&path, "c", "n").unwrap();
        ends.join().unwrap();
        dismiss(&path, "c", "n").unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
