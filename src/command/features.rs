// SPDX-License-Identifier: Apache-2.0
//! `features`: what is implemented, as the runtime specification's features document. The runtime's own process, no
//! privilege, and no look at the host but for what the document itself asks of it; called by `command`.
//!
//! Every list is the table that the runtime itself reads, and every switch is what the table of fields says of the field
//! behind it: a claim can't outlive its code. Names and order are those of runc 1.3, since engines read them.

use corten_sys::seccomp::knows_flags;

use crate::bundle::crun;
use crate::bundle::names::{CAPABILITIES, MEMORY_POLICIES, MEMORY_POLICY_FLAGS};
use crate::bundle::support::{self, Support};
use crate::cgroup::systemd;
use crate::checkpoint::CONFIG_ANNOTATION;
use crate::cli::SPEC_VERSION;
use crate::hooks::Point;
use crate::json::Json;
use crate::plan::options;
use crate::seccomp::model::{ACTIONS, FLAGS, OPERATORS};
use crate::seccomp::tables::arch::Arch;
use crate::sort;

/// The oldest version of the specification whose documents are read.
const OLDEST: &str = "1.0.0";

/// The document.
pub(super) fn features() -> String {
    let options = options::known();
    let hooks = Point::ALL.map(Point::name);
    Json::Object(vec![
        ("ociVersionMin", Json::from(OLDEST)),
        ("ociVersionMax", Json::from(SPEC_VERSION)),
        ("hooks", Json::texts(hooks)),
        ("mountOptions", Json::texts(options)),
        ("linux", linux()),
        ("annotations", annotations()),
        // All others are refused (`run.oci.*`), or handed to hooks and `state`, and change nothing that the runtime does.
        (
            "potentiallyUnsafeConfigAnnotations",
            Json::texts(
                [CONFIG_ANNOTATION, systemd::PROPERTY_ANNOTATIONS]
                    .into_iter()
                    .chain(crun::OBEYED),
            ),
        ),
    ])
    .pretty()
}

fn linux() -> Json<'static> {
    let namespaces = support::words("/linux/namespaces/*/type");
    let cgroup = Json::Object(vec![
        // A host's v1 controllers are joined beside its v2 hierarchy; a host with nothing but v1 is refused.
        ("v1", Json::Flag(false)),
        ("v2", Json::Flag(true)),
        ("systemd", Json::Flag(true)),
        ("systemdUser", Json::Flag(true)),
        ("rdma", carried_out("/linux/resources/rdma")),
    ]);
    let policy = Json::Object(vec![
        ("modes", sorted(MEMORY_POLICIES)),
        ("flags", sorted(MEMORY_POLICY_FLAGS)),
    ]);
    let idmap = enabled("/mounts/*/uidMappings");
    Json::Object(vec![
        ("namespaces", sorted(namespaces.iter().copied())),
        ("capabilities", Json::texts(CAPABILITIES)),
        ("cgroup", cgroup),
        ("seccomp", seccomp()),
        ("apparmor", enabled("/process/apparmorProfile")),
        ("selinux", enabled("/process/selinuxLabel")),
        ("intelRdt", intel_rdt()),
        ("memoryPolicy", policy),
        ("mountExtensions", Json::Object(vec![("idmap", idmap)])),
        ("netDevices", enabled("/linux/netDevices")),
    ])
}

/// The kernel is asked for the flags alone: engines choose a profile's flags by the last list.
fn seccomp() -> Json<'static> {
    const SECTION: &str = "/linux/seccomp";
    if support::of(SECTION) != Some(Support::Yes) {
        return enabled(SECTION);
    }
    // No call can come from a machine of the other byte order, and a profile that names one is refused.
    let order = Arch::native().endian();
    let archs = Arch::ALL.into_iter().filter(|arch| arch.endian() == order);
    let known = FLAGS.iter().map(|(name, _)| *name);
    let supported = FLAGS.iter().filter(|(_, flag)| knows_flags(*flag));
    Json::Object(vec![
        ("enabled", Json::Flag(true)),
        ("actions", sorted(ACTIONS.iter().map(|(name, _)| *name))),
        ("operators", sorted(OPERATORS.iter().map(|(name, _)| *name))),
        ("archs", sorted(archs.map(|arch| arch.name()))),
        ("knownFlags", sorted(known)),
        ("supportedFlags", sorted(supported.map(|(name, _)| *name))),
    ])
}

fn sorted(names: impl IntoIterator<Item = &'static str>) -> Json<'static> {
    let names = names.into_iter().collect();
    Json::texts(sort::by_key(names, &|name| *name))
}

fn intel_rdt() -> Json<'static> {
    Json::Object(vec![
        ("enabled", carried_out("/linux/intelRdt")),
        ("schemata", carried_out("/linux/intelRdt/schemata")),
        (
            "monitoring",
            carried_out("/linux/intelRdt/enableMonitoring"),
        ),
    ])
}

fn annotations() -> Json<'static> {
    let commit = option_env!("CORTEN_COMMIT").unwrap_or("unknown");
    Json::Object(vec![
        ("org.corten.version", Json::from(env!("CARGO_PKG_VERSION"))),
        ("org.corten.commit", Json::from(commit)),
        ("org.corten.checkpoint.enabled", Json::from("true")),
    ])
}

fn enabled(pointer: &str) -> Json<'static> {
    Json::Object(vec![("enabled", carried_out(pointer))])
}

/// Whether config.json's field at `pointer` is carried out, with all that it stands in.
fn carried_out(pointer: &str) -> Json<'static> {
    Json::Flag(support::of(pointer) == Some(Support::Yes))
}
