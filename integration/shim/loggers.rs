// SPDX-License-Identifier: Apache-2.0
//! Output that goes to a file or to a program.

use std::fs;
use std::path::Path;
use std::thread;

use containerd_shim_protos::ttrpc::Code;
use corten_integration::{eventually, trial};

use crate::pod::{Calls, Names, Pod, process, refused, soon};

/// `binary://` of a shell script, which has the streams as descriptors 3 and 4, and 5 to say that it is ready.
fn script(text: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let text: String = text.bytes().map(encode).collect();
    format!("binary:///bin/sh?-c={text}")
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn output_goes_to_a_file() {
    trial(|t| {
        let log = t.dir.join("logs/deep/log");
        let names = Names {
            stdout: format!("file://{}", log.display()),
            stderr: format!("file://{}", log.display()),
            ..Names::default()
        };
        let c = t
            .container()
            .probe("print one + eprint two + print three")
            .done();
        let pod = Pod::start(t, &c);
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        pod.wait(&c.id, "");
        pod.delete(&c.id, "").unwrap();
        let text = content(&log);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["one", "three", "two"]);
        // What is there is kept.
        let c = t.container().probe("print four").done();
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        pod.wait(&c.id, "");
        pod.delete(&c.id, "").unwrap();
        assert_eq!(content(&log).lines().count(), 4);
        pod.end();
    });
}

#[test]
fn output_goes_to_a_program() {
    trial(|t| {
        for (number, ready) in ["exec 5>&-", "printf x >&5"].into_iter().enumerate() {
            let [out, err, own] =
                ["out", "err", "own"].map(|name| t.dir.join(format!("{name}{number}")));
            let names = Names {
                stdout: script(&format!(
                    "{ready}; echo $CONTAINER_ID $CONTAINER_NAMESPACE > {}; /bin/cat <&3 > {} & /bin/cat <&4 > {}; wait; echo end >> {}",
                    own.display(),
                    out.display(),
                    err.display(),
                    own.display(),
                )),
                ..Names::default()
            };
            let c = t
                .container()
                .probe("print one + eprint two + print three")
                .done();
            let pod = Pod::start(t, &c);
            pod.create(&c, &names);
            pod.start_process(&c.id, "");
            pod.wait(&c.id, "");
            pod.delete(&c.id, "").unwrap();
            eventually("the logger's end", || {
                content(&own).ends_with("end\n").then_some(())
            });
            assert_eq!(content(&own), format!("{} root\nend\n", c.id));
            assert_eq!(
                (content(&out).as_str(), content(&err).as_str()),
                ("one\nthree\n", "two\n")
            );
            pod.end();
        }
    });
}

#[test]
fn a_logger_that_ends_at_once_is_none() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let before = pod.descriptors();
        for stdout in [script("exit 1"), "binary:///no/such".into()] {
            let names = Names {
                stdout,
                ..Names::default()
            };
            let error = pod.try_create(&c, &names).unwrap_err().to_string();
            assert!(error.contains("logger"), "{error}");
            refused(pod.try_state(&c.id, ""), Code::NOT_FOUND);
        }
        assert_eq!(pod.descriptors(), before);
        pod.run(&c);
        pod.end_container(&c.id);
        pod.end();
    });
}

#[test]
fn a_logger_that_is_never_ready_is_none() {
    if crate::times(0, 1) == 0 {
        return;
    }
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let names = Names {
            stdout: script(&format!("exec sleep 1000 # {}", t.prefix)),
            ..Names::default()
        };
        refused(pod.try_create(&c, &names), Code::DEADLINE_EXCEEDED);
        pod.end();
    });
}

#[test]
fn what_is_no_place_is_refused() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        for stdout in ["npipe:///a", "ttrpc+unix:///a"] {
            let names = Names {
                stdout: stdout.into(),
                ..Names::default()
            };
            refused(pod.try_create(&c, &names), Code::INVALID_ARGUMENT);
            refused(pod.try_state(&c.id, ""), Code::NOT_FOUND);
        }
        pod.end();
    });
}

/// Whoever waits for a process whose logger is not ready yet is told, when the container goes.
#[test]
fn a_container_may_go_while_a_logger_begins() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let began = t.dir.join("began");
        let names = Names {
            stdout: script(&format!("> {}; read x <&3", began.display())),
            ..Names::default()
        };
        let document = process(&c, &["/probe", "exit", "0"]);
        pod.try_exec(&c.id, "e", &document, &names).unwrap();
        let (calls, id) = (Calls(pod.task.clone()), c.id.clone());
        let started = thread::spawn(move || calls.start(&id, "e"));
        eventually("the logger", || began.exists().then_some(()));
        pod.end_container(&c.id);
        refused(
            soon("an answer", || started.join().unwrap()),
            Code::NOT_FOUND,
        );
        pod.end();
    });
}
