// SPDX-License-Identifier: Apache-2.0
//! One stage: its base, then its steps in order. Stages are built when something needs them, so those that nothing
//! needs are not.
//!
//! Runs as root; called by `mod`.

use super::config::Config;
use super::expand::{check_platform, expand, expand_transfer};
use super::layers::{Origin, View};
use super::leaf::is_dir;
use super::transfer::{self, Verb};
use super::tree::{Tree, absolute};
use super::{Builder, place, run, settings};
use crate::digest::Digest;
use crate::dockerfile::scope::{Platform, Scope};
use crate::dockerfile::{Instruction, Stage, Step, Transfer, parse_trigger};
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
    number: usize,
}

impl Builder<'_> {
    /// Builds stage `number` unless it is built.
    pub(super) fn require(&mut self, number: usize) -> Result<()> {
        if self.finished.get(number).is_some_and(Option::is_some) {
            return Ok(());
        }
        let stage = self.stage(number)?;
        let (line, steps) = (stage.line, stage.steps.clone());
        let (file, from) = (self.file.clone(), stage.base.clone());
        self.interrupt.check()?;
        let at = || format!("{file}:{line}: FROM {from}");
        let base = self.base(number).with_context(at)?;
        // What is below has errors of its own, with lines of their own.
        if let Some(earlier) = self.earlier(number, &base) {
            self.require(earlier)?;
        }
        self.require_sources(number, &steps)?;
        let (mut work, triggers) = self.start(number, &base).with_context(at)?;
        for text in triggers {
            let at = || format!("{file}:{line}: ONBUILD {text}");
            let mut step = parse_trigger(&text)
                .map_err(|error| Error::invalid(error.text))
                .with_context(at)?;
            step.line = line;
            self.step(&mut work, &step).with_context(at)?;
        }
        for step in &steps {
            let name = step.instruction.name();
            self.step(&mut work, step)
                .with_context(|| format!("{file}:{}: {name}", step.line))?;
        }
        let finished = Finished {
            config: work.config,
            layers: work.layers,
            scope: work.scope,
        };
        if let Some(place) = self.finished.get_mut(number) {
            *place = Some(finished);
        }
        Ok(())
    }

    /// A stage that [`Builder::require`] has built.
    pub(super) fn finished(&self, number: usize) -> Result<&Finished> {
        let finished = self.finished.get(number).and_then(Option::as_ref);
        finished.ok_or_else(|| Error::invalid(format!("stage {number} is not built")))
    }

    fn stage(&self, number: usize) -> Result<&Stage> {
        let stage = self.dockerfile.stages.get(number);
        stage.ok_or_else(|| Error::invalid(format!("there is no stage {number}")))
    }

    /// The base of stage `number`, expanded.
    fn base(&self, number: usize) -> Result<String> {
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
        if let Some(platform) = &stage.platform {
            let platform = expand(platform, self.dockerfile.escape, &self.globals)?;
            check_platform(&platform)?;
        }
        self.progress.line(&format!("FROM {base}{name}"));
        let mut finished = match self.earlier(number, base) {
            Some(earlier) => self.finished(earlier)?.clone(),
            None if base == "scratch" => Finished {
                config: Config::scratch(&Platform::host()),
                layers: Vec::new(),
                scope: Scope::default(),
            },
            None => self.stored(base)?,
        };
        let triggers = std::mem::take(&mut finished.config.config.on_build);
        let work = Work {
            config: finished.config,
            layers: finished.layers,
            scope: finished.scope,
            cmd_is_own: false,
            number,
        };
        Ok((work, triggers))
    }

    /// The earlier stage that `name` means.
    fn earlier(&self, number: usize, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        let stages = self.dockerfile.stages.get(..number)?;
        stages
            .iter()
            .position(|stage| stage.name.as_ref() == Some(&name))
    }

    fn stored(&self, name: &str) -> Result<Finished> {
        let reference = Reference::parse(name)?;
        let image = self.layers.image(&reference, self.supply, self.interrupt)?;
        let config = Config::parse(&image.config_bytes)?;
        Ok(Finished {
            scope: Scope::new(&config.config.env),
            config,
            layers: image.layers,
        })
    }

    fn step(&mut self, work: &mut Work, step: &Step) -> Result<()> {
        self.interrupt.check()?;
        self.progress.line(&step.text);
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

    fn declare(
        &mut self,
        work: &mut Work,
        declarations: &[(String, Option<String>)],
    ) -> Result<()> {
        for (name, default) in declarations {
            let expand = |word: &String| expand(word, self.dockerfile.escape, &work.scope);
            let default = default.as_ref().map(expand).transpose()?;
            work.scope.declare(name, default, &mut self.globals);
        }
        Ok(())
    }

    /// The given proxies that the stage does not set itself.
    pub(super) fn scope_proxies(&self, work: &Work) -> Vec<String> {
        work.scope.proxies(&self.globals)
    }

    /// Tells whether a step was made or found.
    pub(super) fn tell(&self, origin: Origin) {
        if origin == Origin::Cache {
            self.progress.line("  from the cache");
        }
    }

    fn workdir(&mut self, work: &mut Work, dir: &str) -> Result<Option<Digest>> {
        let dir = expand(dir, self.dockerfile.escape, &work.scope)?;
        let dir = absolute(work.config.working_dir(), &dir);
        work.config.config.working_dir = place::shown(&dir);
        let mut key = self.layers.key(&work.layers, "WORKDIR");
        let user = work.config.config.user.clone();
        key.update(format!("{}\0{user}", work.config.config.working_dir).as_bytes());
        let time = transfer::at(self.epoch.unwrap_or_default());
        let (origin, diff_id) = self.layers.step(&mut work.layers, key, |workspace| {
            let root = Tree::root(workspace.mount()?);
            // Where it is there already, nothing may be touched: there is no layer then.
            if root.find(&dir)?.is_some_and(|(_, stat)| is_dir(&stat)) {
                return Ok(());
            }
            let owner = match user.as_str() {
                "" => place::Owner::ROOT,
                user => users::find(root.as_fd(), user).map(|user| place::Owner {
                    uid: user.uid,
                    gid: user.gid,
                })?,
            };
            let mut place = place::Place::new(&root);
            place.make_dirs(&dir, owner, time)?;
            place.finish()
        })?;
        self.tell(origin);
        Ok(diff_id)
    }

    fn transfer(
        &mut self,
        work: &mut Work,
        transfer: &Transfer,
        verb: Verb,
    ) -> Result<Option<Digest>> {
        let transfer = expand_transfer(transfer, self.dockerfile.escape, &work.scope)?;
        let view = match &transfer.from {
            Some(from) => Some(self.other(work.number, from)?),
            None => None,
        };
        let tree = view.as_ref().map_or(&self.context, |view| &view.tree);
        let check = || self.interrupt.check();
        let workdir = work.config.working_dir();
        let prepared = transfer::prepare(&transfer, verb, tree, workdir, &check)?;
        let kind = match verb {
            Verb::Copy => "COPY",
            Verb::Add => "ADD",
        };
        let mut key = self.layers.key(&work.layers, kind);
        prepared.sum_up(&mut key);
        let time = self.epoch.unwrap_or_default();
        let (origin, diff_id) = self.layers.step(&mut work.layers, key, |workspace| {
            let root = Tree::root(workspace.mount()?);
            prepared.write(tree, &root, time, &check)
        })?;
        self.tell(origin);
        Ok(diff_id)
    }

    /// The earlier stage that `--from` means, seen from stage `number`; none if it means an image.
    fn source_stage(&self, number: usize, from: &str) -> Result<Option<usize>> {
        match from.parse::<usize>() {
            Ok(other) if other < number => Ok(Some(other)),
            Ok(other) => Err(Error::invalid(format!(
                "--from={other} is not an earlier stage"
            ))),
            Err(_) => Ok(self.earlier(number, from)),
        }
    }

    /// Builds the stages that `steps` copy from: before the stage's own first step, so that what is told about it stays
    /// together.
    fn require_sources(&mut self, number: usize, steps: &[Step]) -> Result<()> {
        for step in steps {
            if let Instruction::Copy(copy) = &step.instruction
                && let Some(from) = &copy.from
            {
                let at = format!("{}:{}: COPY", self.file, step.line);
                if let Some(earlier) = self.source_stage(number, from).context(at)? {
                    self.require(earlier)?;
                }
            }
        }
        Ok(())
    }

    /// The tree that `--from` means, seen from stage `number`: an earlier stage, or a stored image.
    fn other(&mut self, number: usize, from: &str) -> Result<View> {
        let earlier = self.source_stage(number, from)?;
        let layers = match earlier {
            Some(earlier) => {
                self.require(earlier)?;
                self.finished(earlier)?.layers.clone()
            }
            None => {
                self.stored(from)
                    .with_context(|| format!("--from={from}"))?
                    .layers
            }
        };
        self.layers.view(&layers)
    }
}
