// SPDX-License-Identifier: Apache-2.0
//! The file that this process executes, exchanged while it runs.
//!
//! The kernel lets a process name another executable (prctl(2), PR_SET_MM_MAP) once nothing of the old one is mapped any
//! more. So each part of the program that came from the file is put on again, from the other place: what is only read is
//! mapped from there, what may have been written is copied.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr;

use crate::error::{Call, Errno, Error, Result};
use crate::fs::{self, Mode, OFlags};

/// Makes `same`, the file of this program found under another mount and open for reading, what this process executes and
/// what its memory is mapped from: /proc/PID/exe and /proc/PID/map_files lead there from now on, those of its clones as well.
///
/// Where this fails the program runs on and executes what it did before, with one exception: memory may run out in the
/// kernel between the end of an old part and the beginning of its new one, and then the program ends with SIGSEGV.
/// Errors: EINVAL for another file, several threads, a program that is not laid out as ELF files are, and a kernel without
/// CONFIG_CHECKPOINT_RESTORE (or before 5.15, which wants the heap behind the data); EPERM without CAP_CHECKPOINT_RESTORE
/// (Linux 5.9) or CAP_SYS_ADMIN in the process's own user namespace; those of mmap(2) and mremap(2).
pub fn exchange_executable(same: BorrowedFd<'_>) -> Result<()> {
    let own = fs::open(
        fs::CWD,
        Path::new("/proc/self/exe"),
        OFlags::RDONLY,
        Mode::empty(),
    )?;
    let (before, after) = (fs::stat(own.as_fd())?, fs::stat(same)?);
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
        return Err(Error::new("prctl", "of another file", Errno::INVAL));
    }
    if super::threads()? != 1 {
        return Err(Error::new("prctl", "several threads", Errno::INVAL));
    }
    let mut map = Map::of_this_process()?;
    // Asked with what is no descriptor: whoever may not is told so first, and everybody else that it is none.
    match map.set_executable(i32::MAX) {
        Err(error) if error.errno() == Errno::BADF => {}
        Err(error) => return Err(error),
        Ok(()) => return Err(Error::new("prctl", "not carried out", Errno::INVAL)),
    }
    let mut start = [0; 4096];
    let length = rustix::io::pread(&own, &mut start, 0).call("pread64", String::new)?;
    let layout = start.get(..length).and_then(|start| {
        let (entry, page) = (told(libc::AT_ENTRY), told(libc::AT_PAGESZ));
        Layout::read(start, entry, page)
    });
    let here = exchange_executable as *const () as usize;
    let layout = layout.filter(|layout| layout.is_of_program(here));
    let layout = layout.ok_or_else(|| Error::new("exec", "not as ELF is", Errno::INVAL))?;
    for part in &layout.parts {
        part.exchange(same)?;
    }
    for part in &layout.constant {
        part.protect()?;
    }
    map.set_executable(same.as_raw_fd())
}

/// What the kernel told this program of itself at its start.
fn told(what: libc::c_ulong) -> usize {
    // SAFETY: getauxval(3) takes and answers a number.
    unsafe { libc::getauxval(what) as usize }
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
    /// All as it is already (proc_pid_stat(5)), but for the end of the heap, and no executable.
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
        Ok(Self {
            code,
            data,
            start_brk,
            brk: 0,
            start_stack,
            arguments: [skip(0), skip(0)],
            environment: [skip(0), skip(0)],
            auxiliary: ptr::null(),
            auxiliary_size: 0,
            executable: u32::MAX,
        })
    }

    fn set_executable(&mut self, fd: i32) -> Result<()> {
        const MAP: libc::c_ulong = libc::PR_SET_MM_MAP as libc::c_ulong;
        const NONE: libc::c_ulong = 0;
        self.executable = fd as u32;
        // As late as can be: whatever is allocated moves it, and the kernel is told where it is.
        // SAFETY: with 0 it only answers where the heap ends.
        self.brk = unsafe { libc::sbrk(0) } as u64;
        let (map, size) = (ptr::from_ref(self), size_of::<Self>());
        // SAFETY: the kernel reads a structure of that size, which is borrowed, and checks what is in it. The addresses are
        // those that it has already.
        match unsafe { libc::prctl(libc::PR_SET_MM, MAP, map, size, NONE) } {
            0 => Ok(()),
            _ => Err(Error::last("prctl", "PR_SET_MM_MAP")),
        }
    }
}

/// Where the parts of this program are, by its file's headers (elf(5)).
struct Layout {
    parts: Vec<Part>,
    constant: Vec<Part>,
}

