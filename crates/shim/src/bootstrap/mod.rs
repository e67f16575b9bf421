// SPDX-License-Identifier: Apache-2.0
//! `start`: containerd asks for the shim of a container. If the container's pod has one, that one; else a new one is begun,
//! which goes on when this process has said where it listens.
//!
//! Nothing but the answer is written: containerd takes standard output and standard error for one.

mod answer;
pub mod place;
pub mod socket;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::bootstrap_api::BootstrapParams;
use corten_sys::fs;
use corten_sys::spawn::{self, Orphaned, Setting};
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use rustix::fs::symlink;

use crate::args::Args;
use crate::bundle::Bundle;
use crate::error::{Context, Result};
use crate::options::Options;
use answer::Form;
use socket::Bound;

/// How much containerd may say on standard input.
const LONGEST_INPUT: usize = 4 << 20;
/// The descriptor that the new shim listens on.
pub const LISTENER: u32 = 3;

/// What containerd has said beside the flags.
#[derive(Debug, Default)]
struct Said {
    /// In the form of containerd 2.3 and later.
    params: Option<BootstrapParams>,
    /// The options of the runtime.
    options: Options,
}

/// Begins the shim, or finds it; what is to be written to standard output.
pub fn start(args: &Args) -> Result<Vec<u8>> {
    let input = fs::read_to_end(rustix::stdio::stdin(), LONGEST_INPUT)?;
    let said = read(&input, args)?;
    let bundle = Bundle::new(std::env::current_dir().unwrap_or_default());
    let config = bundle.config()?;
    let params = said.params.as_ref();
    let dir = params
        .and_then(|params| params.socket_dir.as_deref())
        .filter(|dir| !dir.is_empty());
    let dir = Path::new(dir.unwrap_or(socket::DIRECTORY));
    let group = config.group(&args.id);
    let path = socket::path(dir, &args.address, &args.namespace, group)?;
    let address = format!("unix://{}", path.display());
    if let Bound::New(listener) = socket::bind(&path)? {
        let begun = begin(args, &said, &listener, &path);
        begun.inspect_err(|_| crate::bundle::remove(&path))?;
    }
    // By these a containerd removes the socket of a shim that was killed: older ones by the one, newer by the other.
    bundle.write("address", address.as_bytes())?;
    if params.is_some() {
        let link = bundle.path().join("s");
        match symlink(dir, &link) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => Err(corten_sys::Error::new(
                "symlink",
                format!("{link:?}"),
                errno,
            ))?,
        }
    }
    let versions = std::env::var("MAX_SHIM_VERSION").ok();
    Form::choose(
        params.is_some(),
        versions.as_deref(),
        said.options.task_api_version,
    )
    .write(&address)
}

/// What came on standard input: an `Any` of options, or since containerd 2.3 all that the flags say, and more. One is never
/// the other: an `Any` begins with a type's name, not with the container's.
fn read(input: &[u8], args: &Args) -> Result<Said> {
    let params = BootstrapParams::parse_from_bytes(input).ok();
    let params =
        params.filter(|params| params.instance_id == args.id && params.namespace == args.namespace);
    let options = match &params {
        Some(params) => {
            let values = params
                .extensions
                .iter()
                .filter_map(|extension| extension.value.as_ref());
            // Others are of other shims' concern.
            let mut options = values.filter(|any| Options::are(any));
            Options::read(options.next())?
        }
        None => {
            let any = Any::parse_from_bytes(input);
            let any = any.map_err(|error| crate::error::Error::invalid(error.to_string()));
            Options::read(Some(&any.context(|| "read standard input")?))?
        }
    };
    Ok(Said { params, options })
}

/// Executes this program again, to serve.
fn begin(args: &Args, said: &Said, listener: &OwnedFd, path: &Path) -> Result<()> {
    place::share_core()?;
    let mut words = vec!["containerd-shim-corten-v2".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    flag("-namespace", args.namespace.clone());
    flag("-id", args.id.clone());
    flag("-address", args.address.clone());
    flag("-socket", path.display().to_string());
    let level = said
        .params
        .as_ref()
        .map_or(0, |params| params.log_level.value());
    if args.debug || level < 0 {
        words.push("-debug".to_owned());
    }
    let null: PathBuf = "/dev/null".into();
    let null = fs::open(fs::CWD, &null, fs::OFlags::RDWR, fs::Mode::empty())?;
    let here = fs::open_dir(Path::new("."))?;
    let more: [BorrowedFd<'_>; 1] = [listener.as_fd()];
    let setting = Setting {
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        directory: here.as_fd(),
        more: &more,
        orphaned: Orphaned::Lives,
    };
    let env = environment(said);
    let spawned = spawn::spawn(Path::new("/proc/self/exe"), &words, &env, setting)
        .context(|| "begin the shim")?;
    if let Err(error) = place::put(spawned.pid(), &said.options) {
        // A shim in the wrong place is worse than none.
        spawned.kill()?;
        return Err(error);
    }
    Ok(())
}

/// This process's, with where events go to.
fn environment(said: &Said) -> Vec<String> {
    const EVENTS: &str = "TTRPC_ADDRESS";
    let address = said
        .params
        .as_ref()
        .map(|params| params.containerd_ttrpc_address.as_str());
    let address = address.filter(|address| !address.is_empty());
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        (name != EVENTS || address.is_none()).then(|| format!("{name}={value}"))
    });
    let told = address.map(|address| format!("{EVENTS}={address}"));
    variables.chain(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::shim::oci;
    use protobuf::MessageField;

    fn args() -> Args {
        Args {
            id: "c".into(),
            namespace: "n".into(),
            ..Args::default()
        }
    }

    fn runc() -> Any {
        let options = oci::Options {
            binary_name: "crun".into(),
            ..oci::Options::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().unwrap(),
            ..Any::default()
        }
    }

    #[test]
    fn every_containerd_is_understood() {
        let said = read(b"", &args()).unwrap();
        assert!(said.params.is_none());
        assert_eq!(said.options, Options::default());
        let said = read(&runc().write_to_bytes().unwrap(), &args()).unwrap();
        assert!(said.params.is_none());
        assert_eq!(said.options.binary(), "crun");
        let mut params = BootstrapParams {
            instance_id: "c".into(),
            namespace: "n".into(),
            ..BootstrapParams::default()
        };
        for any in [
            Any {
                type_url: "cri.v1.Config".into(),
                ..Any::default()
            },
            runc(),
        ] {
            params.extensions.push(Extension {
                value: MessageField::some(any),
                ..Extension::default()
            });
        }
        let said = read(&params.write_to_bytes().unwrap(), &args()).unwrap();
        assert_eq!(said.options.binary(), "crun");
        assert_eq!(said.params, Some(params));
        assert!(read(b"\xff\xff", &args()).is_err());
    }
}
