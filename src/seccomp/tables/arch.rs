// SPDX-License-Identifier: Apache-2.0
//! The architectures of the specification, and what a filter must know of each: the token that the kernel puts into
//! `seccomp_data.arch`, the order of bytes, the width of an argument, and where its calls' numbers begin. Pure data.

/// An ABI that a system call can come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the specification's own words
pub enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64N32,
    Mipsel,
    Mipsel64,
    Mipsel64N32,
    Ppc,
    Ppc64,
    Ppc64Le,
    S390,
    S390X,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

/// The columns of the generated table, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Loongarch64,
    M68k,
    Mips,
    Mips64,
    Mips64N32,
    Parisc,
    Parisc64,
    Ppc,
    Ppc64,
    Riscv64,
    S390,
    S390X,
    Sh,
}

/// The order of the two halves of a 64-bit value in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// The low half first.
    Little,
    /// The high half first.
    Big,
}

/// How much of an argument the architecture's programs can set. The kernel widens the rest with zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// `include/uapi/linux/audit.h`: an ELF machine with these bits beside it.
const WIDE: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const N32: u32 = 0x2000_0000;

const EM_386: u32 = 3;
const EM_68K: u32 = 4;
const EM_MIPS: u32 = 8;
const EM_PARISC: u32 = 15;
const EM_PPC: u32 = 20;
const EM_PPC64: u32 = 21;
const EM_S390: u32 = 22;
const EM_ARM: u32 = 40;
const EM_SH: u32 = 42;
const EM_X86_64: u32 = 62;
const EM_AARCH64: u32 = 183;
const EM_RISCV: u32 = 243;
const EM_LOONGARCH: u32 = 258;

/// The bit that an x32 program sets in every number. The kernel gives such a call the token of x86_64.
pub const X32_BIT: u32 = 0x4000_0000;

/// What there is to know of an architecture.
struct Facts {
    name: &'static str,
    token: u32,
    column: Column,
    first: u32,
}

const fn facts(name: &'static str, token: u32, column: Column, first: u32) -> Facts {
    Facts {
        name,
        token,
        column,
        first,
    }
}

/// In the order of `Arch`.
#[rustfmt::skip]
static FACTS: [Facts; 23] = [
    facts("SCMP_ARCH_X86", EM_386 | LITTLE, Column::X86, 0),
    facts("SCMP_ARCH_X86_64", EM_X86_64 | WIDE | LITTLE, Column::X86_64, 0),
    facts("SCMP_ARCH_X32", EM_X86_64 | WIDE | LITTLE, Column::X32, X32_BIT),
    facts("SCMP_ARCH_ARM", EM_ARM | LITTLE, Column::Arm, 0),
    facts("SCMP_ARCH_AARCH64", EM_AARCH64 | WIDE | LITTLE, Column::Aarch64, 0),
    facts("SCMP_ARCH_MIPS", EM_MIPS, Column::Mips, 4000),
    facts("SCMP_ARCH_MIPS64", EM_MIPS | WIDE, Column::Mips64, 5000),
    facts("SCMP_ARCH_MIPS64N32", EM_MIPS | WIDE | N32, Column::Mips64N32, 6000),
    facts("SCMP_ARCH_MIPSEL", EM_MIPS | LITTLE, Column::Mips, 4000),
    facts("SCMP_ARCH_MIPSEL64", EM_MIPS | WIDE | LITTLE, Column::Mips64, 5000),
    facts("SCMP_ARCH_MIPSEL64N32", EM_MIPS | WIDE | LITTLE | N32, Column::Mips64N32, 6000),
    facts("SCMP_ARCH_PPC", EM_PPC, Column::Ppc, 0),
    facts("SCMP_ARCH_PPC64", EM_PPC64 | WIDE, Column::Ppc64, 0),
    facts("SCMP_ARCH_PPC64LE", EM_PPC64 | WIDE | LITTLE, Column::Ppc64, 0),
    facts("SCMP_ARCH_S390", EM_S390, Column::S390, 0),
    facts("SCMP_ARCH_S390X", EM_S390 | WIDE, Column::S390X, 0),
    facts("SCMP_ARCH_PARISC", EM_PARISC, Column::Parisc, 0),
    facts("SCMP_ARCH_PARISC64", EM_PARISC | WIDE, Column::Parisc64, 0),
    facts("SCMP_ARCH_RISCV64", EM_RISCV | WIDE | LITTLE, Column::Riscv64, 0),
    facts("SCMP_ARCH_LOONGARCH64", EM_LOONGARCH | WIDE | LITTLE, Column::Loongarch64, 0),
    facts("SCMP_ARCH_M68K", EM_68K, Column::M68k, 0),
    // Without a suffix it is the little one: more of them are.
    facts("SCMP_ARCH_SH", EM_SH | LITTLE, Column::Sh, 0),
    facts("SCMP_ARCH_SHEB", EM_SH, Column::Sh, 0),
];

