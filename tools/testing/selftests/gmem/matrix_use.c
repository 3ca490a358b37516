// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of the matrix on contents: access by CPUs, devices, children
 * and the kernel, and what the kernel does with pages of its own accord.
 */
#include "matrix.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PM_SOFT_DIRTY		(1ULL << 55)
#define PM_SWAP			(1ULL << 62)
#define PM_PRESENT		(1ULL << 63)

#ifndef MPOL_MF_MOVE
#define MPOL_MF_MOVE		2
#endif

/* --- CPU and devices ----------------------------------------------------- */

static int run_cpu_read(struct cell *c)
{
	return cell_same(c, c->p, c->at, c->n);
}

const struct matrix_op op_cpu_read = {
	.name = "CPU read",
	.flags = OP_AGAIN,
	.run = run_cpu_read,
};

/* New bytes, for the range and the shadow. */
static int write_fresh(struct cell *c)
{
	cell_put(c, c->p, c->fresh + c->at, c->n);
	cell_put(c, c->shadow + c->at, c->fresh + c->at, c->n);
	return 0;
}

const struct matrix_op op_cpu_write = {
	.name = "CPU write",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = write_fresh,
};

static int run_device_read(struct cell *c)
{
	return cell_device_same(c, &c->npu[0], c->p, c->at, c->n);
}

const struct matrix_op op_device_read = {
	.name = "device read",
	.flags = OP_AGAIN,
	.run = run_device_read,
};

static int run_device_write(struct cell *c)
{
	const uint64_t value = 0x1122334455667788ULL;
	size_t i;

	for (i = 0; i < c->n; i += sizeof(value))
		memcpy(c->shadow + c->at + i, &value, sizeof(value));
	return _npu_fill(&c->npu[0], c->p, c->n, value, NULL);
}

const struct matrix_op op_device_write = {
	.name = "device write",
	.flags = OP_WRITES | OP_AGAIN,
	.run = run_device_write,
};

static int run_device_atomics(struct cell *c)
{
	return cell_device_adds(c, &c->npu[0], c->p, c->at, c->n);
}

const struct matrix_op op_device_atomics = {
	.name = "device atomics",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = run_device_atomics,
};

static int run_second_device(struct cell *c)
{
	if (cell_device_same(c, &c->npu[1], c->p, c->at, c->n))
		return -1;
	return cell_device_adds(c, &c->npu[1], c->p, c->at, c->n);
}

static const char *skip_one_device(const struct cell *c)
{
	return c->nr_npu < 2 ? "there is only one device" : NULL;
}

const struct matrix_op op_second_device = {
	.name = "second device",
	.flags = OP_CHANGES | OP_AGAIN,
	.skip = skip_one_device,
	.run = run_second_device,
};

/* --- children ------------------------------------------------------------ */

/* In a child: the whole buffer is as it should be. */
static int child_sees_all(struct cell *c)
{
	if (cell_same(c, c->buf.p, 0, c->len) || cell_child_settle(c))
		return -1;
	return gmem_diff(c->shadow, c->buf.p, c->len) == c->len ? 0 :
		cell_fail(c, "contents of the child changed");
}

static int run_fork_read(struct cell *c)
{
	return cell_child(c, child_sees_all);
}

const struct matrix_op op_fork_read = {
	.name = "fork, child reads",
	.flags = OP_AGAIN,
	.run = run_fork_read,
};

static int child_writes(struct cell *c)
{
	if (child_sees_all(c))
		return -1;
	memcpy(c->p, c->fresh + c->at, c->n);
	memcpy(c->shadow + c->at, c->fresh + c->at, c->n);
	return gmem_diff(c->shadow, c->buf.p, c->len) == c->len ? 0 :
		cell_fail(c, "what the child wrote is not there");
}

static int run_fork_write(struct cell *c)
{
	return cell_child(c, child_writes);
}

const struct matrix_op op_fork_write = {
	.name = "fork, child writes",
	.flags = OP_AGAIN,
	.run = run_fork_write,
};

