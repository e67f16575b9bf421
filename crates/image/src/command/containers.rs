// SPDX-License-Identifier: Apache-2.0
//! Containers as the command line names them; and what must be said of them whatever the verb is.

use corten_image::containers::lost::{self, Settled, settle};
use corten_image::containers::{self, Container};
use corten_image::{Error, Kind, Result, Store};

/// The container that `name` means. If it was lost that is said, and what was left of it is put away.
pub fn find(store: &Store, name: &str) -> Result<Container> {
    let container = containers::find(store, name)?;
    settled(store, container)?.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("there is no container {name} any more"),
        )
    })
}

/// As [`find`], of a container that is at hand; `None` if it went.
pub fn settled(store: &Store, container: Container) -> Result<Option<Container>> {
    let shown = container.shown().to_owned();
    let (found, container) = settle(store, container)?;
    say(&shown, &found);
    Ok(container)
}

/// Looks at all containers before another one starts: what a lost one still has (a port, a name) is free then. One that
/// can't be put away is no reason not to start another.
pub fn settle_all(store: &Store) -> Result<()> {
    for (shown, settled) in lost::settle_all(store)? {
        match settled {
            Ok(settled) => say(&shown, &settled),
            Err(error) => super::note(&error.to_string()),
        }
    }
    Ok(())
}

/// Says what was found out of a container, if it is worth it.
/// What came of looking for an image of the name `name`, which is no container's.
pub fn neither<T>(name: &str, found: Result<T>) -> Result<T> {
    found.map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(
            Kind::NotFound,
            format!("there is no container {name}, and {error}"),
        ),
        _ => error,
    })
}

fn say(shown: &str, settled: &Settled) {
    match settled {
        Settled::Sound => {}
        Settled::Lost => super::note(&format!(
            "container {shown} was lost: its supervisor was killed; what was left of it was put away"
        )),
        Settled::Removed => super::note(&format!(
            "container {shown} was lost: its supervisor was killed; it was removed, as --rm asked for"
        )),
    }
}

/// Does something with each of `names`; the first failure is the verb's, the others are said, and none keeps the rest
/// from having their turn.
pub fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut first = None;
    for name in names {
        match (act(name), &first) {
            (Ok(()), _) => {}
            (Err(error), None) => first = Some(error),
            (Err(error), Some(_)) => super::note(&error.to_string()),
        }
    }
    first.map_or(Ok(()), Err)
}
