# SPDX-License-Identifier: Apache-2.0
# buildah: images built step by step. Read by `cargo xtask integration buildah`, where the form is described.
cat >containers.conf <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
END
export CONTAINERS_CONF=$PWD/containers.conf
export BUILDAH_ISOLATION=oci
export STORAGE_DRIVER=vfs
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
from() { buildah from --pull-never "$@"; }
run() { buildah run --runtime "$RUNTIME" --network none "$@"; }
build() { buildah build --runtime "$RUNTIME" --network none "$@"; }
trap 'buildah rm --all >/dev/null' EXIT
ends_with() { wanted=$1; shift; status=0; "$@" || status=$?; test $status = "$wanted"; }
# Those of containers.
cgroups() { find /sys/fs/cgroup -type d -path '*/buildah-*' | sort; }
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }

== set up
cgroups >before
buildah pull "docker-archive:$IMAGES/busy.docker-archive"

== run: prints, reads, ends with the program's status
c=$(from busy)
test "$(run $c echo hello)" = hello
test "$(echo word | run $c cat)" = word
ends_with 7 run $c sh -c 'exit 7'
not run $c no-such-program

== run: a terminal
c=$(from busy)
script -qec "buildah run --runtime $RUNTIME --network none --tty $c tty" /dev/null | grep /dev/pts

== run: user, directory, environment, hostname
c=$(from busy)
buildah config --user 12:34 --workingdir /tmp --env A=b $c
run --hostname named $c sh -c 'echo $(id -u) $(id -g) $PWD $A $(hostname)' | grep -x '12 34 /tmp b named'

== run: what it writes stays
c=$(from busy)
run $c sh -c 'echo written >/etc/written'
grep written "$(buildah mount $c)/etc/written"
buildah umount $c

== run: volumes and mounts
c=$(from busy)
mkdir -p volume
run -v "$PWD/volume:/v" $c touch /v/written
test -e volume/written
run -v "$PWD/volume:/v:ro" $c sh -c '! touch /v/x'
run --mount type=tmpfs,dst=/t $c sh -c 'grep " /t tmpfs" /proc/mounts'

== run: capabilities
c=$(from busy)
run --cap-drop all $c grep 'CapEff:.0000000000000000' /proc/self/status
run --cap-add CAP_NET_RAW $c grep CapEff /proc/self/status

== run: chroot isolation needs no runtime, oci does
c=$(from busy)
run --isolation oci $c sh -c 'test $$ = 1'

== build: RUN, USER, a failing RUN
mkdir -p context
printf 'FROM busy\nRUN echo built >/etc/built && id -u\nUSER 7\nRUN id -u >/tmp/who\n' >context/Dockerfile
build -t built context
c=$(from built)
test "$(run $c cat /etc/built /tmp/who)" = "$(printf 'built\n7')"
printf 'FROM busy\nRUN exit 3\n' >context/Dockerfile
not build context

== build: stages, arguments, a heredoc's worth of shell
mkdir -p context
cat >context/Dockerfile <<END
FROM busy AS one
ARG WORD=none
RUN echo \$WORD >/word
FROM busy
COPY --from=one /word /word
RUN ["sh", "-c", "test -s /word && head -c 3 /word >/three"]
END
build --build-arg WORD=given -t staged context
c=$(from staged)
test "$(run $c cat /word)" = given
test "$(run $c cat /three)" = giv

== build: a secret, a cache mount, a bind mount
mkdir -p context
printf hush >secret
cat >context/Dockerfile <<END
FROM busy
RUN --mount=type=secret,id=s cat /run/secrets/s
RUN --mount=type=bind,source=Dockerfile,target=/d head -n 1 /d
RUN --mount=type=tmpfs,target=/t touch /t/x
END
build --secret id=s,src=secret context | grep hush

== build: limits
#? corten@sid: cgroup2 alone has no controller of memory here
#? runc@sid: cgroup2 alone has no controller of memory here
mkdir -p context
printf 'FROM busy\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max\n' >context/Dockerfile
build --no-cache --memory 64m context | grep -x 67108864

== twenty RUN steps
mkdir -p context
{ echo FROM busy; for n in $(seq 20); do echo "RUN echo $n >>/n"; done; } >context/Dockerfile
build --layers=false -t many context
c=$(from many)
run $c wc -l /n | grep 20

== nothing is left
buildah rm --all
test -z "$(buildah containers --quiet)"
comm -13 before <(cgroups) >left
not grep . left
