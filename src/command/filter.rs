// SPDX-License-Identifier: Apache-2.0
//! The seccomp filter of a container: compiled once, kept with the container for `exec`, and in a cache by content for
//! the next container of the same profile. Used by `create`, `run` and `exec`.

use std::hash::{Hash, Hasher};

use crate::bundle;
use crate::bundle::spec::Spec;
use crate::error::{Context, Result};
use crate::plan::filter::Filter;
use crate::seccomp::model::{Profile, Wanted};
use crate::seccomp::tables::Arch;
use crate::seccomp::{self, Program};
use crate::store::{Container, Store};

/// The filter that the document asks for, compiled.
pub(super) fn compiled(store: &Store, spec: &Spec) -> Result<Option<Filter>> {
    let Some(wanted) = wanted(spec) else {
        return Ok(None);
    };
    let native = Arch::native();
    let key = key(&wanted.profile, native);
    let cached = store.cached_filter(&key);
    // A program that can't be one is compiled anew, as if it had not been there.
    if let Some(Ok(program)) = cached.as_deref().map(Program::from_bytes) {
        return Ok(Some(filter(wanted, program)));
    }
    let program = seccomp::compile(&wanted.profile, native)
        .context("compile the seccomp profile")
        .at(|| "/linux/seccomp".to_owned())?;
    // The cache saves time only: a disk that is full must not keep a container from starting.
    store.cache_filter(&key, &program.to_bytes()).ok();
    Ok(Some(filter(wanted, program)))
}

/// The filter that the container was made with.
pub(super) fn stored(container: &Container, spec: &Spec) -> Result<Option<Filter>> {
    let Some(wanted) = wanted(spec) else {
        return Ok(None);
    };
    let program = Program::from_bytes(&container.filter()?)?;
    Ok(Some(filter(wanted, program)))
}

fn wanted(spec: &Spec) -> Option<Wanted> {
    let section = spec.linux.as_ref()?.seccomp.as_ref()?;
    Some(bundle::wanted_filter(section))
}

fn filter(wanted: Wanted, program: Program) -> Filter {
    Filter {
        program,
        flags: wanted.flags,
        listener: wanted.listener,
    }
}

/// Everything that a compiled program depends on, as bytes.
fn key(profile: &Profile, native: Arch) -> Vec<u8> {
    let mut key = Key(Vec::with_capacity(16 << 10));
    (env!("CARGO_PKG_VERSION"), seccomp::VERSION, native, profile).hash(&mut key);
    key.0
}

/// Keeps what it is given instead of making a number of it.
struct Key(Vec<u8>);

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Never asked for.
    fn finish(&self) -> u64 {
        0
    }
}
