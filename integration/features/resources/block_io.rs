// SPDX-License-Identifier: Apache-2.0
//! Block devices: weights and throttles, on a disk that is the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use corten_integration::{Container, Draft, Trial, eventually, has_controllers, trial};
use serde_json::{Value, json};

use super::{file, shows, up, v1, with};

/// A loop device over a file of the trial, with the one scheduler that knows weights.
pub(super) struct Disk {
    path: PathBuf,
    major: u32,
    minor: u32,
}

impl Disk {
    pub(super) const BYTES: u64 = 8 << 20;

    /// `None`, with a word on stderr, where the host has no loop devices.
    pub(super) fn make(t: &Trial) -> Option<Self> {
        let image = t.file("disk", "");
        let made = fs::OpenOptions::new().write(true).open(&image);
        made.and_then(|file| file.set_len(Self::BYTES)).unwrap();
        let mut losetup = Command::new("losetup");
        let answer = losetup.args(["--find", "--show"]).arg(&image).output();
        let Some(answer) = answer.ok().filter(|answer| answer.status.success()) else {
            eprintln!("this host has no loop devices: nothing to test");
            return None;
        };
        let path = PathBuf::from(String::from_utf8(answer.stdout).unwrap().trim());
        let device = rustix::fs::stat(&path).unwrap().st_rdev;
        let disk = Self {
            path,
            major: rustix::fs::major(device),
            minor: rustix::fs::minor(device),
        };
        // Without it there are no weights by device; the throttles are anybody's.
        let _ = fs::write(disk.queue("scheduler"), "bfq");
        Some(disk)
    }

    fn queue(&self, file: &str) -> PathBuf {
        let name = self.path.file_name().unwrap().to_string_lossy();
        PathBuf::from(format!("/sys/block/{name}/queue/{file}"))
    }

