// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask integration runtime-tools`: the validation programs of OCI runtime-tools, with corten, runc and crun.
//!
//! They are built from Debian's source (`integration/validation/build`) and run in worlds like those of callers. What runc
//! or crun passes has to pass with corten, or have its reason in `integration/validation/differences`; a reason must not
//! outlive its difference. What fails with all of them says more about the programs than about a runtime: they are older
//! than much of what they look at.

mod differences;
mod tap;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::differences::Difference;
use self::tap::{Assertion, Assertions, Outcome};
use crate::callers::{View, table};
use crate::failure::{Context, Failure, Result};
use crate::scratch::Scratch;
use crate::{build, command, packages, report, runtime, workspace};

/// As it is typed, and as its tables are called.
pub const NAME: &str = "runtime-tools";

/// What builds them.
const BUILDING: &[&str] = &[
    "golang-github-blang-semver-dev",
    "golang-github-google-uuid-dev",
    "golang-github-hashicorp-go-multierror-dev",
    "golang-github-mrunalp-fileutils-dev",
    "golang-github-opencontainers-selinux-dev",
    "golang-github-opencontainers-specs-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-urfave-cli-dev",
    "golang-github-xeipuuv-gojsonschema-dev",
    "golang-go",
    "golang-gocapability-dev",
    "golang-golang-x-sys-dev",
    "xz-utils",
];

/// What runs with them.
const RUNNING: &[&str] = &["iproute2", "procps", "runc", "util-linux"];

/// Whom corten is held against. This Debian's crun runs nothing where v1 controllers are beside cgroup v2.
fn peers(view: View) -> &'static [&'static str] {
    match view {
        View::Host => &["runc"],
        View::Sid => &["runc", "crun"],
    }
}

/// Runs the programs whose name contains `only`; fails where corten differs without a listed reason.
pub fn run(view: View, only: Option<&str>, write: bool) -> Result<()> {
    workspace::require_root("integration")?;
    let listed = read_differences()?;
    build::binaries()?;
    report::step("OCI runtime-tools' validation programs");
    let tree = packages::sid_tree(&[BUILDING, RUNNING, peers(View::Sid)].concat())?;
    let mut made = Command::new(scripts().join("build"));
    let place = command::captured(made.arg(&tree))?;
    let inside = Path::new(place.trim());
    let outside = tree.join(inside.strip_prefix("/").unwrap_or(inside));
    if view == View::Host {
        packages::ensure(RUNNING)?;
    }
    let peer = |name: &str| match view {
        View::Host => runtime::located(name).ok_or_else(|| Failure::new(format!("no {name} here"))),
        View::Sid => Ok(PathBuf::from("/usr/bin").join(name)),
    };
    let work = Scratch::new("validation")?;
    // In every world the temporary directory is this machine's.
    let corten = work.path().join("corten");
    let built = workspace::dist()?.join("corten");
    fs::copy(&built, &corten).context(|| format!("copy {}", built.display()))?;
    let world = World {
        tree: match view {
            View::Host => Path::new("/"),
            View::Sid => &tree,
        },
        programs: match view {
            View::Host => &outside,
            View::Sid => inside,
        },
        work: work.path(),
        only: only.unwrap_or_default(),
    };
    let mut columns = vec![("corten", world.assertions("corten", &corten)?)];
    for name in peers(view) {
        columns.push((name, world.assertions(name, &peer(name)?)?));
    }
    let (ours, theirs) = (&columns[0].1, &columns[1..]);
    let theirs: Vec<_> = theirs.iter().map(|(_, all)| all).collect();
    let missing = tap::missing(ours, &theirs);
    let found = Found::new(&missing, &listed, view.name());
    let text = shown(&columns, &found);
    text.lines().for_each(report::line);
    if write {
        table::write(&format!("{NAME} {}", view.name()), &text)?;
    }
    found.judged(only.is_some())
}

fn scripts() -> PathBuf {
    workspace::root().join("integration/validation")
}

