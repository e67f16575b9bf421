// SPDX-License-Identifier: Apache-2.0
//! Ends that meet starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use corten_integration::trial;

use crate::fifo::Fifo;
use crate::pod::{Calls, Names, Pod, process};
use crate::times;

/// Processes that are executed beside an init that ends: each either says that it could not be, or it ran and has ended
/// before init.
#[test]
fn init_ends_while_others_start() {
    trial(|t| {
        let first = t.container().probe("pause").done();
        let pod = Pod::start(t, &first);
        for round in 0..times(12, 1000) {
            let c = t.container().probe("pause").done();
            let document = process(&c, &["/probe", "pause"]);
            pod.run(&c);
            let names = [0, 1, 2, 3].map(|number| format!("e{number}"));
            for name in &names {
                pod.try_exec(&c.id, name, &document, &Names::default())
                    .unwrap();
            }
            let calls = Calls(pod.task.clone());
            let begun: Vec<bool> = thread::scope(|scope| {
                let starts = names.each_ref().map(|name| {
                    let (calls, id) = (calls.clone(), &c.id);
                    scope.spawn(move || calls.start(id, name).is_ok())
                });
                // Later each time, so that the end comes before, between and after.
                thread::sleep(Duration::from_millis(round as u64 * 2 % 30));
                calls.kill(&c.id, "", 9).unwrap();
                assert_eq!(calls.wait(&c.id, "").unwrap(), 137);
                starts.map(|start| start.join().unwrap()).into()
            });
            for (name, begun) in names.iter().zip(begun) {
                let status = pod.wait(&c.id, name);
                assert_eq!(status, if begun { 137 } else { 255 }, "{name}");
                pod.delete(&c.id, name).unwrap();
            }
            pod.delete(&c.id, "").unwrap();
            // The bundles are many in a long run.
            fs::remove_dir_all(&c.bundle).unwrap();
        }
        pod.end();
    });
}

/// What is executed in somebody else's PID namespace outlives init, unless it is killed.
#[test]
fn others_outlive_init_and_are_killed() {
    trial(|t| {
        let first = t.container().probe("pause").done();
        let pod = Pod::start(t, &first);
        for by_itself in [true, false] {
            for round in 0..times(2, 200) {
                let c = t.container().without_namespace("pid");
                // It ends with its input.
                let c = c.probe("cat + exit 6").done();
                let stdin = Fifo::new(t, &format!("in{by_itself}{round}"));
                let streams = Names {
                    stdin: stdin.name(),
                    ..Names::default()
                };
                pod.create(&c, &streams);
                pod.start_process(&c.id, "");
                let writer = stdin.writer();
                let names = [0, 1, 2].map(|number| format!("e{number}"));
                for name in &names {
                    pod.exec(&c, name, &["/probe", "pause"], &Names::default());
                }
                match by_itself {
                    true => drop(writer),
                    false => drop(pod.kill(&c.id, "", 15).unwrap()),
                }
                let wanted = if by_itself { 6 } else { 128 + 15 };
                assert_eq!(pod.wait(&c.id, ""), wanted, "{round}");
                // They have ended by then.
                for name in &names {
                    let state = pod.try_state(&c.id, name).unwrap();
                    assert_eq!(state.exit_status, 137);
                }
                pod.delete(&c.id, "").unwrap();
            }
        }
        pod.end();
    });
}

/// Processes that end long before their runtime has said that they run.
#[test]
fn a_slow_runtime_changes_no_order() {
    trial(|t| {
        let runtime = t.file(
            "runtime",
            &format!(
                "#!/bin/sh\n{} \"$@\"\ncode=$?\ncase \"$*\" in *\" start \"* | *\" exec \"*) sleep 0.3 ;; esac\nexit $code\n",
                t.runtime.path.display()
            ),
        );
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        let first = t.container().probe("exit 4").done();
        let mut pod = Pod::start(t, &first);
        pod.runtime = runtime;
        pod.run(&first);
        assert_eq!(pod.wait(&first.id, ""), 4);
        pod.delete(&first.id, "").unwrap();
        let second = t.container().probe("pause").done();
        pod.run(&second);
        pod.exec(&second, "e", &["/probe", "exit", "3"], &Names::default());
        assert_eq!(pod.wait(&second.id, "e"), 3);
        pod.end_container(&second.id);
        pod.end();
    });
}

/// The same where both are as fast as they can be.
#[test]
fn the_shortest_lives_are_told_in_order() {
    trial(|t| {
        let pod_of = t.container().probe("pause").done();
        let pod = Pod::start(t, &pod_of);
        pod.run(&pod_of);
        for number in 0..times(20, 1000) {
            let name = format!("e{number}");
            pod.exec(&pod_of, &name, &["/probe", "exit", "3"], &Names::default());
            assert_eq!(pod.wait(&pod_of.id, &name), 3);
            pod.delete(&pod_of.id, &name).unwrap();
        }
        for _ in 0..times(5, 300) {
            let c = t.container().probe("exit 4").done();
            pod.run(&c);
            assert_eq!(pod.wait(&c.id, ""), 4);
            pod.delete(&c.id, "").unwrap();
            fs::remove_dir_all(&c.bundle).unwrap();
        }
        pod.end_container(&pod_of.id);
        pod.end();
    });
}
