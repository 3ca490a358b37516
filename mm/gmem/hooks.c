// SPDX-License-Identifier: GPL-2.0
/*
 * What core MM calls, apart from the CPU fault (recall.c) and the end of an
 * address space (as.c).  See gmem_hooks.h for the contracts.
 */
#include <linux/mm.h>

#include "gmem.h"

int __gm_zap_ptes(struct mm_struct *mm, unsigned long addr, pte_t *pte,
		  int max)
{
	struct gm_as *as = mm->gm_as;
	pte_t marker = ptep_get(pte);
	unsigned int nr = 1;
	unsigned long loc;

	/* The bits alone would tell, but what is cleared must be a marker. */
	while (nr < max && pte_same(ptep_get(pte + nr), marker))
		nr++;
	loc = vm_object_zap(&as->vmo, addr >> PAGE_SHIFT, &nr);
	if (loc != GM_LOC_NONE)
		gm_run_put(loc);
	return nr;
}

/* The child's part of a range is not to be shared after all. */
static void gm_fork_undo(struct vm_object *vmo, unsigned long vpn,
			 unsigned long last)
{
	unsigned long loc;
	unsigned int nr;

	while ((vpn = vm_object_next(vmo, vpn, last)) <= last) {
		nr = min(last - vpn + 1, GM_CHUNK_PAGES);
		loc = vm_object_zap(vmo, vpn, &nr);
		if (loc != GM_LOC_NONE)
			gm_run_put(loc);
	}
}

int __gm_fork(struct vm_area_struct *child, struct vm_area_struct *vma)
{
	struct gm_as *as = vma->vm_mm->gm_as;
	struct gm_as *child_as;
	unsigned long vpn = vma->vm_start >> PAGE_SHIFT;
	unsigned long last = (vma->vm_end >> PAGE_SHIFT) - 1;
	int ret;

	mmap_assert_write_locked(vma->vm_mm);
	if (vm_object_next(&as->vmo, vpn, last) > last)
		return 0;
	child_as = gm_as_create(child->vm_mm);
	if (IS_ERR(child_as))
		return PTR_ERR(child_as);
	ret = vm_object_share(&as->vmo, &child_as->vmo, vpn, last);
	if (ret == -EOVERFLOW) {
		gm_fork_undo(&child_as->vmo, vpn, last);
		ret = gm_recall_range(vma, vma->vm_start, vma->vm_end,
				      NUMA_NO_NODE);
	}
	gm_as_put(child_as);
	return ret;
}

/* Now, because a view must go before its VMA does. */
void __gm_fork_failed(struct mm_struct *mm)
{
	vm_object_destroy(&mm->gm_as->vmo);
}

/*
 * Nothing is BUSY, and nobody else looks at either range: all who do hold the
 * mmap lock or the VMA lock for reading.
 */
int __gm_mremap_begin(struct vm_area_struct *vma, unsigned long start,
		      unsigned long to, unsigned long len)
{
	unsigned long nr = len >> PAGE_SHIFT;
	int ret;

	mmap_assert_write_locked(vma->vm_mm);
	ret = vm_object_rekey_begin(&vma->vm_mm->gm_as->vmo,
				    start >> PAGE_SHIFT, to >> PAGE_SHIFT, nr);
	return ret == -EOVERFLOW ?
	       gm_recall_range(vma, start, start + len, NUMA_NO_NODE) : ret;
}

void __gm_mremap_end(struct mm_struct *mm, unsigned long start,
		     unsigned long to, unsigned long len, bool moved)
{
	vm_object_rekey_end(&mm->gm_as->vmo, start >> PAGE_SHIFT,
			    to >> PAGE_SHIFT, len >> PAGE_SHIFT, moved);
}

int __gm_bring_home(struct vm_area_struct *vma, unsigned long addr)
{
	int ret = gm_recall(vma, addr & PAGE_MASK, 0, NUMA_NO_NODE);

	switch (ret) {
	case -EAGAIN:
	case -ENOENT:
	case -EHWPOISON:
		return 0;
	case -EIO:
		return -EFAULT;
	default:
		return ret;
	}
}

int __gm_query(struct mm_struct *mm, unsigned long addr)
{
	unsigned long first, loc;

	loc = vm_object_find(&mm->gm_as->vmo, addr >> PAGE_SHIFT, &first);
	if (loc == GM_LOC_NONE)
		return -ENOENT;
	return GM_HNID_BASE + gm_loc_hnode(loc);
}
