// SPDX-License-Identifier: Apache-2.0
//! One virtual machine: a directory with its disks, its sockets and its console's text, and a QEMU that uses them.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure, Result};
use crate::vm::guest::Guest;
use crate::vm::monitor::Monitor;
use crate::vm::{Hardware, Lsm, cache};
use crate::{command, report, wait};

/// How long a guest may take to boot: a minute on an idle machine, much longer beside a build.
const BOOT: Duration = Duration::from_secs(600);

/// How long a machine lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Until somebody ends it
    Own,
    /// No longer than this process, however that ends
    Ours,
}

/// What machines are called that live no longer than the process of this number.
pub const OURS: &str = "suite-";

/// The directory of the machine `name`.
pub fn directory(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Failure::new(format!(
            "no name for a machine: {name:?} (letters, digits, - _ .)"
        )));
    }
    let all = cache::root()?.join("run");
    fs::create_dir_all(&all).context(|| format!("make {}", all.display()))?;
    Ok(all.join(name))
}

/// Its monitor, if it runs.
pub fn monitor(directory: &Path) -> Result<Option<Monitor>> {
    Monitor::connect(&directory.join("monitor"))
}

/// Boots a machine in the background.
pub fn up(name: &str, hardware: &Hardware, life: Life) -> Result<()> {
    let directory = directory(name)?;
    sweep(&directory)?;
    let _lock = cache::lock(&directory.with_added_extension("lock"))?;
    if monitor(&directory)?.is_some() {
        return Err(Failure::new(format!(
            "{name} is up already (cargo xtask vm down --name {name} ends it)"
        )));
    }
    let _in_use = cache::in_use()?;
    let (image, kernel) = (cache::image()?, cache::kernel(hardware.kernel)?);
    prepare(&directory, &image)?;
    let start = Instant::now();
    report::step(format!(
        "{name}: boots Linux {}, console in {}",
        read(&kernel.join("release"))?.trim(),
        directory.join("console").display()
    ));
    let booted = boot(&directory, &kernel, hardware, life);
    if booted.is_err() {
        // What went wrong first is worth more than what its undoing finds.
        end(&directory)
            .map_err(|failure| report::failure(&failure))
            .ok();
        return booted;
    }
    report::line(format!("booted in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// A fresh directory with the machine's own disks.
fn prepare(directory: &Path, image: &Path) -> Result<()> {
    if directory.exists() {
        // Of one that ended without `down`.
        fs::remove_dir_all(directory).context(|| format!("remove {}", directory.display()))?;
    }
    fs::create_dir(directory).context(|| format!("make {}", directory.display()))?;
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"]);
    command::captured(
        copy.arg(image.join("root.img"))
            .arg(directory.join("root.img")),
    )?;
    for name in ["key", "known_hosts"] {
        fs::copy(image.join(name), directory.join(name)).context(|| format!("copy the {name}"))?;
    }
    for (name, mebibytes) in [("swap.img", 512), ("io.img", 256)] {
        let path = directory.join(name);
        let disk = File::create(&path).context(|| format!("make {}", path.display()))?;
        disk.set_len(mebibytes << 20)
            .context(|| format!("size {}", path.display()))?;
    }
    let mut swap = Command::new("mkswap");
    swap.env("PATH", cache::path()).arg("--quiet");
    command::captured(swap.arg(directory.join("swap.img")))?;
    Ok(())
}

/// Removes what those machines left whose process was killed.
fn sweep(own: &Path) -> Result<()> {
    let all = own.parent().unwrap_or(own);
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(OURS);
        if !is_ours || !path.is_dir() || monitor(&path)?.is_some() {
            continue;
        }
        let lock = path.with_added_extension("lock");
        let file = File::create(&lock).context(|| format!("make {}", lock.display()))?;
        // Whoever holds it is about to boot.
        if file.try_lock().is_ok() {
            fs::remove_dir_all(&path).context(|| format!("remove {}", path.display()))?;
            fs::remove_file(&lock).context(|| format!("remove {}", lock.display()))?;
        }
    }
    Ok(())
}

/// Starts QEMU and waits for the guest's word and for the way in.
fn boot(directory: &Path, kernel: &Path, hardware: &Hardware, life: Life) -> Result<()> {
    let deadline = Instant::now() + BOOT;
    let ready = UnixListener::bind(directory.join("ready")).context(|| "bind a socket".into())?;
    let mut qemu = qemu(directory, kernel, hardware);
    let said = match life {
        Life::Own => {
            command::captured(qemu.arg("-daemonize"))?;
            guests_word(&ready, &ready, deadline)
        }
        Life::Ours => {
            let ended = wait::of(
                &dies_with_us(&qemu)
                    .spawn()
                    .context(|| "run setpriv".into())?,
            )?;
            guests_word(&ready, &ended, deadline)
        }
    };
    if let Err(failure) = said {
        let console = read(&directory.join("console")).unwrap_or_default();
        let lines: Vec<&str> = console.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        return Err(failure).context(|| format!("boot; the console's last words:\n{last}\n"));
    }
    let port = monitor(directory)?
        .ok_or_else(|| Failure::new("QEMU ended"))?
        .port()?;
    let file = directory.join("port");
    fs::write(&file, port.to_string()).context(|| format!("write {}", file.display()))?;
    Guest::at(directory)?.connect()
}

/// The same command, killed by the kernel when we end.
fn dies_with_us(command: &Command) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--pdeathsig", "KILL", "--"]);
    setpriv.arg(command.get_program()).args(command.get_args());
    setpriv.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
    setpriv.stdin(Stdio::null());
    setpriv
}

/// Waits for the line that the guest writes when it is up, or for QEMU's end.
fn guests_word(ready: &UnixListener, ended: impl AsFd, deadline: Instant) -> Result<()> {
    if !wait::either(ready, ended, deadline)? {
        return Err(Failure::new("QEMU ended"));
    }
    let (mut line, _) = ready.accept().context(|| "accept".into())?;
    wait::readable(&line, deadline)?;
    let mut bytes = [0; 16];
    match line.read(&mut bytes).context(|| "read".into())? {
        0 => Err(Failure::new("QEMU ended")),
        _ => Ok(()),
    }
}

/// The command line: emulated processors (a host without nested virtualisation is the usual case), the kernel
/// directly, disks in the order that the initrd expects, a network that only leads from loopback to the guest's sshd.
fn qemu(directory: &Path, kernel: &Path, hardware: &Hardware) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.current_dir(directory);
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    // QEMU 7.2's cmpxchg16b leaves garbage in the flags, of which Linux 6.12's allocator dies; five levels of page tables
    // are only slower.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,-cx16,-la57"]);
    qemu.args(["-smp", &hardware.cpus.to_string()]);
    qemu.args(["-m", &hardware.memory.to_string()]);
    qemu.arg("-kernel").arg(kernel.join("vmlinuz"));
    qemu.arg("-initrd").arg(kernel.join("initrd"));
    qemu.args(["-append", &command_line(hardware.lsm)]);
    let modules = kernel.join("modules.img");
    disk(&mut qemu, "root", Path::new("root.img"), "cache=unsafe");
    disk(&mut qemu, "modules", &modules, "readonly=on");
    disk(&mut qemu, "swap", Path::new("swap.img"), "cache=unsafe");
    disk(&mut qemu, "io", Path::new("io.img"), "cache=unsafe");
    qemu.args(["-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"]);
    qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    qemu.args(["-device", "virtio-rng-pci"]);
    qemu.args(["-serial", "file:console", "-serial", "unix:ready"]);
    qemu.args(["-qmp", "unix:monitor,server=on,wait=off"]);
    qemu
}

