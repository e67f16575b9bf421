// SPDX-License-Identifier: Apache-2.0
//! The tables, against what the kernel's headers and manuals say in other places than those that they were made from.

use std::collections::BTreeSet;

use super::arch::{Arch, Endian, Word, X32_BIT};
use super::multiplex::{Multiplexed, meant, multiplexed};
use super::names::{Call, calls, highest, name, number};
use super::weights::weight;

#[test]
fn every_architecture_has_its_token_order_and_width() {
    use Endian::{Big, Little};
    use Word::{Bits32, Bits64};
    // The tokens as an audit log shows them.
    #[rustfmt::skip]
    let cases = [
        ("SCMP_ARCH_X86", 0x4000_0003, Little, Bits32, 0),
        ("SCMP_ARCH_X86_64", 0xc000_003e, Little, Bits64, 0),
        ("SCMP_ARCH_X32", 0xc000_003e, Little, Bits64, 0x4000_0000),
        ("SCMP_ARCH_ARM", 0x4000_0028, Little, Bits32, 0),
        ("SCMP_ARCH_AARCH64", 0xc000_00b7, Little, Bits64, 0),
        ("SCMP_ARCH_MIPS", 0x0000_0008, Big, Bits32, 4000),
        ("SCMP_ARCH_MIPS64", 0x8000_0008, Big, Bits64, 5000),
        ("SCMP_ARCH_MIPS64N32", 0xa000_0008, Big, Bits64, 6000),
        ("SCMP_ARCH_MIPSEL", 0x4000_0008, Little, Bits32, 4000),
        ("SCMP_ARCH_MIPSEL64", 0xc000_0008, Little, Bits64, 5000),
        ("SCMP_ARCH_MIPSEL64N32", 0xe000_0008, Little, Bits64, 6000),
        ("SCMP_ARCH_PPC", 0x0000_0014, Big, Bits32, 0),
        ("SCMP_ARCH_PPC64", 0x8000_0015, Big, Bits64, 0),
        ("SCMP_ARCH_PPC64LE", 0xc000_0015, Little, Bits64, 0),
        ("SCMP_ARCH_S390", 0x0000_0016, Big, Bits32, 0),
        ("SCMP_ARCH_S390X", 0x8000_0016, Big, Bits64, 0),
        ("SCMP_ARCH_PARISC", 0x0000_000f, Big, Bits32, 0),
        ("SCMP_ARCH_PARISC64", 0x8000_000f, Big, Bits64, 0),
        ("SCMP_ARCH_RISCV64", 0xc000_00f3, Little, Bits64, 0),
        ("SCMP_ARCH_LOONGARCH64", 0xc000_0102, Little, Bits64, 0),
        ("SCMP_ARCH_M68K", 0x0000_0004, Big, Bits32, 0),
        ("SCMP_ARCH_SH", 0x4000_002a, Little, Bits32, 0),
        ("SCMP_ARCH_SHEB", 0x0000_002a, Big, Bits32, 0),
    ];
    assert_eq!(cases.len(), Arch::ALL.len());
    for ((word, token, endian, width, first), arch) in cases.into_iter().zip(Arch::ALL) {
        assert_eq!(Arch::named(word), Some(arch), "{word}");
        assert_eq!(arch.name(), word);
        assert_eq!(
            (arch.token(), arch.endian(), arch.word(), arch.first()),
            (token, endian, width, first),
            "{word}"
        );
    }
    for word in ["", "x86", "SCMP_ARCH_", "SCMP_ARCH_NATIVE", "scmp_arch_x86"] {
        assert_eq!(Arch::named(word), None, "{word}");
    }
}

#[test]
fn the_native_architecture_is_the_one_that_this_runs_on() {
    let cases = [
        ("x86_64", Arch::X86_64),
        ("x86", Arch::X86),
        ("aarch64", Arch::Aarch64),
        ("arm", Arch::Arm),
        ("riscv64", Arch::Riscv64),
        ("loongarch64", Arch::Loongarch64),
        ("s390x", Arch::S390X),
    ];
    for (word, arch) in cases {
        assert_eq!(
            std::env::consts::ARCH == word,
            Arch::native() == arch,
            "{word}"
        );
    }
}

