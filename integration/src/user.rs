// SPDX-License-Identifier: Apache-2.0
//! A user without privileges who calls the runtime: ids of their own, subordinate ones where a test asks for them, and a
//! cgroup to call from that is delegated or not. The suite itself stays root, to look at everything.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::call::{Call, Running};
use crate::cgroups;
use crate::trial::eventually;

/// Whether every test's runtime is called by the user (`CORTEN_USER=rootless`), and not only where a test says so.
pub fn is_everyones() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| match env::var("CORTEN_USER").as_deref() {
        Ok("rootless") => true,
        Ok("root") | Err(_) => false,
        Ok(other) => panic!("CORTEN_USER={other}: want root or rootless"),
    })
}

/// A socket that the user may connect to, too.
pub(crate) fn everyones(path: &Path) -> UnixListener {
    let socket = UnixListener::bind(path).expect("bind a socket");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("open the socket to all");
    socket
}

/// The user, and the only group.
pub const UID: u32 = 1000;
/// The first of the subordinate ids.
pub const SUBORDINATE: u32 = 100_000;
/// How many.
pub const COUNT: u32 = 400_000;
/// How many of them an engine has for itself.
const ENGINES: u32 = 65_536;

/// Whether the test `name` says itself who calls the runtime.
pub(crate) fn is_own_matter(name: &str) -> bool {
    ["rootless::", "engines::"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// What of the cgroups is the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// Nothing.
    None,
    /// The cgroup that the caller is in, but none above.
    Own,
    /// The one above, too.
    Around,
}

/// Enters the cgroup `$0`, takes `$1` for the subordinate ids of both kinds, becomes user `$2` and runs the rest.
const BECOME: &str = r#"
echo 0 > "$0/cgroup.procs" || exit 126
ids=$1 uid=$2
shift 2
exec unshare --mount --propagation slave -- sh -c '
    mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid || exit 126
    exec "$@"' "$ids" setpriv --reuid="$uid" --regid="$uid" --clear-groups -- "$@"
"#;

/// The user of one trial.
#[derive(Debug)]
pub struct User {
    /// The cgroup that calls are made from, absolute on cgroup v2.
    pub cgroup: String,
    ids: PathBuf,
    made: Vec<PathBuf>,
    engine: OnceCell<Running>,
}

impl User {
    /// Makes the cgroups below `parent`, and gives `dir` to the user.
    pub(crate) fn new(parent: &str, dir: &Path, delegation: Delegation) -> Self {
        let ids = dir.join("subids");
        fs::write(&ids, format!("{UID}:{SUBORDINATE}:{COUNT}\n")).expect("write subordinate ids");
        chown(dir, Some(UID), Some(UID)).expect("give the trial's directory to the user");
        let unified = cgroups::unified().expect("cgroup v2");
        let cgroup = format!("{parent}/callers");
        let made = vec![unified.dir(parent), unified.dir(&cgroup)];
        for dir in &made {
            fs::create_dir_all(dir).expect("make the callers' cgroup");
        }
        let given = match delegation {
            Delegation::None => &made[2..],
            Delegation::Own => &made[1..],
            Delegation::Around => &made[..],
        };
        for dir in given {
            delegate(dir);
        }
        Self {
            cgroup,
            ids,
            made,
            engine: OnceCell::new(),
        }
    }

    /// From here on calls are made as an engine of the user makes them: by root of a user namespace with all of the user's
    /// ids, and of a mount namespace, that stay as long as the trial.
    pub(crate) fn become_engine(&self, holder: &Path, captured: PathBuf) {
        let range = format!("{SUBORDINATE},1,{ENGINES}");
        let held = self
            .call(Path::new("unshare"), captured)
            .args(["--user", "--map-root-user", "--mount"])
            .args(["--map-users", &range, "--map-groups", &range, "--"])
            .arg(holder)
            .args(["print", "up", "+", "pause"])
            .spawn();
        eventually("the engine's namespaces", || {
            held.output().contains("up").then_some(())
        });
        self.engine.set(held).expect("one engine");
    }

    /// What the host has for the engine's id `id`.
    pub(crate) fn engines(&self, id: u32) -> u32 {
        match (self.engine.get(), id) {
            (None, id) => id,
            (Some(_), 0) => UID,
            (Some(_), id) => SUBORDINATE + id - 1,
        }
    }

    /// A call of `program` by the user.
    pub(crate) fn call(&self, program: &Path, captured: PathBuf) -> Call {
        let cgroup = self.made.last().expect("the callers' cgroup");
        // Where the user's systemd is.
        let runtime = format!("/run/user/{UID}");
        Call::new(Path::new("sh"), captured)
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={runtime}/bus"),
            )
            .env("XDG_RUNTIME_DIR", runtime)
            .env("USER", "user")
            .args(["-c", BECOME])
            .arg(cgroup)
            .arg(&self.ids)
            .arg(UID.to_string())
            .args(self.engine.get().into_iter().flat_map(|engine| {
                let target = engine.child.id().to_string();
                [
                    "nsenter",
                    "--user",
                    "--mount",
                    "--preserve-credentials",
                    "--target",
                ]
                .map(String::from)
                .into_iter()
                .chain([target, "--".into()])
            }))
            .arg(program)
    }
}

/// Gives the cgroup at `dir` to the user (cgroups(7), "Delegating a hierarchy").
pub(crate) fn delegate(dir: &Path) {
    for file in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        chown(dir.join(file), Some(UID), Some(UID)).expect("delegate the cgroup");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            engine.child.kill().expect("end the engine");
            engine.child.wait().expect("end the engine");
        }
        // What still holds a process or a container's cgroup is for the census to find.
        for dir in self.made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}
