// SPDX-License-Identifier: Apache-2.0
//! Words of instructions expanded, with errors that name them.
//!
//! Pure; called by `stage` and `settings`.

use crate::dockerfile::scope::Scope;
use crate::dockerfile::word::{self, Variables};
use crate::dockerfile::{Source, Transfer};
use crate::error::{Error, Result};

/// `word` expanded, with the error that says which.
pub fn expand(word: &str, escape: char, variables: &dyn Variables) -> Result<String> {
    word::expand(word, escape, variables)
        .map_err(|error| Error::invalid(format!("{word:?}: {error}")))
}

pub fn expand_transfer(transfer: &Transfer, escape: char, scope: &Scope) -> Result<Transfer> {
    let expand = |word: &str| expand(word, escape, scope);
    let optional = |word: &Option<String>| word.as_deref().map(expand).transpose();
    let mut sources = Vec::new();
    for source in &transfer.sources {
        sources.push(match source {
            Source::Path(path) => Source::Path(non_empty(expand(path)?, "source")?),
            Source::Inline {
                name,
                text,
                expand: true,
            } => Source::Inline {
                name: name.clone(),
                text: word::expand_text(text, escape, scope)
                    .map_err(|error| Error::invalid(format!("here-document {name}: {error}")))?,
                expand: false,
            },
            inline => inline.clone(),
        });
    }
    Ok(Transfer {
        from: transfer.from.clone(),
        chown: optional(&transfer.chown)?,
        chmod: optional(&transfer.chmod)?,
        base: transfer.base,
        parents: transfer.parents,
        excludes: transfer
            .excludes
            .iter()
            .map(|word| expand(word))
            .collect::<Result<_>>()?,
        checksum: optional(&transfer.checksum)?,
        unpack: transfer.unpack,
        sources,
        dest: non_empty(expand(&transfer.dest)?, "destination")?,
    })
}

fn non_empty(word: String, what: &str) -> Result<String> {
    match word.is_empty() {
        true => Err(Error::invalid(format!("the {what} is empty"))),
        false => Ok(word),
    }
}
