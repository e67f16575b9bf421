// SPDX-License-Identifier: Apache-2.0
//! The container's config.json: the image's, with all that was asked for.

use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::limits::CPU_PERIOD;
use super::seccomp::{self, Surroundings};
use super::settings::{Mount, MountKind, Network, Settings};
use crate::bundle;
use crate::error::{Context, Error, Result};
use crate::image::host_platform;

/// What every container sees in place of the image's files: name, and where that is in the container.
pub const GIVEN: [(&str, &str); 3] = [
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
    ("resolv.conf", "/etc/resolv.conf"),
];

/// As the kernel numbers them.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What of the host the document depends on.
#[derive(Debug)]
pub struct Host<'a> {
    /// The kernel's release.
    pub kernel: &'a str,
    /// Where the files of [`GIVEN`] are.
    pub given: &'a Path,
    /// `linux.cgroupsPath`, where it is not the runtime's own choice.
    pub cgroup: Option<&'a str>,
    /// The network namespace, where it was made before.
    pub network: Option<&'a Path>,
}

/// Makes the document. `root` is the image's tree.
pub fn document(
    config: &ImageConfiguration,
    root: BorrowedFd<'_>,
    settings: &Settings,
    host: &Host<'_>,
) -> Result<Value> {
    let mut changes = settings.changes.clone();
    changes.network = match settings.network {
        Network::Host => bundle::Network::Host,
        Network::None | Network::Named(_) => bundle::Network::None,
    };
    let spec = bundle::spec(config, root, &changes)?;
    let mut document =
        serde_json::to_value(spec).map_err(|error| Error::invalid(error.to_string()))?;
    document["root"]["readonly"] = json!(settings.read_only);
    set_hostname(&mut document, settings);
    set_mounts(&mut document, settings, host)?;
    set_capabilities(&mut document, settings)?;
    set_limits(&mut document, settings);
    if let Some(path) = host.cgroup {
        document["linux"]["cgroupsPath"] = json!(path);
    }
    if settings.no_new_privileges {
        document["process"]["noNewPrivileges"] = json!(true);
    }
    if let Some(profile) = &settings.seccomp {
        document["linux"]["seccomp"] = filter(profile, &document, host)?;
    }
    if let Some(path) = host.network {
        for namespace in document["linux"]["namespaces"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
    }
    // A second look at what was put in: values that config.json doesn't have are refused here, by name.
    serde_json::from_value::<Spec>(document.clone())
        .map_err(|error| Error::invalid(format!("config.json: {error}")))?;
    Ok(document)
}

/// Ours in place of whatever was to be mounted there.
fn set_mounts(document: &mut Value, settings: &Settings, host: &Host<'_>) -> Result<()> {
    let Some(mounts) = document["mounts"].as_array_mut() else {
        return Err(Error::invalid("config.json: no mounts"));
    };
    for mount in mounts.iter_mut() {
        if mount["destination"] == "/dev/shm"
            && let Some(size) = settings.limits.shm_size
            && let Some(options) = mount["options"].as_array_mut()
        {
            options.retain(|option| !option.as_str().unwrap_or_default().starts_with("size="));
            options.push(json!(format!("size={size}")));
        }
    }
    let mut added: Vec<Value> = GIVEN
        .iter()
        .map(|(name, destination)| {
            json!({
                "destination": destination, "type": "bind", "source": host.given.join(name),
                "options": ["bind", "rw", "nosuid", "nodev", "noexec", "rprivate"],
            })
        })
        .collect();
    let mut asked: Vec<&Mount> = settings.mounts.iter().collect();
    // What is mounted inside another comes after it.
    asked.sort_by_key(|mount| mount.destination.split('/').count());
    for (position, mount) in asked.iter().enumerate() {
        if asked[..position]
            .iter()
            .any(|other| other.destination == mount.destination)
        {
            return Err(Error::invalid(format!(
                "two mounts are for {}",
                mount.destination
            )));
        }
        added.retain(|other| other["destination"] != mount.destination.as_str());
        added.push(match mount.kind {
            MountKind::Bind => json!({
                "destination": mount.destination, "type": "bind", "source": mount.source, "options": mount.options,
            }),
            MountKind::Tmpfs => json!({
                "destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": mount.options,
            }),
        });
    }
    mounts.retain(|mount| {
        let destination = mount["destination"].as_str().unwrap_or_default();
        !added
            .iter()
            .any(|other| other["destination"] == destination.trim_end_matches('/'))
    });
    mounts.extend(added);
    Ok(())
}

fn set_capabilities(document: &mut Value, settings: &Settings) -> Result<()> {
    let sets = &mut document["process"]["capabilities"];
    let usual: Vec<String> = serde_json::from_value(sets["bounding"].clone())
        .map_err(|error| Error::invalid(format!("config.json: {error}")))?;
    let add = named(&settings.cap_add)?;
    let drop = named(&settings.cap_drop)?;
    // As the engines do: all but what is added, or all but what is dropped.
    let mut held: Vec<String> = match (all_of(&settings.cap_add), all_of(&settings.cap_drop)) {
        (true, true) => {
            return Err(Error::invalid("--cap-add ALL contradicts --cap-drop ALL"));
        }
        (true, false) => CAPABILITIES
            .iter()
            .map(|name| format!("CAP_{name}"))
            .filter(|name| !drop.contains(name))
            .collect(),
        (false, true) => add,
        (false, false) => {
            let mut held: Vec<String> = usual.into_iter().chain(add).collect();
            held.retain(|name| !drop.contains(name));
            held
        }
    };
    held.sort();
    held.dedup();
    let is_root = document["process"]["user"]["uid"] == 0;
    let own: &[String] = if is_root { &held } else { &[] };
    document["process"]["capabilities"] = json!({
        "bounding": held, "effective": own, "permitted": own, "inheritable": [], "ambient": [],
    });
    Ok(())
}

/// A variable that the engines set as well, and scripts look for.
fn set_hostname(document: &mut Value, settings: &Settings) {
    if let (Some(name), Some(env)) = (
        &settings.changes.hostname,
        document["process"]["env"].as_array_mut(),
    ) && !env.iter().any(|variable| {
        variable
            .as_str()
            .is_some_and(|text| text.starts_with("HOSTNAME="))
    }) {
        env.push(json!(format!("HOSTNAME={name}")));
    }
}

fn all_of(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

/// Checks names of capabilities, with or without `CAP_`, in either case; `ALL` is left out.
pub fn named(names: &[String]) -> Result<Vec<String>> {
    names
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match CAPABILITIES.contains(&bare) {
                true => Ok(format!("CAP_{bare}")),
                false => Err(Error::invalid(format!("unknown capability {name:?}"))),
            }
        })
        .collect()
}

