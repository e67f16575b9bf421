// SPDX-License-Identifier: Apache-2.0
//! `start`: in every form in which containerd asks and is answered, and one shim for a pod, whoever asks for it and when.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use containerd_shim_protos::api::{ConnectRequest, ShutdownRequest};
use containerd_shim_protos::bootstrap_api::BootstrapResult;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::oci;
use containerd_shim_protos::ttrpc::Code;
use corten_integration::{Call, Container, PATIENCE, Trial, await_exit, trial};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::pod::{self, Names, Pod, Sockets, any, call, client, patient, refused, start_call};

/// The annotation that names a pod.
const POD: &str = "/annotations";

/// Asks the shim at `address` who it is, and to end.
#[track_caller]
fn dismiss(address: &str) -> i32 {
    let task = client(address);
    let answer = task.connect(patient(), &ConnectRequest::default()).unwrap();
    task.shutdown(patient(), &ShutdownRequest::default())
        .unwrap();
    let pid = i32::try_from(answer.shim_pid).unwrap();
    assert!(
        await_exit(Pid::from_raw(pid).unwrap(), PATIENCE),
        "the shim goes on"
    );
    let path = address.strip_prefix("unix://").unwrap();
    assert!(!Path::new(path).exists(), "{path} is left");
    pid
}

/// A call of `start` with `input`, as versions before 2.3 make it. Their sockets are in one place of the machine's.
fn older(t: &Trial, c: &Container<'_>, input: &[u8]) -> Call {
    let file = c.bundle.join("start-input");
    fs::write(&file, input).unwrap();
    call(t, c).stdin_file(fs::File::open(file).unwrap())
}

#[test]
fn containerd_1_6_gets_an_address() {
    trial(|t| {
        let c = t.container().done();
        let said = older(t, &c, b"").arg("start").end().ok();
        assert_eq!(said.stderr, "");
        assert!(
            said.stdout.starts_with("unix:///run/containerd/s/"),
            "{}",
            said.stdout
        );
        let file = fs::read_to_string(c.bundle.join("address")).unwrap();
        assert_eq!(file, said.stdout);
        assert!(!c.bundle.join("s").exists());
        dismiss(&said.stdout);
    });
}

#[test]
fn containerd_1_7_gets_json() {
    trial(|t| {
        for (wanted, version) in [(0, 2), (2, 2), (3, 3)] {
            let c = t.container().done();
            let options = oci::Options {
                task_api_version: wanted,
                ..oci::Options::default()
            };
            let options = any(
                "containerd.runc.v1.Options",
                options.write_to_bytes().unwrap(),
            );
            let options = options.write_to_bytes().unwrap();
            let start = older(t, &c, &options)
                .env("MAX_SHIM_VERSION", "2")
                .arg("start");
            let said = start.end().ok();
            assert_eq!(said.stderr, "");
            let answer: Value = serde_json::from_str(&said.stdout).unwrap();
            let address = answer["address"].as_str().unwrap();
            let all = json!({"version": version, "address": address, "protocol": "ttrpc"});
            assert_eq!(answer, all);
            dismiss(address);
        }
    });
}