impl Layout {
    /// From the first bytes of a file, mapped so that its first instruction is at `entry`. `None`: no ELF file of 64 bits,
    /// whose headers are among these bytes.
    fn read(start: &[u8], entry: usize, page: usize) -> Option<Self> {
        const CLASS_64: u8 = 2;
        let number = |at: usize| -> Option<u64> {
            let bytes = start.get(at..at.checked_add(8)?)?.try_into().ok()?;
            Some(u64::from_ne_bytes(bytes))
        };
        let short = |at: usize| number(at).map(|found| (found & 0xffff) as usize);
        if start.get(4) != Some(&CLASS_64) {
            return None;
        }
        // Not from PT_PHDR, which some linkers leave out.
        let bias = entry.checked_sub(number(24)? as usize)?;
        let (first, size, count) = (number(32)? as usize, short(54)?, short(56)?);
        let (mut parts, mut constant) = (Vec::new(), Vec::new());
        for n in 0..count {
            let at = first.checked_add(n * size)?;
            let [kind, offset, address] = [number(at)?, number(at + 8)?, number(at + 16)?];
            let (in_file, in_memory) = (number(at + 32)?, number(at + 40)?);
            let (kind, flags) = (kind as u32, (kind >> 32) as u32);
            let address = bias.checked_add(address as usize)?;
            match kind {
                libc::PT_LOAD if in_file > 0 => {
                    parts.push(Part::new(address, in_file as usize, (offset, flags), page)?);
                }
                libc::PT_GNU_RELRO => {
                    let mut part = Part::new(address, in_memory as usize, (0, flags), page)?;
                    // A page that is a constant in part only stays writable, as the C library's start left it.
                    part.length = (address % page + in_memory as usize) / page * page;
                    constant.push(part);
                }
                _ => {}
            }
        }
        Some(Self { parts, constant })
    }

    /// Whether it is that of a program with an instruction at `here`, and no two parts of it are in one place.
    fn is_of_program(&self, here: usize) -> bool {
        let holds = |part: &Part| (part.start..part.start + part.length).contains(&here);
        let executes = |part: &Part| part.protection & libc::PROT_EXEC != 0;
        let mut text = self.parts.iter().filter(|part| executes(part));
        let is_sorted = |two: &[Part]| two[0].start + two[0].length <= two[1].start;
        text.any(holds) && self.parts.windows(2).all(is_sorted)
    }
}

/// Whole pages of it, as the kernel maps what comes from the file.
struct Part {
    start: usize,
    length: usize,
    offset: i64,
    protection: i32,
}

impl Part {
    /// Those that hold `length` bytes from `address`, which are at `offset` of the file.
    fn new(
        address: usize,
        length: usize,
        (offset, flags): (u64, u32),
        page: usize,
    ) -> Option<Self> {
        let within = address % page;
        let rights = [
            (libc::PF_R, libc::PROT_READ),
            (libc::PF_W, libc::PROT_WRITE),
            (libc::PF_X, libc::PROT_EXEC),
        ];
        let set = rights.iter().filter(|(flag, _)| flags & flag != 0);
        let length = within.checked_add(length)?.checked_next_multiple_of(page)?;
        address.checked_add(length)?;
        Some(Self {
            start: address - within,
            length,
            offset: (offset as i64).checked_sub(within as i64)?,
            protection: set.fold(0, |all, (_, one)| all | one),
        })
    }

