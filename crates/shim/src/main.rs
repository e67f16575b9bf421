// SPDX-License-Identifier: Apache-2.0
//! `containerd-shim-corten-v2`, the program: read the command line, do what it says, end.
//!
//! One process of one thread. containerd calls it as root; `start` leaves one behind, which serves.

#![forbid(unsafe_code)]
#![no_main]

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use corten_shim::args::{Action, Args};
use corten_shim::bootstrap::{self, place, socket};
use corten_shim::error::{Error, Result};
use corten_shim::shim::Shim;
use corten_shim::{cleanup, info, log};

corten_sys::program!(start);

fn start() -> u8 {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    match Args::parse(words).and_then(|args| run(&args)) {
        Ok(()) => 0,
        Err(error) => {
            log::error(format_args!("{error}"));
            say(&error);
            1
        }
    }
}

fn run(args: &Args) -> Result<()> {
    match args.action {
        Action::Version => {
            let text = format!(
                "containerd-shim-corten-v2:\n  Version:  {}\n",
                env!("CARGO_PKG_VERSION")
            );
            print(text.as_bytes())
        }
        Action::Info => print(&info::info()?),
        Action::Start => print(&bootstrap::start(args)?),
        Action::Delete => {
            let (answer, failure) = cleanup::delete(args)?;
            if let Some(error) = failure {
                say(&error);
            }
            print(&answer)
        }
        Action::Serve => serve(args),
    }
}

fn serve(args: &Args) -> Result<()> {
    let listener = socket::inherited(bootstrap::LISTENER)
        .map_err(|error| error.context("this program is called by containerd, with `start`"))?;
    corten_sys::process::close_descriptors_but(3, &[listener.as_fd()])?;
    log::open(Path::new("log"), args.debug);
    place::take_name()?;
    place::adopt_orphans()?;
    let events = place::events();
    if events.is_none() {
        log::warn(format_args!(
            "TTRPC_ADDRESS is not set: nobody is told of events"
        ));
    }
    Shim::new(&args.namespace, listener, &args.socket, events)?.serve()
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| corten_shim::bundle::failed("write", Path::new("/dev/stdout"), &error))
}

/// Says what went wrong, to whoever reads standard error: containerd does.
fn say(error: &Error) {
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{error}");
}
