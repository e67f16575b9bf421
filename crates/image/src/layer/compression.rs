// SPDX-License-Identifier: Apache-2.0
//! How a layer's tar is compressed, and the decoders.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use oci_spec::image::MediaType;

use crate::error::{Error, Result};

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

const DOCKER_PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar";

impl Compression {
    /// What a layer's media type says.
    pub fn of(media_type: &MediaType) -> Result<Self> {
        Ok(match media_type {
            MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Self::Plain,
            MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => Self::Gzip,
            MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => Self::Zstd,
            MediaType::Other(name) => match name.strip_prefix(DOCKER_PLAIN) {
                Some("") => Self::Plain,
                Some(".gzip") => Self::Gzip,
                Some(".zstd") => Self::Zstd,
                _ => {
                    return Err(Error::unsupported(format!(
                        "layer type {name} is not supported"
                    )));
                }
            },
            other => {
                return Err(Error::unsupported(format!(
                    "layer type {other} is not supported"
                )));
            }
        })
    }

    /// The media type of a layer that is written so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Plain => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }

    /// What the first bytes of a stream say.
    pub fn of_magic(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A frame that needs a larger window (more memory than 128 MiB) is refused.
const WINDOW_LOG_MAX: u32 = 27;
const BUFFER: usize = 256 << 10;

/// Decompresses `R`.
pub enum Decoder<R: Read> {
    /// As it is.
    Plain(R),
    /// Members of gzip, one after the other.
    Gzip(Box<Members<BufReader<R>>>),
    /// Frames of zstd, one after the other.
    Zstd(zstd::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Decoder<R> {
    /// Starts to decompress `inner`.
    pub fn new(inner: R, compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::Plain => Self::Plain(inner),
            Compression::Gzip => Self::Gzip(Box::new(Members::new(BufReader::with_capacity(
                BUFFER, inner,
            )))),
            Compression::Zstd => {
                let mut decoder =
                    zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, inner))?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
        })
    }

    /// What was decompressed. Bytes that the decoder had read ahead are gone.
    pub fn into_inner(self) -> Option<R> {
        match self {
            Self::Plain(inner) => Some(inner),
            Self::Gzip(members) => members.into_inner().map(BufReader::into_inner),
            Self::Zstd(decoder) => Some(decoder.finish().into_inner()),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (result, name) = match self {
            Self::Plain(inner) => return inner.read(buffer),
            Self::Gzip(members) => (members.read(buffer), "gzip"),
            Self::Zstd(decoder) => (decoder.read(buffer), "zstd"),
        };
        result.map_err(|error| match Error::from(error) {
            // The decoders' own words ("corrupt deflate stream", "unexpected end of file") with what they are about.
            error
                if error.kind() == crate::Kind::Corrupt
                    && !error.to_string().contains("sha256:") =>
            {
                error.context(format!("decompress {name}")).into()
            }
            error => error.into(),
        })
    }
}

/// Members of gzip, one after the other; then zeros (as tapes and some tools pad) or nothing.
pub struct Members<R: BufRead> {
    current: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(inner: R) -> Self {
        Self {
            current: Some(GzDecoder::new(inner)),
        }
    }

    fn into_inner(self) -> Option<R> {
        self.current.map(GzDecoder::into_inner)
    }

    /// After a member: starts the next one, or says that there is none.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(decoder) = self.current.as_mut() else {
            return Ok(false);
        };
        let start = decoder.get_mut().fill_buf()?;
        match start.first() {
            None => return Ok(false),
            Some(0) => {
                zeros(decoder.get_mut())?;
                return Ok(false);
            }
            Some(0x1f) => {}
            Some(_) => return Err(Error::corrupt("data after the end of the stream").into()),
        }
        self.current = self
            .current
            .take()
            .map(|decoder| GzDecoder::new(decoder.into_inner()));
        Ok(true)
    }
}

fn zeros(inner: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = inner.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(Error::corrupt("data after the end of the stream").into());
        }
        let count = bytes.len();
        inner.consume(count);
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(decoder) = self.current.as_mut() else {
                return Ok(0);
            };
            let count = decoder.read(buffer)?;
            if count > 0 || !self.next_member()? {
                return Ok(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8], compression: Compression) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(bytes, compression)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn gzip_members_zeros_and_junk() {
        let two = [gzip(b"one"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(decode(&two, Compression::Gzip).unwrap(), b"onetwo");
        let padded = [two.clone(), vec![0; 700]].concat();
        assert_eq!(decode(&padded, Compression::Gzip).unwrap(), b"onetwo");
        for junk in [&b"x"[..], b"\0\0\0x", b"\x1f", b"\x1f\x8bxx"] {
            let bad = [two.clone(), junk.to_vec()].concat();
            let error = decode(&bad, Compression::Gzip).unwrap_err();
            assert!(
                error.to_string().starts_with("decompress gzip: "),
                "{error}"
            );
        }
        for length in 1..two.len() {
            let result = decode(&two[..length], Compression::Gzip);
            let whole =
                [gzip(b"one").len(), gzip(b"one").len() + gzip(b"").len()].contains(&length);
            assert_eq!(result.is_ok(), whole, "{length}");
        }
    }

    #[test]
    fn zstd_frames_and_windows() {
        let one = zstd::encode_all(&b"one"[..], 1).unwrap();
        let two = zstd::encode_all(&b"two"[..], 1).unwrap();
        let both = [one.clone(), two].concat();
        assert_eq!(decode(&both, Compression::Zstd).unwrap(), b"onetwo");
        assert!(decode(&both[..both.len() - 1], Compression::Zstd).is_err());
        // A frame header that asks for a window of 2^31.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        let error = decode(&huge, Compression::Zstd).unwrap_err().to_string();
        assert!(error.contains("too much memory"), "{error}");
        assert_eq!(Compression::of_magic(&one), Compression::Zstd);
        assert_eq!(Compression::of_magic(&gzip(b"")), Compression::Gzip);
    }
}
