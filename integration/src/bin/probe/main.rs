// SPDX-License-Identifier: Apache-2.0
//! The probe: the process of every container of the suite. Static, so that a rootfs needs nothing else.
//!
//! Its arguments are steps, parted by `+`, done in order: `probe fds + stat /dev/null + exit 3`. A step that looks or
//! tries prints one line, `{"probe":STEP,"value":…}`; a refused attempt is a value (`{"errno":"EPERM"}`), never an end.
//! It runs with whatever the container gives it, and on the host as a hook or an attacker. A mistake in the steps
//! themselves ends it with status 125.
#![forbid(unsafe_code)]

mod act;
mod attack;
mod errno;
mod load;
mod see;

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

/// What a step leaves behind.
enum Done {
    /// A value to print.
    Value(Value),
    /// Nothing to print.
    Quiet,
    /// The end of the program.
    Exit(u8),
}

type Step = Result<Done, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    for step in args.split(|arg| arg == "+") {
        match run(step) {
            Ok(Done::Quiet) => {}
            Ok(Done::Value(value)) => {
                let line = json!({"probe": step[0], "value": value});
                if let Err(error) = say(&format!("{line}\n")) {
                    return complain(&format!("print {}: {error}", step[0]));
                }
            }
            Ok(Done::Exit(code)) => return ExitCode::from(code),
            Err(error) => return complain(&error),
        }
    }
    ExitCode::SUCCESS
}

fn complain(text: &str) -> ExitCode {
    // Nobody is left to hear of a stderr that is closed too; the status still tells.
    writeln!(std::io::stderr(), "probe: {text}").ok();
    ExitCode::from(125)
}

/// Prints at once, in one write: a test may be waiting for it.
fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn run(step: &[String]) -> Step {
    let Some((name, args)) = step.split_first() else {
        return Err("empty step".into());
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    see::step(name, &args)
        .or_else(|| act::step(name, &args))
        .or_else(|| attack::step(name, &args))
        .or_else(|| load::step(name, &args))
        .unwrap_or_else(|| Err(format!("unknown step {name} with {} arguments", args.len())))
}
