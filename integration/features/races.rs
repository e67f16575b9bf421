// SPDX-License-Identifier: Apache-2.0
//! Races: an attacker inside while the runtime works. `CORTEN_RACES` sets how often each is run (40).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_integration::{Container, Draft, Driver, Trial, is_everyones, overlay, plant, trial};

fn rounds() -> u32 {
    std::env::var("CORTEN_RACES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40)
}

/// A volume in which an attacker swaps a directory with a link to the sentinel as fast as it can.
fn attacker<'t>(t: &'t Trial) -> (Container<'t>, PathBuf) {
    let volume = t.directory("volume");
    fs::create_dir(volume.join("a")).unwrap();
    std::os::unix::fs::symlink(&t.sentinel.path, volume.join("b")).unwrap();
    let c = t
        .container()
        .mount("/data", "bind", &volume, &["bind"])
        .probe("print up + exchange /data/a /data/b 600000")
        .done();
    let out = c.run_detached();
    c.says(&out, "up");
    (c, volume)
}

/// Runs many containers that mount something into the swapped directory. Each may fail; none may escape.
fn storm(t: &Trial, mount: impl Fn(Draft<'_>, u32) -> Draft<'_>) {
    let (attacker, volume) = attacker(t);
    let mut ran = 0;
    for round in 0..rounds() {
        let c = mount(
            t.container().mount("/data", "bind", &volume, &["bind"]),
            round,
        )
        .probe("exit 0")
        .done();
        ran += u32::from(c.run().code == 0);
        fs::remove_dir_all(&c.bundle).unwrap();
    }
    assert_eq!(attacker.status(), "running", "the attacker has given up");
    attacker.end();
    assert!(ran > 0, "no round got through: this proves nothing");
}

#[test]
fn cve_2021_30465_mount_targets_are_swapped() {
    trial(|t| storm(t, |draft, _| draft.mount("/data/a", "tmpfs", "tmpfs", &[])));
}

#[test]
fn cve_2024_45310_parents_of_mount_targets_are_swapped() {
    trial(|t| {
        storm(t, |draft, round| {
            draft.mount(&format!("/data/a/new{round}/deep"), "tmpfs", "tmpfs", &[])
        })
    });
}

#[test]
fn masked_paths_are_swapped() {
    trial(|t| {
        storm(t, |draft, _| {
            draft.with(
                "/linux/maskedPaths",
                serde_json::json!(["/data/a", "/data/a/file", "/data/a/dir"]),
            )
        })
    });
}

#[test]
fn cve_2016_9962_exec_passes_a_scanner() {
    trial(|t| {
        let c = t
            .container()
            .probe("print up + scan-fds 4000 + print done + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        for _ in 0..rounds() {
            c.exec("exit 0").ok();
        }
        c.says(&out, "done");
        let scan = c.seen(&out, "scan-fds");
        assert_eq!(
            scan["found"],
            serde_json::json!([]),
            "of {} processes in {} rounds",
            scan["seen"],
            scan["rounds"]
        );
        assert!(scan["rounds"].as_u64().unwrap() > 100, "{scan}");
        c.end();
    });
}

#[test]
fn cve_2019_5736_exec_passes_a_writer() {
    trial(|t| {
        // A copy, which nobody else runs: ETXTBSY must not be what protects it.
        let binary = t.dir.join("runtime");
        plant(&t.runtime.path, &binary);
        let before = fs::read(&binary).unwrap();
        let c = t
            .container()
            .writable()
            .probe("print up + reach-exe 4000 /over + print done + pause")
            .done();
        let out = c.run_detached();
        c.says(&out, "up");
        for round in 0..rounds() {
            let call = t
                .program(&binary)
                .arg("--root")
                .arg(t.state_root())
                .arg("exec")
                .arg(&c.id);
            // /proc/self/exe is the runtime's own file until execve: the container may ask for it by name.
            let args = if round % 2 == 0 {
                ["/probe", "exit", "0"]
            } else {
                ["/proc/self/exe", "--version", "--"]
            };
            call.args(args).end();
        }
        fs::write(c.rootfs().join("over"), "").unwrap();
        c.says(&out, "done");
        let seen = c.seen(&out, "reach-exe");
        if t.is_corten() {
            // What a round executes by name was looked at; runc has nothing there that could be executed.
            assert_ne!(seen["foreign"], 0, "nobody passed: {seen}");
        }
        assert_eq!(seen["opened"], 0, "{seen}");
        assert!(
            seen["after"].get("ETXTBSY").is_none(),
            "only its running protects the binary: {seen}"
        );
        assert!(
            fs::read(&binary).unwrap() == before,
            "the runtime's binary has changed"
        );
        c.end();
    });
}

#[test]
fn cve_2019_5736_the_entry_point_is_the_runtime() {
    trial(|t| {
        let before = fs::read(&t.runtime.path).unwrap();
        for args in [&["/proc/self/exe", "--version"][..], &["/script"][..]] {
            let c = t
                .container()
                .writable()
                .file("/script", "#!/proc/self/exe --version\n", 0o755)
                .args(args)
                .done();
            c.run();
            assert!(
                fs::read(&t.runtime.path).unwrap() == before,
                "the runtime's binary has changed"
            );
        }
    });
}

/// The binary under a mount that nobody can write through, or a sealed copy of it (memfd_create(2)).
fn is_out_of_reach(link: &Path) -> bool {
    let file = fs::File::open(link).unwrap_or_else(|e| panic!("open {}: {e}", link.display()));
    let flags = rustix::fs::fstatvfs(&file).unwrap().f_flag;
    flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)
        || rustix::fs::fcntl_get_seals(&file)
            .is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE))
}

