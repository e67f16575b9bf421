// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: from a Dockerfile to a running, isolated container, one visible step after the other.
//!
//! Needs nothing but cargo's registry, and root from the first container on. Everything is made in a temporary
//! directory, with a store and a state directory of its own, and removed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::failure::{Context, Failure, Result};
use crate::scratch::Scratch;
use crate::{build, command, report, wait, workspace};

/// The container's name in the step by step part.
const ID: &str = "demo";

/// The image's name.
const IMAGE: &str = "hello";

/// How long the little program may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Builds, shows, runs, removes.
pub fn run() -> Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        return Err(Failure::new(refusal(&missing)));
    }
    report::step("1. build the programs: corten, corten-image, and hello, which will run inside");
    build::binaries()?;
    let demo = Demo::new()?;
    demo.image()?;
    demo.step_by_step()?;
    demo.at_once()?;
    next();
    Ok(())
}

/// Where the demo lives, and the programs that it shows.
struct Demo {
    programs: PathBuf,
    scratch: Scratch,
}

impl Demo {
    fn new() -> Result<Self> {
        Ok(Self {
            programs: workspace::dist()?,
            scratch: Scratch::new("demo")?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A command of one of our programs, in the demo's directory; each program finds the other through PATH.
    fn program(&self, name: &str) -> Result<Command> {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&others));
        let path = std::env::join_paths(all)
            .context(|| format!("put {} into PATH", self.programs.display()))?;
        let mut command = Command::new(name);
        command::plain_environment(&mut command);
        command.env("PATH", path).current_dir(self.scratch.path());
        Ok(command)
    }

    /// Shows and runs a verb of corten, its state kept in the demo's directory.
    fn corten(&self, verb: &[&str]) -> Result<()> {
        command::run(self.program("corten")?.args(["--root", "state"]).args(verb))
    }

    /// Shows and runs a verb of corten-image, its store in the demo's directory.
    fn corten_image(&self, verb: &[&str]) -> Result<()> {
        command::run(
            self.program("corten-image")?
                .args(["--store", "store"])
                .args(verb),
        )
    }

    /// From a Dockerfile to an image in a store.
    fn image(&self) -> Result<()> {
        report::step(
            "2. build an image from a Dockerfile: two stages, a RUN step in a container of its own",
        );
        let context = self.path("context");
        fs::create_dir(&context).context(|| format!("make {}", context.display()))?;
        copy(
            &workspace::root().join("examples/hello/Dockerfile"),
            &context.join("Dockerfile"),
        )?;
        copy(&self.programs.join("hello"), &context.join("hello"))?;
        let text = fs::read_to_string(context.join("Dockerfile"))
            .context(|| "read the Dockerfile".into())?;
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            report::line(format!("    {line}"));
        }
        report::line(format!(
            "in {}, with {} in front of PATH:",
            self.scratch.path().display(),
            self.programs.display()
        ));
        self.corten_image(&["build", "-t", IMAGE, "context"])?;

        report::step("3. look at it: an OCI image layout, addressed by content");
        self.corten_image(&["list"])?;
        self.config()
    }

    /// Of what `inspect` says the part that a Dockerfile's author knows.
    fn config(&self) -> Result<()> {
        let mut inspect = self.program("corten-image")?;
        inspect.args(["--store", "store", "inspect", IMAGE]);
        report::command(format!("{} | jq .config.config", command::shown(&inspect)));
        let text = command::captured(&mut inspect)?;
        let image: Value =
            serde_json::from_str(&text).context(|| "read what inspect says".into())?;
        report::line(format!("{:#}", image["config"]["config"]));
        Ok(())
    }

    /// From the image to a bundle to a container, as an engine drives a runtime.
    fn step_by_step(&self) -> Result<()> {
        report::step("4. unpack it into an OCI bundle: a root file system and a config.json");
        self.corten_image(&["unpack", IMAGE, "bundle"])?;
        command::run(self.program("ls")?.args(["-l", "bundle", "bundle/rootfs"]))?;

        report::step(
            "5. create: namespaces, cgroup, mounts and limits are made; the program waits at the start gate",
        );
        let _removed_at_the_end = Leftover(self);
        self.corten(&["create", "--bundle", "bundle", "--pid-file", "pid", ID])?;
        let process = wait::Process::from_pid_file(&self.path("pid"))?;
        self.corten(&["state", ID])?;

        report::step("6. start: what the program sees from inside");
        self.corten(&["start", ID])?;
        process.ended(PATIENCE)?;

        report::step("7. it has ended; delete removes the last of it");
        self.corten(&["list"])?;
        self.corten(&["delete", ID])?;
        self.corten(&["list", "-q"])
    }

    /// The same in one word.
    fn at_once(&self) -> Result<()> {
        report::step(
            "8. the short way: corten-image unpacks once, lays a fresh overlay over it and runs corten",
        );
        self.corten_image(&["run", "--rm", IMAGE])
    }
}

/// The container of the step by step part, should a step fail half-way.
struct Leftover<'a>(&'a Demo);

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        let deleted = self.0.program("corten").and_then(|mut corten| {
            command::captured(corten.args(["--root", "state", "delete", "--force", ID]))
        });
        if let Err(failure) = deleted {
            report::failure(&failure);
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// What this machine or this caller lacks for containers.
fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !workspace::is_root() {
        missing.push(
            "root, for namespaces, mounts and cgroups: sudo -E env PATH=\"$PATH\" cargo xtask demo"
                .into(),
        );
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release) < (5, 14) {
        missing.push(format!("Linux 5.14 or newer: this is {}", release.trim()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.contains(" - cgroup2 ") {
        missing.push("a cgroup2 mount: mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1".into());
    }
    missing
}

/// Major and minor of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn refusal(missing: &[String]) -> String {
    format!(
        "the demo runs real containers, and here is missing:\n  - {}\nWhat works without: cargo xtask build, cargo xtask test \
         (unit tests), cargo xtask check",
        missing.join("\n  - ")
    )
}

/// What the newcomer may do now.
fn next() {
    report::step("done; everything that the demo made is gone again");
    report::line(
        "Try next, from this directory:
    export PATH=$PWD/target/dist:$PATH
    cp target/dist/hello examples/hello/           # the Dockerfile copies it
    corten-image build -t hello examples/hello     # change GREETING in the Dockerfile first
    corten-image run --rm hello
    corten spec --bundle DIR && corten run --bundle DIR ID      # any OCI bundle
    cargo xtask test                               # unit tests and the integration suite
    cargo xtask bench                              # beside crun and runc
    README.md says how to use corten under podman, containerd and docker.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        let cases = [
            ("5.14.0-570.el9.x86_64\n", (5, 14)),
            ("6.18.44-fc", (6, 18)),
            ("4.19.0", (4, 19)),
            ("6", (6, 0)),
            ("", (0, 0)),
        ];
        for (release, expected) in cases {
            assert_eq!(version(release), expected, "{release:?}");
        }
        assert!(version("5.4.0") < (5, 14) && version("10.0") > (5, 14));
    }
}
