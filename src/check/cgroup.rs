// SPDX-License-Identifier: Apache-2.0
//! Questions about the cgroup that a container would have. Part of `check`; reads only.

use std::fs::read_to_string;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::cgroup_fs;
use corten_sys::fs::{self, Mode, OFlags};

use super::Asked;
use crate::bundle::finding::Report;
use crate::cgroup::resources::{Hierarchy, Missing, Setting};
use crate::cgroup::{Need, needs};
use crate::host::kernel::{highest, highest_in};
use crate::plan::scope::Scope;

/// What nobody but a cgroup holds, or ends.
pub(super) fn needed(asked: &Asked<'_>, report: &mut Report) {
    if let Some(Err(error)) = asked
        .place
        .map(|place| place.hold(&mut asked.plan.clone(), asked.resources))
    {
        report.fail(&error);
    }
}

pub(super) fn unused(asked: &Asked<'_>, report: &mut Report) {
    if asked.plan.cgroup.is_none() {
        return;
    }
    let path = asked.plan.cgroup.unified.path();
    let events = read_to_string(path.join("cgroup.events")).unwrap_or_default();
    for (event, what) in [
        ("populated 1", "holds processes already"),
        ("frozen 1", "is frozen"),
    ] {
        if events.lines().any(|line| line == event) {
            report.lacks(
                "/linux/cgroupsPath",
                format!("cgroup {} {what}", path.display()),
                "choose another linux.cgroupsPath",
            );
        }
    }
}

/// What `create` would find on its way from the mount down to the cgroup.
pub(super) fn controllers(asked: &Asked<'_>, report: &mut Report) {
    if asked.plan.cgroup.is_none() {
        return;
    }
    if let Some(scope) = &asked.plan.cgroup.scope {
        return systemds(asked, scope, report);
    }
    let place = &asked.plan.cgroup.unified;
    let here = read_to_string(place.path().join("cgroup.controllers")).unwrap_or_default();
    let mut needs = needs(&asked.resources.settings);
    needs.retain(|need| !lists(&here, need.controller));
    let mut level = place.mount.clone();
    for name in place.cgroup.components() {
        let Ok(available) = read_to_string(level.join("cgroup.controllers")) else {
            return;
        };
        let enabled = read_to_string(level.join("cgroup.subtree_control")).unwrap_or_default();
        needs.retain(|need| {
            let wrong = obstacle(&level, need, &available, &enabled);
            if let Some((text, remedy)) = &wrong {
                report.lacks(need.pointer, text, remedy);
            }
            wrong.is_none()
        });
        level.push(name);
    }
}

/// What systemd has itself it gives to its scopes.
fn systemds(asked: &Asked<'_>, scope: &Scope, report: &mut Report) {
    let cgroup = asked.plan.cgroup.unified.path();
    let Some(own) = cgroup.ancestors().nth(scope.slices().len() + 1) else {
        return;
    };
    let Ok(available) = read_to_string(own.join("cgroup.controllers")) else {
        return;
    };
    for need in needs(&asked.resources.settings) {
        if !lists(&available, need.controller) {
            report.lacks(need.pointer, unavailable(&need, own), DELEGATE);
        }
    }
}

const DELEGATE: &str = "mount it on cgroup v2, or have it delegated to this cgroup";

fn unavailable(need: &Need<'_>, level: &Path) -> String {
    format!(
        "controller {} is not available in cgroup {}",
        need.controller,
        level.display()
    )
}