    fn has_weights(&self) -> bool {
        fs::read_to_string(self.queue("scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    }

    fn number(&self) -> String {
        format!("{}:{}", self.major, self.minor)
    }

    /// An entry of one of the lists of `linux.resources.blockIO`.
    pub(super) fn entry(&self, key: &str, value: u64) -> Value {
        json!([{"major": self.major, "minor": self.minor, key: value}])
    }

    /// The disk as /dev/disk of the container, which may write to it.
    pub(super) fn inside<'t>(&self, draft: Draft<'t>) -> Draft<'t> {
        let node =
            json!({"path": "/dev/disk", "type": "b", "major": self.major, "minor": self.minor});
        let rule = json!({"allow": true, "type": "b", "major": self.major, "minor": self.minor, "access": "rw"});
        draft
            .with("/linux/devices/-", node)
            .with("/linux/resources/devices/-", rule)
    }

    /// The bytes that the container has written to the disk, as the kernel counts them.
    pub(super) fn written(&self, c: &Container<'_>) -> u64 {
        let text = file(c, "blkio", "blkio.throttle.io_service_bytes", "io.stat");
        let mut words = text
            .lines()
            .filter_map(|line| line.strip_prefix(&self.number()))
            .flat_map(str::split_whitespace);
        let count = if v1("blkio") {
            words
                .find(|word| *word == "Write")
                .and_then(|_| words.next())
        } else {
            words.find_map(|word| word.strip_prefix("wbytes="))
        };
        count.map_or(0, |count| count.parse().unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A device that stays is another test's to find.
        let _ = fs::write(self.queue("scheduler"), "none");
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
    }
}

pub(super) fn has_block_io() -> bool {
    v1("blkio") || has_controllers(&["io"])
}

#[test]
fn throttles_are_read_back() {
    trial(|t| {
        if !has_block_io() {
            return;
        }
        let Some(disk) = Disk::make(t) else { return };
        let c = up(
            t,
            &json!({"blockIO": {
                "throttleReadBpsDevice": disk.entry("rate", 1_048_576),
                "throttleWriteBpsDevice": disk.entry("rate", 2_097_152),
                "throttleReadIOPSDevice": disk.entry("rate", 300),
                "throttleWriteIOPSDevice": disk.entry("rate", 400),
            }}),
        );
        let number = disk.number();
        // Four values of one line on v2: none takes another's place.
        let on_v2 = format!("{number} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        for (name, rate) in [
            ("blkio.throttle.read_bps_device", 1_048_576),
            ("blkio.throttle.write_bps_device", 2_097_152),
            ("blkio.throttle.read_iops_device", 300),
            ("blkio.throttle.write_iops_device", 400),
        ] {
            let on_v1 = format!("{number} {rate}");
            shows(&c, &[("blkio", (name, &on_v1), ("io.max", &on_v2))]);
        }
        c.end();
        assert!(!c.cgroup("blkio").exists());
    });
}

/// A file of v2 beside a field for the same device: each key by itself, and the file's word is the last.
#[test]
fn a_file_and_a_field_are_about_one_device() {
    trial(|t| {
        if v1("blkio") || !has_block_io() {
            return;
        }
        let Some(disk) = Disk::make(t) else { return };
        let number = disk.number();
        let resources = |write: u64| {
            json!({
                "blockIO": {
                    "throttleReadBpsDevice": disk.entry("rate", 1_048_576),
                    "throttleWriteBpsDevice": disk.entry("rate", write),
                },
                "unified": {"io.max": format!("0{number} rbps=02097152 riops=300 wiops=max")},
            })
        };
        let c = up(t, &resources(4_194_304));
        for write in [4_194_304, 8_388_608] {
            let shown = format!("{number} rbps=2097152 wbps={write} riops=300 wiops=max");
            assert_eq!(c.cgroup_file("blkio", "io.max"), shown);
            let text = resources(8_388_608).to_string();
            c.verb("update", &["-r", "-"]).stdin(&text).end().ok();
        }
        // The former values of the device come back with one that is refused.
        let text =
            format!(r#"{{"unified": {{"io.max": "{number} rbps=5000", "pids.max": "no"}}}}"#);
        c.verb("update", &["-r", "-"]).stdin(&text).end().fails();
        let shown = format!("{number} rbps=2097152 wbps=8388608 riops=300 wiops=max");
        assert_eq!(c.cgroup_file("blkio", "io.max"), shown);
        c.end();
    });
}

#[test]
fn weights_are_read_back() {
    trial(|t| {
        if !has_block_io() {
            return;
        }
        let Some(disk) = Disk::make(t) else { return };
        let c = up(t, &json!({"blockIO": {"weight": 300}}));
        let on_v2 = c.cgroup("blkio").join("io.bfq.weight").exists();
        let (name, value) = match (v1("blkio"), on_v2) {
            (true, _) => ("blkio.bfq.weight", "300"),
            (false, true) => ("io.bfq.weight", "default 300"),
            // From 10..1000 to 1..10000.
            (false, false) => ("io.weight", "default 2930"),
        };
        let shown = c.cgroup_file("blkio", name);
        assert_eq!(
            shown.trim_start_matches("default "),
            value.trim_start_matches("default ")
        );
        c.end();
        if !disk.has_weights() {
            eprintln!("this kernel has no BFQ: no weights by device");
            return;
        }
        let device = json!({"blockIO": {"weight": 300, "weightDevice": disk.entry("weight", 200)}});
        let c = up(t, &device);
        let wanted = format!("{} 200", disk.number());
        let shown = file(&c, "blkio", "blkio.bfq.weight_device", "io.bfq.weight");
        assert!(shown.lines().any(|line| line == wanted), "{shown}");
        c.end();
    });
}

/// Two containers write the same: when the free one is done, the throttled one is not. At its rate the whole would
/// take more than two minutes, which no disk needs.
#[test]
fn a_throttle_is_felt() {
    trial(|t| {
        if !has_block_io() {
            return;
        }
        for (list, key) in [
            ("throttleWriteBpsDevice", 65_536),
            ("throttleWriteIOPSDevice", 4),
        ] {
            let Some(disk) = Disk::make(t) else { return };
            let steps = format!(
                "print up + direct /dev/disk {} 16384 + print done + pause",
                Disk::BYTES / 16384
            );
            let limits = json!({"blockIO": {list: disk.entry("rate", key)}});
            let held = disk.inside(with(t, &limits)).probe(&steps).done();
            let free = disk.inside(with(t, &json!({}))).probe(&steps).done();
            let out = held.run_detached();
            held.says(&out, "up");
            let out = free.run_detached();
            free.says(&out, "done");
            let written = [disk.written(&held), disk.written(&free)];
            assert_eq!(written[1], Disk::BYTES, "{list}");
            assert!(written[0] < Disk::BYTES, "{list}: {written:?}");
            // And it goes on, at its pace.
            eventually("a write of the throttled container", || {
                (disk.written(&held) > 0).then_some(())
            });
            held.delete_force().ok();
            free.end();
        }
    });
}
