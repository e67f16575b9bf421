// SPDX-License-Identifier: Apache-2.0
//! Tables for `word`: one line per case.

use super::*;

struct Table(&'static [(&'static str, &'static str)]);

impl Variables for Table {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
}

const VARIABLES: Table = Table(&[
    ("x", "value"),
    ("empty", ""),
    ("path", "/usr/local/bin"),
    ("file", "archive.tar.gz"),
    ("blank", "a  b"),
    ("unicode", "\u{e4}\u{f6}\u{fc}"),
    ("PWD", "/home"),
    ("1", "one"),
]);

#[test]
fn expands() {
    for (word, expected) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\"llo\"", "hello"),
        ("he'$x'", "he$x"),
        ("he\"$x\"", "hevalue"),
        ("\"\\$x\"", "$x"),
        ("\"a\\b\"", "a\\b"),
        ("\"a\\\\b\"", "a\\b"),
        ("a\\ b", "a b"),
        ("a\\", "a"),
        ("'a\\'", "a\\"),
        ("$x", "value"),
        ("${x}", "value"),
        ("$x.y", "value.y"),
        ("$xy", ""),
        ("${x}y", "valuey"),
        ("\\$x", "$x"),
        ("$", "$"),
        ("a$", "a$"),
        ("$%", "$%"),
        ("$1", "one"),
        ("$11", ""),
        ("$1x", "onex"),
        ("$$", ""),
        ("$PWD/x", "/home/x"),
        // missing, empty and set
        ("${none}", ""),
        ("${none-w}", "w"),
        ("${none:-w}", "w"),
        ("${empty-w}", ""),
        ("${empty:-w}", "w"),
        ("${x-w}", "value"),
        ("${x:-w}", "value"),
        ("${none+w}", ""),
        ("${none:+w}", ""),
        ("${empty+w}", "w"),
        ("${empty:+w}", ""),
        ("${x+w}", "w"),
        ("${x:+w}", "w"),
        ("${x?w}", "value"),
        ("${empty?w}", ""),
        ("${none:-$x}", "value"),
        ("${none:-${none2:-deep}}", "deep"),
        ("${none:-'a}b'}", "a}b"),
        ("${none:-a\\}b}", "a}b"),
        ("${none:-}", ""),
        // patterns
        ("${path#*/}", "usr/local/bin"),
        ("${path##*/}", "bin"),
        ("${path%/*}", "/usr/local"),
        ("${path%%/*}", ""),
        ("${file%.*}", "archive.tar"),
        ("${file%%.*}", "archive"),
        ("${file#*.}", "tar.gz"),
        ("${file##*.}", "gz"),
        ("${file#zip}", "archive.tar.gz"),
        ("${file#a?c}", "hive.tar.gz"),
        ("${file#\\*}", "archive.tar.gz"),
        ("${unicode#?}", "\u{f6}\u{fc}"),
        ("${unicode%?}", "\u{e4}\u{f6}"),
        ("${path#'*'}", "/usr/local/bin"),
        ("${none#x}", ""),
        ("${path/\\/usr/X}", "X/local/bin"),
        ("${path//\\//_}", "_usr_local_bin"),
        ("${file/./-}", "archive-tar.gz"),
        ("${file//./-}", "archive-tar-gz"),
        ("${file//a/}", "rchive.tr.gz"),
        ("${file/a*r/X}", "X.gz"),
        ("${file/none/X}", "archive.tar.gz"),
    ] {
        assert_eq!(
            expand(word, '\\', &VARIABLES).as_deref(),
            Ok(expected),
            "{word}"
        );
    }
    assert_eq!(expand("`$x\\", '`', &VARIABLES).as_deref(), Ok("$x\\"));
}

#[test]
fn refuses() {
    for (word, expected) in [
        ("'a", "quote ' is not closed"),
        ("\"a", "quote \" is not closed"),
        ("${", "${ is followed by no name"),
        ("${}", "${ is followed by no name"),
        ("${x", "} is missing after ${x"),
        ("${x:-a", "} is missing"),
        ("${x:=a}", "modifier := of ${x} is not known"),
        ("${x^}", "modifier ^ of ${x} is not known"),
        ("${x/a}", "/ is missing"),
        ("${none?}", "none must not be unset"),
        ("${empty:?}", "empty must not be empty"),
        ("${none:?set it}", "none: set it"),
    ] {
        let found = expand(word, '\\', &VARIABLES).unwrap_err();
        assert_eq!(found.to_string(), expected, "{word}");
    }
}

#[test]
fn splits_fields_after_expansion() {
    for (word, expected) in [
        ("a b", &["a", "b"][..]),
        ("$blank", &["a", "b"]),
        ("\"$blank\"", &["a  b"]),
        ("a\\ b", &["a b"]),
        ("  ", &[]),
        ("$none", &[]),
    ] {
        let found = expand_fields(word, '\\', &VARIABLES).unwrap();
        assert_eq!(found, expected, "{word}");
    }
}

#[test]
fn splits_and_keeps_quotes() {
    for (line, expected) in [
        ("a b  c", &["a", "b", "c"][..]),
        ("a=\"b c\" d='e f'", &["a=\"b c\"", "d='e f'"]),
        ("a=b\\ c d", &["a=b\\ c", "d"]),
        ("a=\"b\\\" c\"", &["a=\"b\\\" c\""]),
        ("", &[]),
    ] {
        assert_eq!(split(line, '\\').unwrap(), expected, "{line}");
    }
    assert!(split("a=\"b", '\\').is_err());
}

#[test]
fn expands_here_documents() {
    for (text, expected) in [
        ("it's $x\n", "it's value\n"),
        ("\"${x}\" \\$x \\\\ \\n", "\"value\" $x \\ \\n"),
    ] {
        assert_eq!(expand_text(text, '\\', &VARIABLES).as_deref(), Ok(expected));
    }
}
