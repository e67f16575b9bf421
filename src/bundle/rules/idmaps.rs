// SPDX-License-Identifier: Apache-2.0
//! Rules of the id mappings of a user namespace. Pure; called by `validate.rs` and, for a mount's own mappings, by
//! `rules/mounts.rs`.

use super::super::finding::Report;
use super::super::spec::{LinuxIdMapping, LinuxNamespaceType, Spec};
use super::{namespace, with_linux};

/// The kernel's limit for one map (UID_GID_MAP_MAX_EXTENTS in include/linux/user_namespace.h).
pub const MAPPINGS_MAX: usize = 340;

pub(in super::super) fn presence(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let user = namespace(spec, LinuxNamespaceType::User);
        for (name, mappings) in [
            ("uidMappings", &linux.uid_mappings),
            ("gidMappings", &linux.gid_mappings),
        ] {
            let pointer = format!("/linux/{name}");
            match user {
                None if !mappings.is_empty() => {
                    report.refuse(pointer, "without a user namespace there are no mappings")
                }
                Some(user) if user.path.is_none() && mappings.is_empty() => {
                    report.refuse(
                        pointer,
                        "a new user namespace needs mappings, without them nobody is anybody in it",
                    );
                }
                Some(user) if user.path.is_some() && !mappings.is_empty() => {
                    report.ignore(pointer, "the user namespace that is joined has its mappings already, these are not used");
                }
                _ => {}
            }
        }
    });
}

pub(in super::super) fn ranges(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        check_ranges("/linux/uidMappings", &linux.uid_mappings, report);
        check_ranges("/linux/gidMappings", &linux.gid_mappings, report);
    });
}

/// What the kernel refuses when a map is written, said with the item that is wrong.
pub(super) fn check_ranges(pointer: &str, mappings: &[LinuxIdMapping], report: &mut Report) {
    if mappings.len() > MAPPINGS_MAX {
        report.refuse(
            pointer,
            format!(
                "the kernel takes {MAPPINGS_MAX} mappings, these are {}",
                mappings.len()
            ),
        );
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let item = format!("{pointer}/{index}");
        if mapping.size == 0 {
            report.refuse(format!("{item}/size"), "a mapping of no ids maps nothing");
            continue;
        }
        for (name, first) in [
            ("containerID", mapping.container_id),
            ("hostID", mapping.host_id),
        ] {
            if first.checked_add(mapping.size).is_none() {
                report.refuse(
                    format!("{item}/size"),
                    format!(
                        "{} ids from {name} {first} on end above 4294967295",
                        mapping.size
                    ),
                );
            }
        }
        if let Some(other) = mappings[..index]
            .iter()
            .position(|other| other.size > 0 && overlap(other, mapping))
        {
            report.refuse(&item, format!("this mapping overlaps {pointer}/{other}"));
        }
    }
}

fn overlap(one: &LinuxIdMapping, two: &LinuxIdMapping) -> bool {
    let meets = |a: u32, a_size: u32, b: u32, b_size: u32| {
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        u64::from(a) < end(b, b_size) && u64::from(b) < end(a, a_size)
    };
    meets(one.container_id, one.size, two.container_id, two.size)
        || meets(one.host_id, one.size, two.host_id, two.size)
}

pub(in super::super) fn process_ids(spec: &Spec, report: &mut Report) {
    let (Some(process), Some(linux)) = (&spec.process, &spec.linux) else {
        return;
    };
    let new = namespace(spec, LinuxNamespaceType::User).is_some_and(|user| user.path.is_none());
    let mut check = |pointer: String, id: u32, mappings: &[LinuxIdMapping]| {
        // Without any mapping there is one finding already.
        if new && !mappings.is_empty() && !mappings.iter().any(|mapping| contains(mapping, id)) {
            report.refuse(
                pointer,
                format!("{id} is not mapped into the user namespace"),
            );
        }
    };
    check(
        "/process/user/uid".into(),
        process.user.uid,
        &linux.uid_mappings,
    );
    check(
        "/process/user/gid".into(),
        process.user.gid,
        &linux.gid_mappings,
    );
    for (index, gid) in process.user.additional_gids.iter().enumerate() {
        check(
            format!("/process/user/additionalGids/{index}"),
            *gid,
            &linux.gid_mappings,
        );
    }
}

fn contains(mapping: &LinuxIdMapping, id: u32) -> bool {
    id.checked_sub(mapping.container_id)
        .is_some_and(|offset| offset < mapping.size)
}
