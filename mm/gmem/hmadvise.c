// SPDX-License-Identifier: GPL-2.0
/*
 * hmadvise(2): where memory should be.
 *
 * A range may cover many VMAs.  What is refused is refused before anything is
 * changed; an unmapped part is skipped and reported at the end, as madvise()
 * does.  A hint that cannot be met in full is not an error.
 */
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/nodemask.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/syscalls.h>
#include <linux/userfaultfd_k.h>

#include <uapi/linux/hmadvise.h>

#include "../internal.h"
#include "../vma.h"
#include "gmem.h"

/* Attempts at one page of a prefetch before it is left where it is. */
#define GM_ADVISE_TRIES		4

/* What is brought home in one go, before who wants the mmap lock has his turn. */
#define GM_RETURN_PIECE		SZ_32M

/*
 * Check the arguments that need no look at the address space.
 *
 * Return: 0 and the end of the range in *@end, or -EINVAL.
 */
int gm_advise_check(unsigned long start, size_t len, int behavior,
		    unsigned long *end)
{
	size_t size = PAGE_ALIGN(len);

	switch (behavior) {
	case HMADV_SHARE:
	case HMADV_UNSHARE:
	case HMADV_PREFETCH:
	case HMADV_DISCARD:
		break;
	default:
		return -EINVAL;
	}
	if (!PAGE_ALIGNED(start) || (len && !size) ||
	    check_add_overflow(start, size, end))
		return -EINVAL;
	return 0;
}

/* May every VMA of the range take the advice? */
static int gm_advise_vmas_ok(struct mm_struct *mm, unsigned long start,
			     unsigned long end, int behavior)
{
	VMA_ITERATOR(vmi, mm, start);
	struct vm_area_struct *vma;

	for_each_vma_range(vmi, vma, end) {
		switch (behavior) {
		case HMADV_UNSHARE:
			break;
		case HMADV_SHARE:
			if (!gm_vma_can_share(vma))
				return -EOPNOTSUPP;
			break;
		case HMADV_DISCARD:
			if (!gm_vma_can_share(vma) || userfaultfd_armed(vma))
				return -EOPNOTSUPP;
			if (!can_modify_vma_madv(vma, MADV_DONTNEED))
				return -EPERM;
			fallthrough;
		default:
			if (!(vma->vm_flags & VM_PEER_SHARED))
				return -EOPNOTSUPP;
			break;
		}
	}
	return 0;
}

/* --- SHARE, UNSHARE ------------------------------------------------------------ */

/* Devices may not go on using host pages that they have mapped in place. */
static void gm_unshare_remote(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_PROTECTION_VMA, 0, mm,
				start, end);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static int gm_share_vma(struct vma_iterator *vmi, struct vm_area_struct **prev,
			struct vm_area_struct *vma, unsigned long start,
			unsigned long end, bool share)
{
	unsigned long flags = share ? vma->vm_flags | VM_PEER_SHARED :
				      vma->vm_flags & ~VM_PEER_SHARED;
	int ret;

	if (flags == vma->vm_flags) {
		*prev = vma;
		return 0;
	}
	if (!share) {
		vma_start_write(vma);
		ret = gm_recall_range(vma, start, end, NUMA_NO_NODE);
		if (ret)
			return ret;
	}
	vma = vma_modify_flags(vmi, *prev, vma, start, end, flags);
	if (IS_ERR(vma))
		return PTR_ERR(vma);
	*prev = vma;
	vma_start_write(vma);
	vm_flags_reset(vma, flags);
	if (!share)
		gm_unshare_remote(vma->vm_mm, start, end);
	return 0;
}

static int gm_share_range(struct mm_struct *mm, unsigned long start,
			  unsigned long end, bool share)
{
	VMA_ITERATOR(vmi, mm, start);
	struct vm_area_struct *vma, *prev;
	unsigned long pos = start;
	bool hole = false;
	int ret;

	vma = vma_find(&vmi, end);
	prev = vma_prev(&vmi);
	if (vma && start > vma->vm_start)
		prev = vma;

	for_each_vma_range(vmi, vma, end) {
		unsigned long from = max(start, vma->vm_start);
		unsigned long to = min(end, vma->vm_end);

		hole |= from > pos;
		ret = gm_share_vma(&vmi, &prev, vma, from, to, share);
		if (ret)
			return ret;
		/* It may have become one with what comes next. */
		pos = prev->vm_end;
	}
	return hole || pos < end ? -ENOMEM : 0;
}

