// SPDX-License-Identifier: Apache-2.0
//! What a registry wants to see before it answers: the `WWW-Authenticate` header, read strictly.

/// One way to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token that another server gives out.
    Bearer {
        /// That server's URL, as the registry wrote it.
        realm: String,
        /// What the registry calls itself there.
        service: Option<String>,
    },
}

/// The best of the challenges that the headers hold: a token rather than a password. What can't be read is left out.
pub fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for challenge in headers.flat_map(challenges) {
        match challenge {
            Challenge::Bearer { .. } => return Some(challenge),
            Challenge::Basic => best = Some(challenge),
        }
    }
    best
}

fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            return found;
        }
        let Some((parameters, after)) = parameters(after) else {
            return found;
        };
        rest = after;
        let value = |name: &str| {
            parameters
                .iter()
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            let service = value("service");
            found.push(Challenge::Bearer { realm, service });
        }
    }
    found
}

type Parameters = Vec<(String, String)>;

/// `name=value` and `name="value"` with commas between, up to the next scheme or the end; `None` if it ends in the
/// middle of one.
fn parameters(text: &str) -> Option<(Parameters, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    loop {
        let (name, after) = token(rest);
        let Some(after) = after.trim_start().strip_prefix('=') else {
            // No parameter: the next challenge's scheme, or the end.
            return Some((found, rest));
        };
        if name.is_empty() {
            return None;
        }
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, after) = token(after);
                (value.to_owned(), after)
            }
        };
        found.push((name.to_owned(), value));
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Up to the closing quote, with backslashes taken off.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        for (header, expected) in [
            (r#"Basic realm="r""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                bearer("https://a/t", Some("s")),
            ),
            (
                r#"bearer service = "s" , realm = "https://a/t""#,
                bearer("https://a/t", Some("s")),
            ),
            ("Bearer realm=https://a/t", bearer("https://a/t", None)),
            (
                r#"Basic realm="r, Bearer", Bearer realm="https://a/\"t""#,
                bearer("https://a/\"t", None),
            ),
            (
                r#"Negotiate, Basic realm="x", charset="UTF-8""#,
                Some(Challenge::Basic),
            ),
            (r#"Bearer service="s""#, None),
            (r#"Bearer realm="https://a"#, None),
            (r#"Bearer realm="https://a\"#, None),
            ("Digest x=y", None),
            ("", None),
            (",,,", None),
            ("=", None),
            ("Bearer =x", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(best([header].into_iter()), expected, "{header}");
        }
        let two = ["Basic", r#"Bearer realm="r""#];
        assert_eq!(best(two.into_iter()), bearer("r", None));
    }
}
