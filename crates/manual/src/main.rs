// SPDX-License-Identifier: Apache-2.0
//! Writes corten's man pages and shell completions into a directory: `man1/corten.1`, one page a verb beside it, and
//! `completions/`. Flags and their words come from the table that corten itself parses with; what a flag's line can't say
//! is in `sections`. Called by `cargo xtask dist`.
#![forbid(unsafe_code)]

mod sections;
mod statuses;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells, and what their completion file is called.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "corten"),
    (Shell::Fish, "corten.fish"),
    (Shell::Zsh, "_corten"),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(directory), None) = (args.next(), args.next()) else {
        return failed("want one argument: the directory to write into");
    };
    match write(&PathBuf::from(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(text: &str) -> ExitCode {
    // Nobody is left to tell where stderr is closed.
    let _ = writeln!(io::stderr(), "corten-manual: {text}");
    ExitCode::FAILURE
}

fn write(directory: &Path) -> io::Result<()> {
    let pages = directory.join("man1");
    fs::create_dir_all(&pages)?;
    let mut command = corten::cli::whole();
    page(&pages, &command, None)?;
    for verb in command.get_subcommands() {
        page(&pages, verb, Some(verb.get_name()))?;
    }
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, name) in SHELLS {
        let mut file = File::create(completions.join(name))?;
        clap_complete::generate(shell, &mut command, "corten", &mut file);
    }
    Ok(())
}

/// One page: of the program, or of a `verb`.
fn page(directory: &Path, command: &Command, verb: Option<&str>) -> io::Result<()> {
    let name = verb.map_or_else(|| "corten".to_owned(), |verb| format!("corten-{verb}"));
    let command = command.clone().name(name.clone());
    let command = match verb {
        Some(verb) => match sections::description(verb) {
            Some(text) => command.long_about(text),
            None => command,
        }
        .bin_name(format!("corten {verb}")),
        None => command.bin_name("corten"),
    };
    let man = Man::new(command)
        .title(name.to_uppercase())
        .source(concat!("corten ", env!("CARGO_PKG_VERSION")))
        .manual("corten");
    let mut file = File::create(directory.join(format!("{name}.1")))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if verb.is_none() {
        man.render_subcommands_section(&mut file)?;
    }
    sections::write(&mut file, verb)
}
