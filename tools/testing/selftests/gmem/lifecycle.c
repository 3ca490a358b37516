// SPDX-License-Identifier: GPL-2.0
/*
 * Processes and devices that come and go at any moment.  After each test no
 * device page is allocated.
 */
#include "gmem_test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(lifecycle)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
};

FIXTURE_VARIANT(lifecycle)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(lifecycle, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(lifecycle, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(lifecycle, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(lifecycle, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(lifecycle)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 13);
	gmem_pattern(self->shadow, self->len, 13);
}

FIXTURE_TEARDOWN_PARENT(lifecycle)
{
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(lifecycle) lifecycle_t;

/* Put the data on the device, with a change that only the device made. */
static void to_device(struct __test_metadata *_metadata, lifecycle_t *self)
{
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

TEST_F(lifecycle, detach_keeps_the_data)
{
	to_device(_metadata, self);
	npu_detach(&self->npu);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(lifecycle, close_keeps_the_data)
{
	to_device(_metadata, self);
	npu_close(&self->npu);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(lifecycle, attach_again)
{
	struct npu_result res;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		to_device(_metadata, self);
		npu_detach(&self->npu);
		if (i & 1)
			ASSERT_SAME(self->shadow, self->buf.p, self->len);
		npu_attach(&self->npu, 0);
		npu_reduce(&self->npu, self->buf.p, self->len, &res);
		ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	}
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Nothing is detached, closed or unmapped; jobs are queued. */
TEST_F(lifecycle, exit_with_jobs)
{
	uint64_t seqno;
	unsigned int i;

	to_device(_metadata, self);
	for (i = 0; i < 16; i++)
		npu_submit(&self->npu, NPU_OP_FILL, (uintptr_t)self->buf.p,
			   self->len, i, 0, 0, &seqno);
}

TEST_F(lifecycle, detach_with_jobs)
{
	char *before = malloc(self->len);
	uint64_t seqno[16];
	unsigned int i;
	size_t at;

	ASSERT_NE(NULL, before);
	to_device(_metadata, self);
	memcpy(before, self->shadow, self->len);
	for (i = 0; i < 16; i++)
		npu_submit(&self->npu, NPU_OP_FILL, (uintptr_t)self->buf.p,
			   self->len, i + 1, 0, 0, &seqno[i]);
	npu_detach(&self->npu);
	/* No job writes any more, and each word is what some job wrote. */
	memcpy(self->shadow, self->buf.p, self->len);
	gmem_sleep_ms(20);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	for (at = 0; at < self->len; at += 8) {
		uint64_t v = *(uint64_t *)(self->buf.p + at);

		ASSERT_TRUE(v - 1 < 16 || v == *(uint64_t *)(before + at));
	}
}

static int work_for_ever(const struct gmem_shape *shape, unsigned int nth)
{
	struct npu npu;
	struct gmem_buf buf;
	uint64_t i;

	if (_npu_open(&npu, nth) || _npu_attach(&npu, 0) ||
	    _gmem_map_shape(&buf, shape))
		return 1;
	for (i = 1;; i++) {
		struct npu_result res;

		if (_npu_fill(&npu, buf.p, buf.len, i, NULL) ||
		    _npu_reduce(&npu, buf.p, buf.len, &res) ||
		    res.value != i * (buf.len / 8))
			return 2;
		buf.p[i % buf.len] = 0;
		if (_hmadvise(npu.hnid, buf.p, buf.len, HMADV_PREFETCH) ||
		    _hmadvise(-1, buf.p, buf.len / 2 / SZ_4K * SZ_4K,
			      HMADV_PREFETCH))
			return 3;
	}
}

/* Killed wherever they happen to be. */
TEST_F(lifecycle, kill_at_random_points)
{
	uint64_t seed = gmem_seed();
	unsigned long i, rounds = gmem_scaled(8);
	uint64_t state = seed;

	TH_LOG("seed %llu", (unsigned long long)seed);
	for (i = 0; i < rounds; i++) {
		pid_t pid[3];
		unsigned int j;

		for (j = 0; j < ARRAY_SIZE(pid); j++) {
			pid[j] = gmem_fork();
			if (!pid[j])
				_exit(work_for_ever(&variant->shape, j & 1));
			ASSERT_LT(0, pid[j]);
		}
		for (j = 0; j < ARRAY_SIZE(pid); j++) {
			gmem_sleep_ms(gmem_random(&state) % 30);
			kill(pid[j], SIGKILL);
			ASSERT_EQ(128 + SIGKILL, gmem_child(pid[j]));
		}
	}
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* One device, many processes that each see their own data. */
TEST_F(lifecycle, many_processes)
{
	enum { NR = 4 };
	pid_t pid[NR];
	unsigned int i;

	for (i = 0; i < NR; i++) {
		pid[i] = gmem_fork();
		if (!pid[i]) {
			struct npu npu;
			struct npu_result res;
			unsigned int j;

			if (_npu_open(&npu, 0) || _npu_attach(&npu, 0))
				_exit(1);
			for (j = 0; j < 2; j++) {
				uint64_t v = i * 100 + j;

				if (_npu_fill(&npu, self->buf.p, self->len, v,
					      NULL) ||
				    _npu_reduce(&npu, self->buf.p, self->len,
						&res) ||
				    res.value != v * (self->len / 8) ||
				    gmem_sum(self->buf.p, self->len) !=
				    res.value)
					_exit(2);
			}
			_exit(0);
		}
		ASSERT_LT(0, pid[i]);
	}
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, gmem_child(pid[i]));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(lifecycle, two_devices_one_detached)
{
	struct npu other;
	struct npu_result res;

	if (npu_count() < 2)
		SKIP(return, "only one device");
	npu_open(&other, 1);
	npu_attach(&other, 0);
	to_device(_metadata, self);
	npu_detach(&self->npu);
	npu_reduce(&other, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	npu_close(&other);
	npu_close(&self->npu);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The file of a process that is gone, in the hands of another. */
TEST_F(lifecycle, file_outlives_its_process)
{
	int ready[2], pidfd, fd;
	struct npu stolen;
	uint64_t seqno;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = gmem_fork();
	if (!pid) {
		struct npu npu;
		struct gmem_buf buf;

		if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
		    _gmem_map_shape(&buf, &variant->shape) ||
		    _npu_fill(&npu, buf.p, buf.len, 1, NULL))
			_exit(1);
		c = npu.fd;
		if (write(ready[1], &c, 1) != 1)
			_exit(2);
		pause();
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	fd = syscall(SYS_pidfd_getfd, pidfd, (int)c, 0);
	ASSERT_LE(0, fd);
	stolen = self->npu;
	stolen.fd = fd;
	npu_submit_err(EPERM, &stolen, NPU_OP_FILL, (uintptr_t)self->buf.p,
		       self->len, 0, 0, 0, &seqno);
	kill(pid, SIGKILL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	/* Its pages are free though the file is not closed. */
	ASSERT_TRUE(gmem_hnodes_idle());
	ASSERT_NE(0, _npu_submit(&stolen, NPU_OP_FILL,
				 (uintptr_t)self->buf.p, self->len, 0, 0, 0,
				 &seqno));
	to_device(_metadata, self);
	npu_close(&stolen);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

struct jobs {
	const struct npu *npu;
	char *p;
	size_t len;
	int err;
	uint64_t done;
};

/* Fill with 1, 2, 3, ... until the device says no. */
static void *run_jobs(void *arg)
{
	struct jobs *jobs = arg;
	uint64_t i;

	for (i = 1; !jobs->err; i++) {
		jobs->err = _npu_fill(jobs->npu, jobs->p, jobs->len, i, NULL);
		if (!jobs->err)
			__atomic_store_n(&jobs->done, i, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* The driver goes while pages are on the device and a job runs. */
TEST_F(lifecycle, unbind_under_load)
{
	struct gmem_buf other;
	struct jobs jobs = { .npu = &self->npu };
	unsigned int count = npu_count();
	char dir[512], addr[64];
	struct npu_result res;
	struct npu again;
	pthread_t thread;
	uint64_t seqno;
	size_t at;

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	gmem_map_shape(&other, &variant->shape);
	jobs.p = other.p;
	jobs.len = other.len;
	to_device(_metadata, self);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_jobs, &jobs));
	while (__atomic_load_n(&jobs.done, __ATOMIC_ACQUIRE) < 3)
		gmem_sleep_ms(1);
	npu_unbind(dir, addr);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	ASSERT_TRUE(jobs.err == ENODEV || jobs.err == ECANCELED)
		TH_LOG("job ended with %d", jobs.err);
	npu_submit_err(ENODEV, &self->npu, NPU_OP_FILL,
		       (uintptr_t)self->buf.p, self->len, 0, 0, 0, &seqno);
	ASSERT_EQ(-ENOENT, gmem_hnode_get(self->npu.hnid, "size"));
	hmadvise_err(ENODEV, self->npu.hnid, self->buf.p, self->len,
		     HMADV_PREFETCH);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	/* The last job that ended, or the one that did not. */
	for (at = 0; at < other.len; at += 8) {
		uint64_t v = *(uint64_t *)(other.p + at);

		ASSERT_TRUE(v == jobs.done || v == jobs.done + 1);
	}

	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
	npu_open(&again, 0);
	npu_attach(&again, 0);
	npu_reduce(&again, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	/* The old file stays dead. */
	npu_submit_err(ENODEV, &self->npu, NPU_OP_FILL,
		       (uintptr_t)self->buf.p, self->len, 0, 0, 0, &seqno);
	npu_close(&self->npu);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* prior art: no device, no mmap(), and a later device did not know the memory */
TEST_F(lifecycle, mmap_before_any_device)
{
	unsigned int i, count = npu_count();
	char dir[8][512], addr[8][64];
	struct npu npu;

	npu_close(&self->npu);
	ASSERT_GE(ARRAY_SIZE(dir), count);
	for (i = 0; i < count; i++) {
		npu_open(&npu, i);
		npu_close(&npu);
		OK(npu_driver(npu.number, dir[i], sizeof(dir[i]), addr[i],
			      sizeof(addr[i])));
	}
	for (i = 0; i < count; i++)
		npu_unbind(dir[i], addr[i]);
	ASSERT_EQ(0, npu_count());
	gmem_unmap(&self->buf);
	gmem_map_shape(&self->buf, &variant->shape);
	memcpy(self->buf.p, self->shadow, self->len);
	hmadvise_err(ENODEV, npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	hmadvise(-1, self->buf.p, self->len, HMADV_SHARE);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	for (i = 0; i < count; i++)
		npu_bind(dir[i], addr[i]);
	ASSERT_TRUE(npu_wait_count(count));
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Nobody has the file open; only pages are there. */
TEST_F(lifecycle, unbind_with_pages_only)
{
	unsigned int count = npu_count();
	char dir[512], addr[64];

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	to_device(_metadata, self);
	npu_close(&self->npu);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	npu_unbind(dir, addr);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The process dies while the driver is being unbound. */
TEST_F(lifecycle, unbind_against_exit)
{
	unsigned long i, rounds = gmem_scaled(4);
	unsigned int count = npu_count();
	char dir[512], addr[64];

	npu_close(&self->npu);
	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	for (i = 0; i < rounds; i++) {
		int code;
		pid_t pid;

		pid = gmem_fork();
		if (!pid)
			_exit(work_for_ever(&variant->shape, 0));
		gmem_sleep_ms(10 + i * 7);
		if (i & 1)
			kill(pid, SIGKILL);
		npu_unbind(dir, addr);
		kill(pid, SIGKILL);
		/* By the signal, or before it by the loss of its device. */
		code = gmem_child(pid);
		ASSERT_TRUE(code == 128 + SIGKILL || code == 2 || code == 3 ||
			    code == 1);
		npu_bind(dir, addr);
		ASSERT_TRUE(npu_wait_count(count));
	}
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* --- a fault that takes as long as a file system wants ------------------------- */

#define FROZEN_LEN	(4 * SZ_4K)

static int freeze(bool on)
{
	int fd = open(GMEM_FS, O_RDONLY | O_CLOEXEC);
	int err = fd < 0 || ioctl(fd, on ? FIFREEZE : FITHAW, 0) ? errno : 0;

	close(fd);
	return err;
}

FIXTURE(frozen)
{
	struct npu npu;
	struct gmem_buf buf;
	char *file;
};

FIXTURE_SETUP(frozen)
{
	int fd;

	npu_open(&self->npu, 0);
	gmem_map(&self->buf, SZ_64K, SZ_64K, 0, RW, MAP_PEER_SHARED);
	OK(_gmem_fs_mount());
	fd = open(GMEM_FS, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	gmem_pattern(self->buf.p, FROZEN_LEN, 3);
	ASSERT_EQ(FROZEN_LEN, write(fd, self->buf.p, FROZEN_LEN));
	OK(fsync(fd));
	self->file = mmap(NULL, FROZEN_LEN, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, self->file);
	close(fd);
}

FIXTURE_TEARDOWN_PARENT(frozen)
{
	/* Who failed may have left it so, and a child that waits for it. */
	freeze(false);
	EXPECT_NO_DEVICE_PAGES();
}

static int submit_first_queue(const struct npu *npu, void *p, size_t len,
			      uint64_t value, uint64_t *seqno)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_FILL,
		.queue = 0,
		.args = { (uintptr_t)p, len, value },
	};

	if (ioctl(npu->fd, GMEM_NPU_SUBMIT, &s))
		return errno;
	*seqno = s.seqno;
	return 0;
}

/*
 * Serving a fault cannot be broken off, so who was killed stays until the file
 * system thaws, as with a fault of a CPU.  Nobody else has to wait for that.
 */
TEST_F(frozen, killed_owner_keeps_no_queue)
{
	struct gmem_npu_wait wait = {
		.size = sizeof(wait),
		.timeout_ns = 20 * 1000000000ULL,
	};
	struct npu_stats before, stats;
	uint64_t seqno = 0;
	pid_t pid;
	int tries;

	npu_stats(&self->npu, &before);
	OK(freeze(true));
	pid = gmem_fork();
	if (!pid) {
		struct npu npu;

		if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
		    submit_first_queue(&npu, self->file, FROZEN_LEN, 7,
				       &seqno))
			_exit(1);
		pause();
	}
	for (tries = 0; tries < 2000; tries++) {
		npu_stats(&self->npu, &stats);
		if (stats.c[NPU_STAT_FAULTS] > before.c[NPU_STAT_FAULTS])
			break;
		gmem_sleep_ms(10);
	}
	ASSERT_GT(2000, tries);
	/* The record is there before the worker that serves it. */
	gmem_sleep_ms(200);
	kill(pid, SIGKILL);

	npu_attach(&self->npu, 0);
	OK(submit_first_queue(&self->npu, self->buf.p, SZ_64K, 9, &seqno));
	wait.seqno = seqno;
	OK(ioctl(self->npu.fd, GMEM_NPU_WAIT, &wait));
	ASSERT_EQ(0, wait.status);
	ASSERT_LT(0, wait.faults);
	/* It was frozen all the time. */
	ASSERT_EQ(0, waitpid(pid, NULL, WNOHANG));
	OK(freeze(false));
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	ASSERT_EQ(9, self->buf.p[SZ_64K - 8]);
}

GMEM_TEST_MAIN("Processes and devices that come and go at any moment.")
