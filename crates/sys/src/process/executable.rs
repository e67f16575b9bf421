// SPDX-License-Identifier: Apache-2.0
//! The file that this process executes, exchanged while it runs.
//!
//! The kernel lets a process name another executable (prctl(2), PR_SET_MM_MAP) once nothing of the old one is mapped any
//! more. So each part of the program that came from the file is put on again, from the other place: what is only read
//! is mapped from there, what may have been written is copied.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr;

use crate::error::{Errno, Error, Result};
use crate::fs::{self, Mode, OFlags};

/// Makes `same`, the open file `own` of this program found under another mount, what this process executes, and what its
/// memory is mapped from: /proc/PID/exe and /proc/PID/map_files lead there from now on, those of its clones as well.
///
/// Where this fails the program runs on, and executes what it did before. Nothing was touched with EPERM (it takes
/// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the process's own user namespace, Linux 5.9) and EINVAL (another file, several
/// threads, or a kernel without CONFIG_CHECKPOINT_RESTORE).
pub fn exchange_executable(own: BorrowedFd<'_>, same: BorrowedFd<'_>) -> Result<()> {
    super::expect_one_thread()?;
    let (before, after) = (fs::stat(own)?, fs::stat(same)?);
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
        return Err(Error::new("prctl", "of another file", Errno::INVAL));
    }
    let mut map = Map::of_this_process()?;
    // Asked with what is no descriptor: whoever may not is told so first, and everybody else that it is none.
    match map.set_executable(i32::MAX) {
        Err(error) if error.errno() == Errno::BADF => {}
        other => return other,
    }
    let headers = program_headers();
    let bias = bias(headers);
    for header in headers {
        if header.p_type == libc::PT_LOAD {
            Part::new(header, bias).exchange(same)?;
        }
    }
    for header in headers {
        if header.p_type == libc::PT_GNU_RELRO {
            Part::new(header, bias).protect()?;
        }
    }
    map.set_executable(same.as_raw_fd())
}

/// `struct prctl_mm_map` of linux/prctl.h: where the kernel is to say that the parts of a program are.
#[repr(C)]
struct Map {
    code: [u64; 2],
    data: [u64; 2],
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxiliary: *const u64,
    auxiliary_size: u32,
    executable: u32,
}

impl Map {
    /// All as it is already (proc_pid_stat(5)), and no executable.
    fn of_this_process() -> Result<Self> {
        let stat = fs::open(
            fs::CWD,
            Path::new("/proc/self/stat"),
            OFlags::RDONLY,
            Mode::empty(),
        )?;
        let stat = fs::read_to_end(stat.as_fd(), 4096)?;
        // The name, in parentheses, is the second field and the only one with anything but numbers and a letter.
        let after_name = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
        let mut fields = after_name.split(|byte| *byte == b' ').skip(1);
        let mut skip = |many| {
            let field = fields
                .nth(many)
                .and_then(|field| std::str::from_utf8(field).ok());
            field.and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let code = [skip(23), skip(0)];
        let start_stack = skip(0);
        let data = [skip(16), skip(0)];
        let start_brk = skip(0);
        // SAFETY: with 0 it only answers where the heap ends.
        let brk = unsafe { libc::sbrk(0) } as u64;
        Ok(Self {
            code,
            data,
            start_brk,
            brk,
            start_stack,
            arguments: [skip(0), skip(0)],
            environment: [skip(0), skip(0)],
            auxiliary: ptr::null(),
            auxiliary_size: 0,
            executable: u32::MAX,
        })
    }

    fn set_executable(&mut self, fd: i32) -> Result<()> {
        self.executable = fd as u32;
        let (map, size) = (ptr::from_ref(self), size_of::<Self>());
        // SAFETY: the kernel reads a structure of that size, which is borrowed, and checks what is in it: that nothing of the
        // old executable is mapped any more, too. The addresses are those that it has already.
        match unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, map, size, 0) } {
            0 => Ok(()),
            _ => Err(Error::last("prctl", "PR_SET_MM_MAP")),
        }
    }
}

/// The headers of this program, which the kernel has mapped with it (getauxval(3)).
fn program_headers() -> &'static [libc::Elf64_Phdr] {
    let first = told(libc::AT_PHDR) as *const libc::Elf64_Phdr;
    // SAFETY: the kernel tells each program where its headers are and how many; they are in its first segment, aligned, only
    // read, and there until the end: `exchange` puts the same bytes in their place.
    unsafe { std::slice::from_raw_parts(first, told(libc::AT_PHNUM)) }
}

/// What the kernel told this program of itself at its start.
fn told(what: libc::c_ulong) -> usize {
    // SAFETY: getauxval(3) takes and answers a number.
    unsafe { libc::getauxval(what) as usize }
}

/// How far from the addresses in its headers the program was mapped.
fn bias(headers: &[libc::Elf64_Phdr]) -> usize {
    let own = headers.iter().find(|header| header.p_type == libc::PT_PHDR);
    own.map_or(0, |own| headers.as_ptr() as usize - own.p_vaddr as usize)
}

