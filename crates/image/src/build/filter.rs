// SPDX-License-Identifier: Apache-2.0
//! Which files of a source a COPY takes: `--exclude`, and the patterns of `--parents`.
//!
//! Pure; called by `transfer` and `source`.

use std::path::{Path, PathBuf};

use super::tree::normalize;
use crate::dockerfile::glob::{Glob, is_pattern};
use crate::dockerfile::ignore::{Ignore, parents_and_self};
use crate::error::{Error, Result};

/// What is taken of a source. Paths are relative to it.
#[derive(Debug, Default)]
pub struct Filter {
    exclude: Ignore,
    /// None: all.
    include: Option<Include>,
}

/// A path or pattern below a source.
#[derive(Debug)]
struct Include {
    glob: Glob,
    /// Its first components, as far as they are no patterns: nothing else needs to be looked at.
    start: PathBuf,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// It is not, nor is anything in it.
    Leave,
    /// It is taken if something in it is.
    IfNeeded,
}

impl Filter {
    /// With the patterns of `--exclude`.
    pub fn excluding(patterns: &[String]) -> Result<Self> {
        let exclude = Ignore::patterns(patterns);
        Ok(Self {
            exclude: exclude.map_err(|error| Error::invalid(format!("--exclude: {error}")))?,
            include: None,
        })
    }

    /// Of a source that keeps its parents: what `pattern` matches.
    pub fn including(patterns: &[String], pattern: &str) -> Result<Self> {
        let path = normalize(pattern)?;
        let text = path.to_string_lossy();
        let start = path
            .iter()
            .take_while(|part| !is_pattern(&part.to_string_lossy()));
        let include = Include {
            glob: Glob::ignore(&text).map_err(|error| Error::invalid(error.to_string()))?,
            start: start.collect(),
        };
        Ok(Self {
            // The whole is what an empty pattern means.
            include: (!text.is_empty()).then_some(include),
            ..Self::excluding(patterns)?
        })
    }

    /// What becomes of the file at `path`, which is not empty.
    pub fn verdict(&self, path: &Path) -> Verdict {
        let text = path.to_string_lossy();
        if self.exclude.excludes(&text) {
            return match self.exclude.has_exceptions() {
                true => Verdict::IfNeeded,
                false => Verdict::Leave,
            };
        }
        match &self.include {
            None => Verdict::Take,
            Some(include) if parents_and_self(&text).any(|path| include.glob.matches(path)) => {
                Verdict::Take
            }
            Some(include)
                if include.start.starts_with(path) || path.starts_with(&include.start) =>
            {
                Verdict::IfNeeded
            }
            Some(_) => Verdict::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Verdict::{IfNeeded, Leave, Take};
        for (excludes, include, path, expected) in [
            (&[][..], "", "a/b", Take),
            (&["*.txt"][..], "", "a.txt", Leave),
            (&["*.txt"], "", "d/a.txt", Take),
            (&["**/*.txt"], "", "d/a.txt", Leave),
            (&["d"], "", "d/a.txt", Leave),
            (&["d", "!d/keep"], "", "d", IfNeeded),
            (&["d", "!d/keep"], "", "d/keep", Take),
            (&["d", "!d/keep"], "", "d/other", IfNeeded),
            (&[], "x/a.txt", "x", IfNeeded),
            (&[], "x/a.txt", "x/a.txt", Take),
            (&[], "x/a.txt", "x/b.txt", Leave),
            (&[], "x/a.txt", "y", Leave),
            (&[], "x", "x/y/z", Take),
            (&[], "x/*.txt", "x/a.txt", Take),
            (&[], "x/*.txt", "x/d", IfNeeded),
            (&[], "**/f", "a/b/f", Take),
            (&[], "**/f", "a/b", IfNeeded),
            (&["**/g"], "x", "x/g", Leave),
        ] {
            let excludes: Vec<String> = excludes.iter().map(|text| (*text).to_owned()).collect();
            let filter = Filter::including(&excludes, include).unwrap();
            let found = filter.verdict(Path::new(path));
            assert_eq!(found, expected, "{excludes:?} {include:?} {path}");
        }
    }
}
