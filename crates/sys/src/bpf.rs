// SPDX-License-Identifier: Apache-2.0
//! eBPF programs on a cgroup: load, attach, replace, detach, query, by bpf(2) itself. Needs CAP_SYS_ADMIN (or CAP_BPF
//! and CAP_NET_ADMIN) in the initial user namespace; elsewhere the kernel answers EPERM.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Errno, Error, Result};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The kernel takes no more programs on one cgroup (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;

/// The verifier's words, for the error. It says why in the last lines, so a long log is cut in front.
const LOG_BYTES: usize = 64 << 10;
const LOG_SHOWN: usize = 600;

/// One instruction, as the kernel has it: opcode, destination and source register, offset, immediate value.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source of the operand.
    pub code: u8,
    /// Destination register in the low, source register in the high half.
    pub registers: u8,
    /// Of a jump or of memory.
    pub offset: i16,
    /// The operand, where the code says so.
    pub value: i32,
}

/// `union bpf_attr` for BPF_PROG_LOAD, up to the last member that is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The same for BPF_PROG_QUERY. The kernel writes `attach_flags` and `prog_cnt`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The same for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads `program` as one that decides about access to devices. Where the verifier refuses it, the error has the end of
/// what it said.
pub fn load_device_program(program: &[Insn], name: &CStr) -> Result<OwnedFd> {
    let refused = match load(program, name, None) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    // Once more for the log: asking for it in the first place would cost every start.
    if matches!(refused.errno(), Errno::PERM | Errno::NOSYS | Errno::NOMEM) {
        return Err(refused);
    }
    let mut log = vec![0; LOG_BYTES];
    match load(program, name, Some(&mut log)) {
        Ok(fd) => Ok(fd),
        Err(error) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let text = String::from_utf8_lossy(&log[end.saturating_sub(LOG_SHOWN)..end]);
            let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Err(Error::new(
                "bpf",
                format!("BPF_PROG_LOAD ({said})"),
                error.errno(),
            ))
        }
    }
}

fn load(program: &[Insn], name: &CStr, log: Option<&mut Vec<u8>>) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        expected_attach_type: BPF_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    // One byte stays zero: the name is a string.
    let room = attr.prog_name.iter_mut().take(15);
    for (into, from) in room.zip(name.to_bytes()) {
        *into = *from;
    }
    if let Some(log) = log {
        attr.log_level = 1;
        attr.log_size = log.len() as u32;
        attr.log_buf = log.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: the attribute is a whole one for this command. Its pointers go to `program` (insn_cnt instructions), to a
    // string with a terminator, and to a buffer of log_size bytes that is borrowed mutably: all live through the call.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) };
    descriptor(fd, "BPF_PROG_LOAD")
}

/// Puts `program` on the cgroup `dir`, beside those that are there; in place of `replace`, at one instant, if given.
pub fn attach_device_program(
    dir: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: dir.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let Some(old) = replace {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = old.as_raw_fd() as u32;
    }
    // SAFETY: a whole attribute for this command, without pointers.
    let answer = unsafe { bpf(BPF_PROG_ATTACH, &mut attr) };
    done(answer, "BPF_PROG_ATTACH")
}

/// Takes `program` off the cgroup `dir`.
pub fn detach_device_program(dir: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: dir.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: a whole attribute for this command, without pointers.
    let answer = unsafe { bpf(BPF_PROG_DETACH, &mut attr) };
    done(answer, "BPF_PROG_DETACH")
}

/// The ids of the device programs on the cgroup `dir` itself, without those of the cgroups above.
pub fn device_programs(dir: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; MOST_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: dir.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: a whole attribute for this command; `prog_ids` goes to room for prog_cnt numbers, which nothing else uses
    // during the call.
    let answer = unsafe { bpf(BPF_PROG_QUERY, &mut attr) };
    done(answer, "BPF_PROG_QUERY")?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// The loaded program with this id.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = IdAttr {
        prog_id: id,
        ..IdAttr::default()
    };
    // SAFETY: a whole attribute for this command, without pointers.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) };
    descriptor(fd, "BPF_PROG_GET_FD_BY_ID")
}

/// # Safety
///
/// `T` is the part of `union bpf_attr` that `command` reads, every byte of it initialised, and its pointers are valid for
/// what the command does with them.
unsafe fn bpf<T>(command: i32, attr: &mut T) -> i64 {
    let attr: *mut T = attr;
    // SAFETY: `attr` is valid for its own size, which is what is passed; the rest is the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) }
}

fn done(answer: i64, command: &'static str) -> Result<()> {
    if answer < 0 {
        return Err(Error::last("bpf", command));
    }
    Ok(())
}

/// bpf(2) makes its descriptors close-on-exec by itself.
fn descriptor(answer: i64, command: &'static str) -> Result<OwnedFd> {
    if answer < 0 {
        return Err(Error::last("bpf", command));
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as RawFd) })
}