/// Adds a disk; the guest finds it below /dev/disk/by-id as virtio-NAME.
fn disk(qemu: &mut Command, name: &str, path: &Path, options: &str) {
    // QEMU takes a doubled comma for one that is part of a value.
    let path = path.display().to_string().replace(',', ",,");
    let drive = format!("if=none,id={name},format=raw,{options},file={path}");
    let device = format!("virtio-blk-pci,drive={name},serial={name}");
    qemu.args(["-drive", &drive, "-device", &device]);
}

/// The kernel's command line.
fn command_line(lsm: Lsm) -> String {
    let module = match lsm {
        Lsm::Apparmor => "security=apparmor",
        Lsm::Selinux => "security=selinux selinux=1",
    };
    // An emulator keeps translated code by its address: with addresses of chance every program is translated anew at every
    // start, which is most of what a suite of short programs does.
    let fast = "norandmaps";
    // It would be mounted by whichever test first walks below /proc.
    let still = "systemd.mask=proc-sys-fs-binfmt_misc.automount";
    // The kernel holds this clock against another, and takes a processor that the host makes wait for a wrong clock: then
    // it changes to the HPET, whose time wraps every 43 s, and sleepers wake late or never. Not `reliable`, which would
    // also leave out that the processors' clocks agree.
    let clock = "tsc=nowatchdog";
    format!(
        "console=ttyS0 quiet panic=-1 net.ifnames=0 hugepages=16 systemd.unified_cgroup_hierarchy=1 {clock} {fast} {still} {module}"
    )
}

/// Ends a machine; one that isn't there is no failure.
pub fn down(name: &str) -> Result<()> {
    let directory = directory(name)?;
    let lock = directory.with_added_extension("lock");
    let _held = cache::lock(&lock)?;
    end(&directory)?;
    if name.starts_with(OURS) {
        return fs::remove_file(&lock).context(|| format!("remove {}", lock.display()));
    }
    // Others may wait for it, and would hold a lock that nobody else finds.
    Ok(())
}

/// Ends QEMU and removes the directory.
fn end(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    if let Ok(guest) = Guest::at(directory) {
        guest.disconnect();
    }
    if let Some(monitor) = monitor(directory)? {
        monitor.quit()?;
    }
    fs::remove_dir_all(directory).context(|| format!("remove {}", directory.display()))
}

/// Prints the names of those that run.
pub fn list() -> Result<()> {
    let all = cache::root()?.join("run");
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        if entry.path().is_dir() && monitor(&entry.path())?.is_some() {
            report::line(entry.file_name().to_string_lossy());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_name_stays_in_its_directory() {
        for name in ["", ".", "..", "a/b", ".hidden", "a b"] {
            assert!(directory(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_comma_in_a_disks_path_is_no_option() {
        let mut qemu = Command::new("qemu");
        disk(&mut qemu, "x", Path::new("/a,b"), "readonly=on");
        let words: Vec<_> = qemu.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[1], "if=none,id=x,format=raw,readonly=on,file=/a,,b");
    }
}
