// SPDX-License-Identifier: Apache-2.0
//! Files as kernels write them, and what becomes of them.

use serde_json::{Value, json};

use super::*;
use crate::json::Json;

fn shown(json: &Json<'_>) -> Value {
    serde_json::from_str(&json.compact()).unwrap()
}

/// Linux 6.12, with a quota.
const CPU_STAT: &str = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\n\
    core_sched.force_idle_usec 0\nnr_periods 17\nnr_throttled 3\nthrottled_usec 4500\nnr_bursts 0\nburst_usec 0\n";

#[test]
fn time_is_told_in_nanoseconds() {
    let cpu = unified::cpu_of(CPU_STAT);
    assert_eq!(
        shown(&cpu.json()),
        json!({
            "usage": {"total": 1_234_567_000_u64, "kernel": 234_567_000, "user": 1_000_000_000},
            "throttling": {"periods": 17, "throttledPeriods": 3, "throttledTime": 4_500_000},
        })
    );
    let nothing = json!({"usage": {"kernel": 0, "user": 0}, "throttling": {}});
    assert_eq!(shown(&unified::cpu_of("").json()), nothing);
}

#[test]
fn pressure_has_two_lines_or_none() {
    let text = "some avg10=1.50 avg60=0.00 avg300=96.03 total=7141590277\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(
        shown(&Pressure::parse(text).unwrap().json()),
        json!({
            "some": {"avg10": 1.5, "avg60": 0, "avg300": 96.03, "total": 7_141_590_277_u64},
            "full": {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0},
        })
    );
    assert_eq!(Pressure::parse(""), None);
    assert_eq!(Pressure::parse("some avg10=x"), None);
}

#[test]
fn devices_of_v2_are_told_in_the_tables_of_v1() {
    let stat =
        "253:2 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n8:16 rbytes=1\nodd\n";
    let io = |major: u64, minor: u64, op: &str, value: u64| json!({"major": major, "minor": minor, "op": op, "value": value});
    assert_eq!(
        shown(&unified::blkio_of(stat).json()),
        json!({
            "ioServiceBytesRecursive": [io(253, 2, "Read", 4096), io(253, 2, "Write", 8192), io(8, 16, "Read", 1)],
            "ioServicedRecursive": [io(253, 2, "Read", 1), io(253, 2, "Write", 2)],
        })
    );
    assert_eq!(shown(&unified::blkio_of("").json()), json!({}));
}

#[test]
fn devices_of_v1_have_lines_by_operation() {
    let text =
        "8:0 Read 1282048\n8:0 Write 2195456\n8:0 Discard 0\n8:0 Total 3477504\nTotal 3477504\n";
    let found = parse::by_device(text);
    let ops: Vec<_> = found.iter().map(|io| (io.op.as_str(), io.value)).collect();
    let wanted = [
        ("Read", 1_282_048),
        ("Write", 2_195_456),
        ("Discard", 0),
        ("Total", 3_477_504),
    ];
    assert_eq!(ops, wanted);
    let sectors = parse::by_device("8:0 6792\n");
    assert_eq!(
        shown(&sectors[0].json()),
        json!({"major": 8, "value": 6792})
    );
    assert_eq!(parse::by_device("Total 0\n"), []);
}

#[test]
fn swap_is_counted_with_memory() {
    let amount = |limit, usage| Amount {
        limit,
        usage,
        max: 7,
        failcnt: 0,
    };
    for (memory, swap, limit, usage) in [
        (amount(100, 10), amount(50, 5), 150, 15),
        (amount(100, 10), amount(u64::MAX, 5), u64::MAX, 15),
        (amount(u64::MAX, 10), amount(50, 0), u64::MAX, 10),
        (amount(100, 10), Amount::default(), 100, 10),
    ] {
        let both = unified::with_swap(&memory, swap);
        assert_eq!((both.limit, both.usage, both.max), (limit, usage, 0));
    }
}

#[test]
fn numbers_are_read_as_they_are_told() {
    for (text, wanted) in [
        ("42\n", 42),
        ("max\n", u64::MAX),
        ("-1\n", 0),
        ("", 0),
        ("9223372036854771712\n", 9_223_372_036_854_771_712),
    ] {
        assert_eq!(parse::number(text), wanted, "{text:?}");
    }
    assert_eq!(parse::of_key("low 0\noom 2\noom_kill 1\n", "oom_kill"), 1);
    assert_eq!(parse::of_key("oom_kill_disable 0\n", "oom_kill"), 0);
    assert_eq!(v1::set("0-2,5\n"), [0, 1, 2, 5]);
    assert_eq!(v1::set("\n"), [0; 0]);
    let (kernel, user) = v1::by_mode("cpu user system\n0 10 20\n1 30 40\n");
    assert_eq!((kernel, user), (vec![20, 40], vec![10, 30]));
}

#[test]
fn huge_pages_have_their_files_names() {
    for (name, wanted) in [
        ("hugepages-2048kB", Some("2MB")),
        ("hugepages-1048576kB", Some("1GB")),
        ("hugepages-64kB", Some("64KB")),
        ("hugepages-0kB", None),
        ("hugepages-kB", None),
        ("other", None),
    ] {
        assert_eq!(parse::page_size(name).as_deref(), wanted, "{name}");
    }
}

#[test]
fn what_is_not_counted_is_left_out_or_zero_as_runc_has_it() {
    let zeros = r#""limit":0,"failcnt":0"#;
    let memory = format!(
        "{{\"usage\":{{{zeros}}},\"swap\":{{{zeros}}},\"kernel\":{{{zeros}}},\"kernelTCP\":{{{zeros}}}}}"
    );
    let stats = Stats::default();
    let cases = [
        (
            stats.cpu.json(),
            r#"{"usage":{"kernel":0,"user":0},"throttling":{}}"#,
        ),
        (
            stats.cpuset.json(),
            r#"{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#,
        ),
        (stats.memory.json(), &memory),
        (stats.pids.json(), "{}"),
        (stats.blkio.json(), "{}"),
        (Hugetlb::default().json(), r#"{"failcnt":0}"#),
    ];
    for (value, wanted) in cases {
        assert_eq!(value.compact(), wanted);
    }
}
