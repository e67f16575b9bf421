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
    /// The container can run, and something that was asked for is not done; the log says so.
    Warning,
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
}

impl Finding {
    /// The line of the log.
    pub fn warning(&self) -> String {
        format!("{}: {}", self.pointer, self.message)
    }

    /// The error that this finding is, unless the container can run.
    pub fn error(&self) -> Option<Error> {
        let kind = match self.severity {
            Severity::Invalid => Kind::Invalid,
            Severity::Unsupported => Kind::Unsupported,
            Severity::Warning | Severity::Note => return None,
        };
        let error = Error::new(kind, self.message.clone());
        Some(if self.pointer.is_empty() {
            error
        } else {
            error.at(self.pointer.clone())
        })
    }
}

/// Findings in the order of the rules.
#[derive(Debug, Default)]
pub struct Report {
    /// What stands in front of every pointer: `/process` when that section is judged as a part of config.json.
    base: &'static str,
    /// The section of the rule that runs.
    section: &'static str,
    findings: Vec<Finding>,
}

impl Report {
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

    /// The log should mention `pointer`.
    pub fn warn(&mut self, pointer: impl AsRef<str>, message: impl Into<String>) {
        self.push(Severity::Warning, pointer.as_ref(), message.into());
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
        });
    }
}
