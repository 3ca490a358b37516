// SPDX-License-Identifier: GPL-2.0
/*
 * Device to host.
 *
 * The block is made BUSY, the device's translations go, the data is copied into
 * folios that were allocated and charged before, and under the page table lock
 * each marker that is still there becomes a PTE.  Until then the device's copy
 * is the only one and stays valid, so an error at any step loses nothing.
 *
 * A whole 2 MiB block comes home as a huge page when the VMA may have one: the
 * page table full of markers is taken out and a new, empty one deposited under
 * the huge PMD.  The old table is freed by RCU, since lockless walkers may be
 * in it; whoever locks it finds markers and, looking again, the changed PMD.
 *
 * What a range holds comes home with several copies under way at once, as far as
 * that needs neither a wait for a block nor memory from reclaim: the thread owns
 * several blocks meanwhile.
 */
#include <linux/hugetlb.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/oom.h>
#include <linux/page_table_check.h>
#include <linux/pgalloc.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>

#include "../internal.h"
#include "gmem.h"

/* How often a copy that failed is tried again. */
#define GM_HOME_TRIES	3

/**
 * struct gm_homecoming - what one recall works on
 * @as: address space
 * @vma: VMA of the range
 * @addr: address that asked for it
 * @start: first byte
 * @nr: pages; the range lies in one block and in @vma
 * @flags: GM_RECALL_*
 * @nid: host node for the data, or NUMA_NO_NODE
 * @stream: other blocks are BUSY: enter no reclaim, wait for nobody
 * @block: BUSY block
 * @move: folios, single pages or one huge page
 * @table: page table to deposit under a huge page, or NULL
 */
struct gm_homecoming {
	struct gm_as *as;
	struct vm_area_struct *vma;
	unsigned long addr;
	unsigned long start;
	unsigned long nr;
	unsigned int flags;
	int nid;
	bool stream;
	struct gm_block *block;
	struct gm_move *move;
	pgtable_t table;
};

static unsigned long gm_home_end(const struct gm_homecoming *h)
{
	return h->start + (h->nr << PAGE_SHIFT);
}

/* --- memory ------------------------------------------------------------------ */

