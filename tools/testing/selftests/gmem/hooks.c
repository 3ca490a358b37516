// SPDX-License-Identifier: GPL-2.0
/*
 * Everything that core MM does with pages, done to pages of a device.  Each
 * hook of Documentation/gmem/hooks.rst has a test here that fails without it.
 */
#include "gmem_test.h"
#include "reaper.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define RW			(PROT_READ | PROT_WRITE)
#define PM_SOFT_DIRTY		(1ULL << 55)
#define PM_UFFD_WP		(1ULL << 57)
#define PM_SWAP			(1ULL << 62)
#define PM_PRESENT		(1ULL << 63)

FIXTURE(hooks)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	char *scratch;
	size_t len;
};

FIXTURE_VARIANT(hooks)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(hooks, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(hooks, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(hooks, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(hooks, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

typedef FIXTURE_DATA(hooks) hooks_t;

/* Bytes that only the device has: copied, then changed by it. */
static void to_device(struct __test_metadata *_metadata, hooks_t *self)
{
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

FIXTURE_SETUP(hooks)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	self->scratch = calloc(1, self->len);
	ASSERT_NE(NULL, self->shadow);
	ASSERT_NE(NULL, self->scratch);
	gmem_pattern(self->buf.p, self->len, 19);
	gmem_pattern(self->shadow, self->len, 19);
	to_device(_metadata, self);
}

FIXTURE_TEARDOWN_PARENT(hooks)
{
	EXPECT_NO_DEVICE_PAGES();
}

static void device_reads(struct __test_metadata *_metadata, hooks_t *self)
{
	struct npu_result res;

	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
}

/* --- access by the CPU ------------------------------------------------------ */

TEST_F(hooks, cpu_reads_device_page)
{
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
}

TEST_F(hooks, cpu_writes_device_page)
{
	size_t at;

	for (at = 5; at < self->len; at += SZ_4K) {
		self->buf.p[at] = at / SZ_4K;
		self->shadow[at] = at / SZ_4K;
	}
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	device_reads(_metadata, self);
}

/* copy_from_user(), and remote access to the address space. */
TEST_F(hooks, kernel_reads_device_page)
{
	struct iovec local = { self->scratch, self->len };
	struct iovec remote = { self->buf.p, self->len };
	int fd = memfd_create("hooks", 0);

	ASSERT_EQ(self->len, write(fd, self->buf.p, self->len));
	ASSERT_EQ(self->len, pread(fd, self->scratch, self->len, 0));
	ASSERT_SAME(self->shadow, self->scratch, self->len);
	close(fd);

	to_device(_metadata, self);
	fd = open("/proc/self/mem", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(self->len, pread(fd, self->scratch, self->len,
				   (uintptr_t)self->buf.p));
	ASSERT_SAME(self->shadow, self->scratch, self->len);
	close(fd);

	to_device(_metadata, self);
	ASSERT_EQ(self->len, process_vm_readv(getpid(), &local, 1, &remote, 1,
					      0));
	ASSERT_SAME(self->shadow, self->scratch, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, kernel_writes_device_page)
{
	struct iovec local = { self->shadow, self->len };
	struct iovec remote = { self->buf.p, self->len };
	int fd = memfd_create("hooks", 0);

	gmem_pattern(self->shadow, self->len, 23);
	ASSERT_EQ(self->len, write(fd, self->shadow, self->len));
	ASSERT_EQ(self->len, pread(fd, self->buf.p, self->len, 0));
	close(fd);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	to_device(_metadata, self);
	gmem_pattern(self->shadow, self->len, 24);
	fd = open("/proc/self/mem", O_RDWR);
	ASSERT_EQ(self->len, pwrite(fd, self->shadow, self->len,
				    (uintptr_t)self->buf.p));
	close(fd);
	device_reads(_metadata, self);

	to_device(_metadata, self);
	gmem_pattern(self->shadow, self->len, 25);
	ASSERT_EQ(self->len, process_vm_writev(getpid(), &local, 1, &remote, 1,
					       0));
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Part of a page only: the rest must be what the device left. */
TEST_F(hooks, kernel_writes_part_of_a_page)
{
	int fd = open("/dev/zero", O_RDONLY);
	size_t at;

	for (at = 100; at < self->len; at += SZ_4K) {
		ASSERT_EQ(50, read(fd, self->buf.p + at, 50));
		memset(self->shadow + at, 0, 50);
	}
	close(fd);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Pinned by the block layer, in both directions. */
TEST_F(hooks, direct_io)
{
	int id, disk = gmem_disk_open(2 * SZ_2M, &id);

	ASSERT_LE(0, disk);
	ASSERT_EQ(self->len, pwrite(disk, self->buf.p, self->len, 0));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_fill(&self->npu, self->buf.p, self->len, ~0ULL, NULL);
	ASSERT_EQ(self->len, pread(disk, self->buf.p, self->len, 0));
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	gmem_disk_close(disk, id);
}

TEST_F(hooks, vmsplice)
{
	struct iovec iov = { self->buf.p + SZ_4K, SZ_4K };
	int p[2];

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(SZ_4K, vmsplice(p[1], &iov, 1, 0));
	/* The pipe has the page: it must not go, and what is read is it. */
	device_reads(_metadata, self);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p + SZ_4K, SZ_4K);
	ASSERT_EQ(SZ_4K, read(p[0], self->scratch, SZ_4K));
	ASSERT_SAME(self->shadow + SZ_4K, self->scratch, SZ_4K);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A child that has its data on the device, and its parent as the debugger. */
static int ptrace_child(hooks_t *self)
{
	struct npu npu;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0))
		return 1;
	if (_npu_dirty(&npu, self->buf.p, self->shadow, self->len) ||
	    gmem_node(self->buf.p) != npu.hnid)
		return 2;
	raise(SIGSTOP);
	/* The debugger changed the second word; the device sees that. */
	((uint64_t *)self->shadow)[1] = 4711;
	if (_npu_dirty(&npu, self->buf.p, self->shadow, self->len))
		return 3;
	return gmem_diff(self->shadow, self->buf.p, self->len) != self->len;
}

TEST_F(hooks, ptrace)
{
	uint64_t *word = (uint64_t *)self->buf.p;
	uint64_t want = ((uint64_t *)self->shadow)[1];
	int status;
	pid_t pid;

	pid = gmem_fork();
	if (!pid)
		_exit(ptrace_child(self));
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	errno = 0;
	ASSERT_EQ((long)want, ptrace(PTRACE_PEEKDATA, pid, &word[1], NULL));
	ASSERT_EQ(0, errno);
	ASSERT_EQ(0, ptrace(PTRACE_POKEDATA, pid, &word[1], 4711));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, NULL));
	kill(pid, SIGCONT);
	ASSERT_EQ(0, gmem_child(pid));
}

/* The core file has what the device had. */
static int core_dumper(hooks_t *self)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct npu npu;

	if (setrlimit(RLIMIT_CORE, &unlimited) || chdir("/tmp") ||
	    _npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _npu_dirty(&npu, self->buf.p, self->shadow, self->len) ||
	    gmem_node(self->buf.p) != npu.hnid)
		return 1;
	signal(SIGABRT, SIG_DFL);
	abort();
}

TEST_F(hooks, coredump)
{
	static const char pattern[] = "/proc/sys/kernel/core_pattern";
	char old[256], path[64];
	size_t at;
	pid_t pid;
	int fd;

	ASSERT_LT(0, gmem_read_file(pattern, old, sizeof(old)));
	gmem_write_file(pattern, "/tmp/gmem-core.%P");
	pid = gmem_fork();
	if (!pid)
		_exit(core_dumper(self));
	ASSERT_EQ(128 + SIGABRT, gmem_child(pid));
	gmem_write_file(pattern, old);
	/* What the child did to its copy. */
	for (at = 0; at < self->len;
	     at += (self->len / 16 + SZ_4K - 1) / SZ_4K * SZ_4K)
		*(uint64_t *)(self->shadow + at) += 15;

	snprintf(path, sizeof(path), "/tmp/gmem-core.%d", pid);
	fd = open(path, O_RDONLY);
	unlink(path);
	ASSERT_LE(0, fd);
	OK(_gmem_core_read(fd, self->buf.p, self->scratch, self->len));
	ASSERT_SAME(self->shadow, self->scratch, self->len);
	close(fd);
}

/* --- zap ------------------------------------------------------------------------ */

TEST_F(hooks, zap_frees_device_pages)
{
	long long size = gmem_hnode_get(self->npu.hnid, "size");

	ASSERT_EQ(size - (long long)self->len,
		  gmem_hnode_get(self->npu.hnid, "free"));
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTNEED));
	ASSERT_EQ(size, gmem_hnode_get(self->npu.hnid, "free"));
	ASSERT_ZERO(self->buf.p, self->len);

	memset(self->shadow, 0, self->len);
	to_device(_metadata, self);
	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	ASSERT_EQ(size, gmem_hnode_get(self->npu.hnid, "free"));
}

TEST_F(hooks, partial_zap_keeps_the_rest)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;

	ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K, MADV_DONTNEED));
	ASSERT_ON(-ENOENT, self->buf.p + at, SZ_4K);
	ASSERT_EQ(self->len / SZ_4K - 1,
		  gmem_pages_on(self->buf.p, self->len, self->npu.hnid));
	memset(self->shadow + at, 0, SZ_4K);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Every second page, one by one, until nothing is left of the blocks. */