static int gm_advise_share(struct mm_struct *mm, unsigned long start,
			   unsigned long end, int behavior)
{
	int ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = gm_advise_vmas_ok(mm, start, end, behavior);
	if (!ret)
		ret = gm_share_range(mm, start, end, behavior == HMADV_SHARE);
	mmap_write_unlock(mm);
	return ret == -EHWPOISON || ret == -EIO ? -EIO : ret;
}

/* --- PREFETCH, DISCARD ------------------------------------------------------------ */

/**
 * struct gm_advice - one call at work
 * @mm: address space
 * @as: the same, or NULL when nothing was ever on a device
 * @hnode: device to move to, or NULL
 * @nid: host node to move to, or NUMA_NO_NODE
 * @behavior: HMADV_PREFETCH or HMADV_DISCARD
 * @drained: other CPUs' LRU batches, with their references, were emptied
 * @piece: first byte of the last piece that did not move at once
 * @clear: how far what stands in the way of it was looked for
 * @found: something did
 * @full_at: address for which the device had no room
 * @full: how often it had none for that address
 */
struct gm_advice {
	struct mm_struct *mm;
	struct gm_as *as;
	struct gm_hnode *hnode;
	int nid;
	int behavior;
	bool drained;
	unsigned long piece;
	unsigned long clear;
	bool found;
	unsigned long full_at;
	unsigned int full;
};

/*
 * A page that was touched a moment ago has a reference in an LRU batch.  All
 * CPUs are asked once a call: what it waits for was mostly touched before.
 *
 * Return: false when nobody is left to ask.
 */
static bool gm_advise_drain(struct gm_advice *a, int tries)
{
	if (!tries) {
		lru_add_drain();
	} else if (!a->drained) {
		lru_add_drain_all();
		a->drained = true;
	} else {
		return false;
	}
	return true;
}

/* How many pages from @addr on are of one folio of the host, or 1. */
static unsigned long gm_folio_extent(struct vm_area_struct *vma,
				     unsigned long addr)
{
	const fpb_t ignore = FPB_IGNORE_DIRTY | FPB_IGNORE_SOFT_DIRTY;
	unsigned long next = pmd_addr_end(addr, vma->vm_end);
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
	unsigned long nr = 1;
	struct page *page;
	spinlock_t *ptl;
	pte_t *ptep, pte;

	if (!pmd)
		return 1;
	if (pmd_trans_huge(pmdp_get_lockless(pmd)))
		return (next - addr) >> PAGE_SHIFT;
	ptep = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!ptep)
		return 1;
	pte = ptep_get(ptep);
	page = pte_present(pte) ? vm_normal_page(vma, addr, pte) : NULL;
	if (page && folio_test_large(page_folio(page)))
		nr = folio_pte_batch(page_folio(page), addr, ptep, pte,
				     (next - addr) >> PAGE_SHIFT, ignore,
				     NULL, NULL, NULL);
	pte_unmap_unlock(ptep, ptl);
	return nr;
}

/*
 * Move what begins at *@addr to the device and advance *@addr over it, or over
 * the page that cannot move, with the rest of its folio.  A device that cannot
 * copy is asked once more for each of its largest pieces, not for each page of
 * them.
 *
 * Return: 0, or -ENOSPC with *@addr where it was.
 */
