# SPDX-License-Identifier: Apache-2.0
# containerd, and the ways in which it is told of a shim: by name, by path, through CRI, through docker. Read by `cargo xtask
# integration shim`, where the form is described. In the column `shim` it is corten's; in the other one, which does the same
# as far as it can be done, runc's, which calls corten.
export PATH=$PWD/bin:${SHIMS:+$SHIMS:}$IMAGES/criu:/usr/sbin:/usr/bin:/sbin:/bin
export CRI_SOCKET=/run/containerd/containerd.sock CRI_PROTO=$PWD DOCKER_HOST=unix:///run/docker.sock
export CONTAINERD_ADDRESS=$CRI_SOCKET CONTAINERD_NAMESPACE=shims
image=localhost/busy:latest
# What containerd is told: a name alone. runc's shim has to be told of corten.
if [ "$NAME" = shim ]; then
	kind=io.containerd.corten.v2 kind_options='' program=$SHIMS/containerd-shim-corten-v2
else
	kind=io.containerd.runc.v2 kind_options="--runc-binary $RUNTIME" program=/usr/bin/containerd-shim-runc-v2
fi
run() { timeout 60 ctr run --snapshotter native --runtime $kind $kind_options "$@"; }
task() { timeout 60 ctr task "$@"; }
# One call of the CRI, in the namespace of its own.
cri() { "$CALLERS/cri" "$@"; }
clean() {
	for namespace in shims k8s.io; do
		for id in $(ctr -n $namespace container ls -q); do
			timeout 20 ctr -n $namespace task kill -s KILL --all "$id" || true
			timeout 20 ctr -n $namespace task rm -f "$id" || true
			ctr -n $namespace container rm "$id" || true
		done
	done >/dev/null 2>&1
}
# Ends what the action began, whatever becomes of it.
trap clean EXIT
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }
eventually() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; false; }
ends_with() { wanted=$1; shift; status=0; "$@" || status=$?; test $status = "$wanted"; }
is() { task ls | grep -E "^$1 .* $2"; }
shims() { pgrep -x containerd-shim; }
daemon() { setsid containerd --config config.toml >>containerd.log 2>&1 </dev/null & eventually ctr version; }
stopped() { pkill "$1" -x containerd && eventually sh -c '! pgrep -x containerd'; }
# Without a network of its own, so that there is none to be set up.
host='{"linux": {"security_context": {"namespace_options": {"network": "NODE", "pid": "CONTAINER"}}}}'
# A pod of a handler, and a container in it: prints its id.
pod() {
	jq -n --arg name "$1" --argjson more "$host" --arg logs "$PWD/logs" '{metadata: {name: $name, uid: "uid-\($name)",
		namespace: "shims"}, log_directory: $logs, linux: {cgroup_parent: "/shims/pod-\($name)"}} * $more' >"$1.json"
	cri RunPodSandbox "$(jq --arg handler "$1" '{config: ., runtime_handler: $handler}' "$1.json")" | jq -r .pod_sandbox_id >"$1.pod"
	request=$(jq -n --arg pod "$(cat "$1.pod")" --slurpfile sandbox "$1.json" --argjson more "$host" '{pod_sandbox_id: $pod,
		sandbox_config: $sandbox[0], config: ({metadata: {name: "c"}, image: {image: "localhost/busy:latest"},
		command: ["sleep", "1000"], log_path: "c.log"} * $more)}')
	id=$(cri CreateContainer "$request" | jq -r .container_id)
	cri StartContainer "{\"container_id\": \"$id\"}" >&2
	echo "$id"
}
inside() {
	id=$1; shift
	cri ExecSync "$(jq -n --arg id "$id" '{container_id: $id, cmd: $ARGS.positional, timeout: 10}' --args -- "$@")" | jq -r '.stdout | @base64d'
}
remove_pod() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$(cat "$1.pod")\"}"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$(cat "$1.pod")\"}"
}
# Those of containers.
cgroups() { find /sys/fs/cgroup -type d -path '*/shims/*' ! -path '*/shims/pod-*' | sort; }
# Nothing of what a shim keeps is there any more.
nothing_is_left() {
	eventually not shims
	not grep /run/containerd/io.containerd /proc/self/mounts
	test -z "$(ls /run/containerd/io.containerd.runtime.v2.task/shims)"
	test -z "$(ls /run/containerd/runc/shims)"
	comm -13 before <(cgroups) >left
	not grep . left
}

