// SPDX-License-Identifier: Apache-2.0
//! From words to meaning.

use std::path::Path;

use super::meant::{CreateArgs, ExecProcess, ListArgs, Origin};
use super::user::User;
use super::*;
use crate::checkpoint::CgroupsMode;

fn parse_words(words: &[&str]) -> Result<Wish> {
    parse(words.iter().map(OsString::from)).1
}

fn verb(line: &str) -> Verb {
    let words: Vec<_> = line.split(' ').collect();
    match parse_words(&words) {
        Ok(Wish::Verb(_, verb)) => verb,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> Error {
    let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
    parse_words(&words).expect_err(line)
}

fn create_args(line: &str) -> CreateArgs {
    match verb(line) {
        Verb::Create(args) => args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_engines_send_is_understood() {
    let containerd = create_args(
        "--root /run/containerd/runc/ns --log /b/log.json --log-format json create --bundle /b \
         --pid-file /b/init.pid --console-socket /s --no-pivot --no-new-keyring id",
    );
    assert_eq!(containerd.bundle, Path::new("/b"));
    assert_eq!(
        containerd.pid_file.as_deref(),
        Some(Path::new("/b/init.pid"))
    );
    assert_eq!(containerd.console_socket.as_deref(), Some(Path::new("/s")));
    assert!(containerd.no_pivot && containerd.no_new_keyring);
    assert_eq!(containerd.preserve_fds, 0);

    let conmon = create_args(
        "--log-format=json --log F create --bundle B/./x/ --pid-file p --preserve-fds 2 id",
    );
    let cwd = std::env::current_dir().unwrap();
    assert_eq!(conmon.bundle.as_os_str(), cwd.join("B/x").as_os_str());
    assert_eq!(conmon.pid_file, Some(cwd.join("p")));
    assert_eq!(conmon.preserve_fds, 2);
    assert_eq!(create_args("create id").bundle, cwd);

    let Verb::Exec(exec) = verb("exec --process F --detach --pid-file E.pid --tty id") else {
        panic!("not exec");
    };
    assert_eq!(exec.process, ExecProcess::Document(cwd.join("F")));
    assert!(exec.detach);

    let Verb::Kill(kill) = verb("kill --all id 9") else {
        panic!("not kill");
    };
    assert_eq!((kill.signal, kill.all), (9, true));
    let Verb::Kill(kill) = verb("kill id") else {
        panic!("not kill");
    };
    assert_eq!((kill.signal, kill.all), (15, false));
    let Verb::Delete(delete) = verb("delete id --force") else {
        panic!("not delete");
    };
    assert!(delete.force);
    assert!(matches!(verb("list -f json"), Verb::List(ListArgs::Json)));
    assert!(matches!(verb("list -q"), Verb::List(ListArgs::Ids)));
    let Verb::Run(run) = verb("run -d --keep -no-subreaper id") else {
        panic!("not run");
    };
    assert!(run.detach && run.keep && run.no_subreaper);
}

#[test]
fn the_words_of_exec_stay_as_they_are() {
    let Verb::Exec(exec) =
        verb("exec -t -u 1:2 -g 3 -g 4 -e A=b --cwd /w -c CAP_KILL id sh -c -t --force -- -")
    else {
        panic!("not exec");
    };
    assert_eq!(
        exec.process,
        ExecProcess::Command {
            args: ["sh", "-c", "-t", "--force", "--", "-"]
                .map(String::from)
                .into(),
            tty: true,
            user: Some(User {
                uid: 1,
                gid: Some(2)
            }),
            additional_gids: vec![3, 4],
            env: vec!["A=b".into()],
            cwd: Some("/w".into()),
            cap: vec!["CAP_KILL".into()],
            apparmor: None,
            process_label: None,
            no_new_privs: false,
        }
    );
}

#[test]
fn the_global_flags_count_for_every_verb() {
    let Ok(Wish::Verb(global, _)) = parse_words(&["-root", "/r/./s", "--rootless=1", "list"])
    else {
        panic!("not a verb");
    };
    assert_eq!(global.root, Path::new("/r/s"));
    assert_eq!(global.root_origin, Origin::Given);
    assert_eq!(global.rootless, meant::Rootless::Yes);
}

#[test]
fn the_default_root_is_never_that_of_runc() {
    for (euid, runtime_dir, user_namespace, expected) in [
        (0, None, false, Some("/run/corten")),
        (0, Some("/run/user/0"), false, Some("/run/corten")),
        (0, Some("/run/user/7"), true, Some("/run/user/7/corten")),
        (7, Some("/run/user/7"), false, Some("/run/user/7/corten")),
        (7, None, false, None),
    ] {
        let identity = meant::Identity {
            euid,
            runtime_dir: runtime_dir.map(Into::into),
            user_namespace,
        };
        let root = identity.default_root().ok();
        assert_eq!(root, expected.map(Into::into));
    }
}

#[test]
fn mistakes_are_one_line_that_names_them() {
    for (line, kind, text) in [
        (
            "kill",
            Kind::Invalid,
            "the following required arguments were not provided: <ID>; see `corten kill --help`",
        ),
        (
            "kill --frob x",
            Kind::Invalid,
            "unexpected argument '--frob' found; see `corten kill --help`",
        ),
        (
            "frob",
            Kind::Invalid,
            "unrecognized subcommand 'frob'; see `corten --help`",
        ),
        ("kill x FROB", Kind::Invalid, "unknown signal \"FROB\""),
        (
            "state a/b",
            Kind::Invalid,
            "invalid container ID \"a/b\": only letters, digits, '_', '+', '-' and '.' are allowed",
        ),
        ("exec x", Kind::Invalid, "exec needs a command or --process"),
        (
            "exec -p F x y",
            Kind::Invalid,
            "exec takes a command or --process, not both",
        ),
        (
            "exec -u root x y",
            Kind::Invalid,
            "invalid user \"root\": want UID or UID:GID, in decimal numbers below 4294967295",
        ),
        (
            "create --preserve-fds -1 x",
            Kind::Invalid,
            "unknown number of file descriptors \"-1\": want 0 to 1048576",
        ),
        (
            "--log-format xml list",
            Kind::Invalid,
            "unknown log format \"xml\": want text or json",
        ),
        (
            "--rootless perhaps list",
            Kind::Invalid,
            "unknown value of --rootless \"perhaps\": want true, false or auto",
        ),
        (
            "list -f yaml",
            Kind::Invalid,
            "unknown format \"yaml\": want table or json",
        ),
        (
            "--cgroup-manager frob list",
            Kind::Invalid,
            "unknown cgroup manager \"frob\": want cgroupfs, systemd or disabled",
        ),
    ] {
        let error = error(line);
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
}

#[test]
fn help_and_version_are_texts() {
    let text = |line: &str| match parse(line.split_whitespace().map(OsString::from)).1 {
        Ok(Wish::Text(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert!(text("--version").starts_with("corten version "));
    assert!(text("-v").contains("\nspec: 1."));
    for line in ["", "--help", "-h", "-help", "help"] {
        assert!(text(line).contains("create"), "{line}");
    }
    for verb in [
        "checkpoint",
        "create",
        "delete",
        "exec",
        "kill",
        "list",
        "restore",
        "run",
        "spec",
        "start",
        "state",
    ] {
        assert!(text(&format!("{verb} --help")).contains("Usage: corten"));
        assert!(text(&format!("{verb} -h")).contains(verb));
    }
    let usage = text("exec --help");
    assert!(usage.contains("--additional-gids"), "{usage}");
}

#[test]
fn of_a_flag_that_is_repeated_the_last_counts() {
    let Verb::Checkpoint(args) = verb("checkpoint --leave-running --leave-running id") else {
        panic!("not checkpoint");
    };
    assert!(args.options.leave_running);
    let create = create_args("create --bundle /a -b /b --no-pivot --no-pivot id");
    assert_eq!(create.bundle, Path::new("/b"));
    assert!(create.no_pivot);
    let Ok(Wish::Verb(global, _)) = parse_words(&["--root", "/a", "--root", "/b", "list"]) else {
        panic!("not a verb");
    };
    assert_eq!(global.root, Path::new("/b"));
    assert_eq!(
        error("create one two").to_string(),
        "unexpected argument 'two' found; see `corten create --help`",
        "words are no flags"
    );
    let Verb::Exec(exec) = verb("exec --env A=a --env B=b id true") else {
        panic!("not exec");
    };
    assert!(
        matches!(exec.process, ExecProcess::Command { env, .. } if env == ["A=a", "B=b"]),
        "and what may be many, is many"
    );
}

#[test]
fn later_calls_may_repeat_the_driver() {
    assert!(matches!(
        verb("--systemd-cgroup delete --force x"),
        Verb::Delete(_)
    ));
}

#[test]
fn seccomp_takes_a_profile_and_a_call() {
    let args = |line: &str| match verb(line) {
        Verb::Seccomp(args) => args,
        other => panic!("{line}: {other:?}"),
    };
    let compile = args("seccomp compile /p");
    assert_eq!(
        (compile.profile.as_path(), compile.call),
        (Path::new("/p"), None)
    );
    let call = args("seccomp explain --arch SCMP_ARCH_ARM /p clone 0x7e020000 3")
        .call
        .unwrap();
    assert_eq!(call.name, "clone");
    assert_eq!(call.arguments, [0x7e02_0000, 3, 0, 0, 0, 0]);
    assert_eq!(call.arch.as_deref(), Some("SCMP_ARCH_ARM"));
    let cases = [
        ("seccomp compile /p read", "are for `seccomp explain`"),
        (
            "seccomp compile --arch SCMP_ARCH_ARM /p",
            "are for `seccomp explain`",
        ),
        ("seccomp explain /p", "needs a call"),
        ("seccomp explain /p read x", "unknown argument \"x\""),
        ("seccomp explain /p read 1 2 3 4 5 6 7", "at most six"),
        (
            "seccomp weigh /p",
            "unknown word \"weigh\": want compile or explain",
        ),
    ];
    for (line, expected) in cases {
        let text = error(line).to_string();
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn checkpoints_are_asked_for_as_engines_do() {
    let args = |line: &str| match verb(line) {
        Verb::Checkpoint(args) => *args,
        other => panic!("{line}: {other:?}"),
    };
    let plain = args("checkpoint --image-path /i --work-path /w --file-locks --leave-running x");
    assert_eq!(plain.images, Path::new("/i"));
    assert_eq!(plain.logs.as_deref(), Some(Path::new("/w")));
    assert!(plain.options.file_locks && plain.options.leave_running && !plain.pre_dump);
    assert!(args("checkpoint x").images.ends_with("checkpoint"));
    let server = |text: &str| {
        args(&format!("checkpoint --page-server {text} x"))
            .options
            .page_server
    };
    assert_eq!(server("10.0.0.1:7"), Some(("10.0.0.1".to_owned(), 7)));
    assert_eq!(server("[::1]:27"), Some(("::1".to_owned(), 27)));
    let mode = |text: &str| {
        args(&format!("checkpoint --manage-cgroups-mode={text} x"))
            .options
            .cgroups_mode
    };
    assert_eq!(mode("strict"), CgroupsMode::Strict);
    assert_eq!(mode("ignore"), CgroupsMode::Ignore);
    let all = args(
        "checkpoint --pre-dump --parent-path ../p --empty-ns network --status-fd 7 --lazy-pages x",
    );
    assert_eq!(all.options.parent_images.as_deref(), Some("../p"));
    assert_eq!(all.status_fd, Some(7));
    for (line, expected) in [
        (
            "checkpoint --parent-path /p x",
            "--parent-path must be relative",
        ),
        (
            "checkpoint --page-server here x",
            "unknown page server \"here\"",
        ),
        ("checkpoint --page-server :7 x", "unknown page server"),
        ("checkpoint --page-server ::1:7 x", "unknown page server"),
        ("checkpoint --page-server a:70000 x", "unknown page server"),
        (
            "checkpoint --manage-cgroups-mode some x",
            "unknown cgroups mode",
        ),
        (
            "checkpoint --empty-ns mount x",
            "unknown namespace \"mount\"",
        ),
        ("checkpoint --status-fd 7 x", "goes with --lazy-pages"),
        ("checkpoint --status-fd x --lazy-pages x", "unknown number"),
    ] {
        let text = error(line).to_string();
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn restores_are_asked_for_as_engines_do() {
    let args = |line: &str| match verb(line) {
        Verb::Restore(args) => *args,
        other => panic!("{line}: {other:?}"),
    };
    let shims = args(
        "restore --image-path /i --work-path /w --detach --pid-file /p -no-subreaper --bundle /b x",
    );
    assert!(shims.detach);
    assert_eq!(shims.create.bundle, Path::new("/b"));
    assert_eq!(shims.create.pid_file.as_deref(), Some(Path::new("/p")));
    let conmons = args(
        "restore --bundle /b --pid-file /p --no-new-keyring --detach --image-path /i --work-path /w \
         --lsm-profile apparmor:p --lsm-mount-context c x",
    );
    assert!(conmons.create.no_new_keyring);
    assert_eq!(conmons.options.lsm_profile.as_deref(), Some("apparmor:p"));
    assert_eq!(conmons.options.lsm_mount_context.as_deref(), Some("c"));
    assert!(!args("restore x").detach);
}
