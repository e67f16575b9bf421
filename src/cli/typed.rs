// SPDX-License-Identifier: Apache-2.0
//! The command line as it is typed: runc's verbs and flags as one table, and clap's commands made from it.
//!
//! Pure. A table, not clap's derive: only the verb that was typed becomes a command with flags, which spares every verb
//! the others, and the program the code that would build them. What the words mean is said in `meant`.

use std::ffi::{OsStr, OsString};

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, Kind, Result};

/// A flag of a verb, or a word of it that is no flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name; after two dashes, unless it is a word.
    pub name: &'static str,
    /// Its letter, after one dash.
    pub letter: Option<char>,
    /// What its value is called in the help; `None` for a switch.
    pub value: Option<&'static str>,
    default: Option<&'static str>,
    count: Count,
    help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Once,
    Many,
    /// A word that must be there.
    Required,
    /// A word that may be left out.
    Optional,
    /// All words that are left.
    Rest,
}

/// A switch.
const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        letter: None,
        value: None,
        default: None,
        count: Count::Once,
        help,
    }
}

/// A flag with a value.
const fn option(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag {
        value: Some(value),
        ..switch(name, help)
    }
}

/// A word that is no flag.
const fn word(name: &'static str, count: Count, help: &'static str) -> Flag {
    Flag {
        count,
        ..option(name, name, help)
    }
}

