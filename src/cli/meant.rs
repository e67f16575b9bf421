// SPDX-License-Identifier: Apache-2.0
//! The command line as it is meant: checked, with absolute paths, no text left to interpret.
//!
//! Reads the environment and the working directory, which a caller's relative paths start from; changes nothing. Made
//! once by `cli::parse`, taken apart by `main`, and each verb's part handed to its file in `command`.

use std::cell::OnceCell;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::duration::duration;
use super::images::{CheckpointArgs, RestoreArgs};
use super::typed::Words;
use super::update::UpdateArgs;
use super::user::{self, User};
use super::{signal, truth};
use crate::error::{Context, Error, Kind, Result};
use crate::store::{CgroupDriver, ContainerId};
use crate::timings;

/// What a verb does, and to what.
#[derive(Debug)]
pub enum Verb {
    /// Say what would become of a bundle.
    Check(CheckArgs),
    /// Write one down.
    Checkpoint(Box<CheckpointArgs>),
    /// Make a container.
    Create(CreateArgs),
    /// Remove one.
    Delete(DeleteArgs),
    /// Print what it uses, and when it is out of memory.
    Events(EventsArgs),
    /// Run another program in one.
    Exec(Box<ExecArgs>),
    /// Print what is implemented.
    Features,
    /// Signal its init.
    Kill(KillArgs),
    /// List all of them.
    List(ListArgs),
    /// Freeze all its processes.
    Pause(ContainerId),
    /// List its processes.
    Ps(PsArgs),
    /// Make one of what was written down.
    Restore(Box<RestoreArgs>),
    /// Let them go on.
    Resume(ContainerId),
    /// Create, start, wait and remove.
    Run(RunArgs),
    /// Print a compiled seccomp profile, or an answer of it.
    Seccomp(SeccompArgs),
    /// Write a default config.json.
    Spec(SpecArgs),
    /// Let a created container's program run.
    Start(ContainerId),
    /// Print one's state.
    State(ContainerId),
    /// Change its limits.
    Update(Box<UpdateArgs>),
    /// Wait for its end.
    Wait(ContainerId),
}

/// What holds for every verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The directory of the containers' state, absolute.
    pub root: PathBuf,
    /// Whether the user named it.
    pub root_origin: Origin,
    /// Who makes cgroups; of a container that exists, its record says it.
    pub cgroup_driver: CgroupDriver,
    /// Whether to overlook what a user may not do with cgroups.
    pub rootless: Rootless,
    /// Whether the caller is a user by that, perhaps as root of a namespace of their own.
    pub is_user: bool,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
    /// Say where the time went, and where to say it; a flag of some verbs.
    pub timings: Option<timings::Place>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user gave it.
    Given,
    /// Nobody did.
    Default,
}

/// `--rootless`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// Look who the caller is.
    Auto,
    /// The caller is a user.
    Yes,
    /// The caller is root.
    No,
}

/// `check`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckArgs {
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// How it is said.
    pub format: CheckFormat,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
    /// Who would make the cgroup.
    pub driver: CgroupDriver,
    /// Whether the caller is a user, perhaps as root of a namespace of their own.
    pub rootless: bool,
}

/// How the findings of `check` are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// `create`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateArgs {
    /// The new container.
    pub id: ContainerId,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// Where to write init's process ID.
    pub pid_file: Option<PathBuf>,
    /// The socket that takes the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The socket that takes a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Enter the root filesystem without pivot_root.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many file descriptors from 3 on to pass to the container.
    pub preserve_fds: u32,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
    /// Who makes the cgroup.
    pub driver: CgroupDriver,
    /// Whether the caller is a user, perhaps as root of a namespace of their own.
    pub rootless: bool,
}

/// `run`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunArgs {
    /// What `create` would be told.
    pub create: CreateArgs,
    /// Return when the program has started.
    pub detach: bool,
    /// Keep the container when its program has ended.
    pub keep: bool,
    /// Do not adopt the container's orphans.
    pub no_subreaper: bool,
}

/// What `exec` is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecProcess {
    /// The process of this JSON document (perhaps `/dev/fd/N`), as it stands.
    Document(PathBuf),
    /// The container's own process with these changes.
    Command {
        /// The program and its arguments; not empty.
        args: Vec<String>,
        /// Give it a terminal.
        tty: bool,
        /// Whom it runs as.
        user: Option<User>,
        /// Groups to add.
        additional_gids: Vec<u32>,
        /// Environment variables to add, `NAME=VALUE`.
        env: Vec<String>,
        /// Where it starts, in the container.
        cwd: Option<PathBuf>,
        /// Capabilities to add.
        cap: Vec<String>,
        /// Its AppArmor profile.
        apparmor: Option<String>,
        /// Its SELinux label.
        process_label: Option<String>,
        /// Keep it from gaining privileges.
        no_new_privs: bool,
    },
}

