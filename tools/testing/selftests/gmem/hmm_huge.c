// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel's own tests of HMM, selftests/mm/hmm-tests.c, demand of huge
 * pages on a device, some of them since 6.19 only: see hmm.c and hmm.h.
 */
#include "hmm.h"

#include <sys/prctl.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define FAIL_PAGES		"/sys/kernel/debug/fail_page_alloc/"

/*
 * Huge pages of the host are not to be had: their allocation fails where the
 * kernel can inject that, and elsewhere the process may not have them.
 */
static int huge_pages_fail(bool fail)
{
	if (access(FAIL_PAGES "probability", F_OK))
		return prctl(PR_SET_THP_DISABLE, fail, 0, 0, 0) ? errno : 0;
	return _gmem_write_file(FAIL_PAGES "ignore-gfp-wait", "N") ?:
	       _gmem_write_file(FAIL_PAGES "ignore-gfp-highmem", "N") ?:
	       _gmem_write_file(FAIL_PAGES "min-order", "9") ?:
	       _gmem_write_file(FAIL_PAGES "task-filter", "Y") ?:
	       _gmem_write_file(FAIL_PAGES "times", "-1") ?:
	       _gmem_write_file(FAIL_PAGES "verbose", "0") ?:
	       _gmem_write_file("/proc/self/make-it-fail", fail ? "1" : "0") ?:
	       _gmem_write_file(FAIL_PAGES "probability", fail ? "100" : "0");
}

/* One huge page. */
#define SHAPE			{ .block = SZ_2M, .nr = 1, .thp = true }

FIXTURE(hmm_huge)
{
	struct hmm hmm;
};

FIXTURE_SETUP(hmm_huge)
{
	const struct gmem_shape shape = SHAPE;

	setup(_metadata, &self->hmm, &shape);
}

FIXTURE_TEARDOWN_PARENT(hmm_huge)
{
	EXPECT_EQ(0, huge_pages_fail(false));
	clean_up(_metadata);
}

/* Another one in its place. */
static void map_again(struct __test_metadata *_metadata, struct hmm *h)
{
	const struct gmem_shape shape = SHAPE;

	gmem_unmap(&h->buf);
	gmem_map_shape(&h->buf, &shape);
	h->p = h->buf.p;
}

static size_t huge_bytes(struct __test_metadata *_metadata, const void *p,
			 size_t len)
{
	struct gmem_smaps maps;

	gmem_smaps(0, p, len, &maps);
	return maps.huge;
}

/* One fault for all of it, and it comes home as one page. */
TEST_F(hmm_huge, anon_write_huge)
{
	struct hmm *h = &self->hmm;
	struct npu_result res;

	gmem_pattern(h->shadow, h->len, 12);
	memcpy(h->out.p, h->shadow, h->len);
	npu_touch(&h->npu[0], h->out.p, h->len, false, NULL);
	npu_memcpy(&h->npu[0], h->p, h->out.p, h->len, &res);
	ASSERT_EQ(1, res.faults);
	ASSERT_SAME(h->shadow, h->p, h->len);
	ASSERT_EQ(h->len, huge_bytes(_metadata, h->p, h->len));
}

/* Nobody touched it: a huge page of zeros on the device, and none on the host. */
TEST_F(hmm_huge, migrate_anon_huge_empty)
{
	long long before = gmem_hnode_get(self->hmm.npu[0].hnid, "used");
	struct hmm *h = &self->hmm;
	struct gmem_smaps maps;
	struct npu_result res;

	OK(mprotect(h->p, h->len, PROT_READ));
	to_device(_metadata, h, 0);
	gmem_smaps(0, h->p, h->len, &maps);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(before + (long long)h->len,
		  gmem_hnode_get(h->npu[0].hnid, "used"));
	npu_reduce(&h->npu[0], h->p, h->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_GE(1, res.faults);
	device_reads(_metadata, h, 0);
	ASSERT_ZERO(h->p, h->len);
}

/* The huge zero page. */
TEST_F(hmm_huge, migrate_anon_huge_zero)
{
	struct hmm *h = &self->hmm;

	OK(mprotect(h->p, h->len, PROT_READ));
	ASSERT_EQ(0, *(volatile char *)h->p);
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
	ASSERT_ZERO(h->p, h->len);
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
}

/* MADV_FREE has nothing to say about a page that no PTE maps; munmap() does. */
TEST_F(hmm_huge, migrate_anon_huge_free)
{
	long long before = gmem_hnode_get(self->hmm.npu[0].hnid, "used");
	struct hmm *h = &self->hmm;

	cpu_fills(h, 13);
	to_device(_metadata, h, 0);
	OK(madvise(h->p, h->len, MADV_FREE));
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	ASSERT_EQ(before + (long long)h->len,
		  gmem_hnode_get(h->npu[0].hnid, "used"));
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->out.p, h->len);
	gmem_unmap(&h->out);
	OK(munmap(h->p, h->len));
	ASSERT_EQ(before, gmem_hnode_get(h->npu[0].hnid, "used"));
}

