// SPDX-License-Identifier: GPL-2.0
/*
 * One failure at a time: every allocation, every DMA mapping, every operation
 * of the driver and every command of a copy engine that something needs fails
 * in turn.  Whatever comes of the operation, no byte is lost and CPU and device
 * can go on.
 *
 * The kernel fails the n-th such step of a task when n is written to the
 * task's fail-nth.  The tests write 1, 2, 3... there until an operation passes
 * without having come to step n.
 */
#include "gmem_test.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RW			(PROT_READ | PROT_WRITE)
#define DEBUGFS			"/sys/kernel/debug/"
#define FILL			0x5152535455565758ULL

/* Operations of the driver and the DMA mapping, as fault attributes. */
static const char * const attrs[] = {
	"gmem-npu/fail_pmap_create", "gmem-npu/fail_pmap_prepare",
	"gmem-npu/fail_peer_map", "gmem-npu/fail_copy", "fail_gmem_dma",
};

#define NR_ATTRS		(sizeof(attrs) / sizeof(*attrs))

/* Let it fail twenty times, or not at all. */
static int attr_set(const char *attr, bool fail)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/times", attr);
	if (_gmem_write_file(path, "20"))
		return errno;
	snprintf(path, sizeof(path), DEBUGFS "%s/probability", attr);
	return _gmem_write_file(path, fail ? "100" : "0");
}

/* --- the fixture ------------------------------------------------------------ */

FIXTURE(failnth)
{
	struct npu npu;
	bool attached;
	struct gmem_buf buf[2];
	char *p;
	char *shadow;
	size_t len;
	size_t block;
	uint64_t seed;
	pid_t child;
	bool settled;		/* nothing fails on purpose any more */
	char errors[128];	/* file that counts errors of the engines */
	long long errors_before;
	int err;		/* of the operation */
	bool thp;
};

FIXTURE_VARIANT(failnth)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(failnth, 4k) { .shape = { .block = SZ_4K, .nr = 3 } };
FIXTURE_VARIANT_ADD(failnth, 64k) { .shape = { .block = SZ_64K, .nr = 2 } };
FIXTURE_VARIANT_ADD(failnth, 2m) { .shape = { .block = SZ_2M, .nr = 1 } };
FIXTURE_VARIANT_ADD(failnth, 2m_thp) {
	.shape = { .block = SZ_2M, .nr = 1, .thp = true }
};

typedef FIXTURE_DATA(failnth) nth_t;

static sigjmp_buf bus_env;

static void on_bus(int sig)
{
	siglongjmp(bus_env, sig);
}

/*
 * On its way back to the program the kernel notes in memory of the program that it
 * was preempted.  After a fork that takes a copy of the page, and when that
 * fails the process gets a signal.
 */
static void leave_rseq(void)
{
#ifdef RSEQ_SIG
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size)
		syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
#endif
}

FIXTURE_SETUP(failnth)
{
	/* No system call around an access: sigsetjmp() leaves the mask. */
	struct sigaction sa = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };
	char dir[512], addr[64];
	unsigned int i;

	leave_rseq();
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	self->attached = true;
	for (i = 0; i < 2; i++)
		gmem_map_shape(&self->buf[i], &variant->shape);
	self->p = self->buf[0].p;
	self->len = self->buf[0].len;
	self->block = variant->shape.block;
	self->thp = variant->shape.thp;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	snprintf(self->errors, sizeof(self->errors),
		 "/sys/bus/pci/devices/%s/counters/copy_errors", addr);
	OK(sigaction(SIGBUS, &sa, NULL));
}

/* Whatever was armed must not hit the next test. */
FIXTURE_TEARDOWN_PARENT(failnth)
{
	struct npu npu;
	unsigned int i;

	for (i = 0; i < NR_ATTRS; i++)
		EXPECT_EQ(0, attr_set(attrs[i], false));
	EXPECT_EQ(0, _npu_open(&npu, 0));
	EXPECT_EQ(0, _npu_inject(&npu, NPU_INJECT_NONE, 0));
	EXPECT_EQ(0, _gmem_hnode_set(npu.hnid, "limit",
				     gmem_hnode_get(npu.hnid, "size")));
	npu_close(&npu);
	EXPECT_NO_DEVICE_PAGES();
}

