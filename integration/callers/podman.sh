# SPDX-License-Identifier: Apache-2.0
# podman: each action as a person would type it. Read by `cargo xtask integration podman`, where the form is described.
# Who asks for nothing is given a limit of tasks, which takes a controller.
controllers=/sys/fs/cgroup/cgroup.controllers
unlimited=
! test -e $controllers || grep -q pids $controllers || unlimited='pids_limit = 0'
cat >containers.conf <<END
[containers]
$unlimited
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$NAME"
runtime_supports_json = ["crun", "runc", "corten"]
runtime_supports_nocgroup = ["crun", "corten"]
[engine.runtimes]
$NAME = ["$RUNTIME"]
END
export CONTAINERS_CONF=$PWD/containers.conf
# Where this Debian's CRIU does not work, another one is in the first of these.
export PATH=$IMAGES/criu:/usr/sbin:/usr/bin:/sbin:/bin
podman() { command podman --storage-driver vfs "$@"; }
run() { podman run --network none "$@"; }
# Ends what the action began, whatever becomes of it.
trap 'podman rm --all --force --time 0 >/dev/null' EXIT
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }
eventually() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; false; }
ends_with() { wanted=$1; shift; status=0; "$@" || status=$?; test $status = "$wanted"; }
# Who it is, which another start would not be, and how far it has counted.
COUNTER='who=$(cat /proc/sys/kernel/random/uuid); n=0; while :; do n=$((n+1)); echo $who $n >/tmp/next; mv /tmp/next /tmp/told; usleep 20000; done'
# Those of containers.
cgroups() { find /sys/fs/cgroup -type d -path '*/libpod-*' | sort; }

== set up
cgroups >before
podman load --input "$IMAGES/busy.docker-archive"

== run: prints, reads, ends with the program's status
test "$(run --rm busy echo hello)" = hello
test "$(echo word | run --rm -i busy cat)" = word
ends_with 7 run --rm busy sh -c 'exit 7'

== run: 127 without the program, 126 where it can't run, 125 where podman can't
ends_with 127 run --rm busy no-such-program
ends_with 127 run --rm busy /no/such/path
ends_with 126 run --rm busy /etc
ends_with 125 run --rm --memory nonsense busy true

== run: a terminal of the caller's size
script -qec "stty rows 33 cols 99; $(command -v podman) --storage-driver vfs run --network none --rm -it busy sh -c 'sleep 0.5; stty size'" /dev/null | grep '33 99'

== run: user, directory, environment, hostname
run --rm -u 12:34 -w /tmp -e A=b --hostname named busy sh -c 'id -u; id -g; pwd; echo $A; hostname' >out
printf '12\n34\n/tmp\nb\nnamed\n' | diff - out

== run: a read-only root, a tmpfs, a volume of either kind
mkdir -p volume
run --rm --read-only busy sh -c '! touch /x'
run --rm --read-only --tmpfs /t:size=64k busy sh -c 'touch /t/x && df -k /t | grep -w 64'
run --rm -v "$PWD/volume:/v" busy touch /v/written
test -e volume/written
run --rm -v "$PWD/volume:/v:ro" busy sh -c '! touch /v/x'
run --rm -v named:/v busy touch /v/y
run --rm -v named:/v busy ls /v/y

== run: capabilities, no new privileges, the default seccomp profile
run --rm --cap-drop all busy grep 'CapEff:.0000000000000000' /proc/self/status
run --rm --cap-drop all --cap-add net_raw busy grep 'CapEff:.0000000000002000' /proc/self/status
run --rm --security-opt no-new-privileges busy grep 'NoNewPrivs:.1' /proc/self/status
run --rm busy grep 'Seccomp:.2' /proc/self/status

== run: privileged
run --rm --privileged busy sh -c 'mount -t tmpfs x /tmp && ! grep "Seccomp:.2" /proc/self/status'

== run: limits
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run --rm --memory 64m --pids-limit 50 --cpus 0.5 busy sh -c '
	cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max' | grep -x 67108864

== run: no cgroup of its own
#? runc: podman takes this runtime for one that can't
run --rm --cgroups disabled --cap-drop mknod busy echo in | grep in

== run: the host's namespaces
run --rm --pid host busy sh -c 'test $$ != 1'
test "$(run --rm --uts host busy hostname)" = "$(hostname)"
test "$(podman run --rm --network host busy readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)"

== run: a user namespace
run --rm --uidmap 0:100000:5000 busy grep -E '^ +0 +100000 +5000$' /proc/self/uid_map
run --rm --userns=keep-id:uid=0 busy id || run --rm --uidmap 0:200000:1000 busy id

== run: an init of podman's
run --rm --init busy sh -c 'cat /proc/1/comm' | grep -E 'catatonit|podman-init'

== run: a device, a sysctl, a limit of descriptors
run --rm --device /dev/full busy sh -c 'test -c /dev/full; ! echo x >/dev/full'
run --rm --sysctl net.ipv4.ip_unprivileged_port_start=80 busy grep -x 80 /proc/sys/net/ipv4/ip_unprivileged_port_start
run --rm --ulimit nofile=512:512 --ulimit nproc=4096:4096 busy sh -c 'ulimit -n' | grep -x 512

== detached: logs, top, inspect, stats
run -d --name c busy sh -c 'echo out; echo err >&2; exec sleep 1000'
eventually sh -c "podman --storage-driver vfs logs c 2>&1 | grep err"
podman logs c 2>/dev/null | grep out
podman top c | grep sleep
test "$(podman inspect --format '{{.State.Status}} {{.OCIRuntime}}' c)" = "running $NAME"
podman stats --no-stream c | grep c

