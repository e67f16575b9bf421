// SPDX-License-Identifier: Apache-2.0
//! Tables for `read`: what each instruction becomes, and what is refused with which words.

use super::super::{Base, Healthcheck, Network, Parents, Run, Source, Transfer, Unpack};
use super::*;

fn steps(text: &str) -> Vec<Instruction> {
    let dockerfile = parse(&format!("FROM x\n{text}\n")).unwrap();
    let steps = dockerfile.stages.into_iter().flat_map(|stage| stage.steps);
    steps.map(|step| step.instruction).collect()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned())
}

fn exec(words: &[&str]) -> Command {
    Command::Exec(owned(words))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn run_of(command: Command) -> Instruction {
    Instruction::Run(run_alone(command))
}

fn run_alone(command: Command) -> Run {
    Run {
        command,
        script: None,
        network: None,
        mounts: Vec::new(),
    }
}

fn copy_of(sources: &[&str], dest: &str) -> Transfer {
    let path = |source: &&str| Source::Path((*source).to_owned());
    Transfer {
        from: None,
        chown: None,
        chmod: None,
        base: Base::Below,
        parents: Parents::Drop,
        excludes: Vec::new(),
        checksum: None,
        unpack: None,
        sources: sources.iter().map(path).collect(),
        dest: dest.to_owned(),
    }
}

#[test]
fn instructions() {
    for (text, expected) in [
        ("RUN a  b", run_of(shell("a  b"))),
        ("run a \\\n# c\n && b", run_of(shell("a  && b"))),
        ("RUN [\"a\", \"b c\"]", run_of(exec(&["a", "b c"]))),
        ("RUN [ -e /x ]", run_of(shell("[ -e /x ]"))),
        (
            "RUN --network=host a",
            Instruction::Run(Run {
                network: Some(Network::Host),
                ..run_alone(shell("a"))
            }),
        ),
        (
            "RUN --network=default --security=sandbox a",
            run_of(shell("a")),
        ),
        (
            "COPY --link --parents=true --exclude=x --exclude=y a /b/",
            Instruction::Copy(Transfer {
                base: Base::Empty,
                parents: Parents::Keep,
                excludes: owned(&["x", "y"]),
                ..copy_of(&["a"], "/b/")
            }),
        ),
        (
            "ADD --unpack=false --checksum=sha256:0 --link=false a /b/",
            Instruction::Add(Transfer {
                checksum: Some("sha256:0".into()),
                unpack: Some(Unpack::Never),
                ..copy_of(&["a"], "/b/")
            }),
        ),
        ("CMD [\"a\"]", Instruction::Cmd(exec(&["a"]))),
        ("CMD a $b", Instruction::Cmd(shell("a $b"))),
        ("ENTRYPOINT []", Instruction::Entrypoint(exec(&[]))),
        ("entrypoint [ ]", Instruction::Entrypoint(exec(&[]))),
        ("ENTRYPOINT a", Instruction::Entrypoint(shell("a"))),
        (
            "COPY a b /c/",
            Instruction::Copy(copy_of(&["a", "b"], "/c/")),
        ),
        (
            "ADD [\"a b\", \"c\"]",
            Instruction::Add(copy_of(&["a b"], "c")),
        ),
        (
            "EXPOSE 80 443/tcp",
            Instruction::Expose(owned(&["80", "443/tcp"])),
        ),
        ("VOLUME /a /b", Instruction::Volume(owned(&["/a", "/b"]))),
        ("VOLUME [\"/a\"]", Instruction::Volume(owned(&["/a"]))),
        (
            "SHELL [\"/bin/ash\", \"-c\"]",
            Instruction::Shell(owned(&["/bin/ash", "-c"])),
        ),
        ("USER a:b", Instruction::User("a:b".into())),
        ("WORKDIR /a b", Instruction::Workdir("/a b".into())),
        ("STOPSIGNAL 9", Instruction::Stopsignal("9".into())),
        ("MAINTAINER a <b>", Instruction::Maintainer("a <b>".into())),
        (
            "ENV a=1 b=$a",
            Instruction::Env(vec![("a".into(), "1".into()), ("b".into(), "$a".into())]),
        ),
        (
            "ENV a 1 2",
            Instruction::Env(vec![("a".into(), "1 2".into())]),
        ),
        (
            "LABEL a=\"b c\"",
            Instruction::Label(vec![("a".into(), "\"b c\"".into())]),
        ),
        (
            "ARG a b=c",
            Instruction::Arg(vec![("a".into(), None), ("b".into(), Some("c".into()))]),
        ),
        ("ONBUILD RUN a", Instruction::Onbuild("RUN a".into())),
        ("HEALTHCHECK NONE", Instruction::Healthcheck(None)),
        (
            "HEALTHCHECK --interval=5m --retries=3 CMD a -b",
            Instruction::Healthcheck(Some(Healthcheck {
                command: shell("a -b"),
                interval: 300_000_000_000,
                timeout: 0,
                start_period: 0,
                start_interval: 0,
                retries: 3,
            })),
        ),
    ] {
        assert_eq!(steps(text), [expected], "{text}");
    }
}

#[test]
fn flags_of_copy() {
    let expected = Transfer {
        from: Some("0".into()),
        chown: Some("a:b".into()),
        chmod: Some("755".into()),
        ..copy_of(&["x"], "y")
    };
    let found = steps("COPY --from=0 --chown=a:b --chmod=755 x y");
    assert_eq!(found, [Instruction::Copy(expected)]);
}

#[test]
fn here_documents() {
    let script = Instruction::Run(Run {
        command: shell("<<EOF\na\nb\nEOF"),
        script: Some("a\nb\n".into()),
        network: None,
        mounts: Vec::new(),
    });
    assert_eq!(steps("RUN <<EOF\na\nb\nEOF"), [script]);
    let fed = run_of(shell("cat <<'A' >x && cat <<-B\n$a\nA\n\tb\n\tB"));
    let after = run_of(shell("next"));
    assert_eq!(
        steps("RUN cat <<'A' >x && cat <<-B\n$a\nA\n\tb\n\tB\nRUN next"),
        [fed, after]
    );
    let mut copy = copy_of(&["f"], "/d/");
    copy.sources.push(Source::Inline {
        name: "X".into(),
        text: "$v\n".into(),
        expand: true,
    });
    assert_eq!(steps("COPY f <<X /d/\n$v\nX"), [Instruction::Copy(copy)]);
}

#[test]
fn stages_and_lines() {
    let dockerfile = parse(
        "# syntax=docker/dockerfile:1\n# escape=`\nARG v=1\nFROM a:$v AS Build\nRUN x `\n y\n\nFROM --platform=$BUILDPLATFORM build\nUSER u\n",
    )
    .unwrap();
    assert_eq!(dockerfile.escape, '`');
    assert_eq!(dockerfile.global.len(), 1);
    let [first, second] = dockerfile.stages.as_slice() else {
        panic!("two stages");
    };
    assert_eq!(
        (first.base.as_str(), first.name.as_deref()),
        ("a:$v", Some("build"))
    );
    assert_eq!((first.line, first.steps[0].line), (4, 5));
    assert_eq!(first.steps[0].text, "RUN x  y");
    assert_eq!((second.line, second.steps[0].line), (8, 9));
    assert_eq!(second.platform.as_deref(), Some("$BUILDPLATFORM"));
}

#[test]
fn refusals() {
    for (text, expected) in [
        ("", "0: expected at least one FROM instruction"),
        ("RUN x", "1: expected FROM"),
        ("FROM x\nBOGUS y", "2: unknown instruction 'BOGUS'"),
        ("FROM --os=x y", "1: FROM: flag --os is not known"),
        (
            "FROM x AS a\nFROM x AS A",
            "2: FROM: stage name \"a\" is taken by an earlier stage",
        ),
        ("FROM x AS 0", "1: FROM: stage name \"0\" is not allowed"),
        (
            "FROM x\n\nRUN --mount=type=ssh y",
            "3: RUN: --mount: type=ssh is not supported: there is no agent to forward",
        ),
        (
            "FROM x\nRUN --security=insecure y",
            "2: RUN: flag --security=insecure is not supported",
        ),
        ("FROM x\nRUN --bogus y", "2: RUN: flag --bogus is not known"),
        (
            "FROM x\nCOPY --unpack a b",
            "2: COPY: flag --unpack is not known",
        ),
        (
            "FROM x\nCOPY --bogus a b",
            "2: COPY: flag --bogus is not known",
        ),
        (
            "FROM x\nADD --from=a a b",
            "2: ADD: flag --from is not known",
        ),
        (
            "FROM x\nCOPY --chown a b",
            "2: COPY: flag --chown needs a value",
        ),
        (
            "FROM x\nCOPY a",
            "2: COPY instruction requires at least two arguments",
        ),
        ("FROM x\nENV a", "2: ENV: \"a\" has no value"),
        (
            "FROM x\nENV a=1 b",
            "2: ENV: \"b\" is not of the form name=value",
        ),
        (
            "FROM x\nHEALTHCHECK --interval=3 CMD x",
            "2: HEALTHCHECK: flag --interval=3 has no valid value",
        ),
        (
            "FROM x\nONBUILD FROM y",
            "2: ONBUILD: a trigger is one instruction",
        ),
        (
            "FROM x\nONBUILD MAINTAINER y",
            "2: ONBUILD: this instruction can't be a trigger",
        ),
        ("FROM x\nRUN <<E\ny", "2: here-document E has no end"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Mutations of real text: whatever it is, it is read or refused, and never a panic.
#[test]
fn survives_mutations() {
    const SEED: &str = "# escape=`\nARG v=${a:-b}\nFROM --platform=$p a:$v AS s\nRUN --network=none <<EOF cat 3<<-'B' \\\n# c\n x\ny\nEOF\n\tB\nCOPY --from=0 [\"a b\", \"c\"]\nCOPY <<X <<\"Y\" /d/\n1\nX\nY\nENV a=\"b c\" d='e'\nHEALTHCHECK --interval=1s CMD [\"x\"]\nONBUILD RUN a\nSHELL [\"a\"]\nEXPOSE 1 2\nADD --chmod=1 a* b\n";
    const PIECES: [&str; 16] = [
        "\n", "\\\n", "`\n", "<<", "<<-E", "\"", "'", "[", "]", "--", "=", "#", "\t", "\r\n",
        "ONBUILD ", "\u{e4}",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let mut read = 0;
    for _ in 0..3000 {
        let mut text: Vec<char> = SEED.chars().collect();
        for _ in 0..=next(6) {
            let at = next(text.len().max(1));
            match next(3) {
                0 => drop(text.drain(at.min(text.len())..(at + 1 + next(8)).min(text.len()))),
                1 => drop(text.splice(
                    at.min(text.len())..at.min(text.len()),
                    PIECES[next(PIECES.len())].chars(),
                )),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(dockerfile) = parse(&text) {
            read += 1;
            assert!(!dockerfile.stages.is_empty());
        }
    }
    assert!(read > 100, "{read}");
}
