// SPDX-License-Identifier: Apache-2.0
//! The whole life of a container and of what is executed beside it, and every call at the wrong time.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;

use containerd_shim_protos::Client;
use containerd_shim_protos::api::*;
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::ttrpc::proto::Request;
use containerd_shim_protos::ttrpc::{self, Code};
use corten_integration::{eventually, trial};

use crate::fifo::Fifo;
use crate::pod::{Names, Pod, any, patient, process, refused, shell};

#[test]
fn from_create_to_shutdown() {
    trial(|t| {
        let c = t.container().probe("print up + cat + exit 3").done();
        let (stdin, stdout) = (Fifo::new(t, "in"), Fifo::new(t, "out"));
        let said = stdout.collect();
        let names = Names {
            stdin: stdin.name(),
            stdout: stdout.name(),
            ..Names::default()
        };
        let pod = Pod::start(t, &c);
        let pid = pod.create(&c, &names);
        let state = pod.try_state(&c.id, "").unwrap();
        assert_eq!(state.status.enum_value(), Ok(Status::CREATED));
        assert_eq!((state.pid, state.exit_status), (pid, 0));
        assert_eq!(state.bundle, c.bundle.display().to_string());
        assert_eq!((&state.stdin, &state.stdout), (&names.stdin, &names.stdout));
        assert!(state.exited_at.is_none());
        assert_eq!(pod.start_process(&c.id, ""), pid);
        assert_eq!(pod.status(&c.id, ""), Status::RUNNING);

        let waiter = pod.task.clone();
        let request = WaitRequest {
            id: c.id.clone(),
            ..WaitRequest::default()
        };
        let waited = thread::spawn(move || waiter.wait(patient(), &request));
        stdin.writer().write_all(b"more\n").unwrap();
        let exit = waited.join().unwrap().unwrap();
        assert_eq!(exit.exit_status, 3);
        assert_eq!(said.join().unwrap(), b"up\nmore\n");
        let state = pod.try_state(&c.id, "").unwrap();
        assert_eq!(state.status.enum_value(), Ok(Status::STOPPED));
        assert_eq!((state.exit_status, &state.exited_at), (3, &exit.exited_at));
        let deleted = pod.delete(&c.id, "").unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 3));
        assert_eq!(deleted.exited_at, exit.exited_at);
        let [id, shim] = [c.id.clone(), pod.connect(&c.id).shim_pid.to_string()];
        assert_eq!(shim, pod.pid.to_string());
        pod.receiver.hears(1, &format!("delete {id} 3"));
        let lines = ["create", "start"].map(|topic| format!("{topic} {id}"));
        let lines = lines
            .into_iter()
            .chain(["exit", "delete"].map(|topic| format!("{topic} {id} 3")));
        assert_eq!(pod.receiver.lines(), lines.collect::<Vec<_>>());
        assert!(pod.receiver.events().iter().all(|event| event.pid == pid));
        pod.end();
    });
}

#[test]
fn what_is_executed_beside_it() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let init = pod.run(&c);
        let (stdout, stderr) = (Fifo::new(t, "out"), Fifo::new(t, "err"));
        let (out, err) = (stdout.collect(), stderr.collect());
        let names = Names {
            stdout: stdout.name(),
            stderr: stderr.name(),
            ..Names::default()
        };
        let words = [
            "/probe", "print", "one", "+", "eprint", "two", "+", "exit", "9",
        ];
        pod.try_exec(&c.id, "e", &process(&c, &words), &names)
            .unwrap();
        assert_eq!(pod.status(&c.id, "e"), Status::CREATED);
        let pid = pod.start_process(&c.id, "e");
        assert_eq!(pod.wait(&c.id, "e"), 9);
        assert_eq!(
            (out.join().unwrap(), err.join().unwrap()),
            (b"one\n".to_vec(), b"two\n".to_vec())
        );
        let state = pod.try_state(&c.id, "e").unwrap();
        assert_eq!(state.status.enum_value(), Ok(Status::STOPPED));
        assert_eq!(
            (state.pid, state.exit_status, state.exec_id.as_str()),
            (pid, 9, "e")
        );
        let deleted = pod.delete(&c.id, "e").unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 9));
        refused(pod.try_state(&c.id, "e"), Code::NOT_FOUND);

        let other = pod.exec(&c, "f", &["/probe", "pause"], &Names::default());
        let request = PidsRequest {
            id: c.id.clone(),
            ..PidsRequest::default()
        };
        let mut pids = pod.task.pids(patient(), &request).unwrap().processes;
        pids.sort_by_key(|process| process.pid != init);
        assert_eq!(
            pids.iter().map(|process| process.pid).collect::<Vec<_>>(),
            [init, other]
        );
        assert!(pids[0].info.is_none());
        let details = ProcessDetails::parse_from_bytes(&pids[1].info.value).unwrap();
        assert_eq!(details.exec_id, "f");
        assert_eq!(pids[1].info.type_url, "containerd.runc.v1.ProcessDetails");
        pod.kill(&c.id, "f", 15).unwrap();
        assert_eq!(pod.wait(&c.id, "f"), 128 + 15);
        pod.delete(&c.id, "f").unwrap();
        pod.end_container(&c.id);
        let id = &c.id;
        pod.receiver.hears(1, &format!("delete {id} 137"));
        let lines = [
            format!("create {id}"),
            format!("start {id}"),
            "exec-added e".into(),
            "exec-started e".into(),
            "exit e 9".into(),
            "exec-added f".into(),
            "exec-started f".into(),
            "exit f 143".into(),
            format!("exit {id} 137"),
            format!("delete {id} 137"),
        ];
        assert_eq!(pod.receiver.lines(), lines);
        let events = pod.receiver.events();
        assert_eq!(
            (events[3].pid, events[4].pid, events[7].pid),
            (pid, pid, other)
        );
        pod.end();
    });
}

