// SPDX-License-Identifier: Apache-2.0
//! Who this process is and what it may do: ids, capabilities, keyring.

use std::ffi::CStr;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Call, Errno, Error, Result};

/// Keeps other processes of the same user from tracing this one and from opening its /proc entries (PR_SET_DUMPABLE 0).
pub fn forbid_tracing() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .call("prctl", || "PR_SET_DUMPABLE 0".to_owned())
}

/// Lets those trace it who have the right to, which a change of ids takes away until execve (PR_SET_DUMPABLE 1).
pub fn allow_tracing() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .call("prctl", || "PR_SET_DUMPABLE 1".to_owned())
}

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let groups: Vec<_> = groups
        .iter()
        .map(|&g| rustix::process::Gid::from_raw(g))
        .collect();
    rustix::thread::set_thread_groups(&groups).call("setgroups", || format!("{groups:?}"))
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<()> {
    let id = rustix::process::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(id, id, id).call("setresgid", || gid.to_string())
}

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<()> {
    let id = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(id, id, id).call("setresuid", || uid.to_string())
}

/// Keeps permitted capabilities over the next change of user id (PR_SET_KEEPCAPS).
pub fn keep_capabilities(on: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(on).call("prctl", || "PR_SET_KEEPCAPS".to_owned())
}

/// Sets effective, permitted and inheritable capabilities, as bit sets by capability number (capset(2)).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets).call("capset", || format!("{permitted:#x}"))
}

/// The permitted and effective capabilities of this process.
pub fn capabilities() -> Result<(u64, u64)> {
    let sets = rustix::thread::capabilities(None).call("capget", String::new)?;
    Ok((sets.permitted.bits(), sets.effective.bits()))
}

/// Whether this process has CAP_SYS_ADMIN in its own user namespace.
pub fn is_administrator() -> Result<bool> {
    const SYS_ADMIN: u64 = 1 << 21;
    capabilities().map(|(_, effective)| effective & SYS_ADMIN != 0)
}

/// Holds the effective and permitted sets of this process against these; EPERM where they differ. A capget(2) that a
/// seccomp filter answers without making it is noticed: what it should have written is not there.
pub fn expect_capabilities(effective: u64, permitted: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    // The kernel has no capability for the upper bits, so that this is no process'.
    const NOTHING: u32 = 0xaaaa_aaaa;
    let header = [VERSION_3, 0];
    // Twice effective, permitted, inheritable: the lower halves, then the upper ones.
    let mut sets = [[NOTHING; 3]; 2];
    // SAFETY: the kernel reads the version and the pid (0, this thread) from `header` and writes two structures of three
    // u32 each to `sets`; both outlive the call and have those sizes (capget(2), _LINUX_CAPABILITY_VERSION_3).
    let answer = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    if answer != 0 {
        return Err(Error::last("capget", ""));
    }
    let set = |at: usize| u64::from(sets[0][at]) | u64::from(sets[1][at]) << 32;
    match (set(0), set(1)) == (effective, permitted) {
        true => Ok(()),
        false => {
            let args = format!("effective {effective:#x}, permitted {permitted:#x} after capset");
            Err(Error::new("capget", args, Errno::PERM))
        }
    }
}

/// Drops every capability but `keep` (a bit set) from the bounding set, up to the last that this kernel knows.
pub fn bound_capabilities(keep: u64) -> Result<()> {
    for number in (0..u64::BITS).filter(|n| keep & (1 << n) == 0) {
        let args = || format!("PR_CAPBSET_DROP {number}");
        match prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0) {
            Ok(()) => {}
            // The first number past the kernel's last capability.
            Err(Errno::INVAL) if number > 0 => return Ok(()),
            Err(errno) => return Err(Error::new("prctl", args(), errno)),
        }
    }
    Ok(())
}

/// Empties the ambient set and raises each capability in `set` there.
pub fn set_ambient_capabilities(set: u64) -> Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    prctl(libc::PR_CAP_AMBIENT, clear, 0)
        .call("prctl", || "PR_CAP_AMBIENT_CLEAR_ALL".to_owned())?;
    for number in (0..u64::BITS).filter(|n| set & (1 << n) != 0) {
        let raise = libc::PR_CAP_AMBIENT_RAISE as u64;
        prctl(libc::PR_CAP_AMBIENT, raise, u64::from(number))
            .call("prctl", || format!("PR_CAP_AMBIENT_RAISE {number}"))?;
    }
    Ok(())
}

fn prctl(option: i32, second: u64, third: u64) -> std::result::Result<(), Errno> {
    // SAFETY: the options that are used here (capability sets) take numbers only; unused arguments are zero.
    let answer = unsafe { libc::prctl(option, second, third, 0_u64, 0_u64) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::last("prctl", "").errno())
    }
}

/// No execve ever grants privileges again (PR_SET_NO_NEW_PRIVS).
pub fn forbid_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).call("prctl", || "PR_SET_NO_NEW_PRIVS".to_owned())
}

/// Joins a new session keyring called `name`, so that the caller's keys are out of reach (keyctl(2)).
pub fn new_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the kernel reads the NUL-terminated `name`, which outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if answer >= 0 {
        Ok(())
    } else {
        Err(Error::last(
            "keyctl",
            format!("KEYCTL_JOIN_SESSION_KEYRING {name:?}"),
        ))
    }
}

/// The effective user id with which this process began to execute its program: the kernel left it beside the arguments
/// (getauxval(3)), so that it costs no call. For a process that has not changed its ids or its user namespace since.
pub fn uid_at_start() -> u32 {
    // SAFETY: reads the vector that every process begins with, which nobody writes; AT_EUID is in it on every Linux
    // (create_elf_tables() in fs/binfmt_elf.c).
    let uid = unsafe { libc::getauxval(libc::AT_EUID) };
    // The kernel widened 32 bits.
    u32::try_from(uid).unwrap_or(u32::MAX)
}

/// The size of a page of memory, in bytes.
pub fn page_size() -> usize {
    // SAFETY: as above; AT_PAGESZ is in the vector on every Linux, too.
    let size = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The effective user id of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The effective group id of this process.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}
