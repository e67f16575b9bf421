// SPDX-License-Identifier: Apache-2.0
//! File systems that a program serves: `fuse3.fuse-overlayfs` is mounted by `mount.fuse3 … -t fuse-overlayfs`, as
//! containerd has it.
//!
//! The helper runs with the shim's privileges, and leaves the program that serves the file system behind. Called by the
//! rest of `rootfs` only.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::types::mount::Mount;
use corten_sys::process::Exit;
use corten_sys::spawn;

use crate::error::{Code, Error, Result};

/// How long a helper may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much of a failed one's words the error quotes.
const QUOTED_OUTPUT: usize = 1024;

/// A program, and the type that it is called with.
#[derive(Debug, PartialEq, Eq)]
pub struct Helper<'a> {
    program: &'static str,
    kind: &'a str,
}

/// Who mounts the type `kind`; `None` for the kernel.
pub fn helper(kind: &str) -> Option<Helper<'_>> {
    let helpers = [("fuse.", "mount.fuse"), ("fuse3.", "mount.fuse3")];
    helpers.into_iter().find_map(|(prefix, program)| {
        let kind = kind.strip_prefix(prefix)?;
        Some(Helper { program, kind })
    })
}

/// Has `mount` mounted on `target`.
pub fn mount(helper: &Helper<'_>, mount: &Mount, target: &Path) -> Result<()> {
    let program = helper.program;
    let failed = |text: &str| Error::new(Code::Unknown, format!("{program}: {text}"));
    let path = spawn::find(program).ok_or_else(|| failed("not found in $PATH"))?;
    let mut args = vec![program.to_owned(), mount.source.clone()];
    args.push(target.to_string_lossy().into_owned());
    for option in &mount.options {
        args.extend(["-o".to_owned(), option.clone()]);
    }
    args.extend(["-t".to_owned(), helper.kind.to_owned()]);
    let search = std::env::var("PATH").map(|path| format!("PATH={path}"));
    let env: Vec<String> = search.into_iter().collect();
    let (exit, output) = spawn::run(&path, &args, &env, DEADLINE)?;
    if exit == Some(Exit::Code(0)) {
        return Ok(());
    }
    let said = spawn::tail(output.as_fd(), QUOTED_OUTPUT)?;
    let said = String::from_utf8_lossy(&said);
    Err(failed(exit.map_or("killed after 10 s", |_| said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_types_have_helpers() {
        for (kind, wanted) in [
            ("fuse.sshfs", Some(("mount.fuse", "sshfs"))),
            (
                "fuse3.fuse-overlayfs",
                Some(("mount.fuse3", "fuse-overlayfs")),
            ),
            ("fuse", None),
            ("fuse3", None),
            ("overlay", None),
        ] {
            let found = helper(kind).map(|helper| (helper.program, helper.kind));
            assert_eq!(found, wanted, "{kind}");
        }
    }
}
