// SPDX-License-Identifier: Apache-2.0
//! Broken mount options, id maps and labels of mounts.

use super::Case;
use super::Flaw::Set;

/// Cases about what a mount may be asked for.
pub const CASES: &[Case] = &[
    (
        "id map for users alone",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\"], \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"destination\": \"/data\"}",
        ),
    ),
    (
        "id map that overlaps",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\"], \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"gidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}, {\"containerID\": 0, \"hostID\": 5, \"size\": 1}], \"destination\": \"/data\"}",
        ),
    ),
    (
        "id map of no ids",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\"], \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 0}], \"gidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap without any maps",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap with maps twice",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap=uids=0-1-1;gids=0-1-1\"], \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"gidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap with maps for users alone",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap=uids=0-1-1\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap with a map that is none",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"rbind\", \"ridmap=uids=0-1;gids=0-1-1\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap with a word that is none",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap=users=0-1-1\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap relative to no user namespace",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap=uids=@0-1-1;gids=@0-1-1\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap with maps that overlap",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"idmap=uids=0-1-9#5-20-1;gids=0-1-1\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap of a file system that has none",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/proc/sys\", \"options\": [\"bind\", \"idmap\"], \"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"gidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}], \"destination\": \"/data\"}",
        ),
    ),
    (
        "idmap of a new file system",
        Set(
            "/mounts/-",
            "{\"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"idmap\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "src-nofollow for a new file system",
        Set(
            "/mounts/-",
            "{\"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"src-nofollow\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "copy-symlink for a new file system",
        Set(
            "/mounts/-",
            "{\"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"copy-symlink\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "copy-symlink over a link",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"copy-symlink\", \"dest-nofollow\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "remount of a mount",
        Set(
            "/mounts/-",
            "{\"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"nosuid\", \"remount\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "flag of a superblock below a mount",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"rbind\", \"rsync\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "flag of a superblock for a bind",
        Set(
            "/mounts/-",
            "{\"type\": \"bind\", \"source\": \"/etc\", \"options\": [\"bind\", \"sync\"], \"destination\": \"/data\"}",
        ),
    ),
    (
        "flag of a superblock for the cgroups",
        Set(
            "/mounts/-",
            "{\"destination\": \"/data\", \"type\": \"cgroup\", \"source\": \"cgroup\", \"options\": [\"dirsync\"]}",
        ),
    ),
    (
        "mount label that is none",
        Set("/linux/mountLabel", "\"container_file_t\""),
    ),
    (
        "mount label of two lines",
        Set("/linux/mountLabel", "\"u:r:t\\ncommand\""),
    ),
];