static gfp_t gm_home_gfp(const struct gm_homecoming *h, gfp_t gfp)
{
	return h->stream ? (gfp & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN : gfp;
}

/* Takes @folio over; NULL is as good as one that cannot be charged. */
static int gm_home_take(struct gm_homecoming *h, struct folio *folio,
			unsigned int first, gfp_t gfp)
{
	if (!folio)
		return -ENOMEM;
	if (mem_cgroup_charge(folio, h->vma->vm_mm, gfp)) {
		folio_put(folio);
		return -ENOMEM;
	}
	h->move->folio[h->move->nr] = folio;
	h->move->first[h->move->nr++] = first;
	return 0;
}

static struct folio *gm_home_folio(struct gm_homecoming *h, unsigned long addr,
				   unsigned int order, gfp_t gfp)
{
	if (h->nid != NUMA_NO_NODE)
		return __folio_alloc_node(gfp, order, h->nid);
	return vma_alloc_folio(gfp, order, h->vma, addr, order);
}

/*
 * Single pages that are adjacent: one call of the allocator, and one piece for
 * the DMA API.  Only if that costs nothing, any others will do.
 */
static struct page *gm_home_pages(struct gm_homecoming *h, unsigned long addr,
				  unsigned int order)
{
	gfp_t gfp = (GFP_HIGHUSER_MOVABLE | __GFP_NOWARN | __GFP_NOMEMALLOC) &
		    ~__GFP_RECLAIM;
	struct mempolicy *pol;
	struct page *page;
	pgoff_t ilx;

	if (h->nid != NUMA_NO_NODE) {
		page = alloc_pages_node(h->nid, gfp, order);
	} else {
		pol = get_vma_policy(h->vma, addr, order, &ilx);
		page = alloc_pages_mpol(gfp, order, pol, ilx, numa_node_id());
		mpol_cond_put(pol);
	}
	if (page)
		split_page(page, order);
	return page;
}

/*
 * May [start, start + 2M) become a huge page, going by policy?  Elsewhere than on
 * x86 a PMD must not change from a table to a page without being none between.
 */
static bool gm_home_huge_ok(const struct gm_homecoming *h)
{
	return IS_ENABLED(CONFIG_X86) && h->nr == HPAGE_PMD_NR && !userfaultfd_armed(h->vma) &&
	       thp_vma_allowable_order(h->vma, h->vma->vm_flags,
				       TVA_IN_PF | TVA_ENFORCE_SYSFS,
				       HPAGE_PMD_ORDER);
}

static int gm_home_alloc_huge(struct gm_homecoming *h)
{
	gfp_t gfp = gm_home_gfp(h, vma_thp_gfp_mask(h->vma) | __GFP_NOWARN);
	struct folio *folio;

	folio = gm_home_folio(h, h->start, HPAGE_PMD_ORDER, gfp);
	if (gm_home_take(h, folio, 0, gfp))
		return -ENOMEM;
	h->table = __pte_alloc_one(h->vma->vm_mm,
				   gm_home_gfp(h, GFP_PGTABLE_USER));
	return h->table ? 0 : -ENOMEM;
}

/* Return: 0; -EAGAIN when 2^@order pages are not to be had together; -ENOMEM. */
static int gm_home_alloc_some(struct gm_homecoming *h, unsigned long vpn,
			      unsigned int order, gfp_t gfp)
{
	unsigned int first = vpn - (h->start >> PAGE_SHIFT), i;
	unsigned long addr = vpn << PAGE_SHIFT;
	struct page *page;
	int ret = 0;

	if (!order)
		return gm_home_take(h, gm_home_folio(h, addr, 0, gfp), first,
				    gfp);
	page = gm_home_pages(h, addr, order);
	if (!page)
		return -EAGAIN;
	for (i = 0; i < 1U << order && !ret; i++)
		ret = gm_home_take(h, page_folio(page + i), first + i, gfp);
	for (; i < 1U << order; i++)
		__free_page(page + i);
	return ret;
}

/* A page for each page in [vpn, end). */
static int gm_home_alloc_run(struct gm_homecoming *h, unsigned long vpn,
			     unsigned long end, gfp_t gfp)
{
	unsigned int order = GM_ORDER_2M;
	int ret = 0;

	while (vpn < end && !ret) {
		order = min_t(unsigned int, order, ilog2(end - vpn));
		if (order < GM_ORDER_64K)
			order = 0;
		ret = gm_home_alloc_some(h, vpn, order, gfp);
		if (ret == -EAGAIN) {
			order = order > GM_ORDER_64K ? GM_ORDER_64K : 0;
			ret = 0;
		} else {
			vpn += 1UL << order;
		}
	}
	return ret;
}

/*
 * A page for each page of the range that is on the device now.  Nobody is
 * killed for what can also come page by page.
 */
static int gm_home_alloc_pages(struct gm_homecoming *h)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE;
	unsigned long vpn = h->start >> PAGE_SHIFT;
	unsigned long last = vpn + h->nr - 1, end;
	int ret = 0;

	if (h->flags & GM_RECALL_OPTIONAL)
		gfp |= __GFP_NORETRY | __GFP_NOWARN;
	else if (h->nr > 1)
		gfp |= __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	gfp = gm_home_gfp(h, gfp);
	/* Of a single page it is known. */
	if (h->nr == 1)
		return gm_home_alloc_run(h, vpn, vpn + 1, gfp);
	while (!ret) {
		vpn = vm_object_next(&h->as->vmo, vpn, last);
		if (vpn > last)
			break;
		/* It may have gone since. */
		end = vpn + max(vm_object_extent(&h->as->vmo, vpn), 1UL);
		end = min(end, last + 1);
		ret = gm_home_alloc_run(h, vpn, end, gfp);
		vpn = end;
	}
	return ret;
}

