// SPDX-License-Identifier: Apache-2.0
//! The columns of the table: which file of the kernel has an architecture's calls, and which of the file's ABIs are its.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure, Result};

/// An architecture's source.
pub struct Column {
    /// The column's heading.
    pub name: &'static str,
    /// The table's path in the tree; the first that exists.
    files: &'static [&'static str],
    /// The words of the second field that count, as the kernel's Makefile.syscalls and syscalls/Makefile say them.
    abis: &'static [&'static str],
    /// An ABI that must occur. A kernel that dropped it doesn't have the architecture any more.
    needs: Option<&'static str>,
    /// For an ABI that was dropped: the architecture that it was the other ABI of.
    pub heir: Option<&'static str>,
}

const GENERIC: &[&str] = &["scripts/syscall.tbl"];
const X86_64: &[&str] = &["arch/x86/entry/syscalls/syscall_64.tbl"];
const PARISC: &[&str] = &["arch/parisc/kernel/syscalls/syscall.tbl"];
const POWERPC: &[&str] = &["arch/powerpc/kernel/syscalls/syscall.tbl"];
const S390: &[&str] = &["arch/s390/kernel/syscalls/syscall.tbl"];

/// In the order of `Column` in src/seccomp/tables/arch.rs.
#[rustfmt::skip]
pub const COLUMNS: [Column; 18] = [
    Column { name: "x86", files: &["arch/x86/entry/syscalls/syscall_32.tbl"], abis: &["i386"], needs: None, heir: None },
    Column { name: "x86_64", files: X86_64, abis: &["common", "64"], needs: None, heir: None },
    Column { name: "x32", files: X86_64, abis: &["common", "x32"], needs: Some("x32"), heir: None },
    Column { name: "arm", files: &["arch/arm/tools/syscall.tbl"], abis: &["common", "eabi"], needs: None, heir: None },
    Column { name: "aarch64", files: GENERIC, abis: &["common", "64", "renameat", "rlimit", "memfd_secret"], needs: None, heir: None },
    Column { name: "loongarch64", files: GENERIC, abis: &["common", "64", "memfd_secret"], needs: None, heir: None },
    Column { name: "m68k", files: &["arch/m68k/kernel/syscalls/syscall.tbl"], abis: &["common"], needs: None, heir: None },
    Column { name: "mips", files: &["arch/mips/kernel/syscalls/syscall_o32.tbl"], abis: &["common", "o32"], needs: None, heir: None },
    Column { name: "mips64", files: &["arch/mips/kernel/syscalls/syscall_n64.tbl"], abis: &["common", "n64"], needs: None, heir: None },
    Column { name: "mips64n32", files: &["arch/mips/kernel/syscalls/syscall_n32.tbl"], abis: &["common", "n32"], needs: None, heir: None },
    Column { name: "parisc", files: PARISC, abis: &["common", "32"], needs: Some("32"), heir: None },
    Column { name: "parisc64", files: PARISC, abis: &["common", "64"], needs: Some("64"), heir: None },
    Column { name: "ppc", files: POWERPC, abis: &["common", "nospu", "32"], needs: Some("32"), heir: None },
    Column { name: "ppc64", files: POWERPC, abis: &["common", "nospu", "64"], needs: Some("64"), heir: None },
    Column { name: "riscv64", files: GENERIC, abis: &["common", "64", "riscv", "rlimit", "memfd_secret"], needs: Some("riscv"), heir: None },
    Column { name: "s390", files: S390, abis: &["common", "32"], needs: Some("32"), heir: Some("s390x") },
    Column { name: "s390x", files: S390, abis: &["common", "64"], needs: None, heir: None },
    Column { name: "sh", files: &["arch/sh/kernel/syscalls/syscall.tbl"], abis: &["common"], needs: None, heir: None },
];

/// ARM's own calls are in a header, beyond every table.
const ARM_HEADER: &str = "arch/arm/include/uapi/asm/unistd.h";
const ARM_BASE: u32 = 0xf_0000;

