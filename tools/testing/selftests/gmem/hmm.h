/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel's own tests of HMM, selftests/mm/hmm-tests.c, need: shared by
 * hmm.c and hmm_huge.c.
 *
 * The ioctls of dmirror, the device of those tests, become: READ, a job that
 * copies the memory to where the CPU looks at it; WRITE, one that copies there;
 * MIGRATE_TO_DEV, HMADV_PREFETCH to the device; MIGRATE_TO_SYS, HMADV_PREFETCH
 * to the host; SNAPSHOT, move_pages(), pagemap and smaps.  For the others see
 * the tests.
 *
 * Each test runs there for a device whose memory the CPU cannot reach and for
 * one whose memory it can.  Here it never can, and every access of the CPU
 * brings a page home; where the two differ there, what holds for the former
 * holds here.
 */
#ifndef GMEM_HMM_H
#define GMEM_HMM_H

#include "gmem_test.h"

#define RW			(PROT_READ | PROT_WRITE)
#define PM_SWAP			(1ULL << 62)
#define PM_PRESENT		(1ULL << 63)

/* What all fixtures have. */
struct hmm {
	struct npu npu[2];
	struct gmem_buf buf;
	struct gmem_buf out;	/* where a device copies to, or from */
	char *p;		/* the memory under test, @len bytes */
	char *shadow;		/* what it must read as */
	size_t len;
	size_t unit;		/* the page size under test */
};

static inline void setup(struct __test_metadata *_metadata, struct hmm *h,
			 const struct gmem_shape *shape)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		npu_open(&h->npu[i], i);
		npu_attach(&h->npu[i], 0);
	}
	gmem_map_shape(&h->buf, shape);
	gmem_map_shape(&h->out, shape);
	h->p = h->buf.p;
	h->len = h->buf.len;
	h->unit = shape->block;
	h->shadow = calloc(1, h->len);
	ASSERT_NE(NULL, h->shadow);
}

/* What a test changed in the machine must not hit the next one. */
static inline void clean_up(struct __test_metadata *_metadata)
{
	struct npu npu;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, _npu_open(&npu, i));
		EXPECT_EQ(0, _gmem_hnode_set(npu.hnid, "limit",
					     gmem_hnode_get(npu.hnid, "size")));
		npu_close(&npu);
	}
	EXPECT_NO_DEVICE_PAGES();
}

static inline void cpu_fills(struct hmm *h, uint64_t seed)
{
	gmem_pattern(h->p, h->len, seed);
	gmem_pattern(h->shadow, h->len, seed);
}

/* READ of a part, byte by byte. */
static inline void device_reads_at(struct __test_metadata *_metadata,
				   struct hmm *h, unsigned int nth, size_t at,
				   size_t len)
{
	npu_memcpy(&h->npu[nth], h->out.p, h->p + at, len, NULL);
	ASSERT_SAME(h->shadow + at, h->out.p, len);
}

static inline void device_reads(struct __test_metadata *_metadata,
				struct hmm *h, unsigned int nth)
{
	device_reads_at(_metadata, h, nth, 0, h->len);
}

/* WRITE of new data. */
static inline void device_writes(struct __test_metadata *_metadata,
				 struct hmm *h, unsigned int nth, uint64_t seed)
{
	gmem_pattern(h->shadow, h->len, seed);
	memcpy(h->out.p, h->shadow, h->len);
	npu_memcpy(&h->npu[nth], h->p, h->out.p, h->len, NULL);
}

/* MIGRATE_TO_DEV: all pages, as cpages says there. */
static inline void to_device(struct __test_metadata *_metadata, struct hmm *h,
			     unsigned int nth)
{
	hmadvise(h->npu[nth].hnid, h->p, h->len, HMADV_PREFETCH);
	ASSERT_ON(h->npu[nth].hnid, h->p, h->len);
}

static inline uint64_t stat_of(struct __test_metadata *_metadata,
			       struct hmm *h, unsigned int counter)
{
	struct npu_stats stats;

	npu_stats(&h->npu[0], &stats);
	return stats.c[counter];
}

#endif /* GMEM_HMM_H */
