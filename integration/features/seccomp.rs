// SPDX-License-Identifier: Apache-2.0
//! Seccomp: what a filter does to the calls of the container, when it is loaded, and the agent that decides. What a
//! profile means is the compiler's own test; here it is loaded into real processes.

use std::fs;

use corten_integration::{Agent, Draft, Trial, trial};
use corten_sys::Errno;
use corten_sys::seccomp::Answer;
use serde_json::{Value, json};

/// A filter that allows everything but what `rules` say.
fn except(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

/// No directories are made: the call fails as if across devices, which nothing else here does.
fn no_mkdir() -> Value {
    except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]))
}

fn filtered<'t>(t: &'t Trial, filter: &Value) -> Draft<'t> {
    t.container().with("/linux/seccomp", filter.clone())
}

/// What docker writes for its default capabilities.
fn dockers() -> Value {
    serde_json::from_str(include_str!(
        "../../tests/fixtures/seccomp/docker-default.json"
    ))
    .unwrap()
}

#[test]
fn a_rule_s_errno_is_the_call_s_answer() {
    trial(|t| {
        let c = filtered(t, &no_mkdir())
            .probe("mkdir /tmp/x + status")
            .done();
        let out = c.run().ok();
        assert_eq!(out.seen("mkdir")["errno"], "EXDEV");
        assert_eq!(out.seen("status")["Seccomp"], "2");
        assert_eq!(out.seen("status")["Seccomp_filters"], "1");
    });
}

#[test]
fn without_new_privileges_or_with_them_the_filter_holds() {
    trial(|t| {
        for no_new in [false, true] {
            let c = filtered(t, &no_mkdir())
                .with("/process/noNewPrivileges", json!(no_new))
                .with("/process/user", json!({"uid": 1000, "gid": 1000}))
                .capabilities(&[])
                .probe("mkdir /tmp/x + status + ids")
                .done();
            let out = c.run().ok();
            assert_eq!(out.seen("mkdir")["errno"], "EXDEV", "{no_new}");
            assert_eq!(out.seen("status")["Seccomp"], "2");
            assert_eq!(
                out.seen("status")["NoNewPrivs"],
                if no_new { "1" } else { "0" }
            );
            assert_eq!(out.seen("status")["CapEff"], "0000000000000000");
        }
    });
}

#[test]
fn a_profile_of_what_the_program_needs_is_enough() {
    trial(|t| {
        // What a static Rust program does before and after its main; everything of ours comes before the filter.
        let names = [
            "arch_prctl",
            "brk",
            "execve",
            "exit_group",
            "mmap",
            "mprotect",
            "munmap",
            "poll",
            "prlimit64",
            "read",
            "readlink",
            "readlinkat",
            "rseq",
            "rt_sigaction",
            "rt_sigprocmask",
            "sched_getaffinity",
            "set_robust_list",
            "set_tid_address",
            "sigaltstack",
            "write",
            "getrandom",
            "futex",
            "gettid",
            "open",
            "openat",
            "close",
            "fstat",
            "newfstatat",
            "lseek",
            "pread64",
            "mremap",
            "getpid",
        ];
        let profile = json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
        });
        let c = filtered(t, &profile).probe("print hello").done();
        assert_eq!(c.run().ok().stdout, "hello\n");
    });
}

#[test]
fn deadly_actions_end_the_program() {
    trial(|t| {
        for action in [
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_TRAP",
        ] {
            let filter = except(json!([{"names": ["mkdir", "mkdirat"], "action": action}]));
            let c = filtered(t, &filter)
                .probe("mkdir /tmp/x + print never")
                .done();
            let out = c.run();
            assert_eq!(out.code, 128 + 31, "{action}: {out:?}");
            assert_eq!(out.stdout, "", "{action}");
        }
    });
}

#[test]
fn a_tracer_that_is_not_there_is_enosys() {
    trial(|t| {
        let filter = except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRACE"}]));
        let out = filtered(t, &filter).probe("mkdir /tmp/x").done().run().ok();
        assert_eq!(out.seen("mkdir")["errno"], "ENOSYS");
    });
}

