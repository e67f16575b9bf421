// SPDX-License-Identifier: Apache-2.0
//! ttrpc, containerd's calls over a local socket. A frame is
//!
//! ```text
//!  0       4       8      9       10
//!  ┌───────┬───────┬──────┬───────┬─────────┐
//!  │length │stream │ type │ flags │ message │   numbers big-endian; 1 is a request, 2 a response, 3 data of a stream
//!  └───────┴───────┴──────┴───────┴─────────┘
//! ```
//!
//! and its message a `Request` or `Response` of ttrpc's own, around one of the service's. Streams of many messages
//! (type 3) are no part of the task service. `frame.rs` takes bytes apart, `server.rs` answers calls, `client.rs` makes them.

pub mod client;
pub mod frame;
pub mod server;
