// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask syscalls`: writes src/seccomp/tables/generated.rs, every system call's number on every architecture, from
//! the kernel's own tables. Where the sources come from and what it takes is in docs/seccomp-tables.md.

mod columns;
mod releases;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};
use crate::{report, workspace};
use columns::COLUMNS;

/// Where the numbers come from.
#[derive(clap::Args)]
pub struct Options {
    /// A kernel's source tree; again for an older one that has what the newer one dropped, newest first
    #[arg(long = "kernel-source", value_name = "DIR", required = true)]
    sources: Vec<PathBuf>,
    /// The manual page syscalls(2), unpacked: which release brought a call
    #[arg(long, value_name = "FILE")]
    manual: PathBuf,
}

/// A call's numbers, one per column where the column has the call.
type Numbers = [Option<u32>; COLUMNS.len()];

/// Reads the sources and writes the table.
pub fn run(options: &Options) -> Result<()> {
    let mut calls: BTreeMap<String, Numbers> = BTreeMap::new();
    let mut origins = Vec::new();
    for (index, column) in COLUMNS.iter().enumerate() {
        let (source, entries) = column.read_first(&options.sources)?;
        for (name, number) in entries {
            calls.entry(name).or_default()[index] = Some(number);
        }
        origins.push(source);
    }
    inherit(&mut calls);
    let manual = fs::read_to_string(&options.manual)
        .context(|| format!("read {}", options.manual.display()))?;
    let releases = releases::of(&calls, &manual)?;
    let text = rendered(&calls, &releases, &headline(&options.sources, &origins)?)?;
    let path = workspace::root().join("src/seccomp/tables/generated.rs");
    fs::write(&path, text).context(|| format!("write {}", path.display()))?;
    report::line(format!("{} calls in {}", calls.len(), path.display()));
    Ok(())
}

/// The first number that all architectures have in common: from here on a call has one number, whoever has the call.
const COMMON: u32 = 424;

/// A dropped ABI is read from an older tree. What came between that tree and its end had the numbers of everybody; what
/// came later has them too, and denying a call that never was costs nothing.
fn inherit(calls: &mut BTreeMap<String, Numbers>) {
    for (index, column) in COLUMNS.iter().enumerate() {
        let heir = COLUMNS
            .iter()
            .position(|other| Some(other.name) == column.heir);
        let Some(heir) = heir else { continue };
        let last = calls
            .values()
            .filter_map(|numbers| numbers[index])
            .max()
            .unwrap_or(0);
        for numbers in calls.values_mut() {
            let later = numbers[heir].filter(|number| *number > last.max(COMMON));
            numbers[index] = numbers[index].or(later);
        }
    }
}

/// What the generated file says of its origin.
struct Headline {
    kernel: String,
    older: Vec<String>,
}

fn headline(sources: &[PathBuf], origins: &[usize]) -> Result<Headline> {
    let versions: Vec<String> = sources
        .iter()
        .map(|source| version(source))
        .collect::<Result<_>>()?;
    let older = COLUMNS
        .iter()
        .zip(origins)
        .filter(|(_, source)| **source > 0)
        .map(|(column, source)| format!("{} from Linux {}", column.name, versions[*source]));
    Ok(Headline {
        older: older.collect(),
        kernel: versions.into_iter().next().unwrap_or_default(),
    })
}

/// `VERSION.PATCHLEVEL.SUBLEVEL` of the tree's Makefile.
fn version(source: &Path) -> Result<String> {
    let path = source.join("Makefile");
    let makefile = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    let value = |key: &str| {
        makefile
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(left, _)| left.trim() == key)
            .map(|(_, right)| right.trim().to_owned())
            .ok_or_else(|| Failure::new(format!("no {key} in {}", path.display())))
    };
    Ok(format!(
        "{}.{}.{}",
        value("VERSION")?,
        value("PATCHLEVEL")?,
        value("SUBLEVEL")?
    ))
}

/// The Rust source of the table.
fn rendered(
    calls: &BTreeMap<String, Numbers>,
    releases: &BTreeMap<String, u16>,
    headline: &Headline,
) -> Result<String> {
    let mut out = String::new();
    let mut older = headline.older.join(", ");
    if !older.is_empty() {
        older = format!(" ({older})");
    }
    let columns: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    writeln!(
        out,
        "// SPDX-License-Identifier: Apache-2.0\n\
         //! Written by `cargo xtask syscalls` from Linux {}{older}; not by hand.\n\
         //! A row is a call: its name, the release that brought it (503 is 5.3; 300 is 3.0 or before), and its number on each\n\
         //! of these, as the kernel's tables have it, without the offset of an ABI:\n\
         //! {}.\n\n\
         use super::names::Row;\n\n\
         /// The kernel that the numbers are from.\n\
         pub const KERNEL: &str = \"{}\";\n\n\
         /// No such call here.\n\
         const __: u32 = u32::MAX;\n\n\
         #[rustfmt::skip]\n\
         pub(super) const ROWS: &[Row] = &[",
        headline.kernel,
        columns.join(" "),
        headline.kernel,
    )
    .context(|| "render the table".into())?;
    for (name, numbers) in calls {
        let cells: Vec<String> = numbers
            .iter()
            .map(|number| number.map_or("__".into(), |number| number.to_string()))
            .collect();
        let since = releases.get(name).copied().unwrap_or(300);
        writeln!(out, "    (\"{name}\", {since}, [{}]),", cells.join(", "))
            .context(|| "render the table".into())?;
    }
    out.push_str("];\n");
    Ok(out)
}
