// SPDX-License-Identifier: Apache-2.0
//! Namespaces that are given by path, and the two kinds that only children get: the runtime enters those itself for the
//! moment of the clone, and leaves them again.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fs::{self, Mode, OFlags, Procfs};
use corten_sys::process::{self, Namespaces as Kinds};
use corten_sys::{Errno, socket};

use crate::clocks;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::join::{JoinPlan, Pids};
use crate::plan::namespaces::{Caller, Way};
use crate::protocol::{self, ParentEnd, ToParent, out_of_order};

/// An open namespace, by kind.
pub type Opened = (Kinds, OwnedFd);

/// Opens every namespace that is joined by path.
pub fn open(plan: &Plan) -> Result<Vec<Opened>> {
    let mut opened = Vec::new();
    for join in &plan.namespaces.join {
        let file = fs::open(fs::CWD, &join.path, OFlags::RDONLY, Mode::empty())
            .with_context(|| format!("open the namespace {}", join.path.display()))
            .at(|| join.pointer.clone())?;
        refuse_own(plan, join.kind, file.as_fd()).at(|| join.pointer.clone())?;
        opened.push((join.kind, file));
    }
    Ok(opened)
}

/// Refuses a namespace that is the runtime's own where config.json would change it. SECURITY: the rules let names, kernel
/// parameters and devices pass because there is a namespace of the container's; this one is the host's.
fn refuse_own(plan: &Plan, kind: Kinds, file: BorrowedFd<'_>) -> Result<()> {
    let Some((name, change)) = plan.change_in(kind) else {
        return Ok(());
    };
    let (own, joined) = (fs::stat(own(name)?.as_fd())?, fs::stat(file)?);
    if (own.st_dev, own.st_ino) != (joined.st_dev, joined.st_ino) {
        return Ok(());
    }
    let text = format!("it is the host's own namespace, and {change} would change the host");
    Err(Error::new(Kind::Invalid, text))
}

/// The runtime as it is for the clone.
#[derive(Debug)]
pub struct Entered {
    /// What the clone makes anew.
    pub to_clone: Kinds,
    /// What init joins itself, in order.
    pub joins: Vec<Opened>,
    /// What a first process joins, in order, before it clones init.
    pub hop: Vec<Opened>,
    /// The way back.
    pub back: Back,
}

/// The runtime's own namespaces for children.
#[derive(Debug, Default)]
pub struct Back(Vec<Opened>);

impl Back {
    /// The runtime's next children (hooks) are its own again.
    pub fn leave(self) -> Result<()> {
        for (kind, own) in self.0 {
            process::join_file(own.as_fd(), kind).context("return to the runtime's namespaces")?;
        }
        Ok(())
    }
}

/// Enters, for children only, the PID namespace that is joined and a time namespace (joined, or new with its offsets).
pub fn enter(plan: &Plan, opened: Vec<Opened>) -> Result<Entered> {
    let mut entered = Entered {
        to_clone: plan.namespaces.create,
        joins: Vec::new(),
        hop: Vec::new(),
        back: Back::default(),
    };
    let mut pids = None;
    for (kind, file) in opened {
        let caller = plan.namespaces.caller;
        if kind == Kinds::PID && caller != Caller::Host {
            pids = Some((kind, file));
        } else if kind == Kinds::PID {
            entered.back.0.push((kind, own("ns/pid")?));
            process::join_file(file.as_fd(), kind)
                .context("join the PID namespace")
                .at(|| pointer(plan, kind))?;
        } else if kind == Kinds::USER && plan.namespaces.way == Way::Hop {
            entered.hop.push((kind, file));
        } else {
            entered.joins.push((kind, file));
        }
    }
    let place = match plan.namespaces.caller {
        // With the rights over the container's user namespace, or with those over the runtime's own.
        Caller::Plain => entered.hop.len(),
        Caller::Host | Caller::Confined => 0,
    };
    entered.hop.splice(place..place, pids);
    if entered.to_clone.contains(Kinds::TIME) {
        if !plan.namespaces.hop_makes_time() {
            entered.back.0.push((Kinds::TIME, own("ns/time")?));
            clocks::make(&plan.namespaces)?;
        }
        // CLONE_NEWTIME in clone3 would fix the offsets before they could be written.
        entered.to_clone = entered.to_clone.without(Kinds::TIME);
    }
    Ok(entered)
}

/// Enters, for children only, the PID namespace of the container's `init`.
pub fn enter_pids(plan: &JoinPlan, init: BorrowedFd<'_>) -> Result<Back> {
    let mut back = Back::default();
    if plan.pids == Pids::Containers && plan.hop.is_empty() {
        back.0.push((Kinds::PID, own("ns/pid")?));
        process::join(init, Kinds::PID).context("join the container's PID namespace")?;
    }
    Ok(back)
}

fn pointer(plan: &Plan, kind: Kinds) -> String {
    let join = plan.namespaces.join.iter().find(|join| join.kind == kind);
    join.map_or_else(
        || "/linux/namespaces".to_owned(),
        |join| join.pointer.clone(),
    )
}

/// A namespace of this process.
pub(super) fn own(name: &str) -> Result<OwnedFd> {
    let path = Path::new("/proc/self").join(name);
    Ok(fs::open(fs::CWD, &path, OFlags::RDONLY, Mode::empty())?)
}

/// The pidfd and pid of the init that a first process has cloned; `None` if that process died.
pub fn receive_init(channel: &ParentEnd) -> Result<Option<(i32, OwnedFd)>> {
    let pidfd = receive_descriptor(channel, "init's pidfd")?;
    pidfd.map(|pidfd| Ok((pid_of(&pidfd)?, pidfd))).transpose()
}

/// The descriptor that the child sends; `None` if it died.
pub fn receive_descriptor(channel: &ParentEnd, what: &str) -> Result<Option<OwnedFd>> {
    let message =
        socket::receive(channel.as_fd(), 1 << 16).with_context(|| format!("receive {what}"))?;
    match (message.fd, message.bytes.as_slice()) {
        (Some(fd), _) => Ok(Some(fd)),
        (None, []) => Ok(None),
        (None, bytes) => match protocol::decode(bytes)? {
            ToParent::Failed { error, .. } => Err(error),
            other => Err(out_of_order(&other, what)),
        },
    }
}

/// The number of the process behind `pidfd` in this PID namespace (proc(5), fdinfo).
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    let file =
        Procfs::open()?.own_file(&format!("fdinfo/{}", pidfd.as_raw_fd()), OFlags::RDONLY)?;
    let text = fs::read_to_end(file.as_fd(), 4096)?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    number
        .and_then(|number| number.trim().parse().ok())
        .filter(|&pid| pid > 0)
        .ok_or_else(|| corten_sys::Error::new("pidfd", "init is gone", Errno::SRCH).into())
}