/* Collapsed, and then on the device as one page: swap, says pagemap. */
TEST_F(hmm_huge, migrate_anon_huge_fault)
{
	struct hmm *h = &self->hmm;
	int i, err = EAGAIN;
	struct npu_result res;
	size_t at;

	OK(madvise(h->p, h->len, MADV_NOHUGEPAGE));
	cpu_fills(h, 14);
	OK(madvise(h->p, h->len, MADV_HUGEPAGE));
	for (i = 0; i < 100 && (err == EAGAIN || err == EBUSY); i++) {
		err = madvise(h->p, h->len, MADV_COLLAPSE) ? errno : 0;
		gmem_sleep_ms(err ? 10 : 0);
	}
	OK(err);
	ASSERT_EQ(h->len, huge_bytes(_metadata, h->p, h->len));
	to_device(_metadata, h, 0);
	for (at = 0; at < h->len; at += SZ_4K)
		ASSERT_EQ(PM_SWAP, gmem_pagemap(h->p + at) &
				   (PM_SWAP | PM_PRESENT));
	npu_touch(&h->npu[0], h->p, 8, true, NULL);
	npu_reduce(&h->npu[0], h->p, h->len, &res);
	ASSERT_EQ(gmem_sum(h->shadow, h->len), res.value);
	ASSERT_EQ(0, res.faults);
	ASSERT_SAME(h->shadow, h->p, h->len);
	ASSERT_EQ(h->len, huge_bytes(_metadata, h->p, h->len));
}

static const size_t offsets[] = { 0, SZ_1M / 2, SZ_1M };

/* Half of it goes while it is on the device, at its begin, middle and end. */
static void partial_unmap(struct __test_metadata *_metadata, struct hmm *h,
			  size_t from)
{
	size_t to = from + SZ_1M;

	cpu_fills(h, 15 + from);
	to_device(_metadata, h, 0);
	OK(munmap(h->p + from, SZ_1M));
	npu_reduce_err(EFAULT, &h->npu[0], h->p, h->len, NULL);
	if (from)
		device_reads_at(_metadata, h, 0, 0, from);
	if (to < h->len)
		device_reads_at(_metadata, h, 0, to, h->len - to);
	ASSERT_SAME(h->shadow, h->p, from);
	ASSERT_SAME(h->shadow + to, h->p + to, h->len - to);
}

TEST_F(hmm_huge, migrate_partial_unmap_fault)
{
	struct hmm *h = &self->hmm;
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(offsets); i++) {
		map_again(_metadata, h);
		if (i % 2)
			OK(madvise(h->p, h->len, MADV_NOHUGEPAGE));
		partial_unmap(_metadata, h, offsets[i / 2]);
	}
}

/* To where the alignment is @offset worse. */
static void remap(struct __test_metadata *_metadata, struct hmm *h,
		  size_t offset, bool before, bool keep)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED |
		    (keep ? MREMAP_DONTUNMAP : 0);
	struct gmem_buf away;
	char *old = h->p;

	cpu_fills(h, 16 + offset);
	gmem_map(&away, h->len, SZ_2M, offset, PROT_NONE, 0);
	if (!before)
		to_device(_metadata, h, 0);
	ASSERT_EQ(away.p, mremap(old, h->len, h->len, flags, away.p));
	h->p = away.p;
	if (before)
		to_device(_metadata, h, 0);
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	device_reads(_metadata, h, 0);
	FAILS(keep ? 0 : EFAULT, _npu_reduce(&h->npu[0], old, h->len, NULL));
	if (keep)
		ASSERT_ZERO(old, h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);
	gmem_unmap(&away);
}

TEST_F(hmm_huge, migrate_remap_fault)
{
	struct hmm *h = &self->hmm;
	unsigned int i;

	for (i = 0; i < 8 * ARRAY_SIZE(offsets); i++) {
		map_again(_metadata, h);
		if (i & 1)
			OK(madvise(h->p, h->len, MADV_NOHUGEPAGE));
		remap(_metadata, h, offsets[i / 8], i & 2, i & 4);
	}
}

/* A device that has no huge page to give: what fits is there in small ones. */
static void to_small_device(struct __test_metadata *_metadata, struct hmm *h)
{
	int hnid = h->npu[0].hnid;
	size_t there;

	gmem_hnode_set(hnid, "limit", SZ_1M);
	hmadvise(hnid, h->p, h->len, HMADV_PREFETCH);
	there = gmem_pages_on(h->p, h->len, hnid);
	ASSERT_NE(0, there);
	ASSERT_GE(SZ_1M / SZ_4K, there);
	device_reads(_metadata, h, 0);
	ASSERT_TRUE(gmem_peek(h->p + 2 * SZ_4K));
	ASSERT_SAME(h->shadow, h->p, h->len);
	gmem_hnode_set(hnid, "limit", gmem_hnode_get(hnid, "size"));
}

