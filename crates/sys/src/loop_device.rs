// SPDX-License-Identifier: Apache-2.0
//! A file as a block device (loop(4)): attached in one call (LOOP_CONFIGURE, Linux 5.8), and let go by the kernel when
//! nobody has the device open or mounted any more.
//!
//! Any process that may open /dev/loop-control, which is root.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Errno, Error, Result};
use crate::fs::{self, Mode, OFlags};

/// `linux/loop.h`, which `libc` lacks.
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often somebody else may be faster in taking the device that was free.
const TRIES: usize = 64;

/// What may be done with the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// How the file is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Through the page cache, as any file.
    Cached,
    /// Past it (O_DIRECT).
    Direct,
}

/// A loop device with a file. Once it is dropped, only mounts of it keep it from being free again.
#[derive(Debug)]
pub struct LoopDevice {
    _device: OwnedFd,
    path: PathBuf,
}

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);

impl LoopDevice {
    /// Attaches the file at `path` to a device that is free.
    pub fn attach(path: &Path, access: Access, transfer: Transfer) -> Result<Self> {
        let mode = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        let file = fs::open(fs::CWD, path, mode, Mode::empty())?;
        let control = Path::new("/dev/loop-control");
        let control = fs::open(fs::CWD, control, OFlags::RDWR, Mode::empty())?;
        let config = config(file.as_fd(), path, access, transfer);
        for _ in 0..TRIES {
            let path = PathBuf::from(format!("/dev/loop{}", free(control.as_fd())?));
            let device = fs::open(fs::CWD, &path, mode, Mode::empty())?;
            match configure(device.as_fd(), &config, &path) {
                Ok(()) => {
                    return Ok(Self {
                        _device: device,
                        path,
                    });
                }
                // Somebody else has taken it since.
                Err(error) if error.errno() == Errno::BUSY => {}
                Err(error) => return Err(error),
            }
        }
        let args = format!("LOOP_CONFIGURE {path:?}, {TRIES} devices that were free");
        Err(Error::new("ioctl", args, Errno::BUSY))
    }

    /// The device's own path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn config(file: BorrowedFd<'_>, path: &Path, access: Access, transfer: Transfer) -> Config {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    if access == Access::Read {
        flags |= LO_FLAGS_READ_ONLY;
    }
    if transfer == Transfer::Direct {
        flags |= LO_FLAGS_DIRECT_IO;
    }
    // For people only: what losetup(8) shows, cut to what there is room for, with a NUL behind it.
    let mut file_name = [0; 64];
    let bytes = path.as_os_str().as_encoded_bytes();
    for (to, from) in file_name.iter_mut().take(63).zip(bytes) {
        *to = *from;
    }
    Config {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: Info {
            numbers: [0; 5],
            number: 0,
            encryption: [0; 2],
            flags,
            file_name,
            crypt_name: [0; 64],
            key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    }
}

/// The number of a device that nobody uses; the kernel makes one where all are used.
fn free(control: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: `control` is a borrowed, hence open, descriptor; this request takes no argument, and neither reads nor
    // writes memory of the process, whatever the descriptor refers to.
    let answer = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    if answer < 0 {
        return Err(Error::last("ioctl", "LOOP_CTL_GET_FREE"));
    }
    Ok(answer)
}

fn configure(device: BorrowedFd<'_>, config: &Config, path: &Path) -> Result<()> {
    // SAFETY: `device` is a borrowed, hence open, descriptor; the request reads one `struct loop_config` from the pointer,
    // whose layout `Config` has (its size is asserted above) and which lives until the call returns; nothing is written.
    // Whether the descriptor in it is open is the kernel's to check.
    let answer = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_CONFIGURE,
            std::ptr::from_ref(config),
        )
    };
    if answer < 0 {
        return Err(Error::last("ioctl", format!("LOOP_CONFIGURE {path:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let path = PathBuf::from(format!("/{}", "x".repeat(100)));
        let config = config(null.as_fd(), &path, Access::Read, Transfer::Direct);
        assert_eq!(config.info.file_name[62..], *b"x\0");
        assert_eq!(config.info.flags, 1 | 4 | 16);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let missing = Path::new("/nonexistent/image");
        let error = LoopDevice::attach(missing, Access::Read, Transfer::Cached).unwrap_err();
        assert_eq!(error.errno(), Errno::NOENT);
        assert!(error.to_string().contains("/nonexistent/image"), "{error}");
    }

    #[test]
    fn a_file_is_attached_and_let_go() {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: loop devices take root, and a kernel that has them");
            return;
        }
        let name = format!("corten-loop-{}", std::process::id());
        let image = std::env::temp_dir().join(&name);
        std::fs::write(&image, vec![7; 8192]).unwrap();
        let device = LoopDevice::attach(&image, Access::Read, Transfer::Cached).unwrap();
        let number = device.path().file_name().unwrap().to_owned();
        let shown = Path::new("/sys/block")
            .join(number)
            .join("loop/backing_file");
        let backing = std::fs::read_to_string(&shown).unwrap();
        assert!(backing.trim_end().ends_with(&name), "{backing}");
        assert_eq!(std::fs::read(device.path()).unwrap(), vec![7; 8192]);
        drop(device);
        // The kernel lets go of it soon, and whoever watches devices may look at it first.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&shown).is_ok_and(|left| left.contains(&name)) {
            assert!(std::time::Instant::now() < end, "it is still attached");
            std::thread::yield_now();
        }
        std::fs::remove_file(&image).unwrap();
    }
}
