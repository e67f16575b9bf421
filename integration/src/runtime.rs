// SPDX-License-Identifier: Apache-2.0
//! Which runtime is under test, and where the probe is. Read from the environment once per test process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The runtime under test.
#[derive(Debug)]
pub struct Runtime {
    /// Its name, as exceptions list it: the file name of its binary.
    pub name: String,
    /// The name with the version, as exceptions list what only some versions do: `runc-1.1`.
    pub versioned: String,
    /// Its binary.
    pub path: PathBuf,
}

impl Runtime {
    /// The one that the environment names.
    pub fn current() -> &'static Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            let named = env::var("CORTEN_RUNTIME").unwrap_or_else(|_| "corten".into());
            let path = if named == "corten" {
                corten()
            } else {
                on_path(&named)
            };
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or(named);
            let versioned = match version(&path) {
                Some(version) => format!("{name}-{version}"),
                None => name.clone(),
            };
            Runtime {
                name,
                versioned,
                path,
            }
        })
    }

    /// Whether this is corten itself: only there are the words of an error compared.
    pub fn is_corten(&self) -> bool {
        self.name == "corten"
    }
}

/// Major and minor version of a runtime, as it says itself; none if it can't be asked, which tests will find out.
fn version(path: &Path) -> Option<String> {
    let out = Command::new(path).arg("--version").output().ok()?;
    series(&String::from_utf8_lossy(&out.stdout))
}

/// The major and minor version in what a runtime says of itself: `1.1` of `runc version 1.1.5+ds1`.
pub fn series(said: &str) -> Option<String> {
    let mut words = said.lines().next()?.split_whitespace();
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some(format!("{}.{}", numbers.next()?, numbers.next()?))
}

fn corten() -> PathBuf {
    if let Some(path) = env::var_os("CORTEN_BIN") {
        return path.into();
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let triple = format!("{}-unknown-linux-gnu/release/corten", env::consts::ARCH);
    let built = [triple.as_str(), "release/corten"].map(|path| target.join(path));
    built
        .into_iter()
        .find(|path| path.exists())
        .expect("corten is not built: run `cargo xtask integration`, or set CORTEN_BIN, or CORTEN_RUNTIME=runc")
}

/// As a shell would find it, so that the census can know the binary too.
fn on_path(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let path = env::var("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("CORTEN_RUNTIME={name}: not found in PATH"))
}

/// The static probe program.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let path = env::var_os("CORTEN_PROBE").map_or_else(beside_the_tests, PathBuf::from);
        assert!(
            path.exists(),
            "no probe at {}: set CORTEN_PROBE",
            path.display()
        );
        path
    })
}

/// Cargo puts test binaries into `deps/` and the package's own binaries one level above.
fn beside_the_tests() -> PathBuf {
    let test = env::current_exe().expect("own path");
    test.ancestors()
        .nth(2)
        .expect("deps directory")
        .join("probe")
}