#[test]
fn what_is_only_logged_is_done() {
    trial(|t| {
        let filter = except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}]));
        let c = filtered(t, &filter).mount("/tmp", "tmpfs", "tmpfs", &[]);
        assert_eq!(
            c.probe("mkdir /tmp/x").done().run().ok().seen("mkdir")["ok"],
            true
        );
    });
}

#[test]
fn conditions_look_at_arguments() {
    trial(|t| {
        let filter = except(json!([{
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18,
            "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}],
        }]));
        let out = filtered(t, &filter)
            .probe("socket 38 + socket 1")
            .done()
            .run()
            .ok();
        let answers: Vec<_> = out.all("socket");
        assert_eq!(answers[0]["errno"], "EXDEV");
        assert_eq!(answers[1]["ok"], true);
    });
}

/// Whether a filter without a flag of its own ends speculation around stores: on processors that do it, where the kernel
/// was told so (`spec_store_bypass_disable=seccomp`, the default before Linux 5.16).
fn filters_end_speculation() -> bool {
    let mode = "/sys/devices/system/cpu/vulnerabilities/spec_store_bypass";
    fs::read_to_string(mode).is_ok_and(|mode| mode.contains("seccomp"))
}

/// What the kernel says of this process, which has no filter.
fn host_bypass() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("Speculation_Store_Bypass:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn flags_are_taken() {
    trial(|t| {
        for flags in [
            json!(null),
            json!([]),
            json!(["SECCOMP_FILTER_FLAG_LOG"]),
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]),
        ] {
            let mut filter = no_mkdir();
            filter["flags"] = flags.clone();
            let out = filtered(t, &filter)
                .probe("mkdir /tmp/x + status")
                .done()
                .run()
                .ok();
            assert_eq!(out.seen("mkdir")["errno"], "EXDEV", "{flags}");
            // Without a word about flags, and with its own flag, speculation is left as it is on the host.
            let bypass = out.seen("status")["Speculation_Store_Bypass"].clone();
            if flags == json!([]) {
                match filters_end_speculation() {
                    true => assert_ne!(bypass, "thread vulnerable"),
                    false => assert_eq!(bypass, host_bypass()),
                }
            }
        }
    });
}

#[test]
fn dockers_profile_does_what_it_is_known_for() {
    trial(|t| {
        for no_new in [false, true] {
            let c = filtered(t, &dockers())
                .with("/process/noNewPrivileges", json!(no_new))
                .probe("unshare-user + thread + socket 38 + socket 1 + status")
                .done();
            let out = c.run().ok();
            assert_eq!(out.seen("unshare-user")["errno"], "EPERM");
            assert_eq!(out.seen("thread")["ok"], true);
            let sockets = out.all("socket");
            // This profile of docker's allows every family but AF_VSOCK; the kernel here may lack AF_ALG.
            assert_ne!(sockets[0]["errno"], "EPERM");
            assert_eq!(sockets[1]["ok"], true);
            assert_eq!(out.seen("status")["Seccomp"], "2");
        }
    });
}

#[test]
fn create_and_start_load_it_too() {
    trial(|t| {
        for no_new in [false, true] {
            let c = filtered(t, &dockers())
                .with("/process/noNewPrivileges", json!(no_new))
                .probe("status + pause")
                .done();
            let out = c.create().ok();
            c.start().ok();
            assert_eq!(c.seen(&out, "status")["Seccomp"], "2");
            c.end();
        }
    });
}

#[test]
fn exec_has_the_container_s_filter() {
    trial(|t| {
        for no_new in [false, true] {
            let c = filtered(t, &no_mkdir())
                .with("/process/noNewPrivileges", json!(no_new))
                .probe("print up + pause")
                .done();
            let first = c.run_detached();
            c.says(&first, "up");
            let out = c.exec("mkdir /tmp/x + status").ok();
            assert_eq!(out.seen("mkdir")["errno"], "EXDEV");
            assert_eq!(out.seen("status")["Seccomp_filters"], "1");
            c.end();
        }
    });
}

