// SPDX-License-Identifier: Apache-2.0
//! Network devices that move into the container. Each test has a network namespace of its own in the place of the
//! host's, with devices that exist nowhere else; `ip` and the probe look at both sides.

use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;

use corten_integration::{Container, Draft, Running, Trial, eventually, probe, trial_as};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

/// Runs a test whose thread, and with it everything that it starts, is in a new network namespace with the devices
/// `host0` (up, with addresses of every kind) and `peer0`, which is its other end.
#[track_caller]
fn in_a_network(name: &str, test: fn(&Trial)) {
    let name = format!("net_devices::{name}");
    let thread = std::thread::spawn(move || {
        #[allow(
            deprecated,
            reason = "its successor is unsafe, for flags that are not given"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET).expect("unshare the network namespace");
        ip("link add host0 type veth peer name peer0");
        ip("link set host0 mtu 1400 address 02:00:00:00:00:07");
        for address in ADDRESSES.iter().chain(PASSING) {
            ip(&format!("address add {address} dev host0"));
        }
        for device in ["lo", "host0", "peer0"] {
            ip(&format!("link set {device} up"));
        }
        trial_as(&name, test);
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// What goes along: permanent and global.
const ADDRESSES: &[&str] = &[
    "10.1.2.3/24 broadcast + label host0:x metric 77",
    "10.9.9.1 peer 10.9.9.2/32",
    "192.0.2.7/28 noprefixroute",
    "fd00:1::5/64 nodad",
];

/// What doesn't.
const PASSING: &[&str] = &[
    "169.254.7.7/16 scope link",
    "10.8.8.8/24 valid_lft 3000 preferred_lft 2000",
    "fd00:2::5/64 nodad valid_lft 3000 preferred_lft 2000",
];

#[track_caller]
fn ip(words: &str) -> String {
    run(Command::new("ip").args(words.split_whitespace()))
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("run ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The devices of this thread's namespace, or of a process': name, up or not, mtu, addresses as ip(8) tells them.
#[track_caller]
fn devices(pid: Option<u32>) -> Vec<Value> {
    let look = ["ip", "-json", "address"];
    let text = match pid {
        None => run(Command::new(look[0]).args(&look[1..])),
        Some(pid) => {
            let target = format!("--target={pid}");
            run(Command::new("nsenter").args([&target, "--net"]).args(look))
        }
    };
    serde_json::from_str(&text).expect("JSON of ip")
}

#[track_caller]
fn device(name: &str, pid: Option<u32>) -> Value {
    let all = devices(pid);
    let found = all.iter().find(|device| device["ifname"] == name);
    found
        .unwrap_or_else(|| panic!("no {name}: {all:#?}"))
        .clone()
}

fn names(pid: Option<u32>) -> Vec<String> {
    let all = devices(pid);
    let name = |device: &Value| device["ifname"].as_str().expect("name").to_owned();
    all.iter().map(name).collect()
}

/// What an address is, without what passes: lifetimes, and what the kernel adds by itself.
fn addresses(device: &Value) -> Vec<Value> {
    let all = device["addr_info"].as_array().expect("addresses");
    let mut kept: Vec<Value> = all
        .iter()
        .filter(|one| one["scope"] != "link" || one["family"] == "inet")
        .cloned()
        .collect();
    for one in &mut kept {
        let one = one.as_object_mut().expect("address");
        for passing in [
            "valid_life_time",
            "preferred_life_time",
            "label",
            "tentative",
        ] {
            one.remove(passing);
        }
    }
    kept.sort_by_key(|one| one["local"].to_string());
    kept
}

fn with_device<'t>(t: &'t Trial, host: &str, device: Value) -> Draft<'t> {
    t.container()
        .with(&format!("/linux/netDevices/{host}"), device)
}

#[test]
fn move_with_their_settings() {
    in_a_network("move_with_their_settings", |t| {
        let before = device("host0", None);
        let steps = "list /sys/class/net + read /sys/class/net/eth7/address /sys/class/net/eth7/mtu /proc/net/if_inet6 \
                     /proc/net/fib_trie + pause";
        let c = with_device(t, "host0", json!({"name": "eth7"}))
            .probe(steps)
            .done();
        let out = c.run_detached();

        let inside = &c.seen(&out, "list")["/sys/class/net"];
        assert_eq!(inside, &json!(["eth7", "lo"]));
        let read = c.seen(&out, "read");
        assert_eq!(read["/sys/class/net/eth7/mtu"]["ok"], "1400\n");
        assert_eq!(
            read["/sys/class/net/eth7/address"]["ok"],
            "02:00:00:00:00:07\n"
        );
        let six = read["/proc/net/if_inet6"]["ok"].as_str().unwrap();
        let has = |six: &str, address: &str| {
            let mut lines = six.lines();
            lines.any(|line| line.starts_with(address) && line.ends_with("eth7"))
        };
        assert!(has(six, "fd000001000000000000000000000005"), "{six}");
        assert!(!has(six, "fd000002000000000000000000000005"), "{six}");
        let four = read["/proc/net/fib_trie"]["ok"].as_str().unwrap();
        for (address, there) in [
            ("10.1.2.3", true),
            ("10.9.9.1", true),
            ("192.0.2.7", true),
            ("169.254.7.7", false),
            ("10.8.8.8", false),
        ] {
            assert_eq!(four.contains(address), there, "{address}: {four}");
        }

        let pid = Some(c.pid().cast_unsigned());
        let after = device("eth7", pid);
        assert!(after["flags"].to_string().contains("\"UP\""), "{after}");
        let passing = |one: &Value| {
            let local = one["local"].as_str().unwrap_or_default();
            PASSING.iter().any(|address| address.starts_with(local))
        };
        let mut wanted = addresses(&before);
        wanted.retain(|one| !passing(one));
        assert_eq!(wanted.len(), ADDRESSES.len());
        assert_eq!(addresses(&after), wanted);
        let labels = after["addr_info"].to_string();
        assert!(labels.contains("\"eth7:x\""), "{labels}");
        assert_eq!(names(None), ["lo", "peer0"]);
        c.end();
        eventually("the end of the device with its namespace", || {
            (names(None) == ["lo"]).then_some(())
        });
    });
}

#[test]
fn keep_their_name_unless_told() {
    in_a_network("keep_their_name_unless_told", |t| {
        for value in [json!({}), json!({"name": ""}), json!({"name": "host0"})] {
            let out = with_device(t, "peer0", json!({"name": "other"}))
                .with("/linux/netDevices/host0", value)
                .probe("list /sys/class/net")
                .done()
                .run()
                .ok();
            let seen = &out.seen("list")["/sys/class/net"];
            assert_eq!(seen, &json!(["host0", "lo", "other"]));
            // The pair went with the container.
            eventually("the end of the devices", || {
                (names(None) == ["lo"]).then_some(())
            });
            ip("link add host0 type veth peer name peer0");
        }
    });
}

#[test]
fn get_a_number_from_a_template() {
    in_a_network("get_a_number_from_a_template", |t| {
        let out = with_device(t, "host0", json!({"name": "eth%d"}))
            .with("/linux/netDevices/peer0", json!({"name": "eth%d"}))
            .probe("list /sys/class/net")
            .done()
            .run()
            .ok();
        let seen = &out.seen("list")["/sys/class/net"];
        assert_eq!(seen, &json!(["eth0", "eth1", "lo"]));
    });
}

#[test]
fn swap_their_names() {
    in_a_network("swap_their_names", |t| {
        let out = with_device(t, "host0", json!({"name": "peer0"}))
            .with("/linux/netDevices/peer0", json!({"name": "host0"}))
            .probe("read /sys/class/net/peer0/address")
            .done()
            .run()
            .ok();
        let read = &out.seen("read")["/sys/class/net/peer0/address"];
        assert_eq!(read["ok"], "02:00:00:00:00:07\n");
    });
}

#[test]
fn move_into_a_user_namespace() {
    in_a_network("move_into_a_user_namespace", |t| {
        let out = with_device(t, "host0", json!({"name": "eth0"}))
            .user_namespace(100_000, 65536)
            .probe("list /sys/class/net + read /proc/net/if_inet6")
            .done()
            .run()
            .ok();
        assert_eq!(out.seen("list")["/sys/class/net"], json!(["eth0", "lo"]));
        let read = out.seen("read").to_string();
        assert!(read.contains("fd000001000000000000000000000005"), "{read}");
    });
}

/// A process that holds a network namespace, in which the device `eth0` is there already.
fn holder(t: &Trial) -> (Running, u32) {
    let held = t
        .program(Path::new("unshare"))
        .args(["--net", "--"])
        .arg(probe())
        .arg("pause")
        .spawn();
    let pid = held.child.id();
    let ours = std::fs::read_link("/proc/thread-self/ns/net").expect("own namespace");
    let path = format!("/proc/{pid}/ns/net");
    eventually("the holder's namespace", || {
        let its = std::fs::read_link(&path).ok()?;
        (its != ours).then_some(())
    });
    run(Command::new("nsenter")
        .args([&format!("--target={pid}"), "--net", "ip"])
        .args("link add eth0 type veth peer name eth1".split(' ')));
    (held, pid)
}

fn release(mut held: Running) {
    held.child.kill().expect("kill the holder");
    held.child.wait().expect("reap the holder");
}

#[test]
fn stay_in_a_namespace_that_was_joined() {
    in_a_network("stay_in_a_namespace_that_was_joined", |t| {
        let (held, pid) = holder(t);
        let c = with_device(t, "host0", json!({"name": "eth%d"}))
            .namespace("network", Some(&format!("/proc/{pid}/ns/net")))
            .probe("exit 0")
            .done();
        c.run().ok();
        let after = device("eth2", Some(pid));
        assert!(addresses(&after).len() == ADDRESSES.len(), "{after:#}");
        assert_eq!(names(None), ["lo", "peer0"]);
        release(held);
    });
}

/// Holds that nothing of `before` was lost.
#[track_caller]
fn is_back(before: &Value) {
    let name = before["ifname"].as_str().unwrap();
    let after = device(name, None);
    for field in ["ifindex", "mtu", "address"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert!(after["flags"].to_string().contains("\"UP\""), "{after}");
    assert_eq!(addresses(&after), addresses(before));
    let labels = after["addr_info"].to_string();
    assert!(labels.contains("\"host0:x\""), "{labels}");
    assert_eq!(names(None).len(), 3);
}

#[track_caller]
fn fails_and_gives_back(c: &Container<'_>) -> String {
    let before = device("host0", None);
    let words = c.create().fails();
    is_back(&before);
    words
}

#[test]
fn come_back_when_the_container_comes_to_nothing() {
    in_a_network("come_back_when_the_container_comes_to_nothing", |t| {
        let hook = json!({"path": probe(), "args": ["probe", "exit", "7"]});
        let c = with_device(t, "host0", json!({"name": "eth0"}))
            .with("/linux/netDevices/peer0", json!({}))
            .with("/hooks/createRuntime/-", hook)
            .probe("exit 0")
            .done();
        fails_and_gives_back(&c);
        let c = with_device(t, "host0", json!({"name": "eth%d"}))
            .args(&["/no/such/program"])
            .done();
        fails_and_gives_back(&c);
    });
}

#[test]
fn come_back_under_another_name_if_theirs_is_taken() {
    in_a_network("come_back_under_another_name_if_theirs_is_taken", |t| {
        let hook = "ip link add host0 type veth peer name peer1; exit 7";
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", hook], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
        let wanted = addresses(&device("host0", None));
        let c = with_device(t, "host0", json!({"name": "eth0"}))
            .with("/hooks/createRuntime/-", hook)
            .probe("exit 0")
            .done();
        let words = c.create().fails();
        assert!(words.contains("move network device host0 back"), "{words}");
        let all = devices(None);
        let found = all
            .iter()
            .find(|device| device["address"] == "02:00:00:00:00:07");
        assert_eq!(addresses(found.expect("the device")), wanted);
        assert_eq!(all.len(), 5);
    });
}

#[test]
fn collide_with_none_that_are_there() {
    in_a_network("collide_with_none_that_are_there", |t| {
        let (held, pid) = holder(t);
        let path = format!("/proc/{pid}/ns/net");
        for name in ["eth0", "lo"] {
            let c = with_device(t, "host0", json!({"name": name}))
                .namespace("network", Some(&path))
                .probe("exit 0")
                .done();
            let words = fails_and_gives_back(&c);
            assert!(words.contains(name), "{words}");
        }
        assert_eq!(names(Some(pid)).len(), 3);
        release(held);
    });
}

#[test]
fn that_cannot_move_are_refused() {
    in_a_network("that_cannot_move_are_refused", |t| {
        ip("link add zbr type bridge");
        let before = device("host0", None);
        // A bridge can't leave its namespace, and its turn comes when host0 has left already.
        for name in ["zbr", "nothing0"] {
            let c = with_device(t, "host0", json!({}))
                .with(&format!("/linux/netDevices/{name}"), json!({}))
                .probe("exit 0")
                .done();
            let words = c.create().fails();
            assert!(words.contains(name), "{words}");
            ip("link delete zbr");
            is_back(&before);
            ip("link add zbr type bridge");
        }
        ip("link delete zbr");
        let c = with_device(t, "host0", json!({"name": "eth0"}))
            .namespace("network", Some("/proc/self/ns/net"))
            .probe("exit 0")
            .done();
        fails_and_gives_back(&c);
        let c = with_device(t, "host0", json!({"name": "eth0"}))
            .without_namespace("network")
            .probe("exit 0")
            .done();
        fails_and_gives_back(&c);
    });
}

#[test]
fn are_there_for_sysctls() {
    in_a_network("are_there_for_sysctls", |t| {
        let c = with_device(t, "host0", json!({"name": "eth0"}))
            .with(
                "/linux/sysctl",
                json!({"net.ipv4.conf.eth0.forwarding": "1"}),
            )
            .probe("read /proc/sys/net/ipv4/conf/eth0/forwarding")
            .done();
        let read = c.run().ok().seen("read");
        assert_eq!(read["/proc/sys/net/ipv4/conf/eth0/forwarding"]["ok"], "1\n");
    });
}
