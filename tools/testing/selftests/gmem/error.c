// SPDX-License-Identifier: GPL-2.0
/*
 * Hardware that fails: the newest bytes survive unless the hardware that held
 * them is lost, and then whoever touches one of them is told.
 */
#include "gmem_test.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(error)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
};

FIXTURE_VARIANT(error)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(error, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(error, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(error, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(error, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(error)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 17);
	gmem_pattern(self->shadow, self->len, 17);
}

/* Whatever was armed and not used up must not hit the next test. */
FIXTURE_TEARDOWN_PARENT(error)
{
	struct npu npu;

	EXPECT_EQ(0, _npu_open(&npu, 0));
	EXPECT_EQ(0, _npu_inject(&npu, NPU_INJECT_NONE, 0));
	npu_close(&npu);
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(error) failing_t;

static void to_device(struct __test_metadata *_metadata, failing_t *self)
{
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

static void device_reads(struct __test_metadata *_metadata, failing_t *self)
{
	struct npu_result res;

	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
}

/* A copy to the device fails under a job: host data stays. */
TEST_F(error, copy_to_device)
{
	struct npu_result res;
	unsigned int nth;

	for (nth = 1; nth <= 4; nth++) {
		int err;

		npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, nth);
		err = _npu_reduce(&self->npu, self->buf.p, self->len, &res);
		/* It may have been served from host memory. */
		ASSERT_TRUE(!err || err == EIO);
		if (!err)
			ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
		npu_inject(&self->npu, NPU_INJECT_NONE, 0);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
		device_reads(_metadata, self);
		hmadvise(-1, self->buf.p, self->len, HMADV_PREFETCH);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	}
}

TEST_F(error, prefetch_to_device)
{
	unsigned int nth;

	for (nth = 1; nth <= 4; nth++) {
		int err;

		npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, nth);
		err = _hmadvise(self->npu.hnid, self->buf.p, self->len,
				HMADV_PREFETCH);
		ASSERT_TRUE(!err || err == EIO);
		npu_inject(&self->npu, NPU_INJECT_NONE, 0);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
		hmadvise(self->npu.hnid, self->buf.p, self->len,
			 HMADV_PREFETCH);
		ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	}
}

/* A page that the device zeroed in vain is not shown to anybody. */
TEST_F(error, first_touch)
{
	struct npu_result res;
	int err;

	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTNEED));
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	err = _npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_TRUE(!err || err == EIO);
	if (!err)
		ASSERT_EQ(0, res.value);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_ZERO(self->buf.p, self->len);
}

/* A copy from the device fails: the data is still there, later. */
TEST_F(error, copy_from_device)
{
	unsigned int nth;

	for (nth = 1; nth <= 3; nth++) {
		int err;

		to_device(_metadata, self);
		npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, nth);
		err = _hmadvise(-1, self->buf.p, self->len, HMADV_PREFETCH);
		ASSERT_TRUE(!err || err == EIO);
		npu_inject(&self->npu, NPU_INJECT_NONE, 0);
		device_reads(_metadata, self);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	}
}