TEST_F(hooks, zap_page_by_page)
{
	long long size = gmem_hnode_get(self->npu.hnid, "size");
	size_t first, at;

	for (first = 0; first < 2 * SZ_4K; first += SZ_4K) {
		for (at = first; at < self->len; at += 2 * SZ_4K) {
			ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K,
					     MADV_DONTNEED));
			memset(self->shadow + at, 0, SZ_4K);
		}
		if (!first)
			device_reads(_metadata, self);
		for (at = 0; !first && at < self->len; at += 2 * SZ_4K)
			ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K,
					     MADV_DONTNEED));
	}
	ASSERT_EQ(size, gmem_hnode_get(self->npu.hnid, "free"));
	ASSERT_ZERO(self->buf.p, self->len);
}

TEST_F(hooks, mmap_fixed_over)
{
	long long size = gmem_hnode_get(self->npu.hnid, "size");
	struct npu_result res;

	ASSERT_EQ(self->buf.p, mmap(self->buf.p, self->len, RW, MAP_PRIVATE |
				    MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(size, gmem_hnode_get(self->npu.hnid, "free"));
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_ZERO(self->buf.p, self->len);
}

static int exit_with_pages(const struct gmem_shape *shape, int ready)
{
	struct gmem_buf buf;
	struct npu npu;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map_shape(&buf, shape) ||
	    _npu_fill(&npu, buf.p, buf.len, 7, NULL) ||
	    gmem_pages_on(buf.p, buf.len, npu.hnid) != buf.len / SZ_4K)
		return 1;
	if (ready >= 0) {
		if (write(ready, "x", 1) != 1)
			return 2;
		pause();
	}
	return 0;
}

TEST_F(hooks, exit_frees_device_pages)
{
	pid_t pid;

	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	pid = gmem_fork();
	if (!pid)
		_exit(exit_with_pages(&variant->shape, -1));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_TRUE(gmem_hnodes_idle());
}

TEST_F(hooks, mrelease_frees_device_pages)
{
	int ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	ASSERT_EQ(0, pipe(ready));
	pid = gmem_fork();
	if (!pid)
		_exit(exit_with_pages(&variant->shape, ready[1]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(0, mrelease(_metadata, pid, 20));
	ASSERT_TRUE(gmem_hnodes_idle());
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
}

static int write_host_memory(const struct gmem_shape *shape, int ready)
{
	struct gmem_buf buf;
	struct npu npu;
	uint64_t seqno;
	unsigned int i;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map_shape(&buf, shape) ||
	    _hmadvise(-1, buf.p, buf.len, HMADV_UNSHARE) ||
	    _npu_fill(&npu, buf.p, buf.len, 0xbadbadbadULL, NULL))
		return 1;
	for (i = 0; i < 50; i++) {
		if (_npu_submit(&npu, NPU_OP_FILL, (uintptr_t)buf.p, buf.len,
				0xbadbadbadULL, 0, 0, &seqno))
			return 2;
	}
	if (write(ready, "x", 1) != 1)
		return 3;
	pause();
	return 0;
}

/*
 * Host pages under a device's mapping are not freed before that is gone: the
 * reaper, which must not wait, leaves them to the exit.
 */
TEST_F(hooks, mrelease_under_device_writes)
{
	int ready[2];
	char *other;
	size_t len = 16 * SZ_1M;
	int err;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = gmem_fork();
	if (!pid)
		_exit(write_host_memory(&variant->shape, ready[1]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	err = mrelease(_metadata, pid, 20);
	ASSERT_TRUE(!err || err == EAGAIN);
	/* Whoever gets those pages keeps them to itself. */
	other = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		     -1, 0);
	ASSERT_NE(MAP_FAILED, other);
	gmem_sleep_ms(50);
	ASSERT_ZERO(other, len);
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	ASSERT_ZERO(other, len);
}

/* --- fork and exec ---------------------------------------------------------------- */

TEST_F(hooks, fork_child_sees_device_data)
{
	int go[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	pid = gmem_fork();
	if (!pid) {
		close(go[1]);
		if (gmem_diff(self->shadow, self->buf.p, self->len) !=
		    self->len)
			_exit(1);
		/* The parent's device writes go elsewhere. */
		if (read(go[0], &c, 1))
			_exit(2);
		if (gmem_diff(self->shadow, self->buf.p, self->len) !=
		    self->len)
			_exit(3);
		memset(self->buf.p, 0xcc, self->len);
		_exit(0);
	}
	close(go[0]);
	npu_fill(&self->npu, self->buf.p, self->len, 0x10101010ULL, NULL);
	close(go[1]);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0x10101010ULL * (self->len / 8),
		  gmem_sum(self->buf.p, self->len));
}

/* Each with a device of its own, both writing. */
TEST_F(hooks, fork_both_use_a_device)
{
	struct npu_result res;
	pid_t pid;

	pid = gmem_fork();
	if (!pid) {
		struct npu npu;

		if (_npu_open(&npu, 1) || _npu_attach(&npu, 0))
			_exit(1);
		if (_npu_dirty(&npu, self->buf.p, self->shadow, self->len))
			_exit(2);
		_exit(gmem_diff(self->shadow, self->buf.p, self->len) !=
		      self->len);
	}
	to_device(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, fork_moves_nothing)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(gmem_pages_on(self->buf.p, self->len, self->npu.hnid) !=
		      self->len / SZ_4K);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, fork_then_both_exit)
{
	unsigned int order;

	for (order = 0; order < 2; order++) {
		int alive[2];
		pid_t pid;
		char c;

		ASSERT_EQ(0, pipe(alive));
		to_device(_metadata, self);
		/* The child is a parent: of one that exits after it, or before. */
		pid = gmem_fork();
		if (!pid) {
			struct npu npu;
			pid_t grandchild;

			if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
			    _npu_dirty(&npu, self->buf.p, self->shadow,
				       self->len))
				_exit(1);
			grandchild = fork();
			if (!grandchild) {
				close(alive[0]);
				if (!order)
					gmem_sleep_ms(100);
				_exit(0);
			}
			_exit(order ? gmem_child(grandchild) : 0);
		}
		close(alive[1]);
		ASSERT_EQ(0, gmem_child(pid));
		/* The pipe ends when the last of them is gone. */
		ASSERT_EQ(0, read(alive[0], &c, 1));
		close(alive[0]);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	}
	ASSERT_TRUE(gmem_hnodes_idle());
}

TEST_F(hooks, fork_wipeonfork_stays_on_device)
{
	pid_t pid;

	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_WIPEONFORK));
	pid = gmem_fork();
	if (!pid)
		_exit(gmem_nonzero(self->buf.p, self->len) != self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, fork_dontfork)
{
	pid_t pid;

	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTFORK));
	pid = gmem_fork();
	if (!pid)
		_exit(gmem_peek(self->buf.p));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The new program has nothing of the old one's, and the device is free. */