impl Flag {
    const fn letter(mut self, letter: char) -> Self {
        self.letter = Some(letter);
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn many(mut self) -> Self {
        self.count = Count::Many;
        self
    }

    /// Whether it is typed with dashes.
    pub const fn has_dashes(&self) -> bool {
        matches!(self.count, Count::Once | Count::Many)
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .help(self.help)
            .value_parser(ValueParser::os_string());
        let arg = match self.count {
            Count::Once if self.value.is_none() => arg
                .value_parser(ValueParser::bool())
                .action(ArgAction::SetTrue),
            Count::Once | Count::Optional => arg.action(ArgAction::Set),
            Count::Required => arg.action(ArgAction::Set).required(true),
            Count::Many => arg.action(ArgAction::Append),
            Count::Rest => arg.action(ArgAction::Append).num_args(0..),
        };
        let arg = match self.value {
            Some(value) => arg.value_name(value),
            None => arg,
        };
        let arg = if self.has_dashes() {
            arg.long(self.name).short(self.letter)
        } else {
            arg
        };
        match self.default {
            Some(default) => arg.default_value(default),
            None => arg,
        }
    }
}

/// What may follow the program's name before the verb.
pub const GLOBAL: &[Flag] = &[
    switch("debug", "Log debug messages too"),
    option(
        "log",
        "FILE",
        "Write log messages to this file instead of stderr",
    ),
    option(
        "log-format",
        "FORMAT",
        "How log messages are written: text or json",
    )
    .default("text"),
    option(
        "root",
        "DIR",
        "The directory of the containers' state [default: /run/corten, $XDG_RUNTIME_DIR/corten for a user]",
    ),
    switch("systemd-cgroup", "Have systemd make the cgroups"),
    option(
        "cgroup-manager",
        "MANAGER",
        "Who makes the cgroups: cgroupfs, systemd or disabled",
    ),
    option(
        "rootless",
        "WHETHER",
        "Overlook what a user may not do with cgroups: true, false or auto",
    )
    .default("auto"),
    STRICT,
    switch("version", "Print the version").letter('v'),
];

/// Global, so that an engine's settings can ask for it, and of each verb that reads a document.
const STRICT: Flag = switch("strict", "Refuse fields that the specification lacks");

const ID: Flag = word("ID", Count::Required, "The container's ID");
const DETACH: Flag = switch("detach", "Return when the program has started").letter('d');
const PID_FILE: Flag = option("pid-file", "FILE", "Write the process ID to this file");
const CONSOLE_SOCKET: Flag = option(
    "console-socket",
    "SOCKET",
    "Send the terminal's master to this unix socket",
);
const PIDFD_SOCKET: Flag = option(
    "pidfd-socket",
    "SOCKET",
    "Send a pidfd of the process to this unix socket",
);
const PRESERVE_FDS: Flag = option(
    "preserve-fds",
    "N",
    "Pass this many file descriptors on, from 3",
)
.default("0");

const TIMINGS: Flag = option(
    "timings",
    "json[:FILE]",
    "Say where the time went, as a line of JSON on stderr or at the end of this file",
);

const CREATE: &[Flag] = &[
    option("bundle", "DIR", "The bundle's directory")
        .letter('b')
        .default("."),
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    switch("no-pivot", "Enter the root filesystem without pivot_root"),
    switch("no-new-keyring", "Stay in the caller's session keyring"),
    PRESERVE_FDS,
    TIMINGS,
    STRICT,
    ID,
];

const RUN: &[Flag] = &[
    DETACH,
    switch("keep", "Keep the container when its program has ended"),
    switch("no-subreaper", "Do not adopt the container's orphans"),
];

/// What CRIU is told, of both `checkpoint` and `restore`.
const IMAGES: &[Flag] = &[
    option(
        "image-path",
        "DIR",
        "The directory of the checkpoint [default: ./checkpoint]",
    ),
    option(
        "work-path",
        "DIR",
        "The directory of CRIU's log [default: that of the checkpoint]",
    ),
    switch("tcp-established", "Keep open TCP connections"),
    switch("ext-unix-sk", "Keep unix sockets that lead out"),
    switch("shell-job", "Keep the terminal of a shell's job"),
    switch("lazy-pages", "Bring memory over when it is used"),
    switch("file-locks", "Keep file locks"),
    option(
        "manage-cgroups-mode",
        "MODE",
        "What becomes of cgroups below the container's: soft, full, strict or ignore",
    ),
    option(
        "empty-ns",
        "KIND",
        "Leave out what is in this namespace; network is always left out",
    )
    .many(),
    switch("auto-dedup", "Free memory in images that later ones have"),
];

const CHECKPOINT: &[Flag] = &[
    option(
        "parent-path",
        "DIR",
        "The checkpoint before, by a pre-dump; relative to the directory of this one",
    ),
    switch("leave-running", "Let the container run on"),
    switch(
        "tcp-skip-in-flight",
        "Leave out TCP connections that are being made",
    ),
    option(
        "status-fd",
        "N",
        "Write a NUL byte there once lazy pages are served",
    ),
    option(
        "page-server",
        "ADDRESS:PORT",
        "Send memory to CRIU's page server there; with lazy pages, serve it there",
    ),
    switch(
        "pre-dump",
        "Write down the memory alone, and let the container run on",
    ),
    ID,
];

const RESTORE: &[Flag] = &[
    option("bundle", "DIR", "The bundle's directory")
        .letter('b')
        .default("."),
    DETACH,
    CONSOLE_SOCKET,
    PID_FILE,
    switch("no-subreaper", "Do not adopt the container's orphans"),
    switch(
        "no-pivot",
        "Changes nothing: CRIU enters the root filesystem its own way",
    ),
    switch("no-new-keyring", "Stay in the caller's session keyring"),
    option("lsm-profile", "TYPE:PROFILE", "Restore under this profile"),
    option(
        "lsm-mount-context",
        "CONTEXT",
        "Mount with this SELinux context",
    ),
    STRICT,
    ID,
];

const EXEC: &[Flag] = &[
    switch("tty", "Give the program a terminal").letter('t'),
    DETACH,
    option("user", "UID[:GID]", "Run as this user").letter('u'),
    option("additional-gids", "GID", "Add a group")
        .letter('g')
        .many(),
    option("env", "NAME=VALUE", "Set an environment variable")
        .letter('e')
        .many(),
    option("cwd", "DIR", "Start in this directory of the container"),
    option("process", "FILE", "Read the process from this JSON file").letter('p'),
    PID_FILE,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    option("cap", "CAPABILITY", "Add a capability")
        .letter('c')
        .many(),
    option("apparmor", "PROFILE", "Run under this AppArmor profile"),
    option("process-label", "LABEL", "Run under this SELinux label"),
    switch("no-new-privs", "Keep the program from gaining privileges"),
    PRESERVE_FDS,
    option(
        "cgroup",
        "[CONTROLLER[,CONTROLLER]:]PATH",
        "Run in this cgroup below the container's",
    )
    .many(),
    switch("ignore-paused", "Run in a paused container, too"),
    TIMINGS,
    STRICT,
    ID,
    word("COMMAND", Count::Rest, "The program and its arguments"),
];

const EVENTS: &[Flag] = &[
    option(
        "interval",
        "DURATION",
        "Time between two lines of usage, like 500ms or 1m30s",
    )
    .default("5s"),
    switch("stats", "Print one line of usage, and that is all"),
    ID,
];

const CHECK: &[Flag] = &[
    option("bundle", "DIR", "The bundle's directory").letter('b'),
    option("format", "FORMAT", "text or json")
        .letter('f')
        .default("text"),
    STRICT,
    word(
        "BUNDLE",
        Count::Optional,
        "The bundle's directory [default: .]",
    ),
];

const KILL: &[Flag] = &[
    switch("all", "Send it to every process of the container").letter('a'),
    ID,
    word("SIGNAL", Count::Optional, "A signal's name or number").default("SIGTERM"),
];

const DELETE: &[Flag] = &[
    switch("force", "Kill the container first, if it still runs").letter('f'),
    ID,
];

const LIST: &[Flag] = &[
    option("format", "FORMAT", "table or json")
        .letter('f')
        .default("table"),
    switch("quiet", "Print the IDs only").letter('q'),
];

const PS: &[Flag] = &[
    option("format", "FORMAT", "table or json")
        .letter('f')
        .default("table"),
    ID,
    word(
        "OPTION",
        Count::Rest,
        "For the host's ps, which the table is made with [default: -ef]",
    ),
];

const SECCOMP: &[Flag] = &[
    option(
        "arch",
        "ARCH",
        "The call's architecture, SCMP_ARCH_... [default: this machine's]",
    ),
    STRICT,
    word("WHAT", Count::Required, "compile or explain"),
    word(
        "PROFILE",
        Count::Required,
        "A bundle's directory, or a file with the seccomp section of a config.json",
    ),
    word(
        "CALL",
        Count::Rest,
        "For explain: a call by name or number, and its arguments",
    ),
];

const UPDATE: &[Flag] = &[
    option(
        "resources",
        "FILE",
        "Read the limits from this JSON file, - is stdin: config.json's linux.resources, as far as it changes",
    )
    .letter('r'),
    option(
        "blkio-weight",
        "WEIGHT",
        "Share of block devices, 10 to 1000",
    ),
    option("cpu-period", "MICROSECONDS", "Period of the CPU quota"),
    option(
        "cpu-quota",
        "MICROSECONDS",
        "CPU time in each period; -1 is no limit",
    ),
    option(
        "cpu-burst",
        "MICROSECONDS",
        "CPU time that may be saved up from period to period",
    ),
    option("cpu-share", "SHARES", "Share of CPU time, 2 to 262144"),
    option(
        "cpu-idle",
        "0|1",
        "1: run only while nobody else wants to (SCHED_IDLE)",
    ),
    option("cpu-rt-period", "MICROSECONDS", "Period of realtime"),
    option(
        "cpu-rt-runtime",
        "MICROSECONDS",
        "Realtime in each of its periods",
    ),
    option("cpuset-cpus", "LIST", "CPUs to run on, like 0-3,7"),
    option("cpuset-mems", "LIST", "Memory nodes to use"),
    option(
        "memory",
        "BYTES",
        "Limit of memory, with a unit (k, m, g) or without; -1 is no limit",
    ),
    option(
        "memory-reservation",
        "BYTES",
        "Memory that is left to it where memory is short",
    ),
    option(
        "memory-swap",
        "BYTES",
        "Limit of memory and swap together; -1 is no limit",
    ),
    option("pids-limit", "N", "Limit of tasks; -1 is no limit"),
    option(
        "l3-cache-schema",
        "SCHEMA",
        "Class of L3 cache, as resctrl has it",
    ),
    option(
        "mem-bw-schema",
        "SCHEMA",
        "Class of memory bandwidth, as resctrl has it",
    ),
    option("kernel-memory", "BYTES", "Obsolete, changes nothing"),
    option("kernel-memory-tcp", "BYTES", "Obsolete, changes nothing"),
    STRICT,
    ID,
];

const SPEC: &[Flag] = &[
    option("bundle", "DIR", "Where to write it")
        .letter('b')
        .default("."),
    switch("rootless", "Write one that a user can run"),
];

/// A verb as it is typed.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    about: &'static str,
    /// Its flags and words.
    flags: [&'static [Flag]; 2],
}

const fn verb(name: &'static str, flags: &'static [Flag], about: &'static str) -> Verb {
    Verb {
        name,
        about,
        flags: [flags, &[]],
    }
}

/// All of them.
pub const VERBS: &[Verb] = &[
    verb(
        "check",
        CHECK,
        "Say what `create` would refuse of a bundle, or do by halves, and why",
    ),
    Verb {
        name: "checkpoint",
        about: "Write a running container down, to be restored later or elsewhere, and remove it",
        flags: [IMAGES, CHECKPOINT],
    },
    verb(
        "create",
        CREATE,
        "Make a container, whose program waits for `start`",
    ),
    verb(
        "delete",
        DELETE,
        "Remove a stopped container and all that it held",
    ),
    verb(
        "events",
        EVENTS,
        "Print what a container uses, and when it is out of memory, as lines of JSON",
    ),
    verb("exec", EXEC, "Run another program in a running container"),
    verb("features", &[], "Print what is implemented, as JSON"),
    verb("kill", KILL, "Send a signal to a container's init"),
    verb("list", LIST, "List the containers"),
    verb(
        "pause",
        &[ID],
        "Freeze every process of a container, until `resume`",
    ),
    verb("ps", PS, "List the processes of a container"),
    Verb {
        name: "restore",
        about: "Make a container of a checkpoint, wait for its end and remove it",
        flags: [IMAGES, RESTORE],
    },
    verb("resume", &[ID], "Let a paused container's processes go on"),
    Verb {
        name: "run",
        about: "Create and start a container, wait for its end and remove it",
        flags: [CREATE, RUN],
    },
    verb(
        "seccomp",
        SECCOMP,
        "Print what a seccomp profile is compiled to, or how it answers a call",
    ),
    verb("spec", SPEC, "Write a default config.json"),
    verb(
        "start",
        &[TIMINGS, ID],
        "Let a created container's program run",
    ),
    verb("state", &[ID], "Print the state of a container"),
    verb("update", UPDATE, "Change the limits of a container"),
    verb(
        "wait",
        &[ID],
        "Wait for the end of a container's program, and end as it did",
    ),
];

impl Verb {
    /// The verb called `name`.
    pub fn find(name: &OsStr) -> Option<&'static Self> {
        VERBS.iter().find(|verb| name == verb.name)
    }