static int gm_prefetch_step(struct gm_advice *a, struct vm_area_struct *vma,
			    unsigned long *addr)
{
	int tries, ret = -EAGAIN;
	unsigned long pages = 0;
	unsigned int order;

	for (tries = 0; tries < GM_ADVISE_TRIES; tries++) {
		ret = gm_make_resident(a->as, a->hnode, NULL, vma, *addr, false,
				       NULL);
		if (ret == -EBUSY ? !gm_advise_drain(a, tries) : ret != -EAGAIN)
			break;
	}
	if (ret == -ENOSPC)
		return ret;
	if (ret == -EIO) {
		order = gm_fit_order(a->hnode->gdev, vma, *addr,
				     ilog2(gm_hnode_unit(a->hnode)));
		pages = 1UL << order;
		*addr = ALIGN_DOWN(*addr, pages << PAGE_SHIFT);
	} else if (ret == -EBUSY) {
		pages = gm_folio_extent(vma, *addr);
	} else if (!ret) {
		pages = vm_object_extent(&a->as->vmo, *addr >> PAGE_SHIFT);
	}
	*addr += max(pages, 1UL) << PAGE_SHIFT;
	return 0;
}

/*
 * Must the page see a write of core MM before it can move?  That would copy each
 * page of a large folio, so not of one that is ours alone.
 */
static bool gm_page_in_the_way(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!PageAnon(page) || PageAnonExclusive(page))
		return false;
	return !folio_test_large(folio) ||
	       folio_ref_count(folio) != folio_mapcount(folio) ||
	       folio_likely_mapped_shared(folio);
}

static bool gm_pte_in_the_way(struct vm_area_struct *vma, unsigned long addr,
			      pte_t pte)
{
	struct page *page;

	if (pte_none(pte) || is_gmem_marker(pte))
		return false;
	if (!pte_present(pte))
		return true;
	page = vm_normal_page(vma, addr, pte);
	return page && gm_page_in_the_way(page);
}

/* Is there a huge page, and is it in the way? */
static bool gm_pmd_in_the_way(struct vm_area_struct *vma, pmd_t *pmd)
{
	spinlock_t *ptl;
	bool ret;

	if (!pmd_trans_huge(pmdp_get_lockless(pmd)))
		return false;
	ptl = pmd_lock(vma->vm_mm, pmd);
	ret = pmd_trans_huge(*pmd) && !is_huge_zero_pmd(*pmd) &&
	      gm_page_in_the_way(pmd_page(*pmd));
	spin_unlock(ptl);
	return ret;
}

/*
 * The next page of [@addr, @end), within one page table, that is in the way, or
 * @end: what is behind that may be another VMA's.
 */
static unsigned long gm_next_in_the_way(struct vm_area_struct *vma,
					unsigned long addr, unsigned long end)
{
	pmd_t *pmd = addr < end ? mm_find_pmd(vma->vm_mm, addr) : NULL;
	pte_t *ptep, *slot;
	spinlock_t *ptl;

	if (!pmd)
		return end;
	if (gm_pmd_in_the_way(vma, pmd))
		return addr;
	/* Not there when there is a huge page. */
	ptep = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!ptep)
		return end;
	for (slot = ptep; addr < end; addr += PAGE_SIZE, slot++)
		if (gm_pte_in_the_way(vma, addr, ptep_get(slot)))
			break;
	pte_unmap_unlock(ptep, ptl);
	return addr;
}

/* What other devices have of [@start, @end) comes home. */
static void gm_clear_devices(struct gm_advice *a, struct vm_area_struct *vma,
			     unsigned long start, unsigned long end)
{
	unsigned long vpn = start >> PAGE_SHIFT, last = (end >> PAGE_SHIFT) - 1;
	struct vm_object *vmo = &a->as->vmo;
	unsigned long loc, first, next;

	while ((vpn = vm_object_next(vmo, vpn, last)) <= last) {
		loc = vm_object_find(vmo, vpn, &first);
		next = vpn + max(vm_object_extent(vmo, vpn), 1UL);
		next = min(next, last + 1);
		if (loc != GM_LOC_NONE && gm_loc_to_hnode(loc) != a->hnode)
			gm_recall_range(vma, vpn << PAGE_SHIFT,
					next << PAGE_SHIFT, NUMA_NO_NODE);
		vpn = next;
	}
}

/*
 * A piece that does not move as it is mostly does when what other devices have
 * of it came home, and what is swapped out or seen by a child was made a page of
 * its own.  Else it would go page by page, and stay in pages.
 *
 * Begins at a->clear, and goes no further than @end, which is that of the advice:
 * nobody asked for more.  Only blocks of devices come as a whole.
 *
 * Return: 0, also when something refused; -EAGAIN when the mmap lock is wanted
 * first; -EINTR.
 */