/// Whole pages of this program, as the kernel maps what comes from the file.
struct Part {
    start: usize,
    length: usize,
    offset: i64,
    protection: i32,
}

impl Part {
    fn new(header: &libc::Elf64_Phdr, bias: usize) -> Self {
        let page = told(libc::AT_PAGESZ);
        let address = header.p_vaddr as usize;
        let within = address % page;
        // A page that is a constant in part only stays writable, as the C library's start left it.
        let length = match header.p_type {
            libc::PT_GNU_RELRO => (within + header.p_memsz as usize) / page * page,
            _ => (within + header.p_filesz as usize).next_multiple_of(page),
        };
        let flags = [
            (libc::PF_R, libc::PROT_READ),
            (libc::PF_W, libc::PROT_WRITE),
            (libc::PF_X, libc::PROT_EXEC),
        ];
        let set = flags.iter().filter(|(flag, _)| header.p_flags & flag != 0);
        Self {
            start: bias + address - within,
            length,
            offset: header.p_offset as i64 - within as i64,
            protection: set.fold(0, |all, (_, one)| all | one),
        }
    }

    /// Puts the same bytes in the place of these pages, of the `file` or of none.
    fn exchange(&self, file: BorrowedFd<'_>) -> Result<()> {
        const ANEW: i32 = libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let is_written = self.protection & libc::PROT_WRITE != 0;
        let (source, fd) = match is_written {
            true => (ANEW, -1),
            false => (0, file.as_raw_fd()),
        };
        let flags = libc::MAP_PRIVATE | source;
        let (none, length, protection) = (ptr::null_mut(), self.length, self.protection);
        // SAFETY: new pages, wherever the kernel likes: nobody else's.
        let new = unsafe { libc::mmap(none, length, protection, flags, fd, self.offset) };
        if new == libc::MAP_FAILED {
            return Err(self.failed("mmap"));
        }
        let old = self.start as *mut libc::c_void;
        if is_written {
            // SAFETY: both are `length` bytes, and apart. That references into the program's own data exist does no harm:
            // it is only read, and nobody writes it meanwhile (below).
            unsafe { ptr::copy_nonoverlapping(old.cast::<u8>(), new.cast::<u8>(), length) };
        }
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the pages take the place of some that have the same bytes: those of the same offset in the same file, which
        // nobody can write while it is executed, or those copied just now. There is no other thread that could have written
        // in between (`expect_one_thread`), and this one has called nothing since but memcpy, which writes no other data.
        match unsafe { libc::mremap(new, length, length, how, old) } {
            libc::MAP_FAILED => Err(self.failed("mremap")),
            _ => Ok(()),
        }
    }

    /// Leaves the program what its start has written here, and takes away the right to write more.
    fn protect(&self) -> Result<()> {
        let start = self.start as *mut libc::c_void;
        // SAFETY: the pages are the program's constants (PT_GNU_RELRO), which the C library's start protected as well.
        match unsafe { libc::mprotect(start, self.length, libc::PROT_READ) } {
            0 => Ok(()),
            _ => Err(self.failed("mprotect")),
        }
    }

    fn failed(&self, call: &'static str) -> Error {
        Error::last(call, format!("{:#x} {:#x}", self.start, self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_pages() {
        let header = |p_type, p_flags| libc::Elf64_Phdr {
            p_type,
            p_flags,
            p_offset: 0x1e_96b0,
            p_vaddr: 0x1e_b6b0,
            p_paddr: 0,
            p_filesz: 0x1_2f18,
            p_memsz: 0x1_4000,
            p_align: 0x1000,
        };
        let page = told(libc::AT_PAGESZ);
        assert_eq!(page, 0x1000, "the figures below are of such pages");
        let part = Part::new(&header(libc::PT_LOAD, libc::PF_R | libc::PF_W), 0x7000);
        assert_eq!((part.start, part.offset), (0x1f_2000, 0x1e_9000));
        assert_eq!(part.length, 0x1_4000, "the last page as well");
        assert_eq!(part.protection, libc::PROT_READ | libc::PROT_WRITE);
        let part = Part::new(&header(libc::PT_GNU_RELRO, libc::PF_R), 0);
        assert_eq!(part.length, 0x1_4000, "not what begins in the last page");
    }

    #[test]
    fn the_kernel_s_map_is_read() {
        let map = Map::of_this_process().unwrap();
        let here = the_kernel_s_map_is_read as *const () as u64;
        assert!((map.code[0]..map.code[1]).contains(&here));
        let stack = ptr::from_ref(&here) as u64;
        assert!(
            map.start_stack > stack - (8 << 20),
            "{:#x}",
            map.start_stack
        );
        assert!(map.data[0] < map.data[1] && map.start_brk <= map.brk);
        // /proc/self/cmdline is what lies between these two.
        let length = map.arguments[1] - map.arguments[0];
        let told = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(length, told.len() as u64);
        assert!(map.arguments[1] <= map.environment[0] && map.environment[0] < map.environment[1]);
    }
}
