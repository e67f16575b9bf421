// SPDX-License-Identifier: Apache-2.0
//! How an object of the document becomes a struct. Pure; called by serde_json through `Deserialize`.
//!
//! serde's derived readers would also take an object's fields by place, as an array, which nobody else does, and cost
//! three times as much binary for these hundred and ninety fields. Here every struct shares one loop over its keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};

/// A struct that is read from an object.
pub(super) trait Record: Sized {
    /// The fields' names in the document.
    const NAMES: &'static [&'static str];
    /// Those that must be there.
    const REQUIRED: &'static [&'static str];

    /// What it is before anything is read.
    fn empty() -> Self;

    /// Reads the value of the field `name`, one of [`Self::NAMES`].
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Makes a struct readable: what it is before anything is read, what must be there, and the name of each field.
macro_rules! record {
    ($type:ident { $($name:literal => $field:ident),* $(,)? }) => {
        record!($type = Self::default(), [] { $($name => $field),* });
    };
    ($type:ident = $empty:expr, [$($required:literal),*] { $($name:literal => $field:ident),* $(,)? }) => {
        impl $crate::bundle::spec::record::Record for $type {
            const NAMES: &'static [&'static str] = &[$($name),*];
            const REQUIRED: &'static [&'static str] = &[$($required),*];

            fn empty() -> Self {
                $empty
            }

            fn read<'de, A: serde::de::MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
                match name {
                    $($name => $crate::bundle::spec::record::Slot::read(&mut self.$field, map),)*
                    _ => Ok(()),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::bundle::spec::record::object(deserializer)
            }
        }

        impl $crate::bundle::spec::record::Value for $type {}
    };
}
pub(super) use record;

/// Reads an object.
pub(super) fn object<'de, D: Deserializer<'de>, T: Record>(deserializer: D) -> Result<T, D::Error> {
    let mut record = T::empty();
    deserializer.deserialize_map(Object(&mut record))?;
    Ok(record)
}

struct Object<'a, T>(&'a mut T);

impl<'de, T: Record> Visitor<'de> for Object<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        walk(map, T::NAMES, T::REQUIRED, &mut |name, map| {
            self.0.read(name, map)
        })
    }
}

/// Reads the value of the field that is named.
type ReadField<'a, 'de, A> =
    dyn FnMut(&'static str, &mut A) -> Result<(), <A as MapAccess<'de>>::Error> + 'a;

/// The loop over an object's keys: each known one at most once, unknown ones skipped.
fn walk<'de, A: MapAccess<'de>>(
    mut map: A,
    names: &'static [&'static str],
    required: &'static [&'static str],
    read: &mut ReadField<'_, 'de, A>,
) -> Result<(), A::Error> {
    let mut seen = 0_u64;
    while let Some(known) = map.next_key_seed(Key(names))? {
        let Some(index) = known else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        // SECURITY: of two values one reader takes the first and another the last, so neither is taken.
        if seen & (1 << index) != 0 {
            return Err(A::Error::duplicate_field(names[index]));
        }
        seen |= 1 << index;
        read(names[index], &mut map)?;
    }
    let missing = |name: &&&str| {
        !names
            .iter()
            .enumerate()
            .any(|(index, known)| known == *name && seen & (1 << index) != 0)
    };
    match required.iter().find(missing) {
        Some(name) => Err(A::Error::missing_field(name)),
        None => Ok(()),
    }
}

/// A key, as its place among the names.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// What a field may hold beside the lists and maps.
pub(super) trait Value {
    /// Whether it means the same as an absent field.
    fn says_nothing(&self) -> bool {
        false
    }
}

impl Value for bool {}
impl Value for i64 {}
impl Value for i32 {}
impl Value for u64 {}
impl Value for u32 {}
impl Value for u16 {}
/// A list that is there and empty is not the same as none, where the field says so.
impl<T> Value for Vec<T> {}

impl Value for String {
    fn says_nothing(&self) -> bool {
        self.is_empty()
    }
}

/// A field: where a value goes, and what `null` makes of it.
pub(super) trait Slot: Sized {
    /// Reads the value that comes next.
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>;
}

impl<T: for<'de> Deserialize<'de> + Value> Slot for Option<T> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map
            .next_value::<Self>()?
            .filter(|value| !value.says_nothing());
        Ok(())
    }
}

impl<T: for<'de> Deserialize<'de>> Slot for Vec<T> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value::<Option<Self>>()?.unwrap_or_default();
        Ok(())
    }
}

impl<T: for<'de> Deserialize<'de>> Slot for BTreeMap<String, T> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value::<Option<Self>>()?.unwrap_or_default();
        Ok(())
    }
}

/// Fields that hold their value themselves: `null` leaves what was there before anything was read.
macro_rules! plain {
    ($($type:ty),*) => {$(
        impl $crate::bundle::spec::record::Slot for $type {
            fn read<'de, A: serde::de::MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
                if let Some(value) = map.next_value()? {
                    *self = value;
                }
                Ok(())
            }
        }
    )*};
}
pub(super) use plain;

/// Words of closed sets, which have no value without one: `null` is none of them.
macro_rules! words {
    ($($type:ty),*) => {$(
        impl $crate::bundle::spec::record::Slot for $type {
            fn read<'de, A: serde::de::MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
                *self = map.next_value()?;
                Ok(())
            }
        }

        impl $crate::bundle::spec::record::Value for $type {}
    )*};
}
pub(super) use words;

plain!(bool, i64, i32, u64, u32, String);
