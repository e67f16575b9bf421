// SPDX-License-Identifier: Apache-2.0
//! Networks of containers, as the CNI specification 1.0 has them: a network is a file of configuration, and programs,
//! the plugins, that connect a network namespace to it. Needs root.
//!
//! What was begun is on disk before it is: `plan.json` in the container's directory says which plugins were called, and
//! with what; `result.json` what they answered; `netns` is the namespace itself, pinned by a mount, so that plugins can
//! take away all that they made even if nobody of the container is alive any more.

pub mod config;
mod plugin;
mod port;
mod reserve;
mod result;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_sys::process::Namespaces;
use corten_sys::{Call, Errno};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use config::DEFAULT;
pub use port::{Port, Protocol, ports};
pub use reserve::{Reserved, reserve};
pub use result::Connected;

use crate::error::{Context, Error, Kind, Result};
use crate::store::{DOCUMENT_CAP, files};
use config::Config;
use plugin::{Call as PluginCall, Plugin, Verb};

/// The interface's name in the container.
const INTERFACE: &str = "eth0";

const PLAN: &str = "plan.json";
const RESULT: &str = "result.json";
const PIN: &str = "netns";

/// Which network, and what of it.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The container's id, which plugins know it by.
    pub id: &'a str,
    /// The network's name.
    pub network: &'a str,
    /// Where networks are configured, in place of the usual directory.
    pub conf_dir: Option<&'a Path>,
    /// Where the built-in network's file is.
    pub own_dir: &'a Path,
    /// Ports of the host that lead to the container.
    pub ports: &'a [Port],
}

/// What plugins are called with, as it was when the container was started.
#[derive(Serialize, Deserialize)]
struct Plan {
    id: String,
    config: Config,
    runtime_config: Value,
    path: OsString,
}

/// Makes a network namespace, pins it in `dir` (the directory of path `path`), and connects it. On failure all is taken
/// back.
pub fn attach(dir: BorrowedFd<'_>, path: &Path, wanted: &Wanted<'_>) -> Result<Connected> {
    let plan = plan(wanted)?;
    let bytes = serde_json::to_vec(&plan).map_err(|error| Error::invalid(error.to_string()))?;
    files::replace_file(dir, dir, PLAN, &bytes)?;
    let attached = pin_new_namespace(dir, path)
        .context("make a network namespace")
        .and_then(|()| add(dir, path, &plan))
        .and_then(|connected| {
            check_families(wanted.ports, &connected)?;
            Ok(connected)
        });
    match attached {
        Ok(connected) => Ok(connected),
        Err(error) => {
            // Why it failed is the error; if taking it back fails as well, the plan stays for the next attempt.
            let _ = detach(dir, path);
            Err(error.context(format!("connect to network {:?}", wanted.network)))
        }
    }
}

/// A port of an address of a family that the container has no address of leads nowhere, and plugins don't say so.
fn check_families(ports: &[Port], connected: &Connected) -> Result<()> {
    for port in ports {
        let is_v6 = port.address.is_some_and(|address| address.is_ipv6());
        let leads = |address: &std::net::IpAddr| address.is_ipv6() == is_v6;
        if !connected.addresses.iter().any(leads) {
            let family = if is_v6 { "IPv6" } else { "IPv4" };
            return Err(Error::unsupported(format!(
                "port {port} leads nowhere: the container has no {family} address"
            )));
        }
    }
    Ok(())
}

/// The pinned namespace of the container whose network's directory is `path`.
pub fn namespace(path: &Path) -> PathBuf {
    path.join(PIN)
}

/// Takes away what [`attach`] made, however far it came; nothing if there is nothing.
pub fn detach(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    if let Some(bytes) = files::read_file(dir, PLAN, DOCUMENT_CAP)? {
        let plan: Plan = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt(format!("{PLAN}: {error}")))?;
        delete(dir, path, &plan)
            .with_context(|| format!("disconnect from network {:?}", plan.config.name))?;
    }
    unpin(dir, path)?;
    for name in [RESULT, PLAN] {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(corten_sys::Error::new("unlink", name, errno).into()),
        }
    }
    Ok(())
}

/// Whether all is there that [`attach`] needs.
pub fn check(wanted: &Wanted<'_>) -> Result<()> {
    plan(wanted).map(drop)
}

fn plan(wanted: &Wanted<'_>) -> Result<Plan> {
    make_plan(wanted).with_context(|| format!("network {:?}", wanted.network))
}

