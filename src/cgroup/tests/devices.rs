// SPDX-License-Identifier: Apache-2.0
//! Device rules, felt by processes in the cgroup.

use corten_sys::bpf;

use super::*;
use crate::cgroup::resources::{Access, DeviceType, Verdict};

fn rule(
    verdict: Verdict,
    kind: Option<DeviceType>,
    device: Option<(u32, u32)>,
    access: Access,
) -> DeviceRule {
    DeviceRule {
        verdict,
        kind,
        major: device.map(|(major, _)| major),
        minor: device.map(|(_, minor)| minor),
        access,
    }
}

#[test]
fn processes_feel_the_default_rules() {
    for view in [View::Unified, View::Host] {
        let Some(mut ground) = Ground::new("felt", view) else {
            return;
        };
        ground.create().keep().unwrap();
        assert!(ground.succeeds("head -c 1 /dev/zero > /dev/null"));
        // 1:11 is there on every machine; root may read it unless a device rule forbids it.
        assert!(!ground.succeeds("dd if=/dev/kmsg bs=8192 count=1 2> /dev/null"));
        // A node of any device may be made, and not be opened.
        let node = std::env::temp_dir().join(format!("corten-node-{}", std::process::id()));
        let node = node.display();
        assert!(ground.succeeds(&format!("mknod {node} c 1 11")));
        assert!(!ground.succeeds(&format!("dd if={node} bs=8192 count=1 2> /dev/null")));
        assert!(ground.succeeds(&format!("rm {node}")));
    }
}

#[test]
fn processes_feel_each_kind_of_access() {
    let Some(mut ground) = Ground::new("access", View::Unified) else {
        return;
    };
    let char = Some(DeviceType::Char);
    let rules = vec![
        rule(Verdict::Allow, char, Some((1, 3)), Access::ALL),
        rule(Verdict::Allow, char, Some((1, 5)), Access::READ),
        rule(Verdict::Deny, char, Some((1, 3)), Access::WRITE),
    ];
    ground
        .create_with(Vec::new(), rules)
        .unwrap()
        .keep()
        .unwrap();
    // The shell has its descriptors already; only opening is decided here.
    for (script, wanted) in [
        ("exec 5< /dev/null", true),
        ("exec 5> /dev/null", false),
        ("exec 5<> /dev/null", false),
        ("exec 5< /dev/zero", true),
        ("exec 5> /dev/zero", false),
        ("exec 5< /dev/urandom", false),
        ("mknod /tmp/corten-never c 1 5", false),
    ] {
        let scripted = format!("{script} 2>&1");
        assert_eq!(ground.succeeds(&scripted), wanted, "{script}");
    }
    assert!(!Path::new("/tmp/corten-never").exists());
}

#[test]
fn nothing_is_open_without_rules() {
    let Some(mut ground) = Ground::new("none", View::Unified) else {
        return;
    };
    ground
        .create_with(Vec::new(), Vec::new())
        .unwrap()
        .keep()
        .unwrap();
    for device in ["null", "zero", "full", "tty", "kmsg"] {
        assert!(
            !ground.succeeds(&format!("exec 5< /dev/{device}")),
            "{device}"
        );
    }
}

#[test]
fn everything_is_open_to_the_privileged() {
    let Some(mut ground) = Ground::new("everything", View::Unified) else {
        return;
    };
    let mut rules = vec![rule(Verdict::Allow, None, None, Access::ALL)];
    rules.extend(default_rules());
    let reservation = ground.create_with(Vec::new(), rules).unwrap();
    assert_eq!(reservation.device_control(), DeviceControl::NotNeeded);
    reservation.keep().unwrap();
    assert!(
        bpf::device_programs(ground.open().dir())
            .unwrap()
            .is_empty()
    );
    assert!(ground.succeeds("exec 5< /dev/kmsg"));
}

