// SPDX-License-Identifier: GPL-2.0
/*
 * Host pages mapped for a device where they are.
 *
 * For pages that cannot move (pinned, file-backed, of a VMA that is not shared)
 * or need not.  Core MM keeps every right over such a page, so the device must
 * lose it on time: each window of 2 MiB with such pages has an interval
 * notifier.  Unlike the notifier of invalidate.c it may refuse, when it must
 * not sleep, and the OOM reaper then comes back later: a host page under a live
 * device translation must not be freed first.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/hugetlb.h>
#include <linux/iommu-dma.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/secretmem.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>

#include "../internal.h"

#include "gmem.h"

/**
 * struct gm_window - 2 MiB of addresses of which a device maps host pages
 * @notifier: over the whole window
 * @ctx: context
 * @start: first byte
 * @mapped: pages that are mapped; map lock
 * @dma: their DMA addresses; map lock
 */
struct gm_window {
	struct mmu_interval_notifier notifier;
	struct gm_context *ctx;
	unsigned long start;
	DECLARE_BITMAP(mapped, GM_CHUNK_PAGES);
	dma_addr_t dma[GM_CHUNK_PAGES];
};

/*
 * CPU and device use the page at the same time, and one page can be mapped at
 * several addresses and for several contexts: there is no moment at which a
 * cache could be synchronised.
 */
#define GM_WINDOW_DMA_ATTRS	DMA_ATTR_SKIP_CPU_SYNC

static unsigned long gm_window_end(const struct gm_window *w)
{
	return w->start + (PAGE_SIZE << GM_ORDER_2M);
}

static unsigned long gm_window_index(unsigned long addr)
{
	return addr >> (PAGE_SHIFT + GM_ORDER_2M);
}

static void gm_window_dma_unmap(struct gm_context *ctx, dma_addr_t dma)
{
	dma_unmap_page_attrs(ctx->gdev->dev, dma, PAGE_SIZE, DMA_BIDIRECTIONAL,
			     GM_WINDOW_DMA_ATTRS);
}

static void gm_window_clear(struct gm_window *w, unsigned long from,
			    unsigned long end)
{
	struct gm_context *ctx = w->ctx;
	unsigned long start = w->start;

	gm_ctx_assert_locked(ctx, start, gm_window_end(w));

	if (find_next_bit(w->mapped, end, from) >= end)
		return;
	ctx->gdev->mmu->peer_unmap(ctx, start + (from << PAGE_SHIFT),
				   start + (end << PAGE_SHIFT));
	/* A neighbour of another kind may have gone with the range: flush it. */
	ctx->gdev->mmu->tlb_invl(ctx, start, gm_window_end(w));
	for_each_set_bit_from(from, w->mapped, end) {
		gm_window_dma_unmap(ctx, w->dma[from]);
		__clear_bit(from, w->mapped);
	}
}

static bool gm_window_invalidate(struct mmu_interval_notifier *mni,
				 const struct mmu_notifier_range *range,
				 unsigned long seq)
{
	struct gm_window *w = container_of(mni, struct gm_window, notifier);
	unsigned long end = min(range->end, gm_window_end(w));
	unsigned long from = max(range->start, w->start);

	if (!mmu_notifier_range_blockable(range))
		return false;

	gm_ctx_lock(w->ctx, w->start, gm_window_end(w));
	mmu_interval_set_seq(mni, seq);
	gm_window_clear(w, (from - w->start) >> PAGE_SHIFT,
			(end - w->start + PAGE_SIZE - 1) >> PAGE_SHIFT);
	gm_ctx_unlock(w->ctx, w->start, gm_window_end(w));
	return true;
}

static const struct mmu_interval_notifier_ops gm_window_ops = {
	.invalidate = gm_window_invalidate,
};

/**
 * gm_remote_prepare() - make the window around an address
 * @ctx: context
 * @addr: address
 *
 * Context: No mmap lock: the first notifier of a process takes it. Sleeps.
 * Return: 0, also when it exists; -ENOMEM; or the errno of
 * mmu_interval_notifier_insert().
 */
int gm_remote_prepare(struct gm_context *ctx, unsigned long addr)
{
	const unsigned long size = PAGE_SIZE << GM_ORDER_2M;
	unsigned long index = gm_window_index(addr);
	struct gm_window *w;
	int ret;

	if (xa_load(&ctx->windows, index))
		return 0;
	w = kvzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);
	if (!w)
		return -ENOMEM;
	w->ctx = ctx;
	w->start = ALIGN_DOWN(addr, size);
	ret = mmu_interval_notifier_insert(&w->notifier, ctx->as->mm, w->start,
					   size, &gm_window_ops);
	if (ret)
		goto err_free;
	ret = xa_insert(&ctx->windows, index, w, GFP_KERNEL_ACCOUNT);
	if (ret)
		goto err_remove;
	return 0;

