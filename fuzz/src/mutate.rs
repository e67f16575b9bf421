// SPDX-License-Identifier: Apache-2.0
//! Mutations of JSON documents that know the table of fields: what libFuzzer changes byte by byte hardly ever stays a
//! document that any rule looks at. Called by the targets' mutators; every third mutation is left to libFuzzer.

use corten::bundle::names::CAPABILITIES;
use corten::bundle::support::{CONFIG, Field, Shape};
use serde_json::{Map, Value};

use crate::dice::Dice;

/// Words that rules and plans treat in a way of their own.
const WORDS: &[&str] = &[
    "",
    "/",
    ".",
    "..",
    "/..",
    "a",
    "/a",
    "/a/../..",
    "//a//b/",
    "/dev",
    "/dev/null",
    "/dev/x",
    "/proc",
    "/proc/sys",
    "/proc/1/../..",
    "/sys/fs/cgroup",
    "/sys",
    "/tmp",
    "rootfs",
    "bind",
    "rbind",
    "ro",
    "rro",
    "rw",
    "nosuid",
    "noexec",
    "nodev",
    "rnosuid",
    "relatime",
    "noatime",
    "strictatime",
    "nosymfollow",
    "shared",
    "rslave",
    "private",
    "unbindable",
    "runbindable",
    "tmpcopyup",
    "mode=755",
    "size=64k",
    "size=",
    "=x",
    "sync",
    "idmap",
    "ridmap",
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "overlay",
    "ext4",
    "none",
    "1.0.2",
    "1.3.0",
    "1",
    "2.0.0",
    "1.0.0-rc1+x",
    "PATH=/bin",
    "HOME=",
    "=",
    "A=B=C",
    "A",
    "CAP_CHOWN",
    "CAP_SYS_ADMIN",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_NONE",
    "cap_chown",
    "RLIMIT_NOFILE",
    "RLIMIT_CORE",
    "RLIMIT_NONE",
    "0-3,7",
    "3-0",
    "0",
    "0-",
    ",",
    "4294967296",
    "rwm",
    "r",
    "rr",
    "rwmx",
    "64KB",
    "2MB",
    "1GB",
    "3MB",
    "2mb",
    "pids.max",
    "memory.max",
    "memory.high",
    "cpu.max",
    "cpu.weight",
    "io.max",
    "cgroup.procs",
    "cgroup.subtree_control",
    "a.b",
    ".x",
    "x/y",
    "../x",
    "max",
    "-1",
    "net.ipv4.ip_forward",
    "net/ipv4/ip_forward",
    "net.ipv4.conf.eth0/1.forwarding",
    "net.//./kernel",
    "net...x",
    "kernel.shmmax",
    "kernel.domainname",
    "kernel.hostname",
    "kernel.panic",
    "fs.mqueue.msg_max",
    "user.max_user_namespaces",
    "monotonic",
    "boottime",
    "system_u:system_r:container_t:s0",
    "a:b",
    "unconfined",
    "hooks",
    "eth0",
    "lo",
    "mlx5_0",
    "hca/0",
    "system.slice:runc:x",
    "/pods/a",
    "a\nb",
    "\u{0}",
    "\u{7f}",
    "ä",
    "\u{202e}",
    "~",
    "~1",
    "a/b~c",
    "\u{1f980}",
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_NONE",
    "/proc/self/ns/net",
    "/run/user/0",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ARCH_X86_64",
    "SCMP_CMP_EQ",
    "SCMP_CMP_MASKED_EQ",
    "openat",
    "clone",
];

/// Words of a field, by its name: where only these mean anything, others would never be met.
const OF_FIELDS: &[(&str, &[&str])] = &[
    ("defaultAction", ACTIONS),
    ("action", ACTIONS),
    ("architectures", ARCHITECTURES),
    ("op", OPERATORS),
    ("names", CALLS),
    ("flags", FLAGS),
    ("options", OPTIONS),
    ("netDevices", DEVICES),
    ("closID", GROUPS),
    ("schemata", SCHEMATA),
    ("l3CacheSchema", SCHEMATA),
    ("memBwSchema", SCHEMATA),
    ("mode", POLICIES),
    ("nodes", &["0", "0-3,7", "3-0", "1024", ""]),
    ("bounding", &CAPABILITIES),
    ("effective", &CAPABILITIES),
    ("inheritable", &CAPABILITIES),
    ("permitted", &CAPABILITIES),
    ("ambient", &CAPABILITIES),
];