/* The middle of the range, with something left on both sides. */
static char *middle(nth_t *self)
{
	return self->p + self->len / 3 / SZ_4K * SZ_4K;
}

static size_t middle_len(nth_t *self)
{
	return self->len / 3 / SZ_4K * SZ_4K;
}

/* --- states to start from --------------------------------------------------- */

static void attach(struct __test_metadata *_metadata, nth_t *self)
{
	if (!self->attached)
		npu_attach(&self->npu, 0);
	self->attached = true;
}

static void detach(struct __test_metadata *_metadata, nth_t *self)
{
	if (self->attached)
		npu_detach(&self->npu);
	self->attached = false;
}

static void nowhere(struct __test_metadata *_metadata, nth_t *self)
{
	attach(_metadata, self);
	ASSERT_EQ(0, madvise(self->p, self->len, MADV_DONTNEED));
	memset(self->shadow, 0, self->len);
}

static void on_host(struct __test_metadata *_metadata, nth_t *self)
{
	nowhere(_metadata, self);
	gmem_pattern(self->shadow, self->len, ++self->seed);
	memcpy(self->p, self->shadow, self->len);
}

/* Filled with one value, so that a job that writes it may also do half of it. */
static void filled(struct __test_metadata *_metadata, nth_t *self)
{
	uint64_t *w = (uint64_t *)self->shadow;

	nowhere(_metadata, self);
	while (w < (uint64_t *)(self->shadow + self->len))
		*w++ = FILL;
	memcpy(self->p, self->shadow, self->len);
}

static void on_device(struct __test_metadata *_metadata, nth_t *self)
{
	on_host(_metadata, self);
	hmadvise(self->npu.hnid, self->p, self->len, HMADV_PREFETCH);
	npu_touch(&self->npu, self->p, self->len, true, NULL);
	ASSERT_ON(self->npu.hnid, self->p, self->len);
}

/* Locked pages do not move; attached anew, the device knows none of them. */
static void locked(struct __test_metadata *_metadata, nth_t *self)
{
	on_host(_metadata, self);
	ASSERT_EQ(0, mlock(self->p, self->len));
	detach(_metadata, self);
	attach(_metadata, self);
}

static void unattached(struct __test_metadata *_metadata, nth_t *self)
{
	on_device(_metadata, self);
	detach(_metadata, self);
}

/* The device has the pages and has to find that out. */
static void resident(struct __test_metadata *_metadata, nth_t *self)
{
	unattached(_metadata, self);
	attach(_metadata, self);
}

static void unshared(struct __test_metadata *_metadata, nth_t *self)
{
	on_host(_metadata, self);
	hmadvise(-1, middle(self), middle_len(self), HMADV_UNSHARE);
}

/* No room for one byte more. */
static void device_full(struct __test_metadata *_metadata, nth_t *self)
{
	ASSERT_EQ(0, madvise(self->buf[1].p, self->len, MADV_DONTNEED));
	on_device(_metadata, self);
	gmem_hnode_set(self->npu.hnid, "limit", self->len);
}

/* --- operations ----------------------------------------------------------------- */

static int run_read_fault(nth_t *self)
{
	return _npu_touch(&self->npu, self->p, self->len, false, NULL);
}

static int run_write_fault(nth_t *self)
{
	return _npu_touch(&self->npu, self->p, self->len, true, NULL);
}

static int run_read_job(nth_t *self)
{
	struct npu_result res = {};
	int err = _npu_reduce(&self->npu, self->p, self->len, &res);

	if (!err && res.value != gmem_sum(self->shadow, self->len))
		return EBADMSG;
	return err;
}

static int run_write_job(nth_t *self)
{
	return _npu_fill(&self->npu, self->p, self->len, FILL, NULL);
}

static int run_attach(nth_t *self)
{
	int err = _npu_attach(&self->npu, 0);

	self->attached = !err;
	return err;
}

static int run_detach(nth_t *self)
{
	int err = _npu_detach(&self->npu);

	self->attached = err;
	return err;
}

static int run_close(nth_t *self)
{
	self->attached = false;
	return close(self->npu.fd) ? errno : 0;
}

static void after_close(struct __test_metadata *_metadata, nth_t *self)
{
	npu_open(&self->npu, 0);
}

static int run_share(nth_t *self)
{
	return _hmadvise(-1, middle(self), middle_len(self), HMADV_SHARE);
}

