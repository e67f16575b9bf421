// SPDX-License-Identifier: Apache-2.0
//! Frames: bytes in, messages out, and the other way round. Pure.

use containerd_shim_protos::ttrpc::proto::{KeyValue, Request, Response, Status};
use protobuf::{EnumOrUnknown, Message, MessageField};

use crate::error::{Error, Result};

/// Of a frame's head.
const HEAD: usize = 10;
/// The longest message, as ttrpc has it.
pub const LONGEST: usize = 4 << 20;
/// A buffer that is longer than this is given back when it is empty.
const KEPT: usize = 4 << 10;

/// The kinds of frames.
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A frame that came in.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// A call, and the stream that its answer goes to.
    Request(u32, Request),
    /// An answer to the call on this stream.
    Response(u32, Response),
    /// What can't be understood, on a stream that can be told so.
    Unreadable(u32, Error),
}

/// What has come in of a connection, and is not a whole frame yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// How much of a message that is too long is still to be thrown away.
    skipped: usize,
}

impl Input {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        self.bytes.extend_from_slice(&bytes[skipped..]);
    }

    /// The next whole frame. What is neither a request nor a response is passed over.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            let head: [u8; HEAD] = self.bytes.get(..HEAD)?.try_into().ok()?;
            let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = head;
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            if length > LONGEST {
                let held = (self.bytes.len() - HEAD).min(length);
                self.bytes.drain(..HEAD + held);
                self.skipped = length - held;
                let text = format!("a message of {length} bytes: {LONGEST} are the most");
                return Some(Frame::Unreadable(stream, Error::invalid(text)));
            }
            let message = self.bytes.get(HEAD..HEAD + length)?;
            let frame = match kind {
                REQUEST => Some(match Request::parse_from_bytes(message) {
                    Ok(request) => Frame::Request(stream, request),
                    Err(error) => Frame::Unreadable(stream, Error::invalid(error.to_string())),
                }),
                RESPONSE => Some(match Response::parse_from_bytes(message) {
                    Ok(response) => Frame::Response(stream, response),
                    Err(error) => Frame::Unreadable(stream, Error::invalid(error.to_string())),
                }),
                _ => None,
            };
            self.bytes.drain(..HEAD + length);
            if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
            if frame.is_some() {
                return frame;
            }
        }
    }
}

/// What is to be written to a connection.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Adds an answer: the message of the service, or why there is none.
    pub fn respond(&mut self, stream: u32, answer: Result<Vec<u8>>) {
        let mut response = Response::new();
        match answer {
            Ok(payload) => response.payload = payload,
            Err(error) => {
                let mut status = Status::new();
                status.code = EnumOrUnknown::from_i32(error.code() as i32);
                status.message = error.text().to_owned();
                response.status = MessageField::some(status);
            }
        }
        self.push(stream, RESPONSE, &response);
    }

    /// Adds a call, with what containerd wants to know of it beside its message.
    pub fn request(&mut self, stream: u32, call: Call<'_>) {
        let mut request = Request::new();
        call.service.clone_into(&mut request.service);
        call.method.clone_into(&mut request.method);
        request.payload = call.payload;
        request.metadata = vec![KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: call.namespace.to_owned(),
            ..KeyValue::default()
        }];
        self.push(stream, REQUEST, &request);
    }

    fn push(&mut self, stream: u32, kind: u8, message: &impl Message) {
        // Its size is computed once more by the writing, and can't be wrong: a message in memory is always written.
        let length = message.compute_size() as u32;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(&stream.to_be_bytes());
        self.bytes.extend_from_slice(&[kind, 0]);
        if message.write_to_vec(&mut self.bytes).is_err() {
            self.bytes.truncate(self.bytes.len().saturating_sub(HEAD));
        }
    }

    /// What is left to write.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So much of it was written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }
}

/// A call of another one's service.
#[derive(Debug)]
pub struct Call<'a> {
    /// The service's full name.
    pub service: &'a str,
    /// What of it.
    pub method: &'a str,
    /// containerd's namespace.
    pub namespace: &'a str,
    /// The message.
    pub payload: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn written(output: &mut Output) -> Vec<u8> {
        let bytes = output.left().to_vec();
        output.wrote(bytes.len());
        bytes
    }

    #[test]
    fn frames_come_back_however_they_are_cut() {
        let mut output = Output::default();
        let call = Call {
            service: "a.B",
            method: "C",
            namespace: "n",
            payload: vec![7; 300],
        };
        output.request(1, call);
        output.respond(3, Ok(vec![1, 2]));
        output.respond(5, Err(Error::not_found("container x")));
        let bytes = written(&mut output);
        for step in [1, 7, 10, bytes.len()] {
            let mut input = Input::default();
            let mut frames = Vec::new();
            for part in bytes.chunks(step) {
                input.push(part);
                while let Some(frame) = input.frame() {
                    frames.push(frame);
                }
            }
            let [
                Frame::Request(1, request),
                Frame::Response(3, good),
                Frame::Response(5, bad),
            ] = &frames[..]
            else {
                panic!("{frames:?}");
            };
            assert_eq!(
                (request.service.as_str(), request.method.as_str()),
                ("a.B", "C")
            );
            assert_eq!(request.payload, [7; 300]);
            assert_eq!(request.metadata[0].value, "n");
            assert_eq!(good.payload, [1, 2]);
            assert_eq!(bad.status.code.value(), Code::NotFound as i32);
            assert_eq!(bad.status.message, "container x: not found");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_passed_over() {
        let mut input = Input::default();
        let mut head = (LONGEST as u32 + 1).to_be_bytes().to_vec();
        head.extend([0, 0, 0, 9, REQUEST, 0]);
        input.push(&head);
        let Some(Frame::Unreadable(9, error)) = input.frame() else {
            panic!();
        };
        assert_eq!(error.code(), Code::InvalidArgument);
        for _ in 0..=LONGEST / 4096 {
            input.push(&[0; 4096]);
            assert!(input.bytes.len() < 4096);
        }
        input.bytes.clear();
        let mut output = Output::default();
        output.respond(3, Ok(Vec::new()));
        input.push(&written(&mut output));
        assert!(matches!(input.frame(), Some(Frame::Response(3, _))));
    }

    #[test]
    fn what_is_no_message_is_said_and_data_is_passed_over() {
        let mut input = Input::default();
        input.push(&[0, 0, 0, 2, 0, 0, 0, 1, 3, 0, 1, 1]);
        input.push(&[0, 0, 0, 2, 0, 0, 0, 1, REQUEST, 0, 0xff, 0xff]);
        assert!(matches!(input.frame(), Some(Frame::Unreadable(1, _))));
        assert_eq!(input.frame(), None);
    }
}
