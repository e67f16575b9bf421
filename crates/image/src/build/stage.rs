// SPDX-License-Identifier: Apache-2.0
//! One stage: its base, then its steps in order. Stages are built when something needs them, so those that nothing
//! needs are not.
//!
//! Runs as root; called by `schedule`.

use std::sync::PoisonError;

use super::config::Config;
use super::expand::expand;
use super::layers::{Making, Origin};
use super::leaf::is_dir;
use super::named::From;
use super::place::{self, Owner, Place};
use super::transfer::{self, Verb};
use super::tree::{Tree, absolute};
use super::{Builder, Cache, run, settings};
use crate::digest::Digest;
use crate::dockerfile::scope::{Platform, Scope};
use crate::dockerfile::{Instruction, Stage, Step, parse_trigger};
use crate::error::{Context, Error, Result};
use crate::image::Layer;
use crate::reference::Reference;
use crate::users;

/// A stage that was built.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The image's config.
    pub config: Config,
    /// Bottom first.
    pub layers: Vec<Layer>,
    /// What a stage FROM this one inherits.
    pub scope: Scope,
}

/// A stage that is being built.
pub(super) struct Work {
    pub config: Config,
    pub layers: Vec<Layer>,
    pub scope: Scope,
    /// Whether this stage has said what runs: an inherited CMD doesn't outlive a new ENTRYPOINT.
    pub cmd_is_own: bool,
    pub number: usize,
    /// In front of what is told about it; empty where no other stage is built.
    pub label: String,
    /// Whether its steps may come from the cache.
    pub cache: Cache,
}

impl Work {
    /// What a step is made for.
    pub fn making(&mut self) -> Making<'_> {
        Making {
            layers: &mut self.layers,
            cache: self.cache,
        }
    }
}