/* The same under an access of the CPU: it fails or it succeeds. */
TEST_F(error, cpu_fault)
{
	struct iovec to = { self->shadow, 64 };
	struct iovec from = { self->buf.p, 64 };
	bool ok;

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	ok = gmem_peek(self->buf.p);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	if (!ok)
		ASSERT_ON(self->npu.hnid, self->buf.p, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	/* From inside the kernel. */
	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 64)
		ASSERT_EQ(EFAULT, errno);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* munmap() and exit do not need a copy engine. */
TEST_F(error, unmap_needs_no_copy)
{
	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	ASSERT_TRUE(gmem_hnodes_idle());
}

/* mremap() and fork() fail rather than lose anything, or succeed. */
TEST_F(error, fork_and_mremap)
{
	char *p;
	pid_t pid;

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	pid = gmem_fork();
	if (!pid)
		_exit(gmem_diff(self->shadow, self->buf.p, self->len) !=
		      self->len);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	if (pid > 0)
		ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	p = mremap(self->buf.p, self->len, self->len + SZ_2M, MREMAP_MAYMOVE);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	if (p == MAP_FAILED)
		p = self->buf.p;
	ASSERT_SAME(self->shadow, p, self->len);
}

/* A page whose memory went bad: nobody gets that page, and all the others. */
TEST_F(error, ecc)
{
	size_t bad = self->len / SZ_4K / 2 * SZ_4K, at;

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_ECC, (uintptr_t)self->buf.p + bad);
	npu_reduce_err(EIO, &self->npu, self->buf.p + bad, SZ_4K, NULL);
	for (at = 0; at < self->len; at += SZ_4K) {
		if (at == bad) {
			ASSERT_FALSE(gmem_peek(self->buf.p + at));
			continue;
		}
		ASSERT_TRUE(gmem_peek(self->buf.p + at))
			TH_LOG("lost at %#zx, bad is %#zx", at, bad);
		ASSERT_SAME(self->shadow + at, self->buf.p + at, SZ_4K);
	}
	/* Who gets to read it later reads the right bytes or nothing. */
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	if (gmem_peek(self->buf.p + bad))
		ASSERT_SAME(self->shadow + bad, self->buf.p + bad, SZ_4K);
	/* And once the program gives the contents up, it is memory again. */
	hmadvise(-1, self->buf.p + bad, SZ_4K, HMADV_DISCARD);
	ASSERT_ZERO(self->buf.p + bad, SZ_4K);
	memset(self->shadow + bad, 0, SZ_4K);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(error, job_fails)
{
	struct npu_result res;

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_JOB_FAIL, 1);
	npu_reduce_err(EIO, &self->npu, self->buf.p, self->len, NULL);
	device_reads(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_JOB_FAIL, 2);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	npu_reduce_err(EIO, &self->npu, self->buf.p, self->len, NULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A queue hangs: other queues, core MM and data do not. */
TEST_F(error, hang)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_FILL,
		.queue = 0,
		.args = { (uintptr_t)self->buf.p, self->len, ~0ULL },
	};

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_HANG, 0);
	ASSERT_EQ(0, ioctl(self->npu.fd, GMEM_NPU_SUBMIT, &s));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	/* The process just exits, with the job still queued. */
}

/* In a child: hang a queue, with a job in it, for good. */
static void hang_for_ever(size_t len, int ready)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_FILL,
		.queue = 0,
		.args = { 0, len, ~0ULL },
	};
	struct gmem_buf buf;
	struct npu npu;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map(&buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED) ||
	    _npu_inject(&npu, NPU_INJECT_HANG, 0))
		_exit(1);
	s.args[0] = (uintptr_t)buf.p;
	if (ioctl(npu.fd, GMEM_NPU_SUBMIT, &s) || write(ready, "", 1) != 1)
		_exit(2);
	pause();
}

/* The reset that gets the queue back may end a job of anybody's, once. */
static void fill_again(struct __test_metadata *_metadata, failing_t *self,
		       uint64_t v)
{
	struct npu_result res;
	int err, tries = 3;

	do {
		err = _npu_fill(&self->npu, self->buf.p, self->len, v, NULL) ?:
		      _npu_reduce(&self->npu, self->buf.p, self->len, &res);
	} while (err == EIO && tries--);
	OK(err);
	gmem_fill(self->shadow, self->len, v);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* prior art: all processes shared one work queue, and waited for it to drain */
TEST_F(error, hang_of_another_process)
{
	int ready[2];
	pid_t pid;
	char c;

	OK(pipe(ready));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid)
		hang_for_ever(self->len, ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	fill_again(_metadata, self, 1);
	fill_again(_metadata, self, 2);
	kill(pid, SIGKILL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	fill_again(_metadata, self, 3);
}

TEST_F(error, hang_and_detach)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_FILL,
		.queue = 0,
		.args = { (uintptr_t)self->buf.p, self->len, ~0ULL },
	};

	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_HANG, 0);
	ASSERT_EQ(0, ioctl(self->npu.fd, GMEM_NPU_SUBMIT, &s));
	npu_detach(&self->npu);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	npu_attach(&self->npu, 0);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/*
 * The device is gone for good with pages on it: they are lost, what was in
 * host memory is not, and binding the driver again brings a working device.
 */