#[test]
fn hooks_are_not_filtered() {
    trial(|t| {
        let filter =
            except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]));
        let hook = json!([{"path": "/probe", "args": ["probe", "mkdir", "/tmp/x"]}]);
        let c = filtered(t, &filter)
            .mount("/tmp", "tmpfs", "tmpfs", &[])
            .with("/hooks/startContainer", hook)
            .probe("exists /tmp/x")
            .done();
        assert_eq!(c.run().ok().seen("exists")["/tmp/x"], true);
    });
}

#[test]
fn an_agent_is_told_and_asked() {
    trial(|t| {
        for (number, no_new, mapped) in [
            (0, false, false),
            (1, true, false),
            (2, false, true),
            (3, true, true),
        ] {
            let deny = |_: &corten_sys::seccomp::Notification| Answer::Fail(Errno::XDEV);
            let agent = Agent::listen(t.dir.join(format!("agent-{number}")), deny);
            let mut filter =
                except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
            filter["listenerPath"] = json!(agent.path);
            filter["listenerMetadata"] = json!("what the engine likes");
            let mut draft = filtered(t, &filter);
            if mapped {
                draft = draft.user_namespace(100_000, 65536);
            }
            let c = draft
                .with("/process/noNewPrivileges", json!(no_new))
                .with("/annotations", json!({"org.example": "1"}))
                .probe("mkdir /tmp/x + print up + pause")
                .done();
            let out = c.create().ok();
            let told = agent.told(0);
            assert_eq!(told["fds"], json!(["seccompFd"]));
            assert_eq!(told["metadata"], "what the engine likes");
            assert_eq!(told["pid"], c.pid());
            assert_eq!(told["state"]["id"], json!(c.id));
            assert_eq!(told["state"]["status"], "creating");
            assert_eq!(told["state"]["annotations"]["org.example"], "1");
            assert!(told["ociVersion"].is_string() && told["state"]["bundle"].is_string());
            c.start().ok();
            c.says(&out, "up");
            assert_eq!(c.seen(&out, "mkdir")["errno"], "EXDEV");

            let second = c.exec("mkdir /tmp/y").ok();
            assert_eq!(second.seen("mkdir")["errno"], "EXDEV");
            assert_eq!(agent.told(1)["state"]["status"], "running");
            assert_ne!(agent.told(1)["pid"], told["pid"]);
            assert_eq!(agent.count(), 2);
            assert!(!agent.asked().is_empty());
            c.end();
        }
    });
}

#[test]
fn a_call_may_wait_for_its_answer_undisturbed() {
    trial(|t| {
        let agent = Agent::listen(t.dir.join("agent"), |_| Answer::Fail(Errno::XDEV));
        let mut filter =
            except(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
        filter["listenerPath"] = json!(agent.path);
        filter["flags"] = json!([
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "SECCOMP_FILTER_FLAG_TSYNC"
        ]);
        let c = filtered(t, &filter).probe("mkdir /tmp/x").done();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
    });
}

#[test]
fn an_agent_may_be_asked_about_everything() {
    trial(|t| {
        // Every call that the runtime itself makes after the filter is loaded, and the program's first ones.
        let agent = Agent::listen(t.dir.join("agent"), |_| Answer::Continue);
        let names = [
            "sendto", "sendmsg", "recvmsg", "recvfrom", "close", "write", "capset", "prctl",
            "execve", "poll",
        ];
        let mut filter = except(json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]));
        filter["listenerPath"] = json!(agent.path);
        for no_new in [false, true] {
            let c = filtered(t, &filter)
                .with("/process/noNewPrivileges", json!(no_new))
                .probe("print hello")
                .done();
            assert_eq!(c.run().ok().stdout, "hello\n");
        }
        assert!(agent.asked().len() > 4);
    });
}

