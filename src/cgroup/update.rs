// SPDX-License-Identifier: Apache-2.0
//! New limits for a container that runs, and what undoes them. The one place where `update` changes a cgroup.

use std::path::Path;

use corten_sys::Errno;
use corten_sys::fs;

use super::control::{is_gone, read_at};
use super::resources::{Hierarchy, Missing, Setting};
use super::{Cgroup, controllers, hybrid, number, systemd};
use crate::error::{Context, Error, Kind, Result};

impl Cgroup {
    /// What undoes `settings`, which are about to be written, and what an earlier change, cut short, has left to undo in
    /// `left`. Gives the cgroup the controllers that they need: without them there is nothing to read.
    pub fn former(&self, settings: &[Setting], left: Vec<Setting>) -> Result<Vec<Setting>> {
        controllers::enable(self, settings)?;
        let mut former = left;
        for setting in settings {
            // What that change wrote is nobody's former limit.
            if !former.iter().any(|undo| is_about(setting, undo)) {
                former.extend(self.undoing(setting)?);
            }
        }
        Ok(former)
    }

    /// Gives the cgroup `settings` in addition to what it has. An error may leave some of them changed.
    pub fn update(&self, settings: &[Setting]) -> Result<()> {
        hybrid::realtime(&self.paths().v1, settings)
            .and_then(|()| self.restore(settings))
            .and_then(|()| self.verify(settings))
            .map_err(|error| match error.errno() {
                // What v1 answers where it can't reclaim enough.
                Some(Errno::BUSY) => match self.memory_used() {
                    Ok(Some(used)) => error.remedy(format!("{used} bytes of memory are used")),
                    _ => error,
                },
                _ => error,
            })
    }

    /// Writes `settings`, values that the cgroup had before. systemd is told first, where the cgroup is a unit's: it would
    /// set the old limits again some day.
    pub fn restore(&self, settings: &[Setting]) -> Result<()> {
        if let Some(scope) = &self.paths().scope {
            systemd::update(scope, settings)?;
        }
        self.apply(settings)
    }

