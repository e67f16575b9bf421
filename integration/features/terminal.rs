// SPDX-License-Identifier: Apache-2.0
//! Terminals: the master over the console socket, `run` attached to a pty, size, modes, and what stays of one.

use std::fs::File;

use corten_integration::{Call, Console, Container, Draft, Terminal, trial};
use serde_json::{Value, json};

/// The probe's value for `step` in what a terminal shows.
#[track_caller]
fn seen(text: &str, step: &str) -> Value {
    let start = format!("{{\"probe\":\"{step}\"");
    let line = text
        .lines()
        .find(|line| line.starts_with(&start))
        .unwrap_or_else(|| panic!("no {step} in {text:?}"));
    serde_json::from_str::<Value>(line.trim_end()).unwrap()["value"].clone()
}

fn with_terminal(draft: Draft<'_>) -> Draft<'_> {
    draft.with("/process/terminal", json!(true))
}

fn create(c: &Container<'_>, console: &Console) -> Call {
    let socket = console.path.to_string_lossy();
    c.bundled("create", &["--console-socket", &socket])
}

/// Runs it in the foreground on a terminal of the host's, as a person would; returns its status and what was shown.
fn on_a_terminal(c: &Container<'_>, act: impl FnOnce(&mut Terminal)) -> (i32, String) {
    let (mut terminal, slave) = Terminal::open();
    terminal.resize(33, 77);
    let mut running = c.bundled("run", &[]).stdio_file(&slave);
    drop::<File>(slave);
    act(&mut terminal);
    let shown = terminal.rest();
    let status = running
        .wait(corten_integration::PATIENCE)
        .unwrap_or_else(|| panic!("run goes on: {shown:?}"));
    (status.code().unwrap_or(-1), shown)
}

#[test]
fn the_master_goes_to_the_console_socket() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = with_terminal(t.container())
            .probe("tty + print ready + cat")
            .done();
        create(&c, &console).end().ok();
        let mut terminal = console.master();
        c.start().ok();
        let text = terminal.until("ready");
        let tty = seen(&text, "tty");
        for fd in ["stdin", "stdout", "stderr", "controlling"] {
            assert_eq!(tty[fd], true, "{fd}: {tty}");
        }
        assert!(
            tty["name"] == "/dev/pts/0" || tty["name"] == "/dev/console",
            "{tty}"
        );
        terminal.type_in("typed\n");
        terminal.until("\ntyped");
        c.end();
    });
}

#[test]
fn run_detached_takes_a_console_socket_too() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = with_terminal(t.container())
            .probe("print ready + pause")
            .done();
        let socket = console.path.to_string_lossy();
        c.bundled("run", &["--detach", "--console-socket", &socket])
            .end()
            .ok();
        console.master().until("ready");
        c.end();
    });
}

#[test]
fn dev_console_is_the_terminal() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = with_terminal(t.container())
            .probe("stat /dev/console + mounts + write /dev/console by-console + pause")
            .done();
        create(&c, &console).end().ok();
        let mut terminal = console.master();
        c.start().ok();
        let text = terminal.until("by-console");
        assert_eq!(seen(&text, "stat")["/dev/console"]["type"], "char");
        let mounts = corten_integration::Mounts::of(&seen(&text, "mounts"));
        assert_eq!(mounts.at("/dev/console").get("type"), "devpts");
        c.end();
    });
}

#[test]
fn the_size_of_the_document_is_applied() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = with_terminal(t.container())
            .with("/process/consoleSize", json!({"height": 24, "width": 91}))
            .probe("tty + print ready + pause")
            .done();
        create(&c, &console).end().ok();
        let mut terminal = console.master();
        c.start().ok();
        assert_eq!(
            seen(&terminal.until("ready"), "tty")["size"],
            json!([24, 91])
        );
        c.end();
    });
}

#[test]
fn a_user_owns_its_terminal() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = with_terminal(t.container())
            .with("/process/user", json!({"uid": 1000, "gid": 1000}))
            .probe("stat /dev/pts/0 + open /dev/tty rw + print ready + pause")
            .done();
        create(&c, &console).end().ok();
        let mut terminal = console.master();
        c.start().ok();
        let text = terminal.until("ready");
        assert_eq!(seen(&text, "stat")["/dev/pts/0"]["uid"], 1000);
        assert_eq!(seen(&text, "open")["ok"], true);
        c.end();
    });
}

