// SPDX-License-Identifier: Apache-2.0
//! What the flags of `checkpoint` and `restore` mean: most are options of CRIU's.

use std::path::{Path, PathBuf};

use super::meant::{Caller, CreateArgs, unknown};
use super::typed::Words;
use crate::checkpoint::{CgroupsMode, Options};
use crate::error::{Error, Kind, Result};
use crate::store::ContainerId;

/// `checkpoint`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointArgs {
    /// Which container.
    pub id: ContainerId,
    /// Where the images go, absolute.
    pub images: PathBuf,
    /// Where the log goes, if not there.
    pub logs: Option<PathBuf>,
    /// Write down the memory alone.
    pub pre_dump: bool,
    /// Where to write a byte once lazy pages are served.
    pub status_fd: Option<i32>,
    /// What CRIU is told.
    pub options: Options,
}

/// `restore`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreArgs {
    /// What `create` would be told.
    pub create: CreateArgs,
    /// Return when the processes go on.
    pub detach: bool,
    /// Where the images are, absolute.
    pub images: PathBuf,
    /// Where the log goes, if not there.
    pub logs: Option<PathBuf>,
    /// What CRIU is told.
    pub options: Options,
}

impl CheckpointArgs {
    pub(super) fn new(words: &Words, caller: &Caller) -> Result<Self> {
        let mut options = options(words)?;
        options.leave_running = words.on("leave-running");
        options.tcp_skip_in_flight = words.on("tcp-skip-in-flight");
        options.page_server = words.text("page-server")?.map(page_server).transpose()?;
        let parent = words.text("parent-path")?.filter(|path| !path.is_empty());
        if parent.is_some_and(|parent| Path::new(parent).is_absolute()) {
            // The images refer to each other, wherever they are moved to.
            let text = "--parent-path must be relative, to the directory of the images";
            return Err(Error::new(Kind::Invalid, text));
        }
        options.parent_images = parent.map(str::to_owned);
        let status_fd = words.text("status-fd")?.map(number).transpose()?.flatten();
        if status_fd.is_some() && !options.lazy_pages {
            let text = "--status-fd goes with --lazy-pages: nothing else is told there";
            return Err(Error::new(Kind::Invalid, text));
        }
        let (images, logs) = directories(words, caller)?;
        Ok(Self {
            id: ContainerId::new(words.needed("ID")?)?,
            images,
            logs,
            pre_dump: words.on("pre-dump"),
            status_fd,
            options,
        })
    }
}

impl RestoreArgs {
    pub(super) fn new(words: &Words, caller: &Caller, create: CreateArgs) -> Result<Self> {
        let mut options = options(words)?;
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        options.lsm_profile = given(words.needed("lsm-profile")?);
        options.lsm_mount_context = given(words.needed("lsm-mount-context")?);
        let (images, logs) = directories(words, caller)?;
        Ok(Self {
            create,
            detach: words.on("detach"),
            images,
            logs,
            options,
        })
    }
}

/// runc's default is a directory beside the caller, too.
fn directories(words: &Words, caller: &Caller) -> Result<(PathBuf, Option<PathBuf>)> {
    let given = |name| words.value(name).filter(|path| !path.is_empty());
    let images = given("image-path").map_or(Path::new("checkpoint"), Path::new);
    let logs = given("work-path").map(|logs| caller.absolute(Path::new(logs)));
    Ok((caller.absolute(images)?, logs.transpose()?))
}

fn options(words: &Words) -> Result<Options> {
    for kind in words.texts("empty-ns")? {
        if kind != "network" {
            return Err(unknown("namespace", &kind, "network"));
        }
    }
    Ok(Options {
        ext_unix_sk: words.on("ext-unix-sk"),
        tcp_established: words.on("tcp-established"),
        shell_job: words.on("shell-job"),
        file_locks: words.on("file-locks"),
        auto_dedup: words.on("auto-dedup"),
        lazy_pages: words.on("lazy-pages"),
        cgroups_mode: match words.needed("manage-cgroups-mode")? {
            "" => CgroupsMode::Default,
            "ignore" => CgroupsMode::Ignore,
            "soft" => CgroupsMode::Soft,
            "full" => CgroupsMode::Full,
            "strict" => CgroupsMode::Strict,
            text => {
                return Err(unknown(
                    "cgroups mode",
                    text,
                    "soft, full, strict or ignore",
                ));
            }
        },
        ..Options::default()
    })
}

/// An address of IPv6 is in brackets, as the colons in it are its own.
fn page_server(text: &str) -> Result<(String, u16)> {
    let read = || {
        let (address, port) = text.rsplit_once(':')?;
        let address = match address.strip_prefix('[') {
            Some(address) => address.strip_suffix(']')?,
            None => Some(address).filter(|address| !address.contains(':'))?,
        };
        let port = port.parse().ok()?;
        (!address.is_empty()).then(|| (address.to_owned(), port))
    };
    read().ok_or_else(|| unknown("page server", text, "ADDRESS:PORT"))
}

/// -1 is runc's word for none.
fn number(text: &str) -> Result<Option<i32>> {
    match text.parse() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(Some(number)),
        _ => Err(unknown(
            "number of a file descriptor",
            text,
            "one from 0 on",
        )),
    }
}
