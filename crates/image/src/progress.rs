// SPDX-License-Identifier: Apache-2.0
//! Progress of long work on stderr: bars on a terminal, one line per finished task otherwise, JSON for a program that
//! reads it, or nothing.
//!
//! As JSON it is one object per line. `event` says which:
//!
//! ```text
//! progress   task, done, total (absent where there is no measure), rate (bytes per second since the last one)
//! done       task, done, total, seconds, outcome (absent where there is no more to say)
//! line       text: what people would read
//! error      text: why the program fails, its last line
//! ```

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

/// A task tells of itself no more often than this.
const PACE: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bars if stderr is a terminal, lines otherwise.
    Auto,
    /// Lines.
    Plain,
    /// JSON.
    Json,
    /// Not at all.
    None,
}

/// What the whole program's stderr has.
static CHOSEN: OnceLock<Style> = OnceLock::new();

/// Where progress goes. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Nowhere.
    Silent,
    /// One line per finished task.
    Lines,
    /// Bars.
    Bars(MultiProgress),
    /// JSON.
    Events,
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
    Events(Arc<Meter>),
}

/// What is told of a task as JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Progress {
        task: &'a str,
        done: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        rate: u64,
    },
    Done {
        task: &'a str,
        done: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        outcome: Option<&'a str>,
    },
    Line {
        text: &'a str,
    },
    Error {
        text: &'a str,
    },
}

/// How far a task is, and when that was last told.
#[derive(Debug)]
struct Meter {
    total: Option<u64>,
    done: AtomicU64,
    started: Instant,
    told: Mutex<(Instant, u64)>,
}

/// Chooses, for all that [`Progress::stderr`] gives from now on. The first choice stays.
pub fn choose(style: Style) {
    // There is one already.
    let _ = CHOSEN.set(style);
}

/// Whether stderr has JSON alone.
pub fn is_json() -> bool {
    CHOSEN.get() == Some(&Style::Json)
}

/// Says why the program fails, in the form that was chosen.
pub fn error(text: &str) {
    match is_json() {
        true => tell(&Event::Error { text }),
        false => print(text),
    }
}

/// Says something beside the result, in the form that was chosen.
pub fn note(text: &str) {
    match is_json() {
        true => tell(&Event::Line { text }),
        false => print(text),
    }
}

impl Progress {
    /// As was chosen; if nothing was, bars if stderr is a terminal, lines otherwise.
    pub fn stderr() -> Self {
        match CHOSEN.get().unwrap_or(&Style::Auto) {
            Style::Auto if std::io::stderr().is_terminal() => Self::Bars(MultiProgress::new()),
            Style::Auto | Style::Plain => Self::Lines,
            Style::Json => Self::Events,
            Style::None => Self::Silent,
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
            Self::Events => tell(&Event::Line { text }),
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
            Self::Events => {
                let meter = Meter::new(total);
                tell(&meter.progress(&label, 0, 0));
                Shown::Events(Arc::new(meter))
            }
        };
        Task { label, shown }
    }
}

impl Task {
    /// `count` more is done.
    pub fn advance(&self, count: u64) {
        match &self.shown {
            Shown::Silent | Shown::Lines => {}
            Shown::Bar(bar) => bar.inc(count),
            Shown::Events(meter) => {
                meter.done.fetch_add(count, Ordering::Relaxed);
                meter.pace(&self.label);
            }
        }
    }

    /// So much is done, be it more or less than before.
    pub fn set(&self, done: u64) {
        match &self.shown {
            Shown::Silent | Shown::Lines => {}
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Events(meter) => {
                meter.done.store(done, Ordering::Relaxed);
                meter.pace(&self.label);
            }
        }
    }

    /// All of it is done; `outcome` says more, or is empty.
    pub fn done(self, outcome: &str) {
        let separator = if outcome.is_empty() { "" } else { " " };
        match self.shown {
            Shown::Silent => {}
            Shown::Lines => print(&format!("{}{separator}{outcome}", self.label)),
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Events(meter) => tell(&Event::Done {
                task: &self.label,
                done: meter.done.load(Ordering::Relaxed),
                total: meter.total,
                seconds: meter.started.elapsed().as_secs_f64(),
                outcome: Some(outcome).filter(|outcome| !outcome.is_empty()),
            }),
        }
    }
}

impl Meter {
    fn new(total: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            total,
            done: AtomicU64::new(0),
            started: now,
            told: Mutex::new((now, 0)),
        }
    }

    fn progress<'a>(&self, task: &'a str, done: u64, rate: u64) -> Event<'a> {
        Event::Progress {
            task,
            done,
            total: self.total,
            rate,
        }
    }

    /// Tells how far it is, if that was not told a moment ago.
    fn pace(&self, task: &str) {
        if let Some((done, rate)) = self.due(Instant::now()) {
            tell(&self.progress(task, done, rate));
        }
    }

    /// How far it is and how fast it got there, if that is to be told at `now`.
    fn due(&self, now: Instant) -> Option<(u64, u64)> {
        // Who is telling right now tells enough.
        let mut told = self.told.try_lock().ok()?;
        let passed = now.saturating_duration_since(told.0);
        if passed < PACE {
            return None;
        }
        let done = self.done.load(Ordering::Relaxed);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let rate = done.saturating_sub(told.1).saturating_mul(1000) / millis.max(1);
        *told = (now, done);
        Some((done, rate))
    }
}

fn tell(event: &Event<'_>) {
    // Such an event has nothing that can't be written.
    print(&serde_json::to_string(event).unwrap_or_default());
}

fn print(text: &str) {
    // One write for a line: those of several threads don't mix. A closed stderr is no reason to stop the work.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_of_itself_ten_times_a_second() {
        let meter = Meter::new(Some(10_000));
        let at = |millis: u64| meter.started + Duration::from_millis(millis);
        meter.done.store(500, Ordering::Relaxed);
        assert_eq!(meter.due(at(99)), None);
        assert_eq!(meter.due(at(100)), Some((500, 5000)));
        meter.done.store(700, Ordering::Relaxed);
        assert_eq!(meter.due(at(150)), None);
        assert_eq!(meter.due(at(300)), Some((700, 1000)));
        // From the start again.
        meter.done.store(0, Ordering::Relaxed);
        assert_eq!(meter.due(at(400)), Some((0, 0)));
        assert_eq!(meter.due(at(0)), None);
    }

    #[test]
    fn events_as_they_are_documented() {
        let meter = Meter::new(Some(10));
        for (event, expected) in [
            (
                meter.progress("pull \"x\"", 5, 3),
                r#"{"event":"progress","task":"pull \"x\"","done":5,"total":10,"rate":3}"#,
            ),
            (
                Meter::new(None).progress("x", 0, 0),
                r#"{"event":"progress","task":"x","done":0,"rate":0}"#,
            ),
            (
                Event::Done {
                    task: "x",
                    done: 10,
                    total: Some(10),
                    seconds: 1.5,
                    outcome: Some("from a"),
                },
                r#"{"event":"done","task":"x","done":10,"total":10,"seconds":1.5,"outcome":"from a"}"#,
            ),
            (
                Event::Line { text: "a\nb" },
                r#"{"event":"line","text":"a\nb"}"#,
            ),
            (
                Event::Error { text: "no" },
                r#"{"event":"error","text":"no"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), expected);
        }
    }
}
