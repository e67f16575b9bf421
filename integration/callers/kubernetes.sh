# SPDX-License-Identifier: Apache-2.0
# What the kubelet asks of containerd for its pods, with the runtime as the handler of a RuntimeClass. Read by `cargo xtask
# integration kubernetes`, where the form is described. `cri` says what the kubelet would say.
export PATH=${SHIMS:+$SHIMS:}/usr/sbin:/usr/bin:/sbin:/bin
export CRI_SOCKET=/run/containerd/containerd.sock CRI_PROTO=$PWD
export CONTAINERD_ADDRESS=$CRI_SOCKET CONTAINERD_NAMESPACE=k8s.io
cri() { "$CALLERS/cri" "$@"; }
# A pod. Arguments: name, and what its configuration has beside the usual, as JSON.
pod() {
	rm -rf "logs/$1"
	mkdir -p "logs/$1"
	jq -n --arg name "$1" --arg logs "$PWD/logs/$1" --argjson more "${2:-null}" '{
		metadata: {name: $name, uid: "uid-\($name)", namespace: "callers"}, hostname: $name, log_directory: $logs,
		linux: {cgroup_parent: "/callers/pod-\($name)", security_context: {namespace_options: {pid: "CONTAINER"}}}
	} * ($more // {})' >"$1.json"
	cri RunPodSandbox "$(jq --arg handler "$NAME" '{config: ., runtime_handler: $handler}' "$1.json")" >"$1.answer"
	jq -r .pod_sandbox_id "$1.answer" >"$1.pod"
}
# A container of a pod, created. Arguments: the pod's name, its own, its command as JSON, and what else it has. Prints its id.
create() {
	request=$(jq -n --arg pod "$(cat "$1.pod")" --arg name "$2" --argjson command "$3" --argjson more "${4:-null}" \
		--slurpfile sandbox "$1.json" '{pod_sandbox_id: $pod, sandbox_config: $sandbox[0], config: ({
			metadata: {name: $name}, image: {image: "localhost/busy:latest"}, command: $command, log_path: "\($name).log",
			linux: {security_context: {namespace_options: {pid: "CONTAINER"}}}} * ($more // {}))}')
	cri CreateContainer "$request" | jq -r .container_id
}
start() { cri StartContainer "{\"container_id\": \"$1\"}" >/dev/null; }
launch() { id=$(create "$@") && start "$id" && echo "$id"; }
stop() { cri StopContainer "{\"container_id\": \"$1\", \"timeout\": $2}" >/dev/null; }
remove() { cri RemoveContainer "{\"container_id\": \"$1\"}" >/dev/null; }
of() { cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"; }
is() { test "$(of "$1" state)" = "CONTAINER_$2"; }
ended() { eventually is "$1" EXITED && of "$1" exit_code; }
# What a command in a container prints; the whole answer is in `answer`.
inside() {
	id=$1; shift
	cri ExecSync "$(jq -n --arg id "$id" '{container_id: $id, cmd: $ARGS.positional, timeout: 10}' --args -- "$@")" >answer
	jq -r '.stdout | @base64d' answer
}
# What a container wrote: kubelet's logs are of lines `TIME STREAM F TEXT`.
logged() { cut -d' ' -f4- "logs/$1/$2.log"; }
# A container that ends at once: what it wrote, once it has ended with 0. containerd may write the last lines a little later.
output() { id=$(launch "$@") && test "$(ended "$id")" = 0 && eventually test -s "logs/$1/$2.log" && logged "$1" "$2"; }
clean() {
	set +x
	cri ListPodSandbox | jq -r '.items[].id' | while read -r id; do
		cri StopPodSandbox "{\"pod_sandbox_id\": \"$id\"}"
		cri RemovePodSandbox "{\"pod_sandbox_id\": \"$id\"}"
	done >/dev/null
}
trap clean EXIT
# In the middle of an action `!` alone lets a failure pass.
not() { ! "$@"; }
eventually() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; false; }
# Those of containers: a pod's own are the kubelet's to remove.
cgroups() { find /sys/fs/cgroup -type d -path '*/callers/pod-*/*' | sort; }
sleeps='["sleep", "1000"]'
privileged='{"linux": {"security_context": {"privileged": true}}}'

== set up
protoc --proto_path="$CALLERS" --python_out="$CRI_PROTO" cri.proto
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-pods.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": true,
	"ipam": {"type": "host-local", "subnet": "10.97.0.0/24"}}]}