/// What init executes, and every part of it in init's memory, is out of reach; says how many parts there are.
fn parts_out_of_reach(init: i32) -> usize {
    let process = PathBuf::from(format!("/proc/{init}"));
    let executed = process.join("exe");
    assert!(is_out_of_reach(&executed), "what init executes");
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let own = identity(&executed).unwrap();
    let mapped = fs::read_dir(process.join("map_files")).unwrap();
    let mapped = mapped.map(|part| part.unwrap().path());
    // What init has in memory of others may be gone from where it was.
    let is_own = |part: &PathBuf| identity(part).is_ok_and(|found| found == own);
    let parts: Vec<_> = mapped.filter(is_own).collect();
    for part in &parts {
        assert!(is_out_of_reach(part), "{}", part.display());
    }
    parts.len()
}

/// Creates a container by the `binary`, and looks at its init.
fn look_at_init(t: &Trial, binary: &Path) {
    let c = t.container().probe("pause").done();
    let create = t.users_program(binary).arg("--root").arg(t.state_root());
    let create = create.args(Driver::current().flags());
    let create = create.arg("create").arg("--bundle").arg(&c.bundle);
    create.arg(&c.id).end().ok();
    let parts = parts_out_of_reach(c.pid());
    assert!(parts > 0, "init is in its own memory");
    // Started anew, it would have its data from the file as well.
    let restores = Path::new("/proc/sys/kernel/ns_last_pid").exists();
    if t.is_corten() && !is_everyones() && restores {
        assert_eq!(
            parts, 2,
            "the binary was exchanged: text and constants are of it"
        );
    }
    c.start().ok();
    c.end();
}

#[test]
fn cve_2019_5736_no_memory_of_init_leads_to_the_binary() {
    trial(|t| {
        // A copy of the caller's: that root alone may write it protects it from nobody.
        let binary = t.dir.join("runtime");
        plant(&t.runtime.path, &binary);
        t.give(&binary);
        look_at_init(t, &binary);
    });
}

#[test]
fn cve_2019_5736_no_memory_of_init_leads_to_the_binary_on_an_overlay() {
    trial(|t| {
        if is_everyones() {
            eprintln!("a user mounts no overlay: nothing to test");
            return;
        }
        // Its pages are another file's for the kernel, which can't tell there what is still mapped.
        let [lower, upper, work, merged] =
            ["lower", "upper", "work", "merged"].map(|name| t.directory(name));
        plant(&t.runtime.path, &lower.join("runtime"));
        overlay(&lower, [&upper, &work], &merged);
        look_at_init(t, &merged.join("runtime"));
        rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn cve_2019_5736_what_the_kernel_only_says_it_did_is_no_protection() {
    trial(|t| {
        if !t.is_corten() || is_everyones() || !Path::new("/usr/bin/strace").exists() {
            eprintln!("no strace, or a user's containers: nothing to test");
            return;
        }
        // A filter around the runtime may answer for the kernel.
        for when in ["1", "2", "1+"] {
            let log = t.dir.join("strace");
            let strace = t.program("/usr/bin/strace".as_ref()).arg("-o").arg(&log);
            let strace = strace.args(["-e", "trace=execveat,prctl", "-e"]);
            let strace = strace.arg(format!("inject=prctl:retval=0:when={when}"));
            let strace = strace
                .arg(&t.runtime.path)
                .arg("--root")
                .arg(t.state_root());
            let out = strace.args(["exec", "none", "true"]).end();
            assert!(out.stderr.contains("does not exist"), "{}", out.stderr);
            let log = fs::read_to_string(&log).unwrap();
            let again = log.lines().filter(|line| line.starts_with("execveat("));
            assert_eq!(again.count(), 1, "it starts again, sealed: {log}");
        }
    });
}
