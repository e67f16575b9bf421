// SPDX-License-Identifier: Apache-2.0
//! Users by name, as the image's own /etc/passwd and /etc/group have them. Those files are an attacker's: opened inside
//! the image, regular files only, capped.

use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::bundle::open_in_image;
use crate::error::{Error, Kind, Result};

/// Larger files are refused.
const CAP: u64 = 1 << 20;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Finds who `user[:group]` is. Digits are always a number, never a name; a name that is not found is an error. Without
/// a group, that of the user's line in passwd is taken (0 if there is none), and the groups that list the user.
pub fn find(root: BorrowedFd<'_>, text: &str) -> Result<User> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    resolve(text, &passwd, &group)
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let Some(file) = open_in_image(root, path)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    file.take(CAP + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CAP {
        return Err(Error::new(
            Kind::Limit,
            format!("the image's /{path} is larger than {CAP} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line of passwd or group.
struct Line<'a> {
    fields: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn all(text: &'a str) -> impl Iterator<Item = Self> {
        text.lines().map(|line| Self {
            fields: line.split(':').collect(),
        })
    }

    fn name(&self) -> &'a str {
        self.fields[0]
    }

    fn number(&self, field: usize) -> Option<u32> {
        number(self.fields.get(field)?)
    }
}

/// A user or group number. The last one means "leave as it is" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|&number| digits && number != u32::MAX)
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, group_text) = match text.split_once(':') {
        Some((_, "")) => return Err(Error::invalid("the group is empty")),
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let mut found = match is_numeric(user) {
        true => {
            let uid = number(user)
                .ok_or_else(|| Error::invalid(format!("uid {user} is out of range")))?;
            by_line(
                Line::all(passwd).find(|line| line.number(2) == Some(uid)),
                group,
            )
            .unwrap_or(User {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".into(),
            })
        }
        false => {
            by_line(Line::all(passwd).find(|line| line.name() == user), group).ok_or_else(|| {
                Error::invalid(format!("the image's /etc/passwd has no user {user:?}"))
            })?
        }
    };
    if let Some(text) = group_text {
        found.groups.clear();
        found.gid = match is_numeric(text) {
            true => {
                number(text).ok_or_else(|| Error::invalid(format!("gid {text} is out of range")))?
            }
            false => Line::all(group)
                .find(|line| line.name() == text)
                .and_then(|line| line.number(2))
                .ok_or_else(|| {
                    Error::invalid(format!("the image's /etc/group has no group {text:?}"))
                })?,
        };
    }
    Ok(found)
}

fn by_line(line: Option<Line<'_>>, group: &str) -> Option<User> {
    let line = line?;
    let name = line.name();
    let gid = line.number(3)?;
    let lists = |line: &Line<'_>| {
        line.fields
            .get(3)
            .is_some_and(|members| members.split(',').any(|member| member == name))
    };
    let mut groups: Vec<u32> = Line::all(group)
        .filter(|line| !name.is_empty() && lists(line))
        .filter_map(|line| line.number(2))
        .filter(|&other| other != gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Some(User {
        uid: line.number(2)?,
        gid,
        groups,
        home: line
            .fields
            .get(5)
            .filter(|home| home.starts_with('/'))
            .map_or("/", |home| home)
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n\nbad\n7:x:1007:1007::/seven:\nbig:x:4294967295:1::/:\n";
    const GROUP: &str =
        "root:x:0:\nweb:x:34:\nextra:x:50:root,web\nmore:x:40:web\nmore2:x:40:web\n12:x:1012:\n";

    #[test]
    fn users_and_groups() {
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, &[50][..], "/root"),
            ("root", 0, 0, &[50], "/root"),
            ("web", 33, 34, &[40, 50], "/srv"),
            ("33", 33, 34, &[40, 50], "/srv"),
            ("web:more", 33, 40, &[], "/srv"),
            ("web:0", 33, 0, &[], "/srv"),
            ("1000", 1000, 0, &[], "/"),
            ("1000:1001", 1000, 1001, &[], "/"),
            // Digits are a number though a user and a group are called so.
            ("7", 7, 0, &[], "/"),
            ("0:12", 0, 12, &[], "/root"),
            (":34", 0, 34, &[], "/root"),
        ] {
            let user = resolve(text, PASSWD, GROUP).unwrap();
            let found = (
                user.uid,
                user.gid,
                user.groups.as_slice(),
                user.home.as_str(),
            );
            assert_eq!(found, (uid, gid, groups, home), "{text}");
        }
        for bad in [
            "nobody",
            "web:none",
            "web:",
            "4294967295",
            "99999999999",
            "0:4294967295",
            "big",
            "bad",
            "-1",
            "0x0",
        ] {
            assert!(resolve(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
    }
}