static int child_uses_device(struct cell *c)
{
	struct npu npu;
	int err = _npu_open(&npu, 0);

	if (!err)
		err = _npu_attach(&npu, 0);
	if (err)
		return cell_fail(c, "child cannot attach: %s", strerror(err));
	/* The device first, as long as nothing else has touched the pages. */
	if (cell_device_same(c, &npu, c->p, c->at, c->n) ||
	    cell_device_adds(c, &npu, c->p, c->at, c->n))
		return -1;
	return child_sees_all(c);
}

static int run_fork_device(struct cell *c)
{
	return cell_child(c, child_uses_device);
}

const struct matrix_op op_fork_device = {
	.name = "fork, child uses device",
	.flags = OP_AGAIN,
	.run = run_fork_device,
};

/* The child changes half of the range and has a child itself. */
static int child_forks(struct cell *c)
{
	size_t half = c->n / SZ_4K / 2 * SZ_4K;

	if (cell_same(c, c->p, c->at, c->n) || cell_child_settle(c))
		return -1;
	memcpy(c->p, c->fresh + c->at, half);
	memcpy(c->shadow + c->at, c->fresh + c->at, half);
	/* From here on the words are what the shadow says. */
	c->race = CELL_ALONE;
	if (cell_child(c, child_writes))
		return -1;
	return cell_same(c, c->buf.p, 0, c->len);
}

static int run_fork_grandchild(struct cell *c)
{
	return cell_child(c, child_forks);
}

const struct matrix_op op_fork_grandchild = {
	.name = "fork, grandchild",
	.flags = OP_AGAIN,
	.run = run_fork_grandchild,
};

static int go[2];

static int child_waits(struct cell *c)
{
	char byte;

	close(go[1]);
	if (read(go[0], &byte, 1))
		return cell_fail(c, "no end of the pipe");
	return child_sees_all(c);
}

/* While the child waits the parent does something, then the child looks. */
static int with_waiting_child(struct cell *c, int (*parent)(struct cell *c))
{
	int err, ret;
	pid_t pid;

	if (pipe(go))
		return errno;
	pid = cell_fork(c, child_waits);
	close(go[0]);
	err = pid < 0 ? -1 : parent(c);
	close(go[1]);
	ret = cell_wait(c, pid);
	return err ? err : ret;
}

static int parent_writes(struct cell *c)
{
	write_fresh(c);
	return cell_device_adds(c, &c->npu[0], c->p, c->at, c->n);
}

static int run_fork_parent_writes(struct cell *c)
{
	return with_waiting_child(c, parent_writes);
}

const struct matrix_op op_fork_parent_writes = {
	.name = "fork, parent writes",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = run_fork_parent_writes,
};

static int run_fork_exits_last(struct cell *c)
{
	return with_waiting_child(c, op_munmap.run);
}

const struct matrix_op op_fork_exits_last = {
	.name = "fork, parent unmaps",
	.flags = OP_LOSES | OP_FAULTS,
	.run = run_fork_exits_last,
};

static int child_execs(struct cell *c)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, 1);
	dup2(null, 2);
	execl("/proc/self/exe", "matrix", "-l", NULL);
	return cell_fail(c, "exec: %s", strerror(errno));
}

/* The new program lists the tests, which counts as having skipped them. */
static int run_fork_exec(struct cell *c)
{
	pid_t pid = cell_fork(c, child_execs);
	int code = pid < 0 ? -1 : gmem_child(pid);

	return code == 4 ? 0 : cell_fail(c, "the program ended with %d", code);
}

const struct matrix_op op_fork_exec = {
	.name = "fork, exec",
	.flags = OP_AGAIN,
	.run = run_fork_exec,
};

static int child_dumps(struct cell *c)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_CORE, &unlimited))
		return cell_fail(c, "setrlimit: %s", strerror(errno));
	signal(SIGABRT, SIG_DFL);
	abort();
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"