#[test]
fn without_a_console_socket_create_is_refused() {
    trial(|t| {
        let c = with_terminal(t.container()).probe("exit 0").done();
        let error = c.create().fails();
        assert!(
            error.contains("console socket") || error.contains("console-socket"),
            "{error}"
        );
    });
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    trial(|t| {
        let console = Console::listen(t.dir.join("c"));
        let c = t.container().probe("exit 0").done();
        let error = create(&c, &console).end().fails();
        assert!(
            error.contains("terminal") || error.contains("tty"),
            "{error}"
        );
    });
}

#[test]
fn a_console_socket_that_is_absent_is_one_error() {
    trial(|t| {
        let c = with_terminal(t.container()).probe("exit 0").done();
        let socket = t.dir.join("absent");
        c.bundled("create", &["--console-socket", socket.to_str().unwrap()])
            .end()
            .fails();
        let plain = t.file("plain", "");
        c.bundled("create", &["--console-socket", plain.to_str().unwrap()])
            .end()
            .fails();
    });
}

#[test]
fn run_relays_between_two_terminals() {
    trial(|t| {
        let c = with_terminal(t.container())
            .probe("tty + print ready + cat + exit 6")
            .done();
        let (code, shown) = on_a_terminal(&c, |terminal| {
            terminal.until("ready");
            terminal.type_in("over and back\n");
            terminal.type_in("\u{4}");
        });
        assert_eq!(code, 6, "{shown:?}");
        assert_eq!(
            shown.matches("over and back").count(),
            2,
            "echo and answer: {shown:?}"
        );
        assert_eq!(seen(&shown, "tty")["controlling"], true);
        // One carriage return for each line: from the host's terminal, or from the container's where that one is raw.
        assert!(shown.contains("ready\r\n"), "{shown:?}");
        assert!(!shown.contains("\r\r"), "{shown:?}");
        if t.is_corten() {
            assert_eq!(
                seen(&shown, "tty")["onlcr"],
                false,
                "the host's terminal does that already"
            );
        }
    });
}

#[test]
fn run_without_a_terminal_of_its_own_relays_all_the_same() {
    trial(|t| {
        let c = with_terminal(t.container())
            .probe("tty + print shown + exit 4")
            .done();
        let out = c.run().exits(4);
        assert_eq!(out.seen("tty")["controlling"], true);
        assert!(out.stdout.contains("shown"), "{}", out.stdout);
    });
}

#[test]
fn run_passes_the_size_of_its_terminal_on() {
    trial(|t| {
        let c = with_terminal(t.container())
            .probe("sleep 200 + tty + print ready + sleep 300 + exit 0")
            .done();
        let (code, shown) = on_a_terminal(&c, |terminal| {
            terminal.until("ready");
        });
        assert_eq!(code, 0, "{shown:?}");
        assert_eq!(seen(&shown, "tty")["size"], json!([33, 77]));
    });
}

#[test]
fn run_shows_all_output_before_it_ends() {
    trial(|t| {
        let c = with_terminal(t.container())
            .probe("fill 200000 + print last")
            .done();
        let (code, shown) = on_a_terminal(&c, |_| {});
        assert_eq!(code, 0);
        assert_eq!(shown.matches('x').count(), 200_000);
        assert!(
            shown.trim_end().ends_with("last"),
            "{:?}",
            &shown[shown.len() - 40..]
        );
    });
}

#[test]
fn run_leaves_its_terminal_as_it_was() {
    trial(|t| {
        let (mut terminal, slave) = Terminal::open();
        let before = rustix::termios::tcgetattr(&slave).unwrap();
        let c = with_terminal(t.container()).probe("print shown").done();
        let mut running = c.bundled("run", &[]).stdio_file(&slave);
        terminal.until("shown");
        running
            .wait(corten_integration::PATIENCE)
            .expect("run ends");
        let after = rustix::termios::tcgetattr(&slave).unwrap();
        assert_eq!(
            (after.local_modes, after.input_modes, after.output_modes),
            (before.local_modes, before.input_modes, before.output_modes)
        );
    });
}

#[test]
fn the_interrupt_key_reaches_the_process() {
    trial(|t| {
        let c = with_terminal(t.container())
            .without_namespace("pid")
            .probe("print ready + pause")
            .done();
        let (code, shown) = on_a_terminal(&c, |terminal| {
            terminal.until("ready");
            terminal.type_in("\u{3}");
        });
        assert_eq!(code, 128 + 2, "{shown:?}");
    });
}

#[test]
fn without_a_terminal_the_caller_s_is_out_of_reach() {
    trial(|t| {
        let c = t.container().probe("tty + print ready").done();
        let (_, slave) = Terminal::open();
        let out = c.bundled("run", &[]).stdin_file(slave).end().ok();
        assert_eq!(out.seen("tty")["controlling"], false);
    });
}
