// SPDX-License-Identifier: Apache-2.0
//! Streams through FIFOs: nothing is lost, nobody who does not read stops anybody else, and nothing spins.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use containerd_shim_protos::ttrpc::Code;
use corten_integration::{eventually, trial};

use crate::fifo::{Fifo, await_writer};
use crate::pod::{Names, Pod, refused, shell, soon};
use crate::times;

const MEBI: usize = 1 << 20;

/// Holds the shim to rest: a tenth of a second's work in a second is a loop that spins.
#[track_caller]
fn rests(pod: &Pod<'_>) {
    // What was begun comes to its end.
    thread::sleep(Duration::from_millis(200));
    let before = pod.time();
    thread::sleep(Duration::from_secs(1));
    let used = pod.time() - before;
    assert!(used <= 10, "{used} hundredths of a second in one second");
}

/// FNV-1a.
fn digest(mut sum: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    sum
}

#[test]
fn a_flood_arrives() {
    trial(|t| {
        let size = times(50, 1024) * MEBI;
        let file = t.dir.join("content");
        let mut state = 1_u64;
        let content: Vec<u8> = (0..MEBI)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        fs::write(&file, &content).unwrap();
        let script = format!(
            "i=0; while [ $i -lt {} ]; do cat /content; i=$((i+1)); done",
            size / MEBI
        );
        let c = shell(t, &script).file("/content", &content, 0o644).done();
        let stdout = Fifo::new(t, "out");
        let names = Names {
            stdout: stdout.name(),
            ..Names::default()
        };
        let mut reader = stdout.reader();
        let read = thread::spawn(move || {
            await_writer(&reader);
            let (mut sum, mut count, mut chunk) = (0, 0, vec![0; 256 << 10]);
            loop {
                match reader.read(&mut chunk).unwrap() {
                    0 => return (sum, count),
                    got => (sum, count) = (digest(sum, &chunk[..got]), count + got),
                }
            }
        });
        let pod = Pod::start(t, &c);
        let before = pod.memory();
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        assert_eq!(pod.wait(&c.id, ""), 0);
        let (sum, count) = read.join().unwrap();
        assert_eq!(count, size);
        let wanted = (0..size / MEBI).fold(0, |sum, _| digest(sum, &content));
        assert_eq!(sum, wanted);
        let grown = pod.memory().saturating_sub(before);
        assert!(grown < 1024, "the shim has grown by {grown} KiB");
        pod.delete(&c.id, "").unwrap();
        pod.end();
    });
}

#[test]
fn who_does_not_read_stops_nobody_else() {
    trial(|t| {
        // More than both pipes hold.
        let c = shell(t, "yes").done();
        let other = t.container().probe("pause").done();
        let stdout = Fifo::new(t, "out");
        let names = Names {
            stdout: stdout.name(),
            ..Names::default()
        };
        let reader = stdout.reader();
        let pod = Pod::start(t, &c);
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        rests(&pod);
        soon("an exec", || {
            pod.exec(&c, "e", &["/bin/busybox", "true"], &Names::default());
            assert_eq!(pod.wait(&c.id, "e"), 0);
        });
        soon("another container", || pod.run(&other));
        pod.end_container(&other.id);
        pod.end_container(&c.id);
        rests(&pod);
        // Nobody reads any more, and nobody will.
        drop(reader);
        pod.end();
    });
}

#[test]
fn who_reads_late_reads_all() {
    trial(|t| {
        let c = shell(t, "head -c 150000 /dev/zero; echo end").done();
        let stdout = Fifo::new(t, "out");
        let names = Names {
            stdout: stdout.name(),
            ..Names::default()
        };
        let mut reader = stdout.reader();
        let pod = Pod::start(t, &c);
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        thread::sleep(Duration::from_millis(200));
        let taken = {
            let mut chunk = vec![0; 50_000];
            reader.read_exact(&mut chunk).unwrap();
            chunk.len()
        };
        assert_eq!(pod.wait(&c.id, ""), 0);
        // It is gone, with more in its pipes than the FIFO has room for.
        pod.delete(&c.id, "").unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(taken + rest.len(), 150_004);
        assert!(rest.ends_with(b"\0end\n"));
        pod.end();
    });
}

#[test]
fn a_reader_that_comes_back_goes_on() {
    trial(|t| {
        let c = shell(t, "echo one; read x; echo two; read x").done();
        let [stdin, stdout] = ["in", "out"].map(|name| Fifo::new(t, name));
        let names = Names {
            stdin: stdin.name(),
            stdout: stdout.name(),
            ..Names::default()
        };
        let mut reader = stdout.reader();
        let pod = Pod::start(t, &c);
        pod.create(&c, &names);
        pod.start_process(&c.id, "");
        let mut line = [0; 4];
        await_writer(&reader);
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"one\n");
        drop(reader);
        let mut writer = stdin.writer();
        writer.write_all(b"\n").unwrap();
        thread::sleep(Duration::from_millis(200));
        // The one that it says now goes to whoever comes next.
        let said = stdout.collect();
        writer.write_all(b"\n").unwrap();
        assert_eq!(pod.wait(&c.id, ""), 0);
        pod.delete(&c.id, "").unwrap();
        assert_eq!(said.join().unwrap(), b"two\n");
        pod.end();
    });
}

