// SPDX-License-Identifier: Apache-2.0
//! One test's world: a directory, an id prefix, a cgroup parent, a sentinel, a census before and after.

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::fs;
use std::os::unix::fs::lchown;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::call::Call;
use crate::census::{self, Census};
use crate::draft::Draft;
use crate::driver::{self, Driver};
use crate::exceptions::{Expected, expected};
use crate::runtime::{Runtime, probe};
use crate::sentinel::Sentinel;
use crate::user::{self, Delegation, UID, User};

/// One test's world.
#[derive(Debug)]
pub struct Trial {
    /// The test's name, `module::function`.
    pub name: String,
    /// Marks all that this trial makes.
    pub prefix: String,
    /// Its directory on the host, removed at the end.
    pub dir: PathBuf,
    /// The runtime under test.
    pub runtime: &'static Runtime,
    /// The tree that must not change.
    pub sentinel: Sentinel,
    containers: Cell<u32>,
    calls: Cell<u32>,
    user: OnceCell<User>,
}

/// Runs a test in a world of its own; panics if the test does, or if anything is left behind.
#[track_caller]
pub fn trial<F: FnOnce(&Trial)>(test: F) {
    trial_as(&test_name::<F>(), test);
}

/// The same for one case of many, under a name of its own.
#[track_caller]
pub fn trial_as<F: FnOnce(&Trial)>(name: &str, test: F) {
    assert!(
        rustix::process::geteuid().is_root(),
        "the integration suite needs root: run `cargo xtask integration` as root"
    );
    let runtime = Runtime::current();
    let listed = listed_as(runtime)
        .iter()
        .find_map(|runtime| expected(name, runtime));
    if let Some((Expected::Skip, reason)) = listed {
        eprintln!("skipped under {}: {reason}", runtime.name);
        return;
    }
    let patience = match listed {
        // What it leaves is mostly why it is listed.
        Some(_) => Duration::from_secs(1),
        None => Duration::from_secs(60),
    };
    let result = catch_unwind(AssertUnwindSafe(|| run(name, runtime, patience, test)));
    match (result, listed) {
        (Ok(()), Some((Expected::Failure, reason))) => {
            panic!(
                "{name} passes under {}, but is listed as failing: {reason}",
                runtime.name
            )
        }
        (Err(panic), None) => resume_unwind(panic),
        (Err(_), Some((_, reason))) => {
            eprintln!("fails under {} as listed: {reason}", runtime.name)
        }
        (Ok(()), _) => {}
    }
}

/// The names under which exceptions list a runtime as it is called here, the most special first.
fn listed_as(runtime: &Runtime) -> Vec<String> {
    let names = [runtime.versioned.as_str(), &runtime.name];
    let driver = Driver::current().name();
    let ways = match user::is_everyones() {
        true => vec![
            format!("rootless+{driver}"),
            "rootless".into(),
            driver.into(),
        ],
        false => vec![driver.to_owned()],
    };
    let special = ways.iter().flat_map(|way| {
        let names = names.into_iter().chain(["any"]);
        names.map(move |name| format!("{name}+{way}"))
    });
    special.chain(names.map(str::to_owned)).collect()
}

/// `module::function` of the test whose closure this is.
fn test_name<F>() -> String {
    let full = std::any::type_name::<F>();
    let path = full.split("::{{closure}}").next().unwrap_or(full);
    path.split_once("::").map_or(path, |(_, rest)| rest).into()
}

/// `patience` is how long systemd has to be done with what the test has ended.
fn run<F: FnOnce(&Trial)>(name: &str, runtime: &'static Runtime, patience: Duration, test: F) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // Short: the path of a unix socket below it must fit into 108 bytes.
    let short: String = name
        .replace("::", "-")
        .replace(' ', "_")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .take(32)
        .collect();
    let prefix = format!("ct{}-{number}-{short}", std::process::id());
    let dir = std::env::temp_dir()
        .join(format!("corten-trials.{}", std::process::id()))
        .join(&prefix);
    fs::create_dir_all(&dir).expect("make trial directory");
    let census = Census::take(&prefix, &dir);
    let sentinel = Sentinel::plant(dir.join("sent"));
    let mut trial = Trial {
        name: name.into(),
        prefix,
        dir,
        runtime,
        sentinel,
        containers: Cell::new(0),
        calls: Cell::new(0),
        user: OnceCell::new(),
    };
    if user::is_everyones() && !user::is_own_matter(name) {
        trial.become_user(Delegation::Around);
    }

    let result = catch_unwind(AssertUnwindSafe(|| test(&trial)));
    drop(trial.user.take());
    let mut findings = census.findings(&trial.state_root());
    let end = Instant::now() + patience;
    while Driver::current() == Driver::Systemd && !findings.is_empty() && Instant::now() < end {
        // systemd hears of a scope's end after the runtime has seen it.
        std::thread::sleep(Duration::from_millis(100));
        findings = census.findings(&trial.state_root());
    }
    findings.extend(trial.sentinel.changes());
    if !findings.is_empty() {
        census.sweep();
    }
    census::remove_parents(&trial.cgroup_parent());
    if driver::leaves_slices() {
        driver::end_slices(&trial.prefix);
    }
    let clean = result.is_ok() && findings.is_empty();
    if clean || std::env::var_os("CORTEN_KEEP").is_none() {
        // Not worth failing for: what matters in it was looked at above.
        let _ = fs::remove_dir_all(&trial.dir);
        let _ = fs::remove_dir(trial.dir.parent().expect("parent of trial directory"));
    }
    report(result, &findings);
}

