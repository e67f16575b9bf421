// SPDX-License-Identifier: Apache-2.0
//! Network devices on their way into the container's network namespace, and back if the container is not to be.
//!
//! The kernel keeps a device's settings on the way, but not its addresses, and sets it down. Both sides are spoken to
//! through sockets that belong to their namespaces, so nothing is found by a path, and a device that was moved is known
//! by its number, which is chosen here: whatever its name has become. Runs in the runtime, with its privileges, while
//! init waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::process::{self, Namespaces as Kinds};
use corten_sys::route::{Address, Destination, Route};
use corten_sys::{Errno, Result as SysResult, fs};

use super::namespaces::own;
use crate::error::{Context, Error, Result};
use crate::plan::net_devices::NetDevice;

/// How many numbers are tried, from the device's own upwards, until one is free on the other side.
const NUMBERS: u32 = 256;

/// The name under which a device comes back when its own was given away meanwhile: the kernel's own choice.
const STRAY: &str = "dev%d";

const REMEDY: &str = "moving network devices needs CAP_NET_ADMIN over both network namespaces, and a device that is not \
                      bound to its own";

/// By what the container's network namespace is known.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The file that was opened to join it.
    Joined(BorrowedFd<'a>),
    /// Init, which was born into a new one.
    Init(BorrowedFd<'a>),
}

/// One side of the way.
#[derive(Debug)]
struct Side {
    namespace: OwnedFd,
    route: Route,
}

/// A device as it was on the host.
#[derive(Debug)]
struct Device {
    name: String,
    /// Its number on the host.
    index: u32,
    /// Its number in the container.
    inside: u32,
    up: bool,
    addresses: Vec<Address>,
}

/// Devices that were moved. Dropped, they are moved back, unless they have settled.
#[derive(Debug)]
pub struct Moved {
    host: Side,
    container: Side,
    devices: Vec<Device>,
}

/// Moves every device of the plan into `target`. What was moved is moved back if another can't be.
pub fn move_in(wanted: &[NetDevice], target: Target<'_>) -> Result<Moved> {
    let host = Side::here()?;
    let container = Side::of(target, &host)?;
    if same(&host, &container)? {
        let text =
            "the container's network namespace is the runtime's own, in which they are already";
        return Err(Error::invalid("/linux/netDevices", text));
    }
    let mut moved = Moved {
        host,
        container,
        devices: Vec::new(),
    };
    for device in wanted {
        moved.check(device)?;
    }
    for device in wanted {
        if let Err(error) = moved.bring_in(device) {
            let error = error
                .context(format!("move network device {}", device.name))
                .at(device.pointer.clone());
            return Err(moved.undo(error));
        }
    }
    Ok(moved)
}

impl Side {
    /// That of the namespace in which this process is.
    fn here() -> Result<Self> {
        Ok(Self {
            namespace: own("ns/net")?,
            route: Route::open()?,
        })
    }

    /// That of the container: sockets are of the namespace in which they are opened, so this process goes there for that.
    fn of(target: Target<'_>, host: &Self) -> Result<Self> {
        match target {
            Target::Joined(file) => process::join_file(file, Kinds::NETWORK),
            Target::Init(pidfd) => process::join(pidfd, Kinds::NETWORK),
        }
        .context("enter the container's network namespace")
        .at(|| "/linux/netDevices".to_owned())
        .remedy(REMEDY)?;
        let side = Self::here();
        process::join_file(host.namespace.as_fd(), Kinds::NETWORK)
            .context("return to the runtime's network namespace")?;
        side
    }

    /// Moves the device `index` to the side `to`, where it gets the number `number` or the next that is free.
    fn hand_over(&self, index: u32, to: &Self, name: &str, number: &mut u32) -> SysResult<()> {
        let first = *number;
        loop {
            let destination = Destination {
                namespace: to.namespace.as_fd(),
                name,
                index: *number,
            };
            match self.route.move_link(index, destination) {
                Err(error) if error.errno() == Errno::BUSY && *number - first < NUMBERS => {
                    *number = number.saturating_add(1);
                }
                answer => return answer,
            }
        }
    }
}

fn same(one: &Side, other: &Side) -> Result<bool> {
    let (one, other) = (
        fs::stat(one.namespace.as_fd())?,
        fs::stat(other.namespace.as_fd())?,
    );
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

impl Moved {
    /// Whether a device can be moved, as far as it can be told before any is.
    fn check(&self, wanted: &NetDevice) -> Result<()> {
        let invalid = |text: String| Err(Error::invalid(wanted.pointer.clone(), text));
        let (name, inside) = (&wanted.name, &wanted.inside);
        if self.host.route.link_named(name)?.is_none() {
            return invalid(format!(
                "the runtime's network namespace has no device {name}"
            ));
        }
        if !wanted.is_template() && self.container.route.link_named(inside)?.is_some() {
            return invalid(format!(
                "the container's network namespace has a device {inside} already"
            ));
        }
        Ok(())
    }

    fn bring_in(&mut self, wanted: &NetDevice) -> Result<()> {
        let (host, container) = (&self.host.route, &self.container.route);
        let gone = || Error::from(corten_sys::Error::new("rtnetlink", "", Errno::NODEV));
        let link = host.link_named(&wanted.name)?.ok_or_else(gone)?;
        // Before it goes down, with which it loses those of IPv6.
        let addresses = host.addresses(link.index)?;
        let mut inside = link.index;
        let answer = self
            .host
            .hand_over(link.index, &self.container, &wanted.inside, &mut inside);
        // The kernel moves first and names then: it may be on the other side in spite of an error.
        if answer.is_ok() || host.link_at(link.index)?.is_none() {
            self.devices.push(Device {
                name: link.name.clone(),
                index: link.index,
                inside,
                up: link.up,
                addresses: addresses.clone(),
            });
        }
        answer.remedy(REMEDY)?;
        let name = container.link_at(inside)?.ok_or_else(gone)?.name;
        for address in addresses {
            if address.is_permanent() && address.is_global() {
                container.add_address(inside, &address.renamed(&link.name, &name))?;
            }
        }
        Ok(container.set_up(inside)?)
    }

    /// The container is there to stay, and its devices are its own from here on (runtime-spec, config-linux.md, Namespace
    /// Lifecycle and Container Termination).
    pub fn settle(mut self) {
        self.devices.clear();
    }

    /// Moves them back because of `error`, which is what the user is told.
    pub fn undo(mut self, error: Error) -> Error {
        match self.take_all_back() {
            Ok(()) => error,
            Err(also) => error.context(format!("while undoing, {also}")),
        }
    }

    /// The last one first. One that can't come back keeps no other from it.
    fn take_all_back(&mut self) -> Result<()> {
        let mut answer = Ok(());
        while let Some(device) = self.devices.pop() {
            let back = self.take_back(&device);
            let back = back.with_context(|| format!("move network device {} back", device.name));
            answer = answer.and(back);
        }
        answer
    }

    fn take_back(&self, device: &Device) -> Result<()> {
        let (host, inside) = (&self.host.route, device.inside);
        let is_inside = || {
            let link = self.container.route.link_at(inside);
            link.map(|link| link.is_some())
        };
        // Who owns a namespace that was joined may have taken it somewhere else.
        if !is_inside()? {
            return Ok(());
        }
        let mut number = device.index;
        let mut hand_over = |name| {
            self.container
                .hand_over(inside, &self.host, name, &mut number)
        };
        let named = hand_over(&device.name);
        if named.is_err() && is_inside()? {
            hand_over(STRAY)?;
        }
        if let Some(link) = host.link_at(number)? {
            for address in device.addresses.iter().filter(|one| !one.is_derived()) {
                match host.add_address(number, &address.renamed(&device.name, &link.name)) {
                    // The kernel makes some itself.
                    Err(error) if error.errno() == Errno::EXIST => {}
                    answer => answer?,
                }
            }
            if device.up {
                host.set_up(number)?;
            }
        }
        Ok(named?)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // What leads here without `undo` has an error of its own to tell already.
        let _ = self.take_all_back();
    }
}