END
cat >config.toml <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  # The machine may not have CAP_SYS_RESOURCE to give a pod's first process less than its own.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "$NAME"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$NAME]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$NAME.options]
  BinaryName = "$RUNTIME"
END
setsid containerd --config config.toml >containerd.log 2>&1 </dev/null &
eventually cri Version || { grep -E "level=(error|warning)" containerd.log; false; }
for image in busy pause; do
	ctr image import --snapshotter native "$IMAGES/$image.oci-archive" || ctr image import "$IMAGES/$image.oci-archive"
done
eventually sh -c '"$CALLERS/cri" Status | jq -e ".status.conditions | all(.status)"'
pod first
output first first '["hostname"]'

== a pod of the RuntimeClass: it has the handler, an address, a name
pod p
cri PodSandboxStatus "{\"pod_sandbox_id\": \"$(cat p.pod)\"}" >status
jq -r .status.state status | grep -x SANDBOX_READY
jq -r .status.runtime_handler status | grep -x "$NAME"
output p c '["hostname"]' | grep -x p
jq -r .status.network.ip status | grep '^10\.97\.0\.'
ip=$(jq -r .status.network.ip status)
output p d '["cat", "/proc/net/fib_trie"]' | grep -F "$ip"
busybox ping -c 1 -w 5 "$ip"

== containers: their lines are logged by stream, their status is told
pod p
id=$(launch p c '["sh", "-c", "echo out; echo err >&2; exit 7"]')
test "$(ended "$id")" = 7
grep 'stdout F out' logs/p/c.log
grep 'stderr F err' logs/p/c.log
of "$id" reason | grep -x Error
id=$(launch p d '["true"]')
test "$(ended "$id")" = 0
of "$id" reason | grep -x Completed

== command, arguments, directory, environment
pod p
output p c '["sh", "-c"]' '{"args": ["echo $PWD $A"], "working_dir": "/tmp", "envs": [{"key": "A", "value": "b"}]}' | grep -x '/tmp b'

== an error of the runtime is the container's reason
pod p
id=$(create p c '["no-such-program"]')
not start "$id" 2>said
grep -i 'no such file\|not found' said
is "$id" EXITED
of "$id" reason | grep -x StartError

== exec: what probes do
pod p
id=$(launch p c "$sleeps")
inside "$id" echo in | grep -x in
jq .exit_code answer | grep -x 0
inside "$id" sh -c 'echo lost >&2; exit 3'
jq .exit_code answer | grep -x 3
jq -r '.stderr | @base64d' answer | grep -x lost
inside "$id" no-such-program || true
not cri ExecSync "{\"container_id\": \"$id\", \"cmd\": [\"sleep\", \"1001\"], \"timeout\": 1}" 2>said
grep -i 'DEADLINE_EXCEEDED\|timed out\|timeout' said
eventually sh -c '! pgrep -fx "sleep 1001"'
for _ in $(seq 50); do inside "$id" true; done

== stop: the signal is taken, or the time runs out
pod p
id=$(launch p c '["sh", "-c", "trap \"exit 4\" TERM; echo up; while :; do sleep 0.1; done"]')
eventually grep 'F up' logs/p/c.log
stop "$id" 20
test "$(of "$id" exit_code)" = 4
id=$(launch p d '["sh", "-c", "trap \"\" TERM; echo up; while :; do sleep 0.1; done"]')
eventually grep 'F up' logs/p/d.log
stop "$id" 1
test "$(of "$id" exit_code)" = 137

