// SPDX-License-Identifier: Apache-2.0
//! What a container has used, in the messages that containerd knows for it: one for hosts with cgroup v2 alone, one for
//! those that keep memory on v1. Filled as containerd's own shim does, since what reads them was made for that.
//!
//! Runs in the shim, as root, every few seconds for each container: reads files of its cgroup, and changes nothing.
//! `unified.rs` and `v1.rs` have a message each.

mod unified;
mod v1;

use corten::cgroup::Cgroup;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::error::{Code, Context, Error, Result};

/// The usage of `cgroup`, and, where the host keeps memory on v1, of the network devices that the container's init `pid`
/// has for itself.
pub fn metrics(cgroup: &Cgroup, pid: i32) -> Result<Any> {
    // What has ended has used nothing, for who asks too late: its counts would go backwards.
    let is_gone = cgroup.observe(|files| files.unified().text("cgroup.events").is_empty());
    if is_gone.context(|| "look for the cgroup")? {
        let path = cgroup.paths().unified.path();
        return Err(Error::not_found(format!("cgroup {}", path.display())));
    }
    match cgroup.paths().v1.iter().any(|place| place.has("memory")) {
        true => packed(
            "io.containerd.cgroups.v1.Metrics",
            &v1::metrics(cgroup, pid)?,
        ),
        false => packed(
            "io.containerd.cgroups.v2.Metrics",
            &unified::metrics(cgroup)?,
        ),
    }
}

/// containerd finds the message's type by its plain name.
fn packed(name: &str, message: &impl Message) -> Result<Any> {
    let value = message
        .write_to_bytes()
        .map_err(|error| Error::new(Code::Unknown, format!("encode {name}: {error}")))?;
    Ok(Any {
        type_url: name.to_owned(),
        value,
        ..Any::default()
    })
}

/// Lines of `device hca_handle=2 hca_object=max`, where no limit is the greatest number there is.
fn rdma(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let (device, counts) = line.split_once(' ')?;
        let count = |wanted: &str| {
            let mut pairs = counts.split(' ').filter_map(|pair| pair.split_once('='));
            match pairs.find(|(key, _)| *key == wanted)?.1 {
                "max" => Some(u32::MAX),
                count => count.parse().ok(),
            }
        };
        let (handles, objects) = (count("hca_handle"), count("hca_object"));
        Some((device, handles.unwrap_or(0), objects.unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use containerd_shim_protos::{cgroups, cgroups_v2};
    use corten::cgroup::resources::{Resources, default_rules};
    use corten::cgroup::{Paths, Reservation};
    use corten::host::{self, Layout};

    use super::*;

    #[test]
    fn rdma_devices_have_two_counts() {
        let text =
            "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\nodd\nx y\n";
        let found: Vec<_> = rdma(text).collect();
        let wanted = [("mlx4_0", 2, 2000), ("ocrdma1", 3, u32::MAX), ("x", 0, 0)];
        assert_eq!(found, wanted);
    }

    /// A cgroup without a process on this machine's own hierarchies; `None`, with a word on stderr, where none can be made.
    fn made(name: &str, layout: &Layout) -> Option<Reservation> {
        if corten_sys::process::effective_uid() != 0 {
            eprintln!("skipped: making cgroups takes root");
            return None;
        }
        let id = format!("metrics-{}-{name}", std::process::id());
        let paths = Paths::plan(None, &id, layout, Path::new("")).unwrap();
        let resources = Resources {
            devices: default_rules(),
            ..Resources::default()
        };
        Some(Cgroup::create(&paths, &resources).unwrap())
    }

    #[test]
    fn a_host_with_v2_alone_has_its_message() {
        let mut layout = host::cgroups().unwrap();
        layout.v1.clear();
        let Some(made) = made("unified", &layout) else {
            return;
        };
        let any = metrics(made.cgroup(), 1).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let found = cgroups_v2::metrics::Metrics::parse_from_bytes(&any.value).unwrap();
        assert!(found.pids.is_some() && found.memory.is_some() && found.io.is_some());
        assert_eq!(found.cpu.usage_usec, 0);
    }

    #[test]
    fn a_host_with_memory_on_v1_has_the_other() {
        let layout = host::cgroups().unwrap();
        if layout.v1_with("memory").is_none() {
            eprintln!("skipped: the host keeps no memory controller on v1");
            return;
        }
        let Some(made) = made("v1", &layout) else {
            return;
        };
        // The test's own network namespace is the host's, of which nothing is told.
        let any = metrics(made.cgroup(), corten_sys::process::own_pid()).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let found = cgroups::metrics::Metrics::parse_from_bytes(&any.value).unwrap();
        let limit = found.memory.usage.limit;
        assert!(limit > 1 << 40, "{limit}");
        assert_eq!(found.pids.limit, 0);
        assert_eq!(found.network, []);
        assert!(found.cpu.usage.is_some() && found.memory_oom_control.is_some());
    }

    #[test]
    fn a_cgroup_that_is_gone_has_used_nothing() {
        let layout = host::cgroups().unwrap();
        let Some(made) = made("gone", &layout) else {
            return;
        };
        let cgroup = Cgroup::open(made.cgroup().paths()).unwrap().unwrap();
        drop(made);
        assert_eq!(metrics(&cgroup, 1).unwrap_err().code(), Code::NotFound);
    }
}
