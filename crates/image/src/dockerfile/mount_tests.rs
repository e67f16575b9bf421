// SPDX-License-Identifier: Apache-2.0
//! Tables for `mount`: what the options of `RUN --mount` become, and what is refused with which words.

use super::*;

fn parsed(text: &str) -> Result<Mount, String> {
    parse(&read(text)?)
}

fn kind(text: &str) -> Kind {
    parsed(text).unwrap().kind
}

#[test]
fn types_and_their_defaults() {
    let bind = |from: Option<&str>, source: &str| Kind::Bind {
        from: from.map(str::to_owned),
        source: source.to_owned(),
    };
    assert_eq!(kind("target=/a"), bind(None, ""));
    assert_eq!(
        kind("type=bind,src=x,dst=/a,from=stage"),
        bind(Some("stage"), "x")
    );
    assert_eq!(kind("\"source=a,b\",target=/a"), bind(None, "a,b"));
    let cache = |text: &str| match kind(text) {
        Kind::Cache {
            id, sharing, look, ..
        } => (id, sharing, look.mode, look.uid),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        cache("type=cache,target=/c"),
        (None, Sharing::Shared, None, None)
    );
    assert_eq!(
        cache("TYPE=cache,target=/c,id=i,sharing=LOCKED,mode=0700,uid=5"),
        (Some("i".into()), Sharing::Locked, Some(0o700), Some(5))
    );
    for (text, size) in [
        ("type=tmpfs,target=/t", None),
        ("type=tmpfs,target=/t,size=64k", Some(65536)),
        ("type=tmpfs,target=/t,size=1.5MiB", Some(3 << 19)),
    ] {
        assert_eq!(kind(text), Kind::Tmpfs { size }, "{text}");
    }
    for (text, id, env) in [
        ("type=secret,id=a", "a", None),
        ("type=secret,src=a", "a", None),
        ("type=secret,target=/x/y", "y", None),
        ("type=secret,id=a,env=A,required", "a", Some("A")),
    ] {
        match kind(text) {
            Kind::Secret {
                id: found,
                env: variable,
                ..
            } => assert_eq!((found.as_str(), variable.as_deref()), (id, env), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn access() {
    for (text, expected) in [
        ("target=/a", Access::Read),
        ("target=/a,rw", Access::Write),
        ("target=/a,readwrite=false", Access::Read),
        ("target=/a,ro=false", Access::Write),
        ("type=cache,target=/a", Access::Write),
        ("type=cache,target=/a,readonly", Access::Read),
        ("type=tmpfs,target=/a", Access::Write),
    ] {
        assert_eq!(parsed(text).unwrap().access, expected, "{text}");
    }
}

#[test]
fn refusals() {
    for (text, expected) in [
        ("", "\"\" has an empty option"),
        ("type=bind,", "\"type=bind,\" has an empty option"),
        ("\"type=bind", "\"\\\"type=bind\" has an open quote"),
        ("\"a=b\"c", "\"\\\"a=b\\\"c\" goes on after a quote"),
        ("bogus", "\"bogus\" is not of the form name=value"),
        ("bogus=1", "\"bogus\" is not known"),
        ("target", "\"target\" is not of the form name=value"),
        (
            "type=npipe",
            "type=npipe is not known: it is bind, cache, tmpfs or secret",
        ),
        (
            "type=ssh,id=default",
            "type=ssh is not supported: there is no agent to forward",
        ),
        (
            "type=cache,sharing=x",
            "sharing=x is not known: it is shared, private or locked",
        ),
        ("type=tmpfs,size=big", "size=big is no size"),
        ("type=tmpfs,size=-1", "size=-1 is no size"),
        (
            "type=bind,mode=755",
            "mode, uid or gid has no meaning with type=bind",
        ),
        ("type=bind,size=1", "size has no meaning with type=bind"),
        ("type=tmpfs,from=x", "from has no meaning with type=tmpfs"),
        ("type=secret", "a secret needs an id or a target"),
        (
            "type=secret,id=a,src=b",
            "a secret has a source or an id, not both",
        ),
        ("type=secret,id=a,env=", "env names no variable"),
        ("type=secret,id=a,rw", "a secret is read-only by itself"),
        (
            "type=secret,id=a,required=x",
            "required=x is neither true nor false",
        ),
        ("type=cache,mode=9", "mode=9 is no valid number"),
        (
            "type=cache,uid=4294967295",
            "uid=4294967295 is no valid number",
        ),
        (
            "from=$x",
            "from takes no variables: give the stage a name with FROM $name AS stage",
        ),
    ] {
        assert_eq!(parsed(text).unwrap_err(), expected, "{text}");
    }
    // Only known when the variable is.
    assert!(read("type=cache,uid=$UID").is_ok());
}
