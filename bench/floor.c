// SPDX-License-Identifier: Apache-2.0
/*
 * The floor under `run`: a program that makes the container of the benchmark's bundle with nothing but the system
 * calls that the kernel asks for. It parses no document, keeps no state, checks nothing and is no runtime; it only
 * says how much of a runtime's time is the kernel's. `cargo xtask bench` compiles it with cc and runs it as root.
 *
 *     floor ROOTFS CGROUP2_DIRECTORY PROGRAM
 *
 * Keep it in step with crates/xtask/src/bundle.rs: the same mounts, devices, masks, namespaces and capabilities.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MUST(call)                                                                                                     \
	do {                                                                                                           \
		if ((call) == -1)                                                                                      \
			err(111, "%s", #call);                                                                         \
	} while (0)

enum { QUIET = MS_NOSUID | MS_NOEXEC | MS_NODEV };

static const struct {
	const char *type, *where, *data;
	unsigned long flags;
	int fresh; /* the directory is on a tmpfs of ours and has to be made */
} filesystems[] = {
	{"proc", "proc", NULL, 0, 0},
	{"tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME, 0},
	{"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC, 1},
	{"tmpfs", "dev/shm", "mode=1777,size=65536k", QUIET, 1},
	{"mqueue", "dev/mqueue", NULL, QUIET, 1},
	{"sysfs", "sys", NULL, QUIET | MS_RDONLY, 0},
	{"cgroup2", "sys/fs/cgroup", NULL, QUIET | MS_RELATIME | MS_RDONLY, 0},
};

static const struct {
	const char *where;
	unsigned int major, minor;
} devices[] = {
	{"dev/null", 1, 3}, {"dev/zero", 1, 5},	   {"dev/full", 1, 7},
	{"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9},
};

static const struct {
	const char *where, *to;
} links[] = {
	{"dev/fd", "/proc/self/fd"},	   {"dev/stdin", "/proc/self/fd/0"}, {"dev/stdout", "/proc/self/fd/1"},
	{"dev/stderr", "/proc/self/fd/2"}, {"dev/ptmx", "pts/ptmx"},
};

static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
static const char *const masked_files[] = {"proc/kcore",      "proc/keys",	   "proc/latency_stats",
					   "proc/timer_list", "proc/timer_stats", "proc/sched_debug"};
static const char *const masked_directories[] = {"proc/acpi", "proc/asound", "proc/scsi", "sys/firmware"};
static const int kept[] = {CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE};

/* Everything below is relative to the root file system, which is the current directory. */
static void fill_rootfs(void)
{
	for (size_t i = 0; i < COUNT(filesystems); i++) {
		if (filesystems[i].fresh)
			MUST(mkdir(filesystems[i].where, 0755));
		MUST(mount(filesystems[i].type, filesystems[i].where, filesystems[i].type, filesystems[i].flags,
			   filesystems[i].data));
	}
	umask(0);
	for (size_t i = 0; i < COUNT(devices); i++)
		MUST(mknod(devices[i].where, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	for (size_t i = 0; i < COUNT(links); i++)
		MUST(symlink(links[i].to, links[i].where));
}

/* A path that this kernel doesn't have needs no mask, so a failure of the first call is fine. */
static void hide(void)
{
	for (size_t i = 0; i < COUNT(readonly); i++)
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			MUST(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	for (size_t i = 0; i < COUNT(masked_files); i++)
		mount("dev/null", masked_files[i], NULL, MS_BIND, NULL);
	for (size_t i = 0; i < COUNT(masked_directories); i++)
		mount("tmpfs", masked_directories[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1");
}

static void drop_privileges(void)
{
	uint32_t mask = 0;
	for (size_t i = 0; i < COUNT(kept); i++)
		mask |= 1u << kept[i];
	for (int cap = 0; cap <= 40; cap++)
		if (cap > 31 || !(mask & 1u << cap))
			MUST(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = mask, .permitted = mask}};
	MUST(syscall(SYS_capset, &header, data));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void contain(const char *rootfs, char *program)
{
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	MUST(chdir(rootfs));
	fill_rootfs();
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	hide();
	MUST(sethostname("bench", 5));
	struct rlimit files = {1024, 1024};
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	drop_privileges();
	MUST(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC));
	char *words[] = {program, NULL}, *environment[] = {"PATH=/usr/bin:/bin", NULL};
	MUST(execve(program, words, environment));
}

/* The cgroup can go once the kernel has forgotten the last process; cgroup.events says when. */
static void remove_cgroup(const char *cgroup)
{
	if (rmdir(cgroup) == 0)
		return;
	char events[PATH_MAX + 16];
	snprintf(events, sizeof events, "%s/cgroup.events", cgroup);
	struct pollfd changed = {.fd = open(events, O_RDONLY | O_CLOEXEC), .events = POLLPRI};
	MUST(changed.fd);
	while (rmdir(cgroup) == -1) {
		if (errno != EBUSY)
			err(111, "rmdir %s", cgroup);
		MUST(poll(&changed, 1, 10));
	}
}

int main(int count, char **words)
{
	if (count != 4)
		errx(2, "usage: floor ROOTFS CGROUP2_DIRECTORY PROGRAM");
	char cgroup[PATH_MAX];
	snprintf(cgroup, sizeof cgroup, "%s/floor-%d", words[2], getpid());
	MUST(mkdir(cgroup, 0755));
	int directory = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
	MUST(directory);
	struct clone_args how = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
			 CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)directory,
	};
	long child = syscall(SYS_clone3, &how, sizeof how);
	MUST(child);
	if (child == 0)
		contain(words[1], words[3]);
	int status;
	MUST(waitpid((pid_t)child, &status, 0));
	remove_cgroup(cgroup);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
