// SPDX-License-Identifier: Apache-2.0
//! PAX extended headers: records `<length> <key>=<value>\n`.

use super::Time;
use crate::error::{Error, Result};

/// What an extended header says of the entry that follows it, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// `path`
    pub path: Option<Vec<u8>>,
    /// `linkpath`
    pub link: Option<Vec<u8>>,
    /// `size`: wins over the header's field (CVE-2025-62518).
    pub size: Option<u64>,
    /// `uid`
    pub uid: Option<i64>,
    /// `gid`
    pub gid: Option<i64>,
    /// `mtime`
    pub mtime: Option<Time>,
    /// `SCHILY.xattr.*`
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Splits the next record off; the length must be exact.
fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let bad = || Error::corrupt("malformed PAX record");
    let space = data
        .iter()
        .take(12)
        .position(|&byte| byte == b' ')
        .ok_or_else(bad)?;
    let digits = &data[..space];
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let length = digits.iter().fold(0usize, |value, &digit| {
        value * 10 + usize::from(digit - b'0')
    });
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return Err(bad());
    }
    let (this, rest) = data.split_at(length);
    let body = &this[space + 1..length - 1];
    let equals = body.iter().position(|&byte| byte == b'=').ok_or_else(bad)?;
    if equals == 0 {
        return Err(bad());
    }
    Ok((&body[..equals], &body[equals + 1..], rest))
}

/// Reads the content of an `x` header. A key that comes twice is an error, for readers differ on which one counts.
pub fn parse(mut data: &[u8]) -> Result<Extended> {
    let mut extended = Extended::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    while !data.is_empty() {
        let (key, value, rest) = record(data)?;
        data = rest;
        if seen.contains(&key) {
            return Err(Error::corrupt(format!(
                "PAX key {:?} comes twice",
                String::from_utf8_lossy(key)
            )));
        }
        seen.push(key);
        set(&mut extended, key, value)?;
    }
    Ok(extended)
}

fn set(extended: &mut Extended, key: &[u8], value: &[u8]) -> Result<()> {
    if key.starts_with(b"GNU.sparse.") {
        return Err(Error::unsupported("sparse entries are not supported"));
    }
    if let Some(name) = key.strip_prefix(XATTR) {
        if name.is_empty() || name.contains(&0) {
            return Err(Error::corrupt("extended attribute with a bad name"));
        }
        extended.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    match key {
        b"path" => extended.path = Some(name(value)?),
        b"linkpath" => extended.link = Some(name(value)?),
        b"size" => extended.size = Some(decimal(value)?),
        b"uid" => extended.uid = Some(signed(value)?),
        b"gid" => extended.gid = Some(signed(value)?),
        b"mtime" => extended.mtime = Some(time(value)?),
        // Names of users, times of access, comments and vendors' keys make no difference to the tree.
        _ => {}
    }
    Ok(())
}

/// Reads the content of a `g` header: it may hold comments, but nothing that changes the entries after it, since
/// readers differ on whether it does.
pub fn check_global(mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let (key, _, rest) = record(data)?;
        data = rest;
        if matches!(
            key,
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" | b"hdrcharset"
        ) || key.starts_with(XATTR)
            || key.starts_with(b"GNU.sparse.")
        {
            return Err(Error::unsupported(format!(
                "global PAX key {:?} is not supported",
                String::from_utf8_lossy(key)
            )));
        }
    }
    Ok(())
}

fn name(value: &[u8]) -> Result<Vec<u8>> {
    if value.is_empty() || value.contains(&0) {
        return Err(Error::corrupt("PAX path is empty or has a NUL"));
    }
    Ok(value.to_vec())
}

fn decimal(value: &[u8]) -> Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Error::corrupt(format!(
                "bad PAX number {:?}",
                String::from_utf8_lossy(value)
            ))
        })
}

fn signed(value: &[u8]) -> Result<i64> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let number = i64::try_from(decimal(digits)?)
        .map_err(|_| Error::corrupt("PAX number is out of range"))?;
    Ok(if negative { -number } else { number })
}

/// `[-]seconds[.fraction]`; digits after the ninth are cut off.
fn time(value: &[u8]) -> Result<Time> {
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Error::corrupt(format!(
            "bad PAX time {:?}",
            String::from_utf8_lossy(value)
        )));
    }
    let digits = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nanos = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    let seconds = signed(whole)?;
    // -1.25 is a quarter before -1, and is -2 and three quarters.
    if whole.starts_with(b"-") && nanos > 0 {
        let seconds = seconds
            .checked_sub(1)
            .ok_or_else(|| Error::corrupt("PAX time is out of range"))?;
        return Ok(Time {
            seconds,
            nanos: 1_000_000_000 - nanos,
        });
    }
    Ok(Time { seconds, nanos })
}

/// Appends one record.
pub fn put(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        for length in [0, 1, 85, 86, 87, 88, 89, 90, 91, 92, 988, 990, 992, 5000] {
            let value = vec![b'v'; length];
            let mut data = Vec::new();
            put(&mut data, b"SCHILY.xattr.user.x", &value);
            assert_eq!(parse(&data).unwrap().xattrs, [(b"user.x".to_vec(), value)]);
        }
    }

    #[test]
    fn times() {
        for (text, seconds, nanos) in [
            ("12", 12, 0),
            ("12.5", 12, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            ("-3", -3, 0),
        ] {
            assert_eq!(
                time(text.as_bytes()).unwrap(),
                Time { seconds, nanos },
                "{text}"
            );
        }
        for bad in ["", ".5", "1.x", "1e3", "--1", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"11 path=a\n"[..],
            b"9 path=a\n9 path=b\n",
            b"09 path=a\n",
            b"9 path=a",
            b"x path=a\n",
            b"6 =aa\n",
            b"9 pathxa\n",
            b"99999999999999999999 a=b\n",
            b"8 path=\n",
            b"10 path=a\0\n",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"21 GNU.sparse.major=1\n",
            b"",
        ] {
            assert_eq!(
                parse(bad).is_err(),
                !bad.is_empty(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
        assert!(check_global(b"18 comment=abcdef\n").is_ok());
        assert!(check_global(b"9 size=1\n").is_err());
    }
}