fn read_differences() -> Result<Vec<Difference>> {
    let path = scripts().join("differences");
    let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    differences::parse(&text).context(|| format!("read {}", path.display()))
}

/// Where the programs run.
struct World<'a> {
    tree: &'a Path,
    programs: &'a Path,
    work: &'a Path,
    only: &'a str,
}

impl World<'_> {
    /// What the programs assert of the runtime.
    fn assertions(&self, name: &str, path: &Path) -> Result<Assertions> {
        report::step(format!("{NAME} with {name}"));
        let out = self.work.join(format!("out-{name}"));
        let mut world = Command::new(workspace::root().join("integration/callers/world"));
        world
            .arg(self.tree)
            .arg(scripts().join("run"))
            .args([self.programs, &out, path])
            .arg(self.only);
        command::run(&mut world)?;
        let mut all = Assertions::new();
        for entry in fs::read_dir(&out).context(|| format!("list {}", out.display()))? {
            let path = entry.context(|| format!("list {}", out.display()))?.path();
            if path.extension().is_some_and(|end| end == "tap") {
                let text = fs::read(&path).context(|| format!("read {}", path.display()))?;
                let program = path.file_stem().unwrap_or_default().to_string_lossy();
                tap::read(&program, &String::from_utf8_lossy(&text), &mut all);
            }
        }
        if tap::count(&all, Outcome::Passed) == 0 {
            return Err(Failure::new(format!(
                "nothing passed with {name}: the programs did not run"
            )));
        }
        Ok(all)
    }
}

/// The differences, with and without their reasons.
struct Found<'a> {
    /// Rows, with how many assertions each explains.
    explained: Vec<(&'a Difference, usize)>,
    unexplained: Vec<&'a Assertion>,
}

impl<'a> Found<'a> {
    fn new(missing: &'a [Assertion], listed: &'a [Difference], view: &str) -> Self {
        let rows = listed.iter().filter(|row| row.is_of(view));
        let explained = rows.map(|row| {
            let theirs = missing.iter().filter(|found| row.explains(found, view));
            (row, theirs.count())
        });
        let explained = explained.collect();
        let is_explained = |found: &&Assertion| listed.iter().any(|row| row.explains(found, view));
        let unexplained = missing.iter().filter(|found| !is_explained(found));
        Self {
            explained,
            unexplained: unexplained.collect(),
        }
    }

    /// Whether all is as it is listed; a part of the programs says nothing of rows without a difference.
    fn judged(&self, is_partial: bool) -> Result<()> {
        for found in &self.unexplained {
            report::line(format!(
                "without a reason: {}: {}",
                found.program, found.words
            ));
        }
        let stale = (self.explained.iter())
            .filter(|(row, count)| *count == 0 && !row.is_unsteady && !is_partial)
            .map(|(row, _)| row);
        let stale: Vec<_> = stale.collect();
        for row in &stale {
            report::line(format!(
                "no difference any more: {}: {}",
                row.program, row.reason
            ));
        }
        if self.unexplained.is_empty() && stale.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} assertions that a peer passes fail without a reason, {} reasons have no difference; see {}",
            self.unexplained.len(),
            stale.len(),
            scripts().join("differences").display()
        )))
    }
}

/// Both tables.
fn shown(columns: &[(&str, Assertions)], found: &Found<'_>) -> String {
    let mut text = String::from("| runtime | passed | failed | skipped |\n|---|---|---|---|\n");
    for (name, all) in columns {
        let count = |outcome| tap::count(all, outcome);
        let row = format!(
            "| {name} | {} | {} | {} |\n",
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Skipped)
        );
        text.push_str(&row);
    }
    text.push_str(
        "\n| program | assertions that a peer passes and corten does not | why |\n|---|---|---|\n",
    );
    for (row, count) in found.explained.iter().filter(|(_, count)| *count > 0) {
        text.push_str(&format!("| {} | {count} | {} |\n", row.program, row.reason));
    }
    text
}
