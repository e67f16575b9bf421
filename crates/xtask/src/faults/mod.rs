// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask faults`: kills a verb, or fails its system calls, at every point there is; after each, one
//! `delete --force` must leave a clean host, and a verb that failed must have printed one error.
//!
//! Runs as root on the machine's own cgroups. Takes minutes; a sweep can be continued with --from.

mod case;
mod points;
mod verb;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::case::{Bench, Outcome};
use self::points::Point;
use self::verb::Verb;
use self::verdict::{Ending, Fault};
use crate::failure::{Failure, Result};
use crate::scratch::Scratch;
use crate::{build, packages, report, workspace};

/// Which faults.
#[derive(clap::Args)]
pub struct Options {
    /// The verbs that are hit
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "create,start,run,delete,pause,update,wait"
    )]
    verbs: Vec<Verb>,
    /// What is done to them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kill,enomem")]
    faults: Vec<Fault>,
    /// The first point of each sweep, as numbered in an earlier one
    #[arg(long, default_value_t = 1)]
    from: usize,
    /// The last point of each sweep
    #[arg(long)]
    to: Option<usize>,
    /// Cases at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Another runtime, for comparison: a path or a program's name
    #[arg(long, value_name = "PATH")]
    runtime: Option<String>,
}

/// One sweep: a verb and a fault, over all points.
struct Sweep<'a> {
    verb: Verb,
    fault: Fault,
    points: &'a [Point],
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

/// What came of a sweep.
#[derive(Default)]
struct Tally {
    cases: usize,
    succeeded: usize,
    failed: usize,
    killed: usize,
    dirty: usize,
}

/// Runs the sweeps; any case with a complaint makes the whole fail, at the end.
pub fn run(options: &Options) -> Result<()> {
    workspace::require_root("faults")?;
    packages::ensure(packages::MEASURING)?;
    let word = match &options.runtime {
        Some(word) => word.clone(),
        None => {
            build::binaries()?;
            format!("corten={}", workspace::dist()?.join("corten").display())
        }
    };
    let work = Scratch::new("faults")?;
    let benches = (0..options.jobs.max(1))
        .map(|job| Bench::new(&word, work.path(), job))
        .collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for verb in &options.verbs {
        let all = points::of(&benches[0].undisturbed(*verb)?, verb.program());
        for fault in &options.faults {
            let points: Vec<Point> = all
                .iter()
                .filter(|point| fault.applies(point))
                .cloned()
                .collect();
            report::step(format!("{verb:?} under {fault}: {} points", points.len()));
            rows.push((
                *verb,
                *fault,
                sweep(options, &benches, *verb, *fault, &points)?,
            ));
        }
    }
    summary(&rows)
}

/// One verb, one fault, all points, by all benches side by side.
fn sweep(
    options: &Options,
    benches: &[Bench],
    verb: Verb,
    fault: Fault,
    points: &[Point],
) -> Result<Tally> {
    let end = options.to.unwrap_or(points.len()).min(points.len());
    let start = options.from.saturating_sub(1).min(end);
    let (next, tally) = (AtomicUsize::new(start), Mutex::new(Tally::default()));
    let sweep = Sweep {
        verb,
        fault,
        points: &points[..end],
        next,
        tally,
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = benches
            .iter()
            .map(|bench| scope.spawn(|| sweep.work(bench)))
            .collect();
        let ended = jobs.into_iter().map(|job| {
            job.join()
                .unwrap_or_else(|_| Err(Failure::new("a job died")))
        });
        ended.collect::<Result<Vec<()>>>()
    })?;
    sweep
        .tally
        .into_inner()
        .map_err(|_| Failure::new("a job died with the tally in its hands"))
}

impl Sweep<'_> {
    /// One job: takes the next point until there is none.
    fn work(&self, bench: &Bench) -> Result<()> {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = self.points.get(index) else {
                return Ok(());
            };
            let outcome = bench.case(self.verb, self.fault, index + 1, point)?;
            self.count(index + 1, point, &outcome)?;
        }
    }

    fn count(&self, number: usize, point: &Point, outcome: &Outcome) -> Result<()> {
        let mut tally = self
            .tally
            .lock()
            .map_err(|_| Failure::new("another job died"))?;
        tally.cases += 1;
        match outcome.ending {
            Ending::Succeeded => tally.succeeded += 1,
            Ending::Failed => tally.failed += 1,
            Ending::Killed => tally.killed += 1,
        }
        if !outcome.complaints.is_empty() {
            tally.dirty += 1;
            let struck = outcome
                .struck
                .as_deref()
                .unwrap_or("nothing that the log shows");
            report::line(format!("{number:>5} {point}  hit {struck}"));
            for complaint in &outcome.complaints {
                report::line(format!("        {complaint}"));
            }
        }
        Ok(())
    }
}

/// The table at the end.
fn summary(rows: &[(Verb, Fault, Tally)]) -> Result<()> {
    report::step("summary");
    report::line(format!(
        "{:<8} {:<8} {:>6} {:>10} {:>7} {:>7} {:>6}",
        "verb", "fault", "cases", "succeeded", "failed", "killed", "dirty"
    ));
    for (verb, fault, tally) in rows {
        report::line(format!(
            "{:<8} {:<8} {:>6} {:>10} {:>7} {:>7} {:>6}",
            format!("{verb:?}").to_lowercase(),
            fault.to_string(),
            tally.cases,
            tally.succeeded,
            tally.failed,
            tally.killed,
            tally.dirty
        ));
    }
    match rows.iter().map(|(_, _, tally)| tally.dirty).sum::<usize>() {
        0 => Ok(()),
        dirty => Err(Failure::new(format!(
            "{dirty} cases left something behind or said the wrong thing"
        ))),
    }
}
