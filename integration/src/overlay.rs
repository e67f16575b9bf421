// SPDX-License-Identifier: Apache-2.0
//! Overlays, as engines make rootfs of them. Who mounts one ends it, too.

use std::ffi::CString;
use std::path::Path;

use rustix::mount::MountFlags;

/// Mounts the tree `lower` at `merged`; what is changed there goes to `upper`, `work` is the kernel's.
pub fn overlay(lower: &Path, [upper, work]: [&Path; 2], merged: &Path) {
    let [lower, upper, work] = [lower, upper, work].map(|path| path.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let options = CString::new(options).unwrap();
    let flags = MountFlags::empty();
    rustix::mount::mount(
        "overlay",
        merged,
        "overlay",
        flags,
        Some(options.as_c_str()),
    )
    .unwrap_or_else(|e| panic!("mount an overlay at {}: {e}", merged.display()));
}
