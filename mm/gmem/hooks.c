// SPDX-License-Identifier: GPL-2.0
/*
 * What core MM calls, apart from the CPU fault (recall.c) and the end of an
 * address space (as.c).  See gmem_hooks.h for the contracts.
 */
#include <linux/mm.h>

#include "gmem.h"

void __gm_zap_pte(struct mm_struct *mm, unsigned long addr)
{
	struct gm_as *as = mm->gm_as;
	unsigned long loc;

	loc = vm_object_zap(&as->vmo, addr >> PAGE_SHIFT);
	if (loc != GM_LOC_NONE)
		gm_run_retire(as, loc);
}

int __gm_fork(struct vm_area_struct *vma)
{
	mmap_assert_write_locked(vma->vm_mm);
	return gm_recall_range(vma, vma->vm_start, vma->vm_end, NUMA_NO_NODE);
}

int __gm_mremap(struct vm_area_struct *vma, unsigned long start,
		unsigned long len)
{
	mmap_assert_write_locked(vma->vm_mm);
	return gm_recall_range(vma, start, start + len, NUMA_NO_NODE);
}

int __gm_query(struct mm_struct *mm, unsigned long addr)
{
	unsigned long first, loc;

	loc = vm_object_find(&mm->gm_as->vmo, addr >> PAGE_SHIFT, &first);
	if (loc == GM_LOC_NONE)
		return -ENOENT;
	return GM_HNID_BASE + gm_loc_hnode(loc);
}