static void gm_home_free(struct gm_homecoming *h)
{
	while (h->move && h->move->nr)
		folio_put(h->move->folio[--h->move->nr]);
	gm_move_free(h->move);
	h->move = NULL;
	if (h->table)
		pte_free(h->vma->vm_mm, h->table);
	h->table = NULL;
}

/* Return: 0, or -ENOMEM with something to be freed by gm_home_free(). */
static int gm_home_alloc(struct gm_homecoming *h, bool huge)
{
	gfp_t gfp = gm_home_gfp(h, GFP_KERNEL);
	int ret;

	if (huge) {
		h->move = gm_move_alloc(1, gfp);
		ret = h->move ? gm_home_alloc_huge(h) : -ENOMEM;
		/* Reclaim and compaction may yet find a huge page. */
		if (!ret || h->stream)
			return ret;
		gm_home_free(h);
	}
	h->move = gm_move_alloc(h->nr, gfp);
	return h->move ? gm_home_alloc_pages(h) : -ENOMEM;
}

/* --- page tables --------------------------------------------------------------- */

static pmd_t *gm_home_pmd(const struct gm_homecoming *h)
{
	return mm_find_pmd(h->vma->vm_mm, h->start);
}

/*
 * The device may have written, so the page is dirty.  Not soft-dirty if somebody
 * tracks that and no device had the right to write since he looked: the marker
 * knows.  The CPU must not write unseen then, either.
 */
static pte_t gm_home_pte(struct vm_area_struct *vma, struct page *page,
			 pte_t marker)
{
	pte_t pte = mk_pte(page, vma->vm_page_prot);

	pte = pte_mksoft_dirty(pte_mkdirty(pte_sw_mkyoung(pte)));
	if (vma_soft_dirty_enabled(vma) && !pte_swp_soft_dirty(marker))
		pte = pte_clear_soft_dirty(pte);
	else if (vma->vm_flags & VM_WRITE)
		pte = pte_mkwrite(pte, vma);
	if (pte_swp_uffd_wp(marker))
		pte = pte_mkuffd_wp(pte);
	return pte;
}

/* Put a page where its marker still is. */
static void gm_home_set_pte(struct gm_homecoming *h, struct folio *folio,
			    unsigned long addr, pte_t *slot)
{
	struct vm_area_struct *vma = h->vma;
	pte_t marker = ptep_get(slot);

	folio_add_new_anon_rmap(folio, vma, addr, RMAP_EXCLUSIVE);
	folio_add_lru_vma(folio, vma);
	set_pte_at(vma->vm_mm, addr, slot,
		   gm_home_pte(vma, folio_page(folio, 0), marker));
	update_mmu_cache(vma, addr, slot);
}

/* The same for all of them; the folios of pages that were zapped are left. */
static void gm_home_set_all(struct gm_homecoming *h, pte_t *ptep)
{
	unsigned long first = (h->start - gm_block_start(h->block)) >>
			      PAGE_SHIFT;
	unsigned long from = h->move->first[0], nr = 0;
	unsigned int i, kept = 0;

	for (i = 0; i < h->move->nr; i++) {
		struct folio *folio = h->move->folio[i];
		unsigned long page = h->move->first[i];
		pte_t *slot = ptep + page - first;

		if (!is_gmem_marker(ptep_get(slot))) {
			h->move->folio[kept] = folio;
			h->move->first[kept++] = page;
			continue;
		}
		gm_home_set_pte(h, folio, gm_block_start(h->block) +
				(page << PAGE_SHIFT), slot);
		/* Mostly neighbours, to be struck out together. */
		if (page != from + nr) {
			vm_object_clear_valid(&h->as->vmo, h->block, from, nr);
			from = page;
			nr = 0;
		}
		nr++;
	}
	vm_object_clear_valid(&h->as->vmo, h->block, from, nr);
	add_mm_counter(h->vma->vm_mm, MM_ANONPAGES, h->move->nr - kept);
	h->move->nr = kept;
}

