// SPDX-License-Identifier: GPL-2.0
/*
 * Data that the CPU and a device hand to each other: every way for a page to
 * get to the device and back, in each page size.
 */
#include "gmem_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

FIXTURE(basic)
{
	struct npu npu;
	struct gmem_buf buf;
	struct gmem_buf out;		/* where the device copies to */
	char *shadow;
	size_t len;
	struct npu_stats before;
};

FIXTURE_VARIANT(basic)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(basic, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(basic, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(basic, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(basic, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(basic)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	gmem_map_shape(&self->out, &variant->shape);
	self->len = self->buf.len;
	self->shadow = calloc(1, self->len);
	ASSERT_NE(NULL, self->shadow);
}

FIXTURE_TEARDOWN_PARENT(basic)
{
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(basic) basic_t;

static void cpu_fill(basic_t *self, uint64_t seed)
{
	gmem_pattern(self->buf.p, self->len, seed);
	gmem_pattern(self->shadow, self->len, seed);
}

/* The device writes the buffer, all of it, without the CPU touching it. */
static void device_fill(struct __test_metadata *_metadata, basic_t *self,
			uint64_t pattern)
{
	size_t i;

	npu_fill(&self->npu, self->buf.p, self->len, pattern, NULL);
	for (i = 0; i < self->len; i += sizeof(pattern))
		memcpy(self->shadow + i, &pattern, sizeof(pattern));
}

/* What the device sees is what the shadow has, byte by byte. */
static void device_check(struct __test_metadata *_metadata, basic_t *self)
{
	struct npu_result res;

	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	npu_memcpy(&self->npu, self->out.p, self->buf.p, self->len, NULL);
	ASSERT_SAME(self->shadow, self->out.p, self->len);
}

static void count_from_here(struct __test_metadata *_metadata, basic_t *self)
{
	npu_stats(&self->npu, &self->before);
}

static uint64_t counted(struct __test_metadata *_metadata, basic_t *self,
			unsigned int counter)
{
	struct npu_stats now;

	npu_stats(&self->npu, &now);
	return now.c[counter] - self->before.c[counter];
}

#define ASSERT_COPIED(to_dev, from_dev) do { \
	ASSERT_EQ((uint64_t)(to_dev), \
		  counted(_metadata, self, NPU_STAT_COPY_TO_DEV)); \
	ASSERT_EQ((uint64_t)(from_dev), \
		  counted(_metadata, self, NPU_STAT_COPY_FROM_DEV)); \
	ASSERT_EQ(0, counted(_metadata, self, NPU_STAT_STALE_HITS)); \
} while (0)

TEST_F(basic, device_reads_what_cpu_wrote)
{
	struct npu_result res;

	cpu_fill(self, 1);
	count_from_here(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_COPIED(self->len, 0);

	npu_memcpy(&self->npu, self->out.p, self->buf.p, self->len, NULL);
	ASSERT_ON(self->npu.hnid, self->out.p, self->len);
	ASSERT_COPIED(self->len, 0);
	ASSERT_SAME(self->shadow, self->out.p, self->len);
	ASSERT_ON(GMEM_ANY_NODE, self->out.p, self->len);
	ASSERT_COPIED(self->len, self->len);
}

TEST_F(basic, histogram_of_cpu_data)
{
	uint64_t want[256] = {};
	uint64_t *bins = (uint64_t *)self->out.p;
	size_t i;

	cpu_fill(self, 2);
	for (i = 0; i < self->len; i++)
		want[(unsigned char)self->shadow[i]]++;
	npu_histogram(&self->npu, bins, self->buf.p, self->len, NULL);
	ASSERT_SAME(want, bins, sizeof(want));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, cpu_reads_what_device_wrote)
{
	cpu_fill(self, 3);
	device_fill(_metadata, self, 0x0123456789abcdefULL);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	count_from_here(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_COPIED(0, self->len);
}

TEST_F(basic, device_first_touch_reads_zero)
{
	long long unused = gmem_hnode_get(self->npu.hnid, "free");
	struct npu_result res;
	struct gmem_smaps maps;

	count_from_here(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(0, res.value);
	ASSERT_GE(variant->shape.nr, res.faults);
	ASSERT_NE(0, res.faults);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_EQ(unused - (long long)self->len,
		  gmem_hnode_get(self->npu.hnid, "free"));
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(self->len, maps.device);
	ASSERT_COPIED(0, 0);
	ASSERT_ZERO(self->buf.p, self->len);
	ASSERT_COPIED(0, self->len);
}

TEST_F(basic, device_first_touch_writes)
{
	struct gmem_smaps maps;

	count_from_here(_metadata, self);
	device_fill(_metadata, self, 0xfedcba9876543210ULL);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(self->len, maps.device);
	ASSERT_COPIED(0, 0);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A fault for reading maps what a later write must still be able to write. */
TEST_F(basic, device_reads_then_writes)
{
	struct npu_result res;

	cpu_fill(self, 4);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	device_fill(_metadata, self, 0x5555aaaa33337777ULL);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, ping_pong)
{
	unsigned long round, rounds = gmem_scaled(8);
	uint64_t *word = (uint64_t *)self->buf.p;
	uint64_t *want = (uint64_t *)self->shadow;
	size_t i;

	cpu_fill(self, 5);
	count_from_here(_metadata, self);
	for (round = 0; round < rounds; round++) {
		device_check(_metadata, self);
		for (i = 0; i < self->len / sizeof(*word); i += 64) {
			word[i] += round + i;
			want[i] += round + i;
		}
		npu_atomic_add(&self->npu, &word[round], round + 1, 3, NULL);
		want[round] += 3 * (round + 1);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	}
	ASSERT_EQ(0, counted(_metadata, self, NPU_STAT_STALE_HITS));
}

TEST_F(basic, prefetch_there_and_back)
{
	const int home[] = { GMEM_ANY_NODE, 0 };
	struct gmem_smaps maps;
	unsigned int i;

	cpu_fill(self, 6);
	for (i = 0; i < ARRAY_SIZE(home); i++) {
		count_from_here(_metadata, self);
		hmadvise(self->npu.hnid, self->buf.p, self->len,
			 HMADV_PREFETCH);
		ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
		gmem_smaps(0, self->buf.p, self->len, &maps);
		ASSERT_EQ(self->len, maps.device);
		ASSERT_EQ(0, maps.rss);
		ASSERT_COPIED(self->len, 0);

		/* It is there: nothing moves. */
		hmadvise(self->npu.hnid, self->buf.p, self->len,
			 HMADV_PREFETCH);
		ASSERT_COPIED(self->len, 0);
		device_check(_metadata, self);

		count_from_here(_metadata, self);
		hmadvise(home[i], self->buf.p, self->len, HMADV_PREFETCH);
		ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
		ASSERT_COPIED(0, self->len);
		gmem_smaps(0, self->buf.p, self->len, &maps);
		ASSERT_EQ(0, maps.device);
		ASSERT_EQ(self->len, maps.rss);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
		ASSERT_COPIED(0, self->len);
	}
}

/* A job after a prefetch moves nothing. */
TEST_F(basic, prefetch_saves_the_copy)
{
	struct npu_result res;

	cpu_fill(self, 7);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	count_from_here(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	ASSERT_COPIED(0, 0);
}

/* Nothing there: a prefetch copies nothing and the pages read zero. */
TEST_F(basic, prefetch_untouched)
{
	count_from_here(_metadata, self);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_COPIED(0, 0);
	device_check(_metadata, self);
	ASSERT_ZERO(self->buf.p, self->len);
}

TEST_F(basic, discard_on_device)
{
	long long unused = gmem_hnode_get(self->npu.hnid, "free");

	device_fill(_metadata, self, 0x1111222233334444ULL);
	count_from_here(_metadata, self);
	hmadvise(GMEM_ANY_NODE, self->buf.p, self->len, HMADV_DISCARD);
	ASSERT_ON(-ENOENT, self->buf.p, self->len);
	ASSERT_EQ(unused, gmem_hnode_get(self->npu.hnid, "free"));
	ASSERT_COPIED(0, 0);
	memset(self->shadow, 0, self->len);
	device_check(_metadata, self);
	ASSERT_ZERO(self->buf.p, self->len);
}

TEST_F(basic, discard_on_host)
{
	struct gmem_smaps maps;

	cpu_fill(self, 8);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_DISCARD);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.rss);
	memset(self->shadow, 0, self->len);
	device_check(_metadata, self);
	ASSERT_ZERO(self->buf.p, self->len);
}

/* The middle half, of which some is on the device and some is not. */
TEST_F(basic, discard_mixed)
{
	size_t pages = self->len / SZ_4K;
	size_t from = pages / 4 * SZ_4K, to = pages * 3 / 4 * SZ_4K;
	size_t i;

	device_fill(_metadata, self, 0x9999888877776666ULL);
	for (i = 0; i < pages; i += 3) {
		self->buf.p[i * SZ_4K] = i;
		self->shadow[i * SZ_4K] = i;
	}
	hmadvise(GMEM_ANY_NODE, self->buf.p + from, to - from, HMADV_DISCARD);
	ASSERT_ON(-ENOENT, self->buf.p + from, to - from);
	memset(self->shadow + from, 0, to - from);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, unshare_brings_home)
{
	struct gmem_smaps maps;

	device_fill(_metadata, self, 0x7777777788888888ULL);
	hmadvise(GMEM_ANY_NODE, self->buf.p, self->len, HMADV_UNSHARE);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(0, maps.peer_shared);
	ASSERT_EQ(0, maps.device);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	/* The device may still use it, where it is. */
	device_check(_metadata, self);
	device_fill(_metadata, self, 0x4242424242424242ULL);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);

	hmadvise(GMEM_ANY_NODE, self->buf.p, self->len, HMADV_SHARE);
	device_check(_metadata, self);
	hmadvise(self->npu.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, unshare_part)
{
	size_t half = self->len / SZ_4K / 2 * SZ_4K;
	struct gmem_smaps maps;

	device_fill(_metadata, self, 0x1212121234343434ULL);
	hmadvise(GMEM_ANY_NODE, self->buf.p, half, HMADV_UNSHARE);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, half);
	gmem_smaps(0, self->buf.p, half, &maps);
	ASSERT_EQ(0, maps.peer_shared);
	gmem_smaps(0, self->buf.p + half, self->len - half, &maps);
	ASSERT_EQ(1, maps.peer_shared);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Memory without the flag is used where it is. */
TEST_F(basic, unshared_memory_stays)
{
	struct npu_stats stats;
	char *p = self->shadow;	/* malloc()ed */
	struct npu_result res;

	gmem_pattern(p, self->len, 9);
	count_from_here(_metadata, self);
	npu_reduce(&self->npu, p, self->len, &res);
	ASSERT_EQ(gmem_sum(p, self->len), res.value);
	ASSERT_COPIED(0, 0);
	npu_stats(&self->npu, &stats);
	ASSERT_LE(self->before.c[NPU_STAT_JOB_HOST_READ] + self->len,
		  stats.c[NPU_STAT_JOB_HOST_READ]);
	npu_memcpy(&self->npu, self->out.p, p, self->len, NULL);
	ASSERT_SAME(p, self->out.p, self->len);
	npu_fill(&self->npu, p, self->len, 0x0a0b0c0d01020304ULL, NULL);
	ASSERT_EQ(0x0a0b0c0d01020304ULL * (self->len / 8),
		  gmem_sum(p, self->len));
}

/* The CPU takes one page of a block; the rest of it stays valid. */
TEST_F(basic, cpu_takes_one_page)
{
	size_t at = self->len / SZ_4K * 5 / 8 * SZ_4K;
	struct npu_result res;

	device_fill(_metadata, self, 0xabcdabcd12341234ULL);
	self->buf.p[at + 17] = 0x5a;
	self->shadow[at + 17] = 0x5a;
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p + at, SZ_4K);

	/* It joins the others, none of which moves for it. */
	count_from_here(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, self->len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
	ASSERT_EQ(0, counted(_metadata, self, NPU_STAT_COPY_FROM_DEV));
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The device takes one page; the neighbours' bytes stay right. */
TEST_F(basic, device_takes_one_page)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;
	uint64_t *word = (uint64_t *)(self->buf.p + at);
	uint64_t *want = (uint64_t *)(self->shadow + at);
	struct npu_result res;

	cpu_fill(self, 10);
	npu_atomic_add(&self->npu, word, 7, 5, &res);
	ASSERT_EQ(*want + 28, res.value);
	*want += 35;
	ASSERT_ON(self->npu.hnid, word, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Every other page is called home, with what belongs to it, and written. */
TEST_F(basic, interleaved_pages)
{
	size_t i;

	device_fill(_metadata, self, 0x3141592653589793ULL);
	for (i = 0; i < self->len; i += 2 * SZ_4K) {
		hmadvise(GMEM_ANY_NODE, self->buf.p + i, SZ_4K,
			 HMADV_PREFETCH);
		self->buf.p[i + 1] ^= 0xff;
		self->shadow[i + 1] ^= 0xff;
	}
	for (i = 0; i < self->len; i += 2 * SZ_4K)
		ASSERT_ON(GMEM_ANY_NODE, self->buf.p + i, SZ_4K);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Pages that were dropped and written anew join the block that they left. */
TEST_F(basic, pages_in_holes)
{
	size_t i;

	device_fill(_metadata, self, 0x2718281828459045ULL);
	for (i = SZ_4K; i < self->len; i += 3 * SZ_4K) {
		ASSERT_EQ(0, madvise(self->buf.p + i, SZ_4K, MADV_DONTNEED));
		gmem_pattern(self->buf.p + i, SZ_4K, i);
		gmem_pattern(self->shadow + i, SZ_4K, i);
	}
	device_check(_metadata, self);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* What came home is a page like any other to reclaim. */
TEST_F(basic, swapped_out_after_recall)
{
	struct gmem_smaps maps;

	OK(_gmem_swap_on());
	device_fill(_metadata, self, 0x1618033988749894ULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	gmem_page_out(self->buf.p, self->len);
	gmem_smaps(0, self->buf.p, self->len, &maps);
	ASSERT_EQ(self->len, maps.swap);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Half of each block was never touched; the new half must read zero. */
TEST_F(basic, half_populated)
{
	size_t i;

	for (i = 0; i < self->len; i += 2 * SZ_4K) {
		gmem_pattern(self->buf.p + i, SZ_4K, i);
		gmem_pattern(self->shadow + i, SZ_4K, i);
	}
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, munmap_half)
{
	size_t half = self->len / SZ_4K / 2 * SZ_4K;
	struct npu_result res;

	device_fill(_metadata, self, 0x6161616162626262ULL);
	ASSERT_EQ(0, munmap(self->buf.p, half));
	npu_reduce(&self->npu, self->buf.p + half, self->len - half, &res);
	ASSERT_EQ(gmem_sum(self->shadow + half, self->len - half), res.value);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, half, NULL);
	ASSERT_ON(self->npu.hnid, self->buf.p + half, self->len - half);
	ASSERT_SAME(self->shadow + half, self->buf.p + half,
		    self->len - half);

	/* What is mapped there next is new memory. */
	ASSERT_EQ(self->buf.p,
		  mmap(self->buf.p, half, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
		       MAP_PEER_SHARED, -1, 0));
	memset(self->shadow, 0, half);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, munmap_one_page)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;
	struct npu_result res;

	device_fill(_metadata, self, 0x6363636364646464ULL);
	ASSERT_EQ(0, munmap(self->buf.p + at, SZ_4K));
	npu_reduce_err(EFAULT, &self->npu, self->buf.p + at, SZ_4K, NULL);
	npu_reduce(&self->npu, self->buf.p, at, &res);
	ASSERT_EQ(gmem_sum(self->shadow, at), res.value);
	ASSERT_SAME(self->shadow, self->buf.p, at);
	at += SZ_4K;
	npu_reduce(&self->npu, self->buf.p + at, self->len - at, &res);
	ASSERT_EQ(gmem_sum(self->shadow + at, self->len - at), res.value);
	ASSERT_SAME(self->shadow + at, self->buf.p + at, self->len - at);
}

TEST_F(basic, dontneed_part)
{
	size_t pages = self->len / SZ_4K;
	size_t from = (pages / 3) * SZ_4K, len = (pages / 3) * SZ_4K;

	device_fill(_metadata, self, 0x6565656566666666ULL);
	ASSERT_EQ(0, madvise(self->buf.p + from, len, MADV_DONTNEED));
	ASSERT_ON(-ENOENT, self->buf.p + from, len);
	memset(self->shadow + from, 0, len);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* The block is one VMA's and lacks a page: the others are mapped where they are. */
TEST_F(basic, neighbours_of_a_hole_stay)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;
	struct npu_result res;

	device_fill(_metadata, self, 0x6767676768686868ULL);
	ASSERT_EQ(0, madvise(self->buf.p + at, SZ_4K, MADV_DONTNEED));
	memset(self->shadow + at, 0, SZ_4K);
	count_from_here(_metadata, self);
	npu_reduce(&self->npu, self->buf.p, at, &res);
	ASSERT_EQ(gmem_sum(self->shadow, at), res.value);
	ASSERT_COPIED(0, 0);
	ASSERT_ON(self->npu.hnid, self->buf.p, at);
	ASSERT_ON(-ENOENT, self->buf.p + at, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

TEST_F(basic, mprotect_part)
{
	size_t at = self->len / SZ_4K / 2 * SZ_4K;

	device_fill(_metadata, self, 0x6767676768686868ULL);
	ASSERT_EQ(0, mprotect(self->buf.p + at, SZ_4K, PROT_READ));
	npu_fill_err(EPERM, &self->npu, self->buf.p + at, SZ_4K, ~0ULL, NULL);
	npu_fill(&self->npu, self->buf.p, at, 0x69ULL, NULL);
	for (size_t i = 0; i < at; i += 8)
		*(uint64_t *)(self->shadow + i) = 0x69;
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	ASSERT_EQ(0, mprotect(self->buf.p, self->len, PROT_READ | PROT_WRITE));
	device_fill(_metadata, self, 0x7070707071717171ULL);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* Addresses and lengths that are not a multiple of anything. */
TEST_F(basic, odd_bytes)
{
	size_t from = SZ_4K - 5, len = self->len - SZ_4K - 11;

	cpu_fill(self, 11);
	npu_memcpy(&self->npu, self->out.p + 3, self->buf.p + from, len, NULL);
	ASSERT_ZERO(self->out.p, 3);
	ASSERT_SAME(self->shadow + from, self->out.p + 3, len);
	ASSERT_ZERO(self->out.p + 3 + len, self->len - len - 3);
}

/* Two devices pass one buffer back and forth. */
TEST_F(basic, two_devices)
{
	struct npu other;
	struct npu_result res;
	unsigned int i;

	if (npu_count() < 2)
		SKIP(return, "only one device");
	npu_open(&other, 1);
	npu_attach(&other, 0);
	cpu_fill(self, 12);
	for (i = 0; i < 3; i++) {
		device_check(_metadata, self);
		ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
		npu_reduce(&other, self->buf.p, self->len, &res);
		ASSERT_EQ(gmem_sum(self->shadow, self->len), res.value);
		npu_atomic_add(&other, (uint64_t *)self->buf.p + i, 9, 1,
			       NULL);
		((uint64_t *)self->shadow)[i] += 9;
		npu_atomic_add(&self->npu, (uint64_t *)self->buf.p + i, 11, 1,
			       NULL);
		((uint64_t *)self->shadow)[i] += 11;
	}
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	hmadvise(other.hnid, self->buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(other.hnid, self->buf.p, self->len);
	device_check(_metadata, self);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* GMEM_NPU_TOUCH faults as a job would. */
TEST_F(basic, touch)
{
	uint64_t done;

	count_from_here(_metadata, self);
	npu_touch(&self->npu, self->buf.p, self->len, true, &done);
	ASSERT_EQ(self->len, done);
	ASSERT_ON(self->npu.hnid, self->buf.p, self->len);
	ASSERT_COPIED(0, 0);
	device_check(_metadata, self);
	ASSERT_ZERO(self->buf.p, self->len);
}

/* --- pages in every state that core MM knows ------------------------------ */

FIXTURE(source)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
};

FIXTURE_SETUP(source)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, PROT_READ | PROT_WRITE,
		 MAP_PEER_SHARED);
	self->shadow = malloc(SZ_2M);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->shadow, SZ_2M, 77);
}

FIXTURE_TEARDOWN_PARENT(source)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* The device reads @len right bytes and adds to a word of each page. */
static void source_check(struct __test_metadata *_metadata,
			 FIXTURE_DATA(source) *self, size_t len)
{
	struct npu_result res;
	size_t at;

	npu_reduce(&self->npu, self->buf.p, len, &res);
	ASSERT_EQ(gmem_sum(self->shadow, len), res.value);
	for (at = 0; at < len; at += len / 8) {
		npu_atomic_add(&self->npu, (uint64_t *)(self->buf.p + at), 3,
			       1, NULL);
		*(uint64_t *)(self->shadow + at) += 3;
	}
	ASSERT_SAME(self->shadow, self->buf.p, len);
}

TEST_F(source, swapped_out)
{
	const size_t len = 8 * SZ_64K;

	OK(_gmem_swap_on());
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memcpy(self->buf.p, self->shadow, len);
	gmem_page_out(self->buf.p, len);
	source_check(_metadata, self, len);
	/* And once more, now from the swap cache in part. */
	ASSERT_EQ(0, madvise(self->buf.p, len, MADV_PAGEOUT));
	for (size_t at = 0; at < len; at += 3 * SZ_4K)
		ASSERT_EQ(self->shadow[at], self->buf.p[at]);
	source_check(_metadata, self, len);
	hmadvise(self->npu.hnid, self->buf.p, len, HMADV_PREFETCH);
	source_check(_metadata, self, len);
}

TEST_F(source, swapped_out_huge_page)
{
	OK(_gmem_swap_on());
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	gmem_page_out(self->buf.p, SZ_2M);
	source_check(_metadata, self, SZ_2M);
}

TEST_F(source, zero_page)
{
	struct npu_result res;
	size_t at;

	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	for (at = 0; at < SZ_2M; at += SZ_4K)
		ASSERT_EQ(0, self->buf.p[at]);
	npu_reduce(&self->npu, self->buf.p, SZ_2M, &res);
	ASSERT_EQ(0, res.value);
	memset(self->shadow, 0, SZ_2M);
	source_check(_metadata, self, SZ_2M);
	/* The zero page of everybody is still zero. */
	gmem_unmap(&self->buf);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, PROT_READ | PROT_WRITE, 0);
	ASSERT_ZERO(self->buf.p, SZ_2M);
}

TEST_F(source, huge_zero_page)
{
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	ASSERT_EQ(0, self->buf.p[0]);
	memset(self->shadow, 0, SZ_2M);
	source_check(_metadata, self, SZ_2M);
	gmem_unmap(&self->buf);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, PROT_READ | PROT_WRITE, 0);
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	ASSERT_ZERO(self->buf.p, SZ_2M);
}

TEST_F(source, huge_page)
{
	struct gmem_smaps maps;

	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	gmem_smaps(0, self->buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M, maps.huge);
	source_check(_metadata, self, SZ_2M);
}

/* A huge page of which a part was unmapped. */
TEST_F(source, partly_mapped_huge_page)
{
	const size_t hole = 16 * SZ_64K;

	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	ASSERT_EQ(0, munmap(self->buf.p + hole, SZ_64K));
	source_check(_metadata, self, hole);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, SZ_2M, NULL);
	ASSERT_SAME(self->shadow + hole + SZ_64K, self->buf.p + hole + SZ_64K,
		    SZ_2M - hole - SZ_64K);
	npu_atomic_add(&self->npu, (uint64_t *)(self->buf.p + SZ_2M) - 1, 3, 1,
		       NULL);
	((uint64_t *)(self->shadow + SZ_2M))[-1] += 3;
	ASSERT_SAME(self->shadow + hole + SZ_64K, self->buf.p + hole + SZ_64K,
		    SZ_2M - hole - SZ_64K);
}

/* A huge page of which a part was dropped: mapped by page table entries. */
TEST_F(source, huge_page_mapped_in_parts)
{
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	ASSERT_EQ(0, madvise(self->buf.p + SZ_1M, SZ_4K, MADV_DONTNEED));
	memset(self->shadow + SZ_1M, 0, SZ_4K);
	source_check(_metadata, self, SZ_2M);
}

/*
 * The first @len bytes are one page of KSM.  Merged before the mapping was shared:
 * KSM leaves those that are alone.
 */
static bool source_merged(struct __test_metadata *_metadata,
			  FIXTURE_DATA(source) *self, size_t len)
{
	uint64_t end = gmem_now_ms() + 20000;
	long long nr = len / SZ_4K;

	gmem_unmap(&self->buf);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, PROT_READ | PROT_WRITE, 0);
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memset(self->buf.p, 0x66, len);
	memset(self->shadow, 0x66, len);
	if (madvise(self->buf.p, len, MADV_MERGEABLE))
		return false;
	gmem_write_file("/sys/kernel/mm/ksm/pages_to_scan", "10000");
	gmem_write_file("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	gmem_write_file("/sys/kernel/mm/ksm/run", "1");
	while (gmem_read_number("/sys/kernel/mm/ksm/pages_sharing") < nr - 1 &&
	       gmem_now_ms() < end)
		gmem_sleep_ms(5);
	ASSERT_EQ(nr - 1, gmem_read_number("/sys/kernel/mm/ksm/pages_sharing"));
	gmem_write_file("/sys/kernel/mm/ksm/run", "0");
	hmadvise(GMEM_ANY_NODE, self->buf.p, len, HMADV_SHARE);
	return true;
}

static void source_unmerge(struct __test_metadata *_metadata,
			   FIXTURE_DATA(source) *self, size_t len)
{
	gmem_write_file("/sys/kernel/mm/ksm/run", "2");
	gmem_write_file("/sys/kernel/mm/ksm/run", "0");
	ASSERT_SAME(self->shadow, self->buf.p, len);
}

TEST_F(source, ksm_page)
{
	const size_t len = 4 * SZ_64K;

	if (!source_merged(_metadata, self, len))
		SKIP(return, "no KSM");
	source_check(_metadata, self, len);
	source_unmerge(_metadata, self, len);
}

/* The last mapping of a page of KSM is not ours to give back as an own page. */
TEST_F(source, ksm_page_that_cannot_move)
{
	const size_t len = 4 * SZ_64K;

	if (!source_merged(_metadata, self, len))
		SKIP(return, "no KSM");
	OK(madvise(self->buf.p + SZ_4K, len - SZ_4K, MADV_DONTNEED));
	memset(self->shadow + SZ_4K, 0, len - SZ_4K);
	npu_inject(&self->npu, NPU_INJECT_COPY_FAIL, 1);
	_hmadvise(self->npu.hnid, self->buf.p, SZ_4K, HMADV_PREFETCH);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
	source_check(_metadata, self, len);
	source_unmerge(_metadata, self, len);
}

/* The page is shared with a child that must keep its own view. */
TEST_F(source, page_of_a_forked_parent)
{
	const size_t len = 4 * SZ_64K;
	int go[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memcpy(self->buf.p, self->shadow, len);
	ASSERT_EQ(0, pipe(go));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1))
			_exit(2);
		_exit(gmem_diff(self->shadow, self->buf.p, len) != len);
	}
	close(go[0]);
	source_check(_metadata, self, len);
	npu_fill(&self->npu, self->buf.p, len, 0x12345678ULL, NULL);
	close(go[1]);
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0x12345678ULL * (len / 8), gmem_sum(self->buf.p, len));
}

/* A page that somebody else has a reference on stays where it is. */
TEST_F(source, vmspliced_page)
{
	struct iovec iov = { self->buf.p, SZ_4K };
	char data[SZ_4K];
	int pipe_fd[2];
	uint64_t v;

	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_64K);
	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(SZ_4K, vmsplice(pipe_fd[1], &iov, 1, 0));

	source_check(_metadata, self, SZ_64K);
	hmadvise(self->npu.hnid, self->buf.p, SZ_64K, HMADV_PREFETCH);
	ASSERT_EQ(1, gmem_pages_on(self->buf.p, SZ_4K, GMEM_ANY_NODE));
	v = 0x1357246813572468ULL;
	npu_fill(&self->npu, self->buf.p, 8, v, NULL);
	memcpy(self->shadow, &v, sizeof(v));
	/* The pipe has the page itself, so it sees the write. */
	ASSERT_EQ(SZ_4K, read(pipe_fd[0], data, SZ_4K));
	ASSERT_SAME(self->shadow, data, SZ_4K);

	hmadvise(self->npu.hnid, self->buf.p, SZ_64K, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, SZ_64K);
	source_check(_metadata, self, SZ_64K);
}

struct direct_io {
	int disk;
	char *p;
	const char *shadow;
	size_t len;
	unsigned long rounds;
	const char *failed;
};

/* Write the buffer to the disk and read it back, pages pinned meanwhile. */
static void *direct_io(void *arg)
{
	struct direct_io *io = arg;
	unsigned long i;

	for (i = 0; i < io->rounds && !io->failed; i++) {
		if (pwrite(io->disk, io->p, io->len, 0) != (ssize_t)io->len)
			io->failed = "write";
		memset(io->p, 0, io->len);
		if (pread(io->disk, io->p, io->len, 0) != (ssize_t)io->len)
			io->failed = "read";
		if (gmem_diff(io->shadow, io->p, io->len) != io->len)
			io->failed = "compare";
	}
	return NULL;
}

/* O_DIRECT in both directions while the pages are moved back and forth. */
TEST_F(source, direct_io_in_flight)
{
	const size_t len = 4 * SZ_64K;
	struct direct_io io = {
		.p = self->buf.p,
		.shadow = self->shadow,
		.len = len,
		.rounds = gmem_scaled(50),
	};
	struct npu_result res;
	pthread_t thread;
	int id;

	io.disk = gmem_disk_open(SZ_2M, &id);
	ASSERT_LE(0, io.disk);
	ASSERT_EQ(0, madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memcpy(self->buf.p, self->shadow, len);
	ASSERT_EQ(0, pthread_create(&thread, NULL, direct_io, &io));
	while (pthread_tryjoin_np(thread, NULL)) {
		hmadvise(self->npu.hnid, self->buf.p, len, HMADV_PREFETCH);
		npu_reduce(&self->npu, self->buf.p, len, &res);
		hmadvise(GMEM_ANY_NODE, self->buf.p, len, HMADV_PREFETCH);
	}
	ASSERT_EQ(NULL, io.failed) TH_LOG("failed: %s", io.failed);
	source_check(_metadata, self, len);
	gmem_disk_close(io.disk, id);
}

/* --- the operations of the compute engine ---------------------------------- */

FIXTURE(op)
{
	struct npu npu;
	struct gmem_buf buf[3];
};

FIXTURE_SETUP(op)
{
	unsigned int i;

	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	for (i = 0; i < 3; i++)
		gmem_map(&self->buf[i], 4 * SZ_64K, SZ_64K, 0,
			 PROT_READ | PROT_WRITE, MAP_PEER_SHARED);
}

FIXTURE_TEARDOWN_PARENT(op)
{
	EXPECT_NO_DEVICE_PAGES();
}

TEST_F(op, fill)
{
	uint64_t *w = (uint64_t *)self->buf[0].p;
	size_t i, n = self->buf[0].len / 8;

	npu_fill(&self->npu, w + 1, (n - 2) * 8, 0xdeadbeefcafef00dULL, NULL);
	ASSERT_EQ(0, w[0]);
	for (i = 1; i < n - 1; i++)
		ASSERT_EQ(0xdeadbeefcafef00dULL, w[i]);
	ASSERT_EQ(0, w[n - 1]);
}

TEST_F(op, axpy)
{
	float *x = (float *)self->buf[0].p, *y = (float *)self->buf[1].p;
	size_t i, n = self->buf[0].len / sizeof(*x);

	for (i = 0; i < n; i++) {
		x[i] = (float)(i % 1000);
		y[i] = (float)(i % 77);
	}
	npu_axpy(&self->npu, y, x, n, 3.0f, NULL);
	for (i = 0; i < n; i++)
		ASSERT_EQ((float)(i % 77 + 3 * (i % 1000)), y[i]);
}

TEST_F(op, matmul)
{
	enum { M = 24, N = 40, K = 56 };
	float *c = (float *)self->buf[0].p;
	float *a = (float *)self->buf[1].p;
	float *b = (float *)self->buf[2].p;
	size_t i, j, k;

	for (i = 0; i < M * K; i++)
		a[i] = (float)((int)(i % 19) - 9);
	for (i = 0; i < K * N; i++)
		b[i] = (float)((int)(i % 23) - 11);
	npu_matmul(&self->npu, c, a, b, M, N, K, NULL);
	for (i = 0; i < M; i++) {
		for (j = 0; j < N; j++) {
			float sum = 0;

			for (k = 0; k < K; k++)
				sum += a[i * K + k] * b[k * N + j];
			ASSERT_EQ(sum, c[i * N + j]);
		}
	}
}

/* A ring through all pages of the buffer in an order of its own. */
TEST_F(op, chase)
{
	struct node {
		struct node *next;
		uint64_t pad;
		uint64_t value;
	} *node = (struct node *)self->buf[0].p;
	size_t n = self->buf[0].len / sizeof(*node), i, at = 0;
	uint64_t sum = 0, first_five = 0;
	struct npu_result res;

	for (i = 0; i < n; i++) {
		size_t to = (at + 7919) % n;

		node[at].value = i * i + 1;
		node[at].next = i == n - 1 ? NULL : &node[to];
		sum += i * i + 1;
		if (i < 5)
			first_five += i * i + 1;
		at = to;
	}
	npu_chase(&self->npu, node, offsetof(struct node, next),
		  offsetof(struct node, value), ~0ULL, &res);
	ASSERT_EQ(sum, res.value);
	npu_chase(&self->npu, node, offsetof(struct node, next),
		  offsetof(struct node, value), 5, &res);
	ASSERT_EQ(first_five, res.value);
}

TEST_F(op, gather_and_scatter)
{
	uint64_t *dst = (uint64_t *)self->buf[0].p;
	uint64_t *src = (uint64_t *)self->buf[1].p;
	uint64_t *index = (uint64_t *)self->buf[2].p;
	size_t i, n = self->buf[0].len / 8;

	/* n is a power of two, so an odd factor makes a permutation. */
	for (i = 0; i < n; i++)
		index[i] = i * 4099 % n;
	gmem_pattern(src, n * 8, 3);
	npu_gather(&self->npu, dst, src, index, n, NULL);
	for (i = 0; i < n; i++)
		ASSERT_EQ(src[index[i]], dst[i]);
	npu_fill(&self->npu, src, n * 8, 0, NULL);
	npu_scatter(&self->npu, src, dst, index, n, NULL);
	for (i = 0; i < n; i++)
		ASSERT_EQ(dst[i], src[index[i]]);
}

TEST_F(op, atomic_add)
{
	uint64_t *p = (uint64_t *)self->buf[0].p + 511;
	struct npu_result res;

	*p = 100;
	npu_atomic_add(&self->npu, p, 5, 20, &res);
	ASSERT_EQ(195, res.value);
	ASSERT_EQ(200, *p);
	ASSERT_EQ(0, p[-1]);
	ASSERT_EQ(0, p[1]);
}

/* Jobs that run at the same time on all queues, collected in reverse. */
TEST_F(op, many_jobs)
{
	enum { JOBS = 64 };
	uint64_t *w = (uint64_t *)self->buf[0].p;
	uint64_t seqno[JOBS];
	unsigned int i;

	for (i = 0; i < JOBS; i++)
		npu_submit(&self->npu, NPU_OP_ATOMIC_ADD,
			   (uintptr_t)&w[i * 512], i, 10, 0, 0, &seqno[i]);
	for (i = JOBS; i--; ) {
		struct npu_result res;

		npu_wait(&self->npu, seqno[i], &res);
		ASSERT_EQ(9 * i, res.value);
	}
	for (i = 0; i < JOBS; i++)
		ASSERT_EQ(10 * i, w[i * 512]);
}

GMEM_TEST_MAIN("Data that the CPU and a device hand to each other.")