TEST_F(hooks, exec_frees_device_pages)
{
	char junk[SZ_4K];
	int err[2];
	pid_t pid;

	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	/* A full pipe as standard error keeps the new program alive. */
	ASSERT_EQ(0, pipe(err));
	ASSERT_EQ(SZ_4K, fcntl(err[1], F_SETPIPE_SZ, SZ_4K));
	memset(junk, 0, sizeof(junk));
	ASSERT_EQ(SZ_4K, write(err[1], junk, sizeof(junk)));
	pid = gmem_fork();
	if (!pid) {
		dup2(err[1], 2);
		if (exit_with_pages(&variant->shape, -1))
			_exit(99);
		execl("/proc/self/exe", "hooks", "--help", NULL);
		_exit(98);
	}
	close(err[1]);
	gmem_sleep_ms(50);
	ASSERT_TRUE(gmem_hnodes_idle());
	ASSERT_EQ(0, waitpid(pid, NULL, WNOHANG));
	while (read(err[0], junk, sizeof(junk)) > 0)
		;
	ASSERT_EQ(0, gmem_child(pid));
}

/* --- mremap ------------------------------------------------------------------------ */

/* Move to @offset bytes after a multiple of 2 MiB and see what is where. */
static void mremap_to(struct __test_metadata *_metadata, hooks_t *self,
		      size_t offset)
{
	struct gmem_buf away;
	struct npu_result res;
	char *old = self->buf.p;

	gmem_map(&away, self->len, SZ_2M, offset, PROT_NONE, 0);
	ASSERT_EQ(away.p, mremap(old, self->len, self->len,
				 MREMAP_MAYMOVE | MREMAP_FIXED, away.p));
	self->buf = away;
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	npu_reduce_err(EFAULT, &self->npu, old, self->len, NULL);
	device_reads(_metadata, self);
	/* What is mapped at the old place next is new. */
	ASSERT_EQ(old, mmap(old, self->len, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			    MAP_PEER_SHARED | MAP_FIXED, -1, 0));
	npu_reduce(&self->npu, old, self->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_ZERO(old, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, mremap_keeps_device_data)
{
	mremap_to(_metadata, self, (uintptr_t)self->buf.p % SZ_2M);
}

TEST_F(hooks, mremap_unaligned_keeps_device_data)
{
	mremap_to(_metadata, self,
		  ((uintptr_t)self->buf.p + 3 * SZ_4K) % SZ_2M);
}

TEST_F(hooks, mremap_moves_nothing)
{
	struct npu_stats before, after;
	struct gmem_buf away;

	gmem_map(&away, self->len, SZ_2M, 7 * SZ_4K, PROT_NONE, 0);
	npu_stats(&self->npu, &before);
	ASSERT_EQ(away.p, mremap(self->buf.p, self->len, self->len,
				 MREMAP_MAYMOVE | MREMAP_FIXED, away.p));
	self->buf = away;
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	device_reads(_metadata, self);
	npu_stats(&self->npu, &after);
	ASSERT_EQ(before.c[NPU_STAT_COPIES], after.c[NPU_STAT_COPIES]);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Single pages to where the block that they came from still is, and back. */
TEST_F(hooks, mremap_within_a_block)
{
	size_t page = (self->len / SZ_4K / 2 - 1) * SZ_4K;
	size_t to = page + SZ_4K;
	char *p = self->buf.p;

	ASSERT_EQ(0, munmap(p + to, SZ_4K));
	ASSERT_EQ(p + to, mremap(p + page, SZ_4K, SZ_4K, MREMAP_MAYMOVE |
				 MREMAP_FIXED, p + to));
	ASSERT_ON(self->npu.hnid, p, page);
	ASSERT_ON(self->npu.hnid, p + to, self->len - to);
	ASSERT_SAME(self->shadow + page, p + to, SZ_4K);
	ASSERT_SAME(self->shadow, p, page);
	ASSERT_SAME(self->shadow + to + SZ_4K, p + to + SZ_4K,
		    self->len - to - SZ_4K);
}

TEST_F(hooks, mremap_dontunmap_leaves_nothing)
{
	char *old = self->buf.p, *p;
	struct npu_result res;

	p = mremap(old, self->len, self->len, MREMAP_MAYMOVE |
		   MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, p);
	npu_reduce(&self->npu, old, self->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_ZERO(old, self->len);
	self->buf.p = p;
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, p, self->len);
}

TEST_F(hooks, mremap_shrinks)
{
	size_t len = self->len / SZ_4K / 2 * SZ_4K + SZ_4K;

	ASSERT_EQ(self->buf.p, mremap(self->buf.p, self->len, len, 0));
	npu_reduce_err(EFAULT, &self->npu, self->buf.p + len, SZ_4K, NULL);
	self->len = len;
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, mremap_grows)
{
	struct npu_result res;
	size_t more = 16 * SZ_4K;
	char *p;

	/* In place: the reserved space behind the buffer goes. */
	ASSERT_EQ(0, munmap(self->buf.p + self->len, more));
	ASSERT_EQ(self->buf.p, mremap(self->buf.p, self->len, self->len + more,
				      0));
	device_reads(_metadata, self);
	npu_reduce(&self->npu, self->buf.p + self->len, more, &res);
	ASSERT_EQ(0, res.value);
	/* And by moving. */
	p = mremap(self->buf.p, self->len + more, self->len + 2 * more,
		   MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, p);
	self->buf.p = p;
	device_reads(_metadata, self);
	npu_reduce(&self->npu, p + self->len, 2 * more, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_SAME(self->shadow, p, self->len);
	ASSERT_ZERO(p + self->len, 2 * more);
}

/* The target has device pages of its own, which go. */
TEST_F(hooks, mremap_over_device_pages)
{
	struct gmem_buf target;

	gmem_map_shape(&target, &variant->shape);
	npu_fill(&self->npu, target.p, target.len, 0x33ULL, NULL);
	ASSERT_EQ(target.p, mremap(self->buf.p, self->len, self->len,
				   MREMAP_MAYMOVE | MREMAP_FIXED, target.p));
	self->buf.p = target.p;
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* --- userfaultfd --------------------------------------------------------------------- */

TEST_F(hooks, uffd_wp_resolve_keeps_device_data)
{
	int fd = gmem_uffd_open(self->buf.p, self->len,
				UFFDIO_REGISTER_MODE_WP);

	ASSERT_LE(0, fd);
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, false));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
	to_device(_metadata, self);
	fd = gmem_uffd_open(self->buf.p, self->len,
			    UFFDIO_REGISTER_MODE_WP);
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, true));
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, false));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	/* Nothing is protected: the CPU writes without a handler. */
	memset(self->buf.p, 1, self->len);
	close(fd);
}

