// SPDX-License-Identifier: Apache-2.0
//! One life of a container: from taking its lock to giving it back with all put away. What is begun is said in its
//! status first, so that whoever comes after a crash knows that there may be something.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::Call;
use rustix::io::FdFlags;

use super::document::{self, Host};
use super::given;
use super::places;
use super::runtime::Runtime;
use super::settings::{Network, Settings};
use super::volumes;
use crate::build::time;
use crate::containers::{self, Container, State, Status, last, lost};
use crate::error::{Context, Error, Kind, Result};
use crate::network::{self, Connected, Reserved, Wanted};
use crate::overlay;
use crate::store::lock::Lock;
use crate::store::{LayerDir, Store, files};

/// A container that is being started or runs, by this process.
#[derive(Debug)]
pub struct Life<'a> {
    store: &'a Store,
    container: &'a Container,
    /// The runtime's calls.
    pub runtime: Runtime,
    layers: Vec<LayerDir>,
    lock: Lock,
    status: Status,
    hostname: String,
    ports: Vec<Reserved>,
}

impl<'a> Life<'a> {
    /// Takes the lock, and connects the container's network. On failure nothing is left.
    pub fn begin(store: &'a Store, container: &'a Container) -> Result<Self> {
        let lock = container.lock_stopped()?;
        if container.status()?.state.is_alive() {
            // Nobody has looked since it was lost.
            put_away(container).context("put away what was left of the last start")?;
        }
        // Should this process be killed, the programs that it has started keep the lock as long as they live: nobody
        // puts away what a plugin or the runtime is about to make.
        rustix::io::fcntl_setfd(&lock, FdFlags::empty()).call("fcntl", || "F_SETFD".into())?;
        let layers = {
            let lease = store.lease()?;
            container.layers(store, &lease)?
        };
        let settings = &container.record().settings;
        let hostname = match &settings.changes.hostname {
            Some(name) => name.clone(),
            None => container.short_id().to_owned(),
        };
        let mut life = Self {
            store,
            container,
            runtime: Runtime::of(container),
            layers,
            lock,
            status: Status {
                state: State::Starting,
                supervisor: Some(corten_sys::process::own_pid()),
                started: Some(time::rfc3339(time::now())),
                ..Status::default()
            },
            hostname,
            ports: Vec::new(),
        };
        life.tell()?;
        last::leave(&life.lock, None)?;
        match life.surround() {
            Ok(()) => Ok(life),
            Err(error) => Err(life.fail(error)),
        }
    }

    /// Whose life it is.
    pub fn container(&self) -> &Container {
        self.container
    }

    fn tell(&self) -> Result<()> {
        self.container.set_status(&self.lock, &self.status)
    }

    fn surround(&mut self) -> Result<()> {
        let settings = &self.container.record().settings;
        let dir = self.container.dir();
        places::check_sources(settings)?;
        files::make_dir(dir, "runtime")?;
        files::remove_tree(dir, c"pid")?;
        let bundle = files::make_dir(dir, "bundle")?;
        files::make_dir(&bundle, "rootfs")?;
        self.ports = network::reserve(&settings.ports)?;
        self.check_ports()?;
        let own = own_networks(self.store);
        let connected = match wanted(self.container.id(), settings, &own) {
            None => Connected::default(),
            Some(wanted) => network::attach(
                files::make_dir(dir, NETWORK)?.as_fd(),
                &self.container.path().join(NETWORK),
                &wanted,
            )?,
        };
        self.status.addresses = connected
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        let name = self.container.record().name.as_deref();
        given::make(
            dir,
            &self.layers,
            settings,
            &self.hostname,
            name,
            &connected,
        )
    }

