// SPDX-License-Identifier: Apache-2.0
//! What is asked of CRIU and what it answers: the fields that are used of `criu_req` and `criu_resp`, by the numbers of
//! CRIU's images/rpc.proto. Pure.

use super::wire::{Reader, Value, Writer};
use crate::error::Result;

/// What is asked for, and what an answer is about (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Write down processes, whole.
    Dump = 1,
    /// Make them of what was written down.
    Restore = 2,
    /// Write down their memory, and let them go on.
    PreDump = 4,
    /// CRIU's own questions on the way.
    Notify = 6,
    /// What this CRIU and this kernel can do together.
    FeatureCheck = 9,
    /// Which CRIU this is.
    Version = 10,
}

/// What becomes of cgroups that processes were in below the container's own (`criu_cg_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Nothing is done about cgroups.
    Ignore = 0,
    /// They are made where they are missing, and what CRIU made has its settings.
    Soft = 3,
    /// They have their settings, whoever made them.
    Full = 4,
    /// They have to be there, and have theirs.
    Strict = 5,
    /// CRIU's own choice.
    #[default]
    Default = 6,
}

/// A pair of names, as mounts, descriptors, namespaces and cgroup roots have it.
pub type Pair = (String, String);

/// `criu_opts`, the fields that are used. What is false, `None` or empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The number that the directory of the images has in the asking process.
    pub images_dir: i32,
    /// The same of the one for logs.
    pub work_dir: Option<i32>,
    /// The first process of those to dump.
    pub pid: Option<i32>,
    /// See checkpoint's and restore's flags for those of the same name.
    pub leave_running: bool,
    /// Likewise.
    pub ext_unix_sk: bool,
    /// Likewise.
    pub tcp_established: bool,
    /// Likewise.
    pub tcp_skip_in_flight: bool,
    /// Likewise.
    pub shell_job: bool,
    /// Likewise.
    pub file_locks: bool,
    /// Likewise.
    pub auto_dedup: bool,
    /// Likewise.
    pub lazy_pages: bool,
    /// Devices that can't be opened by their path are, by another.
    pub evasive_devices: bool,
    /// The log's name in the directory for logs.
    pub log_file: &'static str,
    /// Where memory goes instead of the images.
    pub page_server: Option<(String, u16)>,
    /// The container's root directory, on restore.
    pub root: Option<String>,
    /// The directory of the images before these, from these.
    pub parent_images: Option<String>,
    /// Remember what changes from here on.
    pub track_memory: bool,
    /// What is mounted from outside: (mount, name) on dump, (name, source) on restore.
    pub mounts: Vec<Pair>,
    /// Which cgroups take the place of those that the dump's are below: (controller, path).
    pub cgroup_roots: Vec<Pair>,
    /// Restored processes are the asking one's children, not CRIU's.
    pub siblings: bool,
    /// Descriptors of CRIU's own that take the place of what was open: (name, number).
    pub descriptors: Vec<(String, i32)>,
    /// See the flag.
    pub cgroups_mode: CgroupsMode,
    /// What else is from outside.
    pub external: Vec<String>,
    /// Namespaces that are made with nothing in them, as the bits of clone(2).
    pub empty_namespaces: u32,
    /// Namespaces that are joined: (kind, path).
    pub joined_namespaces: Vec<Pair>,
    /// The cgroup whose freezer stops the processes.
    pub freezer: Option<String>,
    /// A terminal whose master is outside is handed over.
    pub orphan_pts_master: bool,
    /// Options in a file, which outweigh these.
    pub config_file: Option<String>,
    /// The directory with the host's cgroups, one entry for each hierarchy, which CRIU mounts otherwise.
    pub cgroup_yard: Option<String>,
    /// The LSM profile, instead of the one that was dumped.
    pub lsm_profile: Option<String>,
    /// The same of mounts.
    pub lsm_mount_context: Option<String>,
}

/// A request.
pub fn request(ask: Ask, options: Option<&Options>) -> Vec<u8> {
    let mut request = Writer::default();
    request.number(1, ask as u64);
    if let Some(options) = options {
        request.bytes(2, &options.encode());
    }
    request.finish()
}

/// The question which of these features there are.
pub fn feature_request(feature: Feature) -> Vec<u8> {
    let mut features = Writer::default();
    features.switch(feature as u32, true);
    let mut request = Writer::default();
    request.number(1, Ask::FeatureCheck as u64);
    request.bytes(5, &features.finish());
    request.finish()
}

/// The answer to a question of CRIU's.
pub fn reply(is_done: bool) -> Vec<u8> {
    let mut request = Writer::default();
    request.number(1, Ask::Notify as u64);
    request.number(3, is_done.into());
    request.finish()
}

