// SPDX-License-Identifier: Apache-2.0
//! Many callers at once: random verbs on few ids, of which every answer must be one that some order of them gives; and a
//! hundred creates of one id. `CORTEN_MODEL` is how many verbs each caller calls (30; 2,500 take minutes), `CORTEN_SEED`
//! what they are drawn from: a failure names it. The draw is repeated by it, the order in which the kernel runs them is not.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_integration::{Call, Container, Outcome, trial};
use serde_json::Value;

const CALLERS: u64 = 8;
/// Nothing has come back for so long: whoever runs in a container that was paused under it waits for somebody else.
const STUCK: Duration = Duration::from_secs(5);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Knuth's linear congruences; nobody's secret depends on them.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        let (factor, step) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(factor).wrapping_add(step);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Start,
    State,
    Kill,
    Delete,
    Force,
    Pause,
    Resume,
    Exec,
    List,
}

const GONE: &str = "does not exist";

impl Verb {
    /// As often as they stand here.
    const DRAWN: [Self; 16] = [
        Self::Create,
        Self::Create,
        Self::Create,
        Self::Start,
        Self::Start,
        Self::Start,
        Self::State,
        Self::Kill,
        Self::Delete,
        Self::Delete,
        Self::Force,
        Self::Pause,
        Self::Resume,
        Self::Exec,
        Self::Exec,
        Self::List,
    ];

    fn call(self, c: &Container<'_>, list: Call) -> Call {
        match self {
            Self::Create => c.bundled("create", &[]),
            Self::Start => c.verb("start", &[]),
            Self::State => c.verb("state", &[]),
            Self::Kill => c.verb("kill", &[]).arg("KILL"),
            Self::Delete => c.verb("delete", &[]),
            Self::Force => c.verb("delete", &["--force"]),
            Self::Pause => c.verb("pause", &[]),
            Self::Resume => c.verb("resume", &[]),
            Self::Exec => c.exec_call(&[], &["/probe", "exit", "0"]),
            Self::List => list,
        }
    }

    /// The words of the errors that it may end with: what the others may have done before it, or while it ran.
    fn refusals(self) -> &'static [&'static str] {
        match self {
            Self::Create => &[
                "already exists",
                // A delete has ended it half-way.
                "was deleted while it was being made",
                "init died during",
            ],
            Self::Start => &[
                GONE,
                "cannot start an already running container",
                "cannot start a container that has stopped",
                "cannot start a container that is still being created",
                // A kill has ended its init meanwhile.
                "init died before it became the program",
                "connect to the start gate",
            ],
            Self::State => &[GONE],
            Self::Kill => &[GONE, "container not running"],
            Self::Delete => &[GONE, "that is not stopped"],
            Self::Force | Self::List => &[],
            Self::Pause => &[GONE, "container not running"],
            Self::Resume => &[GONE, "not paused"],
            Self::Exec => &[
                GONE,
                "cannot exec in a stopped container",
                "cannot exec in a paused container",
                "killed by signal 9",
            ],
        }
    }

    /// Holds an answer to what this verb may answer.
    fn judge(self, out: &Outcome) -> Result<(), String> {
        let wrong = || {
            let (code, stderr) = (out.code, &out.stderr);
            Err(format!("{self:?} ends with {code} and says {stderr}"))
        };
        match (self, out.code) {
            (Self::State, 0) => legal(&parsed(&out.stdout)?),
            (Self::List, 0) => {
                let all = parsed(&out.stdout)?;
                all.as_array().into_iter().flatten().try_for_each(legal)
            }
            (_, 0) => Ok(()),
            // The program was killed with its container.
            (Self::Exec, 137) => Ok(()),
            (_, code) if code == if self == Self::Exec { 255 } else { 1 } => {
                let lines: Vec<&str> = out.stderr.lines().collect();
                let known = |line: &&str| self.refusals().iter().any(|words| line.contains(words));
                match lines[..] {
                    [line] if known(&line) => Ok(()),
                    _ => wrong(),
                }
            }
            _ => wrong(),
        }
    }
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}: {text}"))
}

/// The state of one container: with a process exactly as long as there is one.
fn legal(state: &Value) -> Result<(), String> {
    let has_pid = state["pid"].as_i64().is_some_and(|pid| pid > 0);
    let is_legal = match state["status"].as_str() {
        Some("created" | "running" | "paused") => has_pid,
        Some("creating" | "stopped") => !has_pid,
        _ => false,
    };
    match is_legal {
        true => Ok(()),
        false => Err(format!("no state of a container: {state}")),
    }
}

