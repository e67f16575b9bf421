// SPDX-License-Identifier: Apache-2.0
//! How a process is scheduled and how the kernel presents itself to it: policy, I/O priority, execution domain, CPUs of
//! exec, memory nodes. All of it seen from inside.

use std::fs;
use std::path::Path;

use corten_integration::{
    Container, Draft, Outcome, Trial, eventually, is_everyones, kernel_is_since, trial,
};
use serde_json::{Value, json};

/// The rootfs with a shell's worth of tools beside the probe.
fn with_busybox(t: &Trial) -> Draft<'_> {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    t.container().file("/busybox", busybox, 0o755)
}

/// A file that the probe's step `read` saw.
fn text(out: &Outcome, path: &str) -> String {
    let seen = out.seen("read");
    let text = seen[path]["ok"].as_str();
    text.unwrap_or_else(|| panic!("{path}: {seen}")).to_owned()
}

/// Nice value, realtime priority and policy in a line of /proc/PID/stat (proc(5), fields 19, 40 and 41).
fn fields(line: &str) -> [i64; 3] {
    let (_, rest) = line.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    [19, 40, 41].map(|field: usize| fields[field - 3].parse().unwrap())
}

fn stat(out: &Outcome) -> [i64; 3] {
    fields(&text(out, "/proc/self/stat"))
}

/// Where the kernel shares out realtime among the groups of cgroup v1, a group has none until it is given some.
fn with_realtime(draft: Draft<'_>) -> Draft<'_> {
    // A user gets none.
    let shares = Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    if !shares || is_everyones() {
        return draft;
    }
    let path = draft.spec["linux"]["cgroupsPath"].as_str().unwrap();
    // No group is above it but the root, which has some.
    let top = format!("/{}", path.trim_start_matches('/').replace('/', "-"));
    draft
        .with("/linux/cgroupsPath", json!(top))
        .with("/linux/resources/cpu", json!({"realtimeRuntime": 1000}))
}

fn scheduled(t: &Trial, scheduler: Value, steps: &str) -> Outcome {
    let draft = with_realtime(t.container()).with("/process/scheduler", scheduler);
    draft.probe(steps).done().run().ok()
}

/// More than the others have: CAP_SYS_NICE on the host.
fn takes_root([nice, priority, _]: [i64; 3]) -> bool {
    nice < 0 || priority > 0
}

#[test]
fn policies_are_set() {
    trial(|t| {
        let cases = [
            (json!({"policy": "SCHED_OTHER", "nice": 7}), [7, 0, 0]),
            (json!({"policy": "SCHED_OTHER", "nice": -5}), [-5, 0, 0]),
            (json!({"policy": "SCHED_BATCH", "nice": 3}), [3, 0, 3]),
            (json!({"policy": "SCHED_IDLE"}), [0, 0, 5]),
            (json!({"policy": "SCHED_FIFO", "priority": 10}), [0, 10, 1]),
            (json!({"policy": "SCHED_RR", "priority": 99}), [0, 99, 2]),
        ];
        for (scheduler, wanted) in cases {
            if is_everyones() && takes_root(wanted) {
                continue;
            }
            let out = scheduled(t, scheduler.clone(), "read /proc/self/stat");
            assert_eq!(stat(&out), wanted, "{scheduler}");
        }
    });
}

#[test]
fn a_deadline_is_set() {
    trial(|t| {
        let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000,
            "period": 30_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"]});
        let out = scheduled(t, scheduler, "read /proc/self/stat /proc/self/sched");
        assert_eq!(stat(&out), [0, 0, 6]);
        let sched = text(&out, "/proc/self/sched");
        let value = |name: &str| {
            let line = sched.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next())
        };
        // The kernel shows what is left of the runtime, and the next deadline; the policy proves the rest.
        assert!(value("dl.runtime").is_some(), "{sched}");
        assert!(value("dl.deadline").is_some(), "{sched}");
    });
}

#[test]
fn a_policy_ends_with_a_fork_where_it_should() {
    trial(|t| {
        for (flags, wanted) in [
            (json!(["SCHED_FLAG_RESET_ON_FORK"]), [0, 0, 0]),
            (json!([]), [0, 5, 2]),
        ] {
            // The shell's own line, then its child's.
            let script = "/busybox cat /proc/$$/stat; /busybox cat /proc/self/stat; exit 0";
            let scheduler = json!({"policy": "SCHED_RR", "priority": 5, "flags": flags});
            let c = with_realtime(with_busybox(t))
                .with("/process/scheduler", scheduler)
                .args(&["/busybox", "sh", "-c", script])
                .done();
            let out = c.run().ok();
            let lines: Vec<_> = out.stdout.lines().map(fields).collect();
            assert_eq!(lines, [[0, 5, 2], wanted], "{flags}");
        }
    });
}

