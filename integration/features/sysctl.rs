// SPDX-License-Identifier: Apache-2.0
//! Sysctls: set in the container's namespaces, refused where they would be the host's.

use std::fs;
use std::path::Path;

use corten_integration::{Trial, is_everyones, trial};
use serde_json::json;

#[test]
fn are_set_in_the_namespaces() {
    trial(|t| {
        let before = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
        let values = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "fs.mqueue.msg_max": "20", "net.ipv4.ip_local_port_range": "2000 3000"});
        let steps = "read /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/ip_local_port_range";
        let read = t
            .container()
            .with("/linux/sysctl", values)
            .probe(steps)
            .done()
            .run()
            .ok()
            .seen("read");
        assert_eq!(read["/proc/sys/net/ipv4/ip_forward"]["ok"], "1\n");
        assert_eq!(read["/proc/sys/kernel/msgmax"]["ok"], "12345\n");
        assert_eq!(read["/proc/sys/fs/mqueue/msg_max"]["ok"], "20\n");
        assert_eq!(
            read["/proc/sys/net/ipv4/ip_local_port_range"]["ok"],
            "2000\t3000\n"
        );
        assert_eq!(
            fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(),
            before
        );
    });
}

#[test]
fn may_be_written_with_slashes() {
    trial(|t| {
        let values = json!({"net/ipv4/conf/lo/forwarding": "1"});
        let read = t
            .container()
            .with("/linux/sysctl", values)
            .probe("read /proc/sys/net/ipv4/conf/lo/forwarding")
            .done()
            .run()
            .ok()
            .seen("read");
        assert_eq!(read["/proc/sys/net/ipv4/conf/lo/forwarding"]["ok"], "1\n");
    });
}

#[test]
fn of_the_host_are_refused() {
    trial(|t| {
        for key in [
            "kernel.core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "kernel.panic",
            "user.max_user_namespaces",
            "kernel/core_pattern",
            "net.ipv4/../../kernel/core_pattern",
        ] {
            // That one is the user namespace's, which every container of a user has.
            if key.starts_with("user.") && is_everyones() {
                continue;
            }
            // The value that it has already: nothing is lost where a runtime does set it.
            let file = Path::new("/proc/sys")
                .join(key.trim_start_matches("net.ipv4/../../").replace('.', "/"));
            let value = fs::read_to_string(file).unwrap();
            t.container()
                .with(
                    &format!("/linux/sysctl/{}", key.replace('/', "~1")),
                    json!(value.trim()),
                )
                .probe("exit 0")
                .done()
                .run()
                .fails();
        }
    });
}

#[test]
fn without_their_namespace_are_refused() {
    trial(|t| {
        t.container()
            .without_namespace("network")
            .with("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
            .probe("exit 0")
            .done()
            .run()
            .fails();
        t.container()
            .without_namespace("ipc")
            .without_mount("/dev/mqueue")
            .with("/linux/sysctl", json!({"kernel.msgmax": "12345"}))
            .probe("exit 0")
            .done()
            .run()
            .fails();
    });
}

fn injects_nothing(t: &Trial, value: &str) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    t.container()
        .with("/linux/sysctl", json!({"kernel.shm_rmid_forced": value}))
        .probe("exit 0")
        .done()
        .run()
        .fails();
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        pattern
    );
}

#[test]
fn cve_2022_0811_values_inject_nothing() {
    trial(|t| injects_nothing(t, "1+kernel.core_pattern=|/x"));
}

#[test]
fn a_value_of_two_lines_is_refused() {
    trial(|t| injects_nothing(t, "1\nkernel.core_pattern=|/x"));
}
