// SPDX-License-Identifier: Apache-2.0
//! QEMU's monitor (QMP): one JSON object per line over a unix socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Context, Failure, Result};

/// How long QEMU may take for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects; `None` where nobody listens any more.
    pub fn connect(path: &Path) -> Result<Option<Self>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context(|| format!("connect to {}", path.display())),
        };
        stream
            .set_read_timeout(Some(PATIENCE))
            .context(|| "set a timeout".into())?;
        let mut monitor = Self {
            lines: BufReader::new(stream),
        };
        // The greeting.
        monitor.object()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(Some(monitor))
    }

    /// Executes a command and hands back what it returns.
    fn execute(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        self.send(name, arguments)?;
        loop {
            let mut object = self.object()?;
            if object["error"].is_object() {
                return Err(Failure::new(format!("QEMU's {name}: {}", object["error"])));
            }
            // What comes else are events.
            if let Some(answer) = object.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    fn send(&mut self, name: &str, arguments: &Value) -> Result<()> {
        let command = json!({"execute": name, "arguments": arguments});
        writeln!(self.lines.get_mut(), "{command}").context(|| format!("tell QEMU {name}"))
    }

    fn object(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .context(|| "read QEMU's answer".into())?;
        serde_json::from_str(&line).context(|| format!("read QEMU's answer {line:?}"))
    }

    /// The host's port that leads to the guest's port 22.
    pub fn port(&mut self) -> Result<u16> {
        let arguments = json!({"command-line": "info usernet"});
        let answer = self.execute("human-monitor-command", &arguments)?;
        forwarded(answer.as_str().unwrap_or_default())
            .ok_or_else(|| Failure::new(format!("QEMU forwards no port: {answer}")))
    }

    /// Ends QEMU, and waits until it is gone.
    pub fn quit(mut self) -> Result<()> {
        self.send("quit", &json!({}))?;
        let mut rest = Vec::new();
        match self.lines.read_to_end(&mut rest) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error).context(|| "wait for QEMU's end".into()),
        }
    }
}

/// The host's port in `info usernet`: "TCP[HOST_FORWARD]  12  127.0.0.1 42831  10.0.2.15  22  0  0".
fn forwarded(table: &str) -> Option<u16> {
    let row = table.lines().find(|line| line.contains("[HOST_FORWARD]"))?;
    row.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_qemus_table() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[HOST_FORWARD]  12       127.0.0.1 42831       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded(table), Some(42831));
        assert_eq!(forwarded("Hub -1 (net):\r\n"), None);
    }
}
