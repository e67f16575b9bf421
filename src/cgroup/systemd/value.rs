// SPDX-License-Identifier: Apache-2.0
//! Properties of a unit as D-Bus carries them: a name and a variant (`(sv)`).

use rustbus::signature::{Container, Type};
use rustbus::wire::errors::MarshalError;
use rustbus::wire::marshal::MarshalContext;
use rustbus::wire::marshal::traits::SignatureBuffer;
use rustbus::{Marshal, Signature};

/// A property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name in org.freedesktop.systemd1(5).
    pub(super) name: String,
    /// What it is set to.
    pub(super) value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }
}

/// A value of one of the types that corten sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    Int(i32),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`: a set of small numbers, the lowest bit of the first byte for 0.
    Bits(Vec<u8>),
    /// `au`
    Pids(Vec<u32>),
    /// `a(st)`: a number by device.
    ByDevice(Vec<(String, u64)>),
}

impl Signature for Value {
    fn signature() -> Type {
        Type::Container(Container::Variant)
    }

    fn alignment() -> usize {
        1
    }

    fn sig_str(signature: &mut SignatureBuffer) {
        signature.push_static("v");
    }

    fn has_sig(signature: &str) -> bool {
        signature.starts_with('v')
    }
}

impl Marshal for Value {
    fn marshal(&self, to: &mut MarshalContext<'_, '_>) -> Result<(), MarshalError> {
        match self {
            Self::Bool(value) => value.marshal_as_variant(to),
            Self::Int(value) => value.marshal_as_variant(to),
            Self::Number(value) => value.marshal_as_variant(to),
            Self::Text(value) => value.marshal_as_variant(to),
            Self::Texts(value) => value.marshal_as_variant(to),
            Self::Bits(value) => value.marshal_as_variant(to),
            Self::Pids(value) => value.marshal_as_variant(to),
            Self::ByDevice(value) => value.marshal_as_variant(to),
        }
    }
}

impl Signature for Property {
    fn signature() -> Type {
        <(String, Value)>::signature()
    }

    fn alignment() -> usize {
        8
    }

    fn sig_str(signature: &mut SignatureBuffer) {
        signature.push_static("(sv)");
    }

    fn has_sig(signature: &str) -> bool {
        signature.starts_with("(sv)")
    }
}

impl Marshal for Property {
    fn marshal(&self, to: &mut MarshalContext<'_, '_>) -> Result<(), MarshalError> {
        to.align_to(8);
        self.name.marshal(to)?;
        self.value.marshal(to)
    }
}

#[cfg(test)]
mod tests {
    use rustbus::message_builder::MessageBuilder;

    use super::*;

    #[test]
    fn is_marshalled_as_dbus_says() {
        let mut message = MessageBuilder::new().call("X").on("/").build();
        let properties = [
            Property::new("A", Value::Bool(true)),
            Property::new("T", Value::Number(7)),
        ];
        message.body.push_param(&properties[..]).unwrap();
        assert_eq!(message.get_sig(), "a(sv)");
        let wanted: &[u8] = &[
            40, 0, 0, 0, 0, 0, 0, 0, // the array's length, and padding to its first structure
            1, 0, 0, 0, b'A', 0, // the name
            1, b'b', 0, 0, 0, 0, // the signature, padding to 4
            1, 0, 0, 0, // true
            1, 0, 0, 0, b'T', 0, // the name (at a multiple of 8 already)
            1, b't', 0, 0, 0, 0, 0, 0, 0, 0, // the signature, padding to 8
            7, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(message.get_buf(), wanted);
        message.body.validate().unwrap();
    }

    #[test]
    fn every_type_has_its_signature() {
        for (value, signature) in [
            (Value::Bool(true), "b"),
            (Value::Int(1), "i"),
            (Value::Number(1), "t"),
            (Value::Text("x".into()), "s"),
            (Value::Texts(vec!["x".into()]), "as"),
            (Value::Bits(vec![3]), "ay"),
            (Value::Pids(vec![3]), "au"),
            (Value::ByDevice(vec![("x".into(), 1)]), "a(st)"),
        ] {
            let mut message = MessageBuilder::new().call("X").on("/").build();
            message.body.push_param(&value).unwrap();
            let buffer = message.get_buf();
            let found = std::str::from_utf8(&buffer[1..=usize::from(buffer[0])]);
            assert_eq!(found, Ok(signature));
            message.body.validate().unwrap();
        }
    }
}