TEST_F(error, surprise_removal)
{
	size_t half = variant->shape.nr / 2 * variant->shape.block, at;
	unsigned int count = npu_count();
	char dir[512], addr[64];
	long long lost;

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	to_device(_metadata, self);
	hmadvise(-1, self->buf.p, half, HMADV_PREFETCH);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, half);
	lost = gmem_hnode_get(self->npu.hnid, "lost");
	npu_inject(&self->npu, NPU_INJECT_REMOVE, 0);

	ASSERT_NE(0, _npu_reduce(&self->npu, self->buf.p, SZ_4K, NULL));
	ASSERT_SAME(self->shadow, self->buf.p, half);
	/* Who asks is told at once, not when the driver has noticed. */
	ASSERT_FALSE(gmem_peek(self->buf.p + half));
	ASSERT_LT(lost, gmem_hnode_get(self->npu.hnid, "lost"));
	npu_close(&self->npu);
	npu_unbind(dir, addr);
	ASSERT_SAME(self->shadow, self->buf.p, half);
	for (at = half; at < self->len; at += SZ_4K) {
		ASSERT_FALSE(gmem_peek(self->buf.p + at))
			TH_LOG("page %#zx has %d", at, self->buf.p[at]);
	}
	hmadvise(-1, self->buf.p + half, self->len - half, HMADV_DISCARD);
	ASSERT_ZERO(self->buf.p + half, self->len - half);
	memset(self->shadow + half, 0, self->len - half);

	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The driver goes, and one copy fails: nothing is lost that can be read. */
TEST_F(error, copy_fails_at_unbind)
{
	unsigned int count = npu_count();
	char dir[512], addr[64];

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	npu_unbind(dir, addr);
	npu_close(&self->npu);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

/* The driver goes, and one page cannot be read: the others come home. */
TEST_F(error, ecc_at_unbind)
{
	size_t bad = self->len / SZ_4K / 2 * SZ_4K;
	unsigned int count = npu_count();
	char dir[512], addr[64];

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	to_device(_metadata, self);
	npu_inject(&self->npu, NPU_INJECT_ECC, (uintptr_t)self->buf.p + bad);
	npu_unbind(dir, addr);
	npu_close(&self->npu);
	ASSERT_FALSE(gmem_peek(self->buf.p + bad));
	ASSERT_SAME(self->shadow, self->buf.p, bad);
	ASSERT_SAME(self->shadow + bad + SZ_4K, self->buf.p + bad + SZ_4K,
		    self->len - bad - SZ_4K);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

/* --- queues that hang --------------------------------------------------------- */

/* More blocks than there are copy engines, for all of them to have work. */
#define HANG_LEN		(6 * SZ_2M)

FIXTURE(hang)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	char resets[600];
};

FIXTURE_SETUP(hang)
{
	char dir[512], addr[64];

	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	snprintf(self->resets, sizeof(self->resets),
		 "%s/%s/counters/device_resets", dir, addr);
	gmem_map(&self->buf, HANG_LEN, SZ_2M, 0, RW, MAP_PEER_SHARED);
	self->shadow = malloc(HANG_LEN);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, HANG_LEN, 19);
	gmem_pattern(self->shadow, HANG_LEN, 19);
	npu_dirty(&self->npu, self->buf.p, self->shadow, HANG_LEN);
}

FIXTURE_TEARDOWN_PARENT(hang)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* Fill the buffer, in queue @nr. */
static int fill_by_queue(FIXTURE_DATA(hang) *self, unsigned int nr, uint64_t v)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_FILL,
		.queue = nr,
		.args = { (uintptr_t)self->buf.p, HANG_LEN, v },
	};

	if (ioctl(self->npu.fd, GMEM_NPU_SUBMIT, &s))
		return errno;
	return _npu_wait(&self->npu, s.seqno, NULL);
}

/* Back and forth until an engine that hangs was reset. */
static void copy_until_reset(struct __test_metadata *_metadata,
			     FIXTURE_DATA(hang) *self, long long resets)
{
	uint64_t end = gmem_now_ms() + 60000;
	int err, i = 0;

	while (gmem_read_number(self->resets) == resets) {
		ASSERT_GT(end, gmem_now_ms());
		/* The copies that are under way meanwhile fail. */
		err = _hmadvise(i++ & 1 ? self->npu.hnid : -1, self->buf.p,
				HANG_LEN, HMADV_PREFETCH);
		ASSERT_TRUE(!err || err == EIO);
	}
}

/*
 * Whichever of the queues hangs: a job in it ends with an error, copies are made
 * again, and after the reset all is as before, for the context that has been
 * there before, too.
 */
