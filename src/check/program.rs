// SPDX-License-Identifier: Apache-2.0
//! Questions about what is executed: the program, what interprets it, where it starts, and the hooks. Part of `check`;
//! reads only, and below the rootfs through openat2(2) alone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use corten_sys::Errno;
use corten_sys::fs::{self, FileType, OFlags};
use corten_sys::mount::Attr;

use super::Asked;
use super::mounts::Place;
use crate::bundle::finding::Report;
use crate::bundle::names;
use crate::plan::mounts::{Mount, Source};
use crate::plan::namespaces::IdMap;

/// How much of a program is looked at: the kernel reads its first line, or its headers, in less.
const HEAD: usize = 4096;

/// How often one script is interpreted by another before the kernel gives up.
const SCRIPTS: usize = 5;

pub(super) fn cwd(asked: &Asked<'_>, report: &mut Report) {
    let cwd = &asked.plan.process.cwd;
    match find(asked, cwd, OFlags::PATH | OFlags::DIRECTORY) {
        // A missing one is made.
        Place::Found(_) | Place::Unknown | Place::Missing(Errno::NOENT) => {}
        Place::Missing(errno) => {
            let text = format!("{}: {}", cwd.display(), corten_sys::describe(errno));
            report.lacks("/process/cwd", text, "");
        }
    }
}

/// Hooks run on the host, but for those that run in the container, after its root has changed.
pub(super) fn hooks(asked: &Asked<'_>, report: &mut Report) {
    let hooks = &asked.plan.hooks;
    let points = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (point, hooks) in points {
        for (index, hook) in hooks.iter().enumerate() {
            let path = Path::new(&hook.path);
            let status = fs::stat_path(path);
            let is_file = status
                .map(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
            let wrong = match (is_file, fs::may_execute(path)) {
                (Err(error), _) | (_, Err(error)) => corten_sys::describe(error.errno()),
                (Ok(false), _) => "it is no regular file".to_owned(),
                _ => continue,
            };
            report.lacks(
                format!("/hooks/{point}/{index}"),
                format!("hook {}: {wrong}", hook.path),
                "",
            );
        }
    }
    for (index, hook) in hooks.start_container.iter().enumerate() {
        if let Some(wrong) = executable(asked, Path::new(&hook.path), SCRIPTS) {
            say(
                asked,
                report,
                format!("/hooks/startContainer/{index}"),
                format!("hook {}: {wrong}", hook.path),
            );
        }
    }
}

pub(super) fn program(asked: &Asked<'_>, report: &mut Report) {
    let process = &asked.plan.process;
    let name = process.args.first().map_or("", String::as_str);
    let wrong = if name.contains('/') {
        executable(asked, Path::new(name), SCRIPTS)
    } else {
        let path = process
            .env
            .iter()
            .find_map(|entry| entry.strip_prefix("PATH="));
        let dirs = path
            .filter(|path| !path.is_empty())
            .map(|path| path.split(':'));
        let places = dirs
            .into_iter()
            .flatten()
            .map(|dir| Path::new(dir).join(name));
        in_path(asked, places)
    };
    if let Some(wrong) = wrong {
        say(
            asked,
            report,
            "/process/args/0".to_owned(),
            format!("{name:?}: {wrong}"),
        );
    }
}

/// What a hook may bring before the program starts is not known.
fn say(asked: &Asked<'_>, report: &mut Report, pointer: String, wrong: String) {
    let hooks = &asked.plan.hooks;
    let before = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
    ];
    if before.iter().any(|hooks| !hooks.is_empty()) {
        report.warn(pointer, format!("{wrong}, unless a hook changes that"));
    } else {
        report.lacks(pointer, wrong, "");
    }
}

fn in_path(asked: &Asked<'_>, places: impl Iterator<Item = PathBuf>) -> Option<String> {
    let mut wrong = "executable file not found in $PATH".to_owned();
    for place in places {
        let path = asked.plan.process.cwd.join(&place);
        match find(asked, &path, OFlags::PATH) {
            Place::Unknown => return None,
            Place::Missing(_) => {}
            Place::Found(_) => match executable(asked, &place, SCRIPTS) {
                None => return None,
                Some(why) => wrong = why,
            },
        }
    }
    Some(wrong)
}