#[test]
fn numbers_are_the_kernels() {
    // From the manuals and headers of each architecture, one or two a column.
    #[rustfmt::skip]
    let cases = [
        ("read", Arch::X86, Some(3)), ("read", Arch::X86_64, Some(0)), ("read", Arch::X32, Some(X32_BIT)),
        ("ioctl", Arch::X86_64, Some(16)), ("ioctl", Arch::X32, Some(X32_BIT + 514)),
        ("io_submit", Arch::X32, Some(X32_BIT + 544)), ("pwritev2", Arch::X32, Some(X32_BIT + 547)),
        ("openat", Arch::Aarch64, Some(56)), ("open", Arch::Aarch64, None), ("renameat", Arch::Aarch64, Some(38)),
        ("renameat", Arch::Riscv64, None), ("riscv_flush_icache", Arch::Riscv64, Some(259)),
        ("riscv_flush_icache", Arch::Aarch64, None), ("getrlimit", Arch::Loongarch64, None),
        ("getrlimit", Arch::Riscv64, Some(163)), ("clone3", Arch::Loongarch64, Some(435)),
        ("breakpoint", Arch::Arm, Some(0xf_0001)), ("set_tls", Arch::Arm, Some(0xf_0005)),
        ("get_tls", Arch::Arm, Some(0xf_0006)), ("openat", Arch::Arm, Some(322)), ("socketcall", Arch::Arm, None),
        ("openat", Arch::Mips, Some(4288)), ("openat", Arch::Mips64, Some(5247)), ("openat", Arch::Mips64N32, Some(6251)),
        ("openat", Arch::Mipsel, Some(4288)), ("openat", Arch::Mipsel64, Some(5247)), ("openat", Arch::Mipsel64N32, Some(6251)),
        ("openat", Arch::Ppc, Some(286)), ("openat", Arch::Ppc64Le, Some(286)), ("newfstatat", Arch::Ppc64, Some(291)),
        ("fstatat64", Arch::Ppc, Some(291)), ("fstatat64", Arch::Ppc64, None),
        ("openat", Arch::S390X, Some(288)), ("openat", Arch::S390, Some(288)), ("setuid", Arch::S390X, Some(213)),
        ("setuid", Arch::S390, Some(23)), ("setuid32", Arch::S390, Some(213)), ("setuid32", Arch::S390X, None),
        ("openat", Arch::Parisc, Some(275)), ("openat", Arch::Parisc64, Some(275)),
        ("openat", Arch::M68k, Some(288)), ("openat", Arch::Sh, Some(295)), ("openat", Arch::Sheb, Some(295)),
        ("accept", Arch::X86, None), ("accept4", Arch::X86, Some(364)),
        ("seccomp", Arch::X86_64, Some(317)), ("seccomp", Arch::X86, Some(354)),
        ("no_such_call", Arch::X86_64, None), ("", Arch::X86_64, None), ("reada", Arch::X86_64, None),
    ];
    for (word, arch, expected) in cases {
        assert_eq!(number(word, arch), expected, "{word} on {arch:?}");
    }
}

#[test]
fn every_name_is_found_and_every_number_leads_back() {
    assert!(Call::all().count() > 500);
    for call in Call::all() {
        assert_eq!(Call::named(call.name()), Some(call), "{}", call.name());
        assert!(
            Arch::ALL.iter().any(|arch| call.number(*arch).is_some()),
            "{} is nowhere",
            call.name()
        );
    }
    for arch in Arch::ALL {
        let mut seen = BTreeSet::new();
        for (call, own) in calls(arch) {
            assert!(seen.insert(own), "{own} twice on {arch:?}: {}", call.name());
            assert_eq!(name(arch, own), Some(call.name()), "{own} on {arch:?}");
        }
        assert!(seen.len() > 300, "{arch:?} has {} calls", seen.len());
        assert_eq!(seen.last().copied(), Some(highest(arch)), "{arch:?}");
        assert_eq!(name(arch, highest(arch) + 1), None, "{arch:?}");
        assert_eq!(name(arch, u32::MAX), None, "{arch:?}");
    }
}

