// SPDX-License-Identifier: GPL-2.0
/*
 * More data than device memory: the node's limit is lowered so that a few
 * megabytes are too many.
 */
#include "gmem_test.h"

#include <pthread.h>
#include <signal.h>

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(evict)
{
	struct npu npu;
	struct gmem_buf buf;
	long long limit;
	size_t len;
	uint64_t evictions;
};

FIXTURE_VARIANT(evict)
{
	size_t block;
};

FIXTURE_VARIANT_ADD(evict, 4k) { .block = SZ_4K };
FIXTURE_VARIANT_ADD(evict, 64k) { .block = SZ_64K };
FIXTURE_VARIANT_ADD(evict, 2m) { .block = SZ_2M };

/* What one job works on. */
#define STEP			(256 * SZ_4K)

static uint64_t hnode_evictions(int hnid)
{
	return gmem_hnode_get(hnid, "evicted");
}

FIXTURE_SETUP(evict)
{
	const size_t limit = 4 * SZ_1M;
	size_t split, at;

	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	/* 150 % of the limit. */
	self->len = limit / 2 * 3;
	gmem_map(&self->buf, self->len, SZ_2M, 0, RW, MAP_PEER_SHARED);
	/*
	 * Blocks of one size: a block never crosses VMAs, and VMAs with
	 * different advice do not merge.  Single pages take their time, a part
	 * of them will do.
	 */
	split = variant->block == SZ_4K ? SZ_2M : self->len;
	for (at = 0; at < split && variant->block < SZ_2M;
	     at += 2 * variant->block)
		ASSERT_EQ(0, madvise(self->buf.p + at, variant->block,
				     MADV_DONTDUMP));
	self->limit = gmem_hnode_get(self->npu.hnid, "limit");
	ASSERT_LT(0, self->limit);
	gmem_hnode_set(self->npu.hnid, "limit", limit);
	self->evictions = hnode_evictions(self->npu.hnid);
}

FIXTURE_TEARDOWN_PARENT(evict)
{
	EXPECT_NO_DEVICE_PAGES();
	if (self->limit > 0)
		EXPECT_EQ(0, _gmem_hnode_set(self->npu.hnid, "limit",
					     self->limit));
}

typedef FIXTURE_DATA(evict) evict_t;

static size_t in_use(evict_t *self)
{
	return gmem_hnode_get(self->npu.hnid, "size") -
	       gmem_hnode_get(self->npu.hnid, "free");
}

static void assert_within_limit(struct __test_metadata *_metadata,
				evict_t *self)
{
	ASSERT_GE(gmem_hnode_get(self->npu.hnid, "limit"),
		  (long long)in_use(self));
}

/* The device writes all of it, reads all of it; the CPU checks all of it. */
TEST_F(evict, work_through)
{
	size_t at, pass, i;

	for (pass = 1; pass <= 2; pass++) {
		for (at = 0; at < self->len; at += STEP) {
			npu_fill(&self->npu, self->buf.p + at, STEP,
				 at * pass + 1, NULL);
			assert_within_limit(_metadata, self);
		}
		for (at = 0; at < self->len; at += STEP) {
			struct npu_result res;

			npu_reduce(&self->npu, self->buf.p + at, STEP, &res);
			ASSERT_EQ((at * pass + 1) * (STEP / 8), res.value);
			assert_within_limit(_metadata, self);
		}
	}
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	for (at = 0; at < self->len; at += STEP) {
		uint64_t *w = (uint64_t *)(self->buf.p + at);

		for (i = 0; i < STEP / 8; i++)
			ASSERT_EQ(at * 2 + 1, w[i]);
	}
}