/// `criu_features`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The kernel tells which memory has changed.
    MemoryTracking = 1,
    /// Memory can be restored when it is used.
    LazyPages = 2,
}

/// The lines that CRIU logs: those of level 4 are its debug messages.
const LOG_LEVEL: u64 = 4;

impl Options {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        let text = |out: &mut Writer, field, text: &Option<String>| {
            if let Some(text) = text {
                out.bytes(field, text.as_bytes());
            }
        };
        out.signed(1, self.images_dir);
        if let Some(pid) = self.pid {
            out.signed(2, pid);
        }
        out.switch(3, self.leave_running);
        out.switch(4, self.ext_unix_sk);
        out.switch(5, self.tcp_established);
        out.switch(6, self.evasive_devices);
        out.switch(7, self.shell_job);
        out.switch(8, self.file_locks);
        out.number(9, LOG_LEVEL);
        out.bytes(10, self.log_file.as_bytes());
        if let Some((address, port)) = &self.page_server {
            let mut server = Writer::default();
            server.bytes(1, address.as_bytes());
            server.number(2, (*port).into());
            out.bytes(11, &server.finish());
        }
        // Without it there are no questions on the way.
        out.switch(12, true);
        text(&mut out, 13, &self.root);
        text(&mut out, 14, &self.parent_images);
        out.switch(15, self.track_memory);
        out.switch(16, self.auto_dedup);
        if let Some(work_dir) = self.work_dir {
            out.signed(17, work_dir);
        }
        out.pairs(23, &self.mounts);
        out.pairs(25, &self.cgroup_roots);
        out.switch(26, self.siblings);
        for (name, number) in &self.descriptors {
            let mut inherited = Writer::default();
            inherited.bytes(1, name.as_bytes());
            inherited.signed(2, *number);
            out.bytes(27, &inherited.finish());
        }
        out.number(34, self.cgroups_mode as u64);
        for external in &self.external {
            out.bytes(37, external.as_bytes());
        }
        if self.empty_namespaces != 0 {
            out.number(38, self.empty_namespaces.into());
        }
        out.pairs(39, &self.joined_namespaces);
        text(&mut out, 44, &self.freezer);
        out.switch(46, self.tcp_skip_in_flight);
        out.switch(48, self.lazy_pages);
        out.switch(50, self.orphan_pts_master);
        text(&mut out, 51, &self.config_file);
        text(&mut out, 53, &self.lsm_profile);
        text(&mut out, 60, &self.cgroup_yard);
        text(&mut out, 63, &self.lsm_mount_context);
        out.finish()
    }
}

impl Writer {
    fn pairs(&mut self, field: u32, pairs: &[Pair]) {
        for (first, second) in pairs {
            let mut pair = Self::default();
            pair.bytes(1, first.as_bytes());
            pair.bytes(2, second.as_bytes());
            self.bytes(field, &pair.finish());
        }
    }
}

/// `criu_resp`, the fields that are used.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is about, by the number of an [`Ask`].
    pub about: u64,
    /// Whether it was done.
    pub is_done: bool,
    /// The first process of those that were restored.
    pub pid: Option<i32>,
    /// What CRIU asks for on the way, if that is what this is about: `setup-namespaces`, `post-restore` …
    pub script: String,
    /// errno of what went wrong, where CRIU has one for it.
    pub errno: Option<i32>,
    /// What went wrong first.
    pub message: String,
    /// Which features there are.
    pub features: Vec<u64>,
    /// Major and minor version, and the one below.
    pub version: [u64; 3],
}