    /// Its flags and words.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.into_iter().flatten()
    }
}

/// clap's command for the program; of the verbs only `typed` has its flags.
pub fn command(typed: Option<&Verb>) -> Command {
    command_where(|verb| typed.is_some_and(|typed| typed.name == verb.name))
}

/// The same, in which the verbs that `is_whole` holds for have their flags.
///
/// Of a flag that is repeated the last counts, as with runc: podman says `--leave-running` twice.
pub fn command_where(is_whole: impl Fn(&Verb) -> bool) -> Command {
    let verbs = VERBS.iter().map(|verb| {
        let command = Command::new(verb.name).about(verb.about);
        if is_whole(verb) {
            command
                .args_override_self(true)
                .args(verb.flags().map(Flag::arg))
        } else {
            command
        }
    });
    Command::new("corten")
        .bin_name("corten")
        .about(
            "Runs containers as the OCI runtime specification describes them. A bundle, a directory with a config.json \
             and a root filesystem, becomes a container; no daemon stays behind.",
        )
        .disable_help_subcommand(true)
        .args_override_self(true)
        .args(GLOBAL.iter().map(Flag::arg))
        .subcommands(verbs)
}

/// What was typed, by the names of the table.
#[derive(Debug)]
pub struct Words(pub ArgMatches);

