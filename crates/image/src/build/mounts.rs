// SPDX-License-Identifier: Apache-2.0
//! `RUN --mount`: what each mount depends on, and what its container sees.
//!
//! Runs as root; called by `run`. What is bound is never the user's own: files of the context are copied (as COPY would,
//! so that .dockerignore and owners count), and trees of stages are overlays whose upper directory is thrown away.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::Builder;
use super::expand::expand;
use super::filter::Filter;
use super::find::{Found, Presence, find_one, missing};
use super::made::{Made, Source};
use super::named::{Opened, Origin};
use super::place::{Attributes, Owner, Place};
use super::source::{Item, sum_up, walk};
use super::stage::Work;
use super::stubs::Shape;
use super::tree::{Tree, absolute};
use crate::digest::{Digest, Hasher};
use crate::dockerfile::RawMount;
use crate::dockerfile::mount::{self, Kind, Look, Mount, Need, Sharing};
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::overlay::Workspace;
use crate::store::caches;

/// One mount of a RUN, ready to be carried out.
pub(super) struct Planned<'a> {
    mount: Mount,
    /// Relative to the root; none for a secret that is only a variable.
    pub target: Option<PathBuf>,
    origin: Option<Origin<'a>>,
    /// Of what `origin` holds there.
    sum: Option<Digest>,
    /// The files behind a bind mount of a directory of the user's.
    taken: Option<(Found, Vec<Item>)>,
}

