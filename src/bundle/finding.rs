// SPDX-License-Identifier: Apache-2.0
//! What a look at a document found: the field, the section of the spec, one sentence. Pure data, made by `scan.rs` and the
//! rules, turned into the one error of `create` or the whole list of a check.

use crate::error::{Error, Kind};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The document breaks a rule of the spec or of the kernel.
    Invalid,
    /// The document asks for what this build does not do.
    Unsupported,
    /// The document asks for what this host lacks.
    Host,
    /// The container can run, and with less than was asked for; the log says so.
    Warning,
    /// The container can run, and this field changes nothing; the log says so.
    Ignored,
    /// Nothing that any runtime does would be different; only a check says so.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field, as a JSON pointer; empty for the whole document.
    pub pointer: String,
    /// Where the spec says so.
    pub section: &'static str,
    /// One sentence.
    pub message: String,
    /// What the user can do, where the host's setup is the cause.
    pub remedy: Option<String>,
}

impl Severity {
    /// Whether there would be no container.
    pub fn refuses(self) -> bool {
        matches!(self, Self::Invalid | Self::Unsupported | Self::Host)
    }
}

impl Finding {
    /// The finding that `error` is.
    pub fn of(error: &Error) -> Self {
        Self {
            severity: match error.kind() {
                Kind::Unsupported => Severity::Unsupported,
                Kind::System => Severity::Host,
                _ => Severity::Invalid,
            },
            pointer: error.pointer().unwrap_or_default().to_owned(),
            section: "",
            message: error.message(),
            remedy: error.advice().map(str::to_owned),
        }
    }

    /// Whether `other` is about the same field, or about what holds or is in it.
    pub fn covers(&self, other: &Self) -> bool {
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        within(&self.pointer, &other.pointer) || within(&other.pointer, &self.pointer)
    }

    /// The line of the log.
    pub fn warning(&self) -> String {
        format!("{}: {}", self.pointer, self.message)
    }

    /// The error that this finding is, unless the container can run.
    pub fn error(&self) -> Option<Error> {
        let kind = match self.severity {
            Severity::Invalid => Kind::Invalid,
            Severity::Unsupported | Severity::Host => Kind::Unsupported,
            Severity::Warning | Severity::Ignored | Severity::Note => return None,
        };
        let error = Error::new(kind, self.message.clone());
        Some(if self.pointer.is_empty() {
            error
        } else {
            error.at(self.pointer.clone())
        })
    }
}

/// What a field is that the spec does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Ignored, with a line in the log, as the spec demands.
    #[default]
    Ignored,
    /// An error (`--strict`): it is a typing mistake, or means something to another runtime.
    Refused,
}

/// Findings in the order of the rules.
#[derive(Debug, Default)]
pub struct Report {
    unknown: Unknown,
    /// What stands in front of every pointer: `/process` when that section is judged as a part of config.json.
    base: &'static str,
    /// The section of the rule that runs.
    section: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    /// A report that takes unknown fields as `unknown` says.
    pub fn new(unknown: Unknown) -> Self {
        Self {
            unknown,
            ..Self::default()
        }
    }

    /// Where the rules that follow stand in the document and in the spec.
    pub fn enter(&mut self, base: &'static str, section: &'static str) {
        self.base = base;
        self.section = section;
    }

    /// The rule is broken at `pointer`.
    pub fn refuse(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Invalid, pointer.as_ref(), message.into());
    }

    /// What `pointer` asks for is not done by this build.
    pub fn unsupported(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Unsupported, pointer.as_ref(), message.into());
    }

    /// The host lacks what `pointer` asks for; the remedy may be empty.
    pub fn lacks(
        &mut self,
        pointer: impl AsRef<str>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Host, pointer.as_ref(), message.into());
        let remedy = Some(remedy.into()).filter(|text| !text.is_empty());
        if let Some(last) = self.findings.last_mut() {
            last.remedy = remedy;
        }
    }

    /// What `error` says.
    pub fn fail(&mut self, error: &Error) {
        self.findings.push(Finding::of(error));
    }

    /// The log should mention `pointer`.
    pub fn warn(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Warning, pointer.as_ref(), message.into());
    }

    /// The field at `pointer` changes nothing, for this reason.
    pub fn ignore(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Ignored, pointer.as_ref(), message.into());
    }

    /// The spec has no field at `pointer`; `hint` says what may be meant.
    pub fn unknown(&mut self, pointer: impl AsRef<str>, hint: &str) {
        match self.unknown {
            Unknown::Ignored => {
                self.ignore(pointer, format!("this field is unknown and ignored{hint}"))
            }
            Unknown::Refused => self.refuse(pointer, format!("this field is unknown{hint}")),
        }
    }

    /// Who looks closely may care about `pointer`.
    pub fn note(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Note, pointer.as_ref(), message.into());
    }

    /// All findings.
    pub fn finish(self) -> Vec<Finding> {
        self.findings
    }

    fn push(&mut self, severity: Severity, pointer: &str, message: String) {
        self.findings.push(Finding {
            severity,
            pointer: format!("{}{pointer}", self.base),
            section: self.section,
            message,
            remedy: None,
        });
    }
}