#[test]
fn a_former_containers_program_is_replaced() {
    let Some(mut ground) = Ground::new("former", View::Unified) else {
        return;
    };
    ground
        .create_with(Vec::new(), Vec::new())
        .unwrap()
        .keep()
        .unwrap();
    let first = bpf::device_programs(ground.open().dir()).unwrap();
    ground.create().keep().unwrap();
    let second = bpf::device_programs(ground.open().dir()).unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert!(ground.succeeds("head -c 1 /dev/zero > /dev/null"));

    // Even where several are there.
    let (cgroup, old) = (ground.open(), bpf::program_by_id(second[0]).unwrap());
    let refuse = super::super::devices::compile(&[]);
    let super::super::devices::Program::Checks(refuse) = refuse else {
        panic!("a program");
    };
    let refuse = bpf::load_device_program(&refuse, c"test").unwrap();
    bpf::attach_device_program(cgroup.dir(), std::os::fd::AsFd::as_fd(&refuse), None).unwrap();
    drop(old);
    assert_eq!(bpf::device_programs(cgroup.dir()).unwrap().len(), 2);
    assert!(!ground.succeeds("exec 5< /dev/zero"));
    ground.create().keep().unwrap();
    assert_eq!(bpf::device_programs(cgroup.dir()).unwrap().len(), 1);
    assert!(ground.succeeds("exec 5< /dev/zero"));

    // And a privileged container in the same cgroup is not held by it.
    let all = vec![rule(Verdict::Allow, None, None, Access::ALL)];
    ground.create_with(Vec::new(), all).unwrap().keep().unwrap();
    assert!(bpf::device_programs(cgroup.dir()).unwrap().is_empty());
}

#[test]
fn the_verifier_takes_every_shape_of_rule() {
    let kinds = [None, Some(DeviceType::Block), Some(DeviceType::Char)];
    let mut rules = Vec::new();
    for (index, access) in ["r", "w", "m", "rw", "rm", "wm", "rwm"]
        .into_iter()
        .enumerate()
    {
        for kind in kinds {
            for device in [None, Some((index as u32, 7)), Some((u32::MAX, 0x8000_0000))] {
                for verdict in [Verdict::Allow, Verdict::Deny] {
                    rules.push(rule(verdict, kind, device, Access::parse(access).unwrap()));
                }
            }
        }
    }
    let Some(ground) = Ground::new("verifier", View::Unified) else {
        return;
    };
    let reservation = ground.create_with(Vec::new(), rules.clone()).unwrap();
    assert_eq!(reservation.device_control(), DeviceControl::Program);
    drop(reservation);
    // What is refused of everything, which leaves no way to the program's end.
    let all = rule(Verdict::Allow, None, None, Access::ALL);
    for refused in [
        rule(
            Verdict::Deny,
            Some(DeviceType::Char),
            Some((1, 1)),
            Access::ALL,
        ),
        rule(Verdict::Deny, None, None, Access::WRITE),
        rule(Verdict::Deny, Some(DeviceType::Block), None, Access::ALL),
    ] {
        ground.create_with(Vec::new(), vec![all, refused]).unwrap();
    }
    // Each shape by itself, at the end and in front of others.
    for shape in rules {
        let char = rule(
            Verdict::Allow,
            Some(DeviceType::Char),
            Some((1, 3)),
            Access::ALL,
        );
        ground.create_with(Vec::new(), vec![shape]).unwrap();
        ground.create_with(Vec::new(), vec![shape, char]).unwrap();
        ground
            .create_with(Vec::new(), vec![all, char, shape])
            .unwrap();
    }
    // As many as an engine with hundreds of devices passes.
    let many: Vec<DeviceRule> = (0..1000)
        .map(|minor| {
            rule(
                Verdict::Allow,
                Some(DeviceType::Char),
                Some((240, minor)),
                Access::ALL,
            )
        })
        .collect();
    ground.create_with(Vec::new(), many).unwrap();
    // Partial access is the dearest for the verifier.
    let partial: Vec<DeviceRule> = (0..200)
        .map(|minor| {
            rule(
                Verdict::Allow,
                Some(DeviceType::Char),
                Some((240, minor)),
                Access::READ,
            )
        })
        .collect();
    ground.create_with(Vec::new(), partial).unwrap();
}

#[test]
fn a_refused_program_says_why() {
    let Some(_ground) = Ground::new("refused-program", View::Unified) else {
        return;
    };
    // Leaves r0 unset.
    let exit = bpf::Insn {
        code: 0x95,
        registers: 0,
        offset: 0,
        value: 0,
    };
    let error = bpf::load_device_program(&[exit], c"test").unwrap_err();
    assert!(error.to_string().contains("R0"), "{error}");
}