impl Arch {
    /// All of them, in the specification's order.
    #[rustfmt::skip]
    pub const ALL: [Self; 23] = [
        Self::X86, Self::X86_64, Self::X32, Self::Arm, Self::Aarch64, Self::Mips, Self::Mips64, Self::Mips64N32,
        Self::Mipsel, Self::Mipsel64, Self::Mipsel64N32, Self::Ppc, Self::Ppc64, Self::Ppc64Le, Self::S390, Self::S390X,
        Self::Parisc, Self::Parisc64, Self::Riscv64, Self::Loongarch64, Self::M68k, Self::Sh, Self::Sheb,
    ];

    /// The architecture of `SCMP_ARCH_…`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// `SCMP_ARCH_…`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// `AUDIT_ARCH_…`: what `seccomp_data.arch` holds. x86_64 and x32 share theirs.
    pub fn token(self) -> u32 {
        self.facts().token
    }

    /// The order of an argument's halves.
    pub fn endian(self) -> Endian {
        if self.token() & LITTLE == 0 {
            Endian::Big
        } else {
            Endian::Little
        }
    }

    /// How wide an argument is. x32 and n32 pass 64 bits through the registers of their processors.
    pub fn word(self) -> Word {
        if self.token() & WIDE == 0 {
            Word::Bits32
        } else {
            Word::Bits64
        }
    }

    /// The number of the ABI's first call: what the kernel's own table counts from.
    pub fn first(self) -> u32 {
        self.facts().first
    }

    /// The architecture that this program was built for, and whose calls the kernel knows best.
    pub const fn native() -> Self {
        NATIVE
    }

    pub(super) fn column(self) -> Column {
        self.facts().column
    }

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }
}

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const NATIVE: Arch = Arch::X86_64;
#[cfg(all(target_arch = "x86_64", target_pointer_width = "32"))]
const NATIVE: Arch = Arch::X32;
#[cfg(target_arch = "x86")]
const NATIVE: Arch = Arch::X86;
#[cfg(target_arch = "aarch64")]
const NATIVE: Arch = Arch::Aarch64;
#[cfg(all(target_arch = "arm", target_endian = "little"))]
const NATIVE: Arch = Arch::Arm;
#[cfg(all(target_arch = "riscv64", target_endian = "little"))]
const NATIVE: Arch = Arch::Riscv64;
#[cfg(target_arch = "loongarch64")]
const NATIVE: Arch = Arch::Loongarch64;
#[cfg(target_arch = "s390x")]
const NATIVE: Arch = Arch::S390X;
#[cfg(target_arch = "powerpc")]
const NATIVE: Arch = Arch::Ppc;
#[cfg(all(target_arch = "powerpc64", target_endian = "big"))]
const NATIVE: Arch = Arch::Ppc64;
#[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
const NATIVE: Arch = Arch::Ppc64Le;
#[cfg(all(target_arch = "mips", target_endian = "big"))]
const NATIVE: Arch = Arch::Mips;
#[cfg(all(target_arch = "mips", target_endian = "little"))]
const NATIVE: Arch = Arch::Mipsel;
#[cfg(all(target_arch = "mips64", target_endian = "big"))]
const NATIVE: Arch = Arch::Mips64;
#[cfg(all(target_arch = "mips64", target_endian = "little"))]
const NATIVE: Arch = Arch::Mipsel64;
#[cfg(target_arch = "m68k")]
const NATIVE: Arch = Arch::M68k;
