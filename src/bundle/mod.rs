// SPDX-License-Identifier: Apache-2.0
//! A bundle: the directory, its config.json, and every rule of the spec. Runs in the verb's own process with the caller's
//! privileges, before anything is made; called by `command`.
//!
//! Bytes become types in `parse.rs`, the text is held against the table of fields (`support.rs`, walked by `scan.rs`), the
//! types against the table of rules (`validate.rs`). `create` takes the first fault, [`Bundle::examine`] shows them all.

pub mod finding;
pub mod list;
pub mod names;
mod parse;
mod rules;
mod scan;
pub mod spec;
pub mod support;
pub mod validate;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::fs::{self, FileType, Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::seccomp::model::Wanted;
use finding::{Finding, Report, Severity, Unknown};
use spec::{LinuxResources, Process, Spec};

pub use rules::crun;
pub use rules::idmaps::MAPPINGS_MAX;
pub use rules::rdt::{is_rdt_group, schemata_lines};
pub use rules::seccomp::wanted as wanted_filter;
pub use rules::sysctl::{sysctl_namespace, sysctl_path};
pub use scan::escaped as pointer_part;

/// The largest config.json: a hundred times the largest that engines write.
const CONFIG_MAX: usize = 16 << 20;

/// A bundle whose config.json was read, understood and found to obey every rule of `validate.rs`, and to ask for nothing
/// that this build does not do. What only the host knows (that the root is there, what a path leads to) is not proven.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute.
    pub path: PathBuf,
    /// config.json, as it is.
    pub config: Vec<u8>,
    /// config.json, as it is meant.
    pub spec: Spec,
    /// What is odd about it, for the log.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads and checks the bundle in the directory `path`.
    pub fn open(path: &Path, unknown: Unknown) -> Result<Self> {
        let (bundle, findings) = Self::examine(path, unknown)?;
        let warnings = settle(&findings).with_context(|| bundle.name())?;
        let warnings = warnings
            .iter()
            .map(|warning| format!("config.json {warning}"))
            .collect();
        Ok(Self { warnings, ..bundle })
    }

    /// Reads the bundle in the directory `path`, and every finding about it, warnings and all: not the proof that a
    /// bundle otherwise is. An error if config.json can't be read at all or does not fit the types.
    pub fn examine(path: &Path, unknown: Unknown) -> Result<(Self, Vec<Finding>)> {
        let (path, config) = read(path)?;
        let mut bundle = Self {
            path,
            config,
            spec: Spec::default(),
            warnings: Vec::new(),
        };
        let (spec, findings) = judge(&bundle.config, unknown).with_context(|| bundle.name())?;
        bundle.spec = spec;
        Ok((bundle, findings))
    }

    fn name(&self) -> String {
        format!("bundle {}", self.path.display())
    }
}

/// Reads the text of a config.json and holds it against every rule; the findings are in the order of the rules.
pub fn judge(config: &[u8], unknown: Unknown) -> Result<(Spec, Vec<Finding>)> {
    let mut report = Report::new(unknown);
    let mut spec = parse::document(config, &support::CONFIG, &mut report)?;
    crun::translate(&mut spec, &mut report);
    validate::check(&spec, &mut report);
    Ok((spec, report.finish()))
}

/// Reads the text of a config.json that was checked before, when its container was made.
pub fn parse(config: &[u8]) -> Result<Spec> {
    let mut report = Report::default();
    let spec = parse::document(config, &support::CONFIG, &mut report)?;
    settle(&report.finish()).map(|_warnings| spec)
}

/// Reads and checks a process document, as `exec --process` takes it, and says what is odd about it. Pointers start at
/// the document's root.
pub fn parse_process(text: &[u8], unknown: Unknown) -> Result<(Process, Vec<String>)> {
    let mut report = Report::new(unknown);
    let process = parse::document(text, &support::PROCESS, &mut report)?;
    validate::check_process("", &process, &mut report);
    settle(&report.finish()).map(|warnings| (process, warnings))
}

/// Reads the document of `update`, the section `linux.resources` by itself, and says what is odd about it. Pointers start
/// at the document's root. Only its form is checked: what it means, it means together with the container's config.json.
pub fn parse_resources(text: &[u8], unknown: Unknown) -> Result<(LinuxResources, Vec<String>)> {
    let mut report = Report::new(unknown);
    let resources = parse::document(text, &support::LIMITS, &mut report)?;
    settle(&report.finish()).map(|warnings| (resources, warnings))
}

/// Reads and checks a seccomp profile by itself, the section of a config.json, and says what is odd about it. Pointers
/// start at the document's root.
pub fn parse_profile(text: &[u8], unknown: Unknown) -> Result<(Wanted, Vec<String>)> {
    let mut report = Report::new(unknown);
    let section = parse::document(text, &support::PROFILE, &mut report)?;
    let wanted = rules::seccomp::read("", &section, &mut report);
    settle(&report.finish()).map(|warnings| (wanted, warnings))
}

/// Checks a process that the command line made of config.json's; what is only odd was said when the container was made.
pub fn check_process(process: &Process) -> Result<()> {
    let mut report = Report::default();
    validate::check_process("/process", process, &mut report);
    settle(&report.finish()).map(|_warnings| ())
}

/// The directory's absolute path, and its config.json. Never waits: a FIFO or a device there is refused.
fn read(path: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let path = std::path::absolute(path).map_err(|error| {
        Error::new(
            Kind::Invalid,
            format!("find bundle {}: {error}", path.display()),
        )
    })?;
    let invalid = |error: Error| error.kind_is(Kind::Invalid);
    let directory = fs::open_dir(&path)
        .with_context(|| format!("open bundle {}", path.display()))
        .map_err(invalid)?;
    // The file is the caller's own and may be a link; nobody in a container can write here.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let config = fs::open(
        directory.as_fd(),
        Path::new("config.json"),
        flags,
        Mode::empty(),
    )
    .map_err(Error::from)
    .and_then(|file| {
        let stat = fs::stat(file.as_fd())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(Kind::Invalid, "it is not a regular file"));
        }
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > CONFIG_MAX {
            let text = format!("it has {size} bytes, at most {CONFIG_MAX} are read");
            return Err(Error::new(Kind::Invalid, text));
        }
        Ok(fs::read_regular(file.as_fd(), size)?)
    })
    .with_context(|| format!("read {}", path.join("config.json").display()))
    .map_err(invalid)?;
    Ok((path, config))
}

/// The first fault as an error, or all warnings.
fn settle(findings: &[Finding]) -> Result<Vec<String>> {
    if let Some(error) = findings.iter().find_map(Finding::error) {
        return Err(error);
    }
    let warnings = findings
        .iter()
        .filter(|finding| matches!(finding.severity, Severity::Warning | Severity::Ignored));
    Ok(warnings.map(Finding::warning).collect())
}

#[cfg(test)]
mod tests;
