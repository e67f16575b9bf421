// SPDX-License-Identifier: Apache-2.0
//! `logs`: what a detached container's program wrote.

use std::collections::VecDeque;
use std::io::Write;

use corten_image::containers::log::{Entry, LOG, LogReader, Stream};
use corten_image::containers::{Container, watch::Watch};
use corten_image::{Error, Kind, Result, Store};

use super::containers::find;

/// Show what a container's program has written
#[derive(clap::Args)]
pub struct Args {
    /// Go on as long as the container runs
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "NUMBER")]
    tail: Option<usize>,
    /// Only what was written since then: a time in RFC 3339, or how long ago, as 90s, 10m, 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// With the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Name, id or the first digits of one
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints what is there, and then what comes.
pub fn run(store: &Store, args: &Args) -> Result<()> {
    let container = find(store, &args.container)?;
    let since = args.since.as_deref().map(since).transpose()?;
    let watch = match args.follow {
        // Before the first reading, so that nothing is missed in between.
        true => Some(Watch::new(&container)?),
        false => None,
    };
    if !container.path().join(LOG).exists() {
        super::note(&format!(
            "container {} has no log: in the foreground what it writes is its caller's",
            container.shown()
        ));
    }
    let mut reader = LogReader::new(&container);
    let wanted = |entry: &Entry| since.as_ref().is_none_or(|since| entry.time >= *since);
    let mut last = VecDeque::new();
    while let Some(entry) = reader.read()? {
        if !wanted(&entry) {
            continue;
        }
        match args.tail {
            None => show(args, &entry)?,
            Some(0) => {}
            Some(number) => {
                if last.len() == number {
                    last.pop_front();
                }
                last.push_back(entry);
            }
        }
    }
    for entry in &last {
        show(args, entry)?;
    }
    match watch {
        Some(watch) => follow(args, &container, &mut reader, &watch),
        None => Ok(()),
    }
}

fn follow(
    args: &Args,
    container: &Container,
    reader: &mut LogReader<'_>,
    watch: &Watch,
) -> Result<()> {
    loop {
        // Asked first: what was written before the end is read after it.
        let running = match container.is_running() {
            // Run with --rm: what it wrote is still open.
            Err(error) if error.kind() == Kind::NotFound => false,
            running => running?,
        };
        while let Some(entry) = reader.read()? {
            show(args, &entry)?;
        }
        if !running {
            return Ok(());
        }
        watch.wait(container)?;
    }
}

fn show(args: &Args, entry: &Entry) -> Result<()> {
    let mut line = String::new();
    if args.timestamps {
        line.push_str(&entry.time);
        line.push(' ');
    }
    line.push_str(&entry.log);
    let written = match entry.stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().write_all(line.as_bytes()),
    };
    super::written(written)
}

/// As the log has times: text that sorts as they do.
fn since(text: &str) -> Result<String> {
    if let Some((number, unit)) = text
        .split_at_checked(text.len().saturating_sub(1))
        .and_then(|(number, unit)| Some((number.parse::<i64>().ok()?, unit)))
    {
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => 0,
        };
        let ago = number
            .checked_mul(factor)
            .filter(|ago| factor > 0 && *ago >= 0);
        if let Some(ago) = ago {
            return Ok(corten_image::containers::log::time_before(ago));
        }
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let shape = text.as_bytes();
    let good = text.ends_with('Z')
        && shape.len() >= 20
        && [4, 7].iter().all(|at| shape[*at] == b'-')
        && shape[10] == b'T'
        && [13, 16].iter().all(|at| shape[*at] == b':')
        && text.is_ascii()
        && [0..4, 5..7, 8..10, 11..13, 14..16, 17..19]
            .into_iter()
            .all(|range| digits(&text[range]));
    match good {
        // A whole second is before its parts.
        true => Ok(text.trim_end_matches('Z').to_owned()),
        false => Err(Error::invalid(format!(
            "--since {text:?} is neither a time in UTC, as 2026-01-02T03:04:05Z, nor a duration, as 10m"
        ))),
    }
}
