// SPDX-License-Identifier: Apache-2.0
//! What is known of a container's end: a record of an event, not a status, which is looked up all the same. Written once,
//! by whoever learns first how init has ended, and gone with the container.
//!
//! The runtime's own process, the caller's privileges. Called by `wait` and by `run --keep`; `state` shows it.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use corten_sys::process::Exit;
use serde::{Deserialize, Serialize};

use super::record::Phase;
use super::{Container, INTENT, Lock, POST_MORTEM, TEMPORARY, file, time};
use crate::cgroup::{LastMemory, OomLevel};
use crate::error::{Context, Error, Kind, Result};

/// What is known; what is not is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostMortem {
    /// The status that init ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// Whether any process was killed for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_killed: Option<bool>,
    /// How many were.
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_kills: Option<u64>,
    /// How often all of a cgroup were, since one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_group_kills: Option<u64>,
    /// Whose memory had run out.
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_level: Option<OomLevel>,
    /// The most that was used at once, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak: Option<u64>,
    /// When the program was started: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<String>,
}

impl PostMortem {
    /// Of an init that has ended so, at a time that is known where somebody was there to see it.
    pub fn new(exit: Exit, finished: Option<Duration>) -> Self {
        let (exit_code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        Self {
            exit_code,
            signal,
            finished: finished.map(time::nanoseconds),
            ..Self::default()
        }
    }

    /// With what the cgroup has counted.
    pub fn with_memory(self, memory: LastMemory) -> Self {
        Self {
            oom_killed: memory.kills.map(|kills| kills > 0),
            oom_kills: memory.kills,
            oom_group_kills: memory.group_kills,
            oom_level: memory.level,
            memory_peak: memory.peak,
            ..self
        }
    }

    /// How init has ended.
    pub fn exit(&self) -> Option<Exit> {
        match (self.exit_code, self.signal) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, signal) => signal.map(Exit::Signal),
        }
    }
}

impl Container {
    /// What is known of its end, if anybody has learned it.
    pub fn post_mortem(&self) -> Result<Option<PostMortem>> {
        let path = self.directory().join(POST_MORTEM);
        let what = || format!("read the post-mortem of container {}", self.id());
        let Some(bytes) = file::read(&path).with_context(what)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes).map_err(|error| {
            let text = format!("{} is damaged: {error}", path.display());
            Error::new(Kind::System, text).remedy("remove the file")
        });
        read.map(Some).with_context(what)
    }

    /// Keeps `found`, to which it adds when the program was started; the first that is kept stays.
    pub fn keep_post_mortem(&self, mut found: PostMortem, _lock: &Lock) -> Result<()> {
        let what = || format!("write the post-mortem of container {}", self.id());
        let path = self.directory().join(POST_MORTEM);
        if path.exists() {
            return Ok(());
        }
        found.started = self.started().with_context(what)?;
        let bytes = serde_json::to_vec(&found)
            .map_err(|error| Error::new(Kind::System, error.to_string()).context(what()))?;
        file::replace(&path, &self.directory().join(TEMPORARY), &bytes).with_context(what)
    }

    /// When its program was started: `run` writes it down, `start` dates the intent anew, before it removes the gate.
    fn started(&self) -> Result<Option<String>> {
        let record = self.record();
        if record.started.is_some() {
            return Ok(record.started.clone());
        }
        if record.phase != Phase::Made || self.gate_path().exists() {
            return Ok(None);
        }
        let path = self.directory().join(INTENT);
        let dated =
            std::fs::metadata(&path).map_err(|error| file::failed("stat", &path, &error))?;
        let seconds = u64::try_from(dated.mtime()).unwrap_or_default();
        let nanoseconds = u32::try_from(dated.mtime_nsec()).unwrap_or_default();
        let moment = Duration::new(seconds, nanoseconds);
        Ok(Some(time::nanoseconds(moment)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent() {
        let text = |found: &PostMortem| serde_json::to_string(found).unwrap();
        let bare = PostMortem::new(Exit::Code(0), None);
        assert_eq!(text(&bare), r#"{"exitCode":0}"#);
        let killed = PostMortem::new(Exit::Signal(9), Some(Duration::from_secs(1)));
        let killed = killed.with_memory(LastMemory {
            kills: Some(2),
            group_kills: Some(1),
            level: Some(OomLevel::Container),
            peak: Some(4096),
        });
        assert_eq!(
            text(&killed),
            r#"{"signal":9,"oomKilled":true,"oomKills":2,"oomGroupKills":1,"oomLevel":"container","memoryPeak":4096,"finished":"1970-01-01T00:00:01Z"}"#
        );
        for found in [bare, killed] {
            let again: PostMortem = serde_json::from_str(&text(&found)).unwrap();
            assert_eq!(again, found);
            assert!(again.exit().is_some());
        }
    }
}
