// SPDX-License-Identifier: Apache-2.0
//! From a Dockerfile's text to stages: the parser crate's view made into our own, with the flags checked.
//!
//! Pure; called by `build`.

use parse_dockerfile as parsed;

use super::arguments::{declarations, pairs};
use super::flagged::{command, flags, healthcheck, rest_of, run, strings, transfer};
use super::heredoc::{Logical, escape_of, is_empty_entrypoint, lines};
use super::{Command, Dockerfile, Instruction, Stage, Step, SyntaxError};

/// Reads `text`.
pub fn parse(text: &str) -> Result<Dockerfile, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_of(text);
    let lines = lines(text, escape)?;
    let dockerfile = parsed::parse(&lines.masked).map_err(|error| SyntaxError {
        line: error.line(),
        instruction: None,
        // The alternate form is the one without the position.
        text: format!("{error:#}"),
    })?;
    let reader = Reader {
        masked: &lines.masked,
        logical: &lines.logical,
        escape,
    };
    let mut global = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in &dockerfile.instructions {
        match instruction {
            parsed::Instruction::From(from) => stages.push(reader.stage(from)?),
            instruction => {
                let step = reader.step(instruction)?;
                match stages.last_mut() {
                    Some(stage) => stage.steps.push(step),
                    None => global.push(step),
                }
            }
        }
    }
    refuse_equal_names(&stages)?;
    Ok(Dockerfile {
        escape,
        global,
        stages,
    })
}

/// Reads an image's ONBUILD trigger; its line numbers mean nothing.
pub fn parse_trigger(text: &str) -> Result<Step, SyntaxError> {
    let mut dockerfile = parse(&format!("FROM scratch\n{text}\n"))?;
    let steps = dockerfile.stages.pop().map(|stage| stage.steps);
    let failed = |text: &str| SyntaxError {
        line: 0,
        instruction: Some("ONBUILD"),
        text: text.to_owned(),
    };
    match steps.unwrap_or_default().as_slice() {
        [step] => match step.instruction {
            Instruction::Onbuild(_) | Instruction::Maintainer(_) => {
                Err(failed("this instruction can't be a trigger"))
            }
            _ => Ok(step.clone()),
        },
        _ => Err(failed("a trigger is one instruction")),
    }
}

/// The crate compares names as they are written; `FROM` finds them without case.
fn refuse_equal_names(stages: &[Stage]) -> Result<(), SyntaxError> {
    for (n, stage) in stages.iter().enumerate() {
        let Some(name) = &stage.name else { continue };
        if stages[..n]
            .iter()
            .any(|other| other.name.as_ref() == Some(name))
        {
            return Err(SyntaxError {
                line: stage.line,
                instruction: Some("FROM"),
                text: format!("stage name {name:?} is taken by an earlier stage"),
            });
        }
    }
    Ok(())
}

struct Reader<'a> {
    masked: &'a str,
    logical: &'a [Logical],
    escape: char,
}

