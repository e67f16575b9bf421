// SPDX-License-Identifier: Apache-2.0
//! What resctrl tells of a container's group: the machine's classes, the group's, and what was watched, under runc's names.

use std::os::fd::AsFd;
use std::path::Path;

use corten_sys::Errno;
use corten_sys::cgroup_fs;
use corten_sys::fs::{self, Mode, OFlags};

use super::{Group, Root};
use crate::error::Result;
use crate::json::{Json, Members};

/// All of it; what the machine lacks is left out.
#[derive(Debug, Default)]
pub struct Stats {
    l3_cache_info: Option<CacheInfo>,
    l3_cache_schema_root: String,
    l3_cache_schema: String,
    mem_bw_info: Option<BandwidthInfo>,
    mem_bw_schema_root: String,
    mem_bw_schema: String,
    mbm_stats: Option<Vec<Bandwidth>>,
    cmt_stats: Option<Vec<Occupancy>>,
}

#[derive(Debug)]
struct CacheInfo {
    cbm_mask: String,
    min_cbm_bits: u64,
    num_closids: u64,
}

#[derive(Debug)]
struct BandwidthInfo {
    bandwidth_gran: u64,
    delay_linear: u64,
    min_bandwidth: u64,
    num_closids: u64,
}

/// Bytes that went through one L3 cache.
#[derive(Debug)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

/// Bytes that are in one L3 cache.
#[derive(Debug)]
struct Occupancy {
    llc_occupancy: u64,
}

impl Stats {
    /// As an object.
    pub fn json(&self) -> Json<'_> {
        let mut members = Members::default();
        if let Some(info) = &self.l3_cache_info {
            let mut cache = Members::default();
            cache.put("cbm_mask", Json::from(info.cbm_mask.as_str()));
            cache.counted(&[
                ("min_cbm_bits", info.min_cbm_bits),
                ("num_closids", info.num_closids),
            ]);
            members.put("l3_cache_info", cache.object());
        }
        show_text(
            &mut members,
            "l3_cache_schema_root",
            &self.l3_cache_schema_root,
        );
        show_text(&mut members, "l3_cache_schema", &self.l3_cache_schema);
        if let Some(info) = &self.mem_bw_info {
            let mut bandwidth = Members::default();
            bandwidth.counted(&[
                ("bandwidth_gran", info.bandwidth_gran),
                ("delay_linear", info.delay_linear),
                ("min_bandwidth", info.min_bandwidth),
                ("num_closids", info.num_closids),
            ]);
            members.put("mem_bw_info", bandwidth.object());
        }
        show_text(&mut members, "mem_bw_schema_root", &self.mem_bw_schema_root);
        show_text(&mut members, "mem_bw_schema", &self.mem_bw_schema);
        if let Some(all) = &self.mbm_stats {
            let all = all.iter().map(|cache| {
                let mut members = Members::default();
                members.counted(&[
                    ("mbm_total_bytes", cache.mbm_total_bytes),
                    ("mbm_local_bytes", cache.mbm_local_bytes),
                ]);
                members.object()
            });
            members.put("mbm_stats", Json::List(all.collect()));
        }
        if let Some(all) = &self.cmt_stats {
            let all = all.iter().map(|cache| {
                let mut members = Members::default();
                members.counted(&[("llc_occupancy", cache.llc_occupancy)]);
                members.object()
            });
            members.put("cmt_stats", Json::List(all.collect()));
        }
        members.object()
    }
}

fn show_text<'a>(members: &mut Members<'a>, key: &'a str, text: &'a str) {
    if !text.is_empty() {
        members.put(key, Json::from(text));
    }
}

/// What there is to tell of `group`; nothing where the tree is gone.
pub fn stats(root: Option<Root>, group: &Group) -> Result<Stats> {
    root.map_or(Ok(Stats::default()), |root| read(&root, group))
}

fn read(root: &Root, group: &Group) -> Result<Stats> {
    let text = |path: &Path| match root.read(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.errno() == Errno::NOENT => Ok(String::new()),
        Err(error) => Err(error),
    };
    let info = |name: &str| text(&Path::new("info").join(name));
    let number = |name: &str| info(name).map(|text| text.parse().unwrap_or(0));
    let mut stats = Stats::default();
    let (of_root, own) = (
        text(Path::new("schemata"))?,
        text(&group.path().join("schemata"))?,
    );
    let cbm_mask = info("L3/cbm_mask")?;
    if !cbm_mask.is_empty() {
        stats.l3_cache_schema_root = line(&of_root, "L3");
        stats.l3_cache_schema = line(&own, "L3");
        stats.l3_cache_info = Some(CacheInfo {
            cbm_mask,
            min_cbm_bits: number("L3/min_cbm_bits")?,
            num_closids: number("L3/num_closids")?,
        });
    }
    if !info("MB/min_bandwidth")?.is_empty() {
        stats.mem_bw_schema_root = line(&of_root, "MB");
        stats.mem_bw_schema = line(&own, "MB");
        stats.mem_bw_info = Some(BandwidthInfo {
            bandwidth_gran: number("MB/bandwidth_gran")?,
            delay_linear: number("MB/delay_linear")?,
            min_bandwidth: number("MB/min_bandwidth")?,
            num_closids: number("MB/num_closids")?,
        });
    }
    watched(root, group, &info("L3_MON/mon_features")?, &mut stats)?;
    Ok(stats)
}

/// The container's own monitoring group, where it has one, else the whole group's.
fn watched(root: &Root, group: &Group, features: &str, stats: &mut Stats) -> Result<()> {
    let has = |name: &str| features.lines().any(|line| line == name);
    let (occupancy, bandwidth) = (has("llc_occupancy"), has("mbm_total_bytes"));
    if !occupancy && !bandwidth {
        return Ok(());
    }
    let data = group
        .monitor()
        .unwrap_or_else(|| group.path())
        .join("mon_data");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = match fs::open(root.0.as_fd(), &data, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut caches = cgroup_fs::subdirectories(dir.as_fd())?;
    caches.retain(|name| name.as_encoded_bytes().starts_with(b"mon_L3"));
    caches.sort_unstable();
    // A cache whose counter is not available says so in words.
    let number = |cache, name: &str| {
        let text = root.read(&data.join(cache).join(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    if bandwidth {
        let all = caches.iter().map(|cache| Bandwidth {
            mbm_total_bytes: number(cache, "mbm_total_bytes"),
            mbm_local_bytes: number(cache, "mbm_local_bytes"),
        });
        stats.mbm_stats = Some(all.collect());
    }
    if occupancy {
        let all = caches.iter().map(|cache| Occupancy {
            llc_occupancy: number(cache, "llc_occupancy"),
        });
        stats.cmt_stats = Some(all.collect());
    }
    Ok(())
}

/// The line of schemata about `resource`, without blanks around it.
fn line(schemata: &str, resource: &str) -> String {
    let mut lines = schemata.lines().map(str::trim);
    lines
        .find(|line| line.split(':').next() == Some(resource))
        .unwrap_or_default()
        .to_owned()
}