impl Words {
    /// Whether the switch was given.
    pub fn on(&self, name: &str) -> bool {
        matches!(self.0.try_get_one::<bool>(name), Ok(Some(true)))
    }

    /// The value, if it was given or has a default.
    pub fn value(&self, name: &str) -> Option<&OsString> {
        self.0.try_get_one(name).ok().flatten()
    }

    /// The value as text.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.value(name).map(|value| text(name, value)).transpose()
    }

    /// The value as text, empty if there is none.
    pub fn needed(&self, name: &str) -> Result<&str> {
        self.text(name).map(Option::unwrap_or_default)
    }

    /// Every value, in order.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let values = self.0.try_get_many::<OsString>(name).ok().flatten();
        values
            .into_iter()
            .flatten()
            .map(|value| text(name, value).map(str::to_owned))
            .collect()
    }
}

fn text<'a>(name: &str, value: &'a OsStr) -> Result<&'a str> {
    value.to_str().ok_or_else(|| {
        let text = format!("the value of {name} is not UTF-8: {value:?}");
        Error::new(Kind::Invalid, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_table() {
        for verb in VERBS {
            command(Some(verb)).debug_assert();
        }
        command(None).debug_assert();
    }

    /// `meant` asks by name, and a name that isn't in the table would only ever be absent.
    #[test]
    fn every_name_that_meant_asks_for_is_in_the_table() {
        let asked = concat!(
            include_str!("images.rs"),
            include_str!("meant.rs"),
            include_str!("update.rs")
        );
        let mut count = 0;
        for call in [
            "words.on(\"",
            "words.value(\"",
            "words.text(\"",
            "words.texts(\"",
            "words.needed(\"",
            "path(words, \"",
            "owned(\"",
            "given(\"",
        ] {
            for rest in asked.split(call).skip(1) {
                let name = rest.split('"').next().unwrap();
                let known = VERBS.iter().flat_map(|verb| verb.flags()).chain(GLOBAL);
                assert!(known.into_iter().any(|flag| flag.name == name), "{name}");
                count += 1;
            }
        }
        assert!(count > 30, "{count}");
    }
}
