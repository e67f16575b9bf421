// SPDX-License-Identifier: Apache-2.0
//! strace around one command, without standing between us and it: the tracer is a detached grandchild, so our `wait`
//! sees the command's own status, and the container that a `create` leaves behind stays traced until it ends.
//!
//! The log goes through a fifo whose end of file says that the tracer, and with it every traced process, is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};

use crate::failure::{Context, Result};
use crate::{command, wait};

/// A command that runs under strace, and the thread's end that reads the tracer's log.
pub struct Traced {
    /// The command itself, not the tracer.
    pub child: Child,
    log: Receiver<Result<String>>,
}

/// Starts `words` under strace with `options`, the log going through `fifo`; stdin and stdout are nothing.
/// The tracer has to be gone within `patience`.
pub fn spawn(
    words: &[OsString],
    options: &[&str],
    fifo: &Path,
    stderr: Stdio,
    patience: Duration,
) -> Result<Traced> {
    if fifo.exists() {
        std::fs::remove_file(fifo).context(|| format!("remove {}", fifo.display()))?;
    }
    rustix::fs::mkfifoat(CWD, fifo, Mode::RUSR | Mode::WUSR)
        .context(|| format!("mkfifo {}", fifo.display()))?;
    // Not blocking: should strace fail before it opens the other end, there is a deadline to notice it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reader = rustix::fs::open(fifo, flags, Mode::empty())
        .context(|| format!("open {}", fifo.display()))?;
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-q"])
        .args(options)
        .arg("-o")
        .arg(fifo)
        .arg("--")
        .args(words);
    strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    command::plain_environment(&mut strace);
    let child = strace.spawn().context(|| "run strace".into())?;
    let deadline = Instant::now() + patience;
    let (sender, log) = sync_channel(1);
    std::thread::spawn(move || {
        // Nobody may be left who wants it.
        sender.send(read_to_end(File::from(reader), deadline)).ok();
    });
    Ok(Traced { child, log })
}

/// Reads until the last writer is gone.
fn read_to_end(mut fifo: File, deadline: Instant) -> Result<String> {
    let (mut log, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        wait::readable(&fifo, deadline).context(|| "wait for strace to end".into())?;
        match fifo.read(&mut piece) {
            Ok(0) => return Ok(String::from_utf8_lossy(&log).into_owned()),
            Ok(count) => log.extend_from_slice(&piece[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context(|| "read strace's log".into()),
        }
    }
}

impl Traced {
    /// Waits until the tracer is gone and hands back its log; to be had once.
    pub fn log(&self, patience: Duration) -> Result<String> {
        self.log
            .recv_timeout(patience)
            .context(|| "wait for strace to end".into())?
    }
}