== exec: prints, ends with the program's status, as whom and where it is told
#? runc@sid: of a directory it says no more than that it is one, and podman ends with 255
run -d --name c busy sleep 1000
test "$(podman exec c echo in)" = in
test "$(echo word | podman exec -i c cat)" = word
ends_with 9 podman exec c sh -c 'exit 9'
ends_with 127 podman exec c no-such-program
ends_with 126 podman exec c /etc
test "$(podman exec -u 5:6 -w /tmp -e A=b c sh -c 'echo $(id -u) $(id -g) $PWD $A')" = '5 6 /tmp b'

== exec: a terminal, and one that nobody waits for
run -d --name c busy sleep 1000
podman exec -t c tty | grep /dev/pts
podman exec -d c sh -c 'echo done >/tmp/f; sleep 1000'
eventually podman exec c grep done /tmp/f
podman exec c ps | grep -c 'sleep 1000' | grep 2

== pause and unpause
run -d --name c busy sleep 1000
podman pause c
test "$(podman inspect --format '{{.State.Status}}' c)" = paused
ends_with 255 podman exec c true
podman unpause c
podman exec c true

== stop: the signal is taken, or the time runs out
run -d --name c busy sh -c 'trap "exit 3" TERM; echo up; while :; do sleep 0.1; done'
eventually sh -c "podman --storage-driver vfs logs c | grep up"
podman stop -t 60 c
test "$(podman inspect --format '{{.State.ExitCode}}' c)" = 3
run -d --name d busy sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
eventually sh -c "podman --storage-driver vfs logs d | grep up"
podman stop -t 1 d
test "$(podman inspect --format '{{.State.ExitCode}}' d)" = 137

== kill, wait, restart, start again
run -d --name c busy sh -c 'trap "exit 4" USR1; echo up; while :; do sleep 0.1; done'
eventually sh -c "podman --storage-driver vfs logs c | grep up"
podman kill -s USR1 c
test "$(podman wait c)" = 4
podman start c
podman restart -t 0 c
test "$(podman inspect --format '{{.State.Status}}' c)" = running

== create, start attached, remove while it runs
podman create --network none --name c busy sh -c 'echo from c; exit 5'
ends_with 5 podman start --attach c
run -d --name d busy sleep 1000
podman rm -f -t 0 d
test -z "$(podman ps --quiet --all --filter name=d)"

== attach: what is typed reaches it
run -di --name c busy sh -c 'read word; echo got $word; sleep 0.2'
echo this | podman attach c | grep 'got this'

== update: the limits of one that runs
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run -d --name c --memory 64m busy sleep 1000
podman update --memory 128m c
podman exec c sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max' | grep -x 134217728

== health checks
run -d --name c --health-cmd 'test -e /tmp/healthy' --health-interval disable busy sleep 1000
not podman healthcheck run c
podman exec c touch /tmp/healthy
podman healthcheck run c

== pods: two containers that share a network and a hostname
podman pod create --name p --network none --hostname podname
podman run -d --pod p --name a busy sleep 1000
podman run --rm --pod p busy hostname | grep podname
test "$(podman exec a readlink /proc/self/ns/net)" = "$(podman run --rm --pod p busy readlink /proc/self/ns/net)"
podman pod pause p
podman pod unpause p
podman pod stop -t 0 p
podman pod rm p

== checkpoint and restore: it goes on where it was
run -d --name c busy sh -c "$COUNTER"
told() { podman exec c cat /tmp/told; }
eventually told
who=$(told | cut -d' ' -f1)
beyond() { told | { read -r name n; test "$name" = "$who" && test "$n" -gt "$1"; }; }
eventually beyond 5
podman container checkpoint c
test "$(podman inspect --format '{{.State.Status}} {{.State.Checkpointed}}' c)" = 'exited true'
podman container restore c
eventually beyond 5
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
podman container checkpoint --leave-running c
eventually beyond "$((n + 5))"
podman container checkpoint --export c.tar.gz --compress gzip c
podman rm c
podman container restore --import c.tar.gz --name c
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
podman stop -t 0 c

== commit, copy
run -d --name c busy sh -c 'echo changed >/etc/new; sleep 1000'
eventually podman exec c test -e /etc/new
podman cp c:/etc/new copied
grep changed copied
podman commit c changed
run --rm changed cat /etc/new | grep changed
podman rmi -f changed

== build: RUN, a failing RUN, a secret, a cache mount
mkdir -p context
printf 'FROM busy\nRUN echo built >/etc/built && id -u\nUSER 7\nRUN id -u >/tmp/who\n' >context/Dockerfile
podman build --runtime "$RUNTIME" --isolation oci --network none -t built context
test "$(run --rm built cat /etc/built /tmp/who)" = "$(printf 'built\n7')"
printf 'FROM busy\nRUN exit 3\n' >context/Dockerfile
not podman build --runtime "$RUNTIME" --isolation oci --network none context
printf 'hush' >secret
printf 'FROM busy\nRUN --mount=type=secret,id=s cat /run/secrets/s\n' >context/Dockerfile
podman build --runtime "$RUNTIME" --isolation oci --network none --secret id=s,src=secret context | grep hush
podman rmi -f built

== fifty run and end
for _ in $(seq 50); do run --rm busy true; done

== an error of the runtime reads well
run --rm busy no-such-program >said 2>&1 || grep 'executable file.*not found in .PATH' said
run --rm busy /no/such/path >said 2>&1 || grep -i 'no such file or directory' said

== nothing is left
#~ runc@host: leaves cgroups of v1
podman rm --all --force --time 0
test -z "$(podman ps --all --quiet)"
not pgrep -x conmon
comm -13 before <(cgroups) >left
not grep . left