impl Builder<'_> {
    /// Builds stage `number` unless it is built. Stages that are built at the same time wait for each other here; they
    /// wait for earlier ones alone, so that somebody always goes on.
    pub(super) fn require(&self, number: usize) -> Result<Finished> {
        let place = self.finished.get(number);
        let place = place.ok_or_else(|| Error::invalid(format!("there is no stage {number}")))?;
        // It is set when the stage is whole.
        let mut finished = place.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.is_none() {
            *finished = Some(self.build_stage(number)?);
        }
        finished
            .clone()
            .ok_or_else(|| Error::invalid(format!("stage {number} is not built")))
    }

    fn build_stage(&self, number: usize) -> Result<Finished> {
        self.halt.check()?;
        let stage = self.stage(number)?;
        let (file, line, from) = (&self.file, stage.line, &stage.base);
        let at = || format!("{file}:{line}: FROM {from}");
        let base = self.base(number).with_context(at)?;
        let (mut work, triggers) = self.start(number, &base).with_context(at)?;
        for text in triggers {
            let at = || format!("{file}:{line}: ONBUILD {text}");
            let mut step = parse_trigger(&text)
                .map_err(|error| Error::invalid(error.text))
                .with_context(at)?;
            step.line = line;
            self.step(&mut work, &step).with_context(at)?;
        }
        for step in &stage.steps {
            let name = step.instruction.name();
            self.step(&mut work, step)
                .with_context(|| format!("{file}:{}: {name}", step.line))?;
        }
        Ok(Finished {
            config: work.config,
            layers: work.layers,
            scope: work.scope,
        })
    }

    pub(super) fn stage(&self, number: usize) -> Result<&Stage> {
        let stage = self.dockerfile.stages.get(number);
        stage.ok_or_else(|| Error::invalid(format!("there is no stage {number}")))
    }

    /// The base of stage `number`, expanded.
    pub(super) fn base(&self, number: usize) -> Result<String> {
        let base = expand(
            &self.stage(number)?.base,
            self.dockerfile.escape,
            &self.globals,
        )?;
        match base.is_empty() {
            true => Err(Error::invalid("the base name is empty")),
            false => Ok(base),
        }
    }

    /// What stage `number` starts with, and the triggers that its base brings.
    fn start(&self, number: usize, base: &str) -> Result<(Work, Vec<String>)> {
        let stage = self.stage(number)?;
        let name = stage
            .name
            .clone()
            .map(|name| format!(" AS {name}"))
            .unwrap_or_default();
        let platform = self.platform_of(stage)?;
        let label = self.label(number, stage);
        self.progress.line(&format!("{label}FROM {base}{name}"));
        let mut finished = match self.base_of(number, base) {
            From::Stage(earlier) => self.require(earlier)?,
            From::Image(name) if name == "scratch" => {
                let config = Config::scratch(&platform);
                Finished {
                    scope: Scope::new(&config.config.env),
                    config,
                    layers: Vec::new(),
                }
            }
            From::Image(name) => self.stored(&name, &platform)?,
            From::Dir(name) => {
                return Err(Error::unsupported(format!(
                    "--build-context {name} is a directory, which no stage can be based on"
                ))
                .remedy("start FROM scratch and COPY --from it"));
            }
        };
        let triggers = std::mem::take(&mut finished.config.config.on_build);
        let work = Work {
            config: finished.config,
            layers: finished.layers,
            scope: finished.scope,
            cmd_is_own: false,
            number,
            label,
            cache: self.cache_of(number, stage),
        };
        Ok((work, triggers))
    }

    /// The platform that `stage` is for.
    fn platform_of(&self, stage: &Stage) -> Result<Platform> {
        let Some(platform) = &stage.platform else {
            return Ok(self.target_platform.clone());
        };
        let platform = expand(platform, self.dockerfile.escape, &self.globals)?;
        match platform.is_empty() {
            true => Ok(self.target_platform.clone()),
            false => Platform::parse(&platform).ok_or_else(|| {
                Error::invalid(format!(
                    "--platform={platform} is no platform: write linux/arm64"
                ))
            }),
        }
    }

    /// What is put in front of the lines about `stage`.
    fn label(&self, number: usize, stage: &Stage) -> String {
        match (&stage.name, self.dockerfile.stages.len()) {
            (_, 1) => String::new(),
            (Some(name), _) => format!("[{name}] "),
            (None, _) => format!("[{number}] "),
        }
    }

    fn cache_of(&self, number: usize, stage: &Stage) -> Cache {
        let named = self.no_cache_for.iter().any(|wanted| {
            stage.name.as_deref() == Some(&wanted.to_lowercase()) || wanted.parse() == Ok(number)
        });
        match named {
            true => Cache::Ignore,
            false => self.cache,
        }
    }

    /// The earlier stage that `name` means.
    pub(super) fn earlier(&self, number: usize, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        let stages = self.dockerfile.stages.get(..number)?;
        stages
            .iter()
            .position(|stage| stage.name.as_ref() == Some(&name))
    }

    /// An image for `platform`, as if it were a stage.
    pub(super) fn stored(&self, name: &str, platform: &Platform) -> Result<Finished> {
        let reference = Reference::parse(name)?;
        let image = self
            .layers
            .image(&reference, platform, self.supply, self.halt)?;
        let config = Config::parse(&image.config_bytes)?;
        Ok(Finished {
            scope: Scope::new(&config.config.env),
            config,
            layers: image.layers,
        })
    }

    fn step(&self, work: &mut Work, step: &Step) -> Result<()> {
        self.halt.check()?;
        self.progress.line(&format!("{}{}", work.label, step.text));
        let changed = match &step.instruction {
            Instruction::Run(run) => run::execute(self, work, run)?,
            Instruction::Copy(copy) => self.transfer(work, copy, Verb::Copy)?,
            Instruction::Add(add) => self.transfer(work, add, Verb::Add)?,
            Instruction::Workdir(dir) => self.workdir(work, dir)?,
            Instruction::Arg(declarations) => {
                self.declare(work, declarations)?;
                None
            }
            instruction => {
                settings::apply(work, instruction, self.dockerfile.escape)?;
                None
            }
        };
        let diff_id = changed.as_ref().map(Digest::as_str);
        work.config.record(&self.created, &step.text, diff_id);
        Ok(())
    }

    fn declare(&self, work: &mut Work, declarations: &[(String, Option<String>)]) -> Result<()> {
        for (name, default) in declarations {
            let expand = |word: &String| expand(word, self.dockerfile.escape, &work.scope);
            let default = default.as_ref().map(expand).transpose()?;
            work.scope.declare(name, default, &self.globals);
        }
        Ok(())
    }

    /// The given proxies that the stage does not set itself.
    pub(super) fn scope_proxies(&self, work: &Work) -> Vec<String> {
        work.scope.proxies(&self.globals)
    }

    /// Tells whether a step was made or found.
    pub(super) fn tell(&self, work: &Work, origin: Origin) {
        if origin == Origin::Cache {
            self.progress
                .line(&format!("{}  from the cache", work.label));
        }
    }

    fn workdir(&self, work: &mut Work, dir: &str) -> Result<Option<Digest>> {
        let dir = expand(dir, self.dockerfile.escape, &work.scope)?;
        let dir = absolute(work.config.working_dir(), &dir);
        work.config.config.working_dir = place::shown(&dir);
        let mut key = self.layers.key(&work.layers, "WORKDIR");
        let user = work.config.config.user.clone();
        key.update(format!("{}\0{user}", work.config.config.working_dir).as_bytes());
        let time = transfer::at(self.epoch.unwrap_or_default());
        let (origin, diff_id) = self.layers.step(work.making(), key, |workspace| {
            let root = Tree::root(workspace.mount()?);
            // Where it is there already, nothing may be touched: there is no layer then.
            if root.find(&dir)?.is_some_and(|(_, stat)| is_dir(&stat)) {
                return Ok(());
            }
            let owner = match user.as_str() {
                "" => Owner::ROOT,
                user => users::find(root.as_fd(), user).map(|user| Owner {
                    uid: user.uid,
                    gid: user.gid,
                })?,
            };
            let mut place = Place::new(&root);
            place.make_dirs(&dir, owner, time)?;
            place.finish().map(drop)
        })?;
        self.tell(work, origin);
        Ok(diff_id)
    }
}
