// SPDX-License-Identifier: Apache-2.0
//! Which release of the kernel brought a call: what syscalls(2) says, and what the manual doesn't have yet.

use std::collections::BTreeMap;

use super::Numbers;
use crate::failure::{Failure, Result};

/// From this number on all architectures count alike, and every call has a release later than 5.0.
const UNIFORM: u32 = 403;

/// The calls between `UNIFORM` and 423 came together: the 64-bit times of 32-bit architectures.
const TIMES: u16 = 501;

/// Calls that the manual's table lacks or has under another name.
const LATER: &[(&str, u16)] = &[
    ("cachestat", 605),
    ("fchmodat2", 606),
    ("fchroot", 703),
    ("file_getattr", 617),
    ("file_setattr", 617),
    ("futex_requeue", 607),
    ("futex_wait", 607),
    ("futex_waitv", 516),
    ("futex_wake", 607),
    ("getxattrat", 613),
    ("listmount", 608),
    ("listns", 619),
    ("listxattrat", 613),
    ("lsm_get_self_attr", 608),
    ("lsm_list_modules", 608),
    ("lsm_set_self_attr", 608),
    ("map_shadow_stack", 606),
    ("mount_setattr", 512),
    ("mseal", 610),
    ("open_tree_attr", 615),
    ("process_mrelease", 515),
    ("removexattrat", 613),
    ("riscv_hwprobe", 604),
    ("rseq_slice_yield", 700),
    ("set_mempolicy_home_node", 517),
    ("setxattrat", 613),
    ("statmount", 608),
    ("uprobe", 618),
    ("uretprobe", 611),
];

/// The release of every call that is younger than 3.0, as 100 times the first number and the second.
pub fn of(calls: &BTreeMap<String, Numbers>, manual: &str) -> Result<BTreeMap<String, u16>> {
    let known = listed(manual);
    let mut releases = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, numbers) in calls {
        let highest = numbers.iter().flatten().copied().max().unwrap_or(0);
        let later = LATER.iter().find(|(call, _)| call == name);
        let release = known
            .get(name)
            .copied()
            .or(later.map(|(_, release)| *release));
        match release {
            Some(release) if release > 300 => _ = releases.insert(name.clone(), release),
            Some(_) => {}
            None if (UNIFORM..424).contains(&highest) => _ = releases.insert(name.clone(), TIMES),
            None if (424..512).contains(&highest) => unknown.push(name.as_str()),
            None => {}
        }
    }
    if unknown.is_empty() {
        return Ok(releases);
    }
    Err(Failure::new(format!(
        "no release is known for {}: add a line to LATER in crates/xtask/src/syscalls/releases.rs",
        unknown.join(", ")
    )))
}

/// The table of the manual page: a name in bold, a tab, a release. A cell with a note of its own is on three lines.
fn listed(manual: &str) -> BTreeMap<String, u16> {
    let mut found = BTreeMap::new();
    let mut pending = None;
    for line in manual.lines() {
        if let Some(rest) = line.strip_prefix(".BR ") {
            pending = rest.split_whitespace().next();
        } else if let Some(rest) = line.strip_prefix("\\f[B]") {
            let name = rest.split_once("\\f[](2)\t");
            found.extend(name.and_then(|(name, cell)| Some((name.to_owned(), release(cell)?))));
        } else if let Some(cell) = line.strip_prefix("T}\t") {
            found.extend(
                pending
                    .take()
                    .and_then(|name| Some((name.to_owned(), release(cell)?))),
            );
        }
    }
    found
}

/// `5.3`, `2.6.28`: what is before 3.0 is 300.
fn release(cell: &str) -> Option<u16> {
    let word = cell.split(['\t', ' ', ';']).next()?;
    let mut numbers = word.split('.').map(str::parse::<u16>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    Some((major * 100 + minor).max(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_is_a_table() {
        let manual = "\\f[B]clone3\\f[](2)\t5.3\n\\f[B]accept4\\f[](2)\t2.6.28\n.\\\" a comment\nT{\n.BR bind (2)\nT}\t2.0\tT{\nSee notes\nT}\n";
        let expected = [("accept4", 300), ("bind", 300), ("clone3", 503)];
        assert_eq!(
            listed(manual),
            expected
                .map(|(name, release)| (name.to_owned(), release))
                .into()
        );
    }

    #[test]
    fn a_young_call_without_a_release_is_an_error() {
        let mut numbers = Numbers::default();
        numbers[0] = Some(511);
        let failed = of(&[("novel".to_owned(), numbers)].into(), "").unwrap_err();
        assert!(
            failed
                .to_string()
                .starts_with("no release is known for novel: "),
            "{failed}"
        );
    }
}
