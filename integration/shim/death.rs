// SPDX-License-Identifier: Apache-2.0
//! A shim that is killed, or given up, and what the `delete` that follows makes of what there is. And what a living one must
//! not gather: descriptors.

use std::fs;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use corten_integration::{Container, Trial, eventually, trial};

use crate::fifo::Fifo;
use crate::pod::{Names, Pod, call, refused, shell};
use crate::times;

/// `delete`, in the bundle of another container or in its own, as containerd calls it.
#[track_caller]
fn clean_up(t: &Trial, c: &Container<'_>, in_bundle_of: &Container<'_>) -> DeleteResponse {
    let said = call(t, c)
        .dir(&in_bundle_of.bundle)
        .arg("-bundle")
        .arg(&c.bundle)
        .arg("delete")
        .end()
        .ok();
    DeleteResponse::parse_from_bytes(&said.bytes()).unwrap()
}

#[test]
fn what_a_killed_shim_leaves_is_removed() {
    trial(|t| {
        let [running, created, never] = [0, 1, 2].map(|_| t.container().probe("pause").done());
        let pod = Pod::start(t, &running);
        let pid = pod.run(&running);
        pod.exec(&running, "e", &["/probe", "pause"], &Names::default());
        let second = pod.create(&created, &Names::default());
        pod.kill_shim();
        for (c, wanted) in [(&running, pid), (&created, second), (&never, 0)] {
            let answer = clean_up(t, c, &running);
            assert_eq!((answer.pid, answer.exit_status), (wanted, 137));
            assert!(answer.exited_at.seconds > 0);
            // Once more harms nobody.
            assert_eq!(clean_up(t, c, c).exit_status, 137);
        }
        assert!(pod.sockets.list().is_empty(), "{:?}", pod.sockets.list());
    });
}

#[test]
fn a_living_shim_ends_when_its_last_container_is_removed_under_it() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let running = pod.run(&c);
        let answer = clean_up(t, &c, &c);
        assert_eq!((answer.pid, answer.exit_status), (running, 137));
        let pid = rustix::process::Pid::from_raw(pod.pid).unwrap();
        assert!(corten_integration::await_exit(
            pid,
            corten_integration::PATIENCE
        ));
        assert!(pod.sockets.list().is_empty(), "{:?}", pod.sockets.list());
    });
}

#[test]
fn a_shim_that_is_asked_to_end_does() {
    trial(|t| {
        let c = t.container().done();
        let pod = Pod::start(t, &c);
        let pid = rustix::process::Pid::from_raw(pod.pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(corten_integration::await_exit(
            pid,
            corten_integration::PATIENCE
        ));
        assert!(pod.sockets.list().is_empty());
    });
}

#[test]
fn descriptors_are_not_gathered() {
    trial(|t| {
        let c = shell(t, "while :; do sleep 1; done").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let run = |number: usize| {
            let name = format!("e{number}");
            let fifos = ["i", "o", "r"].map(|kind| Fifo::new(t, &format!("{kind}{number}")));
            let terminal = number % 4 == 3;
            let names = Names {
                stdin: fifos[0].name(),
                stdout: fifos[1].name(),
                stderr: if terminal {
                    String::new()
                } else {
                    fifos[2].name()
                },
                terminal,
            };
            let said = fifos[1].collect();
            // Some can't be started.
            if number % 4 == 1 {
                let document = crate::pod::process(&c, &["/no/such"]);
                pod.try_exec(&c.id, &name, &document, &names).unwrap();
                refused(
                    pod.try_start_process(&c.id, &name),
                    containerd_shim_protos::ttrpc::Code::UNKNOWN,
                );
            } else {
                pod.exec(&c, &name, &["/bin/busybox", "echo", "x"], &names);
                assert_eq!(pod.wait(&c.id, &name), 0);
            }
            pod.delete(&c.id, &name).unwrap();
            let said = said.join().unwrap();
            assert_eq!(
                said.starts_with(b"x"),
                number % 4 != 1,
                "{number}: {said:?}"
            );
            for fifo in fifos {
                fs::remove_file(fifo.path).unwrap();
            }
        };
        run(0);
        let before = pod.descriptors();
        for number in 1..times(100, 5000) {
            run(number);
        }
        // A reader hears of the end a moment before the last of them is closed.
        eventually("the descriptors that there were", || {
            (pod.descriptors() == before).then_some(())
        });
        pod.end_container(&c.id);
        pod.end();
    });
}