#[rustfmt::skip]
const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
];

#[rustfmt::skip]
const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
];

const OPERATORS: &[&str] = &[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Old and new ones, multiplexed ones, and those that few architectures have.
#[rustfmt::skip]
const CALLS: &[&str] = &[
    "read", "write", "open", "openat", "openat2", "clone", "clone3", "execve", "execveat", "exit", "exit_group", "fork",
    "personality", "prctl", "seccomp", "socket", "connect", "accept", "accept4", "bind", "sendmsg", "recvmmsg",
    "setsockopt", "semget", "semtimedop", "shmat", "shmdt", "msgsnd", "ipc", "socketcall", "mmap", "mmap2", "stat64",
    "ioctl", "kill", "mount", "umount2", "unshare", "setns", "bpf", "keyctl", "ptrace", "syslog", "uname", "restart_syscall",
    "arm_fadvise64_64", "s390_runtime_instr", "sync_file_range2", "arch_prctl", "modify_ldt", "landlock_add_rule",
    "futex_waitv", "mseal", "cachestat", "statmount", "process_madvise", "rt_sigaction", "io_uring_setup", "breakpoint",
    "cacheflush", "riscv_flush_icache", "spu_run", "get_thread_area", "no_such_call",
];

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_KEEP_PARAMS",
    "MPOL_F_STATIC_NODES",
];

#[rustfmt::skip]
const OPTIONS: &[&str] = &[
    "bind", "rbind", "ro", "rro", "rw", "rrw", "nosuid", "suid", "rnosuid", "nodev", "noexec", "noatime", "rnoatime",
    "relatime", "strictatime", "nosymfollow", "shared", "rslave", "private", "runbindable", "sync", "async", "dirsync",
    "lazytime", "iversion", "tmpcopyup", "idmap", "ridmap", "idmap=uids=0-1000-10#10-5000-1;gids=0-1000-10",
    "ridmap=uids=@0-0-1;gids=@0-0-1", "idmap=uids=0-0-0;gids=+1-2-3", "idmap=", "dest-nofollow", "src-nofollow",
    "copy-symlink", "remount", "mode=1777", "size=64k", "nr_inodes=", "context=a:b:c", "lowerdir=/a:/b", "newinstance",
    "hidepid=2", "xattr", "",
];

#[rustfmt::skip]
const DEVICES: &[&str] = &[
    "eth0", "lo", "eth%d", "%d%d", "%s", "a/b", ".", "..", "veth01234567890", "veth012345678901", "a b", "x:y", "",
];

const GROUPS: &[&str] = &[
    "web",
    "/",
    "",
    "/web",
    "web/",
    "a/b",
    "..",
    ".",
    "info",
    "mon_groups",
    "mon_data",
    "a\nb",
];

#[rustfmt::skip]
const SCHEMATA: &[&str] = &[
    "L3:0=f;1=f0", "MB:0=10", "L3:0=f\nMB:0=10\n", "MB:0=10\nL3:0=f", "\n", " ", "L3", "L3CODE:0=1", ":", "L2:0=3", "",
];

#[rustfmt::skip]
const POLICIES: &[&str] = &[
    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL", "MPOL_NONE",
];

/// Numbers at the edges of what fields hold.
const NUMBERS: &[i128] = &[
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    10,
    19,
    20,
    99,
    100,
    101,
    340,
    341,
    511,
    512,
    999,
    1000,
    1001,
    4095,
    4096,
    65535,
    65536,
    999_999_999,
    1_000_000_000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    -1,
    -2,
    -20,
    -21,
    -1000,
    -1001,
    -0x8000_0000,
    -0x8000_0000_0000_0000,
];