impl Builder<'_> {
    /// What the mounts of a RUN mean in its stage, and what they depend on.
    pub(super) fn plan_mounts(&self, work: &Work, raw: &[RawMount]) -> Result<Vec<Planned<'_>>> {
        let mut planned = Vec::new();
        for raw in raw {
            let plan = self.plan_mount(work, raw).context("--mount")?;
            planned.push(plan);
        }
        // What is in another is mounted after it.
        planned.sort_by(|a, b| a.target.cmp(&b.target));
        if let Some([one, _]) = planned
            .array_windows()
            .find(|[a, b]| a.target.is_some() && a.target == b.target)
        {
            let target = one.target.as_deref().unwrap_or(Path::new("")).display();
            return Err(Error::invalid(format!("--mount: two mounts on /{target}")));
        }
        Ok(planned)
    }

    fn plan_mount(&self, work: &Work, raw: &RawMount) -> Result<Planned<'_>> {
        let expanded = raw.options.iter().map(|(name, value)| {
            let expand = |value: &String| expand(value, self.dockerfile.escape, &work.scope);
            Ok((name.clone(), value.as_ref().map(expand).transpose()?))
        });
        let expanded = RawMount {
            options: expanded.collect::<Result<_>>()?,
        };
        let mount = mount::parse(&expanded).map_err(Error::invalid)?;
        let workdir = work.config.working_dir();
        let target = match (&mount.target, &mount.kind) {
            (Some(target), _) => Some(absolute(workdir, target)),
            (None, Kind::Secret { env: Some(_), .. }) => None,
            (None, Kind::Secret { id, .. }) => {
                let name = id.rsplit('/').next().unwrap_or_default();
                Some(Path::new("run/secrets").join(name))
            }
            (None, _) => return Err(Error::invalid("it has no target")),
        };
        if target
            .as_ref()
            .is_some_and(|target| target.as_os_str().is_empty())
        {
            return Err(Error::invalid("the target is the root directory"));
        }
        let (origin, source) = match &mount.kind {
            Kind::Bind { from, source } => (
                Some(self.origin(work.number, from.as_deref())?),
                source.as_str(),
            ),
            Kind::Cache {
                from: Some(from),
                source,
                ..
            } => (Some(self.origin(work.number, Some(from))?), source.as_str()),
            Kind::Cache {
                from: None, source, ..
            } if !source.is_empty() => {
                return Err(Error::invalid("source has no meaning without from"));
            }
            _ => (None, ""),
        };
        let mut taken = None;
        let sum = match &origin {
            None => None,
            Some(origin) => {
                Some(
                    self.sum_of(origin, format!("bind\0{source}").as_bytes(), || {
                        let opened = self.open(origin)?;
                        let (found, items) = self.take(opened.tree(), source)?;
                        let mut sum = Hasher::default();
                        sum_up(&items, !opened.tree().is_context(), &mut sum);
                        if opened.tree().is_context() {
                            taken = Some((found, items));
                        }
                        Ok(sum.finish())
                    })?,
                )
            }
        };
        Ok(Planned {
            mount,
            target,
            origin,
            sum,
            taken,
        })
    }

    /// What is at `source`, all of it.
    fn take(&self, tree: &Tree, source: &str) -> Result<(Found, Vec<Item>)> {
        let found = find_one(tree, source)?;
        let items = walk(tree, &found, &Filter::default(), &|| self.halt.check())?;
        match items.is_empty() {
            true => Err(missing(source, Presence::Ignored)),
            false => Ok((found, items)),
        }
    }

    /// Makes what `planned` needs. Caches are taken in the order of their names: two RUNs that wait for each other's
    /// would wait for ever.
    pub(super) fn make_mounts<'p>(
        &'p self,
        planned: &'p [Planned<'p>],
        workspace: &Workspace,
    ) -> Result<(Vec<Made<'p>>, Vec<String>)> {
        let mut order: Vec<(Digest, usize)> = Vec::new();
        for (number, plan) in planned.iter().enumerate() {
            order.push((plan.cache_name()?, number));
        }
        order.sort();
        let mut made = Vec::new();
        let mut env = Vec::new();
        for (_, number) in order {
            let Some(plan) = planned.get(number) else {
                continue;
            };
            let source = match &plan.mount.kind {
                Kind::Bind { source, .. } => self.bind(plan, source, number, workspace)?,
                Kind::Cache { .. } => self.cache(plan)?,
                Kind::Tmpfs { size } => Source::Tmpfs(*size),
                Kind::Secret {
                    id,
                    need,
                    env: variable,
                    look,
                } => {
                    let Some(secret) = self.secret(id, *need)? else {
                        continue;
                    };
                    if let Some(name) = variable {
                        let value = String::from_utf8(secret.clone());
                        // SECURITY: the error of the conversion would show the value.
                        let value = value.map_err(|_| {
                            Error::invalid(format!(
                                "secret {id} is not UTF-8, as a variable must be"
                            ))
                        })?;
                        env.push(format!("{name}={value}"));
                    }
                    Source::Secret(secret, *look)
                }
            };
            if let Some(target) = &plan.target {
                made.push(Made {
                    target: Path::new("/").join(target),
                    access: plan.mount.access,
                    source,
                });
            }
        }
        made.sort_by(|a, b| a.target.cmp(&b.target));
        Ok((made, env))
    }

    fn secret(&self, id: &str, need: Need) -> Result<Option<Vec<u8>>> {
        match self.secrets.get(id) {
            Some(secret) => secret.read(id).map(Some),
            None if need == Need::Optional => Ok(None),
            None => Err(
                Error::new(ErrorKind::NotFound, format!("secret {id} was not given"))
                    .remedy(format!("give it with --secret id={id}")),
            ),
        }
    }

    fn bind<'p>(
        &'p self,
        plan: &'p Planned<'p>,
        source: &str,
        number: usize,
        workspace: &Workspace,
    ) -> Result<Source<'p>> {
        let Some(origin) = &plan.origin else {
            return Err(Error::invalid("a bind mount without a source"));
        };
        let name = format!("mount-{number}");
        let dir = workspace.scratch().subdir(&name, 0o755)?;
        let path = workspace.scratch().path().join(&name);
        let opened = self.open(origin)?;
        if let Opened::View(_) = &opened {
            let found = find_one(opened.tree(), source)?;
            let shape = shape_of(&found);
            return Ok(Source::View(opened, path, found.position, shape));
        }
        let Some((found, items)) = &plan.taken else {
            return Err(Error::invalid("a bind mount without files"));
        };
        let shape = shape_of(found);
        // A file of its own name in a directory, or what is in the directory.
        let target = match shape {
            Shape::Dir => PathBuf::new(),
            Shape::File => PathBuf::from("file"),
        };
        let root = Tree::root(dir);
        self.copy(opened.tree(), items, &root, &target, Some(Owner::ROOT))?;
        Ok(Source::Path(path.join(target), shape))
    }

    fn copy(
        &self,
        from: &Tree,
        items: &[Item],
        root: &Tree,
        target: &Path,
        owner: Option<Owner>,
    ) -> Result<()> {
        let mut place = Place::new(root);
        let attributes = Attributes { owner, mode: None };
        for item in items {
            self.halt.check()?;
            let to = match item.target.as_os_str().is_empty() {
                true => target.to_owned(),
                false => target.join(&item.target),
            };
            place.copy(from, item, &to, &attributes)?;
        }
        place.finish().map(drop)
    }

    fn cache<'p>(&self, plan: &Planned<'_>) -> Result<Source<'p>> {
        let Kind::Cache {
            source,
            sharing,
            look,
            ..
        } = &plan.mount.kind
        else {
            return Err(Error::invalid("no cache"));
        };
        let sharing = match sharing {
            Sharing::Shared => caches::Sharing::Shared,
            Sharing::Private => caches::Sharing::Private,
            Sharing::Locked => caches::Sharing::Locked,
        };
        let fill = |dir: BorrowedFd<'_>| -> Result<()> {
            if let Some(origin) = &plan.origin {
                let opened = self.open(origin)?;
                let (found, items) = self.take(opened.tree(), source)?;
                if !found.is_dir() {
                    return Err(Error::invalid(format!("{source:?} is no directory")));
                }
                let owner = opened.tree().is_context().then_some(Owner::ROOT);
                let root = Tree::root(dir.try_clone_to_owned().context("dup")?);
                self.copy(opened.tree(), &items, &root, Path::new(""), owner)?;
            }
            overlay_look(dir, *look, plan.origin.is_some())
        };
        let check = || self.halt.check();
        let cache = self
            .layers
            .cache_dir(&plan.cache_name()?, sharing, &fill, &check);
        Ok(Source::Cache(cache.context("open cache")?))
    }
}

