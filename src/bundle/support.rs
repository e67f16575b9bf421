// SPDX-License-Identifier: Apache-2.0
//! Every field of config.json and what this build does with it: the one table behind "unknown field", "not supported yet"
//! and "ignored". A field that is not here is unknown; the types in `spec/` and this table are held together by a test.
//! Pure data, walked by `scan.rs`.

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// Text that reaches the kernel.
    Text,
    /// Text that stays with us.
    Free,
    /// A whole number.
    Number,
    /// true or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with fields of the spec.
    Object(&'static [Field]),
    /// An array.
    List(&'static Shape),
    /// An object with keys of the caller's.
    Map(&'static Shape),
    /// Another platform's; not looked into.
    Foreign,
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is carried out.
    Yes,
    /// A document that sets it is refused, for this reason.
    Refused(&'static str),
    /// It changes nothing, for this reason; the log says so.
    Ignored(&'static str),
}

/// A field of the spec.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub shape: Shape,
    /// What is done with it.
    pub support: Support,
}

const fn yes(name: &'static str, shape: Shape) -> Field {
    let support = Support::Yes;
    Field {
        name,
        shape,
        support,
    }
}

const fn refused(name: &'static str, shape: Shape, why: &'static str) -> Field {
    let support = Support::Refused(why);
    Field {
        name,
        shape,
        support,
    }
}

const fn ignored(name: &'static str, shape: Shape, why: &'static str) -> Field {
    let support = Support::Ignored(why);
    Field {
        name,
        shape,
        support,
    }
}

impl Shape {
    /// What a JSON pointer's next part leads to; `*` stands for every item of a list or a map.
    fn below(&'static self, part: &str) -> Option<(&'static Self, Support)> {
        match self {
            Self::Object(fields) => {
                let field = fields.iter().find(|field| field.name == part)?;
                Some((&field.shape, field.support))
            }
            Self::List(item) | Self::Map(item) => (part == "*").then_some((*item, Support::Yes)),
            _ => None,
        }
    }
}

/// What is done with the field at `pointer`, where `*` stands for every item: what is said of it, or of the first that it
/// stands in and that is not carried out. `None` where there is no such field.
pub fn of(pointer: &str) -> Option<Support> {
    let mut place = &CONFIG;
    let mut support = Support::Yes;
    for part in pointer.split('/').skip(1) {
        let (below, here) = place.below(part)?;
        place = below;
        if support == Support::Yes {
            support = here;
        }
    }
    Some(support)
}

/// The words that the field at `pointer` may be; none for a field that is no such thing.
pub fn words(pointer: &str) -> &'static [&'static str] {
    let mut parts = pointer.split('/').skip(1);
    let place = parts.try_fold(&CONFIG, |place, part| Some(place.below(part)?.0));
    match place {
        Some(Shape::Word(words)) => words,
        _ => &[],
    }
}

use Shape::{Flag, Foreign, Free, List, Map, Number, Object, Text, Word};

const TEXTS: Shape = List(&Text);
const WINDOWS: &str = "it means something on Windows only";

/// config.json.
pub static CONFIG: Shape = Object(&[
    yes("ociVersion", Text),
    yes("process", Object(PROCESS_FIELDS)),
    yes("root", Object(&[yes("path", Text), yes("readonly", Flag)])),
    yes("hostname", Text),
    yes("domainname", Text),
    yes("mounts", List(&Object(MOUNT))),
    yes("hooks", Object(HOOKS)),
    yes("annotations", Map(&Free)),
    yes("linux", Object(LINUX)),
    ignored("freebsd", Foreign, "it means something on FreeBSD only"),
    ignored("solaris", Foreign, "it means something on Solaris only"),
    ignored("windows", Foreign, WINDOWS),
    ignored("zos", Foreign, "it means something on z/OS only"),
    refused("vm", Foreign, "virtual machines are not supported"),
]);

/// The document of `exec --process`.
pub static PROCESS: Shape = Object(PROCESS_FIELDS);

/// The document of `update`.
pub static LIMITS: Shape = Object(RESOURCES);

/// A seccomp profile by itself.
pub static PROFILE: Shape = Object(SECCOMP);

static PROCESS_FIELDS: &[Field] = &[
    yes("terminal", Flag),
    yes(
        "consoleSize",
        Object(&[yes("height", Number), yes("width", Number)]),
    ),
    yes("user", Object(USER)),
    yes("args", TEXTS),
    ignored("commandLine", Free, WINDOWS),
    yes("env", TEXTS),
    yes("cwd", Text),
    yes("capabilities", Object(CAPABILITIES)),
    yes("rlimits", List(&Object(RLIMIT))),
    yes("noNewPrivileges", Flag),
    yes("apparmorProfile", Text),
    yes("oomScoreAdj", Number),
    yes("scheduler", Object(SCHEDULER)),
    yes("selinuxLabel", Text),
    yes("ioPriority", Object(IO_PRIORITY)),
    yes(
        "execCPUAffinity",
        Object(&[yes("initial", Text), yes("final", Text)]),
    ),
];

static USER: &[Field] = &[
    yes("uid", Number),
    yes("gid", Number),
    yes("umask", Number),
    yes("additionalGids", List(&Number)),
    ignored("username", Free, WINDOWS),
];

static CAPABILITIES: &[Field] = &[
    yes("bounding", TEXTS),
    yes("effective", TEXTS),
    yes("inheritable", TEXTS),
    yes("permitted", TEXTS),
    yes("ambient", TEXTS),
];

static RLIMIT: &[Field] = &[yes("type", Text), yes("hard", Number), yes("soft", Number)];

static SCHEDULER: &[Field] = &[
    yes(
        "policy",
        Word(&[
            "SCHED_OTHER",
            "SCHED_FIFO",
            "SCHED_RR",
            "SCHED_BATCH",
            "SCHED_ISO",
            "SCHED_IDLE",
            "SCHED_DEADLINE",
        ]),
    ),
    yes("nice", Number),
    yes("priority", Number),
    yes("flags", TEXTS),
    yes("runtime", Number),
    yes("deadline", Number),
    yes("period", Number),
];

static IO_PRIORITY: &[Field] = &[
    yes(
        "class",
        Word(&["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]),
    ),
    yes("priority", Number),
];

static MOUNT: &[Field] = &[
    yes("destination", Text),
    yes("type", Text),
    yes("source", Text),
    yes("options", TEXTS),
    yes("uidMappings", ID_MAPPINGS),
    yes("gidMappings", ID_MAPPINGS),
];

const ID_MAPPINGS: Shape = List(&Object(&[
    yes("containerID", Number),
    yes("hostID", Number),
    yes("size", Number),
]));

static HOOKS: &[Field] = &[
    yes("prestart", HOOK_LIST),
    yes("createRuntime", HOOK_LIST),
    yes("createContainer", HOOK_LIST),
    yes("startContainer", HOOK_LIST),
    yes("poststart", HOOK_LIST),
    yes("poststop", HOOK_LIST),
];

const HOOK_LIST: Shape = List(&Object(&[
    yes("path", Text),
    yes("args", TEXTS),
    yes("env", TEXTS),
    yes("timeout", Number),
]));

static LINUX: &[Field] = &[
    yes("uidMappings", ID_MAPPINGS),
    yes("gidMappings", ID_MAPPINGS),
    yes("sysctl", Map(&Text)),
    yes("resources", Object(RESOURCES)),
    yes("cgroupsPath", Text),
    yes("namespaces", List(&Object(NAMESPACE))),
    yes("devices", List(&Object(DEVICE))),
    yes("netDevices", Map(&Object(&[yes("name", Text)]))),
    yes("seccomp", Object(SECCOMP)),
    yes("rootfsPropagation", Text),
    yes("maskedPaths", TEXTS),
    yes("readonlyPaths", TEXTS),
    yes("mountLabel", Text),
    yes("intelRdt", Object(INTEL_RDT)),
    yes("memoryPolicy", Object(MEMORY_POLICY)),
    yes("personality", Object(PERSONALITY)),
    yes(
        "timeOffsets",
        Map(&Object(&[yes("secs", Number), yes("nanosecs", Number)])),
    ),
];

static NAMESPACE: &[Field] = &[
    yes(
        "type",
        Word(&[
            "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
        ]),
    ),
    yes("path", Text),
];

static DEVICE: &[Field] = &[
    yes("path", Text),
    yes("type", Word(&["b", "c", "u", "p"])),
    yes("major", Number),
    yes("minor", Number),
    yes("fileMode", Number),
    yes("uid", Number),
    yes("gid", Number),
];

static PERSONALITY: &[Field] = &[
    yes("domain", Word(&["LINUX", "LINUX32"])),
    yes("flags", TEXTS),
];

static INTEL_RDT: &[Field] = &[
    yes("closID", Text),
    yes("schemata", TEXTS),
    yes("l3CacheSchema", Text),
    yes("memBwSchema", Text),
    yes("enableCMT", Flag),
    yes("enableMBM", Flag),
    yes("enableMonitoring", Flag),
];

static MEMORY_POLICY: &[Field] = &[yes("mode", Text), yes("nodes", Text), yes("flags", TEXTS)];

static SECCOMP: &[Field] = &[
    yes("defaultAction", Text),
    yes("defaultErrnoRet", Number),
    yes("architectures", TEXTS),
    yes("flags", TEXTS),
    yes("listenerPath", Text),
    yes("listenerMetadata", Free),
    yes("syscalls", List(&Object(SYSCALL))),
];

static SYSCALL: &[Field] = &[
    yes("names", TEXTS),
    yes("action", Text),
    yes("errnoRet", Number),
    yes("args", List(&Object(SECCOMP_ARG))),
];

static SECCOMP_ARG: &[Field] = &[
    yes("index", Number),
    yes("value", Number),
    yes("valueTwo", Number),
    yes("op", Text),
];

static RESOURCES: &[Field] = &[
    yes("devices", List(&Object(DEVICE_RULE))),
    yes("memory", Object(MEMORY)),
    yes("cpu", Object(CPU)),
    yes("pids", Object(&[yes("limit", Number)])),
    yes("blockIO", Object(BLOCK_IO)),
    yes(
        "hugepageLimits",
        List(&Object(&[yes("pageSize", Text), yes("limit", Number)])),
    ),
    yes("network", Object(NETWORK)),
    yes(
        "rdma",
        Map(&Object(&[
            yes("hcaHandles", Number),
            yes("hcaObjects", Number),
        ])),
    ),
    yes("unified", Map(&Text)),
];

static DEVICE_RULE: &[Field] = &[
    yes("allow", Flag),
    yes("type", Word(&["a", "b", "c"])),
    yes("major", Number),
    yes("minor", Number),
    yes("access", Text),
];

static MEMORY: &[Field] = &[
    yes("limit", Number),
    yes("reservation", Number),
    yes("swap", Number),
    yes("kernel", Number),
    yes("kernelTCP", Number),
    yes("swappiness", Number),
    yes("disableOOMKiller", Flag),
    yes("useHierarchy", Flag),
    yes("checkBeforeUpdate", Flag),
];

static CPU: &[Field] = &[
    yes("shares", Number),
    yes("quota", Number),
    yes("burst", Number),
    yes("period", Number),
    yes("realtimeRuntime", Number),
    yes("realtimePeriod", Number),
    yes("cpus", Text),
    yes("mems", Text),
    yes("idle", Number),
];

static BLOCK_IO: &[Field] = &[
    yes("weight", Number),
    yes("leafWeight", Number),
    yes("weightDevice", List(&Object(WEIGHT_DEVICE))),
    yes("throttleReadBpsDevice", THROTTLES),
    yes("throttleWriteBpsDevice", THROTTLES),
    yes("throttleReadIOPSDevice", THROTTLES),
    yes("throttleWriteIOPSDevice", THROTTLES),
];

static WEIGHT_DEVICE: &[Field] = &[
    yes("major", Number),
    yes("minor", Number),
    yes("weight", Number),
    yes("leafWeight", Number),
];

const THROTTLES: Shape = List(&Object(&[
    yes("major", Number),
    yes("minor", Number),
    yes("rate", Number),
]));

static NETWORK: &[Field] = &[
    yes("classID", Number),
    yes(
        "priorities",
        List(&Object(&[yes("name", Text), yes("priority", Number)])),
    ),
];