/// The shape of the field that `path` leads to in config.json.
pub fn shape_of(path: &[&str]) -> Option<&'static Shape> {
    path.iter().try_fold(&CONFIG, |shape, name| match shape {
        Shape::Object(fields) => {
            let found = fields.iter().find(|field| field.name == *name);
            found.map(|field| &field.shape)
        }
        _ => None,
    })
}

/// Changes the document in `data[..size]`; `raw` is libFuzzer's own mutation. Returns the new size.
pub fn document(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    shape: &'static Shape,
    raw: impl Fn(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut dice = Dice::new(seed);
    if dice.one_in(3) {
        return raw(data, size, max_size);
    }
    let mut value = match serde_json::from_slice(&data[..size]) {
        Ok(value) => value,
        Err(_) if dice.one_in(8) => made(shape, 6, &mut dice),
        Err(_) => return raw(data, size, max_size),
    };
    for _ in 0..=dice.below(4) {
        change(&mut value, shape, &mut dice);
    }
    let mut text = if dice.one_in(4) {
        serde_json::to_string_pretty(&value)
    } else {
        serde_json::to_string(&value)
    }
    .unwrap_or_default();
    if dice.one_in(16) {
        repeat_a_key(&mut text, &value, &mut dice);
    }
    if text.len() > max_size {
        return raw(data, size, max_size);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

/// Changes something in `value` or below it.
fn change(value: &mut Value, shape: &'static Shape, dice: &mut Dice) {
    if dice.one_in(40) {
        *value = anything(dice);
        return;
    }
    match (shape, value) {
        (Shape::Object(fields), Value::Object(members)) => change_object(members, fields, dice),
        (Shape::Map(item), Value::Object(members)) => change_map(members, item, dice),
        (Shape::List(item), Value::Array(items)) => change_list(items, item, dice),
        (Shape::Text, Value::String(text)) if dice.one_in(2) => change_text(text, dice),
        (_, value) => *value = made(shape, 3, dice),
    }
}

fn change_object(members: &mut Map<String, Value>, fields: &'static [Field], dice: &mut Dice) {
    let Some(field) = dice.pick(fields) else {
        return;
    };
    match dice.below(8) {
        0 => drop(members.remove(field.name)),
        1 => drop(members.insert(field.name.to_owned(), made_for(field, 3, dice))),
        2 if dice.one_in(8) => {
            let name = field.name.to_ascii_uppercase();
            members.insert(name, anything(dice));
        }
        _ => {
            // What is there is more worth changing than what is not.
            let there = fields
                .iter()
                .filter(|field| members.contains_key(field.name));
            let there: Vec<&Field> = there.collect();
            let field = dice.pick(&there).copied().unwrap_or(field);
            let value = members.entry(field.name).or_insert(Value::Null);
            if value.is_null() {
                *value = made_for(field, 3, dice);
            } else {
                enter(field, dice);
                change(value, &field.shape, dice);
            }
        }
    }
}

fn change_map(members: &mut Map<String, Value>, item: &'static Shape, dice: &mut Dice) {
    let keys: Vec<String> = members.keys().cloned().collect();
    match (dice.below(4), dice.pick(&keys)) {
        (0, Some(key)) => drop(members.remove(key)),
        (1, Some(key)) => {
            if let Some(value) = members.get_mut(key) {
                change(value, item, dice);
            }
        }
        (2, Some(key)) => {
            let mut renamed = key.clone();
            change_text(&mut renamed, dice);
            let value = members.remove(key).unwrap_or_default();
            members.insert(renamed, value);
        }
        _ => drop(members.insert(word(dice), made(item, 2, dice))),
    }
}

fn change_list(items: &mut Vec<Value>, item: &'static Shape, dice: &mut Dice) {
    let at = dice.below(items.len());
    match dice.below(6) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => {
            let to = dice.below(items.len());
            items.swap(at, to);
        }
        2 if !items.is_empty() => items.push(items[at].clone()),
        3 | 4 if !items.is_empty() => change(&mut items[at], item, dice),
        _ => items.insert(at, made(item, 3, dice)),
    }
}

/// Cuts it, joins it with another word, or puts a character into it.
fn change_text(text: &mut String, dice: &mut Dice) {
    let letters: Vec<char> = text.chars().collect();
    let at = dice.below(letters.len() + 1);
    let (head, tail): (String, String) = (
        letters[..at].iter().collect(),
        letters[at..].iter().collect(),
    );
    *text = match dice.below(5) {
        0 => head,
        1 => tail,
        2 => format!("{head}{}{tail}", word(dice)),
        3 if text.len() < 300 => text.repeat(2),
        _ => {
            let odd = [
                '.', '/', '=', ',', ':', '-', '~', '\0', '\n', ' ', '"', '\\', 'ä', '9', 'x',
            ];
            let letter = dice.pick(&odd).copied().unwrap_or('x');
            format!("{head}{letter}{tail}")
        }
    };
}

/// From here on words are those of the field.
fn enter(field: &Field, dice: &mut Dice) {
    let found = OF_FIELDS.iter().find(|(name, _)| *name == field.name);
    dice.words = found.map_or(WORDS, |(_, words)| words);
}

fn made_for(field: &'static Field, depth: usize, dice: &mut Dice) -> Value {
    enter(field, dice);
    made(&field.shape, depth, dice)
}

/// A value of the shape, with at most `depth` levels below it.
fn made(shape: &'static Shape, depth: usize, dice: &mut Dice) -> Value {
    match shape {
        _ if dice.one_in(50) => anything(dice),
        Shape::Text | Shape::Free => word(dice).into(),
        Shape::Number => number(dice),
        Shape::Flag => dice.one_in(2).into(),
        Shape::Word(words) => dice.pick(words).copied().unwrap_or_default().into(),
        Shape::Foreign => anything(dice),
        _ if depth == 0 => Value::Null,
        Shape::Object(fields) => {
            let some = fields.iter().filter(|_| dice.one_in(2));
            let some: Vec<&Field> = some.collect();
            let members = some.iter();
            members
                .map(|field| (field.name.to_owned(), made_for(field, depth - 1, dice)))
                .collect::<Map<_, _>>()
                .into()
        }
        Shape::List(item) => {
            let count = dice.below(4);
            (0..count).map(|_| made(item, depth - 1, dice)).collect()
        }
        Shape::Map(item) => {
            let count = dice.below(4);
            (0..count)
                .map(|_| (word(dice), made(item, depth - 1, dice)))
                .collect::<Map<_, _>>()
                .into()
        }
    }
}

fn word(dice: &mut Dice) -> String {
    let words = if dice.one_in(8) { WORDS } else { dice.words };
    let word = dice.pick(words).or(dice.pick(WORDS));
    word.copied().unwrap_or_default().to_owned()
}

fn number(dice: &mut Dice) -> Value {
    let number = dice.pick(NUMBERS).copied().unwrap_or_default();
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => Value::Null,
    }
}

/// A value of no shape.
fn anything(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => number(dice),
        3 => 1.5.into(),
        4 => word(dice).into(),
        5 => Value::Array(vec![word(dice).into()]),
        6 => Value::Object(Map::new()),
        _ => Value::Object(Map::from_iter([(word(dice), word(dice).into())])),
    }
}

/// Puts a key into the text's object a second time, or an unknown one.
fn repeat_a_key(text: &mut String, value: &Value, dice: &mut Dice) {
    let braces: Vec<usize> = text.match_indices('{').map(|(at, _)| at + 1).collect();
    let keys: Vec<&String> = value.as_object().into_iter().flat_map(Map::keys).collect();
    let key = match dice.pick(&keys) {
        Some(key) if dice.one_in(2) => (*key).clone(),
        _ => word(dice),
    };
    let rest = if value.as_object().is_some_and(Map::is_empty) {
        ""
    } else {
        ","
    };
    if let Some(&at) = dice.pick(&braces) {
        text.insert_str(
            at,
            &format!("{}:{}{rest}", Value::from(key), anything(dice)),
        );
    }
}