impl Answer {
    /// Reads one. Fields that it lacks stay empty. Public for the fuzzer.
    #[doc(hidden)]
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut answer = Self::default();
        each(bytes, |field, value| {
            match field {
                1 => answer.about = number(value),
                2 => answer.is_done = value.is_on(),
                4 => each(value.bytes(), |field, value| {
                    if field == 1 {
                        answer.pid = value.signed();
                    }
                    Ok(())
                })?,
                5 => each(value.bytes(), |field, value| {
                    match field {
                        1 => answer.script = value.text(),
                        2 => answer.pid = value.signed(),
                        _ => {}
                    }
                    Ok(())
                })?,
                7 => answer.errno = value.signed(),
                8 => each(value.bytes(), |field, value| {
                    if value.is_on() {
                        answer.features.push(field);
                    }
                    Ok(())
                })?,
                9 => answer.message = value.text(),
                10 => each(value.bytes(), |field, value| {
                    match field {
                        1 => answer.version[0] = number(value),
                        2 => answer.version[1] = number(value),
                        4 => answer.version[2] = number(value),
                        _ => {}
                    }
                    Ok(())
                })?,
                // Of a newer CRIU, or of no interest.
                _ => {}
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

fn number(value: Value<'_>) -> u64 {
    match value {
        Value::Number(number) => number,
        Value::Bytes(_) => 0,
    }
}

fn each(bytes: &[u8], mut take: impl FnMut(u64, Value<'_>) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.field()? {
        take(field, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are those that CRIU's own pycriu writes of the same fields.
    #[test]
    fn requests() {
        assert_eq!(request(Ask::Version, None), b"\x08\x0a");
        assert_eq!(reply(true), b"\x08\x06\x18\x01");
        assert_eq!(reply(false), b"\x08\x06\x18\x00");
        assert_eq!(
            feature_request(Feature::LazyPages),
            b"\x08\x09\x2a\x02\x10\x01"
        );
        let options = Options {
            images_dir: 5,
            pid: Some(300),
            log_file: "dump.log",
            leave_running: true,
            mounts: vec![("/a".into(), "/b".into())],
            ..Options::default()
        };
        let wanted = b"\x08\x01\x12#\x08\x05\x10\xac\x02\x18\x01H\x04R\x08dump.log`\x01\
            \xba\x01\x08\x0a\x02/a\x12\x02/b\x90\x02\x06";
        assert_eq!(request(Ask::Dump, Some(&options)), wanted);
    }

    /// Every field that the first message lacks; the bytes are pycriu's.
    #[test]
    fn every_option_has_its_number() {
        let text = |text: &str| Some(text.to_owned());
        let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
        let options = Options {
            images_dir: 5,
            work_dir: Some(-1),
            pid: None,
            leave_running: false,
            ext_unix_sk: true,
            tcp_established: true,
            tcp_skip_in_flight: true,
            shell_job: true,
            file_locks: true,
            auto_dedup: true,
            lazy_pages: true,
            evasive_devices: true,
            log_file: "r",
            page_server: Some(("::1".into(), 65535)),
            root: text("/r"),
            parent_images: text("../p"),
            track_memory: true,
            mounts: Vec::new(),
            cgroup_roots: pair("", "/c"),
            siblings: true,
            descriptors: vec![("pipe:[1]".into(), 0)],
            cgroups_mode: CgroupsMode::Ignore,
            external: vec!["net[7]:n".into()],
            empty_namespaces: 0x4000_0000,
            joined_namespaces: pair("ipc", "/n"),
            freezer: text("/f"),
            orphan_pts_master: true,
            config_file: text("/e"),
            lsm_profile: text("l"),
            cgroup_yard: text("y"),
            lsm_mount_context: text("m"),
        };
        let wanted = "080212940108052001280130013801400148045201725a090a033a3a3110ffff0360016a022f7272042e2e2f7078\
                      018001018801ffffffffffffffffff01ca01060a0012022f63d00101da010c0a08706970653a5b315d1000900200\
                      aa02086e65745b375d3a6eb0028080808004ba02090a0369706312022f6ee202022f66f002018003019003019a03\
                      022f65aa03016ce2030179fa03016d";
        let written = request(Ask::Restore, Some(&options));
        let written: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, wanted);
    }

    #[test]
    fn answers() {
        let answer = |bytes: &[u8]| Answer::decode(bytes).unwrap();
        let restored = Answer {
            about: 2,
            is_done: true,
            pid: Some(300),
            ..Answer::default()
        };
        assert_eq!(answer(b"\x08\x02\x10\x01\x22\x03\x08\xac\x02"), restored);
        let asked = Answer {
            about: 6,
            is_done: true,
            script: "post-restore".into(),
            pid: Some(7),
            ..Answer::default()
        };
        let bytes = b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x07";
        assert_eq!(answer(bytes), asked);
        let failed = Answer {
            about: 1,
            errno: Some(17),
            message: "no".into(),
            ..Answer::default()
        };
        assert_eq!(answer(b"\x08\x01\x10\x00\x38\x11\x4a\x02no"), failed);
        let version = answer(b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01");
        assert_eq!(version.version, [4, 2, 1]);
        let features = answer(b"\x08\x09\x10\x01\x42\x04\x08\x00\x10\x01");
        assert_eq!(features.features, [2]);
        // Fields that are not known are passed over.
        assert_eq!(answer(b"\x08\x02\x98\x06\x05\x10\x01").about, 2);
    }

    #[test]
    fn damaged_answers_are_errors_or_read() {
        let whole = b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x07\x4a\x02no";
        for at in 0..whole.len() {
            // Never a panic; whether it is an error depends on where the cut is.
            let _ = Answer::decode(&whole[..at]);
            for bit in 0..8 {
                let mut damaged = whole.to_vec();
                damaged[at] ^= 1 << bit;
                let _ = Answer::decode(&damaged);
            }
        }
        assert!(Answer::decode(&whole[..9]).is_err());
    }
}