static int gm_home_set_ptes(struct gm_homecoming *h)
{
	struct mm_struct *mm = h->vma->vm_mm;
	int ret = 0;
	spinlock_t *ptl;
	pte_t *ptep;
	pmd_t *pmd = gm_home_pmd(h);

	ptep = pmd ? pte_offset_map_lock(mm, pmd, h->start, &ptl) : NULL;
	if (!ptep)
		return -EAGAIN;
	if (check_stable_address_space(mm))
		ret = -EFAULT;
	else if (h->move->nr)
		gm_home_set_all(h, ptep);
	pte_unmap_unlock(ptep, ptl);
	return ret;
}

/* Is there nothing but markers, and in *@soft_dirty: is one of them that? */
static bool gm_table_all_markers(pte_t *ptep, bool *soft_dirty)
{
	const pte_t usual =
		pte_swp_mksoft_dirty(make_pte_marker(PTE_MARKER_GMEM));
	unsigned int i, others = 0;

	for (i = 0; i < HPAGE_PMD_NR; i++) {
		pte_t pte = ptep_get(ptep + i);

		/* Almost always: as it was made. */
		if (likely(pte_same(pte, usual)))
			continue;
		if (!is_gmem_marker(pte) || pte_swp_uffd_wp(pte))
			return false;
		*soft_dirty |= pte_swp_soft_dirty(pte);
		others++;
	}
	*soft_dirty |= others < HPAGE_PMD_NR;
	return true;
}

/* Return: what the PMD was, for its table to be freed. */
static pmd_t gm_home_map_huge(struct gm_homecoming *h, pmd_t *pmdp,
			      struct folio *folio, bool soft_dirty)
{
	struct vm_area_struct *vma = h->vma;
	struct mm_struct *mm = vma->vm_mm;
	pmd_t pmd = mk_huge_pmd(folio_page(folio, 0), vma->vm_page_prot);
	pmd_t old;

	pmd = pmd_mksoft_dirty(pmd_mkdirty(pmd));
	/* As in gm_home_pte(). */
	if (vma_soft_dirty_enabled(vma) && !soft_dirty)
		pmd = pmd_clear_soft_dirty(pmd);
	else
		pmd = maybe_pmd_mkwrite(pmd, vma);
	folio_add_new_anon_rmap(folio, vma, h->start, RMAP_EXCLUSIVE);
	folio_add_lru_vma(folio, vma);
	pgtable_trans_huge_deposit(mm, pmdp, h->table);
	/*
	 * In one step: who looks without the lock, such as zap, must not take
	 * the range for a hole.  There is no present PTE in the old table, so no
	 * TLB has anything from it but the way to it.
	 */
	old = pmdp_establish(vma, h->start, pmdp, pmd);
	flush_tlb_range(vma, h->start, h->start + HPAGE_PMD_SIZE);
	pmdp_get_lockless_sync();
	update_mmu_cache_pmd(vma, h->addr, pmdp);
	add_mm_counter(mm, MM_ANONPAGES, HPAGE_PMD_NR);
	deferred_split_folio(folio, false);
	return old;
}

/*
 * Replace the page table of the range, if it holds nothing but markers, by the
 * huge page.
 *
 * Return: 0; -E2BIG when the range must come home in single pages; -EFAULT.
 */