== set up
cgroups >before
mkdir -p bin logs
# What shims call by themselves.
for name in runc corten; do ln -sfn "$RUNTIME" "bin/$name"; done
cat >options.toml <<END
BinaryName = "$RUNTIME"
Root = "/run/other"
SystemdCgroup = false
END
protoc --proto_path="$CALLERS" --python_out="$CRI_PROTO" cri.proto
handler() { printf '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%s]\n' "$1"; }
options() { printf '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%s.options]\n' "$1"; }
{
	cat <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "name"
END
	handler name
	echo "runtime_type = \"$kind\""
	options name
	# Of a table containerd 1.6 sends this alone to what is not runc's.
	if [ "$NAME" = shim ] && containerd --version | grep -qF ' 1.6.'; then
		echo "ConfigPath = \"$PWD/options.toml\""
	else
		cat options.toml
	fi
	handler path
	echo 'runtime_type = "io.containerd.runc.v2"'
	echo "runtime_path = \"$program\""
	options path
	cat options.toml
	handler plain
	echo "runtime_type = \"$kind\""
} >config.toml
daemon
for name in busy pause; do
	for namespace in shims k8s.io; do
		ctr -n $namespace image import --local --snapshotter native "$IMAGES/$name.oci-archive" ||
			ctr -n $namespace image import --snapshotter native "$IMAGES/$name.oci-archive"
	done
done
run --rm $image first true

== ctr: by name, without options
ctr run --snapshotter native --runtime $kind -d $image c sleep 1000
test "$("$RUNTIME" --root /run/containerd/runc/shims list -q)" = c
tr "\\0" " " </proc/$(shims)/cmdline | grep -F "${program##*/}"
test "$(task exec --exec-id e c echo in)" = in

== ctr: by path
test "$(ctr run --snapshotter native --runtime "$program" --rm $image c echo hello)" = hello

== ctr: with a file of options
#? corten: ctr sends no such options to runc's shim
ctr run --snapshotter native --runtime $kind --runtime-config-path "$PWD/options.toml" -d $image c sleep 1000
test "$("$RUNTIME" --root /run/other/shims list -q)" = c

== ctr: options that nobody knows are an error
#? corten: ctr sends no such options to runc's shim
echo 'NoSuchOption = 1' >wrong.toml
ends_with 1 ctr run --snapshotter native --runtime $kind --runtime-config-path "$PWD/wrong.toml" --rm $image c true 2>said
grep NoSuchOption said

== CRI: a name as runtime_type, options
id=$(pod name)
"$RUNTIME" --root /run/other/k8s.io list -q | grep -x "$id"
test "$(inside "$id" echo in)" = in
remove_pod name

== CRI: a name as runtime_type, no options
id=$(pod plain)
test "$(inside "$id" echo in)" = in
remove_pod plain

== CRI: runc's name as runtime_type, options, a runtime_path
id=$(pod path)
"$RUNTIME" --root /run/other/k8s.io list -q | grep -x "$id"
test "$(inside "$id" echo in)" = in
tr "\\0" " " </proc/$(shims)/cmdline | grep -F "${program##*/}"
remove_pod path

== docker: by name
#? shim@host: docker 20.10 knows the names of runc's shims alone
setsid dockerd --containerd $CRI_SOCKET --iptables=false --bridge=none --storage-driver vfs \
	--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /shims -H "$DOCKER_HOST" >dockerd.log 2>&1 </dev/null &
trap 'docker ps -aq | xargs -r docker rm -f; pkill -x dockerd; clean' EXIT
eventually docker version
docker load --input "$IMAGES/busy.docker-archive"
test "$(docker run --network none --runtime $kind --rm localhost/busy echo hello)" = hello
docker run --network none --runtime $kind -d --name one localhost/busy sh -c 'echo out; exec sleep 1000'
eventually sh -c 'docker logs one | grep -x out'
test "$(docker exec one echo in)" = in
docker rm -f one
docker rmi -f localhost/busy

== a runtime that is not corten: it runs, executes, pauses, is counted, is killed and removed
runc=$(PATH=/usr/sbin:/usr/bin command -v runc)
other() { ctr run --snapshotter native --runc-binary "$runc" "$@"; }
test "$(other --rm $image c echo hello)" = hello
ends_with 7 other --rm $image c sh -c 'exit 7'
not other --rm $image c no-such-program
ctr container rm c || true
other -d $image c sh -c 'sleep 1001 & exec sleep 1000'
is c RUNNING
test "$(task exec --exec-id e1 c echo in)" = in
ends_with 9 task exec --exec-id e2 c sh -c 'exit 9'
not task exec --exec-id e3 c no-such-program
script -qec "ctr task exec --exec-id e4 -t c tty" /dev/null | grep /dev/pts
task ps c | grep -c '^[0-9]' | grep -x 2
task metrics c | grep -i -E 'memory|pids'
task pause c
is c PAUSED
task resume c
is c RUNNING
task kill --all -s KILL c
eventually is c STOPPED
task rm c 2>&1 | grep 'exit code 137'
test -z "$("$runc" --root /run/containerd/runc/shims list -q)"