    /// Another container whose supervisor was killed has its ports no more, but may still have the rules that lead there.
    fn check_ports(&self) -> Result<()> {
        let ports = &self.container.record().settings.ports;
        if ports.is_empty() {
            return Ok(());
        }
        // One that can't be put away is seen below to be there still.
        lost::settle_all(self.store)?;
        for other in containers::all(self.store)? {
            let theirs = &other.record().settings.ports;
            let port = ports
                .iter()
                .find(|port| theirs.iter().any(|their| port.overlaps(their)));
            if let Some(port) = port
                && other.id() != self.container.id()
                && other.status()?.state.is_alive()
            {
                return Err(Error::new(
                    Kind::Exists,
                    format!(
                        "port {port} of the host leads to container {}",
                        other.shown()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Mounts the overlay and writes config.json, in this thread's own mount namespace. Another thread sees nothing of it.
    pub fn mount(&self) -> Result<()> {
        let settings = &self.container.record().settings;
        overlay::private_namespace()?;
        let stubs = self.container.path().join(given::STUBS);
        // By path: overlayfs takes no directory that was opened in another mount namespace than the present one.
        let dir = files::open_dir(rustix::fs::CWD, self.container.path())?;
        let stubs = files::open_dir(rustix::fs::CWD, &stubs)?;
        let mount = overlay::mount_kept(dir.as_fd(), &self.layers, stubs.as_fd())?;
        let rootfs = self.runtime.bundle().join("rootfs");
        overlay::attach(mount.as_fd(), &rootfs)?;
        let image = self.container.image(self.store)?;
        let mut settings = settings.clone();
        settings.changes.hostname = Some(self.hostname.clone());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("read /proc/sys/kernel/osrelease")?;
        let pinned = network::namespace(&self.container.path().join(NETWORK));
        let cgroup = settings.cgroup_manager.path(self.container.id());
        let host = Host {
            kernel: &kernel,
            cgroup: cgroup.as_deref(),
            given: &self.container.path().join(given::DIR),
            network: matches!(settings.network, Network::Named(_)).then_some(pinned.as_path()),
        };
        let root = files::open_dir(rustix::fs::CWD, &rootfs)?;
        places::check_targets(&settings, root.as_fd())?;
        let mut document = document::document(&image.config, root.as_fd(), &settings, &host)?;
        volumes::keep(
            &mut document,
            &image.config,
            &settings,
            dir.as_fd(),
            self.container.path(),
        )?;
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::invalid(error.to_string()))?;
        std::fs::write(self.runtime.bundle().join("config.json"), text).context("write config.json")
    }

    /// Sends the container's first process a signal, by name or number.
    pub fn kill(&self, signal: &str) -> Result<()> {
        self.runtime.kill(self.container, signal)
    }

    /// Says that the program runs.
    pub fn is_running(&mut self, pid: Option<i32>) -> Result<()> {
        self.status.state = State::Running;
        self.status.pid = pid;
        self.tell()
    }

    /// Puts everything away, and says how the program ended.
    pub fn end(mut self, exit_code: u8, trouble: Option<Error>) -> Result<Lock> {
        self.status.state = State::Ending;
        self.status.pid = None;
        self.status.finished = Some(time::rfc3339(time::now()));
        self.status.exit_code = Some(exit_code);
        // Whoever wants it ended knows from here on that there is nothing left to be killed.
        let told = self.tell();
        let put_away = told.and(put_away(self.container));
        self.status.state = State::Exited;
        self.status.supervisor = None;
        let trouble = trouble.or_else(|| put_away.as_ref().err().cloned());
        self.status.error = trouble.map(|error| error.to_string());
        self.tell()?;
        // Who waits for one that is removed is told so, if nothing else.
        let _ = last::leave(&self.lock, Some(exit_code));
        put_away?;
        rustix::io::fcntl_setfd(&self.lock, FdFlags::CLOEXEC).call("fcntl", || "F_SETFD".into())?;
        Ok(self.lock)
    }

    /// Puts everything away after a failure to start, and returns why it failed.
    pub fn fail(mut self, error: Error) -> Error {
        let put_away = put_away(self.container);
        self.status = Status {
            state: State::Created,
            error: Some(error.to_string()),
            ..Status::default()
        };
        if put_away.is_err() {
            // Something is left: the next one that looks tries again.
            self.status.state = State::Starting;
        }
        // The first failure is the one to report.
        let _ = self.tell();
        error
    }
}

/// Where the built-in network's file is.
pub fn own_networks(store: &Store) -> PathBuf {
    store.path().join("networks")
}

/// What is asked of a network of plugins, if that is the container's.
pub fn wanted<'a>(id: &'a str, settings: &'a Settings, own_dir: &'a Path) -> Option<Wanted<'a>> {
    match &settings.network {
        Network::None | Network::Host => None,
        Network::Named(name) => Some(Wanted {
            id,
            network: name,
            conf_dir: settings.cni_conf_dir.as_deref(),
            own_dir,
            ports: &settings.ports,
        }),
    }
}

/// The directory of what the network needs to be taken away.
pub const NETWORK: &str = "network";

/// Ends what is alive of a container and takes its network away; its mounts have gone with their namespaces. The caller
/// holds its lock.
pub fn put_away(container: &Container) -> Result<()> {
    let deleted = Runtime::of(container).delete();
    let detached = match files::open_dir(container.dir(), NETWORK) {
        Ok(dir) => network::detach(dir.as_fd(), &container.path().join(NETWORK)),
        Err(error) if error.errno() == corten_sys::Errno::NOENT => Ok(()),
        Err(error) => Err(error.into()),
    };
    deleted.and(detached)
}