#[test]
fn a_terminal_is_resized() {
    trial(|t| {
        let c = shell(t, "while :; do sleep 1; done").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let (stdin, stdout) = (Fifo::new(t, "in"), Fifo::new(t, "out"));
        let said = stdout.collect();
        let names = Names {
            stdin: stdin.name(),
            stdout: stdout.name(),
            terminal: true,
            ..Names::default()
        };
        let script = "stty -echo; echo ready; read x; stty size; exit 4";
        pod.exec(&c, "e", &["/bin/busybox", "sh", "-c", script], &names);
        let state = pod.try_state(&c.id, "e").unwrap();
        assert!(state.terminal);
        pod.resize(&c.id, "e", 33, 121).unwrap();
        let mut writer = stdin.writer();
        writer.write_all(b"\n").unwrap();
        assert_eq!(pod.wait(&c.id, "e"), 4);
        let said = String::from_utf8(said.join().unwrap()).unwrap();
        assert!(
            said.contains("ready\r\n") && said.ends_with("33 121\r\n"),
            "{said:?}"
        );
        // Init has none, which is no error.
        pod.resize(&c.id, "", 1, 1).unwrap();
        pod.delete(&c.id, "e").unwrap();
        pod.end_container(&c.id);
        pod.end();
    });
}

#[test]
fn stopped_and_gone_on() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let resume = ResumeRequest {
            id: c.id.clone(),
            ..ResumeRequest::default()
        };
        let pause = PauseRequest {
            id: c.id.clone(),
            ..PauseRequest::default()
        };
        refused(
            pod.task.resume(patient(), &resume),
            Code::FAILED_PRECONDITION,
        );
        pod.task.pause(patient(), &pause).unwrap();
        assert_eq!(pod.status(&c.id, ""), Status::PAUSED);
        let exec = process(&c, &["/probe", "exit", "0"]);
        refused(
            pod.try_exec(&c.id, "e", &exec, &Names::default()),
            Code::FAILED_PRECONDITION,
        );
        pod.task.resume(patient(), &resume).unwrap();
        assert_eq!(pod.status(&c.id, ""), Status::RUNNING);
        pod.end_container(&c.id);
        pod.receiver.hears(1, &format!("delete {} 137", c.id));
        let lines = pod.receiver.lines();
        assert_eq!(
            lines[2..4],
            [format!("paused {}", c.id), format!("resumed {}", c.id)]
        );
        pod.end();
    });
}

#[test]
fn limits_are_changed() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let resources = br#"{"pids": {"limit": 77}}"#.to_vec();
        let name = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let mut request = UpdateTaskRequest {
            id: c.id.clone(),
            resources: MessageField::some(any(name, resources)),
            ..UpdateTaskRequest::default()
        };
        pod.task.update(patient(), &request).unwrap();
        assert_eq!(c.cgroup_file("pids", "pids.max"), "77");
        request.resources = MessageField::none();
        refused(pod.task.update(patient(), &request), Code::INVALID_ARGUMENT);
        pod.end_container(&c.id);
        pod.end();
    });
}