    /// Puts the same bytes in the place of these pages, of the `file` or of none.
    fn exchange(&self, file: BorrowedFd<'_>) -> Result<()> {
        const ANEW: i32 = libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let is_written = self.protection & libc::PROT_WRITE != 0;
        let (source, fd, offset) = match is_written {
            true => (ANEW, -1, 0),
            false => (0, file.as_raw_fd(), self.offset),
        };
        let flags = libc::MAP_PRIVATE | source;
        let (none, length, protection) = (ptr::null_mut(), self.length, self.protection);
        // Somewhere else first: whatever limits, file systems and security modules refuse is refused while all is there yet.
        // SAFETY: new pages, wherever the kernel likes: nobody else's.
        let new = unsafe { libc::mmap(none, length, protection, flags, fd, offset) };
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
        // SAFETY: the pages take the place of some that have the same bytes: those of the same offset in the same file, whose
        // pages both are, or those copied just now. There is no other thread that could have written in between (`threads`)
        // and no handler of a signal, and this one has called nothing since but memcpy, which writes no other data.
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

    /// An ELF file of such headers (type, flags, offset, address, bytes in the file, in memory), which begins at 0x1100.
    fn file(headers: &[(u32, u32, u64, u64, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[4] = 2;
        file[24..32].copy_from_slice(&0x1100_u64.to_ne_bytes());
        file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        file[56..58].copy_from_slice(&(headers.len() as u16).to_ne_bytes());
        for (kind, flags, offset, address, in_file, in_memory) in headers {
            file.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
            for number in [offset, address, &0, in_file, in_memory, &0x1_0000] {
                file.extend(number.to_ne_bytes());
            }
        }
        file
    }

    fn pages(parts: &[Part]) -> Vec<(usize, usize, i64, i32)> {
        let one = |part: &Part| (part.start, part.length, part.offset, part.protection);
        parts.iter().map(one).collect()
    }

    const TEXT: u32 = libc::PF_R | libc::PF_X;
    const DATA: u32 = libc::PF_R | libc::PF_W;

    #[test]
    fn parts_are_whole_pages_wherever_the_program_is() {
        let (read, all) = (libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE);
        let text = libc::PROT_READ | libc::PROT_EXEC;
        let file = file(&[
            (libc::PT_LOAD, TEXT, 0, 0, 0x1234, 0x1234),
            (libc::PT_LOAD, DATA, 0x16b0, 0x2_36b0, 0x2f18, 0x9000),
            (libc::PT_LOAD, DATA, 0x4800, 0x5_0000, 0, 0x1000),
            (
                libc::PT_GNU_RELRO,
                libc::PF_R,
                0x16b0,
                0x2_36b0,
                0x1950,
                0x1a00,
            ),
            (libc::PT_NOTE, libc::PF_R, 0x100, 0x100, 0x20, 0x20),
        ]);
        for bias in [0, 0x7000_0000_0000] {
            let layout = Layout::read(&file, 0x1100 + bias, 0x1000).unwrap();
            let parts = [
                (bias, 0x2000, 0, text),
                (bias + 0x2_3000, 0x4000, 0x1000, all),
            ];
            assert_eq!(pages(&layout.parts), parts);
            let constant = [(bias + 0x2_3000, 0x2000, -0x6b0, read)];
            assert_eq!(
                pages(&layout.constant),
                constant,
                "not what begins in the last page"
            );
            assert!(layout.is_of_program(bias + 0x1fff));
            assert!(!layout.is_of_program(bias + 0x2000), "behind its text");
            assert!(!layout.is_of_program(bias + 0x2_3000), "its data");
        }
        let layout = Layout::read(&file, 0x1100, 0x1_0000).unwrap();
        let parts = [(0, 0x1_0000, 0, text), (0x2_0000, 0x1_0000, -0x2000, all)];
        assert_eq!(pages(&layout.parts), parts);
        assert_eq!(layout.constant[0].length, 0, "less than a page of 64 KiB");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let whole = file(&[(libc::PT_LOAD, TEXT, 0, 0, 0x2000, 0x2000)]);
        let read = |file: &[u8], entry| Layout::read(file, entry, 0x1000);
        assert!(read(&whole, 0x1100).is_some());
        let cut = &whole[..whole.len() - 9];
        assert!(
            read(cut, 0x1100).is_none(),
            "without its last header's size"
        );
        assert!(read(&whole, 0x10ff).is_none(), "before its beginning");
        assert!(read(&[], 0x1100).is_none());
        let mut beyond = whole.clone();
        beyond[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(read(&beyond, 0x1100).is_none(), "headers at the end of all");
        let mut narrow = whole.clone();
        narrow[4] = 1;
        assert!(read(&narrow, 0x1100).is_none(), "of 32 bits");
        let wide = file(&[(libc::PT_LOAD, TEXT, 0, 0x1000, u64::MAX, u64::MAX)]);
        assert!(read(&wide, 0x1100).is_none());
        let twice = (libc::PT_LOAD, TEXT, 0, 0, 0x2000, 0x2000);
        let layout = read(&file(&[twice, twice]), 0x1100).unwrap();
        assert!(!layout.is_of_program(0x1100), "two in one place");
    }

    #[test]
    fn a_process_of_many_threads_and_another_file_are_refused() {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let error = exchange_executable(own.as_fd()).unwrap_err();
                assert_eq!(error.errno(), Errno::INVAL, "{error}");
            });
        });
        let other = std::fs::File::open("/proc/self/stat").unwrap();
        let error = exchange_executable(other.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "prctl of another file: invalid argument");
    }

    #[test]
    fn the_kernel_s_map_is_read() {
        let mut map = Map::of_this_process().unwrap();
        map.set_executable(i32::MAX).unwrap_err();
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