== a container that is begun again in its pod
pod p
id=$(launch p c '["false"]')
test "$(ended "$id")" = 1
remove "$id"
id=$(launch p c "$sleeps" '{"metadata": {"attempt": 1}}')
is "$id" RUNNING

== containers of a pod: one network, one host name, IPC; processes apart or together
pod p
one=$(launch p one "$sleeps")
two=$(launch p two "$sleeps")
for kind in net uts ipc; do
	test "$(inside "$one" readlink "/proc/self/ns/$kind")" = "$(inside "$two" readlink "/proc/self/ns/$kind")"
	test "$(inside "$one" readlink "/proc/self/ns/$kind")" != "$(readlink "/proc/self/ns/$kind")"
done
test "$(inside "$one" readlink /proc/self/ns/pid)" != "$(inside "$two" readlink /proc/self/ns/pid)"
pod shared '{"linux": {"security_context": {"namespace_options": {"pid": "POD"}}}}'
together='{"linux": {"security_context": {"namespace_options": {"pid": "POD"}}}}'
id=$(launch shared one '["sleep", "1002"]' "$together")
launch shared two "$sleeps" "$together"
inside "$id" ps | grep 'sleep 1000'

== a container that looks at another one's processes, as kubectl debug makes it
pod p
id=$(launch p c '["sleep", "1003"]')
output p debug '["ps"]' "{\"linux\": {\"security_context\": {\"namespace_options\": {\"pid\": \"TARGET\", \"target_id\": \"$id\"}}}}" |
	grep 'sleep 1003'

== the host's namespaces
pod p '{"hostname": "", "linux": {"security_context": {"namespace_options": {"network": "NODE", "pid": "NODE", "ipc": "NODE"}}}}'
id=$(launch p c "$sleeps" '{"linux": {"security_context": {"namespace_options": {"network": "NODE", "pid": "NODE", "ipc": "NODE"}}}}')
for kind in net pid ipc; do
	test "$(inside "$id" readlink "/proc/self/ns/$kind")" = "$(readlink "/proc/self/ns/$kind")"
done

== the security context: user, groups, capabilities, no new privileges, a read-only root
pod p
output p c '["sh", "-c", "id -u; id -g; id -G; touch /x 2>/dev/null && exit 9; cat /proc/self/status"]' '{"linux": {"security_context": {
	"run_as_user": {"value": 12}, "run_as_group": {"value": 34}, "supplemental_groups": [56], "readonly_rootfs": true,
	"no_new_privs": true, "capabilities": {"drop_capabilities": ["ALL"]}, "seccomp": {"profile_type": "RuntimeDefault"}}}}' >said
sed -n '1p;2p' said | diff - <(printf '12\n34\n')
grep -w 56 said
grep 'CapBnd:.0000000000000000' said
grep 'NoNewPrivs:.1' said
grep 'Seccomp:.2' said

== the security context: capabilities added, paths that are masked or only read, no filter
pod p
output p c '["sh", "-c", "cat /proc/self/status; cat /proc/kcore | wc -c; touch /proc/sys/kernel/x && exit 9; mount"]' '{"linux": {"security_context": {
	"capabilities": {"add_capabilities": ["NET_ADMIN"]}, "masked_paths": ["/proc/kcore"], "readonly_paths": ["/proc/sys"],
	"seccomp": {"profile_type": "Unconfined"}}}}' >said
grep 'CapEff:.*[13579bdf]...$' said
grep 'Seccomp:.0' said
grep -x 0 said
grep '/proc/sys.*ro' said

== privileged
pod p "$privileged"
output p c '["sh", "-c", "mount -t tmpfs x /tmp && test -e /dev/kmsg && echo may"]' "$privileged" | grep -x may

