// SPDX-License-Identifier: Apache-2.0
//! The small languages of the command line and of config.json's texts: users, signals, ids, environments, sysctls, and
//! Go's ways of writing flags. Each is held against a second reader, or against what the words were made from.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use corten::bundle::sysctl_path;
use corten::cli::meant::{CreateArgs, ExecArgs, ExecProcess, KillArgs, Verb};
use corten::cli::{self, Wish, user};
use corten::error::Result;
use corten::plan::options;
use corten::plan::process::last_of_each;
use corten::store::ContainerId;
use corten_sys::mount::Attr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    if choice % 8 == 0 {
        return line(rest);
    }
    if choice % 8 == 1 {
        if let Ok(typed) = Typed::arbitrary(&mut Unstructured::new(rest)) {
            written_in_every_way(typed);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match choice % 8 {
        2 => users(text),
        3 => signals(text),
        4 => sysctls(text),
        5 => ids(text),
        6 => environment(text),
        _ => mount_options(text),
    }
});

/// Arguments separated by NUL, as execve(2) has them: none makes it panic, and no id or user is made up.
fn line(bytes: &[u8]) {
    let args = bytes.split(|&byte| byte == 0);
    let args = args.map(|arg| OsString::from_vec(arg.to_vec()));
    // The default root depends on the caller.
    let args = ["--root", "/r"]
        .into_iter()
        .map(OsString::from)
        .chain(args.take(64));
    if let (_, Ok(Wish::Verb(global, verb))) = cli::parse(args) {
        assert!(global.root.is_absolute());
        if let Verb::Create(create) = &verb {
            assert!(create.bundle.is_absolute() && create.preserve_fds <= 1 << 20);
        }
        if let Verb::Exec(exec) = &verb
            && let ExecProcess::Command { args, user, .. } = &exec.process
        {
            assert!(!args.is_empty());
            // CVE-2026-30892: root only for who writes a 0.
            if user.is_some_and(|user| user.uid == 0 || user.gid == Some(0)) {
                assert!(bytes.contains(&b'0'), "{verb:?}");
            }
        }
    }
}

fn verb(args: &[OsString]) -> Result<Verb> {
    let root = ["--root", "/r"].map(OsString::from);
    match cli::parse(root.into_iter().chain(args.iter().cloned())).1? {
        Wish::Verb(_, verb) => Ok(verb),
        Wish::Text(text) => panic!("{args:?} is no question: {text}"),
    }
}

/// What a command line should mean, and choices of how to write it.
#[derive(Arbitrary, Debug)]
struct Typed {
    flags: Vec<(u8, String, u8)>,
    command: Vec<String>,
    is_exec: bool,
    dashes: bool,
}

/// (name, letter, whether it has a value) of flags that both `create` and the table of this file know.
const CREATE: [(&str, Option<char>, bool); 8] = [
    ("bundle", Some('b'), true),
    ("pid-file", None, true),
    ("console-socket", None, true),
    ("pidfd-socket", None, true),
    ("no-pivot", None, false),
    ("no-new-keyring", None, false),
    ("strict", None, false),
    ("preserve-fds", None, true),
];

const EXEC: [(&str, Option<char>, bool); 7] = [
    ("tty", Some('t'), false),
    ("detach", Some('d'), false),
    ("env", Some('e'), true),
    ("cap", Some('c'), true),
    ("no-new-privs", None, false),
    ("apparmor", None, true),
    ("ignore-paused", None, false),
];

/// One flag in one of Go's ways: one dash or two, the letter, the value joined or as the next argument.
fn written(name: &str, letter: Option<char>, value: Option<&str>, way: u8) -> Vec<OsString> {
    let name = match letter {
        Some(letter) if way & 1 != 0 => format!("-{letter}"),
        _ if way & 2 != 0 => format!("-{name}"),
        _ => format!("--{name}"),
    };
    let truth = ["true", "1", "t", "T", "TRUE", "True"][usize::from(way >> 3) % 6];
    match value {
        None if way & 4 != 0 => vec![format!("{name}={truth}").into()],
        None => vec![name.into()],
        Some(value) if way & 4 != 0 => vec![format!("{name}={value}").into()],
        Some(value) => vec![name.into(), value.into()],
    }
}

