// SPDX-License-Identifier: Apache-2.0
//! No end is lost, whatever containerd does meanwhile: each is told once, with its status, in an order that can be.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use corten_integration::{Container, Trial, eventually, trial};
use serde_json::json;

use crate::pod::{Names, Pod, process};
use crate::receiver::are_legal;
use crate::times;

/// How many calls are made at once.
const CALLERS: usize = 6;

/// Containers of one pod, the shim of which is begun for the first.
fn containers(t: &Trial, count: usize) -> Vec<Container<'_>> {
    let pod = json!({"io.kubernetes.cri.sandbox-id": format!("{}-pod", t.prefix)});
    let drafts = (0..count).map(|_| t.container().probe("pause"));
    drafts
        .map(|draft| draft.with("/annotations", pod.clone()).done())
        .collect()
}

fn status(number: usize) -> u32 {
    u32::try_from(number % 100).unwrap()
}

/// Executes `count` processes in the containers, and sees each to its end.
fn execute(pod: &Pod<'_>, ids: &[String], document: &serde_json::Value, count: usize) {
    let next = AtomicUsize::new(0);
    // What a pod is made of can't be shared; its client can.
    let task = &pod.task;
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (id, name) = (&ids[number % ids.len()], format!("e{number}"));
                    let mut document = document.clone();
                    let words = ["/probe", "exit", &status(number).to_string()];
                    document["args"] = json!(words);
                    let calls = crate::pod::Calls(task.clone());
                    calls.exec(id, &name, &document, &Names::default()).unwrap();
                    calls.start(id, &name).unwrap();
                    assert_eq!(calls.wait(id, &name).unwrap(), status(number));
                    calls.delete(id, &name).unwrap();
                }
            });
        }
    });
}

/// What has to have come: all ends, with their statuses.
#[track_caller]
fn all_came(pod: &Pod<'_>, ids: &[String], count: usize) {
    let deleted = eventually("all deletions", || {
        let events = pod.receiver.events();
        let deleted = events
            .iter()
            .filter(|event| event.topic == "delete")
            .count();
        (deleted == ids.len()).then_some(events)
    });
    are_legal(&deleted);
    let ends = deleted.iter().filter(|event| event.topic == "exit");
    let told: BTreeMap<&str, u32> = ends
        .map(|event| (event.process.as_str(), event.status))
        .collect();
    assert_eq!(told.len(), ids.len() + count);
    for number in 0..count {
        assert_eq!(told[format!("e{number}").as_str()], status(number));
    }
    for id in ids {
        assert_eq!(told[id.as_str()], 137);
    }
}

/// Runs so many processes while `disturb` was done to the receiver, until `restore`.
fn through(t: &Trial, disturb: impl FnOnce(&mut Pod<'_>), restore: impl FnOnce(&mut Pod<'_>)) {
    let (count, size) = (times(200, 10_000), times(10, 200));
    let all = containers(t, size);
    let ids: Vec<String> = all.iter().map(|c| c.id.clone()).collect();
    let mut pod = Pod::start(t, &all[0]);
    pod.run(&all[0]);
    pod.receiver.hears(1, &format!("start {}", ids[0]));
    disturb(&mut pod);
    for c in &all[1..] {
        pod.run(c);
    }
    let before = pod.memory();
    execute(&pod, &ids, &process(&all[0], &[]), count);
    let grown = pod.memory().saturating_sub(before);
    assert!(grown < 1024, "the shim has grown by {grown} KiB");
    for id in &ids {
        pod.end_container(id);
    }
    restore(&mut pod);
    all_came(&pod, &ids, count);
    pod.end();
}

#[test]
fn none_is_lost_while_containerd_stands_still() {
    trial(|t| {
        through(
            t,
            |pod| pod.receiver.stop(),
            |pod| {
                assert!(pod.receiver.events().len() <= 2, "it has not stood still");
                pod.receiver.go_on();
            },
        );
    });
}

#[test]
fn none_is_lost_while_containerd_is_gone() {
    trial(|t| {
        through(t, |pod| pod.receiver.close(), |pod| pod.receiver.reopen());
    });
}

#[test]
fn none_is_lost_while_containerd_comes_and_goes() {
    trial(|t| {
        let all = containers(t, 2);
        let ids: Vec<String> = all.iter().map(|c| c.id.clone()).collect();
        let mut pod = Pod::start(t, &all[0]);
        for c in &all {
            pod.run(c);
        }
        let (count, rounds) = (times(20, 1000), times(4, 20));
        for round in 0..rounds {
            let document = process(&all[0], &[]);
            match round % 2 {
                0 => pod.receiver.close(),
                _ => pod.receiver.stop(),
            }
            let numbered = round * count;
            let next = AtomicUsize::new(numbered);
            let task = &pod.task;
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= numbered + count {
                                return;
                            }
                            let (id, name) = (&ids[number % 2], format!("e{number}"));
                            let mut document = document.clone();
                            document["args"] =
                                json!(["/probe", "exit", status(number).to_string()]);
                            let calls = crate::pod::Calls(task.clone());
                            calls.exec(id, &name, &document, &Names::default()).unwrap();
                            calls.start(id, &name).unwrap();
                            calls.wait(id, &name).unwrap();
                        }
                    });
                }
            });
            match round % 2 {
                0 => pod.receiver.reopen(),
                _ => pod.receiver.go_on(),
            }
        }
        for id in &ids {
            pod.end_container(id);
        }
        all_came(&pod, &ids, count * rounds);
        pod.end();
    });
}

/// A containerd that stands still takes no connections either, and its queue of those is full at some time.
#[test]
fn a_full_queue_of_connections_stops_nobody() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let mut pod = Pod::start(t, &c);
        pod.run(&c);
        pod.receiver.hears(1, &format!("start {}", c.id));
        pod.receiver.close();
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        let address = rustix::net::SocketAddrUnix::new(&pod.receiver.path).unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(&pod.receiver.path).unwrap();
        pod.exec(&c, "e", &["/probe", "exit", "7"], &Names::default());
        assert_eq!(pod.wait(&c.id, "e"), 7);
        // Several attempts later.
        thread::sleep(Duration::from_millis(300));
        pod.end_container(&c.id);
        drop(socket);
        std::fs::remove_file(&pod.receiver.path).unwrap();
        pod.receiver.reopen();
        pod.receiver.hears(1, &format!("delete {} 137", c.id));
        pod.end();
    });
}

/// Whoever asks for events' sake only is told all of them by `Wait` and `State`, too.
#[test]
fn a_shim_that_nobody_listens_to_ends() {
    trial(|t| {
        let c = t.container().probe("exit 5").done();
        let mut pod = Pod::start(t, &c);
        pod.receiver.close();
        pod.run(&c);
        assert_eq!(pod.wait(&c.id, ""), 5);
        assert_eq!(pod.delete(&c.id, "").unwrap().exit_status, 5);
        // It waits ten seconds for somebody to take what it has to tell.
        let heard = pod.end_unheard();
        assert_eq!(heard, []);
    });
}