/* Protected while on the device: the first write of the CPU is reported. */
TEST_F(hooks, uffd_wp_traps_after_recall)
{
	struct gmem_uffd h = {};
	size_t at = self->len / SZ_4K / 2 * SZ_4K;

	h.fd = gmem_uffd_open(self->buf.p, self->len,
			      UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, h.fd);
	OK(gmem_uffd_protect(h.fd, self->buf.p, self->len, true));
	OK(gmem_uffd_start(&h));
	/* Reads are not, and bring the page home protected. */
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_EQ(0, __atomic_load_n(&h.seen, __ATOMIC_SEQ_CST));
	self->buf.p[at] ^= 1;
	self->shadow[at] ^= 1;
	ASSERT_EQ(1, __atomic_load_n(&h.seen, __ATOMIC_SEQ_CST));
	self->buf.p[0] ^= 1;
	self->shadow[0] ^= 1;
	ASSERT_EQ(2, __atomic_load_n(&h.seen, __ATOMIC_SEQ_CST));
	gmem_uffd_stop(&h);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(h.fd);
}

TEST_F(hooks, uffd_copy_onto_device_page)
{
	int fd = gmem_uffd_open(self->buf.p, self->len,
				UFFDIO_REGISTER_MODE_MISSING);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)self->buf.p + SZ_4K,
		.src = (uintptr_t)self->scratch,
		.len = SZ_4K,
	};
	struct uffdio_zeropage zero = {
		.range = { (uintptr_t)self->buf.p + SZ_4K, SZ_4K },
	};

	ASSERT_LE(0, fd);
	ASSERT_EQ(-1, ioctl(fd, UFFDIO_COPY, &copy));
	ASSERT_EQ(EEXIST, errno);
	ASSERT_EQ(-1, ioctl(fd, UFFDIO_ZEROPAGE, &zero));
	ASSERT_EQ(EEXIST, errno);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
}

