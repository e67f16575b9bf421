// SPDX-License-Identifier: Apache-2.0
//! Puts the device program on a cgroup and looks whether it is there.
//!
//! In a user namespace other than the initial one the kernel lets nobody load such programs. There, and only there, a
//! container runs without its device rules: the kernel itself refuses to make device nodes in such a namespace
//! (mknod(2), EPERM) and to open them on file systems that were mounted in it, and those devices that were bound in are
//! the ones that config.json names. The caller is told, and says so in its log. A lack of privilege in the initial
//! namespace is an error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
    if !replaces_one(cgroup, program.as_fd(), &old) {
        // No process is in it yet that could use the moment without a program.
        detach_all(cgroup, &old)?;
        bpf::attach_device_program(cgroup.dir(), program.as_fd(), None).map_err(explain_attach)?;
    }
    // SECURITY: what the container is held to is what the kernel says is there, not that a call went well. Programs beside
    // ours take away only: an access is granted when all of them grant it.
    let found = bpf::device_programs(cgroup.dir())?;
    if found.iter().all(|id| old.contains(id)) {
        return Err(Error::new(
            Kind::System,
            "the device program is not on the cgroup",
        ));
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

/// Puts `program` in the place of the only one in `old`. Not where that is a link's, or was put there to stand alone.
fn replaces_one(cgroup: &Cgroup, program: BorrowedFd<'_>, old: &[u32]) -> bool {
    let [only] = old else { return false };
    let replace =
        |only: OwnedFd| bpf::attach_device_program(cgroup.dir(), program, Some(only.as_fd()));
    bpf::program_by_id(*only).and_then(replace).is_ok()
}

/// Takes the programs `ids` off. Those that a link holds stay (ENOENT): they are somebody's who is still there.
fn detach_all(cgroup: &Cgroup, ids: &[u32]) -> Result<()> {
    for id in ids {
        let program = bpf::program_by_id(*id);
        let detached =
            program.and_then(|program| bpf::detach_device_program(cgroup.dir(), program.as_fd()));
        match detached {
            Err(error) if error.errno() == Errno::NOENT => {}
            answer => answer?,
        }
    }
    Ok(())
}

fn explain_attach(error: corten_sys::Error) -> Error {
    let is_refused = error.errno() == Errno::PERM;
    let error = Error::from(error);
    if is_refused {
        return error.remedy(
            "a cgroup above may have a device program that allows none below it (attached without BPF_F_ALLOW_MULTI)",
        );
    }
    error
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