fn set_limits(document: &mut Value, settings: &Settings) {
    let limits = &settings.limits;
    let resources = &mut document["linux"]["resources"];
    if let Some(memory) = limits.memory {
        resources["memory"] = json!({"limit": memory});
    }
    if let Some(quota) = limits.cpu_quota {
        resources["cpu"]["quota"] = json!(quota);
        resources["cpu"]["period"] = json!(CPU_PERIOD);
    }
    if let Some(shares) = limits.cpu_shares {
        resources["cpu"]["shares"] = json!(shares);
    }
    if let Some(cpus) = &limits.cpuset {
        resources["cpu"]["cpus"] = json!(cpus);
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({"limit": pids});
    }
    if !limits.ulimits.is_empty() {
        document["process"]["rlimits"] = limits
            .ulimits
            .iter()
            .map(|limit| json!({"type": limit.name, "soft": limit.soft, "hard": limit.hard}))
            .collect();
    }
}

fn filter(profile: &Value, document: &Value, host: &Host<'_>) -> Result<Value> {
    let bounding = &document["process"]["capabilities"]["bounding"];
    let capabilities: Vec<String> = serde_json::from_value(bounding.clone())
        .map_err(|error| Error::invalid(format!("config.json: {error}")))?;
    let around = Surroundings {
        capabilities: &capabilities,
        arch: &host_platform().1.to_string(),
        kernel: seccomp::version(host.kernel).context("read the kernel's release")?,
    };
    seccomp::resolve(profile, &around)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(add: &[&str], drop: &[&str], uid: u32) -> Result<Value> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut document = json!({"process": {
            "user": {"uid": uid}, "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"]},
        }});
        let settings = Settings {
            cap_add: owned(add),
            cap_drop: owned(drop),
            ..Settings::default()
        };
        set_capabilities(&mut document, &settings)?;
        Ok(document["process"]["capabilities"].clone())
    }

    #[test]
    fn capability_changes() {
        for (add, drop, expected) in [
            (&[][..], &[][..], json!(["CAP_CHOWN", "CAP_KILL"])),
            (
                &["net_admin"],
                &["CAP_KILL"],
                json!(["CAP_CHOWN", "CAP_NET_ADMIN"]),
            ),
            (&["SYS_TIME"], &["ALL"], json!(["CAP_SYS_TIME"])),
            (&[], &["all"], json!([])),
        ] {
            let found = capabilities(add, drop, 0).unwrap();
            assert_eq!(found["bounding"], expected);
            assert_eq!(found["effective"], expected);
        }
        let all = capabilities(&["ALL"], &["KILL"], 5).unwrap();
        assert_eq!(all["bounding"].as_array().unwrap().len(), 40);
        assert_eq!(all["effective"], json!([]));
        for (add, drop) in [
            (&["X"][..], &[][..]),
            (&[], &["CAP_"]),
            (&["ALL"], &["ALL"]),
        ] {
            assert!(capabilities(add, drop, 0).is_err(), "{add:?} {drop:?}");
        }
    }

    #[test]
    fn a_mount_takes_the_place_of_another() {
        let mut document = json!({"mounts": [
            {"destination": "/dev/shm", "options": ["nosuid", "size=65536k"]},
            {"destination": "/data/", "type": "tmpfs"},
        ]});
        let settings = Settings {
            mounts: vec![
                super::super::mounts::volume("/x:/data/inner").unwrap(),
                super::super::mounts::volume("/x:/data").unwrap(),
                super::super::mounts::volume("/x:/etc/hosts").unwrap(),
            ],
            limits: super::super::settings::Limits {
                shm_size: Some(4096),
                ..Default::default()
            },
            ..Settings::default()
        };
        let host = Host {
            kernel: "6.1",
            given: Path::new("/g"),
            cgroup: None,
            network: None,
        };
        set_mounts(&mut document, &settings, &host).unwrap();
        let found: Vec<String> = document["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                format!(
                    "{} {}",
                    m["destination"].as_str().unwrap(),
                    m["source"].as_str().unwrap_or("-")
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "/dev/shm -",
                "/etc/hostname /g/hostname",
                "/etc/resolv.conf /g/resolv.conf",
                "/data /x",
                "/data/inner /x",
                "/etc/hosts /x"
            ]
        );
        assert_eq!(
            document["mounts"][0]["options"],
            json!(["nosuid", "size=4096"])
        );
        let twice = Settings {
            mounts: vec![settings.mounts[1].clone(), settings.mounts[1].clone()],
            ..Settings::default()
        };
        let error = set_mounts(&mut json!({"mounts": []}), &twice, &host).unwrap_err();
        assert!(
            error.to_string().contains("two mounts are for /data"),
            "{error}"
        );
    }
}