static int gm_home_set_pmd(struct gm_homecoming *h)
{
	struct vm_area_struct *vma = h->vma;
	struct mm_struct *mm = vma->vm_mm;
	struct folio *folio = h->move->folio[0];
	pmd_t *pmdp = gm_home_pmd(h);
	spinlock_t *pml, *ptl;
	bool soft_dirty = false;
	int ret = -E2BIG;
	pmd_t old;
	pte_t *ptep;

	if (!pmdp)
		return ret;
	pml = pmd_lock(mm, pmdp);
	ptep = pte_offset_map_nolock(mm, pmdp, h->start, &ptl);
	if (!ptep)
		goto unlock_pmd;
	if (ptl != pml)
		spin_lock_nested(ptl, SINGLE_DEPTH_NESTING);
	if (check_stable_address_space(mm)) {
		ret = -EFAULT;
		goto unlock_pte;
	}
	if (userfaultfd_armed(vma) || !gm_table_all_markers(ptep, &soft_dirty))
		goto unlock_pte;

	old = gm_home_map_huge(h, pmdp, folio, soft_dirty);
	h->table = NULL;
	h->move->nr = 0;
	vm_object_clear_valid(&h->as->vmo, h->block, 0, HPAGE_PMD_NR);
	ret = 0;

unlock_pte:
	if (ptl != pml)
		spin_unlock(ptl);
	pte_unmap(ptep);
unlock_pmd:
	spin_unlock(pml);
	if (!ret) {
		page_table_check_pte_clear_range(mm, h->start, old);
		pte_free_defer(mm, pmd_pgtable(old));
	}
	return ret;
}

/* The device lost the data: who touches one of these pages must be told. */
static void gm_home_poison(struct gm_homecoming *h)
{
	struct mm_struct *mm = h->vma->vm_mm;
	pmd_t *pmd = gm_home_pmd(h);
	unsigned long i, lost = 0;
	spinlock_t *ptl;
	pte_t *ptep;

	ptep = pmd ? pte_offset_map_lock(mm, pmd, h->start, &ptl) : NULL;
	if (!ptep)
		return;
	for (i = 0; i < h->nr; i++) {
		unsigned long addr = h->start + (i << PAGE_SHIFT);

		if (!is_gmem_marker(ptep_get(ptep + i)))
			continue;
		set_pte_at(mm, addr, ptep + i,
			   make_pte_marker(PTE_MARKER_POISONED));
		vm_object_clear_valid(&h->as->vmo, h->block,
				      (addr >> PAGE_SHIFT) - h->block->vpn, 1);
		lost++;
	}
	pte_unmap_unlock(ptep, ptl);
	gm_stat_add(gm_loc_to_hnode(h->block->loc), GM_STAT_LOST, lost);
}

/* --- the recall ------------------------------------------------------------------ */

static unsigned long gm_count_valid(const struct gm_block *block,
				    unsigned long from, unsigned long nr)
{
	unsigned long end = from + nr, count = 0;

	for_each_set_bit_from(from, block->valid, end)
		count++;
	return count;
}

/*
 * Folios were allocated for what was on the device before the block became
 * BUSY.  Keep those whose page still is, numbered from the block's start.
 */
static int gm_home_match(struct gm_homecoming *h)
{
	unsigned long from = (h->start >> PAGE_SHIFT) - h->block->vpn;
	struct gm_move *move = h->move;
	unsigned long valid;
	unsigned int i, kept = 0;

	if (h->table)
		return bitmap_full(h->block->valid, HPAGE_PMD_NR) ? 0 : -E2BIG;

	for (i = 0; i < move->nr; i++) {
		unsigned long page = from + move->first[i];

		if (!test_bit(page, h->block->valid)) {
			folio_put(move->folio[i]);
			continue;
		}
		move->folio[kept] = move->folio[i];
		move->first[kept++] = page;
	}
	move->nr = kept;
	valid = gm_count_valid(h->block, from, h->nr);
	return kept < valid ? -EAGAIN : 0;
}

static struct gm_block *gm_home_claim(struct gm_homecoming *h,
				      struct gm_block **spare)
{
	unsigned long vpn = h->addr >> PAGE_SHIFT;
	struct gm_block *block, *owned;

