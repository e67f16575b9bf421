# SPDX-License-Identifier: Apache-2.0
# dockerd with a containerd of its own. Read by `cargo xtask integration docker`, where the form is described.
export PATH=${SHIMS:+$SHIMS:}/usr/sbin:/usr/bin:/sbin:/bin
export DOCKER_HOST=unix:///run/docker.sock
export DOCKER_CONFIG=$PWD/docker
run() { docker run --network none "$@"; }
# Ends what the action began, whatever becomes of it.
trap 'docker ps --all --quiet | xargs -r docker rm --force --volumes >/dev/null' EXIT
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }
eventually() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; false; }
ends_with() { wanted=$1; shift; status=0; "$@" || status=$?; test $status = "$wanted"; }
# Docker asks for all capabilities that the kernel has, and root may have fewer: then corten alone gives what there is.
may_be_privileged() { test "$NAME" != runc || grep 'CapEff:.000001ffffffffff' /proc/self/status; }
# Those of containers.
cgroups() { find /sys/fs/cgroup -type d -path '*/docker/*' | sort; }

== set up
cgroups >before
cat >config.toml <<END
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
END
setsid containerd --config config.toml >containerd.log 2>&1 </dev/null &
eventually ctr version
runtime="--add-runtime $NAME=$RUNTIME"
test "$NAME" != runc || runtime=
# BuildKit's own worker calls what is named runc.
mkdir -p bin
printf '#!/bin/sh\necho "$@" >>%s/worker\nexec %s "$@"\n' "$PWD" "$RUNTIME" >bin/runc
chmod +x bin/runc
PATH=$PWD/bin:$PATH setsid dockerd --containerd /run/containerd/containerd.sock $runtime --default-runtime "$NAME" --iptables=false \
	--bridge=none --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs -H "$DOCKER_HOST" >dockerd.log 2>&1 </dev/null &
eventually docker version
docker load --input "$IMAGES/busy.docker-archive"
docker tag localhost/busy busy
docker info --format '{{.DefaultRuntime}}' | grep -x "$NAME"

== run: prints, reads, ends with the program's status
test "$(run --rm busy echo hello)" = hello
test "$(echo word | run --rm -i busy cat)" = word
ends_with 7 run --rm busy sh -c 'exit 7'

== run: 127 without the program, 126 where it can't run, 125 where docker can't
ends_with 127 run --rm busy no-such-program
ends_with 127 run --rm busy /no/such/path
ends_with 126 run --rm busy /etc
ends_with 125 run --rm --memory nonsense busy true

== run: a terminal of the caller's size
script -qec "stty rows 33 cols 99; docker run --network none --rm -it busy sh -c 'sleep 0.5; stty size'" /dev/null | grep '33 99'

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
run --rm busy sh -c '! unshare -r true'

== run: privileged, the host's namespaces
if may_be_privileged; then
	run --rm --privileged busy mount -t tmpfs x /tmp
fi
run --rm --pid host busy sh -c 'test $$ != 1'
test "$(docker run --rm --network host busy readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)"

== run: limits
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run --rm --memory 64m --pids-limit 50 --cpus 0.5 busy sh -c '
	cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max' | grep -x 67108864

== run: an init of docker's, a device, a sysctl, a limit of descriptors
run --rm --init busy sh -c 'cat /proc/1/comm' | grep -E 'docker-init|tini'
run --rm --device /dev/full busy sh -c 'test -c /dev/full; ! echo x >/dev/full'
run --rm --sysctl net.ipv4.ip_unprivileged_port_start=80 busy grep -x 80 /proc/sys/net/ipv4/ip_unprivileged_port_start
run --rm --ulimit nofile=512:512 busy sh -c 'ulimit -n' | grep -x 512

== detached: logs, top, inspect, stats
run -d --name one busy sh -c 'echo out; echo err >&2; exec sleep 1000'
eventually sh -c "docker logs one 2>&1 | grep err"
docker logs one 2>/dev/null | grep out
docker top one | grep sleep
test "$(docker inspect --format '{{.State.Status}} {{.HostConfig.Runtime}}' one)" = "running $NAME"
docker stats --no-stream one | grep one