TEST_F(hang, every_queue)
{
	unsigned int nr, jobs = 0;
	long long resets;
	int err;

	for (nr = 0; !_npu_inject(&self->npu, NPU_INJECT_HANG, nr); nr++) {
		resets = gmem_read_number(self->resets);
		ASSERT_LE(0, resets);
		err = fill_by_queue(self, nr, ~0ULL);
		if (err == EINVAL) {
			copy_until_reset(_metadata, self, resets);
		} else {
			ASSERT_EQ(EIO, err);
			jobs++;
		}
		ASSERT_LT(resets, gmem_read_number(self->resets));
		ASSERT_SAME(self->shadow, self->buf.p, HANG_LEN);
		OK(fill_by_queue(self, 0, nr + 1));
		gmem_fill(self->shadow, HANG_LEN, nr + 1);
		ASSERT_SAME(self->shadow, self->buf.p, HANG_LEN);
		hmadvise(self->npu.hnid, self->buf.p, HANG_LEN,
			 HMADV_PREFETCH);
		ASSERT_ON(self->npu.hnid, self->buf.p, HANG_LEN);
	}
	/* There were queues of both kinds. */
	ASSERT_LT(0, jobs);
	ASSERT_LT(jobs, nr);
}

/* --- several copies under way ----------------------------------------------- */

#define STREAM_BLOCKS		6
#define STREAM_LEN		(STREAM_BLOCKS * SZ_2M)

struct streaming {
	struct npu npu;
	struct gmem_buf buf;
	bool stop;
};

FIXTURE(stream)
{
	struct streaming s;
	char *shadow;
};

FIXTURE_VARIANT(stream)
{
	bool thp;
};

FIXTURE_VARIANT_ADD(stream, 4k) { .thp = false };
FIXTURE_VARIANT_ADD(stream, thp) { .thp = true };

FIXTURE_SETUP(stream)
{
	npu_open(&self->s.npu, 0);
	npu_attach(&self->s.npu, 0);
	gmem_map(&self->s.buf, STREAM_LEN, SZ_2M, 0, RW, MAP_PEER_SHARED);
	OK(madvise(self->s.buf.p, STREAM_LEN, variant->thp ? MADV_HUGEPAGE :
							   MADV_NOHUGEPAGE));
	self->shadow = malloc(STREAM_LEN);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->s.buf.p, STREAM_LEN, 23);
	gmem_pattern(self->shadow, STREAM_LEN, 23);
}

FIXTURE_TEARDOWN_PARENT(stream)
{
	struct npu npu;

	EXPECT_EQ(0, _npu_open(&npu, 0));
	EXPECT_EQ(0, _npu_inject(&npu, NPU_INJECT_NONE, 0));
	npu_close(&npu);
	EXPECT_NO_DEVICE_PAGES();
}

/*
 * Whichever of the copies fails, its block stays where it was and moves at the
 * next try, and the others are not held up.
 */
TEST_F(stream, one_copy_fails)
{
	unsigned int nth;

	for (nth = 1; nth <= STREAM_BLOCKS; nth++) {
		npu_inject(&self->s.npu, NPU_INJECT_COPY_FAIL, nth);
		hmadvise(self->s.npu.hnid, self->s.buf.p, STREAM_LEN,
			 HMADV_PREFETCH);
		npu_inject(&self->s.npu, NPU_INJECT_NONE, 0);
		ASSERT_ON(self->s.npu.hnid, self->s.buf.p, STREAM_LEN);

		npu_inject(&self->s.npu, NPU_INJECT_COPY_FAIL, nth);
		hmadvise(-1, self->s.buf.p, STREAM_LEN, HMADV_PREFETCH);
		npu_inject(&self->s.npu, NPU_INJECT_NONE, 0);
		ASSERT_ON(GMEM_ANY_NODE, self->s.buf.p, STREAM_LEN);
		ASSERT_SAME(self->shadow, self->s.buf.p, STREAM_LEN);
	}
}

