// SPDX-License-Identifier: Apache-2.0
//! Network classes and priorities, and RDMA: controllers of v1 alone, and one that few machines have.

use corten_integration::{has_controllers, trial};
use serde_json::json;

use super::{reads_back, up, v1, with};

#[test]
fn classes_and_priorities_are_read_back_on_v1() {
    trial(|t| {
        if !v1("net_cls") || !v1("net_prio") {
            eprintln!("no net_cls and net_prio on v1 here: nothing to test");
            return;
        }
        reads_back(
            t,
            &json!({"network": {"classID": 1_048_577}}),
            &[("net_cls", ("net_cls.classid", "1048577"), ("", ""))],
        );
        let network = json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}});
        let c = up(t, &network);
        let map = c.cgroup_file("net_prio", "net_prio.ifpriomap");
        assert!(map.lines().any(|line| line == "lo 5"), "{map}");
        c.end();
    });
}

#[test]
fn where_the_host_has_not_mounted_them_they_are_refused() {
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        for (controller, network, field) in [
            ("net_cls", json!({"classID": 7}), "classID"),
            (
                "net_prio",
                json!({"priorities": [{"name": "lo", "priority": 5}]}),
                "priorities/0",
            ),
        ] {
            if v1(controller) {
                continue;
            }
            let c = with(t, &json!({ "network": network }))
                .probe("exit 0")
                .done();
            let said = c.create().fails();
            assert!(
                said.contains(&format!("/linux/resources/network/{field}")),
                "{said}"
            );
        }
    });
}

/// No machine of the suite has an RDMA device; the kernel says so of any name.
#[test]
fn a_limit_of_an_rdma_device_that_is_not_there_is_refused() {
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        let rdma = json!({"rdma": {"mlx9_9": {"hcaHandles": 3, "hcaObjects": 10}}});
        let said = with(t, &rdma).probe("exit 0").done().create().fails();
        assert!(said.contains("/linux/resources/rdma/mlx9_9"), "{said}");
        if !has_controllers(&["rdma"]) {
            assert!(said.contains("controller rdma is not available"), "{said}");
        }
    });
}
