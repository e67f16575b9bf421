// SPDX-License-Identifier: Apache-2.0
//! Blobs: written under a temporary name, named by their digest only when they are whole and on disk, and verified
//! again each time that they are read.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::lock::{How, Lock};
use super::{DOCUMENT_CAP, Lease, Store, files, is_absent, partial};
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Kind, Result};

impl Store {
    /// Starts a blob.
    pub fn blob_writer(&self, _lease: &Lease) -> Result<BlobWriter> {
        let name = files::random_name()?;
        let fd = rustix::fs::openat(
            &self.tmp,
            name.as_str(),
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .call("create", || format!("tmp/{name}"))?;
        let file = File::from(fd.try_clone()?);
        let lock = Lock::attempt_on(fd, How::Exclusive)?.ok_or_else(|| {
            Error::new(
                Kind::System,
                format!("tmp/{name} is locked by somebody else"),
            )
        })?;
        self.writer(name, file, lock, Unfinished::Remove)
    }

    /// Goes on with the blob of that digest and size where an earlier process, or an earlier attempt of this one,
    /// stopped: [`BlobWriter::count`] says where. If another process is at it, starts one of its own. What is there was
    /// read again, but proves nothing until all of it is.
    pub fn blob_resumer(&self, lease: &Lease, digest: &Digest, size: u64) -> Result<BlobWriter> {
        let resume = || -> Result<Option<BlobWriter>> {
            let Some((name, file, lock)) = partial::claim(self.tmp.as_fd(), digest)? else {
                return Ok(None);
            };
            let mut writer = self.writer(name, file, lock, Unfinished::Keep)?;
            writer.read_back(size)?;
            Ok(Some(writer))
        };
        match resume().with_context(|| format!("resume blob {digest}"))? {
            Some(writer) => Ok(writer),
            None => self.blob_writer(lease),
        }
    }

    fn writer(
        &self,
        name: String,
        file: File,
        lock: Lock,
        unfinished: Unfinished,
    ) -> Result<BlobWriter> {
        Ok(BlobWriter {
            tmp: self.tmp.try_clone()?,
            blobs: self.blobs.try_clone()?,
            name: Some(name),
            file,
            hasher: Hasher::default(),
            unfinished,
            durable: self.durable,
            _lock: lock,
        })
    }

    /// Stores `bytes`.
    pub fn put_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<(Digest, u64)> {
        let mut writer = self.blob_writer(lease)?;
        writer.write_all(bytes).context("write blob")?;
        writer.commit(None)
    }

    /// Whether there is a blob of that name, whatever it holds.
    pub(crate) fn holds(&self, digest: &Digest) -> Result<bool> {
        match rustix::fs::statat(&self.blobs, digest.hex(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(errno) if is_absent(errno) => Ok(false),
            Err(errno) => Err(corten_sys::Error::new("stat", digest.to_string(), errno).into()),
        }
    }

    /// Whether the blob is there, with that size.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        match rustix::fs::statat(&self.blobs, digest.hex(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(u64::try_from(stat.st_size) == Ok(size)),
            Err(errno) if is_absent(errno) => Ok(false),
            Err(errno) => Err(corten_sys::Error::new("stat", digest.to_string(), errno).into()),
        }
    }

    /// Opens a blob whose descriptor says `digest` and `size`.
    pub fn open_blob(&self, digest: &Digest, size: u64) -> Result<BlobReader> {
        let file = match files::open_regular(&self.blobs, digest.hex()) {
            Ok(fd) => File::from(fd),
            Err(error) if error.errno().is_some_and(is_absent) => {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("blob {digest} is not in the store"),
                ));
            }
            // Only damage puts anything else there.
            Err(error)
                if error.kind() == Kind::Invalid
                    || matches!(error.errno(), Some(Errno::LOOP | Errno::NXIO)) =>
            {
                return Err(Error::corrupt(format!("blob {digest} is no regular file")));
            }
            Err(error) => return Err(error.context(format!("open blob {digest}"))),
        };
        let found = file.metadata()?.len();
        if found != size {
            return Err(Error::corrupt(format!(
                "blob {digest} has {found} bytes, its descriptor says {size}"
            )));
        }
        Ok(BlobReader::new(file, digest.clone(), size))
    }

    /// Reads a manifest, index or config: verified, and at most [`DOCUMENT_CAP`] bytes.
    pub fn read_document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        if size > DOCUMENT_CAP {
            return Err(Error::new(
                Kind::Limit,
                format!("document {digest} says it has {size} bytes, more than {DOCUMENT_CAP}"),
            ));
        }
        let mut reader = self.open_blob(digest, size)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        reader.finish()?;
        Ok(bytes)
    }
}

/// Reads a blob and holds it against its digest and size; what was read counts only after [`BlobReader::finish`].
pub struct BlobReader<R = File> {
    inner: R,
    hasher: Hasher,
    digest: Digest,
    size: u64,
}

impl<R: Read> BlobReader<R> {
    /// Wraps any source of a blob.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
            digest,
            size,
        }
    }

    /// Reads what is left, and proves that the whole had the digest and size that it should.
    pub fn finish(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let found = self.hasher.count();
        if found != self.size {
            return Err(Error::corrupt(format!(
                "blob {} has {found} bytes, its descriptor says {}",
                self.digest, self.size
            )));
        }
        let digest = self.hasher.finish();
        if digest != self.digest {
            return Err(Error::corrupt(format!(
                "blob has digest {digest}, its descriptor says {}",
                self.digest
            )));
        }
        Ok(())
    }
}