/// However a line is written, it means the same.
fn written_in_every_way(typed: Typed) {
    let table: &[_] = if typed.is_exec { &EXEC } else { &CREATE };
    let mut args: Vec<OsString> = vec![if typed.is_exec { "exec" } else { "create" }.into()];
    let mut meant: Vec<(&str, String)> = Vec::new();
    for (index, value, way) in typed.flags.into_iter().take(12) {
        let (name, letter, has_value) = table[usize::from(index) % table.len()];
        let value = if name == "preserve-fds" {
            index.to_string()
        } else {
            value
        };
        // The kernel ends an argument at a NUL; a flag that comes once is not repeated.
        if value.contains('\0')
            || (has_value
                && !["env", "cap"].contains(&name)
                && meant.iter().any(|(n, _)| *n == name))
        {
            continue;
        }
        if !has_value && meant.iter().any(|(known, _)| *known == name) {
            continue;
        }
        // An empty path is no path.
        if value.is_empty() && !typed.is_exec {
            continue;
        }
        args.extend(written(
            name,
            letter,
            has_value.then_some(value.as_str()),
            way,
        ));
        meant.push((name, value));
    }
    let on = |name: &str| meant.iter().any(|(known, _)| *known == name);
    let values = |name: &str| -> Vec<String> {
        let found = meant.iter().filter(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).collect()
    };
    if typed.is_exec {
        let command: Vec<String> = typed.command.into_iter().take(6).collect();
        if command.is_empty()
            || command.iter().any(|word| word.contains('\0'))
            || command[0] == "--"
        {
            return;
        }
        args.push("id".into());
        if typed.dashes {
            args.push("--".into());
        }
        args.extend(command.iter().map(OsString::from));
        let Verb::Exec(exec) = verb(&args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
        else {
            panic!("{args:?} is exec");
        };
        let ExecArgs {
            process,
            detach,
            ignore_paused,
            ..
        } = *exec;
        assert_eq!(
            (detach, ignore_paused),
            (on("detach"), on("ignore-paused")),
            "{args:?}"
        );
        let ExecProcess::Command {
            args: said,
            tty,
            env,
            cap,
            apparmor,
            no_new_privs,
            ..
        } = process
        else {
            panic!("{args:?} has a command");
        };
        assert_eq!(said, command, "{args:?}");
        assert_eq!(
            (tty, no_new_privs),
            (on("tty"), on("no-new-privs")),
            "{args:?}"
        );
        assert_eq!((env, cap), (values("env"), values("cap")), "{args:?}");
        assert_eq!(apparmor, values("apparmor").pop(), "{args:?}");
        return;
    }
    if typed.dashes {
        args.push("--".into());
    }
    args.push("id".into());
    let Verb::Create(create) = verb(&args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    else {
        panic!("{args:?} is create");
    };
    let path = |name: &str| values(name).pop().map(|value| absolute(&value));
    let CreateArgs {
        id,
        bundle,
        pid_file,
        console_socket,
        pidfd_socket,
        no_pivot,
        no_new_keyring,
        preserve_fds,
        strict,
        ..
    } = create;
    assert_eq!(id.as_str(), "id");
    assert_eq!(
        bundle,
        path("bundle").unwrap_or_else(|| absolute(".")),
        "{args:?}"
    );
    assert_eq!(pid_file, path("pid-file"), "{args:?}");
    assert_eq!(console_socket, path("console-socket"), "{args:?}");
    assert_eq!(pidfd_socket, path("pidfd-socket"), "{args:?}");
    assert_eq!(
        (no_pivot, no_new_keyring, strict),
        (on("no-pivot"), on("no-new-keyring"), on("strict")),
        "{args:?}"
    );
    let fds = values("preserve-fds")
        .pop()
        .map_or(0, |value| value.parse().expect("a number"));
    assert_eq!(preserve_fds, fds, "{args:?}");
}

/// The path from the working directory, without empty parts and those that stay where they are.
fn absolute(path: &str) -> PathBuf {
    let from = std::env::current_dir().expect("there is a working directory");
    let mut whole = if path.starts_with('/') {
        PathBuf::from("/")
    } else {
        from
    };
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        whole.push(part);
    }
    whole
}

/// The only reader of numbers here: digits, no leading zero, below 2^32-1, in arithmetic that can't wrap.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || text.len() > 10 || !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    let value = text
        .bytes()
        .fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    u32::try_from(value).ok().filter(|value| *value < u32::MAX)
}

fn users(text: &str) {
    let parts: Vec<&str> = text.split(':').collect();
    let wanted = match parts.as_slice() {
        [uid] => number(uid).map(|uid| (uid, None)),
        [uid, gid] => number(uid)
            .zip(number(gid))
            .map(|(uid, gid)| (uid, Some(gid))),
        _ => None,
    };
    let read = user::user(text).map(|user| (user.uid, user.gid));
    assert_eq!(read.ok(), wanted, "{text:?}");
    assert_eq!(user::group(text).ok(), number(text), "{text:?}");
}

