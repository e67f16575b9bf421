// SPDX-License-Identifier: Apache-2.0
//! The image of a finished stage: config, manifest, names.
//!
//! Runs as root; called by `mod`.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};

use super::layers;
use super::{Builder, Built, Options};
use crate::error::{Error, Result};

impl Builder<'_> {
    /// Puts the image of stage `number` in the store and names it.
    pub(super) fn publish(&self, number: usize, options: &Options) -> Result<Built> {
        let unused = self.globals.unused();
        if !unused.is_empty() {
            self.progress.line(&format!(
                "no ARG asked for --build-arg {}",
                unused.join(", ")
            ));
        }
        let finished = self.require(number)?;
        let mut config = finished.config;
        config.created = Some(self.created.clone());
        let labels = options.labels.clone();
        config.config.labels.extend(labels);
        let bytes = config.to_bytes()?;
        let (id, config) = self.layers.put_document(&bytes, MediaType::ImageConfig)?;
        let layers: Result<Vec<Descriptor>> =
            finished.layers.iter().map(layers::descriptor).collect();
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers?);
        if !options.annotations.is_empty() {
            let annotations: HashMap<_, _> = options.annotations.clone().into_iter().collect();
            manifest = manifest.annotations(annotations);
        }
        let failed = |error: String| Error::invalid(format!("write manifest: {error}"));
        let manifest = manifest
            .build()
            .map_err(|error| failed(error.to_string()))?;
        // Through a value, whose maps are sorted.
        let bytes = serde_json::to_value(&manifest)
            .and_then(|manifest| serde_json::to_vec(&manifest))
            .map_err(|error| failed(error.to_string()))?;
        let (digest, descriptor) = self.layers.put_document(&bytes, MediaType::ImageManifest)?;
        for name in &options.names {
            self.layers.set_name(name, &descriptor)?;
        }
        if options.names.is_empty() && options.outputs.is_empty() && options.cache_to.is_empty() {
            self.layers.keep_unnamed(&descriptor)?;
        }
        for output in &options.outputs {
            self.write_output(output, &finished.layers, options.names.first())?;
        }
        options
            .cache_to
            .iter()
            .try_for_each(|to| self.layers.export(to, self.supply.options(), self.halt))?;
        Ok(Built {
            id,
            manifest: digest,
            descriptor,
            cached: self.layers.cached(),
        })
    }
}