#[test]
fn random_verbs_have_an_order_that_explains_them() {
    trial(|t| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = number("CORTEN_SEED").unwrap_or(u64::from(now.subsec_nanos()));
        let length = number("CORTEN_MODEL").unwrap_or(30);
        // A root that is not there is an error of `list`.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(t.state_root())
            .unwrap();
        t.give(&t.state_root());
        let ids = ["pause", "sleep 50", "exit 0"];
        let ids = ids.map(|steps| t.container().probe(steps).done());
        let list = || t.call().args(["list", "--format", "json"]);
        let callers: Vec<Vec<(Verb, usize, Call)>> = (0..CALLERS)
            .map(|caller| {
                let mut dice = Dice(seed.wrapping_add(caller.wrapping_mul(1 << 40)));
                let mut draw = || {
                    let verb = Verb::DRAWN[dice.below(Verb::DRAWN.len())];
                    let id = dice.below(ids.len());
                    (verb, id, verb.call(&ids[id], list()))
                };
                (0..length).map(|_| draw()).collect()
            })
            .collect();
        let rescue = |rounds: u64| {
            (0..rounds).map(|_| ids.each_ref().map(|c| c.verb("delete", &["--force"])))
        };
        // Made before, as a trial belongs to its thread.
        let mut rescues: Vec<[Call; 3]> = rescue(16 + length).collect();
        let answered = AtomicU64::new(0);
        let answers: Mutex<Vec<(Verb, usize, i32)>> = Mutex::new(Vec::new());
        let failures: Mutex<Vec<String>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for calls in callers {
                scope.spawn(|| {
                    for (verb, id, call) in calls {
                        let out = call.end();
                        answered.fetch_add(1, Ordering::Relaxed);
                        if let Err(failure) = verb.judge(&out) {
                            failures.lock().unwrap().push(failure);
                        }
                        answers.lock().unwrap().push((verb, id, out.code));
                    }
                });
            }
            let (mut before, mut since) = (0, std::time::Instant::now());
            while answered.load(Ordering::Relaxed) < CALLERS * length {
                std::thread::sleep(Duration::from_millis(50));
                let seen = answered.load(Ordering::Relaxed);
                if seen != before {
                    (before, since) = (seen, std::time::Instant::now());
                } else if since.elapsed() > STUCK {
                    let rescue = rescues.pop().expect("nobody comes back");
                    for call in rescue {
                        call.end().ok();
                    }
                    since = std::time::Instant::now();
                }
            }
        });
        for c in &ids {
            c.delete_force().ok();
        }
        let failures = failures.into_inner().unwrap();
        assert!(
            failures.is_empty(),
            "CORTEN_SEED={seed}: {} of {} answers:\n{}",
            failures.len(),
            CALLERS * length,
            failures.join("\n")
        );
        let answers = answers.into_inner().unwrap();
        for (id, c) in ids.iter().enumerate() {
            let count = |verb: Verb| {
                let fits = |answer: &&(Verb, usize, i32)| **answer == (verb, id, 0);
                answers.iter().filter(fits).count()
            };
            // No container is started twice.
            let (created, started) = (count(Verb::Create), count(Verb::Start));
            assert!(
                started <= created,
                "CORTEN_SEED={seed}: {started} starts of {created} containers"
            );
            let error = c.verb("state", &[]).end().fails();
            assert!(error.contains(GONE), "{error}");
        }
        let created = answers
            .iter()
            .any(|answer| (answer.0, answer.2) == (Verb::Create, 0));
        assert!(created, "nothing was ever made: this proves nothing");
    });
}

#[test]
fn of_a_hundred_creates_of_one_id_one_wins() {
    trial(|t| {
        let c = t.container().probe("print up + pause").done();
        let all: Vec<_> = (0..100).map(|_| c.bundled("create", &[]).spawn()).collect();
        let all: Vec<Outcome> = all.into_iter().map(|one| one.end()).collect();
        let (won, lost): (Vec<&Outcome>, Vec<&Outcome>) = all.iter().partition(|out| out.code == 0);
        assert_eq!((won.len(), lost.len()), (1, 99));
        for out in lost {
            assert!(
                out.code == 1 && out.stderr.contains("already exists"),
                "{out:?}"
            );
        }
        assert_eq!(c.status(), "created");
        c.start().ok();
        c.says(won[0], "up");
        c.exec("exit 0").ok();
        c.end();
    });
}
