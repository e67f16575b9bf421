// SPDX-License-Identifier: Apache-2.0
//! Compiled seccomp programs: one in the directory of each container that has one, for `exec`, and a cache by content.
//!
//! ```text
//! <root>/ID/seccomp.bpf        the container's program
//! <root>/.seccomp/HASH         a program with the profile that it was compiled from
//! ```
//!
//! Each file is a header, the profile's bytes (none in a container's), the program's bytes and a checksum. The cache
//! trusts no hash: an entry answers for the very bytes of its profile, or not at all. Both are the store's own, mode 0600
//! in directories of mode 0700. Called by `command`.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corten_sys::fs::{self as fs_at, Mode, OFlags};
use corten_sys::process;

use super::record::sum;
use super::{Container, Reservation, Store, file};
use crate::error::{Context, Error, Kind, Result};
use crate::sort;

const FILTER: &str = "seccomp.bpf";
/// Starts with a dot, as no id does.
const CACHE: &str = ".seccomp";
const HEADER: &[u8] = b"corten seccomp 1\n";

/// How many entries the cache keeps: hosts have a handful of profiles, and a caller that makes up a new one for every
/// container must not fill the disk.
const ENTRIES_MAX: usize = 64;
/// The longest entry that is read: a hundred times the usual one.
const FILE_MAX: usize = 4 << 20;

impl Reservation {
    /// Keeps the container's program.
    pub fn keep_filter(&self, program: &[u8]) -> Result<()> {
        file::create(&self.directory().join(FILTER), &sealed(&[], program))
            .context("keep the seccomp program")
    }
}

impl Container {
    /// Whether it has a program.
    pub fn has_filter(&self) -> bool {
        self.directory().join(FILTER).exists()
    }

    /// The container's program, as it was compiled at create.
    pub fn filter(&self) -> Result<Vec<u8>> {
        let path = self.directory().join(FILTER);
        let damaged = || {
            Error::new(
                Kind::System,
                format!("{} is missing or damaged", path.display()),
            )
        };
        let bytes = file::read(&path).context("read the seccomp program")?;
        bytes
            .and_then(|bytes| opened(&[], &bytes))
            .ok_or_else(damaged)
    }
}

impl Store {
    /// The cached program of the profile whose bytes are `profile`. What can't be read is not there.
    pub fn cached_filter(&self, profile: &[u8]) -> Option<Vec<u8>> {
        let cache = own_directory(&self.cache()).ok()?;
        let bytes = read_own(cache.as_fd(), &name(profile)).ok()?;
        opened(profile, &bytes)
    }

    /// Puts a program into the cache.
    pub fn cache_filter(&self, profile: &[u8], program: &[u8]) -> Result<()> {
        let cache = self.cache();
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&cache)
            .map_err(|error| file::failed("mkdir", &cache, &error))
            .context("make the cache of seccomp programs")?;
        own_directory(&cache)?;
        make_room(&cache);
        let name = name(profile);
        // Of its own process: two may write the same entry, and each renames a whole one.
        let temporary = cache.join(format!(".{name}.{}", std::process::id()));
        file::replace(&cache.join(name), &temporary, &sealed(profile, program))
            .context("cache a seccomp program")
    }

    fn cache(&self) -> PathBuf {
        self.root().join(CACHE)
    }
}

/// The cache's directory. SECURITY: whoever else may write there could put a weaker program in the place of one.
fn own_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = fs_at::open(fs_at::CWD, path, flags, Mode::empty())?;
    expect_own(directory.as_fd())?;
    Ok(directory)
}

/// A file that nobody else can have written; never waits.
fn read_own(directory: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = fs_at::open(directory, Path::new(name), flags, Mode::empty())?;
    let size = expect_own(file.as_fd())?;
    Ok(fs_at::read_regular(file.as_fd(), size)?)
}

/// The size of what is this user's own and writable by nobody else.
fn expect_own(fd: BorrowedFd<'_>) -> Result<usize> {
    const OTHERS_WRITE: u32 = 0o022;
    let stat = fs_at::stat(fd)?;
    if stat.st_uid != process::effective_uid() || stat.st_mode & OTHERS_WRITE != 0 {
        let text =
            "the cache of seccomp programs belongs to another user, or others may write there";
        return Err(Error::new(Kind::System, text));
    }
    Ok(usize::try_from(stat.st_size)
        .unwrap_or(usize::MAX)
        .min(FILE_MAX))
}

/// Removes the oldest entry of a full cache, and what a writer that died has left.
fn make_room(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let dated = entries.filter_map(|entry| {
        let time = entry.metadata().and_then(|data| data.modified()).ok()?;
        Some((time, entry.path()))
    });
    let dated = sort::by_key(dated.collect(), &|(time, _)| *time);
    let surplus = (dated.len() + 1).saturating_sub(ENTRIES_MAX);
    for (_, path) in dated.iter().take(surplus) {
        // Whoever else removed it did the same.
        file::remove(path).ok();
    }
}

fn name(profile: &[u8]) -> String {
    format!("{:016x}", sum(profile))
}

fn sealed(profile: &[u8], program: &[u8]) -> Vec<u8> {
    let len = u32::try_from(profile.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let mut bytes = [HEADER, &len, profile, program].concat();
    let sum = sum(&bytes).to_le_bytes();
    bytes.extend_from_slice(&sum);
    bytes
}

/// The program in `bytes`, if those are whole and of this very profile.
fn opened(profile: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let (body, end) = bytes.split_last_chunk::<8>()?;
    if u64::from_le_bytes(*end) != sum(body) {
        return None;
    }
    let (len, rest) = body.strip_prefix(HEADER)?.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*len) as usize != profile.len() {
        return None;
    }
    rest.strip_prefix(profile).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn the_cache_answers_for_the_same_profile_only() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        assert_eq!(store.cached_filter(b"profile"), None);
        store.cache_filter(b"profile", b"program").unwrap();
        assert_eq!(store.cached_filter(b"profile").unwrap(), b"program");
        // Another profile of the same hash.
        let entry = scratch.path().join(CACHE).join(name(b"other"));
        fs::copy(scratch.path().join(CACHE).join(name(b"profile")), entry).unwrap();
        assert_eq!(store.cached_filter(b"other"), None);
    }

    #[test]
    fn a_damaged_entry_is_none() {
        let whole = sealed(b"profile", b"program");
        assert!(opened(b"profile", &whole).is_some());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(opened(b"profile", &bytes), None, "byte {at}");
            assert_eq!(opened(b"profile", &whole[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path());
        for number in 0..ENTRIES_MAX + 9 {
            store
                .cache_filter(number.to_string().as_bytes(), b"x")
                .unwrap();
        }
        let entries = fs::read_dir(scratch.path().join(CACHE)).unwrap().count();
        assert_eq!(entries, ENTRIES_MAX);
    }
}
