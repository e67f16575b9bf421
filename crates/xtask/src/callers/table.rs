// SPDX-License-Identifier: Apache-2.0
//! What came of it: a row for each action, a column for each runtime and shim; on the terminal, and in docs/callers.md.

use std::fs;

use super::script::{Action, Excuse, Script};
use crate::failure::{Context, Failure, Result};
use crate::workspace;

/// By whom a caller has its work done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// corten, called by runc's shim where there is one.
    Corten,
    /// runc, called in the same way.
    Runc,
    /// corten, called by its own shim.
    Shim,
}

impl Column {
    /// As scripts have it, in NAME and in their excuses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Corten => "corten",
            Self::Runc => "runc",
            Self::Shim => "shim",
        }
    }

    /// As tables have it.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Corten => "corten",
            Self::Runc => "runc",
            Self::Shim => "corten with its own shim",
        }
    }
}

/// How an action ended in one column.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    action: String,
    is_done: bool,
}

/// An action, and how it ended in each column.
#[derive(Debug)]
pub struct Row {
    action: String,
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    is_done: bool,
    excuse: Option<Excuse>,
}

/// Reads what a world has written: `ok` or `failed`, a tab, the action's name.
pub fn verdicts(text: &str) -> Result<Vec<Verdict>> {
    let line = |line: &str| {
        let (word, action) = line.split_once('\t')?;
        let is_done = ["failed", "ok"].iter().position(|known| *known == word)? == 1;
        let action = action.to_owned();
        Some(Verdict { action, is_done })
    };
    text.lines()
        .map(|text| line(text).ok_or_else(|| Failure::new(format!("no result: {text:?}"))))
        .collect()
}

/// The columns side by side; an action that was left out has no row.
pub fn rows(script: &Script, view: &str, columns: &[(Column, Vec<Verdict>)]) -> Vec<Row> {
    let row = |action: &Action| {
        let cell = |(column, verdicts): &(Column, Vec<Verdict>)| {
            let mut verdicts = verdicts.iter();
            let verdict = verdicts.find(|verdict| verdict.action == action.name)?;
            Some(Cell {
                is_done: verdict.is_done,
                excuse: action.excuse(column.name(), view).cloned(),
            })
        };
        Some(Row {
            action: action.name.clone(),
            cells: columns.iter().map(cell).collect::<Option<_>>()?,
        })
    };
    script.actions.iter().filter_map(row).collect()
}

impl Cell {
    /// It must end as is listed, and a reason must not outlive its failure.
    fn is_wrong(&self) -> bool {
        match &self.excuse {
            None => !self.is_done,
            Some(excuse) => self.is_done && !excuse.is_unsteady,
        }
    }

    fn shown(&self) -> String {
        match (self.is_done, &self.excuse) {
            (true, None) => "yes".into(),
            (true, Some(excuse)) if excuse.is_unsteady => {
                format!("not always: {}", excuse.reason)
            }
            (true, Some(excuse)) => format!("yes, but listed: {}", excuse.reason),
            (false, Some(excuse)) => format!("no: {}", excuse.reason),
            (false, None) => "**no**".into(),
        }
    }
}

impl Row {
    /// Whether a cell differs from what is listed.
    pub fn is_wrong(&self) -> bool {
        self.cells.iter().any(Cell::is_wrong)
    }

    /// As a row of the table.
    pub fn shown(&self) -> String {
        let cells = self.cells.iter().map(Cell::shown);
        line(std::iter::once(self.action.clone()).chain(cells))
    }
}

/// The rows with their heading.
pub fn whole(columns: &[Column], rows: &[Row]) -> String {
    let headings = columns.iter().map(|column| column.heading().to_owned());
    let heading = line(std::iter::once("action".to_owned()).chain(headings));
    let table: String = rows.iter().map(|row| row.shown() + "\n").collect();
    format!("{heading}\n|{}\n{table}", "---|".repeat(columns.len() + 1))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell} |")).collect();
    format!("|{cells}")
}

/// Puts the table into docs/callers.md, between the two comments that bear its name.
pub fn write(name: &str, table: &str) -> Result<()> {
    let path = workspace::root().join("docs/callers.md");
    let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    let new = replaced(&text, name, table).context(|| format!("write {}", path.display()))?;
    fs::write(&path, new).context(|| format!("write {}", path.display()))
}

fn replaced(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{table}{end}{after}"))
    });
    parts.ok_or_else(|| Failure::new(format!("no place for a table called {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str =
        "== set up\nx\n== a\nx\n== b\n#? runc: old\nx\n== c\n#? runc: gone\n#? shim: late\nx\n";

    #[test]
    fn a_row_is_wrong_where_it_differs_from_what_is_listed() {
        let script = Script::parse(SCRIPT).unwrap();
        let columns = [
            (Column::Corten, "ok\ta\nok\tb\nfailed\tc\n"),
            (Column::Runc, "ok\ta\nfailed\tb\nok\tc\n"),
            (Column::Shim, "ok\ta\nok\tb\nfailed\tc\n"),
        ];
        let columns = columns.map(|(column, text)| (column, verdicts(text).unwrap()));
        let rows = rows(&script, "host", &columns);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.shown(), row.is_wrong()))
            .collect();
        assert_eq!(
            shown,
            [
                ("| a | yes | yes | yes |".into(), false),
                ("| b | yes | no: old | yes |".into(), false),
                (
                    "| c | **no** | yes, but listed: gone | no: late |".into(),
                    true
                ),
            ]
        );
        let heading = "| action | corten | runc |\n|---|---|---|\n";
        assert_eq!(whole(&[Column::Corten, Column::Runc], &[]), heading);
        assert!(verdicts("maybe\ta\n").is_err());
    }

    #[test]
    fn a_table_takes_the_place_of_the_former_one() {
        let text = "x\n<!-- a host -->\nold\n<!-- end of a host -->\ny\n";
        let new = "x\n<!-- a host -->\nnew\n<!-- end of a host -->\ny\n";
        assert_eq!(replaced(text, "a host", "new\n").unwrap(), new);
        assert!(replaced(text, "b host", "new\n").is_err());
    }
}
