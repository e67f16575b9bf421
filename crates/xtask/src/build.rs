// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask build`: the release binaries of every package but this one, checked to be static, in target/dist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::{Context, Failure, Result};
use crate::{command, report, workspace};

/// The runtime must not grow past this: page faults of a large binary cost more than the code that runs.
const RUNTIME_BYTES: u64 = 2 << 20;

/// Builds and says what came out.
pub fn run() -> Result<()> {
    for path in binaries()? {
        let bytes = fs::metadata(&path)
            .context(|| format!("stat {}", path.display()))?
            .len();
        report::line(format!("{:>9} bytes  {}", bytes, path.display()));
    }
    Ok(())
}

/// Builds all programs of the workspace and puts them into target/dist.
pub fn binaries() -> Result<Vec<PathBuf>> {
    let mut build = workspace::cargo();
    build.args(without_home());
    build.args([
        "build",
        "--release",
        "--workspace",
        "--exclude",
        "corten-xtask",
        "--exclude",
        "corten-manual",
        "--bins",
    ]);
    let programs = made(&mut build)?;
    let dist = workspace::dist()?;
    fs::create_dir_all(&dist).context(|| format!("make {}", dist.display()))?;
    let mut placed = Vec::new();
    for built in programs {
        let name = built
            .file_name()
            .ok_or_else(|| Failure::new(format!("{} has no name", built.display())))?;
        let to = dist.join(name);
        place(&built, &to)?;
        placed.push(to);
    }
    placed.sort();
    Ok(placed)
}

/// Has cargo leave the place of the crates' sources out of what the programs say of themselves: built in another home they
/// are the same, and two kilobytes smaller.
fn without_home() -> Vec<String> {
    let home = std::env::home_dir().map(|home| home.join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let sources = cargo.map(|cargo| cargo.join("registry/src"));
    // None, where the sources are somewhere else.
    let registries = sources.and_then(|sources| fs::read_dir(sources).ok());
    let registries = registries.into_iter().flatten().flatten();
    let mut paths: Vec<_> = registries.map(|found| found.path()).collect();
    paths.sort();
    let flags = paths.iter().flat_map(|path| {
        let key = "target.'cfg(target_env=\"gnu\")'.rustflags";
        let flag = format!("--remap-path-prefix={}/=", path.display());
        ["--config".to_owned(), format!("{key}=[{flag:?}]")]
    });
    flags.collect()
}

/// Has cargo build, and says what programs came out.
pub fn made(cargo: &mut Command) -> Result<Vec<PathBuf>> {
    report::command(command::shown(cargo));
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context(|| "run cargo".into())?;
    if !output.status.success() {
        return Err(Failure::new(format!("cargo: {}", output.status)));
    }
    executables(&String::from_utf8(output.stdout).context(|| "read cargo's messages".into())?)
}

/// The programs that cargo says it made.
fn executables(messages: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value =
            serde_json::from_str(line).context(|| format!("read cargo's message {line}"))?;
        if let Some(path) = message["executable"].as_str() {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Puts a static copy at `to`. By rename: a container may still run the old file, which can't be written then.
fn place(built: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(built).context(|| format!("read {}", built.display()))?;
    if let Some(interpreter) = elf_interpreter(&bytes) {
        return Err(Failure::new(format!(
            "{} is not static: it asks for {interpreter}",
            built.display()
        )));
    }
    // Of a name that nobody has who builds the same tree at the same time.
    let new = to.with_extension(format!("{}.new", std::process::id()));
    fs::copy(built, &new).context(|| format!("copy {} to {}", built.display(), new.display()))?;
    fs::rename(&new, to).context(|| format!("rename {} to {}", new.display(), to.display()))
}

/// The loader that a 64-bit little-endian ELF file asks for (PT_INTERP), none if it is static.
fn elf_interpreter(file: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = file.get(at..at.checked_add(bytes)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let headers = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (number(54, 2)? as usize, number(56, 2)? as usize);
    for header in (0..count).map(|n| headers + n * size) {
        if number(header, 4)? == PT_INTERP {
            let (start, length) = (
                number(header + 8, 8)? as usize,
                number(header + 32, 8)? as usize,
            );
            let text = file.get(start..start.checked_add(length)?)?;
            return Some(
                String::from_utf8_lossy(text)
                    .trim_end_matches('\0')
                    .to_owned(),
            );
        }
    }
    None
}

/// Fails where the runtime has outgrown its bound.
pub fn check_runtime_size() -> Result<()> {
    let path = workspace::dist()?.join("corten");
    let bytes = fs::metadata(&path)
        .context(|| format!("stat {}", path.display()))?
        .len();
    report::line(format!(
        "{} has {bytes} bytes of {RUNTIME_BYTES}",
        path.display()
    ));
    if bytes > RUNTIME_BYTES {
        return Err(Failure::new(format!(
            "{} is larger than {RUNTIME_BYTES} bytes",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(elf_interpreter(&own), None, "the workspace is built static");
        let dynamic = ["/bin/ls", "/usr/bin/env"]
            .iter()
            .find_map(|path| elf_interpreter(&fs::read(path).ok()?));
        if Path::new("/lib64/ld-linux-x86-64.so.2").exists() {
            assert_eq!(dynamic.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        }
    }

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/corten\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(
            executables(messages).unwrap(),
            [PathBuf::from("/t/release/corten")]
        );
        assert!(executables("not json").is_err());
    }
}
