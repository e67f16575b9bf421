// SPDX-License-Identifier: Apache-2.0
//! The container of an image made into one of a RUN.
//!
//! Pure; called by `run`.

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, PosixRlimitBuilder, PosixRlimitType, RootBuilder, Spec};

use super::surroundings::{Given, Surroundings};
use crate::error::{Error, Result};

/// Changes `spec`: the user's mounts are its last ones.
pub(super) fn adapt(mut spec: Spec, given: &[Given], surroundings: &Surroundings) -> Result<Spec> {
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(false)
        .build();
    spec.set_root(Some(root.map_err(failed)?));
    // Labels are for those who run the image; a runtime takes some annotations for orders.
    spec.set_annotations(None);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.retain(|mount| {
        !given
            .iter()
            .any(|given| *mount.destination() == given.destination)
    });
    if let Some(size) = surroundings.shm_size {
        mounts
            .iter_mut()
            .for_each(|mount| set_shm_size(mount, size));
    }
    mounts.extend(given.iter().map(mount_of));
    spec.set_mounts(Some(mounts));
    set_limits(&mut spec, surroundings)?;
    Ok(spec)
}

fn failed(error: OciSpecError) -> Error {
    Error::invalid(error.to_string())
}

fn mount_of(given: &Given) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(given.destination.clone());
    mount.set_typ(Some(given.kind.to_owned()));
    mount.set_source(Some(given.source.clone()));
    mount.set_options(Some(given.options.clone()));
    mount
}

fn set_shm_size(mount: &mut Mount, size: u64) {
    if mount.destination() != std::path::Path::new("/dev/shm") {
        return;
    }
    let mut options = mount.options().clone().unwrap_or_default();
    options.retain(|option| !option.starts_with("size="));
    options.push(format!("size={size}"));
    mount.set_options(Some(options));
}

fn set_limits(spec: &mut Spec, surroundings: &Surroundings) -> Result<()> {
    let Some(mut process) = spec.process().clone() else {
        return Ok(());
    };
    let mut limits = Vec::new();
    for limit in &surroundings.ulimits {
        let kind: PosixRlimitType = serde_json::from_value(limit.name.clone().into())
            .map_err(|error| Error::invalid(format!("--ulimit: {error}")))?;
        let limit = PosixRlimitBuilder::default()
            .typ(kind)
            .soft(limit.soft)
            .hard(limit.hard)
            .build();
        limits.push(limit.map_err(failed)?);
    }
    if !limits.is_empty() {
        process.set_rlimits(Some(limits));
        spec.set_process(Some(process));
    }
    Ok(())
}