/// `exec`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecArgs {
    /// Where.
    pub id: ContainerId,
    /// What.
    pub process: ExecProcess,
    /// Return when the program has started.
    pub detach: bool,
    /// Where to write the program's process ID.
    pub pid_file: Option<PathBuf>,
    /// The socket that takes the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The socket that takes a pidfd of the program.
    pub pidfd_socket: Option<PathBuf>,
    /// How many file descriptors from 3 on to pass to the program.
    pub preserve_fds: u32,
    /// Cgroups below the container's, `[CONTROLLER[,CONTROLLER]:]PATH`.
    pub cgroup: Vec<String>,
    /// Run in a paused container, too.
    pub ignore_paused: bool,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
}

/// `seccomp`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompArgs {
    /// A bundle's directory, or a file with a profile alone; absolute.
    pub profile: PathBuf,
    /// The call to explain, else the whole program is printed.
    pub call: Option<SeccompCall>,
    /// Refuse fields that the specification lacks.
    pub strict: bool,
}

/// A system call, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompCall {
    /// Its name or number.
    pub name: String,
    /// Its arguments; those that are left out are 0.
    pub arguments: [u64; 6],
    /// `SCMP_ARCH_…`; none is this machine's.
    pub arch: Option<String>,
}

/// `kill`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillArgs {
    /// Whose processes.
    pub id: ContainerId,
    /// The signal's number; 0 only asks.
    pub signal: i32,
    /// Every process, not only init.
    pub all: bool,
}

/// `delete`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteArgs {
    /// Which container.
    pub id: ContainerId,
    /// Kill it first, and don't mind if there is none.
    pub force: bool,
}

/// `list`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListArgs {
    /// The IDs, one per line.
    Ids,
    /// A table with a header.
    Table,
    /// One JSON array.
    Json,
}

/// `events`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsArgs {
    /// Whose.
    pub id: ContainerId,
    /// The time between two lines of usage; none is for one line alone.
    pub interval: Option<Duration>,
}

/// `ps`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsArgs {
    /// Whose processes.
    pub id: ContainerId,
    /// How they are listed.
    pub format: PsFormat,
}

/// How `ps` lists processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PsFormat {
    /// As the host's ps does, with these options.
    Table(Vec<String>),
    /// One JSON array of their numbers.
    Json,
}

/// `spec`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecArgs {
    /// Where config.json goes, absolute.
    pub bundle: PathBuf,
    /// Write one that a user can run.
    pub rootless: bool,
}

impl Global {
    pub(super) fn new(words: &Words, caller: &Caller) -> Result<Self> {
        let identity = Identity::look()?;
        let (root, root_origin) = match caller.path(words, "root")? {
            Some(root) => (root, Origin::Given),
            None => (identity.default_root()?, Origin::Default),
        };
        let rootless = match words.needed("rootless")? {
            "auto" => Rootless::Auto,
            text => match truth(text.as_ref()) {
                Some(true) => Rootless::Yes,
                Some(false) => Rootless::No,
                None => return Err(unknown("value of --rootless", text, "true, false or auto")),
            },
        };
        Ok(Self {
            root,
            root_origin,
            cgroup_driver: cgroup_driver(words)?,
            rootless,
            is_user: match rootless {
                Rootless::Yes => true,
                Rootless::No => false,
                Rootless::Auto => identity.is_user(),
            },
            strict: words.on("strict"),
            timings: None,
        })
    }

    /// With the flags of the verb that are not the verb's own business.
    pub(super) fn with(mut self, words: &Words, caller: &Caller) -> Result<Self> {
        self.timings = match words.text("timings")? {
            None => None,
            Some("json") => Some(timings::Place::Stderr),
            Some(text) => match text.strip_prefix("json:") {
                Some(file) if !file.is_empty() => {
                    Some(timings::Place::File(caller.absolute(Path::new(file))?))
                }
                _ => return Err(unknown("form of timings", text, "json or json:FILE")),
            },
        };
        Ok(self)
    }
}

