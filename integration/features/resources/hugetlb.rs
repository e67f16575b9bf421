// SPDX-License-Identifier: Apache-2.0
//! Huge pages, which also cgroup v2 has on a host that keeps everything else on v1.

use std::fs;
use std::sync::{Mutex, MutexGuard};

use corten_integration::{Draft, has_controllers, trial};
use serde_json::json;

use super::{reads_back, up, v1, with};

const PAGE: u64 = 2 << 20;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages that the host has none of by itself: there are more while this lives.
struct Pool {
    before: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Pool {
    const PAGES: u64 = 4;

    /// `None`, with a word on stderr, where the host gives none.
    fn fill() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|failed| failed.into_inner());
        let before = pages();
        let pool = Self {
            before,
            _alone: alone,
        };
        // Judged by what is there afterwards.
        let _ = fs::write(POOL, (before + Self::PAGES).to_string());
        if pages() < before + Self::PAGES {
            eprintln!("this host has no huge pages to give: nothing to feel");
            return None;
        }
        Some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // As it was, as far as nobody else has changed it.
        let _ = fs::write(POOL, self.before.to_string());
    }
}

fn pages() -> u64 {
    let text = fs::read_to_string(POOL).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// With a hugetlbfs on /data.
fn mounted(draft: Draft<'_>) -> Draft<'_> {
    draft.mount(
        "/data",
        "hugetlbfs",
        "hugetlbfs",
        &["pagesize=2M", "mode=777"],
    )
}

#[test]
fn limits_are_read_back() {
    trial(|t| {
        if !has_controllers(&["hugetlb"]) {
            return;
        }
        reads_back(
            t,
            &json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * PAGE}]}),
            &[
                (
                    "hugetlb",
                    ("hugetlb.2MB.limit_in_bytes", "4194304"),
                    ("hugetlb.2MB.max", "4194304"),
                ),
                (
                    "hugetlb",
                    ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"),
                    ("hugetlb.2MB.rsvd.max", "4194304"),
                ),
            ],
        );
    });
}

#[test]
fn a_page_too_many_is_refused() {
    trial(|t| {
        if !has_controllers(&["hugetlb"]) {
            return;
        }
        let Some(_pool) = Pool::fill() else { return };
        let steps = format!(
            "allocate /data/one {PAGE} + allocate /data/more {} + exit 3",
            2 * PAGE
        );
        let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * PAGE}]});
        let c = mounted(with(t, &limit)).probe(&steps).done();
        let out = c.run().exits(3);
        let tried = out.all("allocate");
        assert_eq!(tried[0]["ok"], true, "{tried:?}");
        assert_eq!(tried[1]["errno"], "ENOSPC", "{tried:?}");
        // The limit is what refuses: without it there are pages enough.
        let out = mounted(t.container()).probe(&steps).done().run().exits(3);
        let tried = out.all("allocate");
        assert!(tried.iter().all(|tried| tried["ok"] == true), "{tried:?}");
    });
}

#[test]
fn a_size_that_the_kernel_lacks_is_refused() {
    trial(|t| {
        if !has_controllers(&["hugetlb"]) {
            return;
        }
        let limit = json!({"hugepageLimits": [{"pageSize": "4MB", "limit": 0}]});
        let said = with(t, &limit).probe("exit 0").done().create().fails();
        if t.is_corten() {
            assert!(
                said.contains("/linux/resources/hugepageLimits/0/limit"),
                "{said}"
            );
        }
    });
}

/// A v2 controller on a hybrid host: enabled from the top, and no obstacle to those on v1.
#[test]
fn a_controller_on_v2_stands_beside_those_on_v1() {
    trial(|t| {
        if v1("hugetlb") || !v1("pids") || !has_controllers(&["hugetlb", "pids"]) {
            eprintln!("not both of pids on v1 and hugetlb on v2 here: nothing to test");
            return;
        }
        let c = up(
            t,
            &json!({"pids": {"limit": 7}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
        );
        assert_eq!(c.cgroup_file("pids", "pids.max"), "7");
        assert_eq!(c.cgroup_file("hugetlb", "hugetlb.2MB.max"), "0");
        c.end();
    });
}