static int run_coredump(struct cell *c)
{
	char old[256], path[64];
	int fd, code, err;
	pid_t pid;

	if (gmem_read_file(CORE_PATTERN, old, sizeof(old)) < 0 ||
	    _gmem_write_file(CORE_PATTERN, "/tmp/gmem-core.%P"))
		return cell_fail(c, "cannot set " CORE_PATTERN);
	pid = cell_fork(c, child_dumps);
	code = pid < 0 ? -1 : gmem_child(pid);
	_gmem_write_file(CORE_PATTERN, old);
	if (code != 128 + SIGABRT)
		return cell_fail(c, "the child ended with %d", code);

	snprintf(path, sizeof(path), "/tmp/gmem-core.%d", pid);
	fd = open(path, O_RDONLY);
	unlink(path);
	err = fd < 0 ? errno : _gmem_core_read(fd, c->p, c->scratch, c->n);
	close(fd);
	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_coredump = {
	.name = "fork, coredump",
	.run = run_coredump,
};

/* --- what the kernel says of pages --------------------------------------- */

/* A page that is written or was on a device after the clearing is dirty. */
static int run_soft_dirty(struct cell *c)
{
	char *last = c->p + c->n - SZ_4K;
	int err = _gmem_write_file("/proc/self/clear_refs", "4");

	if (err)
		return err;
	*(volatile char *)c->p += 1;
	c->shadow[c->at] += 1;
	if (cell_device_adds(c, &c->npu[0], last, c->at + c->n - SZ_4K, SZ_4K) ||
	    cell_same(c, c->p, c->at, SZ_4K) ||
	    cell_same(c, last, c->at + c->n - SZ_4K, SZ_4K))
		return -1;
	if (c->state == CELL_MOVING || c->race != CELL_ALONE)
		return 0;
	if (!(gmem_pagemap(c->p) & PM_SOFT_DIRTY) ||
	    !(gmem_pagemap(last) & PM_SOFT_DIRTY))
		return cell_fail(c, "a written page is not soft-dirty");
	return 0;
}

const struct matrix_op op_soft_dirty = {
	.name = "soft-dirty",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = run_soft_dirty,
};

static int run_pagemap(struct cell *c)
{
	bool away = c->state == CELL_DEVICE;
	size_t i;

	for (i = 0; i < c->n; i += 5 * SZ_4K) {
		uint64_t word = gmem_pagemap(c->p + i);
		bool present = word & PM_PRESENT;

		if (present == !!(word & PM_SWAP))
			return cell_fail(c, "page %zu: %llx",
					 (c->at + i) / SZ_4K,
					 (unsigned long long)word);
		if (c->race == CELL_ALONE && c->state != CELL_MOVING &&
		    c->state != CELL_MIXED &&
		    present == away)
			return cell_fail(c, "page %zu is%s present",
					 (c->at + i) / SZ_4K,
					 present ? "" : " not");
	}
	return 0;
}

const struct matrix_op op_pagemap = {
	.name = "pagemap",
	.flags = OP_AGAIN,
	.run = run_pagemap,
};

/* To the host's node, where host pages are already. */
static int run_move_pages(struct cell *c)
{
	static int nodes[CELL_PAGES], status[CELL_PAGES];
	static void *pages[CELL_PAGES];
	size_t i, nr = c->n / SZ_4K;

	for (i = 0; i < nr; i++)
		pages[i] = c->p + i * SZ_4K;
	return syscall(SYS_move_pages, 0, nr, pages, nodes, status,
		       MPOL_MF_MOVE) < 0 ? errno : 0;
}

const struct matrix_op op_move_pages = {
	.name = "move_pages to node 0",
	.flags = OP_AGAIN,
	.run = run_move_pages,
};

/* --- the kernel reads and writes ----------------------------------------- */

/* Is @moved all of the range?  What did not move has an errno. */
static int all_of(struct cell *c, ssize_t moved)
{
	if (moved < 0)
		return errno;
	return moved == (ssize_t)c->n ? 0 : cell_fail(c, "only %zd bytes", moved);
}

static int run_write_from(struct cell *c)
{
	int fd = memfd_create("matrix", 0);
	int err = all_of(c, write(fd, c->p, c->n));

	if (!err)
		err = all_of(c, pread(fd, c->scratch, c->n, 0));
	close(fd);
	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_write_from = {
	.name = "write(2) from it",
	.flags = OP_AGAIN,
	.run = run_write_from,
};

static int run_read_into(struct cell *c)
{
	int fd = memfd_create("matrix", 0);
	int err = all_of(c, write(fd, c->fresh + c->at, c->n));

	if (!err)
		err = all_of(c, pread(fd, c->p, c->n, 0));
	close(fd);
	memcpy(c->shadow + c->at, c->fresh + c->at, c->n);
	return err;
}

const struct matrix_op op_read_into = {
	.name = "read(2) into it",
	.flags = OP_WRITES | OP_AGAIN,
	.run = run_read_into,
};

/* A disk with @fresh on it. */
static int make_disk(struct cell *c)
{
	size_t len = c->shape->block * c->shape->nr;

	if (c->disk >= 0)
		return 0;
	c->disk = gmem_disk_open(2 * SZ_2M, &c->disk_id);
	if (c->disk < 0)
		return -c->disk;
	return pwrite(c->disk, c->fresh, len, 0) == (ssize_t)len ? 0 : EIO;
}

static int run_direct_write(struct cell *c)
{
	int err = all_of(c, pwrite(c->disk, c->p, c->n, c->at));

	if (!err)
		err = all_of(c, pread(c->disk, c->scratch, c->n, c->at));
	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_direct_write = {
	.name = "O_DIRECT write from it",
	.setup = make_disk,
	.run = run_direct_write,
};

static int run_direct_read(struct cell *c)
{
	memcpy(c->shadow + c->at, c->fresh + c->at, c->n);
	return all_of(c, pread(c->disk, c->p, c->n, c->at));
}

const struct matrix_op op_direct_read = {
	.name = "O_DIRECT read into it",
	.flags = OP_WRITES | OP_AGAIN,
	.setup = make_disk,
	.run = run_direct_read,
};

/* The pipe has the pages themselves, so it sees what is written later. */
static int run_vmsplice(struct cell *c)
{
	struct iovec iov = { c->p, c->n };
	int fd[2], err;

	if (pipe(fd))
		return errno;
	err = all_of(c, vmsplice(fd[1], &iov, 1, 0));
	if (!err) {
		write_fresh(c);
		err = cell_device_adds(c, &c->npu[0], c->p, c->at, c->n);
	}
	if (!err)
		err = all_of(c, read(fd[0], c->scratch, c->n));
	close(fd[0]);
	close(fd[1]);
	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_vmsplice = {
	.name = "vmsplice",
	.flags = OP_CHANGES,
	.pages = 16,
	.run = run_vmsplice,
};

static int run_vm_readv(struct cell *c)
{
	struct iovec local = { c->scratch, c->n }, remote = { c->p, c->n };
	int err = all_of(c, process_vm_readv(getpid(), &local, 1, &remote, 1,
					     0));

	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_vm_readv = {
	.name = "process_vm_readv",
	.flags = OP_AGAIN,
	.run = run_vm_readv,
};

static int run_vm_writev(struct cell *c)
{
	struct iovec local = { c->fresh + c->at, c->n };
	struct iovec remote = { c->p, c->n };

	memcpy(c->shadow + c->at, c->fresh + c->at, c->n);
	return all_of(c, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
}

const struct matrix_op op_vm_writev = {
	.name = "process_vm_writev",
	.flags = OP_WRITES | OP_AGAIN,
	.run = run_vm_writev,
};

static int run_proc_mem(struct cell *c)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	int err = all_of(c, pread(fd, c->scratch, c->n, (uintptr_t)c->p));

	if (!err)
		err = cell_same(c, c->scratch, c->at, c->n);
	if (!err)
		err = all_of(c, pwrite(fd, c->fresh + c->at, c->n,
				       (uintptr_t)c->p));
	close(fd);
	memcpy(c->shadow + c->at, c->fresh + c->at, c->n);
	return err;
}

const struct matrix_op op_proc_mem = {
	.name = "/proc/PID/mem",
	.flags = OP_WRITES | OP_AGAIN,
	.run = run_proc_mem,
};

#define PEEK_STEP	(7 * SZ_4K)

/* The child is the debugger of its parent. */
static int child_debugs(struct cell *c)
{
	pid_t pid = getppid();
	int status;
	size_t i;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) ||
	    waitpid(pid, &status, __WALL) != pid)
		return cell_fail(c, "ptrace: %s", strerror(errno));
	for (i = 0; i < c->n; i += PEEK_STEP) {
		uint64_t *want = (uint64_t *)(c->shadow + c->at + i) + 3;
		uint64_t *word = (uint64_t *)(c->p + i) + 3;
		uint64_t seen;

		errno = 0;
		seen = ptrace(PTRACE_PEEKDATA, pid, word, NULL);
		if (errno || seen != *want)
			cell_fail(c, "peek at page %zu: %llx, %s",
				  (c->at + i) / SZ_4K,
				  (unsigned long long)seen, strerror(errno));
		if (ptrace(PTRACE_POKEDATA, pid, word, seen + 1))
			cell_fail(c, "poke: %s", strerror(errno));
	}
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return c->shared->failed;
}

static int run_ptrace(struct cell *c)
{
	int err = cell_child(c, child_debugs);
	size_t i;

	for (i = 0; i < c->n; i += PEEK_STEP)
		((uint64_t *)(c->shadow + c->at + i))[3]++;
	return err;
}

const struct matrix_op op_ptrace = {
	.name = "ptrace, peek and poke",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = run_ptrace,
};

/* --- io_uring ------------------------------------------------------------ */

/* Write from the pinned buffer of an io_uring to a file; bytes or -errno. */
static int ring_write(int ring, const struct io_uring_params *params, int file,
		      const void *p, size_t len)
{
	const struct io_sqring_offsets *sq = &params->sq_off;
	const struct io_cqring_offsets *cq = &params->cq_off;
	size_t size = sq->array + params->sq_entries * sizeof(uint32_t);
	size_t cq_size = cq->cqes + params->cq_entries *
				    sizeof(struct io_uring_cqe);
	size_t sqe_size = params->sq_entries * sizeof(struct io_uring_sqe);
	struct io_uring_sqe *sqe;
	int ret = -ENOMEM;
	char *rings;

	if (size < cq_size)
		size = cq_size;
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQ_RING);
	sqe = mmap(NULL, sqe_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		   IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqe == MAP_FAILED)
		return -errno;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_WRITE_FIXED;
	sqe->fd = file;
	sqe->addr = (uintptr_t)p;
	sqe->len = len;
	*(uint32_t *)(rings + sq->array) = 0;
	__atomic_store_n((uint32_t *)(rings + sq->tail), 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) == 1)
		ret = ((struct io_uring_cqe *)(rings + cq->cqes))->res;
	munmap(rings, size);
	munmap(sqe, sqe_size);
	return ret;
}

/* What is pinned stays the process's memory, for CPU, device and the ring. */
static int run_longterm_pin(struct cell *c)
{
	int fd = memfd_create("matrix", 0);
	struct io_uring_params params;
	int ring, err = 0, n;

	ring = cell_pin(c->p, c->n, &params);
	if (ring < 0)
		return -ring;
	write_fresh(c);
	err = cell_device_adds(c, &c->npu[0], c->p, c->at, c->n);
	if (!err) {
		n = ring_write(ring, &params, fd, c->p, c->n);
		errno = n < 0 ? -n : 0;
		err = all_of(c, n);
	}
	if (!err)
		err = all_of(c, pread(fd, c->scratch, c->n, 0));
	cell_unpin(ring);
	close(fd);
	return err ? err : cell_same(c, c->scratch, c->at, c->n);
}

const struct matrix_op op_longterm_pin = {
	.name = "pin for long (io_uring)",
	.flags = OP_CHANGES | OP_AGAIN,
	.run = run_longterm_pin,
};

/* --- reclaim ------------------------------------------------------------- */

static int run_compaction(struct cell *c)
{
	(void)c;
	return _gmem_write_file("/proc/sys/vm/compact_memory", "1");
}

const struct matrix_op op_compaction = {
	.name = "compaction",
	.flags = OP_AGAIN,
	.run = run_compaction,
};

static int run_swapoff(struct cell *c)
{
	char text[512], path[64];
	char *line;

	if (gmem_read_file("/proc/swaps", text, sizeof(text)) < 0)
		return cell_fail(c, "no /proc/swaps");
	line = strchr(text, '\n');
	if (!line || sscanf(line, "%63s", path) != 1)
		return cell_fail(c, "no swap space");
	if (madvise(c->p, c->n, MADV_PAGEOUT) || swapoff(path) ||
	    swapon(path, 0))
		return errno;
	return 0;
}

const struct matrix_op op_swapoff = {
	.name = "PAGEOUT and swapoff",
	.run = run_swapoff,
};

#define MEMCG		"/gmem-matrix"

static char memcg[PATH_MAX];

/* A group of our own, below where the groups are mounted. */
static int join_memcg(struct cell *c)
{
	FILE *mounts = memcg[0] ? NULL : setmntent("/proc/mounts", "r");
	struct mntent *mount;
	char path[PATH_MAX + 32], pid[16];
	int err;

	(void)c;
	while (mounts && (mount = getmntent(mounts))) {
		if (strcmp(mount->mnt_type, "cgroup2"))
			continue;
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control",
			 mount->mnt_dir);
		_gmem_write_file(path, "+memory");
		snprintf(memcg, sizeof(memcg), "%.*s" MEMCG,
			 (int)(sizeof(memcg) - sizeof(MEMCG)), mount->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	if (!memcg[0])
		return ENOENT;
	if (mkdir(memcg, 0755) && errno != EEXIST)
		return errno;
	snprintf(path, sizeof(path), "%s/cgroup.procs", memcg);
	snprintf(pid, sizeof(pid), "%d", getpid());
	err = _gmem_write_file(path, pid);
	return err;
}

/* Less may be reclaimed than was asked for. */
static int run_memcg_reclaim(struct cell *c)
{
	char path[PATH_MAX + 32], text[32];
	int err;

	snprintf(path, sizeof(path), "%s/memory.reclaim", memcg);
	snprintf(text, sizeof(text), "%zu", c->n);
	err = _gmem_write_file(path, text);
	return err == EAGAIN ? 0 : err;
}

const struct matrix_op op_memcg_reclaim = {
	.name = "memcg reclaim",
	.flags = OP_AGAIN,
	.setup = join_memcg,
	.run = run_memcg_reclaim,
};

/* The device may keep half, for a moment. */
static int run_evict(struct cell *c)
{
	long long size = gmem_hnode_get(c->npu[0].hnid, "size");
	long long limit = c->len / 2;
	uint64_t end = gmem_now_ms() + 10000;
	int err = _gmem_hnode_set(c->npu[0].hnid, "limit", limit);

	if (err)
		return err;
	while (size - gmem_hnode_get(c->npu[0].hnid, "free") > limit &&
	       gmem_now_ms() < end)
		usleep(200);
	if (gmem_now_ms() >= end)
		cell_fail(c, "the device keeps more than its limit");
	return _gmem_hnode_set(c->npu[0].hnid, "limit", size);
}

const struct matrix_op op_evict = {
	.name = "eviction (limit lowered)",
	.flags = OP_AGAIN,
	.run = run_evict,
};