== output to a file
run --log-uri "file://$PWD/out%20put" -d $image c sh -c 'echo one; echo two >&2; exec sleep 1000'
eventually grep -x two 'out put'
grep -x one 'out put'

== output to a program
#~ corten: runc's shim ends the program with the container, before it has written all
cat >bin/logger <<'END'
#!/bin/sh
exec >>"$2" 2>&1
echo "$CONTAINER_ID of $CONTAINER_NAMESPACE"
sed 's/^/err /' <&4 5>&- &
exec 5>&-
sed 's/^/out /' <&3
wait
echo end
END
chmod +x bin/logger
rm -f logged
run --log-uri "binary://$PWD/bin/logger?to=$PWD/logged" -d $image c sh -c 'echo one; echo two >&2'
eventually is c STOPPED
task rm c
eventually grep -x end logged
grep -x 'c of shims' logged
grep -x 'out one' logged
grep -x 'err two' logged
eventually not pgrep -x logger

== output to a program that fails
printf '#!/bin/sh\nexit 3\n' >bin/broken
chmod +x bin/broken
timeout 30 ctr run --snapshotter native --runtime $kind $kind_options --log-uri "binary://$PWD/bin/broken" -d $image c sleep 1000 || true
task rm -f c || true
ctr container rm c || true

== containers of a pod share a shim
run -d --annotation io.containerd.runc.v2.group=a $image a sleep 1000
run -d --annotation io.containerd.runc.v2.group=a $image b sleep 1000
run -d --annotation io.containerd.runc.v2.group=a $image c sleep 1000
shims | wc -l | grep -x 1
for id in a b c; do test "$(task exec --exec-id e $id echo in)" = in; done
task kill -s KILL a
eventually is a STOPPED
task rm a || true
is b RUNNING
test "$(task exec --exec-id f c echo in)" = in
clean
eventually not shims

== restarts of containerd: what goes on goes on
for signal in -TERM -KILL; do
	run -d $image c sleep 1000
	stopped $signal
	daemon
	is c RUNNING
	test "$(task exec --exec-id f c echo in)" = in
	# Another one beside it.
	ends_with 4 run --rm $image d sh -c 'exit 4'
	task kill -s KILL c
	eventually is c STOPPED
	task rm c 2>&1 | grep 'exit code 137'
	ctr container rm c
done

== restarts of containerd: what ends meanwhile is told
#? shim@sid: containerd 2 asks for a task's processes, and removes a shim that has none
#? corten@sid: containerd 2 asks for a task's processes, and removes a shim that has none
for signal in -TERM -KILL; do
	run -d $image c sh -c 'sleep 2; exit 6'
	stopped $signal
	sleep 3
	daemon
	eventually is c STOPPED
	task rm c 2>&1 | grep 'exit code 6'
	ctr container rm c
done

== restarts of containerd: who waits afterwards hears of the end
run -d $image a sh -c 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 6'
stopped -KILL
daemon
(ends_with 6 task attach a && touch waited) &
sleep 1
task exec --exec-id e a touch /tmp/end
eventually test -e waited
rm waited

== restarts of containerd: killed at random moments, of a start, an exec, an end
#~ corten: leaves shims that were begun in vain
run -d $image keep sleep 100000
RANDOM=7
for round in $(seq ${ROUNDS:-10}); do
	callers=
	for n in 1 2 3; do
		run -d $image "r$n" sh -c "sleep 0.$((RANDOM % 9)); exit 5" >/dev/null 2>&1 &
		callers="$callers $!"
	done
	task exec --exec-id "x$round" keep sh -c 'sleep 0.3; exit 4' >/dev/null 2>&1 &
	callers="$callers $!"
	sleep "0.$(printf %03d $((RANDOM % 700)))"
	stopped -KILL
	daemon
	wait $callers || true
	is keep RUNNING
	test "$(task exec --exec-id "y$round" keep echo alive)" = alive
	# Each of the others is there or is not, has ended or will, and can be removed.
	for n in 1 2 3; do
		ctr container info "r$n" >/dev/null 2>&1 || continue
		eventually sh -c "! ctr task ls | grep '^r$n .*RUNNING'"
		! is "r$n" . || task rm -f "r$n" || true
		ctr container rm "r$n"
	done