static int gm_prefetch_clear(struct gm_advice *a, struct vm_area_struct *vma,
			     unsigned long end)
{
	if (a->clear < end)
		gm_clear_devices(a, vma, a->clear, end);
	while ((a->clear = gm_next_in_the_way(vma, a->clear, end)) < end) {
		if (gm_fault_in(vma, a->clear) == -ENOMEM)
			a->clear = end;
		else
			a->clear += PAGE_SIZE;
		a->found = true;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (mmap_lock_is_contended(a->mm))
			return -EAGAIN;
	}
	return 0;
}

/*
 * Nothing is in the way of the piece at *@addr any more.  But what came in is in
 * a batch for the LRU, of the CPU that this ran on then.
 *
 * Return: true when the piece has moved as a whole.
 */
static bool gm_prefetch_cleared(struct gm_advice *a, struct vm_area_struct *vma,
				unsigned long *addr, unsigned long end)
{
	unsigned long pos = *addr;

	gm_migrate_range(a->as, a->hnode, vma, addr, end);
	if (*addr > pos)
		return true;
	lru_add_drain_all();
	gm_migrate_range(a->as, a->hnode, vma, addr, end);
	return *addr > pos;
}

/* Move what can be moved at once, of what begins at *@addr. */
static int gm_prefetch_some(struct gm_advice *a, struct vm_area_struct *vma,
			    unsigned long *addr, unsigned long end)
{
	unsigned int order = gm_fit_order(a->hnode->gdev, vma, *addr,
					  ilog2(gm_hnode_unit(a->hnode)));
	unsigned long size = PAGE_SIZE << order;
	unsigned long start = ALIGN_DOWN(*addr, size);
	unsigned long stop = min(end, start + size);
	unsigned long pos = *addr;
	int ret;

	if (start != a->piece) {
		/* Prepare little for what comes after a piece that refused. */
		if (start == a->piece + size)
			end = stop;
		gm_migrate_range(a->as, a->hnode, vma, addr, end);
		if (*addr > pos)
			return 0;
		a->piece = start;
		a->clear = pos;
		a->found = false;
	}
	ret = gm_prefetch_clear(a, vma, stop);
	if (ret)
		return ret;
	if (a->found && gm_prefetch_cleared(a, vma, addr, stop))
		return 0;
	/* What refuses as a whole even then goes in parts. */
	a->found = false;
	return gm_prefetch_step(a, vma, addr);
}

static int gm_prefetch_vma(struct gm_advice *a, struct vm_area_struct *vma,
			   unsigned long *addr, unsigned long end)
{
	int ret;

	if (!(vma->vm_flags & VM_PEER_SHARED) || !gm_vma_can_share(vma) ||
	    userfaultfd_armed(vma) ||
	    !(vma->vm_flags & (VM_READ | VM_WRITE))) {
		*addr = end;
		return 0;
	}
	while (*addr < end) {
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = gm_prefetch_some(a, vma, addr, end);
		if (ret)
			return ret;
		if (mmap_lock_is_contended(a->mm))
			return -EAGAIN;
		cond_resched();
	}
	return 0;
}

/* Whoever wants the mmap lock waits for a piece, not for the range. */
static int gm_return_vma(struct gm_advice *a, struct vm_area_struct *vma,
			 unsigned long *addr, unsigned long end)
{
	unsigned long next;
	int ret;

	for (; *addr < end; *addr = next) {
		next = end - *addr > GM_RETURN_PIECE ? *addr + GM_RETURN_PIECE :
						       end;
		ret = gm_recall_range(vma, *addr, next, a->nid);
		if (ret)
			return ret;
		if (next < end && mmap_lock_is_contended(a->mm)) {
			*addr = next;
			return -EAGAIN;
		}
	}
	return 0;
}

/* Apply the advice to one VMA, from *@addr on, under the mmap lock. */
static int gm_advise_vma(struct gm_advice *a, struct vm_area_struct *vma,
			 unsigned long *addr, unsigned long end)
{
	if (a->hnode)
		return gm_prefetch_vma(a, vma, addr, end);
	if (a->behavior != HMADV_DISCARD)
		return gm_return_vma(a, vma, addr, end);
	zap_page_range_single(vma, *addr, end - *addr, NULL);
	*addr = end;
	return 0;
}