/* One page cannot be read: it alone stays, the prefetch says so. */
TEST_F(stream, ecc)
{
	size_t bad = 2 * SZ_2M + 77 * SZ_4K, at;

	npu_dirty(&self->s.npu, self->s.buf.p, self->shadow, STREAM_LEN);
	ASSERT_ON(self->s.npu.hnid, self->s.buf.p, STREAM_LEN);
	npu_inject(&self->s.npu, NPU_INJECT_ECC, (uintptr_t)self->s.buf.p + bad);
	npu_reduce_err(EIO, &self->s.npu, self->s.buf.p + bad, SZ_4K, NULL);
	hmadvise_err(EIO, -1, self->s.buf.p, STREAM_LEN, HMADV_PREFETCH);
	ASSERT_ON(self->s.npu.hnid, self->s.buf.p + bad, SZ_4K);
	for (at = 0; at < STREAM_LEN; at += SZ_4K) {
		if (at == bad) {
			ASSERT_FALSE(gmem_peek(self->s.buf.p + at));
			continue;
		}
		ASSERT_TRUE(gmem_peek(self->s.buf.p + at));
		ASSERT_SAME(self->shadow + at, self->s.buf.p + at, SZ_4K);
	}
}

static void *stream_to_and_fro(void *arg)
{
	struct streaming *s = arg;

	/* Fails with the device, by then it has served its purpose. */
	while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
		_hmadvise(s->npu.hnid, s->buf.p, STREAM_LEN, HMADV_PREFETCH);
		_hmadvise(-1, s->buf.p, STREAM_LEN, HMADV_PREFETCH);
	}
	return NULL;
}

static uint64_t timed_prefetch(const struct streaming *s)
{
	uint64_t start = gmem_now_ms();

	_hmadvise(s->npu.hnid, s->buf.p, STREAM_LEN, HMADV_PREFETCH);
	return gmem_now_ms() - start;
}

/*
 * A prefetch to a device that cannot copy tried each block again for each of its
 * pages, for minutes.
 */
TEST_F(stream, removed_device_is_not_asked_for_long)
{
	unsigned int count = npu_count();
	char dir[512], addr[64];
	uint64_t good, bad;

	OK(npu_driver(self->s.npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	good = timed_prefetch(&self->s);
	ASSERT_ON(self->s.npu.hnid, self->s.buf.p, STREAM_LEN);
	hmadvise(-1, self->s.buf.p, STREAM_LEN, HMADV_PREFETCH);
	npu_inject(&self->s.npu, NPU_INJECT_REMOVE, 0);
	bad = timed_prefetch(&self->s);
	EXPECT_GE(100 * (good + 10), bad);
	ASSERT_ON(GMEM_ANY_NODE, self->s.buf.p, STREAM_LEN);
	ASSERT_SAME(self->shadow, self->s.buf.p, STREAM_LEN);

	npu_close(&self->s.npu);
	npu_unbind(dir, addr);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

/* The device is pulled out meanwhile: a page is right, or its loss is told. */
TEST_F(stream, surprise_removal)
{
	unsigned int count = npu_count();
	char dir[512], addr[64];
	pthread_t thread;
	size_t at;

	OK(npu_driver(self->s.npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	OK(pthread_create(&thread, NULL, stream_to_and_fro, &self->s));
	gmem_sleep_ms(gmem_scaled(300));
	npu_inject(&self->s.npu, NPU_INJECT_REMOVE, 0);
	gmem_sleep_ms(10);
	__atomic_store_n(&self->s.stop, true, __ATOMIC_SEQ_CST);
	OK(pthread_join(thread, NULL));

	npu_close(&self->s.npu);
	npu_unbind(dir, addr);
	for (at = 0; at < STREAM_LEN; at += SZ_4K)
		if (gmem_peek(self->s.buf.p + at))
			ASSERT_SAME(self->shadow + at, self->s.buf.p + at,
				    SZ_4K);
	hmadvise(-1, self->s.buf.p, STREAM_LEN, HMADV_DISCARD);
	ASSERT_ZERO(self->s.buf.p, STREAM_LEN);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

/* The driver is taken away meanwhile: nothing is lost. */
TEST_F(stream, unbind)
{
	unsigned int count = npu_count();
	char dir[512], addr[64];
	pthread_t thread;

	OK(npu_driver(self->s.npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	OK(pthread_create(&thread, NULL, stream_to_and_fro, &self->s));
	gmem_sleep_ms(gmem_scaled(300));
	npu_unbind(dir, addr);
	__atomic_store_n(&self->s.stop, true, __ATOMIC_SEQ_CST);
	OK(pthread_join(thread, NULL));
	npu_close(&self->s.npu);
	ASSERT_ON(GMEM_ANY_NODE, self->s.buf.p, STREAM_LEN);
	ASSERT_SAME(self->shadow, self->s.buf.p, STREAM_LEN);
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

GMEM_TEST_MAIN("Hardware that fails.")
