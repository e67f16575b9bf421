// SPDX-License-Identifier: Apache-2.0
//! The process: what is executed, as whom, with which rights. The same for init and for `exec`. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use corten_sys::process::Scheduling;

use crate::bundle::{crun, names, spec};
use crate::error::{Error, Result};
use crate::plan::scheduling::{self, Affinity};

/// A process to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// The working directory, seen from inside.
    pub cwd: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Whose they are.
    pub groups_from: Groups,
    /// Mask of permission bits.
    pub umask: u32,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// Limits, applied from outside.
    pub limits: Vec<Limit>,
    /// No execve grants privileges any more.
    pub no_new_privileges: bool,
    /// How likely the kernel's out-of-memory killer takes it.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile at execve.
    pub apparmor: Option<String>,
    /// SELinux label at execve.
    pub selinux: Option<String>,
    /// A terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Scheduling attributes.
    pub scheduling: Option<Scheduling>,
    /// The CPUs of the process, if it is `exec`'s.
    pub affinity: Affinity,
    /// I/O priority: (class, level).
    pub io_priority: Option<(u32, u32)>,
    /// Where messages point to: empty for config.json's process, which is at `/process` there.
    pub pointer: &'static str,
}

impl Process {
    /// Whether it has a limit of open files of its own.
    pub fn limits_open_files(&self) -> bool {
        let mut names = self.limits.iter().map(|limit| limit.resource as usize);
        names.any(|resource| names::RLIMITS.get(resource) == Some(&"RLIMIT_NOFILE"))
    }
}

/// A terminal for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Rows and columns, if given.
    pub size: Option<(u16, u16)>,
}

/// The five sets, by capability number (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// What execve can ever give.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What may be had.
    pub permitted: u64,
    /// What execve may keep for files that ask.
    pub inheritable: u64,
    /// What execve keeps for any file.
    pub ambient: u64,
}

impl Capabilities {
    /// Leaves out what is not among those that the caller has, `own`, and says what that was. Of the bounding set, too, from
    /// which execve gives root what it has not got.
    pub fn limit_to(&mut self, own: u64) -> u64 {
        let wanted = self.bounding | self.effective | self.permitted | self.inheritable;
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.permitted,
            &mut self.inheritable,
            &mut self.ambient,
        ] {
            *set &= own;
        }
        wanted & !own
    }
}

/// One resource limit (getrlimit(2)); `None` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The kernel's number.
    pub resource: u32,
    /// Enforced.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

/// Where supplementary groups come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// config.json, or the document of exec.
    Document,
    /// The caller has them, and they stay (crun's annotation).
    Caller,
}

impl Process {
    /// With the groups that the container's `annotations` leave it.
    pub fn with_groups_by(self, annotations: &BTreeMap<String, String>) -> Self {
        match crun::keeps_groups(annotations) {
            true => Self {
                groups: Vec::new(),
                groups_from: Groups::Caller,
                ..self
            },
            false => self,
        }
    }
}

/// What a process gets that asks for no mask of its own (as runc has it).
const DEFAULT_UMASK: u32 = 0o022;

/// Decides. `pointer` is where `process` stands in its document.
pub fn plan(process: &spec::Process, pointer: &'static str) -> Result<Process> {
    let limits = process.rlimits.iter().enumerate();
    let size = process.console_size.as_ref();
    let sets = process.capabilities.as_ref();
    Ok(Process {
        args: process.args.clone(),
        env: last_of_each(&process.env),
        cwd: PathBuf::from(&process.cwd),
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        groups_from: Groups::Document,
        umask: process.user.umask.unwrap_or(DEFAULT_UMASK),
        capabilities: sets.map(capabilities).unwrap_or_default(),
        limits: limits
            .map(|(index, limit)| one_limit(limit, || format!("{pointer}/rlimits/{index}")))
            .collect::<Result<_>>()?,
        no_new_privileges: process.no_new_privileges,
        oom_score_adj: process.oom_score_adj,
        apparmor: label(process.apparmor_profile.as_deref()),
        selinux: label(process.selinux_label.as_deref()),
        terminal: process.terminal.then(|| Terminal {
            size: size.map(|size| (cells(size.height), cells(size.width))),
        }),
        affinity: scheduling::affinity(process, pointer)?,
        scheduling: scheduling::attributes(process, pointer)?,
        io_priority: scheduling::io_priority(process, pointer)?,
        pointer,
    })
}

/// Of several values of one variable the last, in the first one's place: getenv(3) would find the first.
pub fn last_of_each(env: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    let mut places = BTreeMap::new();
    for entry in env {
        match places.entry(name(entry)) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(entry.clone());
            }
            Entry::Occupied(place) => kept[*place.get()].clone_from(entry),
        }
    }
    kept
}

fn label(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The kernel counts rows and columns in 16 bits.
fn cells(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn one_limit(limit: &spec::PosixRlimit, pointer: impl Fn() -> String) -> Result<Limit> {
    let Some(number) = names::rlimit(&limit.typ) else {
        return Err(Error::invalid(
            pointer(),
            format!("unknown limit {:?}", limit.typ),
        ));
    };
    let value = |value: u64| (value != u64::MAX).then_some(value);
    Ok(Limit {
        resource: u32::from(number),
        soft: value(limit.soft),
        hard: value(limit.hard),
    })
}

fn capabilities(sets: &spec::LinuxCapabilities) -> Capabilities {
    // A name that is not known was warned of.
    let set = |names: &[String]| {
        let numbers = names.iter().filter_map(|name| names::capability(name));
        numbers.fold(0, |bits, number| bits | 1_u64 << number)
    };
    let permitted = set(&sets.permitted);
    let inheritable = set(&sets.inheritable);
    Capabilities {
        bounding: set(&sets.bounding),
        effective: set(&sets.effective),
        permitted,
        inheritable,
        // The kernel raises only what is in both (capabilities(7)). Default documents of older tools ask for more and
        // never got it.
        ambient: set(&sets.ambient) & permitted & inheritable,
    }
}