/// Why the file at `name` of the container, from its working directory, can't be executed, if that is so for certain.
fn executable(asked: &Asked<'_>, name: &Path, scripts: usize) -> Option<String> {
    let path = &asked.plan.process.cwd.join(name);
    let found = match find(asked, path, OFlags::PATH) {
        Place::Unknown => return None,
        Place::Missing(errno) => return Some(corten_sys::describe(errno)),
        Place::Found(found) => found,
    };
    let status = fs::stat(found.as_fd()).ok()?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Some("is a directory".to_owned()),
        _ => return Some("is no regular file".to_owned()),
    }
    let mount = covering(asked, path);
    // Owners are shown through a map there, and may be others.
    let is_mapped = mount.is_some_and(|mount| mount.id_map.is_some());
    if !is_mapped && !may_execute(asked, &status) {
        return Some("permission denied".to_owned());
    }
    if let Some(dir) = unsearchable(asked, name) {
        let uid = asked.plan.process.uid;
        return Some(format!("user {uid} may not search {}", dir.display()));
    }
    if is_noexec(mount, &found) {
        return Some("nothing can be executed on its mount (noexec)".to_owned());
    }
    let Place::Found(file) = find(asked, path, OFlags::RDONLY | OFlags::NONBLOCK) else {
        return None;
    };
    let mut head = [0; HEAD];
    let length = fs::read_some(file.as_fd(), &mut head).ok()?;
    let interpreter = match interpreter(head.get(..length)?) {
        Format::Whole => return None,
        Format::Unknown if handles_others() => return None,
        Format::Unknown => return Some("the kernel knows no such format".to_owned()),
        Format::Script(_) if scripts == 0 => return Some("too many interpreters".to_owned()),
        Format::Script(path) | Format::Loaded(path) => path,
    };
    let wrong = executable(asked, &interpreter, scripts.checked_sub(1)?)?;
    Some(format!(
        "its interpreter {}: {wrong}",
        interpreter.display()
    ))
}

/// What is at `path` when all is mounted. What a link of the rootfs leads to there is not known where a mount hides it.
fn find(asked: &Asked<'_>, path: &Path, flags: OFlags) -> Place {
    match asked.find(path, asked.plan.mounts.len(), flags) {
        Place::Found(found) if covering(asked, path).is_none() && is_hidden(asked, &found) => {
            Place::Unknown
        }
        place => place,
    }
}

/// Whether a mount is over the file `found` of the rootfs.
fn is_hidden(asked: &Asked<'_>, found: &OwnedFd) -> bool {
    let path = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::read_link(fs::CWD, link.as_ref()).ok()
    };
    let root = asked.root.as_ref().and_then(|root| path(root.as_fd()));
    let (Some(root), Some(found)) = (root, path(found.as_fd())) else {
        return false;
    };
    let inside = found.strip_prefix(root);
    inside.is_ok_and(|path| covering(asked, &Path::new("/").join(path)).is_some())
}

/// The mount that hides what the rootfs has at `path`.
fn covering<'a>(asked: &Asked<'a>, path: &Path) -> Option<&'a Mount> {
    let mut mounts = asked.plan.mounts.iter().rev();
    mounts.find(|mount| path.starts_with(&mount.target))
}

/// Whether nothing on the mount of the file `found` can be executed: a copy has the flags of the host's, but for those that
/// it is given.
fn is_noexec(mount: Option<&Mount>, found: &OwnedFd) -> bool {
    let hosts = || fs::is_noexec(found.as_fd()).unwrap_or(false);
    let Some(mount) = mount else { return hosts() };
    // In the order in which they are made, the last counts.
    let last = [mount.recursive, mount.attr]
        .into_iter()
        .find_map(|change| {
            let is_set = change.set.contains(Attr::NOEXEC);
            (is_set || change.clear.contains(Attr::NOEXEC)).then_some(is_set)
        });
    let keeps =
        matches!(mount.source, Source::Bind { .. }) && !mount.unnamed().contains(Attr::NOEXEC);
    last.unwrap_or_else(|| keeps && hosts())
}

/// The first directory on the way to `name` that the process may not search. Behind a link there may be others. Those above
/// the working directory are no part of a way that begins there: it was gone to before the process lost the right.
fn unsearchable(asked: &Asked<'_>, name: &Path) -> Option<PathBuf> {
    let cwd = &asked.plan.process.cwd;
    let path = cwd.join(name);
    let is_above = |dir: &Path| name.is_relative() && dir != cwd && cwd.starts_with(dir);
    if path.components().any(|name| name == Component::ParentDir) {
        return None;
    }
    let mut dirs: Vec<&Path> = path.ancestors().skip(1).collect();
    dirs.retain(|dir| !is_above(dir));
    dirs.reverse();
    let found = dirs.into_iter().find(|dir| {
        let is_mapped = covering(asked, dir).is_some_and(|mount| mount.id_map.is_some());
        match find(asked, dir, OFlags::PATH | OFlags::DIRECTORY) {
            Place::Found(found) if !is_mapped => {
                fs::stat(found.as_fd()).is_ok_and(|status| !may_search(asked, &status))
            }
            Place::Found(_) | Place::Missing(_) | Place::Unknown => false,
        }
    });
    found.map(Path::to_owned)
}

/// How a program says what runs it.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    /// It needs nothing.
    Whole,
    /// `#!`
    Script(PathBuf),
    /// An ELF program with a loader.
    Loaded(PathBuf),
    /// It doesn't.
    Unknown,
}

fn interpreter(head: &[u8]) -> Format {
    use std::os::unix::ffi::OsStrExt;
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| b" \t\0".contains(byte));
        return match words.find(|word| !word.is_empty()) {
            Some(word) => Format::Script(path(word)),
            None => Format::Unknown,
        };
    }
    if !head.starts_with(b"\x7fELF") {
        return Format::Unknown;
    }
    match loader(head) {
        Some(Some(name)) => Format::Loaded(path(name)),
        Some(None) => Format::Whole,
        None => Format::Unknown,
    }
}

