// SPDX-License-Identifier: Apache-2.0
//! Shims side by side, with containerd's own share left out: this program says what containerd would say, and takes the events.
//!
//! ```text
//! cargo run --package corten-integration --example shims -- [--rounds N] [--execs N] [--alive N] NAME=SHIM,RUNTIME …
//! ```
//!
//! Three measurements, each interleaved over the shims: from the first exec of `start` to the TaskDelete event of a container
//! that ends at once; wall time and processor time of execs, of everything that they cause; and what a shim holds while nothing
//! happens, with one container and with a pod of five. Root, on a host whose cgroups are as they are.

#![allow(clippy::print_stderr, clippy::print_stdout)] // what it is for

mod containerd;
mod figures;
mod pod;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use containerd::Containerd;
use figures::{Figures, Memory, median};
use pod::Pod;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A shim, and the runtime that it is to call.
#[derive(Debug, Clone)]
pub struct Contender {
    name: String,
    shim: PathBuf,
    runtime: PathBuf,
}

struct Options {
    rounds: usize,
    execs: usize,
    alive: usize,
    contenders: Vec<Contender>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 40,
        execs: 1000,
        alive: 10,
        contenders: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .ok_or("a number is missing")?
                .parse::<usize>()
                .map_err(Box::<dyn Error>::from)
        };
        match word.as_str() {
            "--rounds" => options.rounds = number()?,
            "--execs" => options.execs = number()?,
            "--alive" => options.alive = number()?,
            word => {
                let parts = word.split_once('=');
                let parts = parts.and_then(|(name, rest)| Some((name, rest.split_once(',')?)));
                let (name, (shim, runtime)) = parts.ok_or("want NAME=SHIM,RUNTIME")?;
                options.contenders.push(Contender {
                    name: name.to_owned(),
                    shim: shim.into(),
                    runtime: runtime.into(),
                });
            }
        }
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    let containerd = Containerd::new()?;
    lives(&options, &containerd)?;
    execs(&options, &containerd)?;
    memory(&options, &containerd)
}

/// From `start` to the event of the end.
fn lives(options: &Options, containerd: &Containerd) -> Result<()> {
    let mut measured = vec![(Vec::new(), Duration::ZERO); options.contenders.len()];
    // Two rounds to warm up.
    for round in 0..options.rounds + 2 {
        for (contender, (times, used)) in options.contenders.iter().zip(&mut measured) {
            let began = Instant::now();
            let mut pod = Pod::start(containerd, contender, &["/bin/true"])?;
            let id = pod.create(containerd)?;
            pod.run(&id)?;
            pod.wait(&id, "")?;
            pod.delete(&id)?;
            let ended = containerd.hears("/tasks/delete", &id)?;
            if round >= 2 {
                times.push(ended - began);
                *used += pod.processor_time()?;
            }
            pod.end()?;
        }
    }
    for (contender, (times, used)) in options.contenders.iter().zip(measured) {
        let each = used.as_secs_f64() * 1000.0 / times.len().max(1) as f64;
        Figures::of(times).show(&format!("life {}", contender.name));
        println!("life {}: {each:.2} ms of processors each", contender.name);
    }
    Ok(())
}

/// Execs, one after the other, as probes are.
fn execs(options: &Options, containerd: &Containerd) -> Result<()> {
    const BLOCK: usize = 50;
    let mut pods = Vec::new();
    for contender in &options.contenders {
        let mut pod = Pod::start(containerd, contender, &["/bin/sleep", "100000"])?;
        let id = pod.create(containerd)?;
        pod.run(&id)?;
        pods.push((pod, id, Vec::new(), Duration::ZERO));
    }
    for _ in 0..options.execs.div_ceil(BLOCK) {
        for (pod, id, times, used) in &mut pods {
            let before = pod.processor_time()?;
            for _ in 0..BLOCK {
                let began = Instant::now();
                pod.exec(id)?;
                times.push(began.elapsed());
            }
            *used += pod.processor_time()? - before;
        }
    }
    for (contender, (mut pod, id, times, used)) in options.contenders.iter().zip(pods) {
        let count = times.len();
        Figures::of(times).show(&format!("exec {}", contender.name));
        println!(
            "exec {}: {:.3} s of processors for {count}",
            contender.name,
            used.as_secs_f64()
        );
        println!(
            "exec {}: afterwards {}",
            contender.name,
            Memory::of(pod.shim_pid(&id)?)?
        );
        pod.kill(&id)?;
        pod.wait(&id, "")?;
        pod.delete(&id)?;
        pod.end()?;
    }
    Ok(())
}

/// What shims hold.
fn memory(options: &Options, containerd: &Containerd) -> Result<()> {
    for containers in [1, 5] {
        for contender in &options.contenders {
            let mut pods = Vec::new();
            for _ in 0..options.alive {
                let mut pod = Pod::start(containerd, contender, &["/bin/sleep", "100000"])?;
                let mut ids = Vec::new();
                for _ in 0..containers {
                    let id = pod.create(containerd)?;
                    pod.run(&id)?;
                    ids.push(id);
                }
                pods.push((pod, ids));
            }
            std::thread::sleep(Duration::from_secs(5));
            let mut all = Vec::new();
            for (pod, ids) in &mut pods {
                all.push(Memory::of(pod.shim_pid(&ids[0])?)?);
            }
            let middle = |field: fn(&Memory) -> u64| median(all.iter().map(field).collect());
            println!(
                "memory {}, {containers} in each of {}: {}",
                contender.name,
                options.alive,
                Memory {
                    rss: middle(|memory| memory.rss),
                    anonymous: middle(|memory| memory.anonymous),
                    proportional: middle(|memory| memory.proportional),
                }
            );
            for (mut pod, ids) in pods {
                for id in &ids {
                    pod.kill(id)?;
                    pod.wait(id, "")?;
                    pod.delete(id)?;
                }
                pod.end()?;
            }
        }
    }
    Ok(())
}
