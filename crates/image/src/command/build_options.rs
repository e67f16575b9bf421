// SPDX-License-Identifier: Apache-2.0
//! The command line of `build` as the library takes it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use corten_image::build::{
    Cache, Exchange, NamedContext, Options, Output, Secret, Source, Surroundings, Way,
};
use corten_image::dockerfile::Network;
use corten_image::{Context, Error, Reference, Result, options};

use super::build::Args;

/// A Dockerfile on standard input may not be larger than this.
const TEXT_CAP: u64 = 4 << 20;

impl Args {
    /// What the library takes.
    pub fn options(&self) -> Result<Options> {
        let mut options = Options::new(self.context.clone());
        for tag in &self.tag {
            options.names.push(Reference::parse(tag)?);
        }
        options.file = match &self.file {
            None => Source::Context,
            Some(file) if file == Path::new("-") => Source::Text(read_stdin()?),
            Some(file) => Source::File(file.clone()),
        };
        options.args = self.args()?;
        for context in &self.build_context {
            let (name, place) = named_context(context)?;
            options.contexts.insert(name, place);
        }
        for secret in &self.secret {
            let (id, secret) = Secret::parse(secret, |name| std::env::var_os(name))?;
            options.secrets.insert(id, secret);
        }
        options.target.clone_from(&self.target);
        options.platform.clone_from(&self.platform);
        if self.no_cache {
            options.cache = Cache::Ignore;
        }
        options.no_cache_for.clone_from(&self.no_cache_filter);
        options.surroundings = self.surroundings()?;
        options.labels = options::labels(&self.label)?;
        options.annotations = self.annotations()?;
        for output in &self.output {
            options.outputs.push(Output::parse(output)?);
        }
        for from in &self.cache_from {
            options.cache_from.push(Exchange::parse(from, Way::From)?);
        }
        for to in &self.cache_to {
            options.cache_to.push(Exchange::parse(to, Way::To)?);
        }
        options.jobs = self.jobs;
        options.supply = self.supply.supply();
        options.runtime = self
            .runtime
            .clone()
            .or_else(|| std::env::var_os("CORTEN_RUNTIME"));
        options.source_date_epoch = std::env::var_os("SOURCE_DATE_EPOCH");
        Ok(options)
    }

    fn args(&self) -> Result<BTreeMap<String, String>> {
        let mut args = BTreeMap::new();
        for arg in &self.build_arg {
            match arg.split_once('=') {
                Some(("", _)) => {
                    return Err(Error::invalid(format!("--build-arg {arg} has no name")));
                }
                Some((name, value)) => {
                    args.insert(name.to_owned(), value.to_owned());
                }
                // What the environment doesn't have is not given.
                None => args.extend(std::env::var(arg).ok().map(|value| (arg.clone(), value))),
            }
        }
        Ok(args)
    }

    fn surroundings(&self) -> Result<Surroundings> {
        let network = match self.network.as_str() {
            "default" | "host" => Network::Host,
            "none" => Network::None,
            other => {
                return Err(Error::unsupported(format!(
                    "--network {other} is not supported: it is default, host or none"
                )));
            }
        };
        let hosts = self.add_host.iter().map(|host| options::host(host));
        Ok(Surroundings {
            network,
            hosts: hosts.collect::<Result<_>>()?,
            shm_size: self
                .shm_size
                .as_deref()
                .map(options::shm_size)
                .transpose()?,
            ulimits: options::ulimits(&self.ulimit)?,
        })
    }

    /// Of the manifest alone: there is no index that could have some.
    fn annotations(&self) -> Result<BTreeMap<String, String>> {
        let mut annotations = BTreeMap::new();
        for (name, value) in pairs("--annotation", &self.annotation)? {
            let name = match name.split_once(':') {
                Some(("manifest", name)) => name.to_owned(),
                Some((kind @ ("index" | "manifest-descriptor" | "index-descriptor"), _)) => {
                    return Err(Error::unsupported(format!(
                        "--annotation {kind}: is not supported: only the manifest has annotations"
                    )));
                }
                _ => name,
            };
            annotations.insert(name, value);
        }
        Ok(annotations)
    }
}

fn pairs(flag: &str, words: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!(
            "{flag} {word:?} is not of the form NAME=VALUE"
        ))),
    };
    words.iter().map(pair).collect()
}

fn named_context(text: &str) -> Result<(String, NamedContext)> {
    let wrong = |why: &str| Error::invalid(format!("--build-context {text}: {why}"));
    let (name, place) = text
        .split_once('=')
        .filter(|(name, place)| !name.is_empty() && !place.is_empty())
        .ok_or_else(|| wrong("write NAME=DIRECTORY or NAME=docker-image://IMAGE"))?;
    let context = match place.split_once("://") {
        None => NamedContext::Dir(place.into()),
        Some(("docker-image", image)) => NamedContext::Image(Reference::parse(image)?),
        Some(("oci-layout", _)) => {
            return Err(wrong("an OCI layout is not read directly")
                .remedy("import it, and name the image with docker-image://"));
        }
        Some(_) => return Err(wrong("only directories and docker-image:// are supported")),
    };
    Ok((name.to_owned(), context))
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().take(TEXT_CAP + 1);
    stdin
        .read_to_string(&mut text)
        .context("read the Dockerfile on standard input")?;
    match text.len() as u64 > TEXT_CAP {
        true => Err(Error::invalid("the Dockerfile is larger than 4 MiB")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        for (text, good) in [
            ("a=dir", true),
            ("a=docker-image://base:1", true),
            ("a=oci-layout://dir", false),
            ("a=https://example.com/x.git", false),
            ("a", false),
            ("=dir", false),
            ("a=", false),
        ] {
            assert_eq!(named_context(text).is_ok(), good, "{text}");
        }
    }
}
