// SPDX-License-Identifier: Apache-2.0
//! Instructions without a Dockerfile: what `commit --change` gives.
//!
//! Pure; called by `commit`.

use super::config::Config;
use super::expand::expand;
use super::stage::Work;
use super::tree::absolute;
use super::{place, settings};
use crate::dockerfile::scope::Scope;
use crate::dockerfile::{self, Instruction};
use crate::error::{Context, Error, Result};

/// Carries out `texts`, an instruction each, in their order. They see the image's environment, and one another's.
pub(crate) fn change(config: Config, texts: &[String]) -> Result<Config> {
    let mut work = Work {
        scope: Scope::new(&config.config.env),
        config,
        layers: Vec::new(),
        cmd_is_own: false,
        number: 0,
        label: String::new(),
        cache: super::Cache::Use,
    };
    for text in texts {
        one(&mut work, text).with_context(|| format!("change {text:?}"))?;
    }
    Ok(work.config)
}

fn one(work: &mut Work, text: &str) -> Result<()> {
    let dockerfile = dockerfile::parse(&format!("FROM scratch\n{text}\n"))
        .map_err(|error| Error::invalid(error.text))?;
    let [stage] = dockerfile.stages.as_slice() else {
        return Err(Error::unsupported("FROM has no place here"));
    };
    let [step] = stage.steps.as_slice() else {
        return Err(Error::invalid("a change is one instruction"));
    };
    match &step.instruction {
        Instruction::Workdir(dir) => {
            let dir = expand(dir, dockerfile.escape, &work.scope)?;
            let dir = absolute(work.config.working_dir(), &dir);
            work.config.config.working_dir = place::shown(&dir);
            Ok(())
        }
        // There is a flag for it.
        Instruction::Maintainer(_) => {
            Err(Error::unsupported("MAINTAINER has no place here").remedy("say --author"))
        }
        // All that makes layers is refused there.
        instruction => settings::apply(work, instruction, dockerfile.escape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::scope::Platform;

    #[test]
    fn changes() {
        let mut config = Config::scratch(&Platform::host());
        config.config.env = vec!["PATH=/bin".into()];
        config.config.cmd = Some(vec!["old".into()]);
        let texts = [
            "ENV A=1 PATH=$PATH:/x",
            "ENTRYPOINT [\"e\"]",
            "WORKDIR /a",
            "workdir $A",
            "USER u",
            "LABEL l=\"$A b\"",
            "EXPOSE 80",
            "VOLUME /v",
            "STOPSIGNAL INT",
            "HEALTHCHECK NONE",
            "SHELL [\"/bin/ash\", \"-c\"]",
            "ONBUILD RUN x",
        ];
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let changed = change(config.clone(), &texts).unwrap().config;
        // An inherited CMD doesn't outlive a new ENTRYPOINT.
        assert_eq!(
            (&changed.cmd, changed.entrypoint.unwrap()),
            (&None, vec!["e".to_owned()])
        );
        assert_eq!(changed.env, ["PATH=/bin:/x", "A=1"]);
        assert_eq!(changed.working_dir, "/a/1");
        assert_eq!(changed.user, "u");
        assert_eq!(changed.labels["l"], "1 b");
        assert!(changed.exposed_ports.contains_key("80/tcp"));
        assert!(changed.volumes.contains_key("/v"));
        assert_eq!(changed.stop_signal, "INT");
        assert_eq!(changed.healthcheck.unwrap().test, ["NONE"]);
        assert_eq!(changed.shell.unwrap(), ["/bin/ash", "-c"]);
        assert_eq!(changed.on_build, ["RUN x"]);
        let both = ["CMD c d".to_owned(), "ENTRYPOINT [\"e\"]".to_owned()];
        let changed = change(config.clone(), &both).unwrap().config;
        assert_eq!(changed.cmd.unwrap(), ["/bin/sh", "-c", "c d"]);
        for (bad, expected) in [
            ("RUN x", "RUN has no place here"),
            ("COPY a /b", "COPY has no place here"),
            ("ARG x", "ARG has no place here"),
            ("MAINTAINER me", "say --author"),
            ("FROM x", "FROM has no place here"),
            ("", "one instruction"),
            ("# nothing", "one instruction"),
            ("USER a\nUSER b", "one instruction"),
            ("NONSENSE", "NONSENSE"),
            ("ENV", "ENV"),
            ("STOPSIGNAL x", "no signal"),
        ] {
            let error = change(config.clone(), &[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(expected), "{bad}: {error}");
        }
    }
}