== volumes: of the pod's directory, only read, in both directions
mkdir -p volume below
mount -t tmpfs pods below
mount --make-shared below
pod p
id=$(launch p c '["sh", "-c", "touch /r/x || touch /v/written; sleep 1000"]' "$(jq -n --arg here "$PWD" '{mounts: [
	{container_path: "/v", host_path: "\($here)/volume"}, {container_path: "/r", host_path: "\($here)/volume", readonly: true},
	{container_path: "/below", host_path: "\($here)/below", propagation: "PROPAGATION_HOST_TO_CONTAINER"}]}')")
eventually test -e volume/written
mkdir below/later
mount -t tmpfs later below/later
inside "$id" grep /below/later /proc/self/mounts
umount below/later
pod b "$privileged"
id=$(launch b c "$sleeps" "$(jq -n --arg here "$PWD" '{linux: {security_context: {privileged: true}}, mounts: [
	{container_path: "/below", host_path: "\($here)/below", propagation: "PROPAGATION_BIDIRECTIONAL"}]}')")
inside "$id" mount -t tmpfs inner /below/later
grep "$PWD/below/later" /proc/self/mounts
umount below/later
clean
umount below

== a device, sysctls of the pod
pod p '{"linux": {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}}}'
output p c '["sh", "-c", "test -c /dev/full; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"]' \
	'{"devices": [{"container_path": "/dev/full", "host_path": "/dev/full", "permissions": "rw"}]}' | diff - <(printf '80\n1\n')

== resources: set, updated while it runs, told
pod p
id=$(launch p c "$sleeps" '{"linux": {"resources": {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 204,
	"memory_limit_in_bytes": 67108864, "oom_score_adj": 900}}}')
grep -x 67108864 /sys/fs/cgroup/memory/callers/pod-p/"$id"/memory.limit_in_bytes
grep -x 50000 /sys/fs/cgroup/cpu/callers/pod-p/"$id"/cpu.cfs_quota_us
inside "$id" cat /proc/1/oom_score_adj | grep -x 900
cri UpdateContainerResources "{\"container_id\": \"$id\", \"linux\": {\"memory_limit_in_bytes\": 134217728, \"cpu_quota\": 70000, \"cpu_period\": 100000}}"
grep -x 134217728 /sys/fs/cgroup/memory/callers/pod-p/"$id"/memory.limit_in_bytes
grep -x 70000 /sys/fs/cgroup/cpu/callers/pod-p/"$id"/cpu.cfs_quota_us
cri ContainerStats "{\"container_id\": \"$id\"}" | jq -e '.stats.memory.working_set_bytes.value | tonumber > 0'

== too much memory: the reason is OOMKilled
pod p
id=$(launch p c '["sh", "-c", "x=$(head -c 100000000 /dev/zero | tr \"\\0\" x)"]' '{"linux": {"resources": {"memory_limit_in_bytes": 20971520}}}')
ended "$id"
of "$id" reason | grep -x OOMKilled

== a restart of containerd in the middle
pod p
id=$(launch p c "$sleeps")
pkill -x containerd
eventually sh -c '! pgrep -x containerd'
setsid containerd --config config.toml >>containerd.log 2>&1 </dev/null &
eventually cri Version
is "$id" RUNNING
inside "$id" echo in | grep -x in

== a pod that is stopped and removed with its containers running
pod p
id=$(launch p c "$sleeps")
cri StopPodSandbox "{\"pod_sandbox_id\": \"$(cat p.pod)\"}"
is "$id" EXITED
cri RemovePodSandbox "{\"pod_sandbox_id\": \"$(cat p.pod)\"}"
cri ListContainers | jq -e '.containers | length == 0'

== twenty pods at once
for n in $(seq 20); do (pod "p$n" && output "p$n" c "[\"echo\", \"$n\"]" | grep -x "$n" >"done$n") & done
wait
cat done* | sort -n | diff - <(seq 20)

== nothing is left
clean
cri ListPodSandbox | jq -e '.items | length == 0'
eventually sh -c '! pgrep -f [c]ontainerd-shim'
cgroups >left
not grep . left
not grep /run/containerd/io.containerd /proc/self/mounts

== take down
trap - EXIT
pkill -x containerd
