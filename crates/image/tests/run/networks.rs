// SPDX-License-Identifier: Apache-2.0
//! Networks: ports of the host, containers that reach each other, and nothing that stays.

use crate::support::{World, get, in_world, wait_for};

fn serve(world: &World, name: &str, flags: &[&str]) -> String {
    let script = format!("mkdir -p /w && echo {name} > /w/index.html && exec httpd -f -p 80 -h /w");
    let args = [
        &["run", "-d", "--name", name],
        flags,
        &["base", "sh", "-c", &script],
    ]
    .concat();
    world.ok(&args)
}

fn address(world: &World, name: &str) -> String {
    world.look(name)["addresses"][0]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_port_of_the_host() {
    in_world(|world| {
        // The bridge and the plugins' empty chains stay for the next container; the first one makes them.
        serve(world, "first", &["-p", "8079:80"]);
        world.ok(&["rm", "-f", "first"]);
        let before = world.census();
        let id = serve(
            world,
            "web",
            &["-p", "8080:80", "-p", "127.0.0.1:8090-8091:80-81"],
        );
        let port = |port: u16| get(&format!("127.0.0.1:{port}"));
        assert_eq!(wait_for("an answer", || port(8080)), "web");
        assert_eq!(get("10.89.0.1:8080").as_deref(), Some("web"));
        assert_eq!(port(8090).as_deref(), Some("web"));
        // That one is for the loopback address alone.
        assert_eq!(get("10.89.0.1:8090"), None);
        assert_ne!(world.census(), before);
        world.ok(&["rm", "-f", "web"]);
        assert_eq!(port(8080), None);
        assert_eq!(world.census(), before);
        assert!(world.cgroups(&id).is_empty());
    });
}

/// A port has one owner, whoever that is; a loser is told, and leaves nothing.
#[test]
fn a_port_that_is_taken() {
    in_world(|world| {
        let first = serve(world, "first", &["-p", "8080:80"]);
        let before = world.census();
        let server = std::net::TcpListener::bind("127.0.0.1:8090").unwrap();
        for (port, expected) in [
            (
                "8080:81",
                "take port 8080->81/tcp of the host: address already in use",
            ),
            (
                "127.0.0.1:8080:81",
                "take port 127.0.0.1:8080->81/tcp of the host: address already in use",
            ),
            (
                "8090:80",
                "take port 8090->80/tcp of the host: address already in use",
            ),
            (
                "[::1]:8085:80",
                "port [::1]:8085->80/tcp leads nowhere: the container has no IPv6 address",
            ),
        ] {
            for flags in [&["--rm"][..], &["--rm", "-d"]] {
                let args = [&["run"], flags, &["-p", port, "base", "true"]].concat();
                let found = world.run(&args);
                assert_eq!(found.code, Some(125), "{port}");
                assert!(found.err.contains(expected), "{port}: {}", found.err);
            }
        }
        drop(server);
        assert_eq!(world.census(), before);
        assert_eq!(wait_for("an answer", || get("127.0.0.1:8080")), "first");
        world.script(&["-p", "8080:80/udp"], "true");
        // One that was lost has it no more when the next one starts.
        let supervisor = rustix::process::Pid::from_raw(world.supervisor(&first).unwrap()).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
        wait_for("its end", || {
            let second = world.run(&[
                "run",
                "-d",
                "--rm",
                "--name",
                "second",
                "-p",
                "8080:80",
                "base",
                "sh",
                "-c",
                "mkdir /w && echo second > /w/index.html && exec httpd -f -p 80 -h /w",
            ]);
            (second.code == Some(0)).then_some(())
        });
        assert_eq!(wait_for("an answer", || get("127.0.0.1:8080")), "second");
        world.ok(&["rm", "-f", "first", "second"]);
    });
}

#[test]
fn containers_reach_each_other() {
    in_world(|world| {
        serve(world, "one", &["--network", "corten"]);
        serve(world, "two", &["--network", "corten"]);
        let (one, two) = (address(world, "one"), address(world, "two"));
        assert_ne!(one, two);
        let fetch = |from: &str, to: &str| {
            wait_for("an answer", || {
                let ran = world.run(&["exec", from, "wget", "-qO-", &format!("http://{to}/")]);
                (ran.code == Some(0)).then_some(ran.out)
            })
        };
        assert_eq!(fetch("one", &two), "two\n");
        assert_eq!(fetch("two", &one), "one\n");
        let hosts = world.ok(&["exec", "one", "cat", "/etc/hosts"]);
        assert!(
            hosts
                .lines()
                .any(|line| line.starts_with(&one) && line.ends_with(" one")),
            "{hosts}"
        );
        // A start gets it an address again.
        world.ok(&["stop", "-t", "0", "one"]);
        world.ok(&["start", "one"]);
        let one = address(world, "one");
        assert_eq!(fetch("two", &one), "one\n");
        world.ok(&["rm", "-f", "one", "two"]);
    });
}

#[test]
fn none_and_host() {
    in_world(|world| {
        assert_eq!(world.script(&[], "ls /sys/class/net"), "lo");
        assert_eq!(
            world.script(&["--network", "none"], "ip link | grep -c ^[0-9]"),
            "1"
        );
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let hosts = world.script(&["--network", "host"], "readlink /proc/self/ns/net");
        assert_eq!(hosts, own.to_str().unwrap());
    });
}

#[test]
fn a_network_of_the_administrators() {
    in_world(|world| {
        let dir = world.dir.join("net.d");
        std::fs::create_dir(&dir).unwrap();
        let text = r#"{"cniVersion":"0.4.0","name":"own","type":"bridge","bridge":"own0","isGateway":true,
            "ipam":{"type":"host-local","subnet":"10.77.0.0/24"},"dns":{"nameservers":["10.77.0.1"],"search":["example.org"]}}"#;
        std::fs::write(dir.join("10-own.conf"), text).unwrap();
        std::fs::write(dir.join("05-bad.conf"), "{").unwrap();
        let dir = dir.to_str().unwrap();
        let flags = ["--network", "own", "--cni-conf-dir", dir];
        let found = world.script(
            &flags,
            "ip -4 -o addr show eth0 | awk '{print $4}'; cat /etc/resolv.conf",
        );
        assert_eq!(
            found,
            "10.77.0.2/24\nnameserver 10.77.0.1\nsearch example.org"
        );
        let found = world.run(&[
            "run",
            "--network",
            "own",
            "--cni-conf-dir",
            dir,
            "-p",
            "1:1",
            "base",
            "true",
        ]);
        assert!(
            found.err.contains("none of its plugins maps ports"),
            "{}",
            found.err
        );
        let found = world.run(&[
            "run",
            "--network",
            "other",
            "--cni-conf-dir",
            dir,
            "base",
            "true",
        ]);
        assert!(
            found.err.contains("there are own, corten") && found.err.contains("05-bad.conf"),
            "{}",
            found.err
        );
        assert_eq!(found.code, Some(125));
    });
}

