// SPDX-License-Identifier: Apache-2.0
//! Which variables an instruction sees: ARG before FROM, ARG within a stage, ENV, and those that are always there.
//!
//! Pure. A global ARG is seen by FROM lines alone; a stage sees it after an ARG of the same name. ENV hides ARG.
//! A stage FROM another stage inherits its arguments with its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::word::Variables;

/// Arguments that need no ARG: RUN sees them if they are given, and neither history nor cache keys do.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What FROM lines see, and what an ARG without a default takes its value from.
#[derive(Debug)]
pub struct Globals {
    given: BTreeMap<String, String>,
    declared: BTreeMap<String, Option<String>>,
    /// Stages that are built at the same time ask at the same time.
    used: Mutex<BTreeSet<String>>,
}

impl Globals {
    /// With the values of `--build-arg`, and the platform that is built on and for.
    pub fn new(given: BTreeMap<String, String>, build: &Platform, target: &Platform) -> Self {
        let declared = [build.arguments("BUILD"), target.arguments("TARGET")]
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, Some(value)))
            .collect();
        Self {
            given,
            declared,
            used: Mutex::default(),
        }
    }

    /// An ARG before the first FROM; `default` is expanded.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        let value = self.given_for(name).or(default);
        self.declared.insert(name.to_owned(), value);
    }

    /// The `--build-arg` names that nothing asked for.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used();
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !used.contains(*name) && !PROXIES.contains(name))
            .collect()
    }

    fn given_for(&self, name: &str) -> Option<String> {
        let value = self.given.get(name).cloned()?;
        self.used().insert(name.to_owned());
        Some(value)
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set of names is whole, whatever became of the thread that added one.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Variables for Globals {
    fn value(&self, name: &str) -> Option<&str> {
        self.declared.get(name)?.as_deref()
    }
}

/// What the instructions of one stage see.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    env: Vec<(String, String)>,
    args: BTreeMap<String, Option<String>>,
}

impl Scope {
    /// With the environment of the base image, `NAME=value` each.
    pub fn new(env: &[String]) -> Self {
        let mut scope = Self::default();
        for variable in env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            scope.set(name, value.to_owned());
        }
        scope
    }

    /// An ARG within the stage; `default` is expanded.
    pub fn declare(&mut self, name: &str, default: Option<String>, globals: &Globals) {
        let value = globals
            .given_for(name)
            .or(default)
            .or_else(|| globals.value(name).map(str::to_owned));
        self.args.insert(name.to_owned(), value);
    }

    /// An ENV: the variable keeps its place if it is set again.
    pub fn set(&mut self, name: &str, value: String) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.env.push((name.to_owned(), value)),
        }
    }

    /// The image's environment.
    pub fn env(&self) -> Vec<String> {
        self.env.iter().map(|(n, v)| format!("{n}={v}")).collect()
    }

    /// The arguments that have a value and that no ENV hides: a part of what a RUN depends on.
    pub fn arguments(&self) -> Vec<String> {
        let visible = |name: &str| !self.env.iter().any(|(known, _)| known == name);
        self.args
            .iter()
            .filter(|(name, _)| visible(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }

    /// The given proxies that neither ARG nor ENV sets.
    pub fn proxies(&self, globals: &Globals) -> Vec<String> {
        PROXIES
            .iter()
            .filter(|name| self.value(name).is_none())
            .filter_map(|name| Some(format!("{name}={}", globals.given.get(*name)?)))
            .collect()
    }
}

impl Variables for Scope {
    fn value(&self, name: &str) -> Option<&str> {
        match self.env.iter().find(|(known, _)| known == name) {
            Some((_, value)) => Some(value),
            None => self.args.get(name)?.as_deref(),
        }
    }
}

/// An operating system and architecture, in the image specification's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7` of 32-bit ARM; empty elsewhere.
    pub variant: String,
}

impl Platform {
    /// The one that this program runs on, which is the one that RUN can run on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// Reads `os/architecture[/variant]`; none if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let mut parts = text.split('/').map(str::to_owned);
        let platform = Self {
            os: parts.next()?,
            architecture: parts.next()?,
            variant: parts.next().unwrap_or_default(),
        };
        let is_whole = text.split('/').all(is_word) && parts.next().is_none();
        is_whole.then_some(platform)
    }

    /// `BUILDPLATFORM` and its kin, or `TARGETPLATFORM` and its kin.
    fn arguments(&self, prefix: &str) -> [(String, String); 4] {
        [
            ("PLATFORM", self.to_string()),
            ("OS", self.os.clone()),
            ("ARCH", self.architecture.clone()),
            ("VARIANT", self.variant.clone()),
        ]
        .map(|(name, value)| (format!("{prefix}{name}"), value))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(given: &[(&str, &str)]) -> Globals {
        let given = given.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let platform = |text: &str| Platform::parse(text).unwrap();
        Globals::new(
            given.collect(),
            &platform("linux/amd64"),
            &platform("linux/arm/v7"),
        )
    }

    #[test]
    fn a_stage_sees_what_it_declares() {
        // (--build-arg, global default, declared in the stage, its default, what the stage sees)
        for (given, global, declared, default, expected) in [
            (None, None, false, None, None),
            (Some("g"), None, false, None, None),
            (Some("g"), None, true, None, Some("g")),
            (Some("g"), Some("top"), true, Some("own"), Some("g")),
            (None, Some("top"), false, None, None),
            (None, Some("top"), true, None, Some("top")),
            (None, Some("top"), true, Some("own"), Some("own")),
            (None, None, true, Some("own"), Some("own")),
            (None, None, true, None, None),
        ] {
            let given: Vec<_> = given.iter().map(|value| ("x", *value)).collect();
            let mut globals = globals(&given);
            if let Some(global) = global {
                globals.declare("x", Some(global.into()));
            }
            let mut scope = Scope::new(&[]);
            if declared {
                scope.declare("x", default.map(str::to_owned), &globals);
            }
            assert_eq!(
                scope.value("x"),
                expected,
                "{given:?} {global:?} {default:?}"
            );
        }
    }

    #[test]
    fn env_hides_arg_and_keeps_its_place() {
        let globals = globals(&[("A", "given"), ("http_proxy", "p"), ("other", "")]);
        let mut scope = Scope::new(&["PATH=/bin".into(), "A=base".into()]);
        scope.declare("A", None, &globals);
        scope.declare("B", Some("b".into()), &globals);
        scope.set("PATH", "/usr/bin".into());
        assert_eq!(scope.value("A"), Some("base"));
        assert_eq!(scope.env(), ["PATH=/usr/bin", "A=base"]);
        assert_eq!(scope.arguments(), ["B=b"]);
        assert_eq!(scope.proxies(&globals), ["http_proxy=p"]);
        assert_eq!(globals.unused(), ["other"]);
    }

    #[test]
    fn platform_arguments_need_an_arg_in_a_stage() {
        let globals = globals(&[]);
        assert_eq!(globals.value("TARGETPLATFORM"), Some("linux/arm/v7"));
        assert_eq!(globals.value("BUILDPLATFORM"), Some("linux/amd64"));
        let mut scope = Scope::new(&[]);
        assert_eq!(scope.value("TARGETARCH"), None);
        scope.declare("TARGETARCH", None, &globals);
        assert_eq!(scope.value("TARGETARCH"), Some("arm"));
    }
}