#[test]
fn what_it_has_used_is_told() {
    trial(|t| {
        let c = t.container().probe("spin").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let request = StatsRequest {
            id: c.id.clone(),
            ..StatsRequest::default()
        };
        let stats = eventually("some processor time", || {
            let stats = pod.task.stats(patient(), &request).unwrap().stats.unwrap();
            let (time, memory, pids) = match stats.type_url.as_str() {
                "io.containerd.cgroups.v1.Metrics" => {
                    let read = v1::Metrics::parse_from_bytes(&stats.value).unwrap();
                    (
                        read.cpu.usage.total / 1000,
                        read.memory.usage.usage,
                        read.pids.current,
                    )
                }
                "io.containerd.cgroups.v2.Metrics" => {
                    let read = v2::Metrics::parse_from_bytes(&stats.value).unwrap();
                    (read.cpu.usage_usec, read.memory.usage, read.pids.current)
                }
                other => panic!("{other}"),
            };
            (time > 10_000).then_some((memory, pids))
        });
        assert!(stats.0 > 4096, "{stats:?}");
        assert_eq!(stats.1, 1);
        pod.end_container(&c.id);
        refused(pod.task.stats(patient(), &request), Code::NOT_FOUND);
        pod.end();
    });
}

#[test]
fn every_call_at_the_wrong_time() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let none = Names::default();
        let exec = process(&c, &["/probe", "exit", "0"]);
        // Nothing is there.
        refused(pod.try_state(&c.id, ""), Code::NOT_FOUND);
        refused(pod.try_start_process(&c.id, ""), Code::NOT_FOUND);
        refused(pod.kill(&c.id, "", 9), Code::NOT_FOUND);
        refused(pod.delete(&c.id, ""), Code::NOT_FOUND);
        refused(pod.try_wait(&c.id, ""), Code::NOT_FOUND);
        refused(pod.try_exec(&c.id, "e", &exec, &none), Code::NOT_FOUND);
        assert_eq!(pod.connect(&c.id).task_pid, 0);
        // It is created.
        pod.create(&c, &none);
        refused(pod.try_create(&c, &none), Code::ALREADY_EXISTS);
        refused(pod.kill(&c.id, "", 1000), Code::INVALID_ARGUMENT);
        // A pod that has a container goes on.
        pod.shutdown(&c.id);
        // It runs.
        pod.start_process(&c.id, "");
        refused(pod.try_start_process(&c.id, ""), Code::FAILED_PRECONDITION);
        refused(pod.delete(&c.id, ""), Code::FAILED_PRECONDITION);
        refused(
            pod.try_exec(&c.id, "", &exec, &none),
            Code::INVALID_ARGUMENT,
        );
        pod.try_exec(&c.id, "e", &exec, &none).unwrap();
        refused(pod.try_exec(&c.id, "e", &exec, &none), Code::ALREADY_EXISTS);
        refused(pod.kill(&c.id, "e", 9), Code::FAILED_PRECONDITION);
        refused(pod.kill(&c.id, "f", 9), Code::NOT_FOUND);
        refused(pod.try_wait(&c.id, "f"), Code::NOT_FOUND);
        pod.start_process(&c.id, "e");
        refused(pod.try_start_process(&c.id, "e"), Code::FAILED_PRECONDITION);
        pod.wait(&c.id, "e");
        refused(pod.kill(&c.id, "e", 9), Code::NOT_FOUND);
        pod.try_exec(&c.id, "late", &exec, &none).unwrap();
        // It has ended.
        pod.kill(&c.id, "", 9).unwrap();
        pod.wait(&c.id, "");
        refused(pod.kill(&c.id, "", 9), Code::NOT_FOUND);
        refused(pod.try_start_process(&c.id, ""), Code::FAILED_PRECONDITION);
        refused(
            pod.try_exec(&c.id, "g", &exec, &none),
            Code::FAILED_PRECONDITION,
        );
        let words = refused(
            pod.try_start_process(&c.id, "late"),
            Code::FAILED_PRECONDITION,
        );
        assert!(words.contains("init process is not running"), "{words}");
        pod.delete(&c.id, "").unwrap();
        refused(pod.delete(&c.id, ""), Code::NOT_FOUND);
        pod.end();
    });
}

