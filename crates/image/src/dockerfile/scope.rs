// SPDX-License-Identifier: Apache-2.0
//! Which variables an instruction sees: ARG before FROM, ARG within a stage, ENV, and those that are always there.
//!
//! Pure. A global ARG is seen by FROM lines alone; a stage sees it after an ARG of the same name. ENV hides ARG.
//! A stage FROM another stage inherits its arguments with its environment.

use std::collections::{BTreeMap, BTreeSet};

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
    used: BTreeSet<String>,
}

impl Globals {
    /// With the values of `--build-arg`, and the platform that is built on and for.
    pub fn new(given: BTreeMap<String, String>, platform: &Platform) -> Self {
        let declared = platform
            .arguments()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Some(value)))
            .collect();
        Self {
            given,
            declared,
            used: BTreeSet::new(),
        }
    }

    /// An ARG before the first FROM; `default` is expanded.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        let value = self.given_for(name).or(default);
        self.declared.insert(name.to_owned(), value);
    }

    /// The `--build-arg` names that nothing asked for.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !self.used.contains(*name) && !PROXIES.contains(name))
    }

    fn given_for(&mut self, name: &str) -> Option<String> {
        let value = self.given.get(name).cloned()?;
        self.used.insert(name.to_owned());
        Some(value)
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
    pub fn declare(&mut self, name: &str, default: Option<String>, globals: &mut Globals) {
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
    pub os: &'static str,
    /// `amd64`, `arm64`, ...
    pub architecture: &'static str,
    /// `v7` of 32-bit ARM; empty elsewhere.
    pub variant: &'static str,
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
            os: "linux",
            architecture,
            variant,
        }
    }

    fn arguments(&self) -> Vec<(&'static str, String)> {
        let mut whole = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            whole = format!("{whole}/{}", self.variant);
        }
        vec![
            ("BUILDPLATFORM", whole.clone()),
            ("BUILDOS", self.os.to_owned()),
            ("BUILDARCH", self.architecture.to_owned()),
            ("BUILDVARIANT", self.variant.to_owned()),
            ("TARGETPLATFORM", whole),
            ("TARGETOS", self.os.to_owned()),
            ("TARGETARCH", self.architecture.to_owned()),
            ("TARGETVARIANT", self.variant.to_owned()),
        ]
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: Platform = Platform {
        os: "linux",
        architecture: "arm",
        variant: "v7",
    };

    fn globals(given: &[(&str, &str)]) -> Globals {
        let given = given.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        Globals::new(given.collect(), &ARM)
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
                scope.declare("x", default.map(str::to_owned), &mut globals);
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
        let mut globals = globals(&[("A", "given"), ("http_proxy", "p"), ("other", "")]);
        let mut scope = Scope::new(&["PATH=/bin".into(), "A=base".into()]);
        scope.declare("A", None, &mut globals);
        scope.declare("B", Some("b".into()), &mut globals);
        scope.set("PATH", "/usr/bin".into());
        assert_eq!(scope.value("A"), Some("base"));
        assert_eq!(scope.env(), ["PATH=/usr/bin", "A=base"]);
        assert_eq!(scope.arguments(), ["B=b"]);
        assert_eq!(scope.proxies(&globals), ["http_proxy=p"]);
        assert_eq!(globals.unused().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn platform_arguments_need_an_arg_in_a_stage() {
        let mut globals = globals(&[]);
        assert_eq!(globals.value("TARGETPLATFORM"), Some("linux/arm/v7"));
        let mut scope = Scope::new(&[]);
        assert_eq!(scope.value("TARGETARCH"), None);
        scope.declare("TARGETARCH", None, &mut globals);
        assert_eq!(scope.value("TARGETARCH"), Some("arm"));
    }
}