== exec: prints, ends with the program's status, as whom and where it is told
run -d --name one busy sleep 1000
test "$(docker exec one echo in)" = in
test "$(echo word | docker exec -i one cat)" = word
ends_with 9 docker exec one sh -c 'exit 9'
ends_with 126 docker exec one no-such-program
ends_with 126 docker exec one /etc
test "$(docker exec -u 5:6 -w /tmp -e A=b one sh -c 'echo $(id -u) $(id -g) $PWD $A')" = '5 6 /tmp b'

== exec: a terminal, and one that nobody waits for
run -d --name one busy sleep 1000
script -qec "docker exec -it one tty" /dev/null | grep /dev/pts
docker exec -d one sh -c 'echo done >/tmp/f; sleep 1000'
eventually docker exec one grep done /tmp/f

== pause and unpause
run -d --name one busy sleep 1000
docker pause one
test "$(docker inspect --format '{{.State.Status}}' one)" = paused
not docker exec one true
docker unpause one
docker exec one true

== stop: the signal is taken, or the time runs out
run -d --name one busy sh -c 'trap "exit 3" TERM; echo up; while :; do sleep 0.1; done'
eventually sh -c "docker logs one | grep up"
docker stop -t 60 one
test "$(docker inspect --format '{{.State.ExitCode}}' one)" = 3
run -d --name two busy sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'
eventually sh -c "docker logs two | grep up"
docker stop -t 1 two
test "$(docker inspect --format '{{.State.ExitCode}}' two)" = 137

== kill, wait, restart, start again
run -d --name one busy sh -c 'trap "exit 4" USR1; echo up; while :; do sleep 0.1; done'
eventually sh -c "docker logs one | grep up"
docker kill -s USR1 one
test "$(docker wait one)" = 4
docker start one
docker restart -t 0 one
test "$(docker inspect --format '{{.State.Status}}' one)" = running

== a restart policy
run -d --name one --restart on-failure:2 busy sh -c 'exit 1'
eventually sh -c 'test "$(docker inspect --format "{{.RestartCount}} {{.State.Status}}" one)" = "2 exited"'

== out of memory is told
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run --name one --memory 16m --memory-swap 16m busy sh -c 'x=a; while :; do x=$x$x; done' || true
test "$(docker inspect --format '{{.State.OOMKilled}}' one)" = true

== update: the limits of one that runs
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
run -d --name one --memory 64m busy sleep 1000
docker update --memory 128m --memory-swap 256m one
docker exec one sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max' | grep -x 134217728

== health checks
run -d --name one --health-cmd 'test -e /tmp/healthy' --health-interval 1s --health-retries 1 busy sleep 1000
eventually sh -c 'docker inspect --format "{{.State.Health.Status}}" one | grep unhealthy'
docker exec one touch /tmp/healthy
eventually sh -c 'docker inspect --format "{{.State.Health.Status}}" one | grep -x healthy'

== commit, diff, copy
run -d --name one busy sh -c 'echo changed >/etc/new; sleep 1000'
eventually docker exec one test -e /etc/new
docker diff one | grep 'A /etc/new'
docker cp one:/etc/new copied
grep changed copied
docker commit one changed
run --rm changed cat /etc/new | grep changed
docker rmi -f changed

== build: RUN, USER, a failing RUN
mkdir -p context
printf 'FROM busy\nRUN echo built >/etc/built && id -u\nUSER 7\nRUN id -u >/tmp/who\n' >context/Dockerfile
DOCKER_BUILDKIT=0 docker build --network none -t built context
test "$(run --rm built cat /etc/built /tmp/who)" = "$(printf 'built\n7')"
printf 'FROM busy\nRUN exit 3\n' >context/Dockerfile
not env DOCKER_BUILDKIT=0 docker build --network none context
docker rmi -f built

== build by BuildKit's own worker: RUN, a secret, a cache mount, a failing RUN
mkdir -p context
rm -f worker
echo hidden >secret
cat >context/Dockerfile <<END
FROM busy
RUN echo built >/etc/built && test "\$(id -u)" = 0
RUN --mount=type=secret,id=word grep -x hidden /run/secrets/word
RUN --mount=type=cache,target=/cache echo kept >/cache/word
RUN --mount=type=cache,target=/cache grep -x kept /cache/word && ! test -e /run/secrets/word
END
DOCKER_BUILDKIT=1 docker build --network none --secret id=word,src=secret --progress plain -t built context
run --rm built cat /etc/built | grep -x built
grep -w run worker
printf 'FROM busy\nRUN exit 3\n' >context/Dockerfile
not env DOCKER_BUILDKIT=1 docker build --network none --progress plain context 2>said
grep 'exit code: 3' said
docker rmi -f built