/* Neither does the device have a huge page for it, nor later the host. */
TEST_F(hmm_huge, migrate_anon_huge_err)
{
	struct hmm *h = &self->hmm;

	cpu_fills(h, 17);
	to_small_device(_metadata, h);

	map_again(_metadata, h);
	cpu_fills(h, 18);
	ASSERT_EQ(h->len, huge_bytes(_metadata, h->p, h->len));
	to_device(_metadata, h, 0);
	OK(huge_pages_fail(true));
	ASSERT_TRUE(gmem_peek(h->p + 2 * SZ_4K));
	hmadvise(-1, h->p, h->len, HMADV_PREFETCH);
	OK(huge_pages_fail(false));
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
	ASSERT_EQ(0, huge_bytes(_metadata, h->p, h->len));
	ASSERT_SAME(h->shadow, h->p, h->len);
	device_reads(_metadata, h, 0);
}

/* The same, of memory that nobody wrote and nobody may write. */
TEST_F(hmm_huge, migrate_anon_huge_zero_err)
{
	struct hmm *h = &self->hmm;

	OK(mprotect(h->p, h->len, PROT_READ));
	to_small_device(_metadata, h);

	map_again(_metadata, h);
	OK(mprotect(h->p, h->len, PROT_READ));
	ASSERT_EQ(0, *(volatile char *)h->p);
	to_device(_metadata, h, 0);
	OK(huge_pages_fail(true));
	ASSERT_ZERO(h->p, h->len);
	OK(huge_pages_fail(false));
	ASSERT_EQ(0, huge_bytes(_metadata, h->p, h->len));
	device_reads(_metadata, h, 0);
}

static uint64_t device_time(struct __test_metadata *_metadata, struct hmm *h)
{
	struct npu_stats stats;

	npu_stats(&h->npu[0], &stats);
	return stats.time_ns;
}

/*
 * There and back: every byte crosses the link once each way, and a huge page as
 * one command.
 */
static void benchmark(struct __test_metadata *_metadata, struct hmm *h,
		      bool thp)
{
	uint64_t there = 0, back = 0, bytes[2], commands, time;
	unsigned int i, rounds = gmem_scaled(5);

	bytes[0] = stat_of(_metadata, h, NPU_STAT_COPY_TO_DEV);
	bytes[1] = stat_of(_metadata, h, NPU_STAT_COPY_FROM_DEV);
	for (i = 0; i < rounds; i++) {
		commands = stat_of(_metadata, h, NPU_STAT_COPIES);
		time = device_time(_metadata, h);
		hmadvise(h->npu[0].hnid, h->p, h->len, HMADV_PREFETCH);
		there += device_time(_metadata, h) - time;
		commands = stat_of(_metadata, h, NPU_STAT_COPIES) - commands;
		if (thp && !i)
			ASSERT_EQ(h->len / SZ_2M, commands);
		ASSERT_ON(h->npu[0].hnid, h->p, h->len);
		time = device_time(_metadata, h);
		hmadvise(-1, h->p, h->len, HMADV_PREFETCH);
		back += device_time(_metadata, h) - time;
		ASSERT_SAME(h->shadow, h->p, h->len);
	}
	ASSERT_EQ(rounds * h->len, stat_of(_metadata, h, NPU_STAT_COPY_TO_DEV) -
				   bytes[0]);
	ASSERT_EQ(rounds * h->len,
		  stat_of(_metadata, h, NPU_STAT_COPY_FROM_DEV) - bytes[1]);
	TH_LOG("%5zu KiB %s: %llu us there, %llu us back", h->len / 1024,
	       thp ? "huge" : "4K", (unsigned long long)there / rounds / 1000,
	       (unsigned long long)back / rounds / 1000);
}

static void benchmark_size(struct __test_metadata *_metadata, struct hmm *h,
			   size_t len, bool thp)
{
	gmem_unmap(&h->buf);
	gmem_map(&h->buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED);
	OK(madvise(h->buf.p, len, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
	h->p = h->buf.p;
	h->len = len;
	free(h->shadow);
	h->shadow = malloc(len);
	ASSERT_NE(NULL, h->shadow);
	cpu_fills(h, 19);
	ASSERT_EQ(thp ? len : 0, huge_bytes(_metadata, h->p, len));
	benchmark(_metadata, h, thp);
}

/*
 * The times are those of an emulated machine that is busy with other things as
 * well: make bench has better ones.
 */
TEST_F(hmm_huge, benchmark_thp_migration)
{
	size_t len;

	for (len = SZ_2M / 4; len <= 16 * SZ_2M; len *= 2) {
		benchmark_size(_metadata, &self->hmm, len, false);
		if (len >= SZ_2M)
			benchmark_size(_metadata, &self->hmm, len, true);
	}
}

GMEM_TEST_MAIN("What HMM's own tests demand of huge pages, of GMEM.")