fn cgroup_driver(words: &Words) -> Result<CgroupDriver> {
    let named = match words.text("cgroup-manager")? {
        None => None,
        Some("cgroupfs") => Some(CgroupDriver::Cgroupfs),
        Some("systemd") => Some(CgroupDriver::Systemd),
        Some("disabled") => Some(CgroupDriver::Disabled),
        Some(text) => {
            return Err(unknown(
                "cgroup manager",
                text,
                "cgroupfs, systemd or disabled",
            ));
        }
    };
    match (named, words.on("systemd-cgroup")) {
        (None, true) => Ok(CgroupDriver::Systemd),
        (None | Some(CgroupDriver::Cgroupfs), false) => Ok(CgroupDriver::Cgroupfs),
        (Some(CgroupDriver::Cgroupfs), true) => Err(Error::new(
            Kind::Invalid,
            "--systemd-cgroup and --cgroup-manager cgroupfs exclude each other",
        )),
        (Some(driver), _) => Ok(driver),
    }
}

pub(super) fn unknown(what: &str, text: &str, want: &str) -> Error {
    Error::new(
        Kind::Invalid,
        format!("unknown {what} {text:?}: want {want}"),
    )
}

impl Verb {
    /// What a verb that tells its timings is called in them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Exec(_) => "exec",
            Self::Run(_) => "run",
            Self::Start(_) => "start",
            _ => "",
        }
    }

    pub(super) fn new(name: &str, words: &Words, global: &Global, caller: &Caller) -> Result<Self> {
        let id = || ContainerId::new(words.needed("ID")?);
        let strict = global.strict || words.on("strict");
        Ok(match name {
            "check" => Self::Check(check(words, caller, strict, global)?),
            "checkpoint" => Self::Checkpoint(Box::new(CheckpointArgs::new(words, caller)?)),
            "create" => Self::Create(create(words, caller, strict, global)?),
            "delete" => Self::Delete(DeleteArgs {
                id: id()?,
                force: words.on("force"),
            }),
            "events" => Self::Events(events(words)?),
            "exec" => Self::Exec(Box::new(exec(words, caller, strict)?)),
            "features" => Self::Features,
            "kill" => Self::Kill(KillArgs {
                id: id()?,
                signal: signal::number(words.needed("SIGNAL")?)?,
                all: words.on("all"),
            }),
            "list" => Self::List(match words.needed("format")? {
                "table" | "json" if words.on("quiet") => ListArgs::Ids,
                "table" => ListArgs::Table,
                "json" => ListArgs::Json,
                text => return Err(unknown("format", text, "table or json")),
            }),
            "pause" => Self::Pause(id()?),
            "ps" => Self::Ps(ps(words)?),
            "restore" => {
                let create = create(words, caller, strict, global)?;
                Self::Restore(Box::new(RestoreArgs::new(words, caller, create)?))
            }
            "resume" => Self::Resume(id()?),
            "run" => Self::Run(RunArgs {
                create: create(words, caller, strict, global)?,
                detach: words.on("detach"),
                keep: words.on("keep"),
                no_subreaper: words.on("no-subreaper"),
            }),
            "seccomp" => Self::Seccomp(seccomp(words, caller, strict)?),
            "spec" => Self::Spec(SpecArgs {
                bundle: bundle(words, caller)?,
                rootless: words.on("rootless"),
            }),
            "start" => Self::Start(id()?),
            "state" => Self::State(id()?),
            "update" => {
                let file = caller.path(words, "resources")?;
                Self::Update(Box::new(UpdateArgs::new(words, file, strict)?))
            }
            "wait" => Self::Wait(id()?),
            _ => return Err(unknown("command", name, "one of `corten --help`")),
        })
    }
}

fn check(words: &Words, caller: &Caller, strict: bool, global: &Global) -> Result<CheckArgs> {
    let named = (words.value("bundle"), words.value("BUNDLE"));
    let bundle = match named {
        (Some(_), Some(_)) => {
            let text = "the bundle is given twice, by --bundle and alone";
            return Err(Error::new(Kind::Invalid, text));
        }
        (named, alone) => named.or(alone).map_or(Path::new("."), Path::new),
    };
    Ok(CheckArgs {
        bundle: caller.absolute(bundle)?,
        format: match words.needed("format")? {
            "text" => CheckFormat::Text,
            "json" => CheckFormat::Json,
            text => return Err(unknown("format", text, "text or json")),
        },
        strict,
        driver: global.cgroup_driver,
        rootless: global.is_user,
    })
}