#[test]
fn utilization_clamps_are_taken() {
    trial(|t| {
        let scheduler = json!({"policy": "SCHED_OTHER", "nice": 2,
            "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"]});
        let c = t
            .container()
            .with("/process/scheduler", scheduler)
            .probe("read /proc/self/stat")
            .done();
        let out = c.run();
        if Path::new("/proc/sys/kernel/sched_util_clamp_min").exists() {
            assert_eq!(stat(&out.ok()), [2, 0, 0]);
        } else {
            // A kernel without CONFIG_UCLAMP_TASK.
            let error = out.fails();
            assert!(t.says(&error, "operation not supported"), "{error}");
            for word in ["sched_setattr", "/process/scheduler"] {
                assert!(error.contains(word) || !t.is_corten(), "{error}");
            }
        }
    });
}

#[test]
fn the_io_priority_is_set() {
    trial(|t| {
        for (class, priority, wanted) in [
            ("IOPRIO_CLASS_RT", 0, "realtime: prio 0"),
            ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
            ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ] {
            if is_everyones() && class == "IOPRIO_CLASS_RT" {
                // CAP_SYS_NICE on the host.
                continue;
            }
            let c = with_busybox(t)
                .with(
                    "/process/ioPriority",
                    json!({"class": class, "priority": priority}),
                )
                .args(&["/busybox", "sh", "-c", "/busybox ionice -p $$; exit 0"])
                .done();
            assert_eq!(c.run().ok().stdout.trim(), wanted);
        }
    });
}

#[test]
fn exec_is_scheduled_as_its_document_says() {
    trial(|t| {
        let c = with_realtime(with_busybox(t))
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let (scheduler, wanted) = match is_everyones() {
            true => (json!({"policy": "SCHED_BATCH", "nice": 3}), [3, 0, 3]),
            false => (json!({"policy": "SCHED_FIFO", "priority": 3}), [0, 3, 1]),
        };
        let process = json!({
            "args": ["/busybox", "sh", "-c", "/busybox ionice -p $$; /busybox cat /proc/$$/stat; exit 0"], "cwd": "/",
            "user": {"uid": 0, "gid": 0}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
            "scheduler": scheduler
        });
        let file = t.file("process.json", &process.to_string());
        let out = c
            .verb("exec", &["--process", file.to_str().unwrap()])
            .end()
            .ok();
        let lines: Vec<&str> = out.stdout.lines().collect();
        assert_eq!(lines[0], "idle");
        assert_eq!(fields(lines[1]), wanted);
        c.end();
    });
}

#[test]
fn exec_is_scheduled_as_the_container_s_process_by_default() {
    trial(|t| {
        let c = t
            .container()
            .with(
                "/process/scheduler",
                json!({"policy": "SCHED_BATCH", "nice": 4}),
            )
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        assert_eq!(stat(&c.exec("read /proc/self/stat").ok()), [4, 0, 3]);
        c.end();
    });
}

#[test]
fn the_personality_is_set() {
    trial(|t| {
        for (domain, persona) in [("LINUX", "00000000\n"), ("LINUX32", "00000008\n")] {
            let c = t
                .container()
                .with("/linux/personality", json!({"domain": domain}))
                .probe("read /proc/self/personality + print up + pause")
                .done();
            let out = c.run_detached();
            c.says(&out, "up");
            let init = c.seen(&out, "read");
            assert_eq!(init["/proc/self/personality"]["ok"], persona);
            let exec = c.exec("read /proc/self/personality").ok();
            assert_eq!(text(&exec, "/proc/self/personality"), persona, "exec");
            c.end();
        }
    });
}

/// The policy of the first mapping, as the kernel writes it.
fn memory_policy(out: &Outcome) -> String {
    let text = text(out, "/proc/self/numa_maps");
    text.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn memory_policies_are_set() {
    trial(|t| {
        let cases = [
            (json!({"mode": "MPOL_DEFAULT"}), "default"),
            (json!({"mode": "MPOL_LOCAL"}), "local"),
            (json!({"mode": "MPOL_PREFERRED"}), "local"),
            (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
            (
                json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}),
                "interleave:0",
            ),
            (json!({"mode": "MPOL_BIND", "nodes": "0-0"}), "bind:0"),
            (
                json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
                "bind=static:0",
            ),
            (
                json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
                "prefer=relative:0",
            ),
            (
                json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}),
                "prefer (many):0",
            ),
            (
                json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}),
                "weighted interleave:0",
            ),
        ];
        for (policy, wanted) in cases {
            let c = t
                .container()
                .with("/linux/memoryPolicy", policy.clone())
                .probe("read /proc/self/numa_maps")
                .done();
            let out = c.run();
            if wanted.starts_with("weighted") && !kernel_is_since(6, 9) {
                out.fails();
                continue;
            }
            let out = out.ok();
            let first = wanted.split(' ').next().unwrap();
            assert_eq!(memory_policy(&out), first, "{policy}");
            let maps = text(&out, "/proc/self/numa_maps");
            assert!(maps.contains(wanted), "{policy}: {maps}");
        }
    });
}