fn obstacle(
    level: &Path,
    need: &Need<'_>,
    available: &str,
    enabled: &str,
) -> Option<(String, String)> {
    let (controller, shown) = (need.controller, level.display());
    if !lists(available, controller) {
        return Some((unavailable(need, level), DELEGATE.to_owned()));
    }
    if lists(enabled, controller) {
        return None;
    }
    let control = level.join("cgroup.subtree_control");
    let flags = OFlags::WRONLY;
    if let Err(error) = fs::open(fs::CWD, &control, flags, Mode::empty()) {
        let text = format!("the caller can't enable {controller} below cgroup {shown}: {error}");
        return Some((
            text,
            "run corten as root, or have the cgroup delegated".to_owned(),
        ));
    }
    // "No internal processes": only the root and what has no processes may give controllers to its children.
    let is_root = !level.join("cgroup.type").exists();
    let busy = read_to_string(level.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    (busy && !is_root).then(|| {
        let text = format!(
            "{controller} can't be enabled below cgroup {shown}, which has processes of its own"
        );
        let remedy = "choose a linux.cgroupsPath below a cgroup that has none";
        (text, remedy.to_owned())
    })
}

/// A cgroup that has the controller shows its files; where there is none nothing can be said.
pub(super) fn files(asked: &Asked<'_>, report: &mut Report) {
    for setting in &asked.resources.settings {
        let files: &[&str] = match &setting.missing {
            Missing::Accept => continue,
            Missing::Refuse => &[&setting.file],
            Missing::Instead { file, .. } => &[&setting.file, file],
        };
        let Some(sample) = sample(asked, setting) else {
            continue;
        };
        if !files.iter().any(|file| sample.join(file).exists()) {
            let text = format!(
                "this kernel's {} controller has no file {}",
                setting.controller, setting.file
            );
            report.lacks(&setting.pointer, text, "");
        }
    }
}

/// Some cgroup that has the setting's controller.
fn sample(asked: &Asked<'_>, setting: &Setting) -> Option<PathBuf> {
    let paths = &asked.plan.cgroup;
    let (place, is_v1) = match setting.hierarchy {
        Hierarchy::Unified => (&paths.unified, false),
        Hierarchy::V1(index) => (paths.v1.get(index)?, true),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = fs::open(fs::CWD, &place.mount, flags, Mode::empty()).ok()?;
    let names = cgroup_fs::subdirectories(dir.as_fd()).ok()?;
    let has = |path: &PathBuf| {
        let list = read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        is_v1 || setting.controller.is_empty() || lists(&list, &setting.controller)
    };
    names.iter().map(|name| place.mount.join(name)).find(has)
}

pub(super) fn cpu(asked: &Asked<'_>, report: &mut Report) {
    let resources = asked.linux().and_then(|linux| linux.resources.as_ref());
    let Some(cpu) = resources.and_then(|resources| resources.cpu.as_ref()) else {
        return;
    };
    for (field, kind, list) in [("cpus", "cpu", &cpu.cpus), ("mems", "node", &cpu.mems)] {
        let wanted = list.as_deref().and_then(highest_in);
        if let (Some(wanted), Some(most)) = (wanted, highest(kind))
            && wanted > most
        {
            let text = format!("this machine has no {kind} {wanted}, the last one is {most}");
            report.lacks(format!("/linux/resources/cpu/{field}"), text, "");
        }
    }
}

/// A size that the kernel has is a directory in sysfs, `hugepages-2048kB`.
pub(super) fn hugepages(asked: &Asked<'_>, report: &mut Report) {
    let sizes = Path::new("/sys/kernel/mm/hugepages");
    let resources = asked.linux().and_then(|linux| linux.resources.as_ref());
    let limits = resources.map_or(&[][..], |resources| &resources.hugepage_limits);
    for (index, limit) in limits.iter().enumerate().filter(|_| sizes.is_dir()) {
        let size = limit.page_size.as_str();
        let units = [("KB", 1), ("MB", 1 << 10), ("GB", 1 << 20)];
        let kilobytes = units.iter().find_map(|(unit, factor)| {
            let number = size.strip_suffix(unit)?.parse::<u64>().ok()?;
            number.checked_mul(*factor)
        });
        if kilobytes.is_none_or(|size| !sizes.join(format!("hugepages-{size}kB")).is_dir()) {
            let pointer = format!("/linux/resources/hugepageLimits/{index}/limit");
            report.lacks(pointer, format!("this kernel has no pages of {size}"), "");
        }
    }
}

fn lists(controllers: &str, wanted: &str) -> bool {
    controllers.split_whitespace().any(|name| name == wanted)
}