fn seccomp(words: &Words, caller: &Caller, strict: bool) -> Result<SeccompArgs> {
    let profile = caller.path(words, "PROFILE")?.unwrap_or_default();
    let call = words.texts("CALL")?;
    let arch = words.text("arch")?.map(str::to_owned);
    let call = match (words.needed("WHAT")?, call.split_first()) {
        ("compile", None) if arch.is_none() => None,
        ("compile", _) => {
            let text = "a call and its architecture are for `seccomp explain`";
            return Err(Error::new(Kind::Invalid, text));
        }
        ("explain", None) => {
            let text = "`seccomp explain` needs a call, by name or number";
            return Err(Error::new(Kind::Invalid, text));
        }
        ("explain", Some((name, texts))) => {
            let mut arguments = [0; 6];
            if texts.len() > arguments.len() {
                let text = "a system call has at most six arguments";
                return Err(Error::new(Kind::Invalid, text));
            }
            for (argument, text) in arguments.iter_mut().zip(texts) {
                *argument = word(text)?;
            }
            let name = name.clone();
            Some(SeccompCall {
                name,
                arguments,
                arch,
            })
        }
        (text, _) => return Err(unknown("word", text, "compile or explain")),
    };
    Ok(SeccompArgs {
        profile,
        call,
        strict,
    })
}

/// What a register may hold: decimal, or hexadecimal after `0x`.
fn word(text: &str) -> Result<u64> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| {
        unknown(
            "argument",
            text,
            "a number of 64 bits, or 0x and its digits",
        )
    })
}

fn create(words: &Words, caller: &Caller, strict: bool, global: &Global) -> Result<CreateArgs> {
    Ok(CreateArgs {
        driver: global.cgroup_driver,
        rootless: global.is_user,
        id: ContainerId::new(words.needed("ID")?)?,
        bundle: bundle(words, caller)?,
        pid_file: caller.path(words, "pid-file")?,
        console_socket: caller.path(words, "console-socket")?,
        pidfd_socket: caller.path(words, "pidfd-socket")?,
        no_pivot: words.on("no-pivot"),
        no_new_keyring: words.on("no-new-keyring"),
        // `restore` has none.
        preserve_fds: words.text("preserve-fds")?.map_or(Ok(0), preserve_fds)?,
        strict,
    })
}

fn bundle(words: &Words, caller: &Caller) -> Result<PathBuf> {
    // The table has a default for it.
    Ok(caller.path(words, "bundle")?.unwrap_or_default())
}

fn exec(words: &Words, caller: &Caller, strict: bool) -> Result<ExecArgs> {
    let args = words.texts("COMMAND")?;
    let process = match caller.path(words, "process")? {
        Some(_) if !args.is_empty() => {
            return Err(Error::new(
                Kind::Invalid,
                "exec takes a command or --process, not both",
            ));
        }
        // Flags that change the container's own process don't change the document, as with runc: conmon gives --tty.
        Some(document) => ExecProcess::Document(document),
        None if args.is_empty() => {
            return Err(Error::new(
                Kind::Invalid,
                "exec needs a command or --process",
            ));
        }
        None => exec_command(args, words)?,
    };
    Ok(ExecArgs {
        id: ContainerId::new(words.needed("ID")?)?,
        process,
        detach: words.on("detach"),
        pid_file: caller.path(words, "pid-file")?,
        console_socket: caller.path(words, "console-socket")?,
        pidfd_socket: caller.path(words, "pidfd-socket")?,
        preserve_fds: preserve_fds(words.needed("preserve-fds")?)?,
        cgroup: words.texts("cgroup")?,
        ignore_paused: words.on("ignore-paused"),
        strict,
    })
}

fn exec_command(args: Vec<String>, words: &Words) -> Result<ExecProcess> {
    let gids = words.texts("additional-gids")?;
    let owned = |name| Ok::<_, Error>(words.text(name)?.map(str::to_owned));
    Ok(ExecProcess::Command {
        args,
        tty: words.on("tty"),
        user: words.text("user")?.map(user::user).transpose()?,
        additional_gids: gids
            .iter()
            .map(|gid| user::group(gid))
            .collect::<Result<_>>()?,
        env: words.texts("env")?,
        cwd: words.value("cwd").map(PathBuf::from),
        cap: words.texts("cap")?,
        apparmor: owned("apparmor")?,
        process_label: owned("process-label")?,
        no_new_privs: words.on("no-new-privs"),
    })
}

fn events(words: &Words) -> Result<EventsArgs> {
    let text = words.needed("interval")?;
    let interval = duration(text)
        .ok_or_else(|| unknown("duration", text, "a number and a unit, like 5s or 500ms"))?;
    if interval.is_zero() {
        let text = "duration interval must be greater than 0";
        return Err(Error::new(Kind::Invalid, text));
    }
    Ok(EventsArgs {
        id: ContainerId::new(words.needed("ID")?)?,
        interval: (!words.on("stats")).then_some(interval),
    })
}

