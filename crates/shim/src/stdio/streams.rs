// SPDX-License-Identifier: Apache-2.0
//! The places of a process's streams, opened before its runtime is called. A FIFO that is written to is opened for reading as
//! well: whoever reads may go and come back, and what was written stays.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use corten_sys::fs::{self, CWD, FileType, Mode, OFlags};
use corten_sys::{Call, Errno};
use rustix::pipe::PipeFlags;

use super::{Logger, Place, Pump, Stream};
use crate::bundle::failed;
use crate::error::{Context, Error, Result};

/// The names that containerd has sent, for `State` to say again.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// What it reads.
    pub stdin: String,
    /// What it writes.
    pub stdout: String,
    /// What it complains to; with a terminal nothing.
    pub stderr: String,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Who owns the pipes: so that a process of another user can open /dev/stdout again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// Descriptors 0 to 2 of the process, or, with a terminal, of its runtime alone.
    pub standard: [OwnedFd; 3],
    /// What is to be moved.
    pub pumps: Vec<(Stream, Pump)>,
    /// Who takes the output.
    pub logger: Option<Logger>,
    /// What a terminal is to be connected to.
    ends: Option<Ends>,
}

#[derive(Debug)]
struct Ends {
    input: Option<OwnedFd>,
    output: Option<Sink>,
}

/// What is written to, and what keeps it open where that is a FIFO.
#[derive(Debug)]
struct Sink {
    to: OwnedFd,
    reader: Option<OwnedFd>,
}

impl Sink {
    /// One that is open whoever reads.
    fn plain(to: OwnedFd) -> Self {
        Self { to, reader: None }
    }
}

impl Opened {
    /// Opens the places `names` for the process `id` of containerd's `namespace`.
    pub fn new(names: &Names, owner: Owner, id: &str, namespace: &str) -> Result<Self> {
        let opened = if names.terminal {
            Self::with_terminal(names, id, namespace)
        } else {
            Self::with_pipes(names, owner, id, namespace)
        };
        opened.context(|| "open the standard streams")
    }

    fn with_pipes(names: &Names, owner: Owner, id: &str, namespace: &str) -> Result<Self> {
        let mut pumps = Vec::new();
        let mut logger = None;
        let stdin = match Place::parse(&names.stdin)? {
            Place::Null => null()?,
            Place::Fifo(path) => {
                let from = open_input(&path)?;
                if is_fifo(&from)? {
                    let (input, to) = owned_pipe(owner)?;
                    fs::set_nonblocking(to.as_fd())?;
                    pumps.push((Stream::Input, Pump::new(from, to)));
                    input
                } else {
                    from
                }
            }
            Place::File(_) | Place::Program(..) => {
                return Err(Error::invalid("stdin is read from a FIFO"));
            }
        };
        let (stdout, stderr) = (Place::parse(&names.stdout)?, Place::parse(&names.stderr)?);
        if let Place::Program(program, args) = &stdout {
            if !matches!(&stderr, Place::Null) && stderr != stdout {
                return Err(Error::invalid(
                    "stderr goes to the logger of stdout, or nowhere",
                ));
            }
            let (out, stdout) = owned_pipe(owner)?;
            let (err, stderr) = owned_pipe(owner)?;
            logger = Some(Logger::start(program, args, id, namespace, &out, &err)?);
            return Ok(Self {
                standard: [stdin, stdout, stderr],
                pumps,
                logger,
                ends: None,
            });
        }
        let mut output = |place: &Place| -> Result<OwnedFd> {
            let Some(sink) = open_output(place)? else {
                return null();
            };
            let (from, output) = owned_pipe(owner)?;
            fs::set_nonblocking(from.as_fd())?;
            let pump = Pump::new(from, sink.to).read_by(sink.reader);
            pumps.push((Stream::Output, pump));
            Ok(output)
        };
        let standard = [stdin, output(&stdout)?, output(&stderr)?];
        Ok(Self {
            standard,
            pumps,
            logger,
            ends: None,
        })
    }

