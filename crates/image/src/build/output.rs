// SPDX-License-Identifier: Apache-2.0
//! `--output`: the built image's files, or the image itself, outside of the store.
//!
//! Runs as root; called by `publish`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_sys::Call;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::Builder;
use super::filter::Filter;
use super::find::find_one;
use super::layers::View;
use super::place::{Attributes, Place};
use super::source::walk;
use super::tree::Tree;
use crate::archive::{self, Format};
use crate::dockerfile::options;
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::layer::Diff;
use crate::layer::diff::root_look;
use crate::reference::Reference;
use crate::store::files;
use crate::tar;

/// What is written, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The files, into a directory; those that are there are replaced.
    Local(PathBuf),
    /// The files, as a tar.
    Tar(Dest),
    /// The image, as a tar of an OCI layout.
    Oci(PathBuf),
    /// The image, as `docker save` writes it.
    Docker(PathBuf),
}

/// Where a tar goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// A file, which is replaced when the tar is whole.
    File(PathBuf),
    /// `-`
    Stdout,
}

impl Output {
    /// Reads `type=local|tar|oci|docker,dest=PATH`, or a directory alone, or `-` for a tar on standard output.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("--output {text}: {why}"));
        if text == "-" {
            return Ok(Self::Tar(Dest::Stdout));
        }
        if !text.contains('=') {
            return Ok(Self::Local(text.into()));
        }
        let (mut kind, mut dest) = (None, None);
        let fields = options::fields(text).map_err(wrong)?;
        // Before the fields that only another type has.
        for kind in fields
            .iter()
            .filter_map(|field| field.strip_prefix("type="))
        {
            if !["local", "tar", "oci", "docker"].contains(&kind) {
                let why = format!("type {kind} is not supported: it is local, tar, oci or docker");
                return Err(wrong(why));
            }
        }
        for field in fields {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value.to_owned()),
                Some(("dest", value)) if !value.is_empty() => dest = Some(value.to_owned()),
                _ => return Err(wrong(format!("{field:?} is not known"))),
            }
        }
        let dest = dest.ok_or_else(|| wrong("it has no dest".to_owned()))?;
        match (kind.as_deref(), dest.as_str()) {
            (Some("tar"), "-") => Ok(Self::Tar(Dest::Stdout)),
            (Some("tar"), _) => Ok(Self::Tar(Dest::File(dest.into()))),
            (_, "-") => Err(wrong("only a tar goes to standard output".to_owned())),
            (Some("local"), _) => Ok(Self::Local(dest.into())),
            (Some("oci"), _) => Ok(Self::Oci(dest.into())),
            (Some("docker"), _) => Ok(Self::Docker(dest.into())),
            _ => Err(wrong("the type is local, tar, oci or docker".to_owned())),
        }
    }
}

impl Builder<'_> {
    /// Writes the image of `layers`, which is called `name` in the store.
    pub(super) fn write_output(
        &self,
        output: &Output,
        layers: &[Layer],
        name: Option<&Reference>,
    ) -> Result<()> {
        let named = || {
            name.ok_or_else(|| {
                Error::invalid("an image without a name").remedy("give it one with --tag")
            })
        };
        match output {
            Output::Local(path) => self
                .write_files(path, &self.layers.view(layers)?)
                .with_context(|| format!("write to {}", path.display())),
            Output::Tar(dest) => self.write_tar(dest, &self.layers.view(layers)?),
            Output::Oci(path) => self.write_image(path, named()?, Format::OciArchive),
            Output::Docker(path) => self.write_image(path, named()?, Format::DockerArchive),
        }
    }

    fn write_files(&self, path: &Path, view: &View) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        std::fs::create_dir_all(path)?;
        let dir = rustix::fs::open(path, flags, Mode::empty()).call("open", String::new)?;
        // SECURITY: links in the directory lead nowhere else, as in a root directory.
        let root = Tree::root(dir);
        let check = || self.halt.check();
        let found = find_one(&view.tree, "")?;
        let items = walk(&view.tree, &found, &Filter::default(), &check)?;
        let mut place = Place::new(&root);
        let attributes = Attributes {
            owner: None,
            mode: None,
        };
        for item in &items {
            check()?;
            // The directory is the user's own, and stays as it looks.
            if !item.target.as_os_str().is_empty() {
                place.copy(&view.tree, item, &item.target, &attributes)?;
            }
        }
        place.finish().map(drop)
    }

    fn write_tar(&self, dest: &Dest, view: &View) -> Result<()> {
        match dest {
            Dest::Stdout => {
                let stdout = std::io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.context("dup standard output")?;
                self.append_tar(view, File::from(stdout))
            }
            Dest::File(path) => replace(path, |dir, name| {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o666);
                let fd = rustix::fs::openat(dir, name, flags, mode).call("create", String::new)?;
                self.append_tar(view, File::from(fd))
            }),
        }
    }

    fn append_tar(&self, view: &View, file: File) -> Result<()> {
        let mut tar = tar::Writer::new(BufWriter::with_capacity(1 << 20, file));
        let diff = Diff {
            clamp_time: self.epoch,
            ..Diff::default()
        };
        let root = view
            .tree
            .open(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY)?;
        diff.append(root.as_fd(), root_look(root.as_fd())?, &mut tar)?;
        let mut file = tar.finish()?;
        Ok(file.flush()?)
    }

    fn write_image(&self, path: &Path, name: &Reference, format: Format) -> Result<()> {
        replace(path, |_, temporary| {
            let beside = path.with_file_name(temporary);
            archive::export(self.layers.store(), name, &beside, format, self.progress)
        })
    }
}

/// Has `write` make a file beside `path`, and puts it in its place.
fn replace(path: &Path, write: impl FnOnce(BorrowedFd<'_>, &str) -> Result<()>) -> Result<()> {
    let put = || -> Result<()> {
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("it is no file name"))?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(above.unwrap_or(Path::new(".")), flags, Mode::empty())
            .call("open", String::new)?;
        let temporary = format!(".{}", files::random_name()?);
        let written = write(dir.as_fd(), &temporary).and_then(|()| {
            Ok(rustix::fs::renameat(&dir, temporary.as_str(), &dir, name)
                .call("rename", String::new)?)
        });
        if written.is_err() {
            // The failure that led here is the one to report.
            let _ = rustix::fs::unlinkat(&dir, temporary.as_str(), AtFlags::empty());
        }
        written
    };
    put().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_outputs() {
        for (text, expected) in [
            ("out", Some(Output::Local("out".into()))),
            ("-", Some(Output::Tar(Dest::Stdout))),
            ("type=local,dest=a", Some(Output::Local("a".into()))),
            ("type=tar,dest=-", Some(Output::Tar(Dest::Stdout))),
            ("dest=a,type=tar", Some(Output::Tar(Dest::File("a".into())))),
            ("type=oci,dest=a", Some(Output::Oci("a".into()))),
            ("type=docker,dest=a", Some(Output::Docker("a".into()))),
            ("type=oci,dest=-", None),
            ("type=oci", None),
            ("type=registry,dest=a", None),
            ("type=local,dest=a,compression=zstd", None),
            ("dest=a", None),
        ] {
            assert_eq!(Output::parse(text).ok(), expected, "{text}");
        }
    }
}
