// SPDX-License-Identifier: Apache-2.0
//! Reading Dockerfiles: text in, stages of instructions out, with the line that each came from.
//!
//! Pure: no file is opened and no variable is read here. `build` calls [`parse`], expands words with [`word`] and
//! [`scope`], and leaves out of the context what [`ignore`] says.

mod arguments;
mod flagged;
pub mod glob;
mod heredoc;
pub mod ignore;
pub mod mount;
pub mod options;
mod parameter;
mod read;
pub mod scope;
pub mod word;

use std::fmt;

pub use read::{parse, parse_trigger};

/// A whole Dockerfile.
#[derive(Debug)]
pub struct Dockerfile {
    /// The character that quotes one character and joins lines.
    pub escape: char,
    /// The ARG instructions before the first FROM.
    pub global: Vec<Step>,
    /// In the order of the file; never empty.
    pub stages: Vec<Stage>,
}

/// One FROM and what follows it.
#[derive(Debug)]
pub struct Stage {
    /// Of the FROM instruction, counted from 1.
    pub line: usize,
    /// An image, an earlier stage or `scratch`; variables not yet expanded.
    pub base: String,
    /// `--platform`, not yet expanded.
    pub platform: Option<String>,
    /// After AS, in lower case: names are compared without case.
    pub name: Option<String>,
    /// All but the FROM.
    pub steps: Vec<Step>,
}

/// One instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Counted from 1.
    pub line: usize,
    /// The instruction as it is written, its lines joined.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// What a step says. Words keep their quotes and variables, unless noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(Transfer),
    /// `ARG name[=default]...`
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`
    Cmd(Command),
    /// `COPY`
    Copy(Transfer),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `ENV name=value...`
    Env(Vec<(String, String)>),
    /// `EXPOSE port[/protocol]...`
    Expose(Vec<String>),
    /// `HEALTHCHECK`; none for `NONE`.
    Healthcheck(Option<Healthcheck>),
    /// `LABEL name=value...`
    Label(Vec<(String, String)>),
    /// `MAINTAINER name`
    Maintainer(String),
    /// `ONBUILD instruction`, the text of the instruction, which has been parsed once.
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`, without variables.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

impl Instruction {
    /// Its name as in the file, in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A command as a list of arguments or as a line for the shell; neither has variables that the builder expands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`
    Exec(Vec<String>),
    /// Everything else.
    Shell(String),
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// `RUN <<EOF`: the body is the script itself; `command` is then the shell line that would feed it.
    pub script: Option<String>,
    /// `--network`; none for the build's own.
    pub network: Option<Network>,
    /// `--mount`
    pub mounts: Vec<RawMount>,
}

/// The options of a `--mount` in the order of the file, their names in lower case; variables not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMount {
    /// Some have no value.
    pub options: Vec<(String, Option<String>)>,
}

/// The network that a RUN sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// A loopback device and nothing else.
    None,
}

/// `COPY` and `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// `--from`: a stage, its number, or an image.
    pub from: Option<String>,
    /// `--chown`
    pub chown: Option<String>,
    /// `--chmod`
    pub chmod: Option<String>,
    /// Whether the layer depends on those below.
    pub base: Base,
    /// Whether a source keeps the directories above it.
    pub parents: Parents,
    /// `--exclude`: patterns as in .dockerignore.
    pub excludes: Vec<String>,
    /// `--checksum` of ADD.
    pub checksum: Option<String>,
    /// `--unpack` of ADD; none for what depends on the source.
    pub unpack: Option<Unpack>,
    /// At least one.
    pub sources: Vec<Source>,
    /// Where they go.
    pub dest: String,
}

/// What a COPY or ADD starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The layers below: their links are followed, their directories kept.
    Below,
    /// `--link`: nothing.
    Empty,
}

/// What becomes of the directories above a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// Nothing: the source goes to the destination.
    Drop,
    /// `--parents`: they are made there as well.
    Keep,
}

/// What ADD does with archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpack {
    /// `--unpack`
    Always,
    /// `--unpack=false`
    Never,
}

/// One source of a [`Transfer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern.
    Path(String),
    /// `<<name`: a file with this text.
    Inline {
        /// The word that ends it, and the file's name if the destination is a directory.
        name: String,
        /// The text.
        text: String,
        /// Whether variables in it are expanded: the word was not quoted.
        expand: bool,
    },
}

/// `HEALTHCHECK CMD`; durations in nanoseconds, 0 for "as inherited".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is run.
    pub command: Command,
    /// `--interval`
    pub interval: u64,
    /// `--timeout`
    pub timeout: u64,
    /// `--start-period`
    pub start_period: u64,
    /// `--start-interval`
    pub start_interval: u64,
    /// `--retries`
    pub retries: u64,
}

/// What is wrong with a Dockerfile, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// The instruction's name, if it is known.
    pub instruction: Option<&'static str>,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(instruction) = self.instruction {
            write!(f, "{instruction}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for SyntaxError {}
