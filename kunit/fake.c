// SPDX-License-Identifier: GPL-2.0
/*
 * A device without hardware, for suites about what happens around it.
 */
#include <linux/sizes.h>

#include "fake.h"

static int fake_create(struct gm_context *ctx)
{
	return 0;
}

static void fake_destroy(struct gm_context *ctx)
{
}

static int fake_prepare(struct gm_context *ctx, unsigned long start,
			unsigned long end, unsigned int order)
{
	return 0;
}

static int fake_map(struct gm_context *ctx, const struct gm_map *maps,
		    unsigned int nr)
{
	return 0;
}

static void fake_range(struct gm_context *ctx, unsigned long start,
		       unsigned long end)
{
}

static int fake_copy(struct gm_dev *gdev, enum gm_copy_op op,
		     const struct gm_copy *segs, unsigned int nr,
		     struct gm_fence *fence)
{
	return -EIO;
}

const struct gm_mmu gm_fake_mmu = {
	.pgsize_bitmap	= SZ_4K | SZ_64K | SZ_2M,
	.pmap_create	= fake_create,
	.pmap_destroy	= fake_destroy,
	.pmap_prepare	= fake_prepare,
	.peer_map	= fake_map,
	.peer_unmap	= fake_range,
	.pmap_protect	= fake_range,
	.tlb_invl	= fake_range,
	.copy		= fake_copy,
};