#[test]
fn what_cannot_be_executed_says_so() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let none = Names::default();
        pod.try_exec(&c.id, "e", &process(&c, &["/no/such"]), &none)
            .unwrap();
        let words = refused(pod.try_start_process(&c.id, "e"), Code::UNKNOWN);
        assert!(
            words.contains("OCI runtime exec failed") && words.contains("/no/such"),
            "{words}"
        );
        assert_eq!(pod.status(&c.id, "e"), Status::STOPPED);
        pod.wait(&c.id, "e");
        pod.delete(&c.id, "e").unwrap();
        // No log, no document and no number of it stay in the bundle.
        let left = fs::read_dir(&c.bundle).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = left
            .filter(|name| name.starts_with("exec-") || name.starts_with("log-"))
            .collect();
        left.sort();
        assert_eq!(left, [""; 0]);
        pod.end_container(&c.id);
        pod.end();
    });
}

#[test]
fn what_cannot_be_created_leaves_nothing() {
    trial(|t| {
        let c = t.container().args(&["/no/such"]).done();
        let pod = Pod::start(t, &c);
        let words = refused(pod.try_create(&c, &Names::default()), Code::UNKNOWN);
        assert!(
            words.contains("OCI runtime create failed") && words.contains("/no/such"),
            "{words}"
        );
        refused(pod.try_state(&c.id, ""), Code::NOT_FOUND);
        assert_eq!(pod.receiver.lines(), [""; 0]);
        pod.end();
    });
}

#[test]
fn created_and_never_started() {
    trial(|t| {
        let [first, second] = [0, 1].map(|_| t.container().probe("print never").done());
        let pod = Pod::start(t, &first);
        pod.create(&first, &Names::default());
        pod.kill(&first.id, "", 9).unwrap();
        assert_eq!(pod.wait(&first.id, ""), 137);
        pod.delete(&first.id, "").unwrap();
        pod.create(&second, &Names::default());
        assert_eq!(pod.delete(&second.id, "").unwrap().exit_status, 137);
        pod.end();
    });
}

#[test]
fn what_nobody_serves_is_unimplemented() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let client = Client::connect(&pod.address).unwrap();
        let call = |service: &str, method: &str, payload: &[u8]| {
            client.request(Request {
                service: service.into(),
                method: method.into(),
                payload: payload.into(),
                timeout_nano: 10_000_000_000,
                ..Request::default()
            })
        };
        for (service, method) in [
            ("containerd.task.v3.Task", "Dance"),
            ("containerd.runtime.sandbox.v1.Sandbox", "CreateSandbox"),
        ] {
            refused(call(service, method, b""), Code::UNIMPLEMENTED);
        }
        refused(
            call("containerd.task.v3.Task", "State", b"\xff"),
            Code::INVALID_ARGUMENT,
        );
        // Both names are the same service.
        for version in ["v2", "v3"] {
            let service = format!("containerd.task.{version}.Task");
            let answer: ttrpc::Response = call(&service, "Connect", b"").unwrap();
            let answer = ConnectResponse::parse_from_bytes(&answer.payload).unwrap();
            assert_eq!(answer.shim_pid, pod.pid.unsigned_abs());
        }
        // Whoever talks nonsense harms nobody else.
        let mut stranger =
            UnixStream::connect(pod.address.strip_prefix("unix://").unwrap()).unwrap();
        stranger.write_all(&[0xff; 4096]).unwrap();
        drop(stranger);
        assert_eq!(pod.connect("").shim_pid, pod.pid.unsigned_abs());
        pod.end();
    });
}

#[test]
fn whoever_waits_hears_of_a_deletion() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        pod.try_exec(
            &c.id,
            "e",
            &process(&c, &["/probe", "exit", "0"]),
            &Names::default(),
        )
        .unwrap();
        let waiters: Vec<_> = ["", "", "e"]
            .map(|exec| {
                let (task, id) = (pod.task.clone(), c.id.clone());
                thread::spawn(move || {
                    let request = WaitRequest {
                        id,
                        exec_id: exec.into(),
                        ..WaitRequest::default()
                    };
                    task.wait(patient(), &request)
                        .map(|answer| answer.exit_status)
                })
            })
            .into();
        // They wait by now, or ask for what has ended: the same answer.
        eventually("waiting", || {
            (pod.connect(&c.id).task_pid != 0).then_some(())
        });
        pod.end_container(&c.id);
        let mut answers = waiters.into_iter().map(|waiter| waiter.join().unwrap());
        assert_eq!(answers.next().unwrap().unwrap(), 137);
        assert_eq!(answers.next().unwrap().unwrap(), 137);
        // Which never ran.
        refused(answers.next().unwrap(), Code::NOT_FOUND);
        pod.end();
    });
}