impl Column {
    /// The calls, from the first of the trees that has this architecture, and which of them that was.
    pub fn read_first(&self, sources: &[PathBuf]) -> Result<(usize, BTreeMap<String, u32>)> {
        for (index, source) in sources.iter().enumerate() {
            if let Some(entries) = self.read(source)? {
                return Ok((index, entries));
            }
        }
        Err(Failure::new(format!(
            "no kernel source has the calls of {}: give an older one as well",
            self.name
        )))
    }

    fn read(&self, source: &Path) -> Result<Option<BTreeMap<String, u32>>> {
        let Some(path) = self
            .files
            .iter()
            .map(|file| source.join(file))
            .find(|path| path.exists())
        else {
            return Ok(None);
        };
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        let lines = entries(&text).context(|| format!("read {}", path.display()))?;
        if self
            .needs
            .is_some_and(|abi| lines.iter().all(|line| line.abi != abi))
        {
            return Ok(None);
        }
        let ours = lines
            .into_iter()
            .filter(|line| self.abis.contains(&line.abi) && !is_gap(line.name));
        let mut found: BTreeMap<String, u32> = ours
            .map(|line| (line.name.to_owned(), line.number))
            .collect();
        if self.name == "arm" {
            let path = source.join(ARM_HEADER);
            let header =
                fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
            found.extend(arm_calls(&header));
        }
        Ok(Some(found))
    }
}

/// A line of a table: number, ABI, name, and functions that are not read.
struct Entry<'a> {
    number: u32,
    abi: &'a str,
    name: &'a str,
}

fn entries(table: &str) -> Result<Vec<Entry<'_>>> {
    let lines = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            match (
                words.next().and_then(|word| word.parse().ok()),
                words.next(),
                words.next(),
            ) {
                (Some(number), Some(abi), Some(name)) => Ok(Entry { number, abi, name }),
                _ => Err(Failure::new(format!(
                    "a line without number, ABI and name: {line}"
                ))),
            }
        })
        .collect()
}

/// Whether a line only says that a number is free: `reserved82`, `unused18`.
fn is_gap(name: &str) -> bool {
    let rest = name
        .strip_prefix("reserved")
        .or(name.strip_prefix("unused"));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `#define __ARM_NR_name (__ARM_NR_BASE+n)`.
fn arm_calls(header: &str) -> Vec<(String, u32)> {
    let defines = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define __ARM_NR_"));
    defines
        .filter_map(|define| {
            let (name, value) = define.split_once(char::is_whitespace)?;
            let offset = value
                .trim()
                .strip_prefix("(__ARM_NR_BASE+")?
                .strip_suffix(')')?;
            Some((name.to_owned(), ARM_BASE + offset.parse::<u32>().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_abi() {
        let table = "# a comment\n\n0\tcommon\tread\tsys_read\n1 64 write sys_write -\n";
        let read: Vec<_> = entries(table)
            .unwrap()
            .iter()
            .map(|e| (e.number, e.abi, e.name))
            .collect();
        assert_eq!(read, [(0, "common", "read"), (1, "64", "write")]);
        assert!(entries("x common read\n").is_err());
        assert!(entries("1 common\n").is_err());
    }

    #[test]
    fn a_free_number_is_no_call() {
        let cases = [
            ("reserved82", true),
            ("unused18", true),
            ("read", false),
            ("unshare", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_gap(name), expected, "{name}");
        }
    }

    #[test]
    fn arms_own_calls_are_read_from_the_header() {
        let header = "#define __ARM_NR_BASE\t\t(__NR_SYSCALL_BASE+0x0f0000)\n#define __ARM_NR_set_tls\t\t(__ARM_NR_BASE+5)\n";
        assert_eq!(arm_calls(header), [("set_tls".to_owned(), 0xf_0005)]);
    }
}