/* One job that needs more than there is. */
TEST_F(evict, one_large_job)
{
	struct npu_result res;

	npu_fill(&self->npu, self->buf.p, self->len, 0x1f2e3d4cULL, NULL);
	assert_within_limit(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(0x1f2e3d4cULL * (self->len / 8), res.value);
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	ASSERT_EQ(0x1f2e3d4cULL * (self->len / 8),
		  gmem_sum(self->buf.p, self->len));
}

/* Data that the CPU wrote goes there and comes back unasked. */
TEST_F(evict, host_data)
{
	struct npu_result res;
	size_t i;

	gmem_pattern(self->buf.p, self->len, 31);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	assert_within_limit(_metadata, self);
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	for (i = 0; i < self->len; i += SZ_1M) {
		char want[SZ_4K];

		gmem_pattern(want, SZ_4K, 31 + i / 8);
		ASSERT_SAME(want, self->buf.p + i, SZ_4K);
	}
	ASSERT_EQ(res.value, gmem_sum(self->buf.p, self->len));
}

/* What a device's write to a shared block made a copy of is found, too. */
TEST_F(evict, copy_of_a_shared_block)
{
	const size_t len = SZ_1M;
	uint64_t end = gmem_now_ms() + 100000;
	pid_t pid;

	npu_fill(&self->npu, self->buf.p, len, 5, NULL);
	pid = gmem_fork();
	if (!pid)
		_exit(pause());
	npu_fill(&self->npu, self->buf.p, len, 6, NULL);
	ASSERT_ON(self->npu.hnid, self->buf.p, len);
	/* Now the copy is all that is there. */
	kill(pid, SIGKILL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	gmem_hnode_set(self->npu.hnid, "limit", 0);
	while (in_use(self) && gmem_now_ms() < end)
		gmem_sleep_ms(10);
	ASSERT_EQ(0, in_use(self));
	ASSERT_EQ(6 * (len / 8), gmem_sum(self->buf.p, len));
}

/* A prefetch of too much is a hint that is met in part. */
TEST_F(evict, prefetch_too_much)
{
	struct npu_result res;
	uint64_t sum;

	gmem_pattern(self->buf.p, self->len, 32);
	sum = gmem_sum(self->buf.p, self->len);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	assert_within_limit(_metadata, self);
	ASSERT_NE(0, gmem_pages_on(self->buf.p, self->len, self->npu.hnid));
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(sum, res.value);
	ASSERT_EQ(sum, gmem_sum(self->buf.p, self->len));
}

/* The limit sinks below what is in use: the node is emptied down to it. */
TEST_F(evict, lower_the_limit)
{
	const long long limit = 2 * SZ_1M;
	size_t len = 4 * SZ_1M;
	uint64_t end = gmem_now_ms() + 30000;
	struct npu_result res;

	npu_fill(&self->npu, self->buf.p, len, 0x77ULL, NULL);
	ASSERT_LE(len, in_use(self));
	gmem_hnode_set(self->npu.hnid, "limit", limit);
	while ((long long)in_use(self) > limit && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	ASSERT_GE(limit, (long long)in_use(self));
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	ASSERT_EQ((len - limit) / SZ_4K,
		  gmem_pages_on(self->buf.p, len, GMEM_ANY_NODE));
	npu_reduce(&self->npu, self->buf.p, len, &res);
	ASSERT_EQ(0x77ULL * (len / 8), res.value);
	ASSERT_EQ(0x77ULL * (len / 8), gmem_sum(self->buf.p, len));
}

/* prior art: what was evicted was in no list and counted nowhere until touched */
TEST_F(evict, evicted_pages_are_ordinary)
{
	uint64_t end = gmem_now_ms() + 30000;
	struct gmem_smaps maps;
	size_t len = SZ_2M;

	OK(_gmem_swap_on());
	OK(madvise(self->buf.p, self->len, MADV_NOHUGEPAGE));
	npu_fill(&self->npu, self->buf.p, len, 0x99ULL, NULL);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(len, maps.device);
	gmem_hnode_set(self->npu.hnid, "limit", 0);
	while (in_use(self) && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(len, maps.rss);
	ASSERT_EQ(0, maps.device);
	gmem_page_out(self->buf.p, len);
	ASSERT_EQ(0x99ULL * (len / 8), gmem_sum(self->buf.p, len));
	ASSERT_ZERO(self->buf.p + len, SZ_4K);
}

/*
 * No device memory at all: the device works on host memory, and a hint that
 * cannot be followed is no error.
 */
TEST_F(evict, limit_of_nothing)
{
	struct npu_result res;
	size_t len = 2 * SZ_1M;

	gmem_pattern(self->buf.p, len, 34);
	gmem_hnode_set(self->npu.hnid, "limit", 0);
	hmadvise(self->npu.hnid, self->buf.p, len, HMADV_PREFETCH);
	ASSERT_EQ(0, in_use(self));
	npu_reduce(&self->npu, self->buf.p, len, &res);
	ASSERT_EQ(gmem_sum(self->buf.p, len), res.value);
	npu_fill(&self->npu, self->buf.p, len, 0x88ULL, NULL);
	ASSERT_EQ(0, in_use(self));
	ASSERT_EQ(0x88ULL * (len / 8), gmem_sum(self->buf.p, len));
}

/*
 * A process that works through @len bytes of its own on the device, says so on
 * @done, and looks at them when @go is closed.
 */
static int work(size_t len, unsigned int seed, int done, int go)
{
	struct npu npu;
	struct gmem_buf buf;
	size_t at;
	unsigned int pass;
	char c = 0;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map(&buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED))
		return 1;
	for (pass = 0; pass < 3; pass++) {
		for (at = 0; at < len; at += STEP) {
			if (_npu_fill(&npu, buf.p + at, STEP,
				      seed + at + pass, NULL))
				return 2;
		}
		for (at = 0; at < len; at += STEP) {
			struct npu_result res;

			if (_npu_reduce(&npu, buf.p + at, STEP, &res))
				return 3;
			if (res.value != (seed + at + pass) * (STEP / 8))
				return 4;
		}
	}
	if (write(done, &c, 1) != 1 || close(done) || read(go, &c, 1) != 0)
		return 6;
	for (at = 0; at < len; at += 8) {
		if (*(uint64_t *)(buf.p + at) !=
		    seed + at / STEP * STEP + pass - 1)
			return 5;
	}
	return 0;
}

/*
 * Three processes that together want 150 % of the memory, and want it at the
 * same time: none gives up its pages before all have had theirs.
 */
TEST_F(evict, several_processes)
{
	int done[2], go[2];
	pid_t pid[3];
	unsigned int i;
	char c;

	ASSERT_EQ(0, pipe(done));
	ASSERT_EQ(0, pipe(go));
	for (i = 0; i < 3; i++) {
		pid[i] = gmem_fork();
		if (!pid[i]) {
			close(go[1]);
			_exit(work(self->len / 3, i * 1000 + 1, done[1],
				   go[0]));
		}
		ASSERT_LT(0, pid[i]);
	}
	close(done[1]);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(1, read(done[0], &c, 1));
	close(go[1]);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, gmem_child(pid[i]));
	close(done[0]);
	close(go[0]);
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
}

/* A process that has @len bytes on the device, and sleeps until it is killed. */
static pid_t sleeping_owner(size_t len)
{
	struct gmem_buf buf;
	struct npu npu;
	int ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		return -1;
	pid = gmem_fork();
	if (!pid) {
		if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
		    _gmem_map(&buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED) ||
		    _npu_fill(&npu, buf.p, len, 1, NULL) ||
		    write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

/* The owner of the evicted pages sleeps, or is gone in the middle of it. */
TEST_F(evict, owner_dies)
{
	pid_t pid = sleeping_owner(4 * SZ_1M);

	ASSERT_LT(0, pid);
	npu_fill(&self->npu, self->buf.p, 2 * SZ_1M, 2, NULL);
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	kill(pid, SIGKILL);
	npu_fill(&self->npu, self->buf.p, 4 * SZ_1M, 3, NULL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	ASSERT_EQ(3 * 4 * SZ_1M / 8, gmem_sum(self->buf.p, 4 * SZ_1M));
}

/* Eviction keeps nothing of the owner: what it still had goes with it. */
TEST_F(evict, dead_owner_has_nothing)
{
	uint64_t end = gmem_now_ms() + 30000;
	size_t len = SZ_1M;
	size_t held = variant->block > len ? variant->block : len;
	pid_t pid;

	/* So much that a pass does not take all of it. */
	gmem_hnode_set(self->npu.hnid, "limit", 8 * SZ_2M);
	pid = sleeping_owner(8 * SZ_2M);
	ASSERT_LT(0, pid);
	npu_fill(&self->npu, self->buf.p, len, 2, NULL);
	ASSERT_LT(self->evictions, hnode_evictions(self->npu.hnid));
	ASSERT_LT(held, in_use(self));
	kill(pid, SIGKILL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	while (in_use(self) > held && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	ASSERT_GE(held, in_use(self));
	ASSERT_EQ(2 * len / 8, gmem_sum(self->buf.p, len));
}

GMEM_TEST_MAIN("Data larger than device memory.")