/// The loader that a 64-bit ELF program of this byte order names; `None` where the headers end too early. Of another
/// kind of ELF nothing is said.
fn loader(head: &[u8]) -> Option<Option<&[u8]>> {
    const PT_INTERP: usize = 3;
    let is_ours = *head.get(4)? == 2 && *head.get(5)? == 1;
    if !is_ours || cfg!(target_endian = "big") {
        return Some(None);
    }
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        bytes.iter().rev().try_fold(0_usize, |number, byte| {
            Some(number.checked_mul(256)? + usize::from(*byte))
        })
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = start.checked_add(index.checked_mul(size)?)?;
        // Headers beyond what was read: unusual, and no fault.
        let Some(kind) = number(at, 4) else {
            return Some(None);
        };
        if kind == PT_INTERP {
            let (offset, length) = (number(at + 8, 8)?, number(at + 32, 8)?);
            let name = head.get(offset..offset.checked_add(length)?);
            return Some(name.map(|name| name.strip_suffix(b"\0").unwrap_or(name)));
        }
    }
    Some(None)
}

/// Whether formats were registered that the kernel itself does not know (binfmt_misc).
fn handles_others() -> bool {
    let names = std::fs::read_dir("/proc/sys/fs/binfmt_misc");
    names.is_ok_and(|names| {
        let mut names = names.flatten().map(|entry| entry.file_name());
        names.any(|name| name != "register" && name != "status")
    })
}

/// Whether the mode lets the process execute a file. An access list may give more than a mode that has the group's bit
/// shows.
fn may_execute(asked: &Asked<'_>, status: &fs::Stat) -> bool {
    let mode = status.st_mode;
    if has_effective(asked, "CAP_DAC_OVERRIDE") || mode & 0o111 == 0 {
        return mode & 0o111 != 0;
    }
    is_allowed(asked, status)
}

/// The same of a directory and what is in it.
fn may_search(asked: &Asked<'_>, status: &fs::Stat) -> bool {
    ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
        .iter()
        .any(|name| has_effective(asked, name))
        || is_allowed(asked, status)
}

/// Whether the process itself will have the capability `name`.
fn has_effective(asked: &Asked<'_>, name: &str) -> bool {
    let effective = asked.plan.process.capabilities.effective;
    names::capability(name).is_some_and(|number| effective & (1 << number) != 0)
}

fn is_allowed(asked: &Asked<'_>, status: &fs::Stat) -> bool {
    let process = &asked.plan.process;
    let mode = status.st_mode;
    let maps = asked.plan.namespaces.maps.as_ref();
    // Whose ids those of a namespace that is joined are is not known.
    if maps.is_none() && asked.plan.namespaces.has_user() {
        return true;
    }
    let uid = maps.map_or(Some(process.uid), |maps| outside(&maps.uids, process.uid));
    if uid == Some(status.st_uid) {
        return mode & 0o100 != 0;
    }
    let mut gids = process.groups.iter().chain([&process.gid]);
    let is_member = gids.any(|gid| {
        maps.map_or(Some(*gid), |maps| outside(&maps.gids, *gid)) == Some(status.st_gid)
    });
    mode & 0o010 != 0 || (!is_member && mode & 0o001 != 0)
}

/// The host's number of an id of the container.
fn outside(maps: &[IdMap], inside: u32) -> Option<u32> {
    let map = maps
        .iter()
        .find(|map| inside >= map.inside && inside - map.inside < map.size)?;
    map.outside.checked_add(inside - map.inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_name_what_runs_them() {
        let script = |path: &str| Format::Script(path.into());
        let cases: [(&[u8], Format); 7] = [
            (b"#!/bin/sh -e\nexit", script("/bin/sh")),
            (b"#! \t/bin/env x", script("/bin/env")),
            (b"#!\n", Format::Unknown),
            (b"", Format::Unknown),
            (b"hello", Format::Unknown),
            (b"\x7fELF", Format::Unknown),
            (b"\x7fELF\x01\x01", Format::Whole),
        ];
        for (head, wanted) in cases {
            assert_eq!(interpreter(head), wanted, "{head:?}");
        }
    }

    /// An ELF header with one program header of this kind, whose content is `name`.
    fn elf(kind: u8, name: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 120];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (head[32], head[54], head[56]) = (64, 56, 1);
        (head[64], head[72]) = (kind, 120);
        head[96] = u8::try_from(name.len()).unwrap();
        head.extend(name);
        head
    }

    #[test]
    fn elf_programs_name_their_loader() {
        let loaded = Format::Loaded("/lib/ld.so".into());
        assert_eq!(interpreter(&elf(3, b"/lib/ld.so\0")), loaded);
        assert_eq!(interpreter(&elf(1, b"")), Format::Whole);
        let whole = elf(3, b"/lib/ld.so\0");
        for length in 0..whole.len() {
            // None of them panics.
            interpreter(&whole[..length]);
        }
        let mut hostile = elf(3, b"x");
        hostile[32..40].fill(0xff);
        assert_eq!(interpreter(&hostile), Format::Whole);
    }
}