fn make_plan(wanted: &Wanted<'_>) -> Result<Plan> {
    let config = config::load(wanted.network, wanted.conf_dir, wanted.own_dir)?;
    let maps_ports = config.has_capability("portMappings");
    if !wanted.ports.is_empty() && !maps_ports {
        return Err(
            Error::unsupported("none of its plugins maps ports").remedy("add one of type portmap")
        );
    }
    let mut runtime_config = json!({});
    if maps_ports {
        runtime_config["portMappings"] = wanted.ports.iter().map(Port::mapping).collect();
    }
    let plan = Plan {
        id: wanted.id.to_owned(),
        path: plugin::search_path(),
        config,
        runtime_config,
    };
    for kind in plan.config.programs() {
        plugin::find(&plan.path, kind)?;
    }
    Ok(plan)
}

impl Plan {
    fn call<'a>(&'a self, number: usize, namespace: &'a Path) -> Result<PluginCall<'a>> {
        let plugin = &self.config.plugins[number];
        Ok(PluginCall {
            plugin: Plugin::of(plugin, &self.path)?,
            id: &self.id,
            namespace,
            interface: INTERFACE,
            path: &self.path,
        })
    }

    /// What plugin `number` reads on its standard input.
    fn input(&self, number: usize, previous: Option<&Value>) -> Value {
        let mut input = self.config.plugins[number].clone();
        input["name"] = json!(self.config.name);
        input["cniVersion"] = json!(self.config.version);
        let own = config::capabilities(&self.config.plugins[number]);
        let mut given = json!({});
        for (name, value) in self.runtime_config.as_object().into_iter().flatten() {
            if own.contains(&name.as_str()) {
                given[name] = value.clone();
            }
        }
        if given.as_object().is_some_and(|given| !given.is_empty()) {
            input["runtimeConfig"] = given;
        }
        if let Some(previous) = previous {
            input["prevResult"] = previous.clone();
        }
        input
    }
}

fn add(dir: BorrowedFd<'_>, path: &Path, plan: &Plan) -> Result<Connected> {
    let namespace = namespace(path);
    let mut previous: Option<Value> = None;
    for number in 0..plan.config.plugins.len() {
        let input = plan.input(number, previous.as_ref());
        let answer = plan.call(number, &namespace)?.run(Verb::Add, &input)?;
        let bytes = serde_json::to_vec(&answer).map_err(|e| Error::invalid(e.to_string()))?;
        files::replace_file(dir, dir, RESULT, &bytes)?;
        previous = Some(answer);
    }
    let last = previous.ok_or_else(|| Error::invalid("the network has no plugins"))?;
    result::connected(&last)
}

/// All plugins, the last first; those that were never called as well, for a plugin that was killed has not answered. The
/// first failure is told when all had their turn.
fn delete(dir: BorrowedFd<'_>, path: &Path, plan: &Plan) -> Result<()> {
    let previous = match files::read_file(dir, RESULT, DOCUMENT_CAP)? {
        Some(bytes) => serde_json::from_slice::<Value>(&bytes).ok(),
        None => None,
    };
    let pinned = namespace(path);
    let namespace: &Path = match is_pinned(&pinned) {
        true => &pinned,
        // As the specification says of a namespace that is gone.
        false => Path::new(""),
    };
    let mut failed = None;
    for number in (0..plan.config.plugins.len()).rev() {
        let input = plan.input(number, previous.as_ref());
        let answer = plan
            .call(number, namespace)
            .and_then(|call| call.run(Verb::Delete, &input));
        if let Err(error) = answer {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// On a thread of its own, which the namespace belongs to until it is pinned.
fn pin_new_namespace(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let pin = namespace(path);
    let file = rustix::fs::openat(
        dir,
        PIN,
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from_raw_mode(0o600),
    );
    drop(file.call("create", || PIN.to_owned())?);
    let make = || -> Result<()> {
        corten_sys::process::unshare(Namespaces::NETWORK)?;
        corten_sys::net::bring_loopback_up()?;
        rustix::mount::mount_bind("/proc/thread-self/ns/net", &pin)
            .call("mount", || format!("{pin:?}"))?;
        Ok(())
    };
    std::thread::scope(|scope| scope.spawn(make).join())
        .map_err(|_| Error::new(Kind::System, "the thread of the namespace panicked"))?
}

/// Whether the pin is a namespace, and not the file that it is mounted on.
fn is_pinned(pin: &Path) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    rustix::fs::statfs(pin).is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC)
}

fn unpin(dir: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let pin = namespace(path);
    while is_pinned(&pin) {
        corten_sys::mount::detach(&pin)?;
    }
    match rustix::fs::unlinkat(dir.as_fd(), PIN, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(corten_sys::Error::new("unlink", PIN, errno).into()),
    }
}