    fn with_terminal(names: &Names, id: &str, namespace: &str) -> Result<Self> {
        let input = match Place::parse(&names.stdin)? {
            Place::Null => None,
            Place::Fifo(path) => Some(open_input(&path)?),
            Place::File(_) | Place::Program(..) => {
                return Err(Error::invalid("stdin is read from a FIFO"));
            }
        };
        let mut logger = None;
        let place = Place::parse(&names.stdout)?;
        let output = match &place {
            Place::Program(program, args) => {
                let (from, to) = pipe()?;
                // A terminal has one output: the other ends at once.
                let (nothing, _) = pipe()?;
                fs::set_nonblocking(to.as_fd())?;
                logger = Some(Logger::start(
                    program, args, id, namespace, &from, &nothing,
                )?);
                Some(Sink::plain(to))
            }
            place => open_output(place)?,
        };
        Ok(Self {
            standard: [null()?, null()?, null()?],
            pumps: Vec::new(),
            logger,
            ends: Some(Ends { input, output }),
        })
    }

    /// Connects the terminal whose master was handed over. Where nobody reads it, its output is thrown away: it must not
    /// stop who writes to it.
    pub fn connect(&mut self, master: &OwnedFd) -> Result<()> {
        let Some(ends) = self.ends.take() else {
            return Ok(());
        };
        let copy = || {
            let copy = rustix::io::fcntl_dupfd_cloexec(master, 0);
            copy.call("fcntl", || "F_DUPFD_CLOEXEC".to_owned())
        };
        let output = match ends.output {
            Some(sink) => sink,
            None => Sink::plain(null()?),
        };
        let pump = Pump::new(copy()?, output.to).read_by(output.reader);
        self.pumps.push((Stream::Output, pump));
        if let Some(input) = ends.input {
            self.pumps.push((Stream::Input, Pump::new(input, copy()?)));
        }
        Ok(())
    }
}

fn open_input(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    Ok(fs::open(CWD, path, flags, Mode::empty())?)
}

/// Opens a place that is written to; none for nowhere.
fn open_output(place: &Place) -> Result<Option<Sink>> {
    match place {
        Place::Null => Ok(None),
        Place::Fifo(path) => {
            let flags = OFlags::RDWR | OFlags::NONBLOCK;
            match fs::open(CWD, path, flags, Mode::empty()) {
                Ok(reader) if is_fifo(&reader)? => {
                    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
                    let to = fs::open(CWD, path, flags, Mode::empty())?;
                    Ok(Some(Sink {
                        to,
                        reader: Some(reader),
                    }))
                }
                // A file under a FIFO's name, as old clients have it.
                Ok(_) => append(path).map(Some),
                Err(error) if error.errno() == Errno::ACCESS => append(path).map(Some),
                Err(error) => Err(error.into()),
            }
        }
        Place::File(path) => {
            if let Some(parent) = path.parent() {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
                made.map_err(|error| failed("mkdir", parent, &error))?;
            }
            append(path).map(Some)
        }
        Place::Program(..) => Err(Error::invalid("stderr goes to the logger of stdout")),
    }
}

fn append(path: &Path) -> Result<Sink> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    Ok(Sink::plain(fs::open(CWD, path, flags, mode)?))
}

fn is_fifo(fd: &OwnedFd) -> Result<bool> {
    let status = fs::stat(fd.as_fd())?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Fifo)
}

/// A pipe: what is read from, and what is written to.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let made = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    Ok(made.call("pipe2", String::new)?)
}

fn owned_pipe(owner: Owner) -> Result<(OwnedFd, OwnedFd)> {
    let (from, to) = pipe()?;
    if owner.uid != 0 || owner.gid != 0 {
        // Both ends are one inode.
        fs::set_owner(from.as_fd(), owner.uid, owner.gid)?;
    }
    Ok((from, to))
}

/// /dev/null.
pub(super) fn null() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    Ok(fs::open(CWD, path, OFlags::RDWR, Mode::empty())?)
}
