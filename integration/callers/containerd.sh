# SPDX-License-Identifier: Apache-2.0
# containerd with ctr, and a shim under the name of runc's. Read by `cargo xtask integration containerd`, where the form is described.
# Where this Debian's CRIU does not work, another one is in the first of these.
export PATH=$PWD/bin:${SHIMS:+$SHIMS:}$IMAGES/criu:/usr/sbin:/usr/bin:/sbin:/bin
export CONTAINERD_ADDRESS=/run/containerd/containerd.sock
export CONTAINERD_NAMESPACE=callers
image=localhost/busy:latest
run() { ctr run --snapshotter native --runc-binary "$RUNTIME" "$@"; }
task() { ctr task "$@"; }
# Ends what the action began, whatever becomes of it.
clean() {
	for id in $(ctr container ls -q); do
		task kill -s KILL --all "$id" || true
		task rm -f "$id" || true
		ctr container rm "$id" || true
	done >/dev/null 2>&1
}
trap clean EXIT
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }
eventually() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; false; }
ends_with() { wanted=$1; shift; status=0; "$@" || status=$?; test $status = "$wanted"; }
is() { task ls | grep -E "^$1 .* $2"; }
# Who it is, which another start would not be, and how far it has counted.
COUNTER='who=$(cat /proc/sys/kernel/random/uuid); n=0; while :; do n=$((n+1)); echo $who $n >/tmp/next; mv /tmp/next /tmp/told; usleep 20000; done'
# Those of containers.
cgroups() { find /sys/fs/cgroup -type d -path '*/callers/*' ! -path '*/callers/pod-*' | sort; }

== set up
cgroups >before
# With owners for a container's pipes ctr sends options of the task's, and containerd those alone: then it is the program
# that a shim calls by itself.
mkdir -p bin
for name in runc corten; do ln -sfn "$RUNTIME" "bin/$name"; done
cat >config.toml <<END
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$CONTAINERD_ADDRESS"
END
setsid containerd --config config.toml >containerd.log 2>&1 </dev/null &
eventually ctr version
ctr image import --no-unpack --local "$IMAGES/busy.oci-archive" || ctr image import --no-unpack "$IMAGES/busy.oci-archive"
ctr image ls -q | grep -x "$image"
ctr image ls
run --rm "$image" first true

== run: prints, reads, ends with the program's status
test "$(run --rm $image c echo hello)" = hello
test "$(echo word | run --rm $image c head -n 1)" = word
ends_with 7 run --rm $image c sh -c 'exit 7'

== run: a terminal
script -qec "ctr run --snapshotter native --runc-binary $RUNTIME --rm -t $image c tty" /dev/null | grep /dev/pts

== run: directory, environment
run --rm --cwd /tmp --env A=b $image c sh -c 'echo $PWD $A' | grep -x '/tmp b'

== run: mounts, a read-only root
mkdir -p volume
run --rm --mount "type=bind,src=$PWD/volume,dst=/v,options=rbind:rw" $image c touch /v/written
test -e volume/written
run --rm --mount "type=bind,src=$PWD/volume,dst=/v,options=rbind:ro" $image c sh -c '! touch /v/x'
run --rm --read-only $image c sh -c '! touch /x'

== run: privileged, capabilities, seccomp
run --rm --privileged $image c sh -c 'mount -t tmpfs x /tmp'
run --rm --cap-drop CAP_CHOWN $image c grep CapEff /proc/self/status
run --rm --seccomp $image c grep 'Seccomp:.2' /proc/self/status

== run: the host's network
test "$(run --rm --net-host $image c readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)"

== run: limits
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run -d --memory-limit 67108864 $image c sleep 1000
cat /sys/fs/cgroup/memory/callers/c/memory.limit_in_bytes | grep -x 67108864

== run: a user namespace
run --rm --uidmap 0:100000:1000 --gidmap 0:100000:1000 $image c grep -E '^ +0 +100000 +1000$' /proc/self/uid_map

== run: a device
run --rm --device /dev/full $image c sh -c 'test -c /dev/full; ! echo x >/dev/full'

== detached: tasks, processes, metrics
run -d $image c sleep 1000
is c RUNNING
task ps c | grep -E '^[0-9]+'
task metrics c | grep -i -E 'memory|pids'

== exec: prints, ends with the program's status
run -d $image c sleep 1000
test "$(task exec --exec-id e1 c echo in)" = in
test "$(echo word | task exec --exec-id e2 c head -n 1)" = word
ends_with 9 task exec --exec-id e3 c sh -c 'exit 9'
test "$(task exec --exec-id e4 --user 5 --cwd /tmp c sh -c 'echo $(id -u) $PWD')" = '5 /tmp'
not task exec --exec-id e5 c no-such-program

== exec: a terminal, and one that nobody waits for
run -d $image c sleep 1000
script -qec "ctr task exec --exec-id e1 -t c tty" /dev/null | grep /dev/pts
task exec --exec-id e2 -d c sleep 1001
eventually sh -c 'ctr task exec --exec-id e$$ c ps | grep "sleep 1001"'

== pause and resume
run -d $image c sleep 1000
task pause c
is c PAUSED
task resume c
is c RUNNING

== kill: a signal that is handled, one for all
run -d $image c sh -c 'trap "exit 4" USR1; while :; do sleep 0.1; done'
sleep 1
task kill -s SIGUSR1 c
eventually is c STOPPED
task rm c 2>&1 | grep 'exit code 4'
run -d $image d sh -c 'sleep 1000 & sleep 1000'
task kill --all -s KILL d
eventually is d STOPPED

== the runtime's own bundle: a root directory in place of an image
mkdir -p rootfs
tar -C rootfs -xf "$IMAGES/rootfs.tar"
run --rm --rootfs "$PWD/rootfs" c /bin/echo from the directory | grep 'from the directory'

== a restart of containerd in the middle
run -d $image c sleep 1000
pkill -x containerd
eventually sh -c '! pgrep -x containerd'
setsid containerd --config config.toml >>containerd.log 2>&1 </dev/null &
eventually ctr version
is c RUNNING
test "$(task exec --exec-id e1 c echo in)" = in

== the shim is killed
run -d $image c sleep 1000
pkill -KILL -f 'containerd-shim-.*-id c( |$)'
eventually sh -c '! ctr task ls | grep "^c .*RUNNING"'
# containerd cleans up after it by itself, and is at it for a moment: until then there is a task, and no other of that name.
eventually sh -c 'ctr task rm -f c; test -z "$(ctr task ls -q)"'
ctr container rm c

== checkpoint and restore: it goes on where it was
run -d $image c sh -c "$COUNTER"
# A ctr that is slow to open its FIFO prints nothing.
told() { for _ in 1 2 3; do ! task exec --exec-id "e$RANDOM" c cat /tmp/told | grep . || return 0; done; false; }
eventually told
who=$(told | cut -d' ' -f1)
beyond() { told | { read -r name n; test "$name" = "$who" && test "$n" -gt "$1"; }; }
eventually beyond 5
task checkpoint --image-path "$PWD/written" c
test -s written/descriptors.json
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
ctr container checkpoint --image --task --rw c localhost/written
task kill -s KILL c
eventually is c STOPPED
task rm c
ctr container rm c
ctr container restore --live c localhost/written
eventually is c RUNNING
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
ctr image rm localhost/written

== fifty run and end
for n in $(seq 50); do run --rm $image n$n true; done

== nothing is left
clean
test -z "$(ctr task ls -q)"
eventually sh -c '! pgrep -f [c]ontainerd-shim'
comm -13 before <(cgroups) >left
not grep . left

== take down
trap - EXIT
pkill -x containerd