/* Into a registered range, from one that is not and whose pages are away. */
TEST_F(hooks, uffd_move_from_device)
{
	struct uffdio_move move = { .len = self->len };
	struct gmem_buf to;
	int fd;

	gmem_map(&to, self->len, SZ_2M, (uintptr_t)self->buf.p % SZ_2M, RW,
		 MAP_PEER_SHARED);
	fd = gmem_uffd_open(to.p, to.len, UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, fd);
	move.dst = (uintptr_t)to.p;
	move.src = (uintptr_t)self->buf.p;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move));
	ASSERT_EQ((long long)self->len, move.move);
	close(fd);
	ASSERT_ZERO(self->buf.p, self->len);
	ASSERT_SAME(self->shadow, to.p, self->len);
	npu_dirty(&self->npu, to.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, to.p, self->len);
}

/* A missing page is the handler's: a device does not make it up. */
TEST_F(hooks, uffd_missing_page)
{
	struct gmem_uffd h = { .fill = self->shadow, .p = self->buf.p };

	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTNEED));
	h.fd = gmem_uffd_open(self->buf.p, self->len,
			      UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, h.fd);
	OK(gmem_uffd_start(&h));
	/* Nobody to ask is a reason to fail, and none to read zeros. */
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, SZ_4K, NULL);
	npu_fill_err(EFAULT, &self->npu, self->buf.p, SZ_4K, 1, NULL);
	ASSERT_EQ(0, __atomic_load_n(&h.seen, __ATOMIC_SEQ_CST));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	gmem_uffd_stop(&h);
	close(h.fd);
	device_reads(_metadata, self);
}

/* What is not missing is the device's to use: on the host, and in swap. */
TEST_F(hooks, uffd_registered_page)
{
	int fd;

	OK(_gmem_swap_on());
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	fd = gmem_uffd_open(self->buf.p, self->len, UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, fd);
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_PAGEOUT));
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
}