	block = vm_object_claim(&h->as->vmo, vpn, spare, &owned);
	if (PTR_ERR_OR_ZERO(block) == -EBUSY) {
		if (!h->stream && !(h->flags & GM_RECALL_NOWAIT))
			gm_block_wait(owned);
		gm_block_put(owned);
		return ERR_PTR(-EAGAIN);
	}
	if (!block)
		return ERR_PTR(-ENOENT);
	if (IS_ERR(block))
		return block;
	if (!test_bit(vpn - block->vpn, block->valid) ||
	    h->start < gm_block_start(block) ||
	    gm_home_end(h) > gm_block_end(block)) {
		gm_block_done(h->as, block);
		return ERR_PTR(-EAGAIN);
	}
	return block;
}

/* Make the block BUSY, of which the folios have been allocated. */
static int gm_home_own(struct gm_homecoming *h)
{
	gfp_t gfp = gm_home_gfp(h, GFP_KERNEL_ACCOUNT);
	struct gm_block *spare = gm_block_alloc(0, gfp);
	int ret;

	if (!spare)
		return -ENOMEM;
	h->block = gm_home_claim(h, &spare);
	gm_block_put(spare);
	if (IS_ERR(h->block))
		return PTR_ERR(h->block);
	ret = gm_home_match(h);
	if (ret)
		gm_block_done(h->as, h->block);
	return ret;
}

/*
 * Take the block away from the device, and send its data home.
 *
 * Return: 0, and gm_home_finish() must follow; or an error.
 */
static int gm_home_start(struct gm_homecoming *h, bool huge)
{
	struct gm_dev *gdev;
	int ret;

	ret = gm_home_alloc(h, huge);
	if (!ret)
		ret = gm_home_own(h);
	if (ret) {
		gm_home_free(h);
		return ret;
	}
	gdev = gm_loc_to_hnode(h->block->loc)->gdev;
	gm_as_unmap(h->as, gdev, gm_block_start(h->block),
		    gm_block_end(h->block));
	gm_move_copy(gdev, h->move, h->block, GM_COPY_FROM_DEV);
	return 0;
}

/* The data has come, or not. */
static int gm_home_commit(struct gm_homecoming *h, int error)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(h->block->loc);
	unsigned long pages;
	unsigned int i;
	int ret;

	if (error) {
		/* That the host has no address for it does not make it lost. */
		if (error != -ENOBUFS &&
		    (READ_ONCE(hnode->gdev->broken) ||
		     (h->flags & GM_RECALL_POISON && h->nr == 1))) {
			gm_home_poison(h);
			return -EHWPOISON;
		}
		return -EIO;
	}

	for (i = 0; i < h->move->nr; i++)
		__folio_mark_uptodate(h->move->folio[i]);
	pages = h->table ? HPAGE_PMD_NR : h->move->nr;
	ret = h->table ? gm_home_set_pmd(h) : gm_home_set_ptes(h);
	if (!ret) {
		gm_stat_add(hnode, GM_STAT_TO_HOST, pages - h->move->nr);
		if (h->flags & GM_RECALL_EVICT)
			gm_stat_add(hnode, GM_STAT_EVICTED,
				    pages - h->move->nr);
	}
	return ret;
}

static int gm_home_finish(struct gm_homecoming *h)
{
	int ret = gm_move_wait(h->move);

	/* Before the CPU can see the pages, which may have been bounced. */
	gm_move_dma_unmap(h->move);
	ret = gm_home_commit(h, ret);
	gm_block_done(h->as, h->block);
	gm_home_free(h);
	return ret;
}

static int gm_recall_once(struct gm_homecoming *h, bool huge)
{
	return gm_home_start(h, huge) ?: gm_home_finish(h);
}

/*
 * What to bring home for an access at h->addr: its block within the VMA, or, of
 * a block that is larger than 64K and cannot become a huge page, the 64K around
 * the address.
 */
