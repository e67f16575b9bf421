// SPDX-License-Identifier: Apache-2.0
//! Broken processes: arguments, cwd, environment, ids, capabilities, limits, and programs that can't be run.

use super::Case;
use super::Flaw::{Draft, Missing, Set};

/// Cases about `/process`.
pub const CASES: &[Case] = &[
    ("process missing", Missing("/process")),
    ("process wrong type", Set("/process", "\"/probe\"")),
    ("args missing", Missing("/process/args")),
    ("args empty", Set("/process/args", "[]")),
    ("args of an empty string", Set("/process/args", "[\"\"]")),
    ("args wrong type", Set("/process/args", "\"/probe\"")),
    (
        "args with a number",
        Set("/process/args", "[\"/probe\", 1]"),
    ),
    (
        "args with nul",
        Set("/process/args", "[\"/probe\", \"a\\u0000b\"]"),
    ),
    ("cwd missing", Missing("/process/cwd")),
    ("cwd empty", Set("/process/cwd", "\"\"")),
    ("cwd relative", Set("/process/cwd", "\"data\"")),
    ("cwd with nul", Set("/process/cwd", "\"/da\\u0000ta\"")),
    ("cwd is a file", Set("/process/cwd", "\"/etc/passwd\"")),
    (
        "cwd below a file",
        Set("/process/cwd", "\"/etc/passwd/deeper\""),
    ),
    (
        "cwd is a link loop",
        Draft(|draft| {
            draft
                .link("/data/loop", "loop")
                .with("/process/cwd", "/data/loop".into())
        }),
    ),
    (
        "cwd is a descriptor",
        Set("/process/cwd", "\"/proc/self/fd/0\""),
    ),
    (
        "env without an equals sign",
        Set("/process/env", "[\"PATH=/\", \"NAME\"]"),
    ),
    ("env without a name", Set("/process/env", "[\"=value\"]")),
    ("env with nul", Set("/process/env", "[\"A=b\\u0000c\"]")),
    ("env wrong type", Set("/process/env", "{\"A\": \"b\"}")),
    ("uid negative", Set("/process/user/uid", "-1")),
    ("uid beyond 32 bits", Set("/process/user/uid", "4294967296")),
    (
        "uid is minus one in disguise",
        Set("/process/user/uid", "4294967295"),
    ),
    ("uid is a name", Set("/process/user/uid", "\"root\"")),
    ("uid is a fraction", Set("/process/user/uid", "1.5")),
    (
        "gid is minus one in disguise",
        Set("/process/user/gid", "4294967295"),
    ),
    (
        "additional gid negative",
        Set("/process/user/additionalGids", "[5, -1]"),
    ),
    ("umask beyond 0777", Set("/process/user/umask", "4096")),
    ("user wrong type", Set("/process/user", "\"root\"")),
    (
        "capability without its prefix",
        Set("/process/capabilities/effective", "[\"KILL\"]"),
    ),
    (
        "capabilities wrong type",
        Set("/process/capabilities", "[\"CAP_KILL\"]"),
    ),
    (
        "ambient capability that is not permitted",
        Set("/process/capabilities/ambient", "[\"CAP_SYS_ADMIN\"]"),
    ),
    (
        "effective capability that is not permitted",
        Set("/process/capabilities/effective", "[\"CAP_SYS_ADMIN\"]"),
    ),
    (
        "rlimit unknown",
        Set(
            "/process/rlimits",
            "[{\"type\": \"RLIMIT_PATIENCE\", \"soft\": 1, \"hard\": 1}]",
        ),
    ),
    (
        "rlimit twice",
        Set(
            "/process/rlimits",
            "[{\"type\": \"RLIMIT_CORE\", \"soft\": 0, \"hard\": 0}, {\"type\": \"RLIMIT_CORE\", \"soft\": 1, \"hard\": 1}]",
        ),
    ),
    (
        "rlimit with soft above hard",
        Set(
            "/process/rlimits",
            "[{\"type\": \"RLIMIT_CORE\", \"soft\": 2, \"hard\": 1}]",
        ),
    ),
    (
        "rlimit negative",
        Set(
            "/process/rlimits",
            "[{\"type\": \"RLIMIT_CORE\", \"soft\": -2, \"hard\": -2}]",
        ),
    ),
    (
        "rlimit that the kernel refuses",
        Set(
            "/process/rlimits",
            "[{\"type\": \"RLIMIT_NOFILE\", \"soft\": 1099511627776, \"hard\": 1099511627776}]",
        ),
    ),
    ("oom score too high", Set("/process/oomScoreAdj", "1001")),
    ("oom score too low", Set("/process/oomScoreAdj", "-1001")),
    (
        "no new privileges wrong type",
        Set("/process/noNewPrivileges", "\"yes\""),
    ),
    (
        "apparmor profile without apparmor",
        Set("/process/apparmorProfile", "\"corten-no-such-profile\""),
    ),
    (
        "selinux label without selinux",
        Set(
            "/process/selinuxLabel",
            "\"system_u:system_r:container_t:s0\"",
        ),
    ),
    (
        "io priority class unknown",
        Set(
            "/process/ioPriority",
            "{\"class\": \"IOPRIO_CLASS_NOW\", \"priority\": 0}",
        ),
    ),
    (
        "scheduler policy unknown",
        Set("/process/scheduler", "{\"policy\": \"SCHED_SOON\"}"),
    ),
    (
        "cpus of exec are no list",
        Set("/process/execCPUAffinity", "{\"final\": \"0-\"}"),
    ),
    (
        "cpus of exec beyond the kernel's",
        Set("/process/execCPUAffinity", "{\"initial\": \"0-8192\"}"),
    ),
    (
        "scheduler with a nice value out of range",
        Set(
            "/process/scheduler",
            "{\"policy\": \"SCHED_OTHER\", \"nice\": 20}",
        ),
    ),
    (
        "scheduler without a priority",
        Set("/process/scheduler", "{\"policy\": \"SCHED_FIFO\"}"),
    ),
    (
        "scheduler with an unknown flag",
        Set(
            "/process/scheduler",
            "{\"policy\": \"SCHED_OTHER\", \"flags\": [\"SCHED_FLAG_NOW\"]}",
        ),
    ),
    (
        "scheduler with a deadline before its runtime",
        Set(
            "/process/scheduler",
            "{\"policy\": \"SCHED_DEADLINE\", \"runtime\": 20000000, \"deadline\": 10000000, \"period\": 30000000}",
        ),
    ),
    (
        "io priority out of range",
        Set(
            "/process/ioPriority",
            "{\"class\": \"IOPRIO_CLASS_BE\", \"priority\": 8}",
        ),
    ),
    (
        "program missing",
        Set("/process/args", "[\"/nothing/like/it\"]"),
    ),
    (
        "program not in path",
        Set("/process/args", "[\"nothing-like-it\"]"),
    ),
    (
        "program without a path to look in",
        Draft(|draft| {
            draft
                .args(&["probe"])
                .with("/process/env", serde_json::json!([]))
        }),
    ),
    (
        "program not executable",
        Set("/process/args", "[\"/etc/passwd\"]"),
    ),
    (
        "program is a directory",
        Set("/process/args", "[\"/data\"]"),
    ),
    (
        "program is a link loop",
        Draft(|draft| draft.link("/data/loop", "loop").args(&["/data/loop"])),
    ),
    (
        "program below a file",
        Set("/process/args", "[\"/etc/passwd/program\"]"),
    ),
    (
        "program with a missing interpreter",
        Draft(|draft| {
            draft
                .file("/script", "#!/no/such/shell\n", 0o755)
                .args(&["/script"])
        }),
    ),
    (
        "program with a directory as interpreter",
        Draft(|draft| draft.file("/script", "#!/data\n", 0o755).args(&["/script"])),
    ),
    (
        "program that interprets itself",
        Draft(|draft| {
            draft
                .file("/script", "#!/script\n", 0o755)
                .args(&["/script"])
        }),
    ),
    (
        "program of plain text",
        Draft(|draft| draft.file("/text", "plain text\n", 0o755).args(&["/text"])),
    ),
    (
        "program empty",
        Draft(|draft| draft.file("/empty", "", 0o755).args(&["/empty"])),
    ),
    (
        "program truncated",
        Draft(|draft| {
            let whole = std::fs::read(draft.rootfs().join("probe")).unwrap();
            draft.file("/half", &whole[..32], 0o755).args(&["/half"])
        }),
    ),
    (
        "program that its user may not run",
        Draft(|draft| {
            draft
                .file("/mine", "#!/probe\n", 0o700)
                .args(&["/mine"])
                .with(
                    "/process/user",
                    serde_json::json!({"uid": 1000, "gid": 1000}),
                )
        }),
    ),
];