== compose: services of one network, one after the other; exec, logs, scale, down
mkdir -p project
cat >project/docker-compose.yml <<END
version: "3.8"
services:
  first:
    image: busy
    command: sh -c 'echo first is up; sleep 1000'
    environment: {WORD: from-compose}
    volumes: ["kept:/kept"]
  second:
    image: busy
    command: sleep 1000
    depends_on: [first]
    init: true
volumes: {kept: {}}
END
compose() { (cd project && docker-compose "$@"); }
compose up -d
compose ps -q | wc -l | grep -x 2
compose exec -T first sh -c 'echo $WORD; echo x >/kept/x' | grep -x from-compose
eventually sh -c 'cd project && docker-compose logs first | grep "first is up"'
docker network inspect project_default --format '{{len .Containers}}' | grep -x 2
compose up -d --scale second=3
compose ps -q | wc -l | grep -x 4
compose restart -t 0 first
compose exec -T first cat /kept/x | grep -x x
compose down -v -t 0
test -z "$(docker ps --all --quiet)"

== swarm: a service on one node, scaled, updated, removed
docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377
trap 'docker service rm s || true; docker swarm leave --force; docker network rm docker_gwbridge' EXIT
docker service create --detach --name s --network host --replicas 2 busy sleep 1000
running() { docker service ps --filter desired-state=running --format '{{.CurrentState}}' s | grep -c '^Running' | grep -x "$1"; }
eventually running 2
docker service scale --detach s=3
eventually running 3
docker service update --detach --env-add A=b --update-parallelism 0 s
eventually sh -c 'for id in $(docker ps -q); do docker exec $id sh -c "test \$A = b" || exit 1; done'
eventually running 3
docker service rm s
eventually sh -c 'test -z "$(docker ps -q)"'

== an engine in a container: dockerd there, with this runtime, and a container of its own
mkdir -p root/etc root/usr
for name in bin sbin lib lib64; do ln -sfn usr/$name root/$name; done
cp /etc/passwd /etc/group /etc/nsswitch.conf root/etc/
tar -C root -c . | docker import - engine
privileged=--privileged
if ! may_be_privileged; then
	privileged='--cap-add all --cap-drop sys_resource --security-opt seccomp=unconfined --security-opt systempaths=unconfined'
fi
cat >inside <<'END'
set -eux
export PATH=/shims:$PATH
for place in /sys /sys/fs/cgroup /sys/fs/cgroup/*/; do
	! mountpoint -q $place || mount -o remount,bind,rw $place
done
dockerd --add-runtime this=/runtime --default-runtime this --iptables=false --bridge=none --storage-driver vfs \
	--exec-opt native.cgroupdriver=cgroupfs >/var/lib/dockerd.log 2>&1 &
for _ in $(seq 300); do ! docker version || break; sleep 0.1; done
docker load --input /images/busy.docker-archive
test "$(docker run --rm --network none --memory 64m localhost/busy echo deeper)" = deeper
docker run -d --name one --network none localhost/busy sleep 1000
test "$(docker exec one echo in)" = in
docker rm -f one
docker info --format '{{.DefaultRuntime}}' | grep -x this
kill $!
wait $! || true
echo whole
END
# No --rm: what it says of a failure is read from its log.
docker run --name outer $privileged --network none -v /usr:/usr:ro -v "$RUNTIME:/runtime:ro" -v "$IMAGES:/images:ro" \
	-v "${SHIMS:-$PWD/no-shims}:/shims:ro" \
	-v "$PWD/inside:/inside:ro" --tmpfs /run:exec --tmpfs /tmp --tmpfs /var/lib:exec engine sh /inside | grep -x whole
docker rm outer
docker rmi -f engine

== fifty run and end
for _ in $(seq 50); do run --rm busy true; done

== nothing is left
docker ps --all --quiet | xargs -r docker rm --force
eventually sh -c '! pgrep -f [c]ontainerd-shim'
comm -13 before <(cgroups) >left
not grep . left

== take down
trap - EXIT
pkill -x dockerd
pkill -x containerd
