// SPDX-License-Identifier: Apache-2.0
//! What a caller is made to do: a file of `integration/callers`, read. Pure.
//!
//! Shell, in parts that begin with a heading:
//!
//! ```text
//! == prints and ends with its status
//! #? runc: why it fails there
//! test "$(podman run --rm busy echo hello)" = hello
//! ```
//!
//! What stands before the first heading is run before each action, in the same shell. A line `#? RUNTIME: REASON` says
//! that the action fails under that runtime (`shim` is corten called by its own shim), `#? RUNTIME@VIEW: REASON` in one
//! view alone; it must fail then. One that
//! fails now and then has `#~` in place of `#?`.
//! The actions `set up` and `take down` are no rows of the table: without the first there is nothing to try.

use crate::failure::{Failure, Result};

/// Before the first action, and after the last one.
pub const SET_UP: &str = "set up";
/// The same.
pub const TAKE_DOWN: &str = "take down";

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    prelude: String,
    /// In the order of the file.
    pub actions: Vec<Action>,
}

/// One thing that the caller does.
#[derive(Debug, PartialEq, Eq)]
pub struct Action {
    /// Its heading.
    pub name: String,
    text: String,
    excuses: Vec<Excuse>,
}

/// Why an action fails under a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    runtime: String,
    view: Option<String>,
    /// In the words of the file.
    pub reason: String,
    /// Whether it may pass all the same.
    pub is_unsteady: bool,
}

impl Script {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut script = Self {
            prelude: String::new(),
            actions: Vec::new(),
        };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("== ") {
                script.actions.push(Action::new(name.trim())?);
                continue;
            }
            match script.actions.last_mut() {
                Some(action) => action.take(line)?,
                None => push_line(&mut script.prelude, line),
            }
        }
        script.check()?;
        Ok(script)
    }

    fn check(&self) -> Result<()> {
        let names: Vec<&str> = self.actions.iter().map(|a| a.name.as_str()).collect();
        if !names.contains(&SET_UP) {
            return Err(Failure::new(format!("no action is called {SET_UP:?}")));
        }
        let twice = (1..names.len()).find(|at| names[..*at].contains(&names[*at]));
        if let Some(at) = twice {
            return Err(Failure::new(format!(
                "two actions are called {:?}",
                names[at]
            )));
        }
        let empty = self.actions.iter().find(|a| a.text.trim().is_empty());
        empty.map_or(Ok(()), |action| {
            Err(Failure::new(format!("{:?} does nothing", action.name)))
        })
    }

    /// What a shell is given to carry out the action.
    pub fn shell(&self, action: &Action) -> String {
        format!("{}{}", self.prelude, action.text)
    }
}

impl Action {
    fn new(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains('|') {
            return Err(Failure::new(format!("no name of an action: {name:?}")));
        }
        Ok(Self {
            name: name.into(),
            text: String::new(),
            excuses: Vec::new(),
        })
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let excuse = ["#? ", "#~ "]
            .iter()
            .find_map(|mark| line.strip_prefix(mark));
        match excuse {
            Some(excuse) => {
                let is_unsteady = line.starts_with("#~");
                self.excuses.push(Excuse::parse(excuse, is_unsteady)?);
            }
            // A shell that ends at the first failure passes such a line by, whatever becomes of it.
            None if line.starts_with("! ") => {
                let text = format!(
                    "{:?}: a line that begins with `!` can't fail; say `not`",
                    self.name
                );
                return Err(Failure::new(text));
            }
            None => push_line(&mut self.text, line),
        }
        Ok(())
    }

    /// Whether it is a row of the table.
    pub fn counts(&self) -> bool {
        self.name != SET_UP && self.name != TAKE_DOWN
    }

    /// Why it fails there, if it does.
    pub fn excuse(&self, runtime: &str, view: &str) -> Option<&Excuse> {
        self.excuses.iter().find(|excuse| {
            let here = excuse.view.as_deref().is_none_or(|only| only == view);
            excuse.runtime == runtime && here
        })
    }
}

impl Excuse {
    fn parse(text: &str, is_unsteady: bool) -> Result<Self> {
        let parts = text.split_once(": ");
        let Some((who, reason)) = parts.filter(|(_, reason)| !reason.trim().is_empty()) else {
            return Err(Failure::new(format!(
                "want `#? RUNTIME: REASON`, not {text:?}"
            )));
        };
        let (runtime, view) = match who.split_once('@') {
            Some((runtime, view)) => (runtime, Some(view.to_owned())),
            None => (who, None),
        };
        Ok(Self {
            runtime: runtime.into(),
            view,
            reason: reason.trim().into(),
            is_unsteady,
        })
    }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# about it\nP=x\n== set up\nmake\n== runs\n#? runc: can't\n#~ corten@sid: old\n$P run\n";

    #[test]
    fn a_script_is_a_prelude_and_actions() {
        let script = Script::parse(TEXT).unwrap();
        let runs = &script.actions[1];
        assert_eq!(script.shell(runs), "# about it\nP=x\n$P run\n");
        assert_eq!(
            script
                .actions
                .iter()
                .map(Action::counts)
                .collect::<Vec<_>>(),
            [false, true]
        );
        for (runtime, view, wanted) in [
            ("runc", "host", Some("can't")),
            ("runc", "sid", Some("can't")),
            ("corten", "sid", Some("old")),
            ("corten", "host", None),
            ("crun", "sid", None),
        ] {
            let excuse = runs.excuse(runtime, view);
            let reason = excuse.map(|excuse| excuse.reason.as_str());
            assert_eq!(reason, wanted, "{runtime} {view}");
            assert!(excuse.is_none_or(|excuse| excuse.is_unsteady == (runtime == "corten")));
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for (text, wanted) in [
            ("== runs\nx\n", "no action is called \"set up\""),
            (
                "== set up\nx\n== a\nx\n== a\nx\n",
                "two actions are called \"a\"",
            ),
            ("== set up\nx\n== a\n\n", "\"a\" does nothing"),
            (
                "== set up\n#? runc\nx\n",
                "want `#? RUNTIME: REASON`, not \"runc\"",
            ),
            ("== a|b\nx\n", "no name of an action: \"a|b\""),
            (
                "== set up\n! x\n",
                "\"set up\": a line that begins with `!` can't fail; say `not`",
            ),
        ] {
            assert_eq!(Script::parse(text).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn those_of_the_tree_are_read() {
        let directory = crate::workspace::root().join("integration/callers");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "sh") {
                let text = std::fs::read_to_string(&path).unwrap();
                Script::parse(&text).unwrap_or_else(|failure| panic!("{path:?}: {failure}"));
                count += 1;
            }
        }
        assert_eq!(count, 6);
    }
}
