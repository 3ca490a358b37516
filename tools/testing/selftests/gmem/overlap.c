// SPDX-License-Identifier: GPL-2.0
/*
 * Pages, blocks of device memory and VMAs that fit each other only in part.
 */
#include "gmem_test.h"

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(overlap)
{
	struct npu npu;
	struct gmem_buf buf;
	struct gmem_buf other;
	char *shadow;
	long long limit;
};

FIXTURE_SETUP(overlap)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	self->limit = gmem_hnode_get(self->npu.hnid, "limit");
	ASSERT_LT(0, self->limit);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	self->shadow = malloc(SZ_2M);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->shadow, SZ_2M, 29);
}

FIXTURE_TEARDOWN_PARENT(overlap)
{
	if (self->limit > 0)
		EXPECT_EQ(0, _gmem_hnode_set(self->npu.hnid, "limit",
					     self->limit));
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(overlap) overlap_t;

static void huge_page(struct __test_metadata *_metadata, overlap_t *self)
{
	struct gmem_smaps maps;

	OK(madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	gmem_smaps(0, self->buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M, maps.huge);
}

/* A fault, or an access that is one only if nothing is mapped. */
static void use(struct __test_metadata *_metadata, overlap_t *self, char *p,
		bool fault)
{
	struct npu_result res;

	if (fault) {
		npu_touch(&self->npu, p, SZ_4K, true, NULL);
		return;
	}
	npu_reduce(&self->npu, p, SZ_4K, &res);
	ASSERT_EQ(gmem_sum(self->shadow + (p - self->buf.p), SZ_4K),
		  res.value);
}

/*
 * A block that three VMAs have a part of: a fault in one of them maps that part,
 * for what that VMA permits.
 */
static void neighbours(struct __test_metadata *_metadata, overlap_t *self,
		       size_t block)
{
	char *first = self->buf.p, *middle = first + block / 2;
	char *last = middle + SZ_4K;
	int i;

	npu_dirty(&self->npu, first, self->shadow, block);
	ASSERT_ON(self->npu.hnid, first, block);

	/* Each by itself: what maps one may unmap the other. */
	for (i = 0; i < 4; i++) {
		char *other = i % 2 ? last : first;

		OK(mprotect(middle, SZ_4K, PROT_READ));
		use(_metadata, self, other, i < 2);
		npu_fill_err(EPERM, &self->npu, middle, SZ_4K, 1, NULL);

		OK(mprotect(middle, SZ_4K, PROT_NONE));
		use(_metadata, self, other, i < 2);
		npu_reduce_err(EFAULT, &self->npu, middle, SZ_4K, NULL);
		npu_fill_err(EFAULT, &self->npu, middle, SZ_4K, 1, NULL);
	}
	OK(mprotect(middle, SZ_4K, RW));
	ASSERT_SAME(self->shadow, first, block);
}

TEST_F(overlap, neighbours_of_a_64k_block)
{
	OK(munmap(self->buf.p + SZ_64K, SZ_2M - SZ_64K));
	memcpy(self->buf.p, self->shadow, SZ_64K);
	neighbours(_metadata, self, SZ_64K);
}

TEST_F(overlap, neighbours_of_a_2m_block)
{
	huge_page(_metadata, self);
	neighbours(_metadata, self, SZ_2M);
}

/* The device takes as much of a huge page as it may have. */
TEST_F(overlap, huge_page_and_little_room)
{
	huge_page(_metadata, self);
	gmem_hnode_set(self->npu.hnid, "limit", SZ_1M);
	hmadvise(self->npu.hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	ASSERT_EQ(SZ_1M / SZ_4K,
		  gmem_pages_on(self->buf.p, SZ_2M, self->npu.hnid));
	ASSERT_EQ(SZ_1M / SZ_4K,
		  gmem_pages_on(self->buf.p, SZ_2M, GMEM_ANY_NODE));
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/* A folio of 2 MiB that no piece of the mapping can take as a whole. */
TEST_F(overlap, huge_page_with_a_hole)
{
	huge_page(_metadata, self);
	OK(madvise(self->buf.p + SZ_1M, SZ_4K, MADV_DONTNEED));
	memset(self->shadow + SZ_1M, 0, SZ_4K);
	hmadvise(self->npu.hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, SZ_2M);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/* A VMA whose pages are not at the offset that their address says. */
TEST_F(overlap, moved_vma_is_evicted)
{
	uint64_t end = gmem_now_ms() + 20000;
	char *p;

	gmem_map(&self->other, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	memcpy(self->buf.p, self->shadow, SZ_2M);
	p = mremap(self->buf.p, SZ_2M, SZ_2M, MREMAP_MAYMOVE | MREMAP_FIXED,
		   self->other.p);
	ASSERT_EQ(self->other.p, p);
	npu_dirty(&self->npu, p, self->shadow, SZ_2M);
	ASSERT_ON(self->npu.hnid, p, SZ_2M);

	gmem_hnode_set(self->npu.hnid, "limit", 0);
	while (gmem_pages_on(p, SZ_2M, self->npu.hnid) && gmem_now_ms() < end)
		gmem_sleep_ms(10);
	ASSERT_ON(GMEM_ANY_NODE, p, SZ_2M);
	ASSERT_SAME(self->shadow, p, SZ_2M);
}

GMEM_TEST_MAIN("Pages, blocks and VMAs that fit each other only in part.")