fn ps(words: &Words) -> Result<PsArgs> {
    let mut format = words.needed("format")?.to_owned();
    let mut options = words.texts("OPTION")?;
    // No ps has these among its own, so that `ps ID -f json` can only mean one thing.
    let is_flag = |word: &String| ["-f", "--format"].contains(&&**word);
    let is_format = |word: &String| ["json", "table"].contains(&&**word);
    let mut pairs = options.windows(2);
    if let Some(at) = pairs.position(|pair| matches!(pair, [a, b] if is_flag(a) && is_format(b))) {
        format = options.drain(at..at + 2).next_back().unwrap_or(format);
    } else if let Some(at) = options
        .iter()
        .position(|word| ["--format=json", "--format=table"].contains(&&**word))
    {
        format = options.remove(at).split_off("--format=".len());
    }
    Ok(PsArgs {
        id: ContainerId::new(words.needed("ID")?)?,
        format: match &*format {
            "table" => PsFormat::Table(options),
            "json" => PsFormat::Json,
            text => return Err(unknown("format", text, "table or json")),
        },
    })
}

fn preserve_fds(text: &str) -> Result<u32> {
    // A descriptor is an i32, and the first one to pass is 3.
    text.parse()
        .ok()
        .filter(|count| *count <= 1 << 20)
        .ok_or_else(|| unknown("number of file descriptors", text, "0 to 1048576"))
}

/// The caller, as far as the meaning of its words depends on it; asked when it does, as most words don't.
#[derive(Debug, Default)]
pub(super) struct Caller {
    cwd: OnceCell<PathBuf>,
}

impl Caller {
    /// The path that the flag `name` gives.
    pub fn path(&self, words: &Words, name: &str) -> Result<Option<PathBuf>> {
        let path = words.value(name).map(Path::new);
        path.map(|path| self.absolute(path)).transpose()
    }

    /// Absolute, without `.` and empty components. `..` stays for the kernel: after a symlink it isn't what it looks.
    pub fn absolute(&self, path: &Path) -> Result<PathBuf> {
        let whole = if path.is_absolute() {
            path.to_owned()
        } else {
            self.cwd()?.join(path)
        };
        let meant = |component: &Component<'_>| *component != Component::CurDir;
        Ok(whole.components().filter(meant).collect())
    }

    fn cwd(&self) -> Result<&Path> {
        if let Some(cwd) = self.cwd.get() {
            return Ok(cwd);
        }
        let cwd = corten_sys::fs::current_dir().context("find the working directory")?;
        Ok(self.cwd.get_or_init(|| cwd))
    }
}

/// Who the caller is, as far as the default root depends on it.
#[derive(Debug)]
pub(super) struct Identity {
    pub euid: u32,
    /// `XDG_RUNTIME_DIR`, if it is set and not empty.
    pub runtime_dir: Option<PathBuf>,
    /// Root of a user namespace that a user made: `USER` does not name root.
    pub user_namespace: bool,
}

impl Identity {
    fn look() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let runtime_dir = set("XDG_RUNTIME_DIR").map(PathBuf::from);
        // Engines call some verbs with XDG_RUNTIME_DIR and nothing else.
        let named_user = set("USER").is_none_or(|user| user != "root");
        let euid = corten_sys::process::uid_at_start();
        let maybe = euid == 0 && named_user && runtime_dir.is_some();
        Ok(Self {
            user_namespace: maybe && in_user_namespace()?,
            euid,
            runtime_dir,
        })
    }

    fn is_user(&self) -> bool {
        self.euid != 0 || self.user_namespace
    }

    /// runc's rule, with a directory of our own.
    pub fn default_root(&self) -> Result<PathBuf> {
        match &self.runtime_dir {
            Some(directory) if self.is_user() => Ok(directory.join("corten")),
            None if self.euid != 0 => Err(Error::new(
                Kind::Invalid,
                "no directory for the containers' state: XDG_RUNTIME_DIR is not set",
            )
            .remedy("set it, or give --root")),
            _ => Ok(PathBuf::from("/run/corten")),
        }
    }
}

/// Whether uid 0 here is somebody else on the host.
fn in_user_namespace() -> Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")
        .map_err(|error| Error::new(Kind::System, error.to_string()))
        .context("read /proc/self/uid_map")?;
    Ok(map.split_whitespace().ne(["0", "0", "4294967295"]))
}
