// SPDX-License-Identifier: Apache-2.0
//! Calls by name and by number. The rows of `generated.rs` are read by the compiler only: what is in the program is one
//! text of all names, and per architecture ten bits a call or the few differences from another architecture.
//! Nothing is built at start and nothing is allocated.

use super::arch::{Arch, Column};
use super::generated::ROWS;

/// A call as `generated.rs` has it: name, release, numbers by column.
pub(super) type Row = (&'static str, u16, [u32; COLUMNS]);

const COLUMNS: usize = 18;
const CALLS: usize = ROWS.len();

/// A call that some architecture has. Its order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(pub(super) u16);

impl Call {
    /// The call of this name, if any architecture has one.
    pub fn named(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, CALLS);
        while low < high {
            let middle = low.midpoint(high);
            match text(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(Self(middle as u16)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Every call.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CALLS as u16).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        std::str::from_utf8(text(self.index())).unwrap_or_default()
    }

    /// Its number as `seccomp_data.nr` has it, if the architecture has the call.
    pub fn number(self, arch: Arch) -> Option<u32> {
        let table = &TABLES[arch.column() as usize];
        let at = table
            .differs
            .binary_search_by_key(&self.0, |(call, _)| *call);
        let cell = match at {
            Ok(found) => table.differs[found].1,
            Err(_) => cell(table.base, self.index()),
        };
        match cell {
            ABSENT => None,
            ARM_OWN.. => Some(ARM_BASE + u32::from(cell - ARM_OWN)),
            _ => Some(arch.first() + u32::from(cell)),
        }
    }

    /// The release of Linux that brought it, as major and minor; 3.0 stands for all before it too.
    pub fn since(self) -> (u16, u16) {
        let mut minor = u16::from(RELEASES[self.index()]);
        for (major, minors) in MINORS {
            if minor < minors {
                return (major, minor);
            }
            minor -= minors;
        }
        (LAST_MAJOR, minor)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of a call on an architecture that has it.
pub fn number(name: &str, arch: Arch) -> Option<u32> {
    Call::named(name)?.number(arch)
}

/// The call of a number. Walks the table: for messages, not for loops.
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    let mut calls = calls(arch);
    calls.find_map(|(call, own)| (own == number).then(|| call.name()))
}

/// The highest number that any call of the architecture has.
pub fn highest(arch: Arch) -> u32 {
    calls(arch).map(|(_, number)| number).max().unwrap_or(0)
}

/// The architecture's calls with their numbers, by name.
pub fn calls(arch: Arch) -> impl Iterator<Item = (Call, u32)> {
    Call::all().filter_map(move |call| Some((call, call.number(arch)?)))
}

// How many releases each major number had before the next one began.
const MINORS: [(u16, u16); 4] = [(3, 20), (4, 21), (5, 20), (6, 20)];
const LAST_MAJOR: u16 = 7;

/// Cells of ten bits: numbers, ARM's own calls, nothing.
const ABSENT: u16 = 0x3ff;
const ARM_OWN: u16 = 0x3f0;
const ARM_BASE: u32 = 0xf_0000;
const BITS: usize = 10;
const PACKED: usize = (CALLS * BITS).div_ceil(8) + 1;

/// An architecture's numbers: another's, but for a few. Sorted by call.
struct Table {
    base: &'static [u8; PACKED],
    differs: &'static [(u16, u16)],
}

/// The cell of a call: it never crosses more than two bytes, since ten bits begin at an even bit.
fn cell(base: &[u8; PACKED], call: usize) -> u16 {
    let bit = call * BITS;
    let pair = u16::from_le_bytes([base[bit / 8], base[bit / 8 + 1]]);
    pair >> (bit % 8) & ABSENT
}

/// The place of a name that is known when this is compiled.
pub(super) const fn position(name: &str) -> u16 {
    let mut call = 0;
    loop {
        assert!(call < CALLS, "no architecture has this call");
        if same(ROWS[call].0.as_bytes(), name.as_bytes()) {
            return call as u16;
        }
        call += 1;
    }
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The bytes of a name.
fn text(call: usize) -> &'static [u8] {
    &TEXT[usize::from(STARTS[call])..usize::from(STARTS[call + 1])]
}

static TEXT: [u8; LENGTH] = joined();
static STARTS: [u16; CALLS + 1] = starts();
static RELEASES: [u8; CALLS] = releases();

const LENGTH: usize = starts()[CALLS] as usize;

const fn starts() -> [u16; CALLS + 1] {
    let mut starts = [0; CALLS + 1];
    let mut call = 0;
    while call < CALLS {
        starts[call + 1] = starts[call] + ROWS[call].0.len() as u16;
        call += 1;
    }
    starts
}

const fn joined() -> [u8; LENGTH] {
    let mut joined = [0; LENGTH];
    let (mut call, mut end) = (0, 0);
    while call < CALLS {
        let name = ROWS[call].0.as_bytes();
        let mut at = 0;
        while at < name.len() {
            joined[end] = name[at];
            at += 1;
            end += 1;
        }
        call += 1;
    }
    joined
}

const fn releases() -> [u8; CALLS] {
    let mut releases = [0; CALLS];
    let mut call = 0;
    while call < CALLS {
        let (major, minor) = (ROWS[call].1 / 100, ROWS[call].1 % 100);
        let (mut before, mut at) = (0, 0);
        while at < MINORS.len() && MINORS[at].0 < major {
            before += MINORS[at].1;
            at += 1;
        }
        assert!(before + minor < 256);
        releases[call] = (before + minor) as u8;
        call += 1;
    }
    releases
}

const fn stored(call: usize, column: Column) -> u16 {
    match ROWS[call].2[column as usize] {
        u32::MAX => ABSENT,
        number @ 0..0x3f0 => number as u16,
        number => {
            assert!(
                number > ARM_BASE && number < ARM_BASE + 0xf,
                "a number beyond ten bits"
            );
            ARM_OWN + (number - ARM_BASE) as u16
        }
    }
}

const fn packed(column: Column) -> [u8; PACKED] {
    let mut packed = [0; PACKED];
    let mut call = 0;
    while call < CALLS {
        let bit = call * BITS;
        let pair = stored(call, column) << (bit % 8);
        packed[bit / 8] |= pair as u8;
        packed[bit / 8 + 1] |= (pair >> 8) as u8;
        call += 1;
    }
    packed
}

const fn count(column: Column, base: Column) -> usize {
    let (mut count, mut call) = (0, 0);
    while call < CALLS {
        count += (stored(call, column) != stored(call, base)) as usize;
        call += 1;
    }
    count
}

const fn differences<const N: usize>(column: Column, base: Column) -> [(u16, u16); N] {
    let mut differences = [(0, 0); N];
    let (mut end, mut call) = (0, 0);
    while call < CALLS {
        if stored(call, column) != stored(call, base) {
            differences[end] = (call as u16, stored(call, column));
            end += 1;
        }
        call += 1;
    }
    differences
}

static X86: [u8; PACKED] = packed(Column::X86);
static X86_64: [u8; PACKED] = packed(Column::X86_64);
static ARM: [u8; PACKED] = packed(Column::Arm);
static AARCH64: [u8; PACKED] = packed(Column::Aarch64);
static M68K: [u8; PACKED] = packed(Column::M68k);
static MIPS: [u8; PACKED] = packed(Column::Mips);
static MIPS64: [u8; PACKED] = packed(Column::Mips64);
static MIPS64N32: [u8; PACKED] = packed(Column::Mips64N32);
static PARISC: [u8; PACKED] = packed(Column::Parisc);
static PPC: [u8; PACKED] = packed(Column::Ppc);
static S390X: [u8; PACKED] = packed(Column::S390X);

/// A table that stands for itself.
const fn own(base: &'static [u8; PACKED]) -> Table {
    Table { base, differs: &[] }
}

/// A table that is told by its differences.
macro_rules! like {
    ($base:ident, $known:ident, $column:ident) => {{
        static DIFFERS: [(u16, u16); count(Column::$column, Column::$known)] =
            differences(Column::$column, Column::$known);
        Table {
            base: &$base,
            differs: &DIFFERS,
        }
    }};
}

/// In the order of `Column`. Which is like which was found by counting.
static TABLES: [Table; COLUMNS] = [
    own(&X86),
    own(&X86_64),
    like!(X86_64, X86_64, X32),
    own(&ARM),
    own(&AARCH64),
    like!(AARCH64, Aarch64, Loongarch64),
    own(&M68K),
    own(&MIPS),
    own(&MIPS64),
    own(&MIPS64N32),
    own(&PARISC),
    like!(PARISC, Parisc, Parisc64),
    own(&PPC),
    like!(PPC, Ppc, Ppc64),
    like!(AARCH64, Aarch64, Riscv64),
    like!(S390X, S390X, S390),
    own(&S390X),
    like!(X86, X86, Sh),
];