static int run_unshare(nth_t *self)
{
	return _hmadvise(-1, middle(self), middle_len(self), HMADV_UNSHARE);
}

static void share_again(struct __test_metadata *_metadata, nth_t *self)
{
	hmadvise(-1, self->p, self->len, HMADV_SHARE);
}

static int run_prefetch(nth_t *self)
{
	return _hmadvise(self->npu.hnid, self->p, self->len, HMADV_PREFETCH);
}

static int run_prefetch_home(nth_t *self)
{
	return _hmadvise(-1, self->p, self->len, HMADV_PREFETCH);
}

static int run_discard(nth_t *self)
{
	return _hmadvise(-1, self->p, self->len, HMADV_DISCARD);
}

/* Each page was discarded or was not. */
static void after_discard(struct __test_metadata *_metadata, nth_t *self)
{
	size_t at;

	if (!self->err)
		ASSERT_ZERO(self->p, self->len);
	for (at = 0; at < self->len; at += SZ_4K)
		if (gmem_nonzero(self->p + at, SZ_4K) == SZ_4K)
			memset(self->shadow + at, 0, SZ_4K);
}

static int run_cpu_read(nth_t *self)
{
	if (sigsetjmp(bus_env, 0))
		return EIO;
	(void)*(volatile char *)self->p;
	return 0;
}

static int run_cpu_write(nth_t *self)
{
	char *at = self->p + self->len / 2;

	if (sigsetjmp(bus_env, 0))
		return EIO;
	*(volatile char *)at = self->shadow[self->len / 2];
	return 0;
}

static int run_fork(nth_t *self)
{
	pid_t pid;

	self->settled = false;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* What still fails would fail its copies, too. */
		while (!__atomic_load_n(&self->settled, __ATOMIC_ACQUIRE))
			gmem_sleep_ms(1);
		_exit(gmem_diff(self->shadow, self->p, self->len) != self->len);
	}
	self->child = pid;
	return pid < 0 ? errno : 0;
}

static void after_fork(struct __test_metadata *_metadata, nth_t *self)
{
	__atomic_store_n(&self->settled, true, __ATOMIC_RELEASE);
	if (self->child > 0)
		ASSERT_EQ(0, gmem_child(self->child));
}

static int move_to(nth_t *self, char *to)
{
	char *p = mremap(self->p, self->len, self->len,
			 MREMAP_MAYMOVE | MREMAP_FIXED, to);

	if (p == MAP_FAILED)
		return errno;
	self->p = p;
	return 0;
}

static int run_mremap(nth_t *self)
{
	return move_to(self, self->buf[1].p);
}

/* Into the inaccessible pages around the other buffer, which are no less. */
static int run_mremap_unaligned(nth_t *self)
{
	return move_to(self, self->buf[1].p + 3 * SZ_4K);
}

