// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory that a parent and its children share, copy-on-write.
 */
#include "gmem_test.h"

#include <sys/mman.h>

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(fork)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
	int go[2];
	int done[2];
};

FIXTURE_VARIANT(fork)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(fork, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(fork, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(fork, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(fork, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

typedef FIXTURE_DATA(fork) fork_t;

FIXTURE_SETUP(fork)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 23);
	gmem_pattern(self->shadow, self->len, 23);
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_EQ(0, pipe(self->go));
	ASSERT_EQ(0, pipe(self->done));
}

FIXTURE_TEARDOWN_PARENT(fork)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* --- what children do: the exit status says which step failed ---------------- */

/* Tell the parent, and wait for it to say go. */
static int meet(fork_t *self)
{
	char c = 0;

	if (write(self->done[1], &c, 1) != 1 || read(self->go[0], &c, 1) != 1)
		return 1;
	return 0;
}

static int child_same(fork_t *self)
{
	return gmem_diff(self->shadow, self->buf.p, self->len) != self->len;
}

/* Attach a device of its own and change everything with it. */
static int child_device(fork_t *self, unsigned int nth)
{
	struct npu npu;
	int err;

	if (_npu_open(&npu, nth) || _npu_attach(&npu, 0))
		return 2;
	err = _npu_dirty(&npu, self->buf.p, self->shadow, self->len);
	if (err) {
		printf("# device %u: errno %d\n", npu.number, err);
		return 3;
	}
	return child_same(self) ? 4 : 0;
}

static int child_fill(fork_t *self, unsigned char value)
{
	size_t i;

	memset(self->buf.p, value, self->len);
	for (i = 0; i < self->len; i++)
		if ((unsigned char)self->buf.p[i] != value)
			return 5;
	return 0;
}

/* The fixture is memory that the processes share, so the child has its own. */
static fork_t moved;

static int child_moves(fork_t *self, const struct gmem_buf *to)
{
	moved = *self;
	moved.buf = *to;
	return mremap(self->buf.p, self->len, self->len, MREMAP_MAYMOVE |
		      MREMAP_FIXED, to->p) != to->p;
}

/* --- what the parent does ------------------------------------------------------ */

static void wait_for_child(struct __test_metadata *_metadata, fork_t *self)
{
	char c;

	ASSERT_EQ(1, read(self->done[0], &c, 1));
}

static void let_go(struct __test_metadata *_metadata, fork_t *self)
{
	char c = 0;

	ASSERT_EQ(1, write(self->go[1], &c, 1));
}

static void parent_changes(struct __test_metadata *_metadata, fork_t *self)
{
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

static uint64_t local_bytes(struct __test_metadata *_metadata, fork_t *self)
{
	struct npu_stats stats;

	npu_stats(&self->npu, &stats);
	return stats.c[NPU_STAT_COPY_LOCAL];
}

/* --- tests ---------------------------------------------------------------------- */

TEST_F(fork, moves_nothing)
{
	long long used = gmem_hnode_get(self->npu.hnid, "used");
	struct npu_stats before, after;
	struct npu_result res;
	pid_t pid;

	npu_stats(&self->npu, &before);
	pid = gmem_fork();
	if (!pid) {
		if (gmem_pages_on(self->buf.p, self->len, self->npu.hnid) !=
		    self->len / SZ_4K)
			_exit(1);
		_exit(meet(self));
	}
	wait_for_child(_metadata, self);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	npu_stats(&self->npu, &after);
	ASSERT_EQ(before.c[NPU_STAT_COPIES], after.c[NPU_STAT_COPIES]);
	ASSERT_EQ(used, gmem_hnode_get(self->npu.hnid, "used"));
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A child without a device brings home what it looks at, and only its own. */
TEST_F(fork, child_reads)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(child_same(self));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(fork, child_writes)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(child_fill(self, 0x5a));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	parent_changes(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/*
 * The device could write before the fork, and its TLB knows it: what it writes
 * now must not reach the child.
 */
TEST_F(fork, parent_device_writes)
{
	pid_t pid = gmem_fork();

	if (!pid) {
		if (meet(self))
			_exit(1);
		_exit(child_same(self));
	}
	wait_for_child(_metadata, self);
	parent_changes(_metadata, self);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(fork, parent_writes)
{
	pid_t pid = gmem_fork();

	if (!pid) {
		if (meet(self))
			_exit(1);
		_exit(child_same(self));
	}
	wait_for_child(_metadata, self);
	memset(self->buf.p, 0x77, self->len);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0x7777777777777777ULL * (self->len / 8),
		  gmem_sum(self->buf.p, self->len));
}

TEST_F(fork, child_device_writes)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(child_device(self, 0));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(fork, child_other_device)
{
	pid_t pid;

	if (npu_count() < 2)
		SKIP(return, "one device");
	pid = gmem_fork();
	if (!pid)
		_exit(child_device(self, 1));
	parent_changes(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/*
 * The device may write again what it has in one large page that is read-only, in
 * two VMAs now: the large page must go before there are small ones, which the
 * driver checks.
 */
TEST_F(fork, split_then_write)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(0);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0, madvise(self->buf.p, SZ_4K, MADV_DONTFORK));
	npu_dirty(&self->npu, self->buf.p, self->shadow, SZ_4K);
	ASSERT_SAME(self->shadow + SZ_4K, self->buf.p + SZ_4K,
		    self->len - SZ_4K);
	parent_changes(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Who is left alone gets the right to write back, without a copy. */
TEST_F(fork, last_one_copies_nothing)
{
	long long used = gmem_hnode_get(self->npu.hnid, "used");
	uint64_t local = local_bytes(_metadata, self);
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(0);
	ASSERT_EQ(0, gmem_child(pid));
	parent_changes(_metadata, self);
	ASSERT_EQ(local, local_bytes(_metadata, self));
	ASSERT_EQ(used, gmem_hnode_get(self->npu.hnid, "used"));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A copy is made on the device, once, and what was shared is the child's. */
TEST_F(fork, copies_stay_on_the_device)
{
	long long used = gmem_hnode_get(self->npu.hnid, "used");
	struct npu_stats before, after;
	pid_t pid = gmem_fork();

	if (!pid) {
		if (meet(self))
			_exit(1);
		_exit(child_same(self));
	}
	wait_for_child(_metadata, self);
	npu_stats(&self->npu, &before);
	parent_changes(_metadata, self);
	parent_changes(_metadata, self);
	npu_stats(&self->npu, &after);
	ASSERT_EQ(self->len, after.c[NPU_STAT_COPY_LOCAL] -
			     before.c[NPU_STAT_COPY_LOCAL]);
	ASSERT_EQ(before.c[NPU_STAT_COPY_TO_DEV],
		  after.c[NPU_STAT_COPY_TO_DEV]);
	ASSERT_EQ(before.c[NPU_STAT_COPY_FROM_DEV],
		  after.c[NPU_STAT_COPY_FROM_DEV]);
	ASSERT_EQ(used + (long long)self->len,
		  gmem_hnode_get(self->npu.hnid, "used"));
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(used, gmem_hnode_get(self->npu.hnid, "used"));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Four generations with a device each time; the oldest go first, or last. */
static int generation(fork_t *self, unsigned int depth, bool wait)
{
	int status = child_device(self, depth % 2 && npu_count() > 1);
	pid_t pid;

	if (status || !depth)
		return status;
	pid = fork();
	if (pid < 0)
		return 6;
	if (!pid)
		_exit(generation(self, depth - 1, wait));
	if (!wait)
		return 0;
	status = gmem_child(pid);
	return status ?: child_same(self);
}

TEST_F(fork, generations)
{
	pid_t pid = gmem_fork();

	if (!pid)
		_exit(generation(self, 3, true));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(fork, parents_exit_first)
{
	char c;
	pid_t pid = gmem_fork();

	if (!pid) {
		close(self->done[0]);
		_exit(generation(self, 3, false));
	}
	close(self->done[1]);
	parent_changes(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	/* The pipe ends with the last of them. */
	ASSERT_EQ(0, read(self->done[0], &c, 1));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Each unmaps another half; the rest is what it was. */
TEST_F(fork, partial_unmap)
{
	size_t half = self->len / SZ_4K / 2 * SZ_4K;
	pid_t pid = gmem_fork();

	if (!pid) {
		if (munmap(self->buf.p, half))
			_exit(1);
		if (gmem_diff(self->shadow + half, self->buf.p + half,
			      self->len - half) != self->len - half)
			_exit(2);
		_exit(meet(self));
	}
	wait_for_child(_metadata, self);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_EQ(0, munmap(self->buf.p + half, self->len - half));
	npu_dirty(&self->npu, self->buf.p, self->shadow, half);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, half);
}

/* The device gets a copy of what is on both sides of a hole. */
TEST_F(fork, hole_then_write)
{
	const size_t hole = SZ_4K;
	pid_t pid = gmem_fork();

	if (!pid) {
		if (meet(self))
			_exit(1);
		_exit(child_same(self));
	}
	wait_for_child(_metadata, self);
	OK(madvise(self->buf.p + hole, SZ_4K, MADV_DONTNEED));
	memset(self->shadow + hole, 0, SZ_4K);
	npu_dirty(&self->npu, self->buf.p, self->shadow, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
}

/* What one of them lacks of a shared block is not the other's to fill. */
TEST_F(fork, missing_page_is_filled_apart)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;
	struct npu_result res;
	pid_t pid = gmem_fork();

	if (!pid) {
		if (meet(self))
			_exit(1);
		_exit(child_same(self));
	}
	wait_for_child(_metadata, self);
	ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K, MADV_DONTNEED));
	npu_reduce(&self->npu, self->buf.p + at, SZ_4K, &res);
	ASSERT_EQ(0, res.value);
	npu_fill(&self->npu, self->buf.p + at, SZ_4K, 0x99ULL, NULL);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0x99ULL * (SZ_4K / 8), gmem_sum(self->buf.p + at, SZ_4K));
	memcpy(self->shadow + at, self->buf.p + at, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Moved out of alignment in one of them, then written by both. */
TEST_F(fork, mremap_unaligned)
{
	struct gmem_buf away;
	pid_t pid;

	gmem_map(&away, self->len, SZ_2M,
		 ((uintptr_t)self->buf.p + 3 * SZ_4K) % SZ_2M, PROT_NONE, 0);
	pid = gmem_fork();
	if (!pid) {
		if (child_moves(self, &away))
			_exit(1);
		self = &moved;
		if (gmem_pages_on(self->buf.p, self->len, self->npu.hnid) !=
		    self->len / SZ_4K)
			_exit(7);
		if (meet(self))
			_exit(1);
		_exit(child_device(self, 0));
	}
	wait_for_child(_metadata, self);
	parent_changes(_metadata, self);
	let_go(_metadata, self);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Eviction finds every process that shares a run, wherever it has it. */
TEST_F(fork, eviction_finds_all)
{
	long long limit = gmem_hnode_get(self->npu.hnid, "limit");
	unsigned int children = 10, i;
	struct gmem_buf away;
	pid_t pid[10];
	uint64_t end;

	gmem_map(&away, self->len, SZ_2M,
		 ((uintptr_t)self->buf.p + 5 * SZ_4K) % SZ_2M, PROT_NONE, 0);
	for (i = 0; i < children; i++) {
		pid[i] = gmem_fork();
		if (!pid[i]) {
			if (i % 2 && child_moves(self, &away))
				_exit(1);
			if (i % 2)
				self = &moved;
			if (meet(self))
				_exit(1);
			if (gmem_pages_on(self->buf.p, self->len,
					  GMEM_ANY_NODE) != self->len / SZ_4K)
				_exit(7);
			_exit(child_same(self));
		}
	}
	for (i = 0; i < children; i++)
		wait_for_child(_metadata, self);
	gmem_hnode_set(self->npu.hnid, "limit", 0);
	/* A debug kernel may look for a huge page for a second, 22 times. */
	end = gmem_now_ms() + 100000;
	while (gmem_hnode_get(self->npu.hnid, "used") && gmem_now_ms() < end)
		gmem_sleep_ms(10);
	EXPECT_EQ(0, gmem_hnode_get(self->npu.hnid, "used"));
	gmem_hnode_set(self->npu.hnid, "limit", limit);
	for (i = 0; i < children; i++)
		let_go(_metadata, self);
	for (i = 0; i < children; i++)
		ASSERT_EQ(0, gmem_child(pid[i]));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

GMEM_TEST_MAIN("Device memory that a parent and its children share.")