err_remove:
	mmu_interval_notifier_remove(&w->notifier);
err_free:
	kvfree(w);
	return ret == -EBUSY ? 0 : ret;
}

/*
 * Under the map lock, with the notifier's sequence checked, so @page stays: who
 * takes it away must pass through the notifier first.
 */
static int gm_window_set(struct gm_window *w, struct gm_map *map,
			 struct page *page, dma_addr_t dma)
{
	unsigned long i = (map->va - w->start) >> PAGE_SHIFT;
	struct gm_context *ctx = w->ctx;
	bool again = test_bit(i, w->mapped);
	int ret;

	/* Mapped before and not invalidated, so it is the same page. */
	map->addr = again ? w->dma[i] : dma;
	ret = ctx->gdev->mmu->peer_map(ctx, map, 1);
	if (ret) {
		ctx->gdev->mmu->peer_unmap(ctx, map->va, map->va + PAGE_SIZE);
		ctx->gdev->mmu->tlb_invl(ctx, map->va, map->va + PAGE_SIZE);
		if (!again)
			return ret;
		__clear_bit(i, w->mapped);
		gm_window_dma_unmap(ctx, w->dma[i]);
		return ret;
	}
	/*
	 * No PTE of the CPU records what the device writes, and a page that is
	 * writable need not be dirty.  To clean it is to take it away first.
	 */
	if (map->flags & GM_MAP_WRITE)
		set_page_dirty(page);
	if (again) {
		/* It was read-only, and may be cached so. */
		ctx->gdev->mmu->tlb_invl(ctx, map->va, map->va + PAGE_SIZE);
		return -EEXIST;
	}
	__set_bit(i, w->mapped);
	w->dma[i] = dma;
	return 0;
}

/*
 * Is there a bounce buffer, or a cache that the device does not see?  With the
 * DMA debugger dma_need_sync() says so of all that an IOMMU maps; whole pages
 * are never bounced there.
 */
static bool gm_dma_apart(struct device *dev, dma_addr_t dma)
{
	if (!dma_need_sync(dev, dma))
		return false;
	return !IS_ENABLED(CONFIG_DMA_API_DEBUG) || !use_dma_iommu(dev) ||
	       !dev_is_dma_coherent(dev);
}

static int gm_window_map(struct gm_window *w, unsigned long addr, bool write,
			 struct page *page, unsigned long seq)
{
	struct gm_map map = {
		.va = addr,
		.flags = GM_MAP_HOST | (write ? GM_MAP_WRITE : 0),
	};
	struct gm_context *ctx = w->ctx;
	struct device *dev = ctx->gdev->dev;
	dma_addr_t dma;
	int ret;

	if (gm_fail_dma())
		return -EIO;
	dma = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL,
				 GM_WINDOW_DMA_ATTRS);
	if (dma_mapping_error(dev, dma))
		return -EIO;
	if (gm_dma_apart(dev, dma)) {
		gm_window_dma_unmap(ctx, dma);
		return -EIO;
	}

	gm_ctx_lock(ctx, w->start, gm_window_end(w));
	if (mmu_interval_read_retry(&w->notifier, seq))
		ret = -EAGAIN;
	else if (ctx->dead)
		ret = -ESRCH;
	else
		ret = gm_window_set(w, &map, page, dma);
	gm_ctx_unlock(ctx, w->start, gm_window_end(w));
	if (ret)
		gm_window_dma_unmap(ctx, dma);
	return ret == -EEXIST ? 0 : ret;
}

/* Core MM lifts a protection by itself that is there to be noted only. */
static bool gm_wp_needs_user(struct vm_area_struct *vma)
{
	return userfaultfd_wp(vma) && !userfaultfd_wp_async(vma);
}

/* With this PTE: a fault that must be resolved by userfaultfd? */
static bool gm_pte_needs_user(struct vm_area_struct *vma, pte_t pte, bool write)
{
	/* Whether the file has the page would take longer to find out. */
	bool missing = userfaultfd_missing(vma) || userfaultfd_minor(vma);

	write &= gm_wp_needs_user(vma);
	if (pte_none(pte))
		return missing;
	if (pte_present(pte))
		return write && pte_uffd_wp(pte);
	if (pte_marker_uffd_wp(pte))
		return missing || write;
	return write && pte_swp_uffd_wp_any(pte);
}

static bool gm_hugetlb_needs_user(struct vm_area_struct *vma,
				  unsigned long addr, bool write)
{
	struct hstate *h = hstate_vma(vma);
	pte_t *ptep, pte = __pte(0);

	addr &= huge_page_mask(h);
	hugetlb_vma_lock_read(vma);
	ptep = hugetlb_walk(vma, addr, huge_page_size(h));
	if (ptep)
		pte = huge_ptep_get(vma->vm_mm, addr, ptep);
	hugetlb_vma_unlock_read(vma);
	return gm_pte_needs_user(vma, pte, write);
}

