// SPDX-License-Identifier: Apache-2.0
//! `check`: what would be refused, degraded or ignored of a bundle on this host. Starts and changes nothing; the runtime's
//! own process with the caller's privileges; called by `command`.

use super::create::unknown;
use crate::bundle::finding::{Finding, Severity};
use crate::cgroup::place::Asker;
use crate::check;
use crate::cli::meant::{CheckArgs, CheckFormat};
use crate::cli::report;
use crate::error::Result;
use crate::json::Json;

/// Of a bundle that `create` would refuse.
const REFUSED: u8 = 1;

/// Prints what there is to say; the status is 0 if the container would run.
pub(super) fn check(args: &CheckArgs) -> Result<u8> {
    let findings = check::check(
        &args.bundle,
        unknown(args.strict),
        Asker {
            id: check::NOBODY,
            driver: args.driver,
            is_user: args.rootless,
        },
    );
    report::print(&match args.format {
        CheckFormat::Text => text(args, &findings),
        CheckFormat::Json => json(args, &findings),
    })?;
    Ok(if check::runs(&findings) { 0 } else { REFUSED })
}

/// What becomes of the field, and whose doing that is.
fn words(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Invalid => ("refused", "document"),
        Severity::Unsupported => ("refused", "corten"),
        Severity::Host => ("refused", "host"),
        Severity::Warning => ("degraded", "document"),
        Severity::Ignored => ("ignored", "document"),
        Severity::Note => ("note", "document"),
    }
}

fn text(args: &CheckArgs, findings: &[Finding]) -> String {
    let mut lines = String::new();
    for finding in findings {
        let (effect, _) = words(finding.severity);
        let mut line = format!("{effect}: ");
        if !finding.pointer.is_empty() {
            line.push_str(&finding.pointer);
            line.push_str(": ");
        }
        line.push_str(&finding.message);
        if let Some(remedy) = &finding.remedy {
            line.push_str("; ");
            line.push_str(remedy);
        }
        line.push_str(&format!(" [{}]", finding.section));
        lines.push_str(&report::printable(&line));
        lines.push('\n');
    }
    let verdict = if check::runs(findings) {
        "would run"
    } else {
        "would not run"
    };
    lines.push_str(&report::printable(&format!(
        "{}: {verdict}",
        args.bundle.display()
    )));
    lines.push('\n');
    lines
}

fn json(args: &CheckArgs, findings: &[Finding]) -> String {
    let each = findings.iter().map(|finding| {
        let (severity, cause) = words(finding.severity);
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        Json::Object(vec![
            ("severity", Json::from(severity)),
            ("cause", Json::from(cause)),
            ("pointer", Json::from(&*finding.pointer)),
            ("section", Json::from(finding.section)),
            ("message", Json::from(&*finding.message)),
            ("remedy", Json::from(remedy)),
        ])
    });
    Json::Object(vec![
        ("bundle", Json::from(args.bundle.to_string_lossy())),
        ("runs", Json::Flag(check::runs(findings))),
        ("findings", Json::List(each.collect())),
    ])
    .pretty()
}
