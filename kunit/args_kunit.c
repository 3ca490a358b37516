// SPDX-License-Identifier: GPL-2.0
/*
 * Arguments: what hmadvise() refuses before it looks at the address space,
 * which size of page fits where, and what a VMA that may be shared looks like.
 */
#include <kunit/test.h>
#include <linux/limits.h>
#include <linux/mman.h>
#include <uapi/linux/hmadvise.h>

#include "../gmem.h"

static const unsigned long starts[] = {
	0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 0x7f0000000000UL,
	LONG_MAX - PAGE_SIZE + 1, LONG_MAX, (unsigned long)LONG_MAX + 1,
	-2 * PAGE_SIZE, -PAGE_SIZE - 1, -PAGE_SIZE, -PAGE_SIZE + 1, -1UL,
};

static const size_t lens[] = {
	0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE,
	1UL << 40, LONG_MAX, (size_t)LONG_MAX + 1, -2 * PAGE_SIZE,
	-PAGE_SIZE - 1, -PAGE_SIZE, -PAGE_SIZE + 1, -1UL,
};

static const int known[] = {
	HMADV_SHARE, HMADV_UNSHARE, HMADV_PREFETCH, HMADV_DISCARD,
};

/* The same in pages, which cannot overflow. */
static int ref_check(unsigned long start, size_t len, unsigned long *end)
{
	unsigned long pages = len / PAGE_SIZE + !!(len % PAGE_SIZE);
	unsigned long room = ULONG_MAX / PAGE_SIZE - start / PAGE_SIZE;

	if (start % PAGE_SIZE)
		return -EINVAL;
	if (pages > room)
		return -EINVAL;
	*end = start + pages * PAGE_SIZE;
	return 0;
}

static void args_ranges(struct kunit *test)
{
	unsigned int s, l, b;

	for (s = 0; s < ARRAY_SIZE(starts); s++) {
		for (l = 0; l < ARRAY_SIZE(lens); l++) {
			unsigned long end = 0, want = 0;
			int ret = ref_check(starts[s], lens[l], &want);

			for (b = 0; b < ARRAY_SIZE(known); b++) {
				int got = gm_advise_check(starts[s], lens[l],
							  known[b], &end);

				KUNIT_EXPECT_EQ_MSG(test, got, ret,
						    "start %lx len %zx",
						    starts[s], lens[l]);
				if (!ret)
					KUNIT_EXPECT_EQ(test, end, want);
			}
		}
	}
}

/* What is not a behavior is refused, the advice of madvise() above all. */
static void args_behaviors(struct kunit *test)
{
	static const int odd[] = { INT_MIN, -1, INT_MAX, 1 << 16 };
	unsigned long end;
	unsigned int i;
	int b;

	for (i = 0; i < ARRAY_SIZE(odd); i++)
		KUNIT_EXPECT_EQ(test, -EINVAL,
				gm_advise_check(0, PAGE_SIZE, odd[i], &end));

	for (b = 0; b < 0x200; b++) {
		int ret = -EINVAL;

		for (i = 0; i < ARRAY_SIZE(known); i++)
			if (b == known[i])
				ret = 0;
		KUNIT_EXPECT_EQ_MSG(test, ret,
				    gm_advise_check(0, PAGE_SIZE, b, &end),
				    "behavior %#x", b);
	}
}

/* --- which piece fits ------------------------------------------------------- */

static const unsigned long gm_orders = BIT(0) | BIT(GM_ORDER_64K) |
				       BIT(GM_ORDER_2M);

static unsigned int ref_fit(unsigned long pgsizes, unsigned long vm_start,
			    unsigned long vm_end, unsigned long addr,
			    unsigned int max)
{
	unsigned int order, best = 0;

	for (order = 1; order <= max; order++) {
		unsigned long size = PAGE_SIZE << order;
		unsigned long start = addr - addr % size;

		if (pgsizes >> order & 1 && start >= vm_start &&
		    start + size <= vm_end)
			best = order;
	}
	return best;
}

static void args_fit_order(struct kunit *test)
{
	const unsigned long base = 0x10000000, huge = PAGE_SIZE << GM_ORDER_2M;
	struct vm_area_struct *vma;
	struct gm_dev *gdev;
	unsigned long from, to, addr;
	unsigned int max;

	vma = kunit_kzalloc(test, sizeof(*vma), GFP_KERNEL);
	gdev = kunit_kzalloc(test, sizeof(*gdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vma);
	KUNIT_ASSERT_NOT_NULL(test, gdev);

	/* Every VMA of a page to 4 MiB that begins or ends near a boundary. */
	for (from = 0; from < huge; from += 13 * PAGE_SIZE) {
		for (to = from + PAGE_SIZE; to <= 2 * huge;
		     to += 41 * PAGE_SIZE) {
			vma->vm_start = base + from;
			vma->vm_end = base + to;
			addr = base + from + (to - from) / 2;
			gdev->pgsizes = gm_orders;
			for (max = 0; max <= GM_ORDER_2M; max++)
				KUNIT_ASSERT_EQ(test,
						gm_fit_order(gdev, vma, addr,
							     max),
						ref_fit(gm_orders,
							vma->vm_start,
							vma->vm_end, addr,
							max));
			gdev->pgsizes = BIT(0) | BIT(GM_ORDER_64K);
			KUNIT_ASSERT_LE(test, gm_fit_order(gdev, vma, addr,
							   GM_ORDER_2M),
					(unsigned int)GM_ORDER_64K);
		}
	}
}

/* As in dumps of a VMA and in trace events. */
static void args_flag_name(struct kunit *test)
{
	unsigned long flags = VM_READ | VM_PEER_SHARED;
	char text[64];

	snprintf(text, sizeof(text), "%pGv", &flags);
	KUNIT_EXPECT_STREQ(test, text, "read|peershared");
}

static struct kunit_case args_cases[] = {
	KUNIT_CASE(args_ranges),
	KUNIT_CASE(args_behaviors),
	KUNIT_CASE(args_fit_order),
	KUNIT_CASE(args_flag_name),
	{}
};

static struct kunit_suite args_suite = {
	.name = "gmem_args",
	.test_cases = args_cases,
};

kunit_test_suite(args_suite);