/* Room that others take again and again is not waited for without end. */
static int gm_advise_room(struct gm_advice *a, unsigned long addr)
{
	if (a->full_at != addr)
		a->full = 0;
	a->full_at = addr;
	if (++a->full > GM_ADVISE_TRIES)
		return -ENOSPC;
	return gm_wait_for_space(a->hnode, gm_hnode_unit(a->hnode));
}

/*
 * Walk the range, dropping the mmap lock where it is wanted or where room must
 * be made on the device first.
 */
static int gm_advise_walk(struct gm_advice *a, unsigned long addr,
			  unsigned long end)
{
	struct vm_area_struct *vma;
	bool hole = false;
	int ret = 0;

	if (mmap_read_lock_killable(a->mm))
		return -EINTR;
	ret = gm_advise_vmas_ok(a->mm, addr, end, a->behavior);
	while (!ret && addr < end) {
		vma = find_vma_intersection(a->mm, addr, end);
		if (!vma) {
			hole = true;
			break;
		}
		if (vma->vm_start > addr) {
			hole = true;
			addr = vma->vm_start;
		}
		ret = gm_advise_vma(a, vma, &addr, min(end, vma->vm_end));
		if (ret != -EAGAIN && ret != -ENOSPC)
			continue;

		mmap_read_unlock(a->mm);
		if (ret == -ENOSPC)
			ret = gm_advise_room(a, addr);
		else
			ret = 0;
		if (ret || mmap_read_lock_killable(a->mm)) {
			/* A full device is no error for a hint. */
			return ret == -ENOSPC ? 0 : -EINTR;
		}
	}
	mmap_read_unlock(a->mm);
	return ret ?: hole ? -ENOMEM : 0;
}

/*
 * -1 is any host node, a node number below the hnode ids is that host node, and
 * anything else must be an hnode.
 */
static int gm_advise_target(struct gm_advice *a, int hnid)
{
	a->nid = NUMA_NO_NODE;
	if (hnid == -1)
		return 0;
	if (hnid >= 0 && hnid < MAX_NUMNODES) {
		if (!node_state(hnid, N_MEMORY))
			return -ENODEV;
		a->nid = hnid;
		return 0;
	}
	a->hnode = gm_hnode_get(hnid);
	return a->hnode ? 0 : -ENODEV;
}

static int gm_advise_prefetch(struct mm_struct *mm, int hnid,
			      unsigned long start, unsigned long end)
{
	struct gm_advice a = {
		.mm = mm,
		.as = READ_ONCE(mm->gm_as),
		.behavior = HMADV_PREFETCH,
		.piece = ULONG_MAX,
	};
	int ret = gm_advise_target(&a, hnid);

	/* Who may not use the device may not fill it either. */
	if (a.hnode && !gm_as_attached(a.as, a.hnode->gdev))
		ret = -EPERM;
	if (!ret && start < end)
		ret = gm_advise_walk(&a, start, end);
	if (a.hnode)
		gm_hnode_put(a.hnode);
	return ret == -EHWPOISON ? -EIO : ret;
}

static int gm_advise(struct mm_struct *mm, int hnid, unsigned long start,
		     size_t len, int behavior)
{
	struct gm_advice a = { .mm = mm, .behavior = behavior };
	unsigned long end;
	int ret;

	start = untagged_addr(start);
	ret = gm_advise_check(start, len, behavior, &end);
	if (ret)
		return ret;

	switch (behavior) {
	case HMADV_PREFETCH:
		return gm_advise_prefetch(mm, hnid, start, end);
	case HMADV_DISCARD:
		return start == end ? 0 : gm_advise_walk(&a, start, end);
	default:
		return start == end ? 0 :
				      gm_advise_share(mm, start, end, behavior);
	}
}

SYSCALL_DEFINE4(hmadvise, int, hnid, unsigned long, start, size_t, len,
		int, behavior)
{
	return gm_advise(current->mm, hnid, start, len, behavior);
}
