// SPDX-License-Identifier: GPL-2.0
/*
 * A device accesses what the VMA permits and nothing else: a job that tries
 * more fails and leaves memory as it was.
 */
#include "gmem_test.h"

#include <pthread.h>

#define RW			(PROT_READ | PROT_WRITE)
#define PATTERN			0xa5a5a5a5a5a5a5a5ULL

FIXTURE(prot)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
	bool shared;
};

FIXTURE_VARIANT(prot)
{
	struct gmem_shape shape;
	bool unshared;
};

FIXTURE_VARIANT_ADD(prot, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(prot, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(prot, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(prot, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };
/* Mapped remotely, in host memory. */
FIXTURE_VARIANT_ADD(prot, host) { .shape = GMEM_SHAPE_64K, .unshared = true };

FIXTURE_SETUP(prot)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shared = !variant->unshared;
	if (!self->shared)
		hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 9);
	gmem_pattern(self->shadow, self->len, 9);
}

FIXTURE_TEARDOWN_PARENT(prot)
{
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(prot) prot_t;

/* Let the device write the buffer, so that it has it mapped for writing. */
static void to_device(struct __test_metadata *_metadata, prot_t *self)
{
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	if (self->shared)
		ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
}

static void device_reads(struct __test_metadata *_metadata, prot_t *self)
{
	struct npu_result res;

	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
}

static void no_stale_translation(struct __test_metadata *_metadata,
				 prot_t *self, const struct npu_stats *before)
{
	struct npu_stats now;

	npu_stats(&self->npu, &now);
	ASSERT_EQ(before->c[NPU_STAT_STALE_HITS], now.c[NPU_STAT_STALE_HITS]);
}

/* The device first meets the range when it is read-only already. */
TEST_F(prot, read_only)
{
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	device_reads(_metadata, self);
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	npu_fill_err(EPERM, &self->npu, self->buf.p + self->len - 8, 8,
		     PATTERN, NULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(prot, becomes_read_only)
{
	struct npu_stats before;

	to_device(_metadata, self);
	npu_stats(&self->npu, &before);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	/* The CPU may read, and may not write. */
	ASSERT_FALSE(gmem_poke(self->buf.p, 1));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	no_stale_translation(_metadata, self, &before);
}

TEST_F(prot, none)
{
	struct npu_stats before;

	to_device(_metadata, self);
	npu_stats(&self->npu, &before);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_NONE));
	npu_fill_err(EFAULT, &self->npu, self->buf.p, self->len, PATTERN,
		     NULL);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, self->len, NULL);
	ASSERT_FALSE(gmem_peek(self->buf.p));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	device_reads(_metadata, self);
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	to_device(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	no_stale_translation(_metadata, self, &before);
}

/* PROT_NONE from the beginning, then never touched memory. */
TEST_F(prot, none_untouched)
{
	ASSERT_EQ(0, madvise(self->buf.p, self->len, MADV_DONTNEED));
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_NONE));
	npu_fill_err(EFAULT, &self->npu, self->buf.p, self->len, PATTERN,
		     NULL);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, self->len, NULL);
	ASSERT_ON(-ENOENT, self->buf.p, self->len);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	memset(self->shadow, 0, self->len);
	device_reads(_metadata, self);
	ASSERT_ZERO(self->buf.p, self->len);
}

TEST_F(prot, hole)
{
	struct npu_stats before;

	to_device(_metadata, self);
	npu_stats(&self->npu, &before);
	ASSERT_EQ(0, munmap(self->buf.p, self->len));
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, self->len, NULL);
	npu_fill_err(EFAULT, &self->npu, self->buf.p, self->len, PATTERN,
		     NULL);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p + self->len, SZ_4K,
		       NULL);
	no_stale_translation(_metadata, self, &before);
}

/* A job that runs into a hole: what lies before it was worked on. */
TEST_F(prot, runs_into_a_hole)
{
	to_device(_metadata, self);
	npu_fill_err(EFAULT, &self->npu, self->buf.p, self->len + SZ_4K,
		     PATTERN, NULL);
	ASSERT_EQ(PATTERN * (self->len / 8), gmem_sum(self->buf.p, self->len));
	npu_memcpy_err(EFAULT, &self->npu, self->buf.p, self->buf.p + SZ_4K,
		       self->len, NULL);
	ASSERT_EQ(PATTERN * (self->len / 8), gmem_sum(self->buf.p, self->len));
}

/* Read and write are judged apart in one job. */
TEST_F(prot, copy_between_protections)
{
	size_t half = self->len / SZ_4K / 2 * SZ_4K;
	char *lo = self->buf.p, *hi = self->buf.p + half;

	ASSERT_EQ(0, mprotect(hi, self->len - half, PROT_READ));
	npu_memcpy_err(EPERM, &self->npu, hi, lo, half, NULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_memcpy(&self->npu, lo, hi, half, NULL);
	memcpy(self->shadow, self->shadow + half, half);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_EQ(0, mprotect(hi, self->len - half, PROT_NONE));
	npu_memcpy_err(EFAULT, &self->npu, lo, hi, half, NULL);
	ASSERT_EQ(0, mprotect(hi, self->len - half, PROT_READ));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* One page in the middle; its neighbours keep their permission. */
TEST_F(prot, one_page)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;
	size_t after = at + SZ_4K;

	to_device(_metadata, self);
	ASSERT_EQ(0, mprotect(self->buf.p + at, SZ_4K, PROT_NONE));
	npu_fill_err(EFAULT, &self->npu, self->buf.p + at, SZ_4K, PATTERN,
		     NULL);
	npu_fill(&self->npu, self->buf.p, at, PATTERN, NULL);
	npu_fill(&self->npu, self->buf.p + after, self->len - after, PATTERN,
		 NULL);
	memset(self->shadow, 0xa5, at);
	memset(self->shadow + after, 0xa5, self->len - after);
	ASSERT_EQ(0, mprotect(self->buf.p + at, SZ_4K, PROT_READ));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* PROT_EXEC gives a device nothing. */
TEST_F(prot, exec)
{
	to_device(_metadata, self);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ | PROT_EXEC));
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* PROT_WRITE alone permits both, as on the CPU. */
TEST_F(prot, write_only)
{
	to_device(_metadata, self);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_WRITE));
	device_reads(_metadata, self);
	npu_fill(&self->npu, self->buf.p, self->len, PATTERN, NULL);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	memset(self->shadow, 0xa5, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Prefetching a read-only range does not make it writable. */
TEST_F(prot, prefetch_read_only)
{
	if (!self->shared)
		SKIP(return, "nothing to prefetch");
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ));
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	npu_fill_err(EPERM, &self->npu, self->buf.p, self->len, PATTERN, NULL);
	device_reads(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* What nobody may read does not become readable by being moved. */
TEST_F(prot, prefetch_exec_only)
{
	if (!self->shared)
		SKIP(return, "nothing to prefetch");
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_EXEC));
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, self->len, NULL);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, self->len, NULL);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, RW));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The executable's text is private memory that nobody may write. */
TEST_F(prot, text)
{
	uint64_t *text = (uint64_t *)((uintptr_t)_npu_fill & ~7UL);
	uint64_t word = *text;
	struct npu_result res;

	npu_fill_err(EPERM, &self->npu, text, 8, PATTERN, NULL);
	npu_reduce(&self->npu, text, 8, &res);
	ASSERT_EQ(word, res.value);
	ASSERT_EQ(word, *(volatile uint64_t *)text);
}

GMEM_TEST_MAIN("A device obeys the protection of the memory it accesses.")
