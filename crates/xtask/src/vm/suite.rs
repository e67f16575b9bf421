// SPDX-License-Identifier: Apache-2.0
//! The integration suite in a virtual machine: built here, run there, its output and its exit status passed on. A census
//! of the whole guest before and after finds what no single test looks at: units, cgroups, mounts, processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::{Context, Failure, Result};
use crate::scratch::Scratch;
use crate::vm::guest::Guest;
use crate::vm::machine::{self, Life};
use crate::vm::{Hardware, User, Verb};
use crate::{build, command, report, workspace};

/// Where the guest has the programs.
const PLACE: &str = "/srv/suite";

/// What is run, and where.
#[derive(Args)]
pub struct Run {
    /// Only tests whose name contains one of these
    filters: Vec<String>,
    #[command(flatten)]
    hardware: Hardware,
    /// Who makes corten's cgroups
    #[arg(long, default_value = "file")]
    driver: Driver,
    /// Who calls the runtime
    #[arg(long, default_value = "root")]
    user: User,
    /// The runtime under test: corten, or a program of the guest's, runc or crun
    #[arg(long, default_value = "corten")]
    runtime: String,
    /// One test at a time
    #[arg(long)]
    serial: bool,
    /// Debug builds: quicker to make, slower to run
    #[arg(long)]
    debug: bool,
    /// A machine that is up already, which stays; a fresh one unless given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// The cgroup drivers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Driver {
    /// The runtime itself, with files
    File,
    /// systemd, asked over D-Bus
    Systemd,
}

/// Builds, boots, runs, and ends the machine if it was made for this.
pub fn run(options: &Run) -> Result<u8> {
    if let Some(verb) = options
        .filters
        .iter()
        .find(|word| Verb::has_subcommand(word))
    {
        return Err(Failure::new(format!("options of `vm {verb}` go behind it")));
    }
    let programs = Programs::build(options.debug)?;
    if let Some(name) = &options.name {
        return inside(&Guest::of(name)?, options, &programs);
    }
    let name = format!("{}{}", machine::OURS, std::process::id());
    machine::up(&name, &options.hardware, Life::Ours)?;
    let status = Guest::of(&name).and_then(|guest| inside(&guest, options, &programs));
    // Its own failure would hide why the suite failed.
    match (status, machine::down(&name)) {
        (Err(failure), _) => Err(failure),
        (status, ended) => ended.and(status),
    }
}

/// Copies everything in, runs the suite between two censuses.
fn inside(guest: &Guest, options: &Run, programs: &Programs) -> Result<u8> {
    report::step("programs and documents into the guest");
    guest.put(&programs.paths(PLACE))?;
    // The suite looks for its documents where it was built.
    let root = workspace::root();
    guest.put(&[root.join("integration"), root])?;
    let before = census(guest)?;
    report::step(format!("integration suite: {}", words(options).join(" ")));
    let status = guest.run(User::Root, &words(options))?;
    let left: Vec<String> = census(guest)?.difference(&before).cloned().collect();
    if left.is_empty() {
        report::line("the guest's census is clean");
        return Ok(status);
    }
    report::line(format!("left in the guest:\n  {}", left.join("\n  ")));
    if options.runtime != "corten" {
        // What its containers left is in the suite's exceptions; the rest is for whoever mends that runtime.
        return Ok(status);
    }
    Err(Failure::new("the guest's census is dirty"))
}

/// The command in the guest: the suite in a scope of its own, whose cgroup systemd leaves to it.
fn words(options: &Run) -> Vec<String> {
    let mut words: Vec<String> = [
        "systemd-run",
        "--quiet",
        "--scope",
        "--property=Delegate=yes",
    ]
    .map(String::from)
    .into();
    let driver = match options.driver {
        Driver::File => "file",
        Driver::Systemd => "systemd",
    };
    let runtime = match options.runtime.as_str() {
        "corten" => format!("{PLACE}/corten"),
        other => other.into(),
    };
    words.extend(["--".into(), "env".into()]);
    words.extend([
        format!("CORTEN_RUNTIME={runtime}"),
        format!("CORTEN_BIN={PLACE}/corten"),
        format!("CORTEN_PROBE={PLACE}/probe"),
        format!("CORTEN_CGROUP_DRIVER={driver}"),
        // The suite itself looks at everything as root; it is the runtime that the user calls.
        format!("CORTEN_USER={}", options.user.account()),
        "CORTEN_DEBIAN=/srv/debian".into(),
    ]);
    // What a person sets for the suite here is meant for it there.
    words.extend(
        [
            "CORTEN_KEEP",
            "CORTEN_MODEL",
            "CORTEN_RACES",
            "CORTEN_SEED",
            "CORTEN_TRACE",
        ]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))),
    );
    words.push(format!("{PLACE}/features"));
    if options.serial {
        words.push("--test-threads=1".into());
    } else if options.runtime != "corten" {
        // Where another runtime hangs, the deadlines of a test are waited for.
        words.push("--test-threads=4".into());
    }
    words.extend(options.filters.iter().cloned());
    words
}

/// What there is in the guest, one line each.
fn census(guest: &Guest) -> Result<BTreeSet<String>> {
    let script = workspace::root().join("integration/vm/census");
    let text = fs::read_to_string(&script).context(|| format!("read {}", script.display()))?;
    let said = guest.said(&["sh".into(), "-c".into(), text])?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// The programs that go into the guest, without their debug information, in a directory of their own.
struct Programs {
    scratch: Scratch,
}

impl Programs {
    /// Builds them.
    fn build(debug: bool) -> Result<Self> {
        let scratch = Scratch::new("vm")?;
        if debug {
            let words = [
                "--package",
                "corten",
                "--package",
                "corten-integration",
                "--bins",
            ];
            for path in build::made(workspace::cargo().arg("build").args(words))? {
                stripped(&path, scratch.path())?;
            }
        } else {
            build::binaries()?;
            for name in ["corten", "probe"] {
                stripped(&workspace::dist()?.join(name), scratch.path())?;
            }
        }
        let mut tests = workspace::cargo();
        tests.args(["test", "--no-run", "--package", "corten-integration"]);
        for path in build::made(tests.args(["--test", "features"]))? {
            stripped(&path, scratch.path())?;
        }
        Ok(Self { scratch })
    }

    /// What `Guest::put` takes.
    fn paths(&self, to: &str) -> [PathBuf; 4] {
        let [corten, probe, features] =
            ["corten", "probe", "features"].map(|name| self.scratch.path().join(name));
        [corten, probe, features, to.into()]
    }
}

/// Puts a copy without debug information into `directory`, under the program's name without cargo's hash.
fn stripped(program: &Path, directory: &Path) -> Result<()> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('-').next().unwrap_or(&name);
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(directory.join(name)).arg(program);
    command::captured(&mut strip).map(|_| ())
}
