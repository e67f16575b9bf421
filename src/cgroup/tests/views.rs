// SPDX-License-Identifier: Apache-2.0
//! Tests that run a part of themselves once more: in another view of the machine, or under strace(1).

use super::*;

/// Tells a test that it is the part that runs inside.
const INSIDE: &str = "CORTEN_TEST_INSIDE";

/// Runs the test `name` of this program once more, by `wrapper`: `None` where the wrapper can't run here.
fn again(name: &str, wrapper: &[&str]) -> Option<std::process::Output> {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(program)
        .args([
            "--exact",
            &format!("cgroup::tests::views::{name}"),
            "--nocapture",
        ])
        .env(INSIDE, "1");
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {}: {error}", wrapper[0]);
            None
        }
    }
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

#[track_caller]
fn passed(output: &std::process::Output) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}{err}"
    );
}

#[test]
fn works_in_a_pure_v2_view() {
    if !is_inside() {
        if Ground::new("outside", View::Host).is_none() {
            return;
        }
        let script = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
        let wrapper = ["unshare", "-m", "sh", "-c", script, "sh"];
        if let Some(output) = again("works_in_a_pure_v2_view", &wrapper) {
            passed(&output);
        }
        return;
    }
    let layout = host::cgroups().unwrap();
    assert_eq!(
        (layout.unified.as_path(), layout.v1.len()),
        (Path::new("/sys/fs/cgroup"), 0)
    );
    let mut ground = Ground::new("pure", View::Host).unwrap();
    let reservation = ground.create();
    ground.spawn("exec sleep 1000");
    reservation.keep().unwrap();
    end(&ground.paths, || Cgroup::open_marked(&ground.paths), soon()).unwrap();
    assert!(!ground.path().exists());
}

#[test]
fn is_told_that_a_host_has_no_cgroup2() {
    if !is_inside() {
        if Ground::new("outside", View::Host).is_none() {
            return;
        }
        let script = "mount -t tmpfs tmpfs /sys/fs/cgroup && exec \"$@\"";
        let wrapper = ["unshare", "-m", "sh", "-c", script, "sh"];
        if let Some(output) = again("is_told_that_a_host_has_no_cgroup2", &wrapper) {
            passed(&output);
        }
        return;
    }
    let error = host::cgroups().unwrap_err().to_string();
    assert!(error.contains("mount -t cgroup2"), "{error}");
}

#[test]
fn a_user_namespace_stands_in_for_the_device_program() {
    if !is_inside() {
        if Ground::new("outside", View::Host).is_none() {
            return;
        }
        let name = "a_user_namespace_stands_in_for_the_device_program";
        if let Some(output) = again(name, &["unshare", "-U", "-r"]) {
            passed(&output);
        }
        return;
    }
    let ground = Ground::new("userns", View::Unified).unwrap();
    let reservation = ground.create();
    assert_eq!(reservation.device_control(), DeviceControl::UserNamespace);
    // What the rule leans on: the kernel makes no device here.
    let made = Command::new("mknod")
        .args(["/tmp/corten-never-2", "c", "1", "3"])
        .output();
    assert!(!made.unwrap().status.success());
}

/// A call that changes nothing and that strace shows.
fn signpost(name: &str) {
    assert!(std::fs::metadata(format!("/corten-signpost/{name}")).is_err());
}

/// The calls between the signposts `from` and `to`, of the thread that passed them.
fn calls<'a>(trace: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let of_thread = |line: &&str, post: &str| line.contains(&format!("/corten-signpost/{post}\""));
    let start = trace.lines().find(|line| of_thread(line, from)).unwrap();
    let thread = start.split_whitespace().next().unwrap();
    let mine = trace
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(thread));
    let after = mine.skip_while(|line| !of_thread(line, from)).skip(1);
    after.take_while(|line| !of_thread(line, to)).collect()
}

#[test]
fn takes_few_system_calls_on_v2() {
    if is_inside() {
        let paths = Ground::new("counted", View::Unified).unwrap();
        signpost("layout");
        let layout = host::cgroups();
        signpost("create");
        let reservation = paths.create();
        signpost("keep");
        reservation.keep().unwrap();
        signpost("end");
        end(&paths.paths, || Cgroup::open_marked(&paths.paths), soon()).unwrap();
        signpost("done");
        assert!(layout.is_ok());
        return;
    }
    if Ground::new("outside", View::Host).is_none() {
        return;
    }
    let file = std::env::temp_dir().join(format!("corten-strace-{}", std::process::id()));
    let shown = file.display().to_string();
    // Not memory and threads, nor the look at each descriptor that a debug build takes before it closes it.
    let filter = "trace=!futex,fcntl,mmap,munmap,mprotect,brk,madvise,mremap";
    let wrapper = ["strace", "-f", "-o", &shown, "-e", filter];
    let Some(output) = again("takes_few_system_calls_on_v2", &wrapper) else {
        return;
    };
    passed(&output);
    let trace = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for (from, to, most) in [
        ("create", "keep", 18),
        ("keep", "end", 2),
        ("end", "done", 1),
    ] {
        let calls = calls(&trace, from, to);
        assert!(
            !calls.is_empty() && calls.len() <= most,
            "{from}: {calls:#?}"
        );
        let moved = calls.iter().any(|call| call.contains("cgroup.procs"));
        assert!(!moved, "{calls:#?}");
        assert!(
            !calls.iter().any(|call| call.contains("mountinfo")),
            "{calls:#?}"
        );
        eprintln!("{from}: {} calls", calls.len());
    }
}
