// SPDX-License-Identifier: Apache-2.0
//! What is refused, in which words, and that nothing is left of it.

use crate::support::in_world;

#[test]
fn refusals() {
    in_world(|world| {
        world.ok(&["run", "--name", "taken", "base", "true"]);
        let before = world.census();
        for (flags, expected) in [
            (
                &["-v", "/none:/x"][..],
                "look at /none: no such file or directory; what is mounted must exist",
            ),
            (
                &["--rm", "-v", "/tmp:/etc/passwd"],
                "mount on /etc/passwd: /tmp is a directory, and the container has a file there",
            ),
            (
                &["--rm", "-v", "/bin/busybox:/etc"],
                "mount on /etc: /bin/busybox is no directory, and the container has one there",
            ),
            (
                &["--rm", "--tmpfs", "/bin/sh"],
                "mount on /bin/sh: memory is a directory, and the container has a file there",
            ),
            (
                &["-v", "vol:/x"],
                "\"vol\" is no absolute path of the host; there are no named volumes",
            ),
            (
                &["-v", "/tmp:/x:Z"],
                "option Z (a new SELinux label) is not supported",
            ),
            (&["--mount", "type=volume,src=a,dst=/x"], "no named volumes"),
            (
                &["--rm", "-v", "/tmp:/x", "--tmpfs", "/x"],
                "two mounts are for /x",
            ),
            (&["--cap-add", "FLY"], "unknown capability \"FLY\""),
            (
                &["--security-opt", "label=disable"],
                "security option \"label=disable\" is not supported",
            ),
            (
                &["--security-opt", "seccomp=/none"],
                "read the filter /none: no such file",
            ),
            (&["--memory", "1k"], "memory \"1k\" is less than 6m"),
            (&["--cpus", "0"], "cpus \"0\" is no number of processors"),
            (&["--ulimit", "x=1"], "ulimit \"x\" is unknown"),
            (
                &["--network", "none", "-p", "1:1"],
                "ports of the host lead to containers of a network",
            ),
            (&["-p", "80"], "want [ADDRESS:]HOST:CONTAINER"),
            (&["--name", "a/b"], "container name \"a/b\""),
            (&["--name", "taken"], "is called taken already; rm it first"),
            (
                &["-w", "rel"],
                "working directory \"rel\" is no absolute path",
            ),
            (&["-w", ""], "working directory \"\" is no absolute path"),
            (&["--hostname", "a b"], "host name \"a b\""),
            (&["--add-host", "x"], "want NAME:ADDRESS"),
            (&["--env-file", "/none"], "read /none: no such file"),
            (&["--log-max-size", "1k"], "is too small"),
            (&["--rm", "--user", "who"], "no user \"who\""),
        ] {
            let args = [&["run"], flags, &["base", "true"]].concat();
            let found = world.run(&args);
            assert_eq!(found.code, Some(125), "{flags:?}: {}", found.err);
            let last = found.err.lines().last().unwrap_or_default();
            assert!(
                last.starts_with("corten-image: ") && last.contains(expected),
                "{flags:?}: {}",
                found.err
            );
        }
        let mut command = world.command(&["run", "--network", "corten", "base", "true"]);
        let found = crate::support::ran(command.env("CNI_PATH", "/none").output().unwrap());
        assert!(
            found.err.contains("install containernetworking-plugins"),
            "{}",
            found.err
        );
        assert_eq!(world.census(), before);
        for (args, expected) in [
            (
                &["exec", "none", "true"][..],
                "there is no container none; ps --all lists all",
            ),
            (&["exec", "taken", "true"], "container taken is not running"),
            (&["kill", "taken"], "container taken is not running"),
            (&["logs", "none"], "there is no container none"),
            (&["logs", "--since", "x", "taken"], "neither a time in UTC"),
            (&["ps", "--format", "x"], "unknown format \"x\""),
            (
                &["rm", "none"],
                "there is no container none, and image none is not in the store",
            ),
            (
                &["inspect", "none"],
                "there is no container none, and image none is not in the store",
            ),
            (&["rm", "--image", "taken"], "corten-image: image taken is"),
        ] {
            let found = world.run(args);
            assert!(found.err.contains(expected), "{args:?}: {}", found.err);
            assert_ne!(found.code, Some(0), "{args:?}");
        }
        // A name of both must be said to be of one.
        world.ok(&["run", "--name", "base", "base", "true"]);
        assert!(
            world
                .run(&["rm", "base"])
                .err
                .contains("both a container and an image")
        );
        world.ok(&["rm", "--container", "base"]);
        world.ok(&["rm", "taken"]);
    });
}
