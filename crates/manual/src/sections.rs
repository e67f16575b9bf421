// SPDX-License-Identifier: Apache-2.0
//! What man pages say beside the flags: exit status, files, environment, examples, other pages.

use std::io::{self, Write};

use crate::statuses;

/// A section: its heading, and paragraphs of plain text.
type Section = (&'static str, &'static [&'static str]);

const FILES: Section = (
    "FILES",
    &[
        "/run/corten: the state of root's containers, one directory each. For who is not root: $XDG_RUNTIME_DIR/corten. \
         --root names another place.",
        "config.json in the bundle: what the container is to be, as the OCI runtime specification has it.",
    ],
);

const ENVIRONMENT: Section = (
    "ENVIRONMENT",
    &[
        "XDG_RUNTIME_DIR: where the state is, for who is not root.",
        "DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS: where D-Bus is, with --systemd-cgroup.",
        "LISTEN_FDS, LISTEN_PID: descriptors that a service manager has passed go on to the container's program.",
    ],
);

/// What a verb does, where its flags don't say it.
pub fn description(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "check" => {
            "Holds a bundle against the specification, this build and this host, as create would, and starts and changes nothing. \
             Every finding names the field of config.json by its JSON pointer."
        }
        "create" => {
            "Makes the container that the bundle describes: namespaces, cgroup, mounts, credentials, filter. Its program waits for \
             corten start. If a step fails, all that was made is taken back, and one line says why."
        }
        "delete" => {
            "Removes what a container has left: cgroup, state, network devices that go back to the host. One that still runs is \
             refused, unless --force kills it; with --force a container that is not there is no error. It also cleans up after a \
             create that was killed half-way."
        }
        "events" => {
            "Prints lines of JSON as runc does, of type stats in an interval and of type oom whenever the kernel has killed for want \
             of memory, until the container ends."
        }
        "exec" => {
            "Runs a program in the namespaces and the cgroup of the container's init, under its seccomp filter. What follows \
             COMMAND is the program's. Nothing that the caller has open reaches it but the standard three and what \
             --preserve-fds names."
        }
        "kill" => {
            "Sends a signal, by name or number, to init; with --all to every process. Without a PID namespace of its own the \
             container's processes are those of its cgroup. Signal 0 only asks whether it could be sent."
        }
        "pause" => {
            "Freezes every process by the freezer of cgroup v2. SIGKILL ends a paused process at once."
        }
        "run" => {
            "create and start in one. In the foreground corten forwards signals, keeps the terminal, waits and removes the \
             container; with --detach it returns when the program has started."
        }
        "seccomp" => {
            "compile PROFILE lists the program that the kernel would get; explain PROFILE CALL says which rule answers a call. \
             PROFILE is a bundle or a file."
        }
        "update" => {
            "Changes limits while the container runs: all of them or none. Values are checked together with the container's \
             configuration first, read back afterwards, and put back if the kernel refuses one."
        }
        "wait" => {
            "Waits until the container's init has ended. The status can be had from who has reaped it (Linux 6.15), or from /proc \
             until somebody does; it is kept with the container then, as the postMortem that state shows. Several may wait at \
             once. Of one that has ended, what is kept is the answer."
        }
        _ => return None,
    })
}

/// The sections of the program's page, or of a verb's, in their order.
fn of(verb: Option<&str>) -> Vec<Section> {
    let examples: &[&str] = match verb {
        None => return vec![FILES, ENVIRONMENT],
        Some("create") => &["corten create --bundle /srv/web web; corten start web"],
        Some("exec") => &[
            "corten exec --env TERM=dumb --cwd /srv web ls -l",
            "corten exec --cgroup helpers web top: in the cgroup helpers below the container's, which must be there.",
        ],
        Some("kill") => &["corten kill web TERM", "corten kill --all web 9"],
        Some("run") => &["corten run --bundle /srv/web web"],
        Some("spec") => &["corten spec --rootless --bundle ."],
        Some("update") => &[
            "corten update --memory 512M --pids-limit 200 web",
            "corten update --resources - web: the limits are a JSON object of linux.resources' form on standard input.",
        ],
        Some(_) => &[],
    };
    match examples {
        [] => Vec::new(),
        _ => vec![("EXAMPLES", examples)],
    }
}

/// Writes them, and where to read on.
pub fn write(out: &mut impl Write, verb: Option<&str>) -> io::Result<()> {
    writeln!(out, ".SH EXIT STATUS")?;
    for text in statuses::paragraphs(verb) {
        writeln!(out, ".PP\n{}", escaped(&text))?;
    }
    for (heading, paragraphs) in of(verb) {
        writeln!(out, ".SH {heading}")?;
        for text in paragraphs {
            writeln!(out, ".PP\n{}", escaped(text))?;
        }
    }
    let more = match verb {
        None => "corten\\-VERB(1) for each command, runc(8), crun(1)",
        Some(_) => "corten(1)",
    };
    writeln!(out, ".SH SEE ALSO\n.PP\n{more}")
}

/// For roff: a dash is one that can be copied, and a dot or a quote at the start is no request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request() {
        assert_eq!(escaped(".hidden --x"), "\\&.hidden \\-\\-x");
        assert_eq!(escaped("a\\b"), "a\\eb");
    }

    #[test]
    fn every_example_is_of_a_verb() {
        let command = corten::cli::whole();
        for verb in ["create", "exec", "kill", "run", "spec", "update"] {
            assert!(command.find_subcommand(verb).is_some(), "{verb}");
            let mut page = Vec::new();
            write(&mut page, Some(verb)).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(page.contains(&format!("corten {verb}")), "{page}");
        }
    }
}