#[test]
fn a_fifo_that_vanishes_is_still_read() {
    trial(|t| {
        let c = shell(t, "read x; echo got $x").done();
        let [stdin, stdout] = ["in", "out"].map(|name| Fifo::new(t, name));
        let names = Names {
            stdin: stdin.name(),
            stdout: stdout.name(),
            ..Names::default()
        };
        let pod = Pod::start(t, &c);
        let said = stdout.collect();
        pod.create(&c, &names);
        let mut writer = stdin.writer();
        for fifo in [&stdin, &stdout] {
            fs::remove_file(&fifo.path).unwrap();
        }
        pod.start_process(&c.id, "");
        writer.write_all(b"it\n").unwrap();
        assert_eq!(pod.wait(&c.id, ""), 0);
        pod.delete(&c.id, "").unwrap();
        assert_eq!(said.join().unwrap(), b"got it\n");
        pod.end();
    });
}

#[test]
fn a_fifo_that_is_missing_is_an_error() {
    trial(|t| {
        let c = t.container().probe("pause").done();
        let pod = Pod::start(t, &c);
        let before = pod.descriptors();
        let there = Fifo::new(t, "there").name();
        let missing = t.dir.join("missing").display().to_string();
        for (stdin, stdout, stderr) in [
            (&missing, "", ""),
            (&there, &*missing, ""),
            (&there, &*there, &*missing),
        ] {
            let names = Names {
                stdin: stdin.clone(),
                stdout: stdout.into(),
                stderr: stderr.into(),
                terminal: false,
            };
            let words = refused(pod.try_create(&c, &names), Code::NOT_FOUND);
            assert!(words.contains("missing"), "{words}");
            refused(pod.try_state(&c.id, ""), Code::NOT_FOUND);
        }
        assert_eq!(pod.descriptors(), before);
        // The same id, with all that it needs.
        pod.run(&c);
        let names = Names {
            stdout: missing,
            ..Names::default()
        };
        pod.try_exec(
            &c.id,
            "e",
            &crate::pod::process(&c, &["/probe", "exit", "0"]),
            &names,
        )
        .unwrap();
        refused(pod.try_start_process(&c.id, "e"), Code::NOT_FOUND);
        pod.delete(&c.id, "e").unwrap();
        pod.end_container(&c.id);
        pod.end();
    });
}

#[test]
fn input_is_not_lost_by_its_end() {
    trial(|t| {
        // Slower than its writer.
        let c = shell(t, "sleep 0.3; wc -c").done();
        for by_call in [true, false] {
            let names = [format!("in{by_call}"), format!("out{by_call}")];
            let [stdin, stdout] = names.map(|name| Fifo::new(t, &name));
            let names = Names {
                stdin: stdin.name(),
                stdout: stdout.name(),
                ..Names::default()
            };
            let pod = match by_call {
                true => Pod::start(t, &c),
                false => {
                    fs::remove_file(c.bundle.join("log")).unwrap();
                    fs::remove_file(c.bundle.join("s")).unwrap();
                    Pod::start(t, &c)
                }
            };
            let said = stdout.collect();
            pod.create(&c, &names);
            pod.start_process(&c.id, "");
            let mut writer = stdin.writer();
            // As much as the FIFO and the pipe hold, nearly.
            writer.write_all(&vec![b'x'; 120_000]).unwrap();
            let held = match by_call {
                true => {
                    pod.close_input(&c.id, "").unwrap();
                    Some(writer)
                }
                false => {
                    drop(writer);
                    None
                }
            };
            assert_eq!(pod.wait(&c.id, ""), 0);
            pod.delete(&c.id, "").unwrap();
            assert_eq!(said.join().unwrap(), b"120000\n");
            drop(held);
            pod.end();
        }
    });
}

#[test]
fn a_storm_of_sizes_stops_nobody() {
    trial(|t| {
        let c = shell(t, "while :; do sleep 1; done").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let stdout = Fifo::new(t, "out");
        // Nobody reads.
        let _reader = stdout.reader();
        let names = Names {
            stdout: stdout.name(),
            terminal: true,
            ..Names::default()
        };
        pod.exec(&c, "e", &["/bin/busybox", "yes"], &names);
        let before = pod.memory();
        for number in 0..u32::try_from(times(1000, 100_000)).unwrap() {
            pod.resize(&c.id, "e", number % 300, number % 500).unwrap();
        }
        let grown = pod.memory().saturating_sub(before);
        assert!(grown < 512, "the shim has grown by {grown} KiB");
        rests(&pod);
        soon("kill", || pod.kill(&c.id, "e", 9)).unwrap();
        soon("wait", || assert_eq!(pod.wait(&c.id, "e"), 137));
        soon("delete", || pod.delete(&c.id, "e")).unwrap();
        pod.end_container(&c.id);
        pod.end();
    });
}

/// A process that was left behind has the pipes open: whoever reads sees their end all the same, when the one that they
/// were made for is deleted.
#[test]
fn who_is_left_behind_does_not_hold_the_streams() {
    trial(|t| {
        let c = shell(t, "while :; do sleep 1; done").done();
        let pod = Pod::start(t, &c);
        pod.run(&c);
        let stdout = Fifo::new(t, "out");
        let names = Names {
            stdout: stdout.name(),
            ..Names::default()
        };
        let said = stdout.collect();
        pod.exec(
            &c,
            "e",
            &["/bin/busybox", "sh", "-c", "sleep 1000 & echo said"],
            &names,
        );
        soon("wait", || assert_eq!(pod.wait(&c.id, "e"), 0));
        pod.delete(&c.id, "e").unwrap();
        assert_eq!(said.join().unwrap(), b"said\n");
        eventually("rest", || {
            (pod.descriptors().get("pipe").copied().unwrap_or(0) == 0).then_some(())
        });
        pod.end_container(&c.id);
        pod.end();
    });
}
