// SPDX-License-Identifier: Apache-2.0
//! Broken mounts, devices, and masked and read-only paths.

use super::Case;
use super::Flaw::{Draft, Set};

/// Cases about what the rootfs is made of.
pub const CASES: &[Case] = &[
    ("mounts wrong type", Set("/mounts", "{}")),
    (
        "mount without a destination",
        Set("/mounts/-", "{\"type\": \"tmpfs\", \"source\": \"tmpfs\"}"),
    ),
    (
        "mount with an empty destination",
        Set(
            "/mounts/-",
            "{\"destination\": \"\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"}",
        ),
    ),
    (
        "mount on a destination with nul",
        Set(
            "/mounts/-",
            "{\"destination\": \"/da\\u0000ta\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"}",
        ),
    ),
    (
        "mount with options of the wrong type",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": \"ro\"}",
        ),
    ),
    (
        "mount without a type",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"source\": \"something\"}",
        ),
    ),
    (
        "mount of an unknown type",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"nosuchfs\", \"source\": \"none\"}",
        ),
    ),
    (
        "mount with an unknown option",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"nonsense=1\"]}",
        ),
    ),
    (
        "mount with a bad size",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"size=much\"]}",
        ),
    ),
    (
        "mount with nul in an option",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"mode=7\\u000055\"]}",
        ),
    ),
    (
        "bind of a missing source",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"bind\", \"source\": \"/nothing/like/it\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "bind without a source",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"bind\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "bind of a source below a file",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"bind\", \"source\": \"/proc/version/x\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "bind of a file over a directory",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"bind\", \"source\": \"/proc/version\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "bind of a directory over a file",
        Set(
            "/mounts/-",
            "{\"destination\": \"/etc/passwd\", \"type\": \"bind\", \"source\": \"/proc\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "mount below a file",
        Set(
            "/mounts/-",
            "{\"destination\": \"/etc/passwd/deeper\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"}",
        ),
    ),
    (
        "mount on a link loop",
        Draft(|draft| {
            draft
                .link("/data/loop", "loop")
                .mount("/data/loop/x", "tmpfs", "tmpfs", &[])
        }),
    ),
    (
        "mount in proc",
        Set(
            "/mounts/-",
            "{\"destination\": \"/proc/sys\", \"type\": \"bind\", \"source\": \"/tmp\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "mount over proc",
        Set(
            "/mounts/-",
            "{\"destination\": \"/proc\", \"type\": \"bind\", \"source\": \"/tmp\", \"options\": [\"bind\"]}",
        ),
    ),
    (
        "mount target that cannot be made",
        Draft(|draft| draft.mount("/sys/new/dir", "tmpfs", "tmpfs", &[])),
    ),
    (
        "id map on a mount that cannot have one",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"proc\", \"source\": \"proc\", \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"gidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}]}",
        ),
    ),
    (
        "rootfs propagation unknown",
        Set("/linux/rootfsPropagation", "\"sideways\""),
    ),
    (
        "mount label without selinux",
        Set(
            "/linux/mountLabel",
            "\"system_u:object_r:container_file_t:s0\"",
        ),
    ),
    (
        "device of an unknown type",
        Set(
            "/linux/devices",
            "[{\"path\": \"/dev/x\", \"type\": \"q\", \"major\": 1, \"minor\": 3}]",
        ),
    ),
    (
        "device without a type",
        Set(
            "/linux/devices",
            "[{\"path\": \"/dev/x\", \"major\": 1, \"minor\": 3}]",
        ),
    ),
    (
        "device without a path",
        Set(
            "/linux/devices",
            "[{\"type\": \"c\", \"major\": 1, \"minor\": 3}]",
        ),
    ),
    (
        "device on a relative path",
        Set(
            "/linux/devices",
            "[{\"path\": \"dev/x\", \"type\": \"c\", \"major\": 1, \"minor\": 3}]",
        ),
    ),
    (
        "device with a negative number",
        Set(
            "/linux/devices",
            "[{\"path\": \"/dev/x\", \"type\": \"c\", \"major\": -1, \"minor\": 3}]",
        ),
    ),
    (
        "device without numbers",
        Set(
            "/linux/devices",
            "[{\"path\": \"/dev/x\", \"type\": \"c\"}]",
        ),
    ),
    (
        "device in the place of a directory",
        Draft(|draft| {
            draft.with(
                "/linux/devices",
                serde_json::json!([{"path": "/data", "type": "c", "major": 1, "minor": 3}]),
            )
        }),
    ),
    (
        "device rule of an unknown type",
        Set(
            "/linux/resources/devices",
            "[{\"allow\": true, \"type\": \"q\", \"access\": \"r\"}]",
        ),
    ),
    (
        "device rule with unknown access",
        Set(
            "/linux/resources/devices",
            "[{\"allow\": true, \"type\": \"c\", \"major\": 1, \"minor\": 3, \"access\": \"rwx\"}]",
        ),
    ),
    (
        "device rule without allow",
        Set(
            "/linux/resources/devices",
            "[{\"type\": \"c\", \"access\": \"r\"}]",
        ),
    ),
    (
        "masked path relative",
        Set("/linux/maskedPaths", "[\"proc/kcore\"]"),
    ),
    (
        "masked path with nul",
        Set("/linux/maskedPaths", "[\"/proc/k\\u0000core\"]"),
    ),
    (
        "masked paths wrong type",
        Set("/linux/maskedPaths", "\"/proc/kcore\""),
    ),
    (
        "readonly path relative",
        Set("/linux/readonlyPaths", "[\"proc/sys\"]"),
    ),
    (
        "readonly paths wrong type",
        Set("/linux/readonlyPaths", "{\"/proc/sys\": true}"),
    ),
];
