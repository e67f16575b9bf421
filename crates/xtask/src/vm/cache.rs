// SPDX-License-Identifier: Apache-2.0
//! Where machines live, and the disk and kernels that they are made from: built once per recipe, by the scripts in
//! integration/vm. What has its final name is whole: it is made under another one and renamed, under a lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::failure::{Context, Failure, Result};
use crate::vm::Kernel;
use crate::{command, report, workspace};

/// What the disk and the kernels are made by, in integration/vm.
const IMAGE: &[&str] = &["image", "customize", "guest"];
const KERNEL: &[&str] = &["kernel", "init"];
const CLEAN_LOCK: &str = "clean.lock";

/// The directory of all that `vm` keeps: outside the tree, so that all worktrees share it.
pub fn root() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match (variable("XDG_CACHE_HOME"), variable("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, _) if workspace::is_root() => "/var/cache".into(),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => return Err(Failure::new("neither XDG_CACHE_HOME nor HOME is set")),
    };
    let root = base.join("corten/vm");
    fs::create_dir_all(&root).context(|| format!("make {}", root.display()))?;
    Ok(root)
}

/// An exclusive lock, held until it is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).context(|| format!("make {}", path.display()))?;
    if file.try_lock().is_err() {
        report::line(format!("waiting for another who holds {}", path.display()));
        file.lock().context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// What is removed by `clean`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Old {
    /// What this tree's scripts would make otherwise.
    Former,
    /// All of it: what is made next has the packages of its day.
    Everything,
}