static void after_mremap(struct __test_metadata *_metadata, nth_t *self)
{
	ASSERT_SAME(self->shadow, self->p, self->len);
	/* Nobody else may get a place that was left. */
	if (!self->err) {
		ASSERT_NE(MAP_FAILED, mmap(self->buf[0].p, self->len,
					   PROT_NONE, MAP_PRIVATE |
					   MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		OK(move_to(self, self->buf[0].p));
	}
	ASSERT_NE(MAP_FAILED, mmap(self->buf[1].p, self->len + 3 * SZ_4K,
				   PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
				   MAP_FIXED, -1, 0));
}

static int run_munmap(nth_t *self)
{
	return munmap(middle(self), middle_len(self)) ? errno : 0;
}

static void after_munmap(struct __test_metadata *_metadata, nth_t *self)
{
	if (self->err)
		return;
	ASSERT_NE(MAP_FAILED, mmap(middle(self), middle_len(self), RW,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
				   MAP_PEER_SHARED, -1, 0));
	OK(madvise(self->p, self->len, self->thp ? MADV_HUGEPAGE :
						   MADV_NOHUGEPAGE));
	memset(self->shadow + (middle(self) - self->p), 0, middle_len(self));
}

static int run_mprotect(nth_t *self)
{
	return mprotect(middle(self), middle_len(self), PROT_READ) ? errno : 0;
}

static void after_mprotect(struct __test_metadata *_metadata, nth_t *self)
{
	ASSERT_EQ(0, mprotect(self->p, self->len, RW));
}

static void unlock(struct __test_metadata *_metadata, nth_t *self)
{
	ASSERT_EQ(0, munlock(self->p, self->len));
}

/* A fault that has to wait until somebody else's pages were evicted. */
static int run_evict(nth_t *self)
{
	return _npu_touch(&self->npu, self->buf[1].p, self->block, true, NULL);
}

static void after_evict(struct __test_metadata *_metadata, nth_t *self)
{
	gmem_hnode_set(self->npu.hnid, "limit",
		       gmem_hnode_get(self->npu.hnid, "size"));
	ASSERT_ZERO(self->buf[1].p, self->len);
}

static bool device_empty(nth_t *self)
{
	return gmem_hnode_get(self->npu.hnid, "free") ==
	       gmem_hnode_get(self->npu.hnid, "size");
}

/* A pass of the evictor that failed is not repeated: do not wait for long. */
static int run_limit(nth_t *self)
{
	uint64_t end = gmem_now_ms() + 300;
	int err = _gmem_hnode_set(self->npu.hnid, "limit", 0);

	while (!err && !device_empty(self) && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	return err;
}

static void after_limit(struct __test_metadata *_metadata, nth_t *self)
{
	uint64_t end = gmem_now_ms() + 10000;

	while (!device_empty(self) && gmem_now_ms() < end) {
		gmem_hnode_set(self->npu.hnid, "limit", 0);
		gmem_sleep_ms(10);
	}
	ASSERT_TRUE(device_empty(self));
	gmem_hnode_set(self->npu.hnid, "limit",
		       gmem_hnode_get(self->npu.hnid, "size"));
}

/**
 * struct nth_op - an operation
 * @arrange: the state to start from; no failure is armed
 * @run: the operation; returns an errno
 * @settle: make the range whole again, or adapt the shadow; may be NULL
 * @never_fails: one failure must not be seen by the program
 * @stepless: it may need nothing that can fail
 */
struct nth_op {
	void (*arrange)(struct __test_metadata *_metadata, nth_t *self);
	int (*run)(nth_t *self);
	void (*settle)(struct __test_metadata *_metadata, nth_t *self);
	bool never_fails;
	bool stepless;
};

/* --- failures --------------------------------------------------------------- */

/**
 * struct nth_failure - what fails, and how
 * @threads: the n-th step of each thread of the kernel whose name begins so,
 *           of this one if it is empty
 * @engine: the n-th command of the copy engines
 * @attr: twenty calls of one operation, which is this fault attribute
 * @quiet: how often nothing failed before that is believed
 */
struct nth_failure {
	const char *threads;
	bool engine;
	const char *attr;
	unsigned int quiet;
};

static const struct nth_failure self_fails = { .threads = "", .quiet = 1 };

/* A worker that was started meanwhile is not armed. */
static const struct nth_failure workers_fail = {
	.threads = "kworker/u", .quiet = 2
};

static const struct nth_failure evictors_fail = {
	.threads = "gm_evict/", .quiet = 1
};

static const struct nth_failure engine_fails = { .engine = true, .quiet = 1 };

#define MAX_TASKS		256

static int task_fds[MAX_TASKS];
static unsigned int nr_tasks;

static void task_open(const char *pid)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/fail-nth", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && nr_tasks < MAX_TASKS)
		task_fds[nr_tasks++] = fd;
	else if (fd >= 0)
		close(fd);
}

static void tasks_open(const char *name)
{
	char path[300], comm[64];
	struct dirent *d;
	DIR *proc;

	if (!*name) {
		task_open("thread-self");
		return;
	}
	proc = opendir("/proc");
	while (proc && (d = readdir(proc))) {
		if (!isdigit(d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", d->d_name);
		if (gmem_read_file(path, comm, sizeof(comm)) > 0 &&
		    !strncmp(comm, name, strlen(name)))
			task_open(d->d_name);
	}
	if (proc)
		closedir(proc);
}

static void arm_tasks(struct __test_metadata *_metadata, const char *name,
		      unsigned int nth)
{
	char text[16];
	unsigned int i;
	int len = snprintf(text, sizeof(text), "%u", nth);

	tasks_open(name);
	ASSERT_NE(0, nr_tasks);
	for (i = 0; i < nr_tasks; i++)
		ASSERT_EQ(len, pwrite(task_fds[i], text, len, 0));
}

/*
 * What is left of a task's fail-nth is 0 when it failed.  Reading it, and
 * disarming it, copies from and to user space, which may be the n-th step.
 */
static bool disarm_tasks(struct __test_metadata *_metadata)
{
	bool hit = false;
	unsigned int i;

	for (i = 0; i < nr_tasks; i++) {
		char text[16];
		ssize_t n = pread(task_fds[i], text, sizeof(text), 0);

		hit |= n > 0 && text[0] == '0';
		n = pwrite(task_fds[i], "0", 1, 0);
		if (n < 0 && errno == EFAULT)
			n = pwrite(task_fds[i], "0", 1, 0);
		ASSERT_TRUE(n == 1 || errno == ESRCH);
	}
	while (nr_tasks)
		close(task_fds[--nr_tasks]);
	return hit;
}

static void arm(struct __test_metadata *_metadata, nth_t *self,
		const struct nth_failure *f, unsigned int nth)
{
	fflush(stdout);
	if (f->engine) {
		self->errors_before = gmem_read_number(self->errors);
		npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, nth);
	} else if (f->attr) {
		OK(attr_set(f->attr, true));
	} else {
		arm_tasks(_metadata, f->threads, nth);
	}
}

/* Returns true when something failed, or for an attribute could have. */
static bool disarm(struct __test_metadata *_metadata, nth_t *self,
		   const struct nth_failure *f)
{
	struct npu npu;

	if (f->engine) {
		/* The test may have closed its file. */
		npu_open(&npu, 0);
		npu_inject(&npu, NPU_INJECT_NONE, 0);
		npu_close(&npu);
		return gmem_read_number(self->errors) > self->errors_before;
	}
	if (f->attr) {
		OK(attr_set(f->attr, false));
		return true;
	}
	return disarm_tasks(_metadata);
}

/* --- the test ----------------------------------------------------------------------- */

/* Everything is still there, for the CPU and for the device, to read and write. */
static void check(struct __test_metadata *_metadata, nth_t *self)
{
	size_t at = ++self->seed * SZ_4K % self->len;
	struct npu_result res;

	attach(_metadata, self);
	npu_reduce(&self->npu, self->p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	npu_atomic_add(&self->npu, (uint64_t *)(self->p + at), 5, 3, NULL);
	*(uint64_t *)(self->shadow + at) += 15;
	ASSERT_SAME(self->shadow, self->p, self->len);
}

static bool errno_ok(const struct nth_op *op, const struct nth_failure *f,
		     int err)
{
	switch (err) {
	case 0:
		return true;
	case ENOMEM:
	case EIO:
	case EFAULT:
	case EAGAIN:
		return f->attr || !op->never_fails;
	default:
		return false;
	}
}

/* Arrange, fail, look; returns whether anything failed. */
static bool once(struct __test_metadata *_metadata, nth_t *self,
		 const struct nth_op *op, const struct nth_failure *f,
		 unsigned int nth)
{
	bool hit;

	op->arrange(_metadata, self);
	arm(_metadata, self, f, nth);
	self->err = op->run(self);
	hit = disarm(_metadata, self, f);
	ASSERT_TRUE(hit ? errno_ok(op, f, self->err) : !self->err)
		TH_LOG("%s%s%s %u: errno %d", f->engine ? "engine" : "",
		       f->threads ? "task " : "", f->threads ?: f->attr ?: "",
		       nth, self->err);
	if (op->settle)
		op->settle(_metadata, self);
	check(_metadata, self);
	return hit;
}

/*
 * All n up to 32, or to 16 on a slow kernel, and some of the many that are like
 * each other then.
 */
static unsigned int next(unsigned int nth)
{
	return nth + 1 + nth / (gmem_scaled(32) < 32 ? 16 : 32);
}

/* Until nothing fails any more; returns how often something did. */
static unsigned int sweep(struct __test_metadata *_metadata, nth_t *self,
			  const struct nth_op *op, const struct nth_failure *f)
{
	unsigned int nth = 1, hits = 0, quiet = 0;

	while (quiet < f->quiet) {
		if (once(_metadata, self, op, f, nth)) {
			hits++;
			quiet = 0;
		} else {
			quiet++;
		}
		nth = next(nth);
	}
	TH_LOG("%s%s: %u failures", f->engine ? "engine" : "task ",
	       f->threads ?: "", hits);
	return hits;
}

/*
 * An operation of the driver, or the DMA mapping, that fails for some time: a
 * fault of the CPU that finds no memory is repeated until it does.
 */
static void driver_failing(struct __test_metadata *_metadata, nth_t *self,
			   const struct nth_op *op)
{
	unsigned int i;

	for (i = 0; i < NR_ATTRS; i++) {
		const struct nth_failure f = { .attr = attrs[i] };

		once(_metadata, self, op, &f, 1);
	}
}

/* Whatever the operation itself runs into. */
static void one_by_one(struct __test_metadata *_metadata, nth_t *self,
		       const struct nth_op *op)
{
	ASSERT_TRUE(sweep(_metadata, self, op, &self_fails) || op->stepless);
	sweep(_metadata, self, op, &engine_fails);
	driver_failing(_metadata, self, op);
}

#define NTH_TEST(name, ...) \
	TEST_F(failnth, name) \
	{ \
		static const struct nth_op op = { __VA_ARGS__ }; \
		\
		one_by_one(_metadata, self, &op); \
	}

NTH_TEST(attach, .arrange = unattached, .run = run_attach)
NTH_TEST(detach, .arrange = on_device, .run = run_detach,
	 .stepless = true)
NTH_TEST(close, .arrange = on_device, .run = run_close,
	 .settle = after_close, .stepless = true)
NTH_TEST(share, .arrange = unshared, .run = run_share, .settle = share_again)
NTH_TEST(unshare, .arrange = on_device, .run = run_unshare,
	 .settle = share_again)
NTH_TEST(prefetch, .arrange = on_host, .run = run_prefetch)
NTH_TEST(prefetch_home, .arrange = on_device, .run = run_prefetch_home)
NTH_TEST(discard, .arrange = on_device, .run = run_discard,
	 .settle = after_discard, .stepless = true)
NTH_TEST(read_host, .arrange = on_host, .run = run_read_fault)
NTH_TEST(write_host, .arrange = on_host, .run = run_write_fault)
NTH_TEST(read_nowhere, .arrange = nowhere, .run = run_read_fault)
NTH_TEST(write_nowhere, .arrange = nowhere, .run = run_write_fault)
NTH_TEST(write_remote, .arrange = locked, .run = run_write_fault,
	 .settle = unlock)
NTH_TEST(write_resident, .arrange = resident, .run = run_write_fault)
NTH_TEST(cpu_read, .arrange = on_device, .run = run_cpu_read,
	 .never_fails = true)
NTH_TEST(cpu_write, .arrange = on_device, .run = run_cpu_write,
	 .never_fails = true)
NTH_TEST(fork, .arrange = on_device, .run = run_fork, .settle = after_fork)
NTH_TEST(mremap, .arrange = on_device, .run = run_mremap,
	 .settle = after_mremap)
NTH_TEST(mremap_unaligned, .arrange = on_device, .run = run_mremap_unaligned,
	 .settle = after_mremap)
NTH_TEST(munmap, .arrange = on_device, .run = run_munmap,
	 .settle = after_munmap)
NTH_TEST(mprotect, .arrange = on_device, .run = run_mprotect,
	 .settle = after_mprotect)

/* The device's own faults are served by workers of its driver. */
static void under_a_job(struct __test_metadata *_metadata, nth_t *self,
			const struct nth_op *op)
{
	ASSERT_NE(0, sweep(_metadata, self, op, &workers_fail));
	ASSERT_NE(0, sweep(_metadata, self, op, &engine_fails));
	driver_failing(_metadata, self, op);
}

TEST_F(failnth, read_job)
{
	static const struct nth_op op = {
		.arrange = on_host, .run = run_read_job,
	};

	under_a_job(_metadata, self, &op);
}

TEST_F(failnth, write_job)
{
	static const struct nth_op op = {
		.arrange = filled, .run = run_write_job,
	};

	under_a_job(_metadata, self, &op);
}

/* Eviction is the work of a thread of its own. */
static void under_eviction(struct __test_metadata *_metadata, nth_t *self,
			   const struct nth_op *op)
{
	ASSERT_NE(0, sweep(_metadata, self, op, &evictors_fail));
	ASSERT_NE(0, sweep(_metadata, self, op, &engine_fails));
	driver_failing(_metadata, self, op);
}

TEST_F(failnth, evict)
{
	static const struct nth_op op = {
		.arrange = device_full, .run = run_evict, .settle = after_evict,
	};

	under_eviction(_metadata, self, &op);
}

TEST_F(failnth, lower_the_limit)
{
	static const struct nth_op op = {
		.arrange = on_device, .run = run_limit, .settle = after_limit,
	};

	under_eviction(_metadata, self, &op);
}

/* A process that ends frees what it has, whatever fails meanwhile. */
static void exit_failing(struct __test_metadata *_metadata, nth_t parent,
			 unsigned int nth)
{
	nth_t *self = &parent;	/* a copy: the fixture is shared */

	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	self->attached = true;
	on_device(_metadata, self);
	arm(_metadata, self, &self_fails, nth);
	_exit(0);
}

TEST_F(failnth, exit)
{
	unsigned int nth = 1;
	bool hit = true;
	siginfo_t info;
	char path[64];
	pid_t pid;

	on_host(_metadata, self);
	while (hit) {
		fflush(stdout);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			exit_failing(_metadata, *self, nth);
		ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
		snprintf(path, sizeof(path), "/proc/%d/fail-nth", pid);
		hit = !gmem_read_number(path);
		ASSERT_EQ(0, gmem_child(pid));
		ASSERT_TRUE(gmem_hnodes_idle());
		check(_metadata, self);
		hmadvise(-1, self->p, self->len, HMADV_PREFETCH);
		nth = next(nth);
	}
	TH_LOG("exit: %u", nth);
}

/* --- the program ------------------------------------------------------------ */

/*
 * kmemleak allocates something for each allocation, from a pool of its own if
 * it must: let it.  Symbols are listed by address.
 */
static void spare_kmemleak(void)
{
	unsigned long addr, start = 0;
	char line[512], name[256], text[32];
	FILE *f = fopen("/proc/kallsyms", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %*c %255s", &addr, name) != 2)
			continue;
		if (start && addr != start)
			break;
		if (!strcmp(name, "mem_pool_alloc"))
			start = addr;
	}
	if (f)
		fclose(f);
	if (!start)
		return;
	snprintf(text, sizeof(text), "%#lx", addr);
	_gmem_write_file(DEBUGFS "failslab/reject-end", text);
	snprintf(text, sizeof(text), "%#lx", start);
	_gmem_write_file(DEBUGFS "failslab/reject-start", text);
}

/* Let anything fail, without a word in the log. */
static bool injection_ready(void)
{
	struct dirent *d;
	char path[300];
	DIR *dir;

	if (_gmem_write_file(DEBUGFS "failslab/ignore-gfp-wait", "N") ||
	    _gmem_write_file(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N") ||
	    _gmem_write_file(DEBUGFS "fail_page_alloc/ignore-gfp-highmem",
			     "N") ||
	    _gmem_write_file(DEBUGFS "fail_page_alloc/min-order", "0"))
		return false;
	dir = opendir(DEBUGFS);
	while (dir && (d = readdir(dir))) {
		snprintf(path, sizeof(path), DEBUGFS "%s/verbose", d->d_name);
		if (!strncmp(d->d_name, "fail", 4))
			_gmem_write_file(path, "0");
	}
	if (dir)
		closedir(dir);
	dir = opendir(DEBUGFS "gmem-npu");
	while (dir && (d = readdir(dir))) {
		snprintf(path, sizeof(path), DEBUGFS "gmem-npu/%s/verbose",
			 d->d_name);
		if (!strncmp(d->d_name, "fail", 4))
			_gmem_write_file(path, "0");
	}
	if (dir)
		closedir(dir);
	spare_kmemleak();
	return dir;
}

int main(int argc, char **argv)
{
	bool asked = false;
	int i;

	for (i = 1; i < argc; i++)
		asked |= !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") ||
			 !strcmp(argv[i], "-l");
	if (!asked && !injection_ready()) {
		printf("1..0 # SKIP no fault injection in this kernel\n");
		return KSFT_SKIP;
	}
	return gmem_test_main(argc, argv, "One failure at a time.");
}