/*
 * Would a fault have to wait for user space?  This one cannot: it is taken with
 * the mmap lock held throughout, by a thread that serves other faults too.
 */
static bool gm_fault_needs_user(struct vm_area_struct *vma, unsigned long addr,
				bool write)
{
	pmd_t *pmd, pmdval;
	pte_t *ptep, pte;

	if (is_vm_hugetlb_page(vma))
		return gm_hugetlb_needs_user(vma, addr, write);
	pmd = mm_find_pmd(vma->vm_mm, addr);
	pmdval = pmd ? pmdp_get_lockless(pmd) : __pmd(0);
	if (pmd_none(pmdval))
		return gm_pte_needs_user(vma, __pte(0), write);
	if (pmd_trans_huge(pmdval))
		return write && gm_wp_needs_user(vma) && pmd_uffd_wp(pmdval);
	ptep = pte_offset_map(pmd, addr);
	if (!ptep)
		return false;
	pte = ptep_get_lockless(ptep);
	pte_unmap(ptep);
	return gm_pte_needs_user(vma, pte, write);
}

/*
 * Find the page as it is mapped for the CPU, after a fault if need be.  There is
 * no reference to it: @seq tells whether it is still the one.
 */
static int gm_remote_page(struct gm_window *w, struct vm_area_struct *vma,
			  unsigned long addr, bool write, unsigned long seq,
			  struct page **page)
{
	unsigned long pfn = 0;
	struct hmm_range range = {
		.notifier = &w->notifier,
		.notifier_seq = seq,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT |
				 (write ? HMM_PFN_REQ_WRITE : 0),
	};
	int ret;

	/* HMM refuses a mapping that is for writing only. */
	if (!(vma->vm_flags & VM_READ)) {
		ret = get_user_pages_remote(vma->vm_mm, addr, 1, FOLL_WRITE,
					    page, NULL);
		if (ret != 1)
			return ret ?: -EFAULT;
		put_page(*page);
		return 0;
	}
	ret = hmm_range_fault(&range);
	if (ret)
		return ret == -EBUSY ? -EAGAIN : ret;
	*page = hmm_pfn_to_page(pfn);
	return 0;
}

/**
 * gm_remote_map() - map a host page for a device where it is
 * @ctx: context
 * @vma: VMA that permits the access
 * @addr: page
 * @write: for writing
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0; -EAGAIN when the page changed meanwhile; -ENOLINK when
 * gm_remote_prepare() must be called first; -EFAULT when the page cannot be
 * mapped; -EPERM; -EIO when the DMA mapping failed; -ENOMEM; -ESRCH; or the
 * errno of peer_map.
 */
int gm_remote_map(struct gm_context *ctx, struct vm_area_struct *vma,
		  unsigned long addr, bool write)
{
	struct gm_window *w = xa_load(&ctx->windows, gm_window_index(addr));
	struct page *page;
	unsigned long seq;
	int ret;

	if (!w)
		return -ENOLINK;
	/* What may be written may be read, and is then mapped for both. */
	write |= !(vma->vm_flags & VM_READ);
	/* Like get_user_pages(): nothing but the process sees these. */
	if (vma_is_secretmem(vma))
		return -EFAULT;
	if (userfaultfd_armed(vma) && gm_fault_needs_user(vma, addr, write))
		return -EFAULT;
	ret = ctx->gdev->mmu->pmap_prepare(ctx, addr, addr + PAGE_SIZE, 0);
	if (ret)
		return ret;

	seq = mmu_interval_read_begin(&w->notifier);
	ret = gm_remote_page(w, vma, addr, write, seq, &page);
	if (!ret)
		ret = gm_window_map(w, addr, write, page, seq);
	if (!ret && ctx->gdev->hnode)
		gm_stat_add(ctx->gdev->hnode, GM_STAT_REMOTE, 1);
	return ret;
}

/**
 * gm_remote_destroy() - unmap every host page of a context
 * @ctx: context that takes no more faults
 *
 * Context: Process context. Sleeps.
 */
void gm_remote_destroy(struct gm_context *ctx)
{
	struct gm_window *w;
	unsigned long index;

	xa_for_each(&ctx->windows, index, w) {
		mmu_interval_notifier_remove(&w->notifier);
		gm_ctx_lock(ctx, w->start, gm_window_end(w));
		gm_window_clear(w, 0, GM_CHUNK_PAGES);
		gm_ctx_unlock(ctx, w->start, gm_window_end(w));
		kvfree(w);
	}
	xa_destroy(&ctx->windows);
}
