// SPDX-License-Identifier: Apache-2.0
//! What the probe saw, as tests ask for it.

use serde_json::Value;

/// The mount table of a container, in its order.
#[derive(Debug)]
pub struct Mounts(Vec<Value>);

impl Mounts {
    /// The probe's step `mounts`.
    #[track_caller]
    pub fn of(value: &Value) -> Self {
        Self(value.as_array().expect("a mount table").clone())
    }

    /// The topmost mount at `point`, if there is one.
    pub fn find(&self, point: &str) -> Option<Mount<'_>> {
        self.0
            .iter()
            .rev()
            .find(|mount| mount["point"] == point)
            .map(Mount)
    }

    /// The topmost mount at `point`.
    #[track_caller]
    pub fn at(&self, point: &str) -> Mount<'_> {
        self.find(point)
            .unwrap_or_else(|| panic!("nothing mounted at {point}: {:#?}", self.points()))
    }

    /// All mount points.
    pub fn points(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|mount| mount["point"].as_str())
            .collect()
    }

    /// All mounts.
    pub fn iter(&self) -> impl Iterator<Item = Mount<'_>> {
        self.0.iter().map(Mount)
    }
}

/// One line of a mount table.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a>(&'a Value);

impl<'a> Mount<'a> {
    /// A field by its name: `type`, `root`, `point`, `source`, `options`, `super`, `propagation`, `device`.
    #[track_caller]
    pub fn get(&self, field: &str) -> &'a str {
        self.0[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.0))
    }

    /// Whether it has the per-mount option.
    pub fn has(&self, option: &str) -> bool {
        self.get("options").split(',').any(|is| is == option)
    }

    /// Whether its file system has the option.
    pub fn super_has(&self, option: &str) -> bool {
        self.get("super").split(',').any(|is| is == option)
    }
}

/// The capability set of that name (`CapEff`) in the probe's step `status`.
#[track_caller]
pub fn caps(status: &Value, set: &str) -> u64 {
    let text = status[set].as_str().unwrap_or_else(|| panic!("no {set}"));
    u64::from_str_radix(text, 16).expect("hexadecimal set")
}
