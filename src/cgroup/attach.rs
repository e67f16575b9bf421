// SPDX-License-Identifier: Apache-2.0
//! Puts the device program on a cgroup and looks whether it is there.
//!
//! In a user namespace other than the initial one the kernel lets nobody load such programs, and a user without
//! capabilities can make containers in user namespaces alone. There, and only there, a container runs without its device
//! rules: the kernel itself refuses to make device nodes in such a namespace
//! (mknod(2), EPERM) and to open them on file systems that were mounted in it, and those devices that were bound in are
//! the ones that config.json names. The caller is told, and says so in its log. A lack of privilege in the initial
//! namespace is an error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::{Errno, bpf, process};

use super::Cgroup;
use super::devices::{Program, compile};
use super::resources::DeviceRule;
use crate::error::{Error, Kind, Result};
use crate::host;

/// What holds a container to its device rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceControl {
    /// The program on its cgroup.
    Program,
    /// Nothing, since its rules allow everything.
    NotNeeded,
    /// Its mounts, on which no other device can be opened (`plan::nodev`): it has no cgroup.
    Mounts,
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
        Err(error) if error.errno() == Errno::PERM && is_confined()? => {
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

/// Whether the kernel itself keeps the container from devices, since the runtime has no rights over them to give.
pub(super) fn is_confined() -> Result<bool> {
    Ok(process::capabilities()? == (0, 0) || host::in_user_namespace()?)
}

/// Whether `rules` allow everything, so that nothing need hold a container to them.
pub(super) fn allow_all(rules: &[DeviceRule]) -> bool {
    matches!(compile(rules), Program::Everything)
}
