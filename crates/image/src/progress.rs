// SPDX-License-Identifier: Apache-2.0
//! Progress of long work on stderr: bars on a terminal, one line per finished task otherwise, or nothing.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where progress goes. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Nowhere.
    Silent,
    /// One line per finished task.
    Lines,
    /// Bars.
    Bars(MultiProgress),
}

/// One piece of work that progresses.
#[derive(Debug, Clone)]
pub struct Task {
    label: String,
    shown: Shown,
}

#[derive(Debug, Clone)]
enum Shown {
    Silent,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Bars if stderr is a terminal, lines otherwise.
    pub fn stderr() -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::Bars(MultiProgress::new()),
            false => Self::Lines,
        }
    }

    /// Starts a task of `total` bytes.
    pub fn bytes(&self, label: impl Into<String>, total: u64) -> Task {
        let template = "{prefix:<28} {bar:30} {bytes:>10}/{total_bytes:<10} {bytes_per_sec}";
        self.task(label.into(), Some(total), template)
    }

    /// Starts a task without a measure.
    pub fn spinner(&self, label: impl Into<String>) -> Task {
        self.task(label.into(), None, "{prefix:<28} {spinner} {elapsed}")
    }

    /// Prints a line that stays, above the bars if there are any.
    pub fn line(&self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Lines => print(text),
            // A terminal that went away is no reason to stop the work.
            Self::Bars(bars) => bars.println(text).unwrap_or_default(),
        }
    }

    fn task(&self, label: String, total: Option<u64>, template: &str) -> Task {
        let shown = match self {
            Self::Silent => Shown::Silent,
            Self::Lines => Shown::Lines,
            Self::Bars(bars) => {
                let bar = bars.add(match total {
                    Some(total) => ProgressBar::new(total),
                    None => ProgressBar::new_spinner(),
                });
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(label.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                Shown::Bar(bar)
            }
        };
        Task { label, shown }
    }
}

impl Task {
    /// `count` more is done.
    pub fn advance(&self, count: u64) {
        if let Shown::Bar(bar) = &self.shown {
            bar.inc(count);
        }
    }

    /// So much is done, be it more or less than before.
    pub fn set(&self, done: u64) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_position(done);
        }
    }

    /// All of it is done; `outcome` says more, or is empty.
    pub fn done(self, outcome: &str) {
        let separator = if outcome.is_empty() { "" } else { " " };
        match self.shown {
            Shown::Silent => {}
            Shown::Lines => print(&format!("{}{separator}{outcome}", self.label)),
            Shown::Bar(bar) => bar.finish_and_clear(),
        }
    }
}

fn print(text: &str) {
    // A closed stderr is no reason to stop the work.
    let _ = writeln!(std::io::stderr(), "{text}");
}
