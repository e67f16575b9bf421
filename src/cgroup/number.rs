// SPDX-License-Identifier: Apache-2.0
//! Numbers as the kernel reads them in files of cgroups, which is not as Rust does: `unified` hands on what people write.
//! What the kernel refuses, or would cut to 64 bits, is `None`. Pure.

/// kstrtoull(), kstrtoll() with any base (lib/kstrtox.c): a sign, then decimal, octal after `0`, hexadecimal after `0x`.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, rest) = leading(digits)?;
    let number = i128::from(number?);
    rest.is_empty()
        .then_some(if is_negative { -number } else { number })
}

/// page_counter_memparse(): an amount with a unit, or the word for no limit, of v2 or v1, which is the largest number.
pub(super) fn bytes(text: &str) -> Option<u64> {
    if ["max", "-1"].contains(&text) {
        return Some(u64::MAX);
    }
    // Nothing before a unit, or at all, is nothing (memparse() in lib/cmdline.c).
    let (number, rest) = leading(text).unwrap_or((Some(0), text));
    let shift = match rest {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        "E" | "e" => 60,
        _ => return None,
    };
    number?.checked_mul(1 << shift)
}

/// `%llu` of the kernel's sscanf(): decimal digits, whatever comes after them.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..end)?.parse().ok()
}

/// `%u:%u`: a device by its numbers, and what is said of it.
pub(super) fn device(text: &str) -> Option<((u32, u32), &str)> {
    let number = |text: &str| u32::try_from(decimal(text)?).ok();
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let text = text.trim_start();
    let (major, rest) = text.split_at_checked(digits(text))?;
    let rest = rest.strip_prefix(':')?.trim_start();
    let (minor, rest) = rest.split_at_checked(digits(rest))?;
    let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
    let numbers = (number(major)?, number(minor)?);
    ends.then_some((numbers, rest.trim_start()))
}

/// The number that `text` starts with, `None` in it if 64 bits don't hold it, and what follows.
fn leading(text: &str) -> Option<(Option<u64>, &str)> {
    let hexadecimal = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_hexdigit()));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let end = digits.bytes().take_while(is_digit).count();
    let (digits, rest) = digits.split_at_checked(end)?;
    let number = u64::from_str_radix(digits, radix).ok();
    (!digits.is_empty()).then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("0100", Some(64)),
            ("08", None),
            ("0x1F", Some(31)),
            ("0XA", Some(10)),
            ("0x", None),
            ("0xg", None),
            ("+5", Some(5)),
            ("-5", Some(-5)),
            ("-0x10", Some(-16)),
            ("-+5", None),
            ("+-5", None),
            ("1e3", None),
            ("5 ", None),
            ("", None),
            ("+", None),
            ("max", None),
            ("18446744073709551615", Some(u64::MAX.into())),
            ("18446744073709551616", None),
        ] {
            assert_eq!(integer(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn amounts() {
        for (text, wanted) in [
            ("max", Some(u64::MAX)),
            ("-1", Some(u64::MAX)),
            ("Max", None),
            ("-2", None),
            ("+5", None),
            ("100", Some(100)),
            ("0100", Some(64)),
            ("0x1000", Some(4096)),
            ("0x10k", Some(16 << 10)),
            ("64k", Some(64 << 10)),
            ("64M", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("2T", Some(2 << 40)),
            ("1P", Some(1 << 50)),
            ("1e", Some(1 << 60)),
            ("1e3", None),
            ("64MB", None),
            ("6.4M", None),
            ("K", Some(0)),
            ("", Some(0)),
            ("08", None),
            ("18446744073709551616", None),
            ("32E", None),
        ] {
            assert_eq!(bytes(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn decimals_and_devices() {
        for (text, wanted) in [
            ("0100", Some(100)),
            ("5x", Some(5)),
            ("1e3", Some(1)),
            ("+5", None),
            ("max", None),
            ("", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(decimal(text), wanted, "{text:?}");
        }
        for (text, wanted) in [
            ("8:0 rbps=1", Some(((8, 0), "rbps=1"))),
            (" 08:016  x y", Some(((8, 16), "x y"))),
            ("8: 0 x", Some(((8, 0), "x"))),
            ("8:0", Some(((8, 0), ""))),
            ("8:0x", None),
            ("8", None),
            (":0", None),
            ("8: x", None),
            ("default 5", None),
            ("4294967296:0", None),
        ] {
            assert_eq!(device(text), wanted, "{text:?}");
        }
    }
}