impl Reader<'_> {
    fn line(&self, span: &parsed::Span) -> usize {
        let before = self.masked.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    fn stage(&self, from: &parsed::FromInstruction<'_>) -> Result<Stage, SyntaxError> {
        let line = self.line(&from.from.span);
        let failed = |text: String| SyntaxError {
            line,
            instruction: Some("FROM"),
            text,
        };
        let mut platform = None;
        for (name, value) in flags(&from.options) {
            match (name.as_str(), value) {
                ("platform", Some(value)) => platform = Some(value),
                (name, _) => return Err(failed(format!("flag --{name} is not known"))),
            }
        }
        let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        if let Some(name) = &name
            && !is_stage_name(name)
        {
            return Err(failed(format!("stage name {name:?} is not allowed")));
        }
        Ok(Stage {
            line,
            base: from.image.value.to_string(),
            platform,
            name,
            steps: Vec::new(),
        })
    }

    fn step(&self, instruction: &parsed::Instruction<'_>) -> Result<Step, SyntaxError> {
        let (name, span) = keyword(instruction).ok_or_else(|| SyntaxError {
            line: 0,
            instruction: None,
            text: "instruction is not supported".to_owned(),
        })?;
        let line = self.line(&span);
        let failed = |text: String| SyntaxError {
            line,
            instruction: Some(name),
            text,
        };
        let logical = self
            .logical
            .iter()
            .find(|logical| logical.line == line)
            .ok_or_else(|| failed("does not start a line".to_owned()))?;
        let instruction = self.instruction(instruction, logical).map_err(failed)?;
        Ok(Step {
            line,
            text: logical.text.clone(),
            instruction,
        })
    }

    fn instruction(
        &self,
        instruction: &parsed::Instruction<'_>,
        logical: &Logical,
    ) -> Result<Instruction, String> {
        use parsed::Instruction as P;
        let line = rest_of(&logical.text);
        Ok(match instruction {
            P::Add(add) => {
                let flags = flags(&add.options);
                let (sources, dest) = (&add.src, &add.dest.value);
                Instruction::Add(transfer("ADD", flags, sources, dest, &logical.documents)?)
            }
            P::Copy(copy) => {
                let flags = flags(&copy.options);
                let (sources, dest) = (&copy.src, &copy.dest.value);
                Instruction::Copy(transfer("COPY", flags, sources, dest, &logical.documents)?)
            }
            P::Arg(arg) => Instruction::Arg(declarations(&arg.arguments.value, self.escape)?),
            P::Env(env) => Instruction::Env(pairs(&env.arguments.value, self.escape)?),
            P::Label(label) => Instruction::Label(pairs(&label.arguments.value, self.escape)?),
            P::Cmd(cmd) => Instruction::Cmd(command(&cmd.arguments, line)),
            P::Entrypoint(_) if is_empty_entrypoint(&logical.text) => {
                Instruction::Entrypoint(Command::Exec(Vec::new()))
            }
            P::Entrypoint(entry) => Instruction::Entrypoint(command(&entry.arguments, line)),
            P::Expose(expose) => Instruction::Expose(strings(&expose.arguments)),
            P::Healthcheck(check) => Instruction::Healthcheck(healthcheck(check, line)?),
            P::Maintainer(maintainer) => Instruction::Maintainer(maintainer.name.value.to_string()),
            P::Onbuild(_) => {
                if !logical.documents.is_empty() || line.contains("<<") {
                    return Err("a here-document in a trigger is not supported yet".to_owned());
                }
                let trigger = parse_trigger(line).map_err(|error| error.text)?;
                Instruction::Onbuild(trigger.text)
            }
            P::Run(i) => Instruction::Run(run(i, line, &logical.documents)?),
            P::Shell(shell) => Instruction::Shell(strings(&shell.arguments)),
            P::Stopsignal(signal) => Instruction::Stopsignal(signal.arguments.value.to_string()),
            P::User(user) => Instruction::User(user.arguments.value.to_string()),
            P::Volume(volume) => Instruction::Volume(match &volume.arguments {
                parsed::JsonOrStringArray::Json(list) => strings(&list.value),
                parsed::JsonOrStringArray::String(list) => strings(list),
            }),
            P::Workdir(workdir) => Instruction::Workdir(workdir.arguments.value.to_string()),
            _ => return Err("instruction is not supported".to_owned()),
        })
    }
}

fn keyword(instruction: &parsed::Instruction<'_>) -> Option<(&'static str, parsed::Span)> {
    use parsed::Instruction as P;
    let (name, keyword) = match instruction {
        P::Add(i) => ("ADD", &i.add),
        P::Arg(i) => ("ARG", &i.arg),
        P::Cmd(i) => ("CMD", &i.cmd),
        P::Copy(i) => ("COPY", &i.copy),
        P::Entrypoint(i) => ("ENTRYPOINT", &i.entrypoint),
        P::Env(i) => ("ENV", &i.env),
        P::Expose(i) => ("EXPOSE", &i.expose),
        P::From(i) => ("FROM", &i.from),
        P::Healthcheck(i) => ("HEALTHCHECK", &i.healthcheck),
        P::Label(i) => ("LABEL", &i.label),
        P::Maintainer(i) => ("MAINTAINER", &i.maintainer),
        P::Onbuild(i) => ("ONBUILD", &i.onbuild),
        P::Run(i) => ("RUN", &i.run),
        P::Shell(i) => ("SHELL", &i.shell),
        P::Stopsignal(i) => ("STOPSIGNAL", &i.stopsignal),
        P::User(i) => ("USER", &i.user),
        P::Volume(i) => ("VOLUME", &i.volume),
        P::Workdir(i) => ("WORKDIR", &i.workdir),
        _ => return None,
    };
    Some((name, keyword.span.clone()))
}

/// What BuildKit allows: a letter, then letters, digits, `-`, `_` and `.`.
fn is_stage_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
