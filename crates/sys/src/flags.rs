// SPDX-License-Identifier: Apache-2.0
//! One small macro for sets of kernel bits, so that a bare integer never travels between modules.

/// Declares a set of bits with names, union and containment.
macro_rules! bitflags_like {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$vdoc:meta])* $variant:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name($int);

        impl $name {
            $($(#[$vdoc])* pub const $variant: Self = Self($value as $int);)*

            /// No bit.
            pub const fn empty() -> Self { Self(0) }
            /// The bits as the kernel takes them.
            pub const fn bits(self) -> $int { self.0 }
            /// Whether no bit is set.
            pub const fn is_empty(self) -> bool { self.0 == 0 }
            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: Self) -> bool { self.0 & other.0 == other.0 }
            /// The bits without those of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self { Self(self.0 & !other.0) }
            /// The bits of both.
            #[must_use]
            pub const fn union(self, other: Self) -> Self { Self(self.0 | other.0) }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self { self.union(other) }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) { *self = self.union(other); }
        }
    };
}