/* The handler would not hear of it. */
TEST_F(hooks, uffd_discard_refused)
{
	int fd = gmem_uffd_open(self->buf.p, self->len,
				UFFDIO_REGISTER_MODE_MISSING);

	ASSERT_LE(0, fd);
	hmadvise_err(EOPNOTSUPP, -1, self->buf.p, self->len, HMADV_DISCARD);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
}

/* A device cannot have the handler lift a protection, and does not pass it. */
TEST_F(hooks, uffd_wp_stops_a_device)
{
	int fd;

	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	fd = gmem_uffd_open(self->buf.p, self->len, UFFDIO_REGISTER_MODE_WP);
	ASSERT_LE(0, fd);
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, true));
	device_reads(_metadata, self);
	npu_fill_err(EFAULT, &self->npu, self->buf.p, self->len, 1, NULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, false));
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
}

/* Nobody is asked about a protection that is only to be noted. */
TEST_F(hooks, uffd_wp_async_lets_a_device_write)
{
	int fd;

	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	fd = gmem_uffd_open_with(self->buf.p, self->len,
				 UFFDIO_REGISTER_MODE_WP,
				 UFFD_FEATURE_WP_ASYNC);
	ASSERT_LE(0, fd);
	OK(gmem_uffd_protect(fd, self->buf.p, self->len, true));
	device_reads(_metadata, self);
	npu_dirty(&self->npu, self->buf.p, self->shadow, SZ_4K);
	ASSERT_EQ(0, gmem_pagemap(self->buf.p) & PM_UFFD_WP);
	ASSERT_NE(0, gmem_pagemap(self->buf.p + SZ_4K) & PM_UFFD_WP);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	close(fd);
}

/* --- khugepaged, KSM, mlock, advice ---------------------------------------------------- */

/* A huge page that was collapsed around device pages of the variant's size. */
static char *around_device_pages(struct __test_metadata *_metadata,
				 hooks_t *self, size_t block,
				 struct gmem_buf *buf, char *shadow)
{
	if (block > SZ_64K)
		block = SZ_64K;
	gmem_map(buf, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	ASSERT_EQ(0, madvise(buf->p, SZ_2M, MADV_NOHUGEPAGE));
	gmem_pattern(buf->p, SZ_2M, 41);
	gmem_pattern(shadow, SZ_2M, 41);
	/* In a VMA of its own for a moment, a block is no larger than that. */
	ASSERT_EQ(0, mprotect(buf->p + SZ_1M, block, PROT_READ));
	hmadvise(self->npu.hnid, buf->p + SZ_1M, block, HMADV_PREFETCH);
	ASSERT_EQ(0, mprotect(buf->p + SZ_1M, block, RW));
	ASSERT_EQ(block / SZ_4K,
		  gmem_pages_on(buf->p, SZ_2M, self->npu.hnid));
	npu_atomic_add(&self->npu, (uint64_t *)(buf->p + SZ_1M), 3, 1, NULL);
	*(uint64_t *)(shadow + SZ_1M) += 3;
	ASSERT_EQ(0, madvise(buf->p, SZ_2M, MADV_HUGEPAGE));
	return buf->p + SZ_1M;
}

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

TEST_F(hooks, khugepaged_leaves_device_pages)
{
	size_t block = variant->shape.block, moved;
	char *shadow = malloc(SZ_2M), *p;
	struct gmem_buf buf;
	long long scans;

	p = around_device_pages(_metadata, self, block, &buf, shadow);
	moved = gmem_pages_on(buf.p, SZ_2M, self->npu.hnid);
	ASSERT_NE(0, moved);
	gmem_write_file(KHUGEPAGED "max_ptes_swap", "64");
	gmem_write_file(KHUGEPAGED "pages_to_scan", "100000");
	gmem_write_file(KHUGEPAGED "scan_sleep_millisecs", "1");
	scans = gmem_read_number(KHUGEPAGED "full_scans");
	while (gmem_read_number(KHUGEPAGED "full_scans") < scans + 3)
		gmem_sleep_ms(5);
	gmem_write_file(KHUGEPAGED "scan_sleep_millisecs", "10000");
	ASSERT_EQ(self->npu.hnid, gmem_node(p));
	ASSERT_EQ(moved, gmem_pages_on(buf.p, SZ_2M, self->npu.hnid));
	ASSERT_SAME(shadow, buf.p, SZ_2M);
}

TEST_F(hooks, madv_collapse_recalls)
{
	size_t block = variant->shape.block;
	char *shadow = malloc(SZ_2M);
	struct gmem_smaps maps;
	struct gmem_buf buf;
	unsigned int i;
	int err = 0;

	around_device_pages(_metadata, self, block, &buf, shadow);
	/* Pages in the LRU caches of other CPUs are a passing obstacle. */
	for (i = 0; i < 100; i++) {
		err = madvise(buf.p, SZ_2M, MADV_COLLAPSE) ? errno : 0;
		if (err != EAGAIN && err != EBUSY)
			break;
		gmem_sleep_ms(10);
	}
	ASSERT_EQ(0, err);
	gmem_smaps(0, buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M, maps.huge);
	ASSERT_EQ(0, maps.device);
	ASSERT_SAME(shadow, buf.p, SZ_2M);
}

#define KSM "/sys/kernel/mm/ksm/"

TEST_F(hooks, ksm_ignores_peer_shared)
{
	long long scans, sharing;

	npu_fill(&self->npu, self->buf.p, self->len, 0x4b4b4b4bULL, NULL);
	ASSERT_EQ(0x4b4b4b4bULL * (self->len / 8),
		  gmem_sum(self->buf.p, self->len));
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_MERGEABLE));
	sharing = gmem_read_number(KSM "pages_sharing");
	gmem_write_file(KSM "pages_to_scan", "10000");
	gmem_write_file(KSM "sleep_millisecs", "1");
	scans = gmem_read_number(KSM "full_scans");
	gmem_write_file(KSM "run", "1");
	/* With nothing to scan the scans do not count up. */
	for (int i = 0; i < 100 &&
	     gmem_read_number(KSM "full_scans") < scans + 3; i++)
		gmem_sleep_ms(5);
	ASSERT_EQ(sharing, gmem_read_number(KSM "pages_sharing"));
	gmem_write_file(KSM "run", "2");
	gmem_write_file(KSM "run", "0");
	npu_fill(&self->npu, self->buf.p, self->len, 1, NULL);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