#[test]
fn an_agent_that_is_not_there_is_an_error() {
    trial(|t| {
        let mut filter = except(json!([{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
        filter["listenerPath"] = json!(t.dir.join("nobody"));
        let c = filtered(t, &filter).probe("print never").done();
        let error = c.create().fails();
        assert!(error.contains("nobody"), "{error}");
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn nobody_asked_means_nobody_told() {
    trial(|t| {
        let mut filter = no_mkdir();
        filter["listenerPath"] = json!(t.dir.join("nobody"));
        filtered(t, &filter).probe("print hello").done().run().ok();
    });
}

#[test]
fn a_damaged_cache_is_compiled_anew() {
    trial(|t| {
        let c = filtered(t, &no_mkdir()).probe("mkdir /tmp/x").done();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
        let cache = t.state_root().join(".seccomp");
        let entries: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(entries.len(), 1);
        // One that would allow everything, were it believed.
        let mut bytes = fs::read(&entries[0]).unwrap();
        let at = bytes.len() - 20;
        bytes[at] ^= 0xff;
        fs::write(&entries[0], bytes).unwrap();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
        fs::remove_dir_all(cache).unwrap();
    });
}

#[test]
fn exec_without_the_kept_program_is_refused() {
    trial(|t| {
        let c = filtered(t, &no_mkdir()).probe("print up + pause").done();
        let out = c.run_detached();
        c.says(&out, "up");
        let kept = t.state_root().join(&c.id).join("seccomp.bpf");
        fs::remove_file(&kept).unwrap();
        let error = c.exec("print never").fails();
        assert!(error.contains("seccomp.bpf"), "{error}");
        c.end();
    });
}

#[test]
fn a_profile_that_feigns_success_leaves_no_privilege() {
    trial(|t| {
        let ids = [
            "setuid",
            "setgid",
            "setresuid",
            "setresgid",
            "setgroups",
            "prctl",
        ];
        let rule = |names: &[&str]| {
            except(json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]))
        };
        let c = filtered(t, &rule(&ids))
            .with("/process/noNewPrivileges", json!(false))
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("ids + status")
            .done();
        // PR_SET_PDEATHSIG is feigned too: `run` stays, so that nothing comes of it.
        let out = c.run().ok();
        assert_eq!(out.seen("ids")["uid"], 1000);
        assert_eq!(out.seen("ids")["euid"], 1000);
        assert_eq!(out.seen("status")["CapBnd"], "0000000020000420");
        for names in [&["capset"][..], &["capset", "capget"]] {
            let c = filtered(t, &rule(names))
                .with("/process/noNewPrivileges", json!(false))
                .probe("print never")
                .done();
            let error = c.run().fails();
            assert!(error.contains("capset"), "{error}");
        }
    });
}

#[test]
fn a_waiting_init_holds_nothing_of_the_host() {
    trial(|t| {
        for errno in [0, 1] {
            let filter = except(json!([
                {"names": ["close_range"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
            ]));
            let c = filtered(t, &filter)
                .with("/process/noNewPrivileges", json!(false))
                .probe("print up + pause")
                .done();
            let out = c.create().ok();
            let open = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap();
            for entry in open {
                let link = fs::read_link(entry.unwrap().path()).unwrap();
                let text = link.to_string_lossy().into_owned();
                assert!(!link.is_dir(), "{errno}: {text}");
                assert!(!text.starts_with("/proc"), "{errno}: {text}");
            }
            c.start().ok();
            c.says(&out, "up");
            c.end();
        }
    });
}

#[test]
fn a_profile_that_silences_init_is_an_error_in_the_end() {
    trial(|t| {
        let filter = except(json!([
            {"names": ["sendto", "sendmsg", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
        ]));
        let c = filtered(t, &filter)
            .with("/process/noNewPrivileges", json!(false))
            .probe("print never")
            .done();
        let error = c.create().fails();
        assert!(error.contains("seccomp") || !t.is_corten(), "{error}");
        c.verb("state", &[]).end().fails();
    });
}

#[test]
fn a_cache_that_others_can_write_is_not_believed() {
    trial(|t| {
        let c = filtered(t, &no_mkdir()).probe("mkdir /tmp/x").done();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
        let cache = t.state_root().join(".seccomp");
        let entry = fs::read_dir(&cache)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        // Nobody writes to it: who waits for what is in there waits for ever.
        fs::remove_file(&entry).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &entry,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
        fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(c.run().ok().seen("mkdir")["errno"], "EXDEV");
        fs::remove_dir_all(cache).unwrap();
    });
}