impl<R: Read> Read for BlobReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte past the size is enough to know that it is wrong; an endless source ends here.
        let left = (self.size + 1).saturating_sub(self.hasher.count());
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..most])?;
        self.hasher.update(&buffer[..count]);
        if self.hasher.count() > self.size {
            return Err(Error::corrupt(format!(
                "blob {} is longer than the {} bytes that its descriptor says",
                self.digest, self.size
            ))
            .into());
        }
        Ok(count)
    }
}

/// What becomes of a blob that isn't committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    /// Nothing stays.
    Remove,
    /// It stays for the next one, if it is worth it.
    Keep,
}

/// A blob that is being written. Dropped without [`BlobWriter::commit`] it leaves nothing, unless it is one that can be
/// taken up again.
pub struct BlobWriter {
    tmp: OwnedFd,
    blobs: OwnedFd,
    name: Option<String>,
    file: File,
    hasher: Hasher,
    unfinished: Unfinished,
    durable: bool,
    _lock: Lock,
}

impl BlobWriter {
    /// Takes what is in the file for the start of the blob; what is longer than that is none.
    fn read_back(&mut self, size: u64) -> Result<()> {
        if self.file.metadata()?.len() > size {
            return self.restart();
        }
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..count]);
        }
    }

    /// Forgets all that was written.
    pub fn restart(&mut self) -> Result<()> {
        self.hasher = Hasher::default();
        self.file.set_len(0).context("truncate blob")?;
        self.file.rewind().context("rewind blob")
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// How many bytes were written so far.
    pub fn count(&self) -> u64 {
        self.hasher.count()
    }

    /// Puts the blob in the store under its digest. If `expected` is given, digest and size must be those.
    pub fn commit(mut self, expected: Option<(&Digest, u64)>) -> Result<(Digest, u64)> {
        let size = self.hasher.count();
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some((wanted, wanted_size)) = expected {
            if size != wanted_size {
                return Err(Error::corrupt(format!(
                    "blob {wanted} has {size} bytes, its descriptor says {wanted_size}"
                )));
            }
            if digest != *wanted {
                self.unfinished = Unfinished::Remove;
                return Err(Error::corrupt(format!(
                    "blob has digest {digest}, its descriptor says {wanted}"
                )));
            }
        }
        self.place(&digest, size, None)
            .with_context(|| format!("store blob {digest}"))?;
        Ok((digest, size))
    }

    /// As [`BlobWriter::commit`], where something else has to be on disk as well: `sync` brings all there. After a crash
    /// the blob may have no name, but what has its name is whole.
    pub fn commit_with(mut self, sync: &dyn Fn() -> Result<()>) -> Result<(Digest, u64)> {
        let size = self.hasher.count();
        let digest = std::mem::take(&mut self.hasher).finish();
        self.place(&digest, size, Some(sync))
            .with_context(|| format!("store blob {digest}"))?;
        Ok((digest, size))
    }

    fn place(
        &mut self,
        digest: &Digest,
        size: u64,
        sync: Option<&dyn Fn() -> Result<()>>,
    ) -> Result<()> {
        let Some(name) = self.name.clone() else {
            return Ok(());
        };
        let held = rustix::fs::fstat(&self.file).call("fstat", || name.clone())?;
        if u64::try_from(held.st_size) != Ok(size) {
            return Err(Error::corrupt(format!(
                "file holds {} bytes of {size}",
                held.st_size
            )));
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(0o400))
            .call("fchmod", || name.clone())?;
        match sync {
            Some(sync) => sync()?,
            None if self.durable => {
                rustix::fs::fsync(&self.file).call("fsync", || name.clone())?;
            }
            None => {}
        }
        // A plain rename: if the blob is there already its bytes are the same, or (a damaged disk) better now.
        let rename = || rustix::fs::renameat(&self.tmp, name.as_str(), &self.blobs, digest.hex());
        match rename() {
            Err(Errno::ISDIR) => {
                let name =
                    CString::new(digest.hex()).map_err(|_| Error::invalid("name with a NUL"))?;
                files::remove_tree(self.blobs.as_fd(), &name)?;
                rename()
            }
            result => result,
        }
        .call("rename", || digest.to_string())?;
        self.name = None;
        // Where all is synced at once, so are the names: with the image's.
        if self.durable && sync.is_none() {
            rustix::fs::fsync(&self.blobs).call("fsync", || "blobs".to_owned())?;
        }
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let is_kept =
            self.unfinished == Unfinished::Keep && self.hasher.count() >= partial::WORTHWHILE;
        if let Some(name) = self.name.take().filter(|_| !is_kept) {
            // Drop cannot report; the sweep of tmp takes what stays.
            let _ = rustix::fs::unlinkat(self.tmp.as_fd(), name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest: &Digest, size: u64) -> Result<()> {
        BlobReader::new(bytes, digest.clone(), size).finish()
    }

    #[test]
    fn a_blob_must_have_its_size_and_digest() {
        let digest = Digest::of(b"hello");
        read(b"hello", &digest, 5).unwrap();
        let short = read(b"hell", &digest, 5).unwrap_err().to_string();
        assert!(
            short.contains("has 4 bytes") && short.contains("says 5"),
            "{short}"
        );
        let long = read(b"hello!", &digest, 5).unwrap_err().to_string();
        assert!(long.contains("longer than the 5 bytes"), "{long}");
        let other = read(b"hallo", &digest, 5).unwrap_err().to_string();
        assert!(
            other.contains(digest.as_str()) && other.contains(Digest::of(b"hallo").as_str()),
            "{other}"
        );
    }

    #[test]
    fn an_endless_source_ends() {
        let digest = Digest::of(b"");
        let error = BlobReader::new(io::repeat(0), digest, 1 << 20)
            .finish()
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }
}