static void gm_home_range(struct gm_homecoming *h, unsigned long first,
			  unsigned int order)
{
	unsigned long start = first << PAGE_SHIFT;
	unsigned long end = start + (PAGE_SIZE << order);

	start = max(start, h->vma->vm_start);
	end = min(end, h->vma->vm_end);
	h->start = start;
	h->nr = (end - start) >> PAGE_SHIFT;
	if (order <= GM_ORDER_64K || h->flags & GM_RECALL_WHOLE ||
	    gm_home_huge_ok(h))
		return;
	start = max(start, ALIGN_DOWN(h->addr, PAGE_SIZE << GM_ORDER_64K));
	end = min(end, ALIGN_DOWN(h->addr, PAGE_SIZE << GM_ORDER_64K) +
		       (PAGE_SIZE << GM_ORDER_64K));
	h->start = start;
	h->nr = (end - start) >> PAGE_SHIFT;
}

/**
 * gm_recall() - bring a page, and what belongs to it, home
 * @vma: VMA of @addr
 * @addr: address of a page that a device has
 * @flags: GM_RECALL_*
 * @nid: host node for the data, or NUMA_NO_NODE to go by policy
 *
 * Context: mmap lock held, or VMA lock held for reading. Sleeps.
 * Return: 0; -ENOENT when no device has the page; -EAGAIN when things changed
 * or, with %GM_RECALL_NOWAIT, the block is BUSY; -ENOMEM; -EFAULT while the OOM
 * reaper is at work; -EIO when the device failed and still has the data;
 * -EHWPOISON when the data is lost.
 */
int gm_recall(struct vm_area_struct *vma, unsigned long addr,
	      unsigned int flags, int nid)
{
	struct gm_homecoming h = {
		.as = vma->vm_mm->gm_as,
		.vma = vma,
		.addr = addr,
		.flags = flags,
		.nid = nid,
	};
	unsigned long loc, first;
	int tries, ret;

	loc = vm_object_find(&h.as->vmo, addr >> PAGE_SHIFT, &first);
	if (loc == GM_LOC_NONE)
		return -ENOENT;
	gm_home_range(&h, first, gm_loc_order(loc));
	ret = gm_recall_once(&h, gm_home_huge_ok(&h));
	if (ret == -E2BIG)
		ret = gm_recall_once(&h, false);
	if ((ret == -EIO || ret == -ENOMEM) && h.nr > 1) {
		/*
		 * One bad page, or memory for one page only, must not keep it
		 * from coming home.
		 */
		h.start = addr & PAGE_MASK;
		h.nr = 1;
		ret = gm_recall_once(&h, false);
	}
	/* An engine that was reset in the middle of it works again by now. */
	for (tries = GM_HOME_TRIES; ret == -EIO && tries; tries--)
		ret = gm_recall_once(&h, false);
	return ret;
}

/**
 * struct gm_return - a range on its way home
 * @piece: ring of what is under way
 * @head: of the oldest one
 * @nr: how many
 * @next: page where the next one is looked for
 * @failed: first page of which the recall failed
 */
struct gm_return {
	struct gm_homecoming piece[GM_STREAM_DEPTH];
	unsigned int head;
	unsigned int nr;
	unsigned long next;
	unsigned long failed;
};

/*
 * Start what can be.
 *
 * Return: true when the ring is full, false when nothing more shall start.
 */
static bool gm_return_fill(struct gm_return *r, struct vm_area_struct *vma,
			   unsigned long last, int nid)
{
	struct gm_as *as = vma->vm_mm->gm_as;
	unsigned long loc, first;

	while (r->nr < GM_STREAM_DEPTH) {
		struct gm_homecoming *h =
			&r->piece[(r->head + r->nr) % GM_STREAM_DEPTH];

		if (r->failed != ULONG_MAX || fatal_signal_pending(current))
			return false;
		r->next = vm_object_next(&as->vmo, r->next, last);
		if (r->next > last) {
			r->next = last + 1;
			return false;
		}
		loc = vm_object_find(&as->vmo, r->next, &first);
		if (loc == GM_LOC_NONE)
			continue;

		*h = (struct gm_homecoming) {
			.as = as,
			.vma = vma,
			.addr = r->next << PAGE_SHIFT,
			.flags = GM_RECALL_WHOLE,
			.nid = nid,
			.stream = true,
		};
		gm_home_range(h, first, gm_loc_order(loc));
		if (gm_home_start(h, gm_home_huge_ok(h)))
			return false;
		r->nr++;
		r->next = gm_home_end(h) >> PAGE_SHIFT;
	}
	return true;
}

