// SPDX-License-Identifier: Apache-2.0
//! Puts the device program on a cgroup and looks whether it is there.
//!
//! In a user namespace other than the initial one the kernel lets nobody load such programs. There, and only there, a
//! container runs without its device rules: the kernel itself refuses to make device nodes in such a namespace
//! (mknod(2), EPERM) and to open them on file systems that were mounted in it, and those devices that were bound in are
//! the ones that config.json names. The caller is told, and says so in its log. A lack of privilege in the initial
//! namespace is an error.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::fs::Procfs;
use corten_sys::{Errno, bpf};

use super::Cgroup;
use super::devices::{Program, compile};
use super::resources::DeviceRule;
use crate::error::{Context, Error, Kind, Result};

/// What holds a container to its device rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceControl {
    /// The program on its cgroup.
    Program,
    /// Nothing, since its rules allow everything.
    NotNeeded,
    /// The user namespace in which the runtime runs: see the module's description.
    UserNamespace,
}

/// Makes `rules` the rules of `cgroup`. Programs that a former container left on it are replaced; those of the cgroups
/// above keep holding.
pub(super) fn attach(cgroup: &Cgroup, rules: &[DeviceRule], state: State) -> Result<DeviceControl> {
    let program = match compile(rules) {
        Program::Everything => None,
        Program::Checks(program) => Some(program),
    };
    let Some(program) = program else {
        if state == State::Used {
            detach_all(cgroup, &bpf::device_programs(cgroup.dir())?)?;
        }
        return Ok(DeviceControl::NotNeeded);
    };
    let program = match bpf::load_device_program(&program, c"corten_devices") {
        Ok(program) => program,
        Err(error) if error.errno() == Errno::PERM && in_user_namespace()? => {
            return Ok(DeviceControl::UserNamespace);
        }
        Err(error) => return Err(explain(error)),
    };
    let old = match state {
        State::New => Vec::new(),
        State::Used => bpf::device_programs(cgroup.dir())?,
    };
    match old.as_slice() {
        [only] => {
            let only = bpf::program_by_id(*only)?;
            bpf::attach_device_program(cgroup.dir(), program.as_fd(), Some(only.as_fd()))?;
        }
        others => {
            bpf::attach_device_program(cgroup.dir(), program.as_fd(), None)?;
            detach_all(cgroup, others)?;
        }
    }
    // SECURITY: what the container is held to is what the kernel says is there, not that a call went well.
    let found = bpf::device_programs(cgroup.dir())?;
    if found.len() != 1 {
        let text = format!("{} device programs instead of one", found.len());
        return Err(Error::new(Kind::System, text));
    }
    Ok(DeviceControl::Program)
}

/// Whether the cgroup may have programs of its own already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was made just now.
    New,
    /// It was there.
    Used,
}

fn detach_all(cgroup: &Cgroup, ids: &[u32]) -> Result<()> {
    for id in ids {
        let program: OwnedFd = bpf::program_by_id(*id)?;
        bpf::detach_device_program(cgroup.dir(), program.as_fd())?;
    }
    Ok(())
}

fn explain(error: corten_sys::Error) -> Error {
    let remedy = match error.errno() {
        Errno::PERM => "loading it takes CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN",
        Errno::NOSYS | Errno::INVAL => "the kernel needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF",
        _ => return error.into(),
    };
    Error::from(error).remedy(remedy)
}

/// Whether the runtime is in a user namespace that maps only a part of the ids: the initial one maps all of them.
fn in_user_namespace() -> Result<bool> {
    let proc = Procfs::open()?;
    let file = proc.own_file("uid_map", corten_sys::fs::OFlags::RDONLY)?;
    let map = corten_sys::fs::read_to_end(file.as_fd(), 1 << 16)
        .context("read the runtime's own id map")?;
    Ok(!maps_all_ids(&String::from_utf8_lossy(&map)))
}

fn maps_all_ids(map: &str) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    fields == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_initial_user_namespace() {
        let cases = [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", false),
            ("         0          0       1000\n", false),
            ("0 0 1000\n1000 1000 4294966295\n", false),
            ("", false),
        ];
        for (map, initial) in cases {
            assert_eq!(maps_all_ids(map), initial, "{map:?}");
        }
    }
}
