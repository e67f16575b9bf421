// SPDX-License-Identifier: Apache-2.0
//! RUN: a container on an overlay of the stage's layers, with the host's network and names unless they are not wanted.
//!
//! Runs as root; called by `stage`. What the container needs that an image may lack is in `stubs`; what it is given
//! lies in memory that nobody else sees, since it may be secret.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{Attr, FsContext};
use oci_spec::image::ImageConfiguration;

use super::made::{Made, attach};
use super::runtime::{self, Container, Ended, Output};
use super::settings::command_line;
use super::stage::Work;
use super::stubs::{self, Shape, make_dir};
use super::surroundings::{self, Given, given_files, write_file};
use super::{Builder, container};
use crate::bundle::{self, Changes};
use crate::digest::Digest;
use crate::dockerfile::{Network, Run};
use crate::error::{Context, Error, Kind, Result};
use crate::overlay::{self, Workspace};
use crate::store::files;

/// Always the same, or a RUN that writes it down would make another layer each time.
pub(super) const HOSTNAME: &str = "build";

/// Where a script with an interpreter of its own is.
pub(super) const SCRIPT: &str = "/dev/pipes/script";

/// In the scratch directory: a tmpfs that only the runtime's mount namespace has.
const PRIVATE: &str = "private";

/// Carries out a RUN; returns the diffID of its layer.
pub(super) fn execute(builder: &Builder<'_>, work: &mut Work, run: &Run) -> Result<Option<Digest>> {
    let script = run
        .script
        .as_deref()
        .filter(|script| script.starts_with("#!"));
    let args = match (&run.script, script) {
        (_, Some(_)) => vec![SCRIPT.to_owned()],
        (Some(text), None) => [work.config.shell(), vec![text.clone()]].concat(),
        (None, None) => command_line(&run.command, work),
    };
    if args.is_empty() {
        return Err(Error::invalid("needs a command"));
    }
    let network = run.network.unwrap_or(builder.surroundings.network);
    let planned = builder.plan_mounts(work, &run.mounts)?;
    let own = work.scope.arguments();
    let mut key = builder.layers.key(&work.layers, "RUN");
    let settings = &work.config.config;
    let parts = (
        &args,
        script,
        &own,
        &settings.env,
        &settings.user,
        work.config.working_dir(),
        network == Network::Host,
        planned.iter().map(|plan| plan.key()).collect::<Vec<_>>(),
        builder.surroundings.key(),
    );
    let parts = serde_json::to_vec(&parts);
    key.update(&parts.map_err(|error| Error::invalid(error.to_string()))?);

    let mut config = work.config.clone();
    // What is below a volume belongs to the image as long as it is built.
    config.config.volumes.clear();
    let config = config.to_bytes()?;
    let env = [builder.scope_proxies(work), own].concat();
    let (number, label) = (work.number, work.label.clone());
    let (origin, diff_id) = builder.layers.step(work.making(), key, |workspace| {
        let runtime = runtime::find(builder.runtime.as_deref())?;
        let (made, secrets) = builder.make_mounts(&planned, workspace)?;
        let step = Step {
            builder,
            workspace,
            runtime: &runtime,
            network,
            script,
            made: &made,
            label: Some(label.as_str()).filter(|label| !label.is_empty()),
        };
        let changes = Changes {
            args,
            entrypoint: Some(Vec::new()),
            network: match network {
                Network::Host => bundle::Network::Host,
                Network::None => bundle::Network::None,
            },
            hostname: Some(HOSTNAME.to_owned()),
            env: [env, secrets].concat(),
            ..Changes::default()
        };
        let ended = step.run(&config, &changes)?;
        match ended {
            Ended::With(0) => Ok(()),
            Ended::With(code) => {
                builder.note_status(number, code);
                Err(Error::new(
                    Kind::System,
                    format!("exited with status {code}"),
                ))
            }
            Ended::Killed(ended) => Err(Error::new(
                Kind::System,
                format!("the runtime ended by {ended}"),
            )),
        }
    })?;
    builder.tell(work, origin);
    Ok(diff_id)
}