/* mlock() brings home, and what is locked stays. */
TEST_F(hooks, mlock_recalls)
{
	struct npu_result res;

	ASSERT_EQ(0, mlock(self->buf.p, self->len));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	device_reads(_metadata, self);
	npu_atomic_add(&self->npu, (uint64_t *)self->buf.p, 1, 1, &res);
	*(uint64_t *)self->shadow += 1;
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_EQ(0, munlock(self->buf.p, self->len));
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, mlockall_recalls)
{
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	device_reads(_metadata, self);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_EQ(0, munlockall());
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, mlockall_future)
{
	struct gmem_smaps maps;
	struct gmem_buf buf;

	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	gmem_map(&buf, SZ_64K, SZ_64K, 0, RW, MAP_PEER_SHARED);
	ASSERT_EQ(0, munlockall());
	ASSERT_EQ(0, mlock(buf.p, SZ_64K));
	gmem_smaps(0, buf.p, SZ_64K, &maps);
	ASSERT_EQ(1, maps.peer_shared);
	hmadvise(self->npu.hnid, buf.p, SZ_64K, HMADV_PREFETCH);
	ASSERT_ON(GMEM_ANY_NODE, buf.p, SZ_64K);
	ASSERT_EQ(0, munlock(buf.p, SZ_64K));
	hmadvise(self->npu.hnid, buf.p, SZ_64K, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, buf.p, SZ_64K);
	ASSERT_ZERO(buf.p, SZ_64K);
}

/* Advice that leaves the pages and their bytes alone. */
TEST_F(hooks, madvise_leaves_device_pages)
{
	const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_COLD, MADV_PAGEOUT, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK, MADV_DOFORK,
		MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_MERGEABLE,
		MADV_UNMERGEABLE,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(advice); i++) {
		int err = madvise(self->buf.p, self->len, advice[i]);

		/* WILLNEED on anonymous memory needs swap. */
		ASSERT_TRUE(!err || advice[i] == MADV_WILLNEED)
			TH_LOG("advice %d: %d", advice[i], errno);
		ASSERT_ON(self->npu.hnid, self->buf.p, self->len)
			TH_LOG("advice %d", advice[i]);
	}
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* MADV_FREE: what was there or zero, page by page, and then what is written. */
TEST_F(hooks, madvise_free)
{
	size_t at;

	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_FREE));
	for (at = 0; at < self->len; at += SZ_4K) {
		ASSERT_TRUE(gmem_diff(self->shadow + at, self->buf.p + at,
				      SZ_4K) == SZ_4K ||
			    gmem_nonzero(self->buf.p + at, SZ_4K) == SZ_4K);
	}
	memcpy(self->buf.p, self->shadow, self->len);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, madvise_populate_recalls)
{
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_POPULATE_READ));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	to_device(_metadata, self);
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_POPULATE_WRITE));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, madvise_remove)
{
	ASSERT_EQ(-1, madvise(self->buf.p, self->len, MADV_REMOVE));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* --- what the kernel says of the pages --------------------------------------------------- */

TEST_F(hooks, move_pages_reports_hnode)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;

	ASSERT_EQ(self->npu.hnid, gmem_node(self->buf.p));
	ASSERT_EQ(self->npu.hnid, gmem_node(self->buf.p + self->len - SZ_4K));
	hmadvise(-1, self->buf.p + at, SZ_4K, HMADV_PREFETCH);
	ASSERT_EQ(0, gmem_node(self->buf.p + at));
	ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K, MADV_DONTNEED));
	ASSERT_EQ(-ENOENT, gmem_node(self->buf.p + at));
	ASSERT_EQ(-EFAULT, gmem_node(NULL));
}

/* Another process asks. */
TEST_F(hooks, move_pages_of_another_process)
{
	void *page = self->buf.p;
	int status = 0;
	int go[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTFORK));
	pid = gmem_fork();
	if (!pid) {
		int where = 0;

		if (syscall(SYS_move_pages, getppid(), 1, &page, NULL, &where,
			    0))
			_exit(1);
		_exit(where != self->npu.hnid);
	}
	ASSERT_EQ(0, gmem_child(pid));
	/* And of one that never had a device. */
	pid = gmem_fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &c, 1));
	}
	page = self->shadow;
	ASSERT_EQ(0, syscall(SYS_move_pages, pid, 1, &page, NULL, &status, 0));
	ASSERT_GT(GMEM_FIRST_HNID, status);
	close(go[0]);
	close(go[1]);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(hooks, smaps_counts_device_pages)
{
	size_t half = variant->shape.nr / 2 * variant->shape.block;
	struct gmem_smaps maps;

	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(self->len, maps.device);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(0, maps.swap);
	hmadvise(-1, self->buf.p, half, HMADV_PREFETCH);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(self->len - half, maps.device);
	ASSERT_EQ(half, maps.rss);
	ASSERT_EQ(1, maps.peer_shared);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.device);
	ASSERT_EQ(self->len, maps.rss);
}