#[track_caller]
fn report(result: Result<(), Box<dyn Any + Send>>, findings: &[String]) {
    let list = findings.join("\n  ");
    match result {
        Err(panic) if findings.is_empty() => resume_unwind(panic),
        Err(panic) => {
            eprintln!("and the census is dirty:\n  {list}");
            resume_unwind(panic);
        }
        Ok(()) => assert!(findings.is_empty(), "the census is dirty:\n  {list}"),
    }
}

impl Trial {
    /// The runtime's `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The cgroup under which this trial's containers are: at the top, since a parent that tests share would be removed
    /// by one while another makes its own below it.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.prefix)
    }

    /// The cgroup of the container `id`, absolute on every hierarchy.
    pub fn cgroup_of(&self, id: &str) -> String {
        match Driver::current() {
            Driver::Files => format!("{}/{id}", self.cgroup_parent()),
            Driver::Systemd => {
                let manager = match user::is_everyones() {
                    true => format!("/user.slice/user-{UID}.slice/user@{UID}.service"),
                    false => String::new(),
                };
                format!(
                    "{manager}/{}.slice/t-{id}.scope",
                    driver::slice(&self.prefix)
                )
            }
        }
    }

    /// What config.json says for it.
    pub fn cgroups_path(&self, id: &str) -> String {
        match Driver::current() {
            Driver::Files => self.cgroup_of(id),
            Driver::Systemd => format!("{}.slice:t:{id}", driver::slice(&self.prefix)),
        }
    }

    /// A call of the runtime, with its `--root` and the driver of cgroups.
    pub fn call(&self) -> Call {
        self.users_program(&self.runtime.path)
            .arg("--root")
            .arg(self.state_root())
            .args(Driver::current().flags())
    }

    /// A call of the probe on the host, as a launcher or an attacker.
    pub fn host_probe(&self) -> Call {
        self.program(probe())
    }

    /// A call of any program, marked as this trial's.
    pub fn program(&self, path: &Path) -> Call {
        Call::new(path, self.captured()).env("CORTEN_TRIAL", &self.prefix)
    }

    /// The same by the user, if there is one.
    pub fn users_program(&self, path: &Path) -> Call {
        let Some(user) = self.user.get() else {
            return self.program(path);
        };
        let call = user.call(path, self.captured());
        call.env("CORTEN_TRIAL", &self.prefix)
    }

    /// Makes it the user's, if there is one.
    pub fn give(&self, path: &Path) {
        if self.user.get().is_some() {
            lchown(path, Some(UID), Some(UID)).expect("give it to the user");
        }
    }

    /// Makes the v2 cgroup at `dir` the user's, if there is one.
    pub fn delegate(&self, dir: &Path) {
        if self.user.get().is_some() {
            user::delegate(dir);
        }
    }

    fn captured(&self) -> PathBuf {
        let number = self.calls.replace(self.calls.get() + 1);
        self.dir.join(format!("call{number}"))
    }

    /// From here on the runtime is called by a user who is not root, from a cgroup of which so much is delegated.
    pub fn become_user(&self, delegation: Delegation) -> &User {
        let user = || User::new(&self.cgroup_parent(), &self.dir, delegation);
        self.user.get_or_init(user)
    }

    /// The same by an engine of the user's, which is root of a user namespace.
    pub fn become_engine(&self, delegation: Delegation) -> &User {
        let user = self.become_user(delegation);
        user.become_engine(probe(), self.captured());
        user
    }

    /// What the host has for the id `id` of the runtime's caller.
    pub fn host_id(&self, id: u32) -> u32 {
        self.user.get().map_or(id, |user| user.engines(id))
    }

    /// A new container in the making: the base bundle, with an id of its own.
    pub fn container(&self) -> Draft<'_> {
        let number = self.containers.replace(self.containers.get() + 1);
        Draft::new(self, format!("{}-{number}", self.prefix))
    }

    /// A file on the host, in this trial's directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, content).expect("write file");
        self.give(&path);
        path
    }

    /// A directory on the host, in this trial's directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).expect("make directory");
        self.give(&path);
        path
    }

    /// Whether an error says `words`: corten's in these very letters, another's in either case, as strerror(3) begins with a
    /// capital.
    pub fn says(&self, error: &str, words: &str) -> bool {
        let in_any_case = || error.to_lowercase().contains(&words.to_lowercase());
        error.contains(words) || (!self.is_corten() && in_any_case())
    }

    /// Whether corten is under test.
    pub fn is_corten(&self) -> bool {
        self.runtime.is_corten()
    }
}

/// Nothing takes this long unless it hangs, on emulated processors beside a build either, where a millisecond's work may
/// take seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `look` finds something; one that never does fails the test.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {PATIENCE:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
