// SPDX-License-Identifier: GPL-2.0
/*
 * DMA mappings that fail on request, for tests.
 *
 * An IOMMU that has address space and page tables left does not fail, and what
 * it allocates it caches, so that failing its allocations does not reach far.
 */
#include <linux/debugfs.h>
#include <linux/fault-inject.h>
#include <linux/init.h>

#include "gmem.h"

static DECLARE_FAULT_ATTR(gm_fail_dma_attr);

/**
 * gm_fail_dma() - shall this DMA mapping fail?
 *
 * Context: Any context.
 * Return: true when it shall.
 */
bool gm_fail_dma(void)
{
	return should_fail(&gm_fail_dma_attr, 1);
}

static int __init gm_fail_init(void)
{
	struct dentry *dir;

	dir = fault_create_debugfs_attr("fail_gmem_dma", NULL,
					&gm_fail_dma_attr);
	return PTR_ERR_OR_ZERO(dir);
}
late_initcall(gm_fail_init);
