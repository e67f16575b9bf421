// SPDX-License-Identifier: Apache-2.0
//! Brokers of D-Bus that are not there, or hang.

use std::os::unix::net::UnixListener;

use corten_integration::trial;

/// A broker that takes connections and never answers, as a stopped one does.
#[test]
fn a_bus_that_never_answers_ends_create() {
    trial(|t| {
        if !t.is_corten() {
            // runc and crun know no such variable, or wait for ever.
            return;
        }
        let path = t.dir.join("bus");
        let _listener = UnixListener::bind(&path).unwrap();
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .probe("exit 0")
            .done();
        let error = t
            .program(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["--systemd-cgroup", "create", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                format!("unix:path={}", path.display()),
            )
            .end()
            .fails();
        assert!(
            error.contains("wait for D-Bus to answer: timed out"),
            "{error}"
        );
        assert!(error.contains("systemctl status dbus"), "{error}");
    });
}

#[test]
fn no_bus_is_said() {
    trial(|t| {
        if !t.is_corten() {
            return;
        }
        let c = t
            .container()
            .without("/linux/cgroupsPath")
            .probe("exit 0")
            .done();
        let error = t
            .program(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .args(["--systemd-cgroup", "create", "--bundle"])
            .arg(&c.bundle)
            .arg(&c.id)
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
            .end()
            .fails();
        assert!(
            error.contains("connect to D-Bus at unix:path=/nonexistent/bus"),
            "{error}"
        );
        assert!(error.contains("use the cgroupfs driver"), "{error}");
    });
}
