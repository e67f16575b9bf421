// SPDX-License-Identifier: Apache-2.0
//! Lists of numbers as Linux writes CPUs and memory nodes: `0-3,7`. Pure; read by the rules and by `plan`.

/// The ranges of a list, both ends included; `None` if it is no list.
pub fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    list.split(',').map(|part| range(part.trim())).collect()
}

fn range(part: &str) -> Option<(u32, u32)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u32> {
    // Rust's own reader would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The list as bits, the first number's the lowest of the first word; `None` if it is no list, or one with numbers from
/// `limit` on.
pub fn mask(list: &str, limit: u32) -> Option<Vec<u64>> {
    let ranges = ranges(list)?;
    let highest = ranges.iter().map(|(_, last)| *last).max()?;
    if highest >= limit {
        return None;
    }
    let mut words = vec![0_u64; highest as usize / 64 + 1];
    for number in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        words[number as usize / 64] |= 1 << (number % 64);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_bits() {
        let cases: [(&str, Option<Vec<u64>>); 17] = [
            ("0", Some(vec![1])),
            ("0-3,7", Some(vec![0b1000_1111])),
            ("7,0-3", Some(vec![0b1000_1111])),
            (" 1 , 2-2 ", Some(vec![0b110])),
            ("63-64", Some(vec![1 << 63, 1])),
            ("127", Some(vec![0, 1 << 63])),
            ("128", None),
            ("0-4294967295", None),
            ("4294967296", None),
            ("", None),
            (",", None),
            ("1,", None),
            ("3-1", None),
            ("1-", None),
            ("-1", None),
            ("+1", None),
            ("0x1", None),
        ];
        for (list, wanted) in cases {
            assert_eq!(mask(list, 128), wanted, "{list:?}");
        }
    }
}