fn signals(text: &str) {
    if text.contains('\0') {
        return;
    }
    let args = ["kill", "--", "id", text].map(OsString::from);
    if let Ok(Verb::Kill(KillArgs { signal, .. })) = verb(&args) {
        assert!((0..=64).contains(&signal), "{text:?}: {signal}");
        // 32 and 33 are the C library's, and have numbers only.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            assert_eq!(text.trim_start_matches('0').parse().unwrap_or(0), signal);
        } else {
            assert!(
                signal != 0 && ![32, 33].contains(&signal),
                "{text:?}: {signal}"
            );
            assert!(text.is_ascii());
            // Case and prefix change nothing.
            let lower = text.to_ascii_lowercase();
            let name = lower.strip_prefix("sig").unwrap_or(&lower);
            for other in [name.to_owned(), format!("SIG{name}")] {
                let args = ["kill", "--", "id", &other].map(OsString::from);
                assert!(
                    matches!(verb(&args), Ok(Verb::Kill(kill)) if kill.signal == signal),
                    "{other:?}"
                );
            }
        }
    }
}

fn sysctls(key: &str) {
    let Some(path) = sysctl_path(key) else {
        return;
    };
    let parts: Vec<&str> = path.split('/').collect();
    assert!(parts.len() > 1, "{key:?}: {path:?}");
    assert!(
        !parts.iter().any(|part| ["", ".", ".."].contains(part)),
        "{key:?}: {path:?}"
    );
    assert_eq!(path.chars().count(), key.chars().count());
    // The path, written back in the way of its key, is the key; and written as a path it means itself, unless the first
    // of its separators would be taken for the other.
    let swapped: String = path
        .chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        })
        .collect();
    assert!(key == path || key == swapped, "{key:?}: {path:?}");
    if path
        .find(['.', '/'])
        .is_some_and(|at| path.as_bytes()[at] == b'/')
    {
        assert_eq!(sysctl_path(&path).as_deref(), Some(path.as_str()));
    }
}

fn ids(text: &str) {
    let Ok(id) = ContainerId::new(text) else {
        return;
    };
    assert_eq!(id.as_str(), text);
    assert_eq!(Path::new("/x").join(text).parent(), Some(Path::new("/x")));
    assert!(!text.starts_with('.') && text.len() < 255);
    assert!(
        text.as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'/')
    );
    // Its name fits every file that is named after it.
    assert!(format!(".trash-{text}").len() <= 255);
}

/// Of several values of one name the last one stays, and no name gets lost.
fn environment(text: &str) {
    let env: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let kept = last_of_each(&env);
    fn name(entry: &str) -> &str {
        entry.split_once('=').map_or(entry, |(name, _)| name)
    }
    for entry in &env {
        let last = env.iter().rev().find(|other| name(other) == name(entry));
        let mut found = kept.iter().filter(|other| name(other) == name(entry));
        assert_eq!((found.next(), found.next()), (last, None), "{env:?}");
    }
    let mut firsts: Vec<&str> = Vec::new();
    for entry in &env {
        if !firsts.contains(&name(entry)) {
            firsts.push(name(entry));
        }
    }
    assert_eq!(
        kept.iter().map(|entry| name(entry)).collect::<Vec<_>>(),
        firsts
    );
}

/// No option is lost: each word is an attribute, a propagation, a flag, or the file system's.
fn mount_options(text: &str) {
    let words: Vec<&str> = text.split(',').collect();
    let all = match options::parse(words.iter().copied()) {
        Ok(all) => all,
        Err(refused) => return assert!(refused.text.contains(words[refused.index]), "{text:?}"),
    };
    for change in [all.attr, all.recursive] {
        for attr in [
            Attr::RDONLY,
            Attr::NOSUID,
            Attr::NODEV,
            Attr::NOEXEC,
            Attr::NOSYMFOLLOW,
        ] {
            let both = change.set.contains(attr) && change.clear.contains(attr);
            assert!(!both, "{text:?}: {change:?}");
        }
    }
    // What is said last holds.
    for (word, attr, on) in [
        ("ro", Attr::RDONLY, true),
        ("rw", Attr::RDONLY, false),
        ("nosuid", Attr::NOSUID, true),
        ("suid", Attr::NOSUID, false),
    ] {
        let with = options::parse(words.iter().copied().chain([word]));
        let with = with.unwrap_or_else(|refused| panic!("{text:?},{word}: {}", refused.text));
        assert_eq!(with.attr.set.contains(attr), on, "{text:?},{word}");
        assert_eq!(with.attr.clear.contains(attr), !on, "{text:?},{word}");
        assert_eq!(with.data, all.data);
    }
}
