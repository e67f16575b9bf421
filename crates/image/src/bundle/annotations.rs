// SPDX-License-Identifier: Apache-2.0
//! An image's labels and what else its configuration says, as annotations of config.json (image-spec, conversion.md).
//! Pure.

use std::collections::BTreeMap;

use oci_spec::image::{Config, ImageConfiguration};

/// What runtimes take for orders: properties of a systemd unit, settings of CRIU, crun's own. Those are for who runs an
/// image, not for who has made it.
const ORDERS: [&str; 4] = [
    "module.wasm.image/",
    "org.criu.",
    "org.systemd.property.",
    "run.oci.",
];

/// `bundle` is what runc itself calls the bundle's directory there.
fn is_order(label: &str) -> bool {
    label == "bundle" || ORDERS.into_iter().any(|start| label.starts_with(start))
}

/// The implied annotations, and the labels, which win. SECURITY: labels that a runtime would obey are left out.
pub(super) fn annotations(config: &ImageConfiguration, image: &Config) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            all.insert(format!("org.opencontainers.image.{name}"), value);
        }
    };
    set("os", Some(config.os().to_string()));
    set("architecture", Some(config.architecture().to_string()));
    set("variant", config.variant().clone());
    set("os.version", config.os_version().clone());
    set(
        "os.features",
        config
            .os_features()
            .as_ref()
            .map(|features| features.join(",")),
    );
    set("author", config.author().clone());
    set("created", config.created().clone());
    set("stopSignal", image.stop_signal().clone());
    let mut ports: Vec<String> = image.exposed_ports().iter().flatten().cloned().collect();
    ports.sort();
    set("exposedPorts", Some(ports.join(",")));
    all.extend(
        image
            .labels()
            .iter()
            .flatten()
            .filter(|(name, _)| !is_order(name))
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::image::ConfigBuilder;

    use super::*;

    #[test]
    fn labels_are_annotations_and_no_orders() {
        let cases = [
            ("org.example.name", true),
            ("bundle", false),
            ("bundle.of", true),
            ("org.systemd.property.MemoryMin", false),
            ("org.systemd.propertyless", true),
            ("org.criu.config", false),
            ("run.oci.hooks.stdout", false),
            ("run.ocean", true),
            ("module.wasm.image/variant", false),
        ];
        let labels: HashMap<String, String> = cases
            .iter()
            .map(|(name, _)| ((*name).to_owned(), "value".to_owned()))
            .collect();
        let image = ConfigBuilder::default().labels(labels).build().unwrap();
        let all = annotations(&ImageConfiguration::default(), &image);
        for (name, stays) in cases {
            assert_eq!(all.contains_key(name), stays, "{name}");
        }
    }
}
