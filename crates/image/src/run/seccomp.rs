// SPDX-License-Identifier: Apache-2.0
//! A filter's file as config.json has it. The engines' format (`archMap`, and rules that depend on capabilities,
//! processors and the kernel's version) is decided here; a `linux.seccomp` of the runtime specification passes as it is.
//! Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// What rules may depend on.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The capabilities that the container can have.
    pub capabilities: &'a [String],
    /// The processor, as images call it.
    pub arch: &'a str,
    /// The kernel's version.
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// The name of `defaultErrnoRet`, for people.
    #[serde(rename = "defaultErrno")]
    _default_errno: Option<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
    errno_ret: Option<u32>,
    #[serde(rename = "errno")]
    _errno: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// The filter for a container with these surroundings.
pub fn resolve(profile: &Value, around: &Surroundings<'_>) -> Result<Value> {
    let profile: Profile = serde_json::from_value(profile.clone())
        .map_err(|error| Error::invalid(format!("seccomp profile: {error}")))?;
    let mut architectures = profile.architectures;
    let own = native(around.arch);
    for map in profile.arch_map {
        // Of the others no process can be.
        if Some(map.architecture.as_str()) == own {
            architectures.push(map.architecture);
            architectures.extend(map.sub_architectures.unwrap_or_default());
        }
    }
    let mut rules = Vec::new();
    for rule in profile.syscalls {
        if !rule.includes.all_hold(around)? || rule.excludes.any_holds(around)? {
            continue;
        }
        let mut out = Map::new();
        let names: Vec<String> = rule.names.into_iter().chain(rule.name).collect();
        out.insert("names".into(), json!(names));
        out.insert("action".into(), json!(rule.action));
        if let Some(args) = rule.args.filter(|args| !args.is_empty()) {
            out.insert("args".into(), Value::Array(args));
        }
        if let Some(errno) = rule.errno_ret {
            out.insert("errnoRet".into(), json!(errno));
        }
        rules.push(Value::Object(out));
    }
    let mut document = json!({"defaultAction": profile.default_action, "syscalls": rules});
    if let Some(errno) = profile.default_errno_ret {
        document["defaultErrnoRet"] = json!(errno);
    }
    if !architectures.is_empty() {
        document["architectures"] = json!(architectures);
    }
    if !profile.flags.is_empty() {
        document["flags"] = json!(profile.flags);
    }
    Ok(document)
}

impl Condition {
    fn all_hold(&self, around: &Surroundings<'_>) -> Result<bool> {
        let caps = self.caps.iter().flatten().all(|cap| around.has(cap));
        let arch = self.arches.as_ref().filter(|arches| !arches.is_empty());
        let arch = arch.is_none_or(|arches| arches.iter().any(|arch| arch == around.arch));
        let kernel = match &self.min_kernel {
            Some(text) => around.kernel >= version(text)?,
            None => true,
        };
        Ok(caps && arch && kernel)
    }

    fn any_holds(&self, around: &Surroundings<'_>) -> Result<bool> {
        let caps = self.caps.iter().flatten().any(|cap| around.has(cap));
        let arch = self.arches.iter().flatten().any(|arch| arch == around.arch);
        let kernel = match &self.min_kernel {
            Some(text) => around.kernel >= version(text)?,
            None => false,
        };
        Ok(caps || arch || kernel)
    }
}

impl Surroundings<'_> {
    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|held| held == capability)
    }
}

/// `6.1` of `6.1.0-13-amd64`.
pub fn version(text: &str) -> Result<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+']);
    let mut next = || parts.next().and_then(|part| part.trim().parse().ok());
    next()
        .zip(next())
        .ok_or_else(|| Error::invalid(format!("{text:?} is no version of a kernel")))
}

fn native(arch: &str) -> Option<&'static str> {
    Some(match arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "386" => "SCMP_ARCH_X86",
        "arm64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "s390x" => "SCMP_ARCH_S390X",
        "ppc64le" | "powerpc64" => "SCMP_ARCH_PPC64LE",
        "loong64" => "SCMP_ARCH_LOONGARCH64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_depend_on_what_is_around() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null},
            ],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["chown"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}},
                {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM", "excludes": {"caps": ["CAP_CHOWN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
                {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
                {"name": "s390_io", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            ],
        });
        let capabilities = ["CAP_CHOWN".to_owned()];
        let around = Surroundings {
            capabilities: &capabilities,
            arch: "amd64",
            kernel: (6, 1),
        };
        let found = resolve(&profile, &around).unwrap();
        let names: Vec<_> = found["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["names"][0].clone())
            .collect();
        assert_eq!(names, ["read", "chown", "ptrace", "arch_prctl"]);
        assert_eq!(
            found["architectures"],
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
        );
        assert_eq!(found["defaultErrnoRet"], 38);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let around = Surroundings {
            capabilities: &[],
            arch: "amd64",
            kernel: (6, 1),
        };
        for bad in [
            json!({}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "x", "includes": {"x": 1}}]}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "x", "includes": {"minKernel": "x"}}]}),
        ] {
            assert!(resolve(&bad, &around).is_err(), "{bad}");
        }
        assert_eq!(version("6.1.0-13-amd64").unwrap(), (6, 1));
        assert_eq!(version("7.0-rc1").unwrap(), (7, 0));
    }
}
