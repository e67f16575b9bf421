// SPDX-License-Identifier: Apache-2.0
//! `run`: a container of an image. Needs root. In the foreground it ends with the program's status, or 125 if there was
//! none.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use corten_image::progress::Progress;
use corten_image::run::{
    self, CgroupManager, Limits, Mount, Network, Settings, Stdin, limits, mounts,
};
use corten_image::{Context, Error, Reference, Result, Store, network, options};

use super::Failure;
use super::containers::settle_all;
use super::process::ProcessArgs;
use super::registry::SupplyArgs;

/// Where the engines keep the filter that containers have if nobody says otherwise.
const FILTERS: [&str; 2] = [
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
];

/// Larger files of variables, and filters, are refused.
const FILE_CAP: u64 = 4 << 20;

/// Run a container of an image
#[derive(clap::Args)]
#[command(override_usage = "corten-image run [OPTIONS] IMAGE [ARG]...")]
pub struct Args {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    supply: SupplyArgs,
    /// Return when the program runs; it goes on by itself
    #[arg(short, long)]
    detach: bool,
    /// Pass standard input on; with --detach, keep it open
    #[arg(short, long)]
    interactive: bool,
    /// Remove the container when its program has ended
    #[arg(long)]
    rm: bool,
    /// What the container is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Read variables from a file, a line each: NAME=VALUE, or the NAME of one that is set here
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Mount a directory or file of the host: HOST:CONTAINER[:OPTION,…], as /src:/src:ro
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Mount: type=bind,source=…,target=…[,readonly,bind-propagation=…] or type=tmpfs,target=…[,tmpfs-size=…,tmpfs-mode=…]
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Mount memory: CONTAINER[:OPTION,…], as /tmp:size=64m
    #[arg(long, value_name = "TMPFS")]
    tmpfs: Vec<String>,
    /// Forbid writing to the root file system
    #[arg(long)]
    read_only: bool,
    /// Add a capability; ALL for all
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a capability; ALL for all
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// seccomp=FILE, seccomp=unconfined or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Limit memory, as 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Limit processor time to so many processors, as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Its share of processor time where there is not enough (1024 is usual)
    #[arg(long, value_name = "SHARES", value_parser = clap::value_parser!(u64).range(2..=262_144))]
    cpu_shares: Option<u64>,
    /// Run on these processors only, as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Limit the number of processes; -1 for none
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Limit each process: NAME=SOFT[:HARD], as nofile=1024
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// The size of /dev/shm (64m by default)
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Say something of the container: NAME[=VALUE]
    #[arg(short, long, value_name = "LABEL")]
    label: Vec<String>,
    /// none (one of its own, with nothing in it), host, or the name of a CNI network; corten is built in
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Where CNI networks are configured
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Lead a port of the host to one of the container: [ADDRESS:]HOST:CONTAINER[/tcp|udp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Add a line to /etc/hosts: NAME:ADDRESS
    #[arg(long, value_name = "HOST")]
    add_host: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Put a log aside that is larger, in place of the one before
    #[arg(long, value_name = "BYTES")]
    log_max_size: Option<String>,
    /// Who makes its cgroups: systemd (the default where it runs and cgroups are v2) or cgroupfs, the runtime itself
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<String>,
    /// The runtime (default: $CORTEN_RUNTIME, or corten beside this program or in PATH)
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<OsString>,
    /// The image: NAME[:TAG][@DIGEST], or the first digits of an id; and the program's arguments, in place of the image's command
    // One argument, or flags behind the image would be taken for those of `run`.
    #[arg(value_name = "IMAGE", trailing_var_arg = true, required = true)]
    image: Vec<String>,
}

/// Runs, and says what to exit with.
pub fn run(store: &Store, args: &Args) -> std::result::Result<u8, Failure> {
    let run = || {
        let settings = args.settings()?;
        settle_all(store)?;
        let runtime = args.runtime.clone();
        let runtime = runtime.or_else(|| std::env::var_os("CORTEN_RUNTIME"));
        let reference = Reference::parse(args.image.first().map_or("", String::as_str))?;
        let progress = Progress::stderr();
        args.supply
            .supply()
            .provide(store, &reference, &(), &progress)?;
        let container = run::create(
            store,
            &reference,
            args.name.as_deref(),
            runtime.as_deref(),
            settings,
            &progress,
        )?;
        if !args.detach {
            return run::run_in_foreground(store, container);
        }
        run::start(store, &container)?;
        super::print(container.id())?;
        Ok(0)
    };
    run().map_err(Failure::without_program)
}

impl Args {
    fn settings(&self) -> Result<Settings> {
        let mut changes = self
            .process
            .changes(self.image.iter().skip(1).cloned().collect())?;
        let mut env = Vec::new();
        for path in &self.env_file {
            env.extend(env_file(path)?);
        }
        // What is given by itself counts more than what a file has.
        env.append(&mut changes.env);
        changes.env = env;
        let ports = flatten(&self.publish, network::ports)?;
        let network = match self.network.as_deref() {
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some("") => return Err(Error::invalid("the network's name is empty")),
            Some(name) => Network::Named(name.to_owned()),
            None if ports.is_empty() => Network::None,
            None => Network::Named(network::DEFAULT.to_owned()),
        };
        let mut settings = Settings {
            changes,
            stdin: match self.interactive {
                true => Stdin::Inherit,
                false => Stdin::Null,
            },
            mounts: self.mounts()?,
            read_only: self.read_only,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            limits: self.limits()?,
            labels: options::labels(&self.label)?,
            network,
            ports,
            hosts: each(&self.add_host, options::host)?,
            dns: self.dns.clone(),
            cni_conf_dir: self.cni_conf_dir.clone(),
            cgroup_manager: match &self.cgroup_manager {
                Some(text) => CgroupManager::parse(text)?,
                None => CgroupManager::of_host(),
            },
            remove: self.rm,
            log_max_size: match &self.log_max_size {
                Some(text) => options::bytes(text)?,
                None => run::LOG_MAX_SIZE,
            },
            ..Settings::default()
        };
        if let Some(dir) = &mut settings.cni_conf_dir {
            *dir = std::path::absolute(&dir).context("find the directory of networks")?;
        }
        self.set_security(&mut settings)?;
        Ok(settings)
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        let mut all = each(&self.volume, mounts::volume)?;
        all.extend(each(&self.mount, mounts::mount)?);
        all.extend(each(&self.tmpfs, mounts::tmpfs)?);
        Ok(all)
    }