struct Step<'a> {
    builder: &'a Builder<'a>,
    workspace: &'a Workspace,
    runtime: &'a Path,
    network: Network,
    script: Option<&'a str>,
    made: &'a [Made<'a>],
    label: Option<&'a str>,
}

impl Step<'_> {
    fn run(&self, config: &[u8], changes: &Changes) -> Result<Ended> {
        let scratch = self.workspace.scratch();
        let id = format!("build-{}", files::random_name()?);
        scratch.subdir(PRIVATE, 0o700)?;
        let private = scratch.path().join(PRIVATE);
        let root = stubs::mount(self.workspace, &self.points()?)?;
        let config: ImageConfiguration = serde_json::from_slice(config)
            .map_err(|error| Error::invalid(format!("config: {error}")))?;
        let locks = self.made.iter().filter_map(Made::lock);
        let container = Container {
            runtime: self.runtime,
            state: &private.join("state"),
            bundle: &private.join("bundle"),
            id: &id,
            keep: &[scratch.as_fd()]
                .into_iter()
                .chain(locks)
                .collect::<Vec<_>>(),
            output: Output {
                progress: self.builder.progress,
                label: self.label,
            },
        };
        container.run(self.builder.halt, || {
            self.prepare(&private, root, &config, changes)
        })
    }

    /// The mount points that the image must have: those that are not in another mount.
    fn points(&self) -> Result<Vec<(PathBuf, Shape)>> {
        let mut points = Vec::new();
        for (number, made) in self.made.iter().enumerate() {
            let above = self.made.get(..number).unwrap_or_default();
            let above = above
                .iter()
                .rfind(|other| made.target.starts_with(&other.target));
            let Some(above) = above else {
                let inside = made.target.strip_prefix("/").unwrap_or(&made.target);
                points.push((inside.to_owned(), made.source.shape()));
                continue;
            };
            let inside = made.target.strip_prefix(&above.target);
            if let (Some(dir), Ok(inside)) = (above.source.dir()?, inside) {
                stubs::make_within(dir.as_fd(), inside, made.source.shape())?;
            }
        }
        Ok(points)
    }

    /// Makes the bundle, in the runtime's mount namespace.
    fn prepare(
        &self,
        private: &Path,
        root: OwnedFd,
        config: &ImageConfiguration,
        changes: &Changes,
    ) -> Result<()> {
        attach(self.made)?;
        mount_private(private)?;
        let dir = files::open_dir(rustix::fs::CWD, private)?;
        let mut given = given_files(
            dir.as_fd(),
            private,
            self.network,
            self.builder.surroundings,
            self.script,
        )?;
        given.extend(self.made_files(dir.as_fd().try_clone_to_owned()?, private)?);
        let spec = bundle::spec(config, root.as_fd(), changes)?;
        let spec = container::adapt(spec, &given, self.builder.surroundings)?;
        let bundle = make_dir(dir.as_fd(), "bundle")?;
        make_dir(bundle.as_fd(), "rootfs")?;
        make_dir(dir.as_fd(), "state")?;
        let bytes = serde_json::to_vec(&spec)
            .map_err(|error| Error::invalid(format!("write config.json: {error}")))?;
        write_file(bundle.as_fd(), "config.json", &bytes, 0o600)?;
        overlay::attach(root.as_fd(), &private.join("bundle/rootfs"))
    }

    /// The user's mounts as the container's.
    fn made_files(&self, dir: OwnedFd, private: &Path) -> Result<Vec<Given>> {
        let mut given = Vec::new();
        for (number, made) in self.made.iter().enumerate() {
            given.push(surroundings::of_mount(dir.as_fd(), private, number, made)?);
        }
        Ok(given)
    }
}

fn mount_private(path: &Path) -> Result<()> {
    let tmpfs = FsContext::open("tmpfs")?;
    tmpfs.string("source", "corten")?;
    tmpfs.string("mode", "0700")?;
    tmpfs.create()?;
    let mount = tmpfs.mount(Attr::NOSUID | Attr::NODEV)?;
    overlay::attach(mount.as_fd(), path).context("mount tmpfs")
}
