// SPDX-License-Identifier: Apache-2.0
//! A CRIU that works on this kernel: this Debian's, or else that of the tree of Debian's sid, with the libraries of there.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::{command, packages};

/// Whether the tree of sid may be made for it, which takes minutes and a mirror, or has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    Made,
    There,
}

/// The directory, below `scratch`, of a `criu` that works where this Debian's does not; none where that one does, or where
/// there is no other.
pub fn directory(scratch: &Path, tree: Tree) -> Result<Option<PathBuf>> {
    let works = |program: &Path| {
        let checked = command::attempt(Command::new(program).arg("check"));
        checked.is_ok_and(|output| output.status.success())
    };
    if works(Path::new("criu")) {
        return Ok(None);
    }
    let tree = match tree {
        Tree::Made => packages::sid_tree(&["criu"])?,
        Tree::There => PathBuf::from(packages::SID_TREE),
    };
    if !tree.join("usr/sbin/criu").exists() {
        return Ok(None);
    }
    let directory = scratch.join("criu");
    let program = directory.join("criu");
    let failed = || format!("write {}", program.display());
    fs::create_dir_all(&directory).context(failed)?;
    fs::write(&program, wrapper(&tree)?).context(failed)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context(failed)?;
    if works(&program) {
        return Ok(Some(directory));
    }
    fs::remove_dir_all(&directory).context(|| format!("remove {}", directory.display()))?;
    Ok(None)
}

/// `PATH` with `directory` before all else.
pub fn path(directory: &Path) -> OsString {
    let mut path = OsString::from(directory);
    if let Some(usual) = std::env::var_os("PATH") {
        path.push(":");
        path.push(usual);
    }
    path
}

/// What starts the tree's CRIU: by its own loader, since this Debian's C library may be too old for it.
fn wrapper(tree: &Path) -> Result<String> {
    let architecture = std::env::consts::ARCH;
    let loader = match architecture {
        "x86_64" => "lib64/ld-linux-x86-64.so.2",
        "aarch64" => "lib/ld-linux-aarch64.so.1",
        other => {
            return Err(Failure::new(format!(
                "the loader of {other} is not known here"
            )));
        }
    };
    Ok(format!(
        "#!/bin/sh\nexec '{tree}/{loader}' --library-path '{tree}/usr/lib/{architecture}-linux-gnu' '{tree}/usr/sbin/criu' \"$@\"\n",
        tree = tree.display()
    ))
}
