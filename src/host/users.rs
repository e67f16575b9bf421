// SPDX-License-Identifier: Apache-2.0
//! Whose ids the runtime itself has. Needs no privilege.

use std::os::fd::AsFd;

use corten_sys::fs::{self, OFlags, Procfs};

use crate::error::{Context, Result};

/// Whether the runtime is in a user namespace that maps only a part of the ids: the initial one maps all of them.
pub fn in_user_namespace() -> Result<bool> {
    let file = Procfs::open()?.own_file("uid_map", OFlags::RDONLY)?;
    let map = fs::read_to_end(file.as_fd(), 1 << 16).context("read the runtime's own id map")?;
    Ok(!maps_all_ids(&String::from_utf8_lossy(&map)))
}

fn maps_all_ids(map: &str) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    fields == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_initial_user_namespace() {
        let cases = [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", false),
            ("         0          0       1000\n", false),
            ("0 0 1000\n1000 1000 4294966295\n", false),
            ("", false),
        ];
        for (map, initial) in cases {
            assert_eq!(maps_all_ids(map), initial, "{map:?}");
        }
    }
}