/*
 * Bring home what can be without waiting for anything but copies.
 *
 * Return: the page from which on there may be more in the range.
 */
static unsigned long gm_recall_stream(struct vm_area_struct *vma,
				      unsigned long vpn, unsigned long last,
				      int nid)
{
	struct gm_return r = { .next = vpn, .failed = ULONG_MAX };
	bool more = true;

	for (;;) {
		struct gm_homecoming *h;

		more = more && gm_return_fill(&r, vma, last, nid);
		if (!r.nr)
			break;
		h = &r.piece[r.head++ % GM_STREAM_DEPTH];
		r.nr--;
		if (gm_home_finish(h))
			r.failed = min(r.failed, h->start >> PAGE_SHIFT);
		cond_resched();
	}
	return max(vpn, min(r.next, r.failed));
}

/**
 * gm_recall_range() - bring everything in a range home
 * @vma: VMA
 * @start: first byte, in @vma
 * @end: end, in @vma
 * @nid: as in gm_recall()
 *
 * Context: as gm_recall().
 * Return: 0, -EINTR when the caller is being killed, or the first error that
 * gm_recall() cannot recover from.
 */
int gm_recall_range(struct vm_area_struct *vma, unsigned long start,
		    unsigned long end, int nid)
{
	struct gm_as *as = vma->vm_mm->gm_as;
	unsigned long vpn = start >> PAGE_SHIFT;
	unsigned long last = (end >> PAGE_SHIFT) - 1;
	int ret;

	if (!as)
		return 0;
	for (;;) {
		/* What cannot be done along with others is done alone. */
		vpn = gm_recall_stream(vma, vpn, last, nid);
		vpn = vm_object_next(&as->vmo, vpn, last);
		if (vpn > last)
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = gm_recall(vma, vpn << PAGE_SHIFT, GM_RECALL_WHOLE, nid);
		if (ret && ret != -EAGAIN && ret != -ENOENT &&
		    ret != -EHWPOISON)
			return ret;
		cond_resched();
	}
}

/* --- CPU faults --------------------------------------------------------------------- */

/* A marker that the vm_object knows nothing of is only seen by a stale read. */
static vm_fault_t gm_fault_stale(struct vm_fault *vmf)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	vm_fault_t ret = 0;
	unsigned long first;
	spinlock_t *ptl;
	pte_t *ptep;

	ptep = pte_offset_map_lock(mm, vmf->pmd, vmf->address, &ptl);
	if (!ptep)
		return 0;
	if (is_gmem_marker(ptep_get(ptep)) &&
	    vm_object_find(&mm->gm_as->vmo, vmf->address >> PAGE_SHIFT,
			   &first) == GM_LOC_NONE) {
		WARN_ON_ONCE(1);
		ret = VM_FAULT_SIGBUS;
	}
	pte_unmap_unlock(ptep, ptl);
	return ret;
}

vm_fault_t __gm_host_fault(struct vm_fault *vmf)
{
	bool nowait = vmf->flags & FAULT_FLAG_RETRY_NOWAIT;

	if (WARN_ON_ONCE(!vmf->vma->vm_mm->gm_as))
		return VM_FAULT_SIGBUS;

	switch (gm_recall(vmf->vma, vmf->address & PAGE_MASK,
			  nowait ? GM_RECALL_NOWAIT : 0, NUMA_NO_NODE)) {
	case 0:
		count_vm_event(PGMAJFAULT);
		return VM_FAULT_MAJOR;
	case -ENOENT:
		return gm_fault_stale(vmf);
	case -EAGAIN:
		return nowait ? VM_FAULT_RETRY : 0;
	case -EHWPOISON:
		/* The access is repeated and finds the poison. */
		return 0;
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		return VM_FAULT_SIGBUS;
	}
}
