// SPDX-License-Identifier: Apache-2.0
//! A bundle in the making: the default document and a rootfs with nothing but the probe; a test adds its delta.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::Container;
use crate::programs::plant;
use crate::runtime::probe;
use crate::trial::Trial;
use crate::user::{self, COUNT, SUBORDINATE, UID};

/// The default document of `runc spec`, without a terminal.
const BASE: &str = include_str!("base.json");

/// A bundle in the making.
#[derive(Debug)]
pub struct Draft<'t> {
    trial: &'t Trial,
    id: String,
    bundle: PathBuf,
    /// config.json as it will be written.
    pub spec: Value,
}

impl<'t> Draft<'t> {
    pub(crate) fn new(trial: &'t Trial, id: String) -> Self {
        let bundle = trial
            .dir
            .join(format!("b{}", id.rsplit('-').next().unwrap_or("0")));
        let rootfs = bundle.join("rootfs");
        for dir in ["proc", "sys", "dev", "tmp", "etc", "data"] {
            fs::create_dir_all(rootfs.join(dir)).expect("make rootfs");
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        )
        .expect("write passwd");
        plant(probe(), &rootfs.join("probe"));
        let mut spec: Value = serde_json::from_str(BASE).expect("base.json");
        spec["linux"]["cgroupsPath"] = json!(trial.cgroups_path(&id));
        Self {
            trial,
            id,
            bundle,
            spec,
        }
    }

    /// The probe's steps, parted by blanks: `stat /dev/null + exit 3`.
    pub fn probe(self, steps: &str) -> Self {
        let args: Vec<&str> = std::iter::once("/probe")
            .chain(steps.split_whitespace())
            .collect();
        self.args(&args)
    }

    /// The whole argument vector, for arguments with blanks or other programs.
    pub fn args(self, args: &[&str]) -> Self {
        self.with("/process/args", json!(args))
    }

    /// Sets the value at a JSON pointer, making objects on the way; `-` appends to an array.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        set(&mut self.spec, pointer, value);
        self
    }

    /// Removes the value at a JSON pointer.
    pub fn without(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("pointer with a slash");
        if let Some(parent) = self.spec.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.remove(name);
        }
        self
    }

    /// Any other change.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.spec);
        self
    }

    /// Adds a mount.
    pub fn mount(
        self,
        destination: &str,
        kind: &str,
        source: impl AsRef<Path>,
        options: &[&str],
    ) -> Self {
        let source = source.as_ref().to_string_lossy();
        self.with(
            "/mounts/-",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// Removes the default mount at `destination` and those below it.
    pub fn without_mount(mut self, destination: &str) -> Self {
        let mounts = self.spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| {
            !Path::new(mount["destination"].as_str().unwrap_or_default()).starts_with(destination)
        });
        self
    }

    /// Removes the namespace of type `kind`.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Adds a namespace, new or joined at `path`.
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        let mut value = json!({"type": kind});
        if let Some(path) = path {
            value["path"] = json!(path);
        }
        self.without_namespace(kind)
            .with("/linux/namespaces/-", value)
    }

    /// A user namespace whose ids 0.. are the host's `first`..; the rootfs is given to its root.
    pub fn user_namespace(self, first: u32, size: u32) -> Self {
        let map = json!([{"containerID": 0, "hostID": first, "size": size}]);
        give(&self.rootfs(), first);
        self.namespace("user", None)
            .with("/linux/uidMappings", map.clone())
            .with("/linux/gidMappings", map)
    }

    /// A user namespace that its user can make without help: root inside is the user.
    pub fn users_namespace(self) -> Self {
        self.user_namespace(UID, 1).edit(|spec| {
            for mount in spec["mounts"].as_array_mut().expect("mounts") {
                if let Some(options) = mount["options"].as_array_mut() {
                    // Group 5, which owns terminals, isn't mapped.
                    options.retain(|option| option != "gid=5");
                }
            }
        })
    }

    /// One with the user's subordinate ids, which newuidmap(1) gives: root inside is the user, 1.. are those.
    pub fn users_ranges(self) -> Self {
        let map = json!([
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": SUBORDINATE, "size": COUNT},
        ]);
        self.user_namespace(UID, 1)
            .with("/linux/uidMappings", map.clone())
            .with("/linux/gidMappings", map)
    }

    /// Exactly these capabilities: bounding, permitted and effective, none inheritable or ambient.
    pub fn capabilities(self, names: &[&str]) -> Self {
        let sets = json!({"bounding": names, "permitted": names, "effective": names});
        self.with("/process/capabilities", sets)
    }

    /// A writable rootfs.
    pub fn writable(self) -> Self {
        self.with("/root/readonly", json!(false))
    }

    /// A file in the rootfs.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("parent")).expect("make parent in rootfs");
        fs::write(&path, content).expect("write file in rootfs");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod file in rootfs");
        self
    }

    /// A directory in the rootfs.
    pub fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/')))
            .expect("make directory in rootfs");
        self
    }

    /// A symlink in the rootfs, in the place of whatever was there.
    pub fn link(self, path: &str, target: impl AsRef<Path>) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("remove directory in rootfs");
        } else if path.exists() {
            fs::remove_file(&path).expect("remove file in rootfs");
        }
        fs::create_dir_all(path.parent().expect("parent")).expect("make parent in rootfs");
        symlink(target, path).expect("make link in rootfs");
        self
    }

    /// The host's path of the rootfs.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Another id than the one that was chosen.
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    /// Writes config.json. A user's container gets a user namespace, if it has none.
    pub fn done(self) -> Container<'t> {
        let namespaces = self.spec["linux"]["namespaces"].as_array();
        let lacks = namespaces.is_some_and(|all| all.iter().all(|one| one["type"] != "user"));
        let draft = match user::is_everyones() && lacks && !user::is_own_matter(&self.trial.name) {
            true => self.users_ranges(),
            false => self,
        };
        draft.write()
    }

    fn write(self) -> Container<'t> {
        let text = serde_json::to_string_pretty(&self.spec).expect("config.json");
        self.raw(text.as_bytes())
    }

    /// Writes these bytes as config.json instead.
    pub fn raw(self, config: &[u8]) -> Container<'t> {
        fs::write(self.bundle.join("config.json"), config).expect("write config.json");
        self.trial.give(&self.bundle);
        Container::new(self.trial, self.id, self.bundle)
    }
}

/// Sets the value at a JSON pointer, making objects on the way; `-` appends to an array.
pub fn set(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for name in pointer.split('/').skip(1) {
        if name == "-" {
            if place.is_null() {
                *place = json!([]);
            }
            let array = place.as_array_mut().expect("`-` in an array");
            array.push(Value::Null);
            place = array.last_mut().expect("just pushed");
        } else if place.is_array() {
            place = &mut place[name.parse::<usize>().expect("index into an array")];
        } else {
            place = &mut place[name.replace("~1", "/").as_str()];
        }
    }
    *place = value;
}

/// Gives a tree to an id; the directories above it become passable, as an engine would make them.
fn give(tree: &Path, id: u32) {
    let mut open = vec![tree.to_owned()];
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(id), Some(id)).expect("chown rootfs");
        if path.is_dir() && !path.is_symlink() {
            open.extend(
                fs::read_dir(&path)
                    .expect("list rootfs")
                    .map(|entry| entry.expect("list rootfs").path()),
            );
        }
    }
}