/// Gives the new cache directory its mode and owner. Copied content keeps those that are not given.
fn overlay_look(dir: BorrowedFd<'_>, look: Look, is_copy: bool) -> Result<()> {
    let stat = corten_sys::fs::stat(dir)?;
    let (mode, owner) = match is_copy {
        true => (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid)),
        false => (0o755, (0, 0)),
    };
    let owner = Owner {
        uid: look.uid.unwrap_or(owner.0),
        gid: look.gid.unwrap_or(owner.1),
    };
    let fd = dir.try_clone_to_owned().context("dup")?;
    super::leaf::set_attributes(&fd, owner, look.mode.unwrap_or(mode))
}

fn shape_of(found: &Found) -> Shape {
    match found.is_dir() {
        true => Shape::Dir,
        false => Shape::File,
    }
}

impl Planned<'_> {
    /// What of it a RUN depends on: all but what secrets and caches hold.
    pub fn key(&self) -> String {
        let sum = self.sum.as_ref().map(Digest::as_str).unwrap_or_default();
        format!("{:?}\0{:?}\0{sum}", self.target, self.mount)
    }

    /// The name of the directory in the store: that of the id and of all that decides what the directory is at first.
    fn cache_name(&self) -> Result<Digest> {
        let mut name = Hasher::default();
        if let Kind::Cache { id, look, .. } = &self.mount.kind {
            let target = self.target.clone().unwrap_or_default();
            let id = id
                .clone()
                .unwrap_or_else(|| format!("/{}", target.display()));
            let sum = self.sum.as_ref().map(Digest::as_str).unwrap_or_default();
            name.update(format!("cache\0{id}\0{look:?}\0{sum}").as_bytes());
        }
        Ok(name.finish())
    }
}