done
task kill -s KILL keep
eventually is keep STOPPED
task rm keep || true
ctr container rm keep
# One that was begun in vain is gone after a minute.
for _ in $(seq 7); do shims || break; sleep 10; done
nothing_is_left

== the shim is killed: nothing of it is left
#? corten: leaves its socket
run -d $image c sh -c 'sleep 1001 & exec sleep 1000'
task exec -d --exec-id e c sleep 1002
pkill -KILL -x containerd-shim
eventually sh -c '! ctr task ls | grep "^c .*RUNNING"'
eventually not pgrep -f '^sleep 100[012]$'
eventually sh -c 'ctr task rm -f c; ! ctr task ls -q | grep -x c'
ctr container rm c
nothing_is_left
test -z "$(ls /run/containerd/s)"

== the shim of a pod is killed
#? corten: leaves its socket
run -d --annotation io.containerd.runc.v2.group=a $image a sleep 1001
run -d --annotation io.containerd.runc.v2.group=a $image b sleep 1002
pkill -KILL -x containerd-shim
eventually not pgrep -f '^sleep 100[12]$'
task rm -f a b || true
eventually ctr container rm a b
nothing_is_left
test -z "$(ls /run/containerd/s)"
# The pod's name may be used again.
test "$(run --rm --annotation io.containerd.runc.v2.group=a $image a echo again)" = again

== events: an end for want of memory, and their order
timeout 60 ctr events >events &
events=$!
sleep 0.5
run -d --memory-limit 16777216 $image c sh -c 'x=a; while :; do x=$x$x; done'
eventually is c STOPPED
task rm c || true
sleep 0.5
kill $events
grep -o '/tasks/[a-z-]*' events | tr '\n' ' ' >order
grep -E '^/tasks/create /tasks/start (/tasks/oom )+/tasks/exit (/tasks/oom )*/tasks/delete $' order

== a terminal: its size, and what is typed
script -qec "stty rows 33 cols 99; ctr run --snapshotter native --runtime $kind $kind_options --rm -t $image c sh -c 'sleep 0.5; stty size'" /dev/null | grep '33 99'
(sleep 1; echo 'echo $((6*7))x'; sleep 0.5; echo 'exit 3'; sleep 1) |
	script -qec "ctr run --snapshotter native --runtime $kind $kind_options -t $image c sh" /dev/null >said || true
grep 42x said

== attach: output goes on, the status is told
run -d $image c sh -c 'n=0; while [ ! -e /tmp/end ]; do echo tick; sleep 0.2; done; exit 5'
(ends_with 5 task attach c >attached; echo $? >attach-status) &
eventually grep tick attached
task exec --exec-id e c touch /tmp/end
eventually grep -x 0 attach-status

== checkpoint and restore
COUNTER='who=$(cat /proc/sys/kernel/random/uuid); n=0; while :; do n=$((n+1)); echo $who $n >/tmp/next; mv /tmp/next /tmp/told; usleep 20000; done'
run -d $image c sh -c "$COUNTER"
# A ctr that is slow to open its FIFO prints nothing.
told() { for _ in 1 2 3; do ! task exec --exec-id "e$RANDOM" c cat /tmp/told | grep . || return 0; done; false; }
eventually told
who=$(told | cut -d' ' -f1)
beyond() { told | { read -r name n; test "$name" = "$who" && test "$n" -gt "$1"; }; }
eventually beyond 5
ctr container checkpoint --image --task --rw c localhost/written
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
task kill -s KILL c
eventually is c STOPPED
task rm c || true
ctr container rm c
ctr container restore --live c localhost/written
eventually is c RUNNING
n=$(told | cut -d' ' -f2)
eventually beyond "$n"
ctr image rm localhost/written

== much output, to a reader that is slow
run --rm $image c sh -c 'head -c 20000000 /dev/zero' | { sleep 1; wc -c; } | grep -x 20000000
head -c 5000000 /dev/zero | run --rm $image c wc -c | grep -x 5000000

== a hundred processes at once
#~ corten: runc's shim may lose the end of one, and ctr waits for it
run -d $image c sleep 1000
for n in $(seq 100); do (ends_with 3 timeout 20 ctr task exec --exec-id e$n c sh -c 'exit 3' && touch done$n) & done
wait
ls done* | wc -l | grep -x 100
rm done*

== nothing is left
#? corten: sockets of the shims that were killed
clean
nothing_is_left
test -z "$(ls /run/containerd/s)"

== take down
trap - EXIT
pkill -x containerd
