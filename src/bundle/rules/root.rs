// SPDX-License-Identifier: Apache-2.0
//! Rules of the document as a whole: version, root, process, annotations, personality. Pure; called by `validate.rs`.

use super::super::finding::Report;
use super::super::spec::Spec;
use super::with_linux;

pub(in super::super) fn version(spec: &Spec, report: &mut Report) {
    let version = spec.oci_version.as_str();
    if version.is_empty() {
        report.refuse("/ociVersion", "the version of the spec is missing");
    } else if !is_semver(version) {
        report.refuse(
            "/ociVersion",
            format!("`{version}` is no version like 1.3.0"),
        );
    } else if !version.starts_with("1.") {
        report.unsupported(
            "/ociVersion",
            format!("version {version} of the spec is not supported, only 1.x is"),
        );
    }
}

/// MAJOR.MINOR.PATCH, then a pre-release and a build, both optional.
fn is_semver(version: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let (version, build) = version.split_once('+').unwrap_or((version, "0"));
    let (numbers, pre) = version.split_once('-').unwrap_or((version, "0"));
    numbers.split('.').count() == 3
        && numbers.split('.').all(number)
        && pre.split('.').all(word)
        && build.split('.').all(word)
}

pub(in super::super) fn path(spec: &Spec, report: &mut Report) {
    match &spec.root {
        None => report.refuse("/root", "the root filesystem is missing"),
        Some(root) if root.path.is_empty() => {
            report.refuse("/root/path", "the path of the root filesystem is missing")
        }
        Some(_) => {}
    }
}

pub(in super::super) fn process(spec: &Spec, report: &mut Report) {
    if spec.process.is_none() {
        report.refuse("/process", "the process is missing");
    }
}

pub(in super::super) fn annotations(spec: &Spec, report: &mut Report) {
    if spec.annotations.contains_key("") {
        report.refuse(
            "/annotations/",
            "the key of an annotation must not be empty",
        );
    }
}

pub(in super::super) fn personality(spec: &Spec, report: &mut Report) {
    with_linux(spec, |linux| {
        let flags = linux
            .personality
            .as_ref()
            .map_or(&[][..], |personality| &personality.flags);
        for (index, flag) in flags.iter().enumerate() {
            report.refuse(
                format!("/linux/personality/flags/{index}"),
                format!("the spec defines no flags, so `{flag}` means nothing"),
            );
        }
    });
}
