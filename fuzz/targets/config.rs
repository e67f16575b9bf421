// SPDX-License-Identifier: Apache-2.0
//! config.json, from its bytes to the plan and the cgroup's values: no text makes the reader panic, what is refused is
//! refused with a field of the document, and what is accepted means the same when it is written and read again.

#![no_main]

use corten::bundle::finding::{Finding, Unknown};
use corten::bundle::{self, Bundle, support};
use corten::cgroup::Paths;
use corten::cgroup::resources::Resources;
use corten::error::Error;
use corten::plan::Plan;
use corten_fuzz::document::{self, assert_names_a_field, leads_somewhere};
use corten_fuzz::{mutate, plan};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::Value;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, &support::CONFIG, fuzzer_mutate)
});

fuzz_target!(|text: &[u8]| {
    let document = document::read(text);
    let (spec, findings) = match bundle::judge(text, Unknown::Ignored) {
        Ok(judged) => judged,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let Some(document) = document.filter(Value::is_object) {
                assert_names_a_field(&document, &error, text);
            }
            return;
        }
    };
    if let Some(document) = &document {
        for finding in &findings {
            assert!(leads_somewhere(document, &finding.pointer), "{finding:?}");
        }
    }
    let written = serde_json::to_vec(&spec).expect("a Spec can be written");
    let (again, found) =
        bundle::judge(&written, Unknown::Refused).expect("what was written can be read");
    assert_eq!(format!("{spec:?}"), format!("{again:?}"));
    let refused = findings.iter().find_map(Finding::error);
    if refused.is_some() {
        return;
    }
    let kept = bundle::parse(text).expect("later verbs read what create accepted");
    assert_eq!(format!("{spec:?}"), format!("{kept:?}"));
    let found = found.iter().find_map(Finding::error);
    assert!(
        found.is_none(),
        "accepted, but not as it was written: {found:?}"
    );
    let plans = [spec, again].map(|spec| all_plans(spec, text));
    for plan in &plans {
        if let (Err(error), Some(document)) = (plan, &document) {
            assert_names_a_field(document, error, text);
        }
    }
    assert_eq!(
        plans[0].as_ref().map_err(Error::to_string),
        plans[1].as_ref().map_err(Error::to_string)
    );
});

/// The plan and the cgroup's values on each kind of host, as text to compare.
fn all_plans(spec: bundle::spec::Spec, text: &[u8]) -> Result<String, Error> {
    let mut shown = String::new();
    let bundle = Bundle {
        path: "/bundle".into(),
        config: text.to_vec(),
        spec,
        warnings: Vec::new(),
    };
    let linux = bundle.spec.linux.as_ref();
    for layout in plan::layouts() {
        let wanted = linux.and_then(|linux| linux.cgroups_path.as_deref());
        let paths = Paths::plan(wanted, "fuzz", &layout, "".as_ref())?;
        let resources = Resources::plan(linux.and_then(|linux| linux.resources.as_ref()), &layout)?;
        plan::assert_resources(&resources, &layout);
        let plan = Plan::new(&bundle, plan::options(paths))?;
        plan::assert_plan(&plan);
        shown += &format!("{plan:?}{resources:?}");
    }
    Ok(shown)
}