    /// The bytes of memory that are used, or `None` where nobody counts them.
    pub fn memory_used(&self) -> Result<Option<u64>> {
        let v1 = |name: &String| name == "memory";
        let place = self.paths().v1.iter();
        let mut place = place.filter(|place| place.controllers.iter().any(v1));
        let text = match place.next() {
            Some(place) => read_at(fs::CWD, &place.path().join("memory.usage_in_bytes")),
            None => read_at(self.dir(), Path::new("memory.current")),
        };
        match text {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the file of `setting` or, where it is missing, of its substitute says.
    pub(super) fn found(&self, setting: &Setting) -> Result<Option<(String, String)>> {
        let mut files = vec![setting.file.as_str()];
        if let Missing::Instead { file, .. } = &setting.missing {
            files.push(file);
        }
        for file in files {
            let text = match setting.hierarchy {
                Hierarchy::Unified => read_at(self.dir(), Path::new(file)),
                Hierarchy::V1(index) => {
                    let place = self.paths().v1.get(index).ok_or_else(|| {
                        let text = format!("no v1 hierarchy for {file}");
                        Error::new(Kind::System, text)
                    })?;
                    read_at(fs::CWD, &place.path().join(file))
                }
            };
            match text {
                Ok(text) => return Ok(Some((file.to_owned(), text))),
                Err(error) if error.errno() == Errno::NOENT => {}
                // There are files that are only written.
                Err(error) if matches!(error.errno(), Errno::INVAL | Errno::ACCESS) => {
                    return Ok(None);
                }
                Err(error) => return Err(error).with_context(|| format!("read {file}")),
            }
        }
        Ok(None)
    }

    /// What undoes `setting`.
    fn undoing(&self, setting: &Setting) -> Result<Option<Setting>> {
        let Some((file, text)) = self.found(setting)? else {
            return Ok(None);
        };
        let value = former(&file, &setting.value, &text);
        Ok(value.map(|value| Setting {
            file,
            value,
            missing: Missing::Accept,
            ..setting.clone()
        }))
    }
}

/// `settings` on top of what an earlier change, cut short, has left to undo: what they say nothing of is put back with
/// them.
pub fn on_top(left: &[Setting], mut settings: Vec<Setting>) -> Vec<Setting> {
    let is_open = |undo: &&Setting| !settings.iter().any(|setting| is_about(setting, undo));
    let open: Vec<Setting> = left.iter().filter(is_open).cloned().collect();
    for undo in open.into_iter().rev() {
        // Values of one controller may depend on each other, and are written together.
        let same = |setting: &Setting| setting.controller == undo.controller;
        let at = settings.iter().position(same).unwrap_or(settings.len());
        settings.insert(at, undo);
    }
    settings
}

/// Whether `undo` undoes `setting`.
fn is_about(setting: &Setting, undo: &Setting) -> bool {
    let same = |file: &str, value: &str| {
        file == undo.file && subject(file, value) == subject(file, &undo.value)
    };
    let instead = match &setting.missing {
        Missing::Instead { file, value } => same(file, value),
        Missing::Accept | Missing::Refuse => false,
    };
    setting.hierarchy == undo.hierarchy && (instead || same(&setting.file, &setting.value))
}

/// The files with a line for each device, resource or interface, or for pressure and time.
const BY_LINES: [&str; 10] = [
    "blkio.bfq.weight_device",
    "blkio.weight_device",
    "io.bfq.weight",
    "io.latency",
    "io.max",
    "io.prio.class",
    "io.weight",
    "misc.max",
    "net_prio.ifpriomap",
    "rdma.max",
];

/// What `value` is about, where `file` has a line for each such thing: its first word, devices as the kernel shows them.
pub(super) fn subject(file: &str, value: &str) -> Option<String> {
    if !BY_LINES.contains(&file) && !file.starts_with("blkio.throttle.") {
        return None;
    }
    let value = value.trim();
    if let Some(((major, minor), _)) = number::device(value) {
        return Some(format!("{major}:{minor}"));
    }
    let (first, _) = value.split_once(char::is_whitespace)?;
    Some(first.to_owned())
}

/// The line of `text` about `subject`.
pub(super) fn line_about<'a>(text: &'a str, subject: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find(|line| line.split_whitespace().next() == Some(subject))
}

/// What to write to `file`, which says `text`, to undo a write of `written`. `None` if nothing would.
fn former(file: &str, written: &str, text: &str) -> Option<String> {
    if let Some(subject) = subject(file, written) {
        if let Some(line) = line_about(text, &subject) {
            return Some(line.to_owned());
        }
        // A device without a line has no limit of its own.
        let none = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            _ if file.starts_with("blkio.throttle.") => "0",
            _ if file.contains("weight") => "default",
            _ => return None,
        };
        return Some(format!("{subject} {none}"));
    }
    let text = text.trim();
    match file {
        "memory.oom_control" => line_about(text, "oom_kill_disable")?
            .split_whitespace()
            .last()
            .map(str::to_owned),
        // What an idle cgroup says, and nobody may write.
        "cpu.weight" if text == "0" => None,
        // How much there has been; what is written there is a question, and ends with its descriptor.
        _ if file.ends_with(".pressure") && file != "cgroup.pressure" => None,
        _ => {
            let first = text.lines().next().unwrap_or_default();
            let value = first.strip_prefix("default ").unwrap_or(first);
            // An empty write would be none at all.
            Some(if value.is_empty() { "\n" } else { value }.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(controller: &str, file: &str, value: &str) -> Setting {
        Setting {
            hierarchy: Hierarchy::Unified,
            controller: controller.into(),
            file: file.into(),
            value: value.into(),
            pointer: String::new(),
            missing: Missing::Accept,
        }
    }

    #[test]
    fn what_was_left_to_undo_goes_with_its_controller() {
        let left = [
            setting("memory", "memory.swap.max", "0"),
            setting("memory", "memory.max", "64"),
            setting("io", "io.max", "8:0 rbps=7"),
            setting("io", "io.max", "8:16 rbps=7"),
            setting("io", "io.weight", "default 100"),
            setting("cpu", "cpu.max", "max 100000"),
            setting("cpu", "cpu.weight", "100"),
        ];
        let wanted = vec![
            setting("pids", "pids.max", "5"),
            setting("memory", "memory.max", "max"),
            setting("io", "io.max", "8:16 rbps=9"),
            Setting {
                missing: Missing::Instead {
                    file: "io.weight".into(),
                    value: "default 50".into(),
                },
                ..setting("io", "io.bfq.weight", "50")
            },
        ];
        let all = on_top(&left, wanted);
        let all: Vec<_> = all.iter().map(|one| (&*one.file, &*one.value)).collect();
        assert_eq!(
            all,
            [
                ("pids.max", "5"),
                ("memory.swap.max", "0"),
                ("memory.max", "max"),
                ("io.max", "8:0 rbps=7"),
                ("io.max", "8:16 rbps=9"),
                ("io.bfq.weight", "50"),
                ("cpu.max", "max 100000"),
                ("cpu.weight", "100"),
            ]
        );
    }

    #[test]
    fn undoes_what_was_written() {
        for (file, written, text, wanted) in [
            ("memory.max", "100", "max\n", Some("max")),
            (
                "cpu.max",
                "50000 100000",
                "max 100000\n",
                Some("max 100000"),
            ),
            (
                "cpu.max",
                "max 100000",
                "20000 100000\n",
                Some("20000 100000"),
            ),
            ("cpu.weight", "10", "0\n", None),
            ("cpu.weight", "10", "100\n", Some("100")),
            ("cpuset.cpus", "0", "\n", Some("\n")),
            ("cpuset.cpus", "0", "0-1\n", Some("0-1")),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
                Some("0"),
            ),
            (
                "io.max",
                "8:0 rbps=100",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                Some("8:0 rbps=7 wbps=max riops=max wiops=max"),
            ),
            (
                "io.max",
                "8:0 rbps=100",
                "8:16 rbps=7 wbps=max riops=max wiops=max\n",
                Some("8:0 rbps=max wbps=max riops=max wiops=max"),
            ),
            ("io.bfq.weight", "10", "default 100\n8:0 7\n", Some("100")),
            (
                "io.weight",
                "default 10",
                "default 100\n",
                Some("default 100"),
            ),
            ("io.weight", "8:0 10", "default 100\n", Some("8:0 default")),
            (
                "blkio.throttle.read_bps_device",
                "8:0 100",
                "",
                Some("8:0 0"),
            ),
            (
                "rdma.max",
                "mlx5_0 hca_handle=3",
                "mlx5_0 hca_handle=2 hca_object=max\n",
                Some("mlx5_0 hca_handle=2 hca_object=max"),
            ),
            (
                "net_prio.ifpriomap",
                "eth0 5",
                "lo 0\neth0 1\n",
                Some("eth0 1"),
            ),
            ("misc.max", "res 5", "", None),
            ("memory.max", "0x40", "max\n", Some("max")),
            ("cpu.max", "5e4 0100", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0-1 3", "0\n", Some("0")),
            (
                "io.max",
                "08: 00  rbps=1",
                "8:0 rbps=7 wbps=max riops=max wiops=max\n",
                Some("8:0 rbps=7 wbps=max riops=max wiops=max"),
            ),
            (
                "io.weight",
                "08:016 10",
                "default 100\n",
                Some("8:16 default"),
            ),
            (
                "memory.pressure",
                "some 150000 1000000",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                None,
            ),
        ] {
            let found = former(file, written, text);
            assert_eq!(found.as_deref(), wanted, "{file} {written:?} {text:?}");
        }
    }
}