    fn limits(&self) -> Result<Limits> {
        Ok(Limits {
            memory: self.memory.as_deref().map(limits::memory).transpose()?,
            cpu_quota: self.cpus.as_deref().map(limits::cpus).transpose()?,
            cpu_shares: self.cpu_shares,
            cpuset: self
                .cpuset_cpus
                .as_deref()
                .map(limits::cpuset)
                .transpose()?,
            pids: match &self.pids_limit {
                Some(text) => limits::pids(text)?,
                None => None,
            },
            shm_size: self
                .shm_size
                .as_deref()
                .map(options::shm_size)
                .transpose()?,
            ulimits: options::ulimits(&self.ulimit)?,
        })
    }

    fn set_security(&self, settings: &mut Settings) -> Result<()> {
        for path in FILTERS {
            if std::path::Path::new(path).exists() {
                settings.seccomp = Some(filter(path)?);
                break;
            }
        }
        for option in &self.security_opt {
            let (name, value) = match option.split_once(['=', ':']) {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            match (name, value) {
                ("no-new-privileges", None | Some("true")) => settings.no_new_privileges = true,
                ("no-new-privileges", Some("false")) => settings.no_new_privileges = false,
                ("seccomp", Some("unconfined")) => settings.seccomp = None,
                ("seccomp", Some(path)) => settings.seccomp = Some(filter(path)?),
                _ => {
                    return Err(Error::unsupported(format!(
                        "security option {option:?} is not supported"
                    )));
                }
            }
        }
        Ok(())
    }
}

fn filter(path: &str) -> Result<serde_json::Value> {
    let read = || -> Result<serde_json::Value> {
        let bytes = read_capped(std::path::Path::new(path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid(error.to_string()))
    };
    read().with_context(|| format!("read the filter {path}"))
}

fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| read(text)).collect()
}

fn flatten<T>(texts: &[String], read: impl Fn(&str) -> Result<Vec<T>>) -> Result<Vec<T>> {
    Ok(each(texts, read)?.into_iter().flatten().collect())
}

fn read_capped(path: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_CAP + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_CAP {
        true => Err(Error::invalid(format!(
            "it is larger than {FILE_CAP} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// Lines as --env takes them. Empty ones and those that begin with # are skipped; nothing is unquoted.
fn env_file(path: &std::path::Path) -> Result<Vec<String>> {
    let read = || {
        let text =
            String::from_utf8(read_capped(path)?).map_err(|_| Error::invalid("it is no UTF-8"))?;
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split_once('=').map_or(line, |(name, _)| name);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(Error::invalid(format!(
                    "line {}: {line:?} is not NAME=VALUE",
                    number + 1
                )));
            }
            lines.push(line.to_owned());
        }
        Ok(super::process::environment(&lines))
    };
    read().with_context(|| format!("read {}", path.display()))
}