/* Not present, not in core; a marker, and not moved by being looked at. */
TEST_F(hooks, pagemap_and_mincore)
{
	unsigned char vec[4] = { 1, 1, 1, 1 };
	uint64_t word = gmem_pagemap(self->buf.p);

	ASSERT_EQ(0, word & PM_PRESENT);
	ASSERT_EQ(PM_SWAP, word & PM_SWAP);
	ASSERT_EQ(0, mincore(self->buf.p, 4 * SZ_4K, vec));
	ASSERT_EQ(0, (vec[0] | vec[1] | vec[2] | vec[3]) & 1);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_NE(0, gmem_pagemap(self->buf.p) & PM_PRESENT);
}

/* A page that was on the device counts as written. */
TEST_F(hooks, soft_dirty)
{
	size_t at;

	gmem_write_file("/proc/self/clear_refs", "4");
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_NE(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	/* Host pages that the device writes in place, too. */
	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	npu_fill(&self->npu, self->buf.p, self->len, 1, NULL);
	gmem_write_file("/proc/self/clear_refs", "4");
	npu_fill(&self->npu, self->buf.p, self->len, 2, NULL);
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_NE(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	ASSERT_EQ(2 * (self->len / 8), gmem_sum(self->buf.p, self->len));
}

/* And while it is there it counts so from when the device writes to it. */
TEST_F(hooks, soft_dirty_on_the_device)
{
	size_t at, last = self->len - SZ_4K;

	gmem_write_file("/proc/self/clear_refs", "4");
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_EQ(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	/* Without a translation, so that it faults to read. */
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	device_reads(_metadata, self);
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_EQ(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	npu_dirty(&self->npu, self->buf.p + last, self->shadow + last, SZ_4K);
	ASSERT_NE(0, gmem_pagemap(self->buf.p + last) & PM_SOFT_DIRTY);

	/* Nor is it forgotten on the way there. */
	hmadvise(-1, self->buf.p, self->len, HMADV_PREFETCH);
	gmem_write_file("/proc/self/clear_refs", "4");
	gmem_pattern(self->buf.p, SZ_4K, 43);
	gmem_pattern(self->shadow, SZ_4K, 43);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_NE(0, gmem_pagemap(self->buf.p) & PM_SOFT_DIRTY);
	to_device(_metadata, self);
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_NE(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* What a device only read since somebody looked is as clean at home. */
TEST_F(hooks, soft_dirty_comes_home_clean)
{
	size_t at, last = self->len - SZ_4K;

	gmem_write_file("/proc/self/clear_refs", "4");
	/* Without a translation, so that it faults to read. */
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	for (at = 0; at < self->len; at += SZ_4K)
		ASSERT_EQ(0, gmem_pagemap(self->buf.p + at) & PM_SOFT_DIRTY);
	self->buf.p[last] ^= 0x55;
	self->shadow[last] ^= 0x55;
	ASSERT_NE(0, gmem_pagemap(self->buf.p + last) & PM_SOFT_DIRTY);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A new VMA counts as soft-dirty as a whole, until it merges with an old one. */
TEST_F(hooks, soft_dirty_survives_a_merge)
{
	struct gmem_smaps maps;
	struct gmem_buf area;
	char *old, *new;
	size_t at;

	gmem_map(&area, 2 * SZ_2M, SZ_2M, 0, RW, 0);
	old = area.p;
	new = area.p + SZ_2M;
	ASSERT_EQ(0, munmap(new, SZ_2M));
	gmem_write_file("/proc/self/clear_refs", "4");
	ASSERT_EQ(new, mmap(new, SZ_2M, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			    MAP_FIXED | MAP_PEER_SHARED, -1, 0));
	npu_fill(&self->npu, new, SZ_2M, 0x55ULL, NULL);
	hmadvise(-1, old, SZ_2M, HMADV_SHARE);
	gmem_smaps(0, old, 2 * SZ_2M, &maps);
	ASSERT_EQ(1, maps.vmas);
	ASSERT_EQ(0x55ULL * (SZ_2M / 8), gmem_sum(new, SZ_2M));
	for (at = 0; at < SZ_2M; at += SZ_4K)
		ASSERT_NE(0, gmem_pagemap(new + at) & PM_SOFT_DIRTY);
}

/* --- host pages under a device's mapping -------------------------------------------------- */

/* The kernel moves pages that the device has mapped where they are. */
TEST_F(hooks, compaction_of_mapped_host_pages)
{
	unsigned long i, rounds = gmem_scaled(10);

	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	for (i = 0; i < rounds; i++) {
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		gmem_write_file("/proc/sys/vm/compact_memory", "1");
		device_reads(_metadata, self);
	}
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* And swaps them out, and splits and collapses them. */
TEST_F(hooks, reclaim_of_mapped_host_pages)
{
	unsigned int i;

	OK(_gmem_swap_on());
	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	for (i = 0; i < 4; i++) {
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_PAGEOUT));
	}
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

GMEM_TEST_MAIN("What core MM does with pages, done to pages of a device.")
