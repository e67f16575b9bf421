// SPDX-License-Identifier: Apache-2.0
//! Options that are written as `name=value,name=value`, and the values that they have.
//!
//! Pure; called by `mount`, and for options of the command line by `build`.

/// The fields of a line of comma-separated values; quotes may be around a whole field.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                quoted_field(quoted).ok_or_else(|| format!("{text:?} has an open quote"))?
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if field.is_empty() {
            return Err(format!("{text:?} has an empty option"));
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("{text:?} goes on after a quote")),
        }
    }
}

/// Up to the quote that ends it; two of them are one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, rest)),
        }
    }
}

/// Whether an option without a value, or with one of a boolean's, is set.
pub(super) fn truth(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(format!("{name}={value} is neither true nor false")),
    }
}

/// A number to the base `base`, at most `most`.
pub(super) fn number(name: &str, text: &str, base: u32, most: u32) -> Result<u32, String> {
    let wrong = || format!("{name}={text} is no valid number");
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = u32::from_str_radix(text, base).map_err(|_| wrong())?;
    (digits && number <= most)
        .then_some(number)
        .ok_or_else(wrong)
}
