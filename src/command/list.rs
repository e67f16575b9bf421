// SPDX-License-Identifier: Apache-2.0
//! `corten list`: all containers, as a table, as JSON, or their IDs alone.
//!
//! Reads the store, and for each container what `state` reads; changes nothing. A container whose record can't be read
//! is listed as what it is, and hides no other.

use super::state::{self, Owners, State};
use crate::cli::meant::{ListArgs, Origin};
use crate::cli::report::Log;
use crate::error::{Kind, Result};
use crate::store::{ContainerId, Store};

/// Between the columns.
const GAP: usize = 3;
/// The narrowest cell with its gap, as runc's tables have it.
const NARROWEST: usize = 12;

/// The list as text.
pub(super) fn list(store: &Store, root: Origin, args: ListArgs, log: &Log) -> Result<String> {
    let ids = match store.ids() {
        // Before the first container there is no default root; one that the user names should be there.
        Err(error) if error.kind() == Kind::NotFound && root == Origin::Default => Vec::new(),
        ids => ids?,
    };
    match args {
        ListArgs::Ids => Ok(ids.iter().map(|id| format!("{id}\n")).collect()),
        ListArgs::Table => {
            let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
            let mut rows = vec![header];
            each(store, &ids, log, |state| {
                rows.push(state.cells());
                Ok(())
            })?;
            Ok(table(&rows))
        }
        ListArgs::Json => {
            let mut states = Vec::new();
            each(store, &ids, log, |state| {
                states.push(serde_json::to_string(&state).map_err(state::not_text)?);
                Ok(())
            })?;
            Ok(format!("[{}]\n", states.join(",")))
        }
    }
}

/// Gives `show` the state of each container that is still there.
fn each(
    store: &Store,
    ids: &[ContainerId],
    log: &Log,
    mut show: impl FnMut(State<'_>) -> Result<()>,
) -> Result<()> {
    let owners = Owners::default();
    for id in ids {
        let container = match store.load(id) {
            Ok(container) => container,
            // Removed since the directory was read, or not written down yet.
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => {
                log.warn(error);
                show(State::unknown(id))?;
                continue;
            }
        };
        match State::of(&container, &owners) {
            Ok(state) => show(state)?,
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => {
                log.warn(error);
                show(State::unknown(id))?;
            }
        }
    }
    Ok(())
}

/// Aligned columns; the last is not padded.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        (widest.unwrap_or_default() + GAP).max(NARROWEST)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let (last, cells) = row.split_last().unwrap_or((&row[0], &[]));
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_as_runcs() {
        let row = |cells: [&str; 6]| cells.map(String::from);
        let rows = [
            row(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]),
            row([
                "t1",
                "15041",
                "running",
                "/tmp/rcheck/b",
                "2026-11-21T08:03:19.210674599Z",
                "root",
            ]),
        ];
        assert_eq!(
            table(&rows),
            "ID          PID         STATUS      BUNDLE          CREATED                          OWNER\n\
             t1          15041       running     /tmp/rcheck/b   2026-11-21T08:03:19.210674599Z   root\n"
        );
        assert_eq!(
            table(&rows[..1]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }
}