#[test]
fn a_call_knows_its_release() {
    let cases = [
        ("read", (3, 0)),
        ("kcmp", (3, 5)),
        ("execveat", (3, 19)),
        ("userfaultfd", (4, 3)),
        ("rseq", (4, 18)),
        ("io_uring_setup", (5, 1)),
        ("openat2", (5, 6)),
        ("set_mempolicy_home_node", (5, 17)),
        ("cachestat", (6, 5)),
        ("listns", (6, 19)),
        ("rseq_slice_yield", (7, 0)),
        ("fchroot", (7, 3)),
    ];
    for (word, expected) in cases {
        assert_eq!(Call::named(word).map(Call::since), Some(expected), "{word}");
    }
}

#[test]
fn what_is_reached_through_another_call_leads_both_ways() {
    let socket = |number, selector| Multiplexed {
        number,
        selector,
        mask: 0xffff_ffff,
    };
    let ipc = |number, selector| Multiplexed {
        number,
        selector,
        mask: 0xffff,
    };
    #[rustfmt::skip]
    let cases = [
        ("socket", Arch::X86, Some(socket(102, 1))), ("accept", Arch::X86, Some(socket(102, 5))),
        ("sendmmsg", Arch::S390X, Some(socket(102, 20))), ("connect", Arch::S390, Some(socket(102, 3))),
        ("recv", Arch::Ppc64Le, Some(socket(102, 10))), ("bind", Arch::Mips, Some(socket(4102, 2))),
        ("listen", Arch::M68k, Some(socket(102, 4))), ("socket", Arch::Sh, Some(socket(102, 1))),
        ("shmat", Arch::X86, Some(ipc(117, 21))), ("semtimedop", Arch::S390X, Some(ipc(117, 4))),
        ("msgctl", Arch::Mipsel, Some(ipc(4117, 14))),
        ("socket", Arch::X86_64, None), ("socket", Arch::X32, None), ("socket", Arch::Arm, None),
        ("socket", Arch::Mips64, None), ("socket", Arch::Parisc, None), ("shmat", Arch::Aarch64, None),
        ("read", Arch::X86, None), ("socketcall", Arch::X86, None), ("ipc", Arch::X86, None),
    ];
    for (word, arch, expected) in cases {
        let call = Call::named(word).unwrap();
        assert_eq!(multiplexed(call, arch), expected, "{word} on {arch:?}");
        if let Some(way) = expected {
            let back = |first| meant(arch, way.number, first);
            assert_eq!(back(u64::from(way.selector)), Some(call), "{word}");
            assert_eq!(
                back(u64::from(way.selector) | !way.mask),
                Some(call),
                "{word} with bits that nobody reads"
            );
            assert_eq!(back(0), None);
            assert_eq!(back(99), None);
            assert_eq!(meant(arch, way.number + 1, 1), None);
        }
    }
}

#[test]
fn weights_are_those_of_the_histogram() {
    let text = include_str!("../../../tests/fixtures/seccomp/histogram.txt");
    let rows: Vec<(Call, f64, f64)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let cells: Vec<&str> = line.split(' ').collect();
            let call = Call::named(cells[0]).unwrap_or_else(|| panic!("no call {}", cells[0]));
            (call, cells[1].parse().unwrap(), cells[2].parse().unwrap())
        })
        .collect();
    let serve: f64 = rows.iter().map(|row| row.1).sum();
    let build: f64 = rows.iter().map(|row| row.2).sum();
    for call in Call::all() {
        let row = rows.iter().find(|row| row.0 == call);
        let share = |row: &(Call, f64, f64)| 500.0 * (row.1 / serve + row.2 / build);
        let expected = row.map_or(0, |row| (share(row) + 0.5).max(1.0) as u16);
        assert_eq!(weight(call), expected, "{}", call.name());
    }
    assert!(weight(Call::named("openat").unwrap()) > weight(Call::named("mount").unwrap()));
}
