// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask check`: all that can be said of the tree without running it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::failure::{Context, Failure, Result};
use crate::{command, report, workspace};

/// The manifest of the fuzz targets, which are a workspace of their own.
const FUZZ: &str = "fuzz/Cargo.toml";

/// Formatting, lints, file headers, table of dependencies; stops at the first that fails.
pub fn run() -> Result<()> {
    report::step("formatting");
    command::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    command::run(workspace::cargo().args(["fmt", "--manifest-path", FUZZ, "--check"]))?;
    report::step("lints");
    command::run(workspace::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    fuzz_lints()?;
    report::step("file headers");
    headers()?;
    report::step("docs/dependencies.md");
    dependencies()?;
    report::step("links");
    links()
}

/// The fuzz targets are checked with our own compiler, which can't build them: nothing is linked, so libFuzzer, which
/// takes a C++ compiler, is only said to be somewhere.
fn fuzz_lints() -> Result<()> {
    let mut clippy = workspace::cargo();
    clippy.env("CUSTOM_LIBFUZZER_PATH", "/nonexistent/libfuzzer.a");
    clippy.args(["clippy", "--manifest-path", FUZZ, "--target-dir"]);
    clippy.arg(workspace::target()?);
    command::run(clippy.args(["--locked", "--", "-D", "warnings"]))
}

/// Every source file that git knows starts with the licence and says what it is.
fn headers() -> Result<()> {
    let files = tracked("*.rs")?;
    let bare: Vec<&str> = files
        .iter()
        .filter(|(_, text)| !has_header(text))
        .map(|(file, _)| file.as_str())
        .collect();
    report::line(format!("{} source files", files.len()));
    if bare.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "no SPDX line followed by a //! header in {}",
        bare.join(", ")
    )))
}

/// Every relative link of the documents leads to something.
fn links() -> Result<()> {
    let root = workspace::root();
    let mut dead = Vec::new();
    for (file, text) in tracked("*.md")? {
        let home = root.join(&file);
        let home = home.parent().unwrap_or(&root);
        let broken = relative_links(&text)
            .into_iter()
            .filter(|link| !home.join(link).exists());
        dead.extend(broken.map(|link| format!("{file}: {link}")));
    }
    if dead.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("dead links: {}", dead.join(", "))))
}

/// The targets of `[text](target)` that are paths, without their fragments.
fn relative_links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let paths = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    paths
        .map(|target| target.split('#').next().unwrap_or(target))
        .collect()
}

/// The files that git knows by this pattern and that are there, with their text.
fn tracked(pattern: &str) -> Result<Vec<(String, String)>> {
    let root = workspace::root();
    let mut git = std::process::Command::new("git");
    let listing = command::captured(git.current_dir(&root).args(["ls-files", pattern]))?;
    let files = listing.lines().filter(|file| root.join(file).exists());
    files
        .map(|file| {
            Ok((
                file.to_owned(),
                fs::read_to_string(root.join(file)).context(|| format!("read {file}"))?,
            ))
        })
        .collect()
}

/// Whether a source file opens with the SPDX line and a `//!` header.
fn has_header(text: &str) -> bool {
    let mut lines = text.lines();
    lines.next() == Some("// SPDX-License-Identifier: Apache-2.0")
        && lines.next().is_some_and(|line| line.starts_with("//!"))
}

/// Every direct dependency has a row in docs/dependencies.md, and every row is a dependency.
fn dependencies() -> Result<()> {
    let path = Path::new("docs/dependencies.md");
    let text = fs::read_to_string(workspace::root().join(path))
        .context(|| format!("read {}", path.display()))?;
    let mut used = direct_dependencies(&workspace::metadata()?);
    used.extend(direct_dependencies(&workspace::metadata_of(FUZZ)?));
    let listed = rows(&text);
    let unlisted: Vec<&str> = used.difference(&listed).map(String::as_str).collect();
    let unused: Vec<&str> = listed.difference(&used).map(String::as_str).collect();
    report::line(format!("{} direct dependencies", used.len()));
    if !unlisted.is_empty() {
        return Err(Failure::new(format!(
            "no row in {} for {}",
            path.display(),
            unlisted.join(", ")
        )));
    }
    if !unused.is_empty() {
        return Err(Failure::new(format!(
            "{} has rows that nothing depends on: {}",
            path.display(),
            unused.join(", ")
        )));
    }
    Ok(())
}

/// The crates from outside that some package of the workspace names.
fn direct_dependencies(metadata: &Value) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let all = packages.flat_map(|package| package["dependencies"].as_array().into_iter().flatten());
    let foreign = all.filter(|dependency| dependency["path"].is_null());
    foreign
        .filter_map(|dependency| dependency["name"].as_str())
        .map(str::to_owned)
        .collect()
}

/// The crates of the table whose first column is headed `crate`: rows that start with a name in backquotes.
fn rows(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        let first = line
            .strip_prefix('|')
            .and_then(|row| row.split('|').next())
            .map(str::trim);
        match first {
            None => inside = false,
            Some("crate") => inside = true,
            Some(cell) if inside => names.extend(cell.split('`').nth(1).map(str::to_owned)),
            Some(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_licence_and_a_purpose() {
        let cases = [
            ("// SPDX-License-Identifier: Apache-2.0\n//! What.\n", true),
            ("// SPDX-License-Identifier: Apache-2.0\nfn f() {}\n", false),
            ("//! What.\n", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(has_header(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_paths_are_links_to_follow() {
        let text = "[a](docs/a.md) [b](https://b.example) [c](#c) [d](d.md#part)";
        assert_eq!(relative_links(text), ["docs/a.md", "d.md"]);
    }

    #[test]
    fn only_rows_of_the_crate_table_count() {
        let text = "| crate | for |\n|---|---|\n| `clap` | x |\n| `serde` | y |\n\n| other | x |\n|---|---|\n| `no` | z |\n";
        assert_eq!(
            rows(text),
            BTreeSet::from(["clap".to_owned(), "serde".to_owned()])
        );
    }

    #[test]
    fn path_dependencies_need_no_row() {
        let metadata = serde_json::json!({"packages": [{"dependencies": [
            {"name": "own", "path": "/x"}, {"name": "clap", "path": null}, {"name": "dev", "kind": "dev"}]}]});
        assert_eq!(
            direct_dependencies(&metadata),
            BTreeSet::from(["clap".to_owned(), "dev".to_owned()])
        );
    }
}