#[test]
fn containerd_2_3_gets_a_message() {
    trial(|t| {
        let c = t.container().done();
        let sockets = Sockets::new();
        let said = start_call(t, &c, &sockets, &t.dir.join("e")).end().ok();
        assert_eq!(said.stderr, "");
        let answer = BootstrapResult::parse_from_bytes(&said.bytes()).unwrap();
        assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
        let link = fs::read_link(c.bundle.join("s")).unwrap();
        assert_eq!(link, sockets.0);
        dismiss(&answer.address);
        assert!(sockets.list().is_empty());
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    trial(|t| {
        let c = t.container().done();
        let error = older(t, &c, b"\xff\xff")
            .arg("start")
            .end()
            .exits(1)
            .fails();
        assert!(error.contains("standard input"), "{error}");
        let unknown = any("some.Options", vec![]).write_to_bytes().unwrap();
        let error = older(t, &c, &unknown).arg("start").end().exits(1).fails();
        assert!(error.contains("some.Options"), "{error}");
        fs::remove_file(c.bundle.join("config.json")).unwrap();
        let error = older(t, &c, b"").arg("start").end().exits(1).fails();
        assert!(error.contains("config.json"), "{error}");
    });
}

/// Two of one pod, with what they were told.
fn pair(t: &Trial) -> [Container<'_>; 2] {
    let pod = json!({"io.kubernetes.cri.sandbox-id": format!("{}-pod", t.prefix)});
    [0, 1].map(|_| t.container().probe("pause").with(POD, pod.clone()).done())
}

#[test]
fn a_pod_has_one_shim() {
    trial(|t| {
        let [first, second] = pair(t);
        let pod = Pod::start(t, &first);
        let said = start_call(t, &second, &pod.sockets, &pod.receiver.path)
            .end()
            .ok();
        let answer = BootstrapResult::parse_from_bytes(&said.bytes()).unwrap();
        assert_eq!(answer.address, pod.address);
        assert_eq!(pod.sockets.list().len(), 1);
        let running = corten_integration::Census::residue(&t.prefix);
        let shims = running
            .iter()
            .filter(|what| what.contains("containerd-shim-corten-v2"));
        assert_eq!(shims.count(), 1, "{running:#?}");
        for c in [&first, &second] {
            pod.run(c);
        }
        pod.end_container(&first.id);
        pod.shutdown(&first.id);
        assert_eq!(
            pod.status(&second.id, "").to_owned(),
            containerd_shim_protos::api::Status::RUNNING
        );
        pod.end_container(&second.id);
        pod.end();
    });
}

/// `count` calls of `start` of one pod at once; all addresses that they were told.
fn crowd(t: &Trial, c: &Container<'_>, sockets: &Sockets, count: usize) -> BTreeSet<String> {
    let events = t.dir.join("e");
    let running: Vec<_> = (0..count)
        .map(|_| start_call(t, c, sockets, &events).spawn())
        .collect();
    let answers = running.into_iter().map(|running| {
        let said = running.end().ok();
        BootstrapResult::parse_from_bytes(&said.bytes())
            .unwrap()
            .address
    });
    answers.collect()
}

fn count_shims(t: &Trial) -> usize {
    let running = corten_integration::Census::residue(&t.prefix);
    running
        .iter()
        .filter(|what| what.contains("containerd-shim-corten-v2"))
        .count()
}

#[test]
fn twenty_at_once_begin_one() {
    trial(|t| {
        let c = t.container().done();
        let sockets = Sockets::new();
        for _ in 0..3 {
            let addresses = crowd(t, &c, &sockets, 20);
            assert_eq!(addresses.len(), 1, "{addresses:?}");
            assert_eq!(count_shims(t), 1);
            assert_eq!(sockets.list().len(), 1, "{:?}", sockets.list());
            dismiss(addresses.first().unwrap());
        }
    });
}

#[test]
fn twenty_at_once_replace_a_dead_one() {
    trial(|t| {
        let c = t.container().done();
        let sockets = Sockets::new();
        for _ in 0..3 {
            let addresses = crowd(t, &c, &sockets, 1);
            let address = addresses.first().unwrap();
            let path = address.strip_prefix("unix://").unwrap();
            dismiss(address);
            // As one that was killed leaves it.
            drop(UnixListener::bind(path).unwrap());
            assert_eq!(&crowd(t, &c, &sockets, 20), &addresses);
            assert_eq!(count_shims(t), 1);
            assert_eq!(sockets.list().len(), 1, "{:?}", sockets.list());
            dismiss(address);
        }
    });
}

#[test]
fn one_that_ends_is_not_found() {
    trial(|t| {
        let [first, second] = pair(t);
        let mut pod = Pod::start(t, &first);
        pod.run(&first);
        // Events that nobody takes hold it back.
        pod.receiver.close();
        pod.end_container(&first.id);
        pod.shutdown(&first.id);
        let late = pod.try_create(&second, &Names::default());
        refused(late, Code::FAILED_PRECONDITION);
        let said = start_call(t, &second, &pod.sockets, &pod.receiver.path)
            .end()
            .ok();
        let answer = BootstrapResult::parse_from_bytes(&said.bytes()).unwrap();
        let next = client(&answer.address);
        let shim = next
            .connect(patient(), &ConnectRequest::default())
            .unwrap()
            .shim_pid;
        assert_ne!(shim, pod.pid.unsigned_abs());
        pod.receiver.reopen();
        assert!(await_exit(Pid::from_raw(pod.pid).unwrap(), PATIENCE));
        // The first one's end has not taken the second one's name.
        let request = pod::create_request(t, &t.runtime.path, &second, &Names::default());
        next.create(patient(), &request).unwrap();
        pod.pid = i32::try_from(shim).unwrap();
        pod.task = client(&answer.address);
        pod.start_process(&second.id, "");
        pod.end_container(&second.id);
        pod.end();
    });
}

#[test]
fn the_shim_is_where_it_belongs() {
    trial(|t| {
        let c = t.container().done();
        let pod = Pod::start(t, &c);
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.pid)).unwrap();
        let number = |text: &str| text.trim().parse::<i32>().unwrap();
        assert_eq!(number(&score), (number(&own) + 1).min(1000));
        let links = (0..3).map(|fd| fs::read_link(format!("/proc/{}/fd/{fd}", pod.pid)).unwrap());
        assert_eq!(links.collect::<Vec<_>>(), [Path::new("/dev/null"); 3]);
        let here = fs::read_link(format!("/proc/{}/cwd", pod.pid)).unwrap();
        assert_eq!(here, c.bundle);
        pod.end();
    });
}