#[test]
fn exec_has_the_container_s_memory_policy() {
    trial(|t| {
        let policy = json!({"mode": "MPOL_BIND", "nodes": "0"});
        let c = t
            .container()
            .with("/linux/memoryPolicy", policy)
            .probe("print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let exec = c.exec("read /proc/self/numa_maps").ok();
        assert_eq!(memory_policy(&exec), "bind:0");
        c.end();
    });
}

/// `Cpus_allowed_list` of a process on the host.
fn cpus_of(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first two of the CPUs that this process may use, and all of them as a list.
fn own_cpus() -> Option<([String; 2], String)> {
    let list = cpus_of(std::process::id())?;
    let numbers = list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    });
    let mut numbers = numbers.map(|number| number.to_string());
    Some(([numbers.next()?, numbers.next()?], list))
}

fn cpus(out: &Outcome) -> String {
    out.seen("status")["Cpus_allowed_list"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A running container whose process has this affinity for exec.
fn with_affinity<'t>(t: &'t Trial, affinity: Value) -> Container<'t> {
    let c = t
        .container()
        .with("/process/execCPUAffinity", affinity)
        .probe("status + print up + pause")
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    c
}

#[test]
fn exec_runs_on_the_final_cpus_of_config_json() {
    let Some(([first, second], all)) = own_cpus() else {
        return; // one CPU tells nothing
    };
    trial(|t| {
        let c = t
            .container()
            .with(
                "/process/execCPUAffinity",
                json!({"initial": first, "final": second}),
            )
            .probe("status + print up + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        let init = c.seen(&out, "status");
        assert_eq!(init["Cpus_allowed_list"], json!(all), "not meant for init");
        assert_eq!(cpus(&c.exec("status").ok()), second);
        c.end();
    });
}

#[test]
fn exec_without_final_cpus_has_the_container_s() {
    let Some(([first, _], all)) = own_cpus() else {
        return;
    };
    trial(|t| {
        let c = with_affinity(t, json!({"initial": first}));
        assert_eq!(cpus(&c.exec("status").ok()), all);
        c.end();
    });
}

#[test]
fn the_runtime_itself_runs_on_the_initial_cpus() {
    let Some(([first, second], _)) = own_cpus() else {
        return;
    };
    trial(|t| {
        let c = with_affinity(t, json!({"initial": first, "final": second}));
        let exec = c
            .exec_call(&[], &["/probe", "print", "up", "+", "pause"])
            .spawn();
        eventually("the program", || exec.output().contains("up").then_some(()));
        assert_eq!(cpus_of(exec.child.id()), Some(first.clone()));
        c.end();
        exec.end();
    });
}

#[test]
fn a_process_document_has_cpus_of_its_own() {
    let Some(([first, second], _)) = own_cpus() else {
        return;
    };
    trial(|t| {
        let c = with_affinity(t, json!({"final": first}));
        for list in [second.clone(), format!("{first}-{second}")] {
            let process = json!({"args": ["/probe", "status"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                "execCPUAffinity": {"final": list}});
            let file = t.file("process.json", &process.to_string());
            let out = c
                .verb("exec", &["--process", file.to_str().unwrap()])
                .end()
                .ok();
            assert_eq!(cpus(&out), list);
        }
        c.end();
    });
}

#[test]
fn cpus_that_there_are_none_of_are_an_error() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        for (affinity, words) in [
            (json!({"final": "8191"}), "sched_setaffinity"),
            (json!({"initial": "8191"}), "sched_setaffinity"),
            (json!({"initial": "1,,2"}), "is no list"),
            (json!({"final": "9999"}), "too high"),
        ] {
            let process = json!({"args": ["/probe", "status"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                "execCPUAffinity": affinity});
            let file = t.file("process.json", &process.to_string());
            let error = c
                .verb("exec", &["--process", file.to_str().unwrap()])
                .end()
                .fails();
            if !t.is_corten() {
                continue;
            }
            let field = affinity.as_object().unwrap().keys().next().unwrap().clone();
            assert!(error.contains(words), "{affinity}: {error}");
            assert!(
                error.contains(&format!("/execCPUAffinity/{field}")),
                "{error}"
            );
        }
        c.end();
    });
}

#[test]
fn the_caller_s_cpus_are_not_the_container_s() {
    let Some(([first, _], all)) = own_cpus() else {
        return;
    };
    trial(|t| {
        let c = t.container().probe("status").done();
        let out = t
            .program(Path::new("/usr/bin/taskset"))
            .args(["-c", &first])
            .arg(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["run", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .end()
            .ok();
        assert_eq!(cpus(&out), all);
    });
}