/// Keeps disks and kernels from being cleaned away until it is dropped.
pub fn in_use() -> Result<File> {
    let path = root()?.join(CLEAN_LOCK);
    let file = File::create(&path).context(|| format!("make {}", path.display()))?;
    file.lock_shared()
        .context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Removes disks and kernels, also those that somebody was killed in the making of. Machines that run have copies, or
/// files that stay while they are open. The cache is every worktree's: what another one uses is made there again.
pub fn clean(old: Old) -> Result<()> {
    let kernels = recipe(KERNEL)?;
    let mut kept = vec![format!("image-{}", recipe(IMAGE)?)];
    for kernel in Kernel::value_variants() {
        kept.push(format!("{}-{kernels}", kernel.suite()));
    }
    if old == Old::Everything {
        kept.clear();
    }
    clean_in(&root()?, &kept)
}

fn clean_in(root: &Path, kept: &[String]) -> Result<()> {
    // Whoever makes one, or is about to boot from one, holds it too.
    let _lock = lock(&root.join(CLEAN_LOCK))?;
    for entry in fs::read_dir(root).context(|| format!("list {}", root.display()))? {
        let entry = entry.context(|| format!("list {}", root.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && is_made(&name) && !kept.contains(&name) {
            let path = entry.path();
            report::line(format!("removing {}", path.display()));
            fs::remove_dir_all(&path).context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether `made` makes a directory of this name: `NAME-RECIPE`, or `NAME.part` on the way.
fn is_made(name: &str) -> bool {
    let is_what = |what: &str| {
        let mut kernels = Kernel::value_variants().iter();
        what == "image" || kernels.any(|kernel| kernel.suite() == what)
    };
    match (name.split_once('-'), name.strip_suffix(".part")) {
        (Some((what, recipe)), _) => {
            is_what(what) && recipe.len() == 16 && recipe.bytes().all(|c| c.is_ascii_hexdigit())
        }
        (None, Some(what)) => is_what(what),
        (None, None) => false,
    }
}

/// The guest's disk, with the key to get in: root.img, key, known_hosts.
pub fn image() -> Result<PathBuf> {
    let recipe = recipe(IMAGE)?;
    made("image", &recipe, "two minutes", |out| {
        let mut image = Command::new(scripts().join("image"));
        image.arg(out);
        image
    })
}

/// A kernel: vmlinuz, initrd, modules.img, release.
pub fn kernel(kernel: Kernel) -> Result<PathBuf> {
    let recipe = recipe(KERNEL)?;
    made(kernel.suite(), &recipe, "half a minute", |out| {
        let mut command = Command::new(scripts().join("kernel"));
        command.arg(kernel.suite()).arg(out);
        command
    })
}

/// The directory NAME-RECIPE, made by the command that `maker` gives for a fresh directory unless it is there.
fn made(
    name: &str,
    recipe: &str,
    time: &str,
    maker: impl FnOnce(&Path) -> Command,
) -> Result<PathBuf> {
    let root = root()?;
    let whole = root.join(format!("{name}-{recipe}"));
    if whole.exists() {
        return Ok(whole);
    }
    let lock = lock(&root.join(format!("{name}.lock")))?;
    // Whoever held the lock has made it, perhaps.
    if whole.exists() {
        return Ok(whole);
    }
    report::step(format!("{}: made once, in about {time}", whole.display()));
    let part = root.join(format!("{name}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir(&part).context(|| format!("make {}", part.display()))?;
    command::run(maker(&part).env("PATH", path()))?;
    fs::rename(&part, &whole).context(|| format!("rename {}", part.display()))?;
    drop(lock);
    Ok(whole)
}

/// PATH with the directories where a system's own tools are, which a user's doesn't always name.
pub fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Where the scripts are.
fn scripts() -> PathBuf {
    workspace::root().join("integration/vm")
}

/// A name for the content of these files and directories of integration/vm.
fn recipe(names: &[&str]) -> Result<String> {
    let mut hash = Fnv::default();
    let mut open: Vec<PathBuf> = names.iter().map(|name| scripts().join(name)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).context(|| format!("list {}", path.display()))?;
            for entry in entries {
                open.push(entry.context(|| format!("list {}", path.display()))?.path());
            }
            open.sort();
            continue;
        }
        hash.add(
            path.strip_prefix(scripts())
                .unwrap_or(&path)
                .as_os_str()
                .as_encoded_bytes(),
        );
        hash.add(&fs::read(&path).context(|| format!("read {}", path.display()))?);
    }
    Ok(format!("{:016x}", hash.0))
}

/// FNV-1a: the same in every build of this program, and nobody attacks a recipe.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes and their number, so that what goes from one piece to the next counts.
    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn former_recipes_are_cleaned_away_and_nothing_else() {
        let (ours, former) = ("0123456789abcdef", "fedcba9876543210");
        let made = [
            format!("image-{ours}"),
            format!("image-{former}"),
            format!("sid-{ours}"),
            format!("trixie-{former}"),
            "image.part".to_owned(),
            "bookworm.part".to_owned(),
        ];
        let others = [
            "run",
            "image-mine",
            "sid",
            "image-0123",
            "other.part",
            "run-0123456789abcdef",
        ];
        let scratch = Scratch::new("clean").unwrap();
        for name in made.iter().map(String::as_str).chain(others) {
            fs::create_dir(scratch.path().join(name)).unwrap();
            fs::write(scratch.path().join(name).join("root.img"), "x").unwrap();
        }
        fs::write(scratch.path().join("image.lock"), "").unwrap();
        let left = || {
            let names = fs::read_dir(scratch.path()).unwrap();
            let mut names: Vec<_> = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.ends_with(".lock"))
                .collect();
            names.sort();
            names
        };
        let kept = [format!("image-{ours}"), format!("sid-{ours}")];
        clean_in(scratch.path(), &kept).unwrap();
        let mut wanted: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        wanted.extend(kept);
        wanted.sort();
        assert_eq!(left(), wanted);
        assert!(scratch.path().join("image.lock").exists());
        clean_in(scratch.path(), &[]).unwrap();
        wanted.retain(|name| others.contains(&name.as_str()));
        assert_eq!(left(), wanted);
    }

    #[test]
    fn nothing_is_cleaned_away_from_somebody_who_boots() {
        let scratch = Scratch::new("busy").unwrap();
        let path = scratch.path().join("image.part");
        fs::create_dir(&path).unwrap();
        let held = File::create(scratch.path().join(CLEAN_LOCK)).unwrap();
        held.lock_shared().unwrap();
        std::thread::scope(|scope| {
            let cleaning = scope.spawn(|| clean_in(scratch.path(), &[]));
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert!(path.exists() && !cleaning.is_finished());
            drop(held);
            cleaning.join().unwrap().unwrap();
        });
        assert!(!path.exists());
    }

    #[test]
    fn every_byte_of_a_recipe_counts() {
        let of = |pieces: &[&str]| {
            let mut hash = Fnv::default();
            pieces.iter().for_each(|piece| hash.add(piece.as_bytes()));
            hash.0
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["aB"]));
        assert_ne!(recipe(&["image"]).unwrap(), recipe(&["kernel"]).unwrap());
        assert!(recipe(&["no such file"]).is_err());
    }
}