/// What a chain of plugins made is taken back when the last one fails, and its own words are told.
#[test]
fn a_plugin_that_fails() {
    in_world(|world| {
        world.script(&["--network", "corten"], "true");
        let before = world.census();
        let plugins = world.dir.join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        let program = plugins.join("fails");
        std::fs::write(&program, "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\ncat > /dev/null\necho '{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"out of luck\",\"details\":\"today\"}'\nexit 1\n").unwrap();
        std::fs::set_permissions(
            &program,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let dir = world.dir.join("net.d");
        std::fs::create_dir(&dir).unwrap();
        let text = r#"{"cniVersion":"1.0.0","name":"unlucky","plugins":[{"type":"bridge","bridge":"corten0","ipMasq":true,
            "ipam":{"type":"host-local","dataDir":"/var/lib/cni/networks","subnet":"10.78.0.0/24"}},{"type":"fails"}]}"#;
        std::fs::write(dir.join("a.conflist"), text).unwrap();
        for flags in [&["--rm"][..], &["--rm", "-d"]] {
            let args = [
                &["run"],
                flags,
                &[
                    "--network",
                    "unlucky",
                    "--cni-conf-dir",
                    dir.to_str().unwrap(),
                    "base",
                    "true",
                ],
            ]
            .concat();
            let path = format!("{}:/usr/lib/cni:/opt/cni/bin", plugins.display());
            let found =
                crate::support::ran(world.command(&args).env("CNI_PATH", path).output().unwrap());
            assert_eq!(found.code, Some(125));
            assert!(
                found
                    .err
                    .contains("connect by plugin \"fails\": out of luck: today"),
                "{}",
                found.err
            );
        }
        let ours = |census: std::collections::BTreeSet<String>| {
            census
                .into_iter()
                .filter(|line| !line.contains("networks/unlucky"))
                .collect::<Vec<_>>()
        };
        assert_eq!(ours(world.census()), ours(before));
        // Of the addresses none is taken.
        let leases = std::fs::read_dir("/var/lib/cni/networks/unlucky").unwrap();
        let leases: Vec<_> = leases
            .map(|e| e.unwrap().file_name())
            .filter(|n| n.to_string_lossy().starts_with("10."))
            .collect();
        assert!(leases.is_empty(), "{leases:?}");
    });
}
