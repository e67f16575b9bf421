//! stub
use corten::cgroup::Cgroup;
use protobuf::well_known_types::any::Any;
use crate::error::Result;
/// x
pub fn metrics(_: &Cgroup, _: i32) -> Result<Any> { Ok(Any::new()) }
