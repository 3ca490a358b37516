// SPDX-License-Identifier: GPL-2.0
/*
 * Host to device.
 *
 * The page table is visited once.  Under its lock the PTEs of a piece are
 * cleared, the TLB is flushed, the refcount of each folio is frozen, and GMEM
 * markers take the place of the PTEs while the block that holds the truth is
 * BUSY; the data follows.  Who touches the range meanwhile finds the marker and
 * waits for the block.  When the copy fails the PTEs come back the same way.
 *
 * A folio is moved only when every reference to it is a PTE of the piece: then
 * nobody can reach its data after the flush, and a refcount of zero keeps
 * lockless lookups (reclaim, compaction, GUP-fast) away until it is freed.  It
 * stays on its LRU list: who finds it there cannot get a reference.
 *
 * A prefetch has several pieces under way: while the data of one is copied, the
 * next ones are frozen and those before mapped and freed.  It owns several
 * blocks then, so it waits for no block and no folio, and enters no reclaim;
 * what would need that ends the stream and is done alone.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/oom.h>
#include <linux/pagevec.h>
#include <linux/pgalloc.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/userfaultfd_k.h>

#include <asm/tlbflush.h>

#include "../internal.h"
#include "../swap.h"
#include "gmem.h"

/**
 * struct gm_piece - what one call moves
 * @as: address space
 * @hnode: destination
 * @vma: holds the whole piece
 * @start: first byte
 * @nr: pages
 * @block: BUSY block
 * @from: page of @block at @start
 * @move: folios
 * @pmd: of @start; the piece does not cross it
 * @gfp: how to allocate
 * @spent: list that takes the move when it is over, or NULL
 * @prepared: state of the device page tables
 */
struct gm_piece {
	struct gm_as *as;
	struct gm_hnode *hnode;
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long nr;
	struct gm_block *block;
	unsigned long from;
	struct gm_move *move;
	pmd_t *pmd;
	gfp_t gfp;
	struct gm_move **spent;
	struct gm_prepared prepared;
};

static unsigned long gm_piece_end(const struct gm_piece *p)
{
	return p->start + (p->nr << PAGE_SHIFT);
}

static pmd_t *gm_pmd_alloc(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d = p4d_alloc(mm, pgd, addr);
	pud_t *pud = p4d ? pud_alloc(mm, p4d, addr) : NULL;

	return pud ? pmd_alloc(mm, pud, addr) : NULL;
}

/*
 * Every mapping and reference of the locked @folio is @mappings of ours.  What a
 * fork made shared is ours again when the child's mappings have gone, as it is
 * for a write of the CPU: do_wp_page() asks the same.
 */
static bool gm_folio_ours(struct folio *folio, unsigned int mappings)
{
	/* KSM may take a page on until somebody else has it locked. */
	if (folio_test_ksm(folio) || folio_test_writeback(folio) ||
	    folio_mapcount(folio) != mappings)
		return false;
	if (folio_test_swapcache(folio) && !folio_free_swap(folio))
		return false;
	/* New pages, such as came home lately, are in a batch of some CPU. */
	if (folio_ref_count(folio) != mappings && !folio_test_lru(folio))
		lru_add_drain();
	return folio_ref_count(folio) == mappings;
}

static bool gm_folio_movable(struct folio *folio)
{
	return folio_test_anon(folio) && !folio_is_zone_device(folio) &&
	       !folio_contain_hwpoisoned_page(folio);
}

static void gm_unlock_folios(struct gm_move *move)
{
	while (move->nr)
		folio_unlock(move->folio[--move->nr]);
}

/*
 * Lock the folio that is mapped at page @i and check all of its pages.
 *
 * Return: its number of pages; -E2BIG when it reaches out of the piece and
 * must be split; -EBUSY when it cannot move now.
 */
static int gm_lock_folio(struct gm_piece *p, pte_t *ptep, unsigned long i)
{
	pte_t pte = ptep_get(ptep + i);
	struct gm_move *move = p->move;
	struct folio *folio;
	struct page *page;
	int nr, k;

	page = vm_normal_page(p->vma, p->start + (i << PAGE_SHIFT), pte);
	if (!page)
		return -EBUSY;
	folio = page_folio(page);
	if (!gm_folio_movable(folio))
		return -EBUSY;
	nr = folio_nr_pages(folio);
	if (page != folio_page(folio, 0) || i + nr > p->nr)
		return -E2BIG;

	for (k = 0; k < nr; k++) {
		pte_t next = ptep_get(ptep + i + k);

		if (!pte_present(next) || pte_pfn(next) != pte_pfn(pte) + k)
			return -E2BIG;
		if (pte_uffd_wp(next))
			return -EBUSY;
	}
	if (!folio_trylock(folio))
		return -EBUSY;
	if (!gm_folio_ours(folio, nr)) {
		folio_unlock(folio);
		return -EBUSY;
	}
	move->folio[move->nr] = folio;
	move->first[move->nr++] = p->from + i;
	return nr;
}

static bool gm_pte_hole(pte_t pte)
{
	return pte_none(pte) ||
	       (pte_present(pte) && is_zero_pfn(pte_pfn(pte)));
}

/* What does not exist yet begins on the device. */
static int gm_lock_ptes(struct gm_piece *p, pte_t *ptep)
{
	unsigned long i = 0;
	int ret;

	while (i < p->nr) {
		pte_t pte = ptep_get(ptep + i);

		if (gm_pte_hole(pte))
			ret = 1;
		else if (!pte_present(pte))
			ret = -EBUSY;
		else
			ret = gm_lock_folio(p, ptep, i);
		if (ret < 0) {
			gm_unlock_folios(p->move);
			return ret;
		}
		i += ret;
	}
	return 0;
}

/* Clear the PTEs, and flush, so that the folios are out of reach. */
static void gm_clear_ptes(struct gm_piece *p, pte_t *ptep)
{
	struct mm_struct *mm = p->vma->vm_mm;
	bool flush = false;
	unsigned long i;

	for (i = 0; i < p->nr; i++) {
		unsigned long addr = p->start + (i << PAGE_SHIFT);
		pte_t pte = ptep_get(ptep + i);

		if (!pte_none(pte)) {
			pte = ptep_get_and_clear(mm, addr, ptep + i);
			flush = true;
		}
		p->move->orig[i] = pte;
	}
	if (flush)
		flush_tlb_range(p->vma, p->start, gm_piece_end(p));
}

/*
 * The moment of truth: a reference that GUP-fast took before the PTEs were
 * cleared makes this fail, and one that comes later finds zero and gives up.
 */
static bool gm_freeze_folios(struct gm_move *move)
{
	unsigned int i;

	for (i = 0; i < move->nr; i++) {
		struct folio *folio = move->folio[i];

		if (!folio_ref_freeze(folio, folio_nr_pages(folio)))
			break;
	}
	if (i == move->nr)
		return true;
	while (i--)
		folio_ref_unfreeze(move->folio[i],
				   folio_nr_pages(move->folio[i]));
	return false;
}

/*
 * The device may write without being seen to.  Also while the VMA counts as
 * soft-dirty as a whole: that it loses when it merges with another.
 */
static pte_t gm_new_marker(void)
{
	return pte_swp_mksoft_dirty(make_pte_marker(PTE_MARKER_GMEM));
}

/*
 * What @block has of @vma is soft-dirty: the device is about to have the right to
 * write, and its writes are not seen.
 *
 * Context: mmap lock or VMA lock held for reading, block BUSY.
 */
void gm_mark_soft_dirty(struct vm_area_struct *vma,
			const struct gm_block *block)
{
	unsigned long addr = max(gm_block_start(block), vma->vm_start);
	unsigned long end = min(gm_block_end(block), vma->vm_end);
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
	spinlock_t *ptl;
	pte_t *ptep, *slot;

	/* Not there when all of its pages have gone. */
	ptep = pmd ? pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl) : NULL;
	if (!ptep)
		return;
	for (slot = ptep; addr < end; addr += PAGE_SIZE, slot++) {
		pte_t pte = ptep_get(slot);

		if (is_gmem_marker(pte) && !pte_swp_soft_dirty(pte))
			set_pte_at(vma->vm_mm, addr, slot,
				   pte_swp_mksoft_dirty(pte));
	}
	pte_unmap_unlock(ptep, ptl);
}

static void gm_set_markers(struct vm_area_struct *vma, unsigned long addr,
			   pte_t *ptep, unsigned long nr)
{
	pte_t marker = gm_new_marker();

	for (; nr; nr--, ptep++, addr += PAGE_SIZE)
		set_pte_at(vma->vm_mm, addr, ptep, marker);
}

static int gm_freeze_ptes(struct gm_piece *p)
{
	struct mm_struct *mm = p->vma->vm_mm;
	struct gm_move *move = p->move;
	unsigned long i, pages = 0;
	spinlock_t *ptl;
	pte_t *ptep;
	int ret;

	ptep = pte_offset_map_lock(mm, p->pmd, p->start, &ptl);
	if (!ptep)
		return -EAGAIN;
	ret = check_stable_address_space(mm) ? -EFAULT : gm_lock_ptes(p, ptep);
	if (ret)
		goto unlock;

	gm_clear_ptes(p, ptep);
	if (!gm_freeze_folios(move)) {
		for (i = 0; i < p->nr; i++)
			if (!pte_none(move->orig[i]))
				set_pte_at(mm, p->start + (i << PAGE_SHIFT),
					   ptep + i, move->orig[i]);
		gm_unlock_folios(move);
		ret = -EBUSY;
		goto unlock;
	}

	for (i = 0; i < move->nr; i++) {
		struct folio *folio = move->folio[i];

		folio_remove_rmap_ptes(folio, folio_page(folio, 0),
				       folio_nr_pages(folio), p->vma);
		pages += folio_nr_pages(folio);
	}
	add_mm_counter(mm, MM_ANONPAGES, -(long)pages);
	vm_object_set_valid(&p->as->vmo, p->block, p->from, p->nr);
	gm_set_markers(p->vma, p->start, ptep, p->nr);
unlock:
	pte_unmap_unlock(ptep, ptl);
	return ret;
}

/* A huge page goes as one; the page table it had deposited takes its place. */
static void gm_replace_pmd(struct gm_piece *p, struct folio *folio)
{
	struct mm_struct *mm = p->vma->vm_mm;
	pgtable_t pgtable = pgtable_trans_huge_withdraw(mm, p->pmd);
	pmd_t pmd;
	pte_t *ptep;

	folio_remove_rmap_pmd(folio, folio_page(folio, 0), p->vma);
	add_mm_counter(mm, MM_ANONPAGES, -HPAGE_PMD_NR);
	vm_object_set_valid(&p->as->vmo, p->block, 0, HPAGE_PMD_NR);

	/* Nobody can see the table yet: plain stores will do, all at once. */
	BUILD_BUG_ON(sizeof(pte_t) != sizeof(u64));
	pmd_populate(mm, &pmd, pgtable);
	ptep = pte_offset_map(&pmd, p->start);
	memset64((u64 *)ptep, pte_val(gm_new_marker()), HPAGE_PMD_NR);
	pte_unmap(ptep);
	smp_wmb(); /* The markers must be seen before the table is. */
	pmd_populate(mm, p->pmd, pgtable);
}

static int gm_freeze_pmd(struct gm_piece *p)
{
	struct mm_struct *mm = p->vma->vm_mm;
	struct folio *folio;
	spinlock_t *ptl;
	int ret = -EBUSY;
	pmd_t pmd;

	ptl = pmd_lock(mm, p->pmd);
	pmd = *p->pmd;
	if (!pmd_trans_huge(pmd) || is_huge_zero_pmd(pmd)) {
		ret = -E2BIG;
		goto unlock;
	}
	folio = pmd_folio(pmd);
	if (p->nr != HPAGE_PMD_NR) {
		ret = -E2BIG;
		goto unlock;
	}
	if (check_stable_address_space(mm) || pmd_uffd_wp(pmd) ||
	    !gm_folio_movable(folio) || !folio_trylock(folio))
		goto unlock;
	if (!gm_folio_ours(folio, 1))
		goto unlock_folio;

	/* Not none: who looks without the lock must not find a hole. */
	pmd = pmdp_invalidate(p->vma, p->start, p->pmd);
	if (!folio_ref_freeze(folio, 1)) {
		set_pmd_at(mm, p->start, p->pmd, pmd);
		goto unlock_folio;
	}
	p->move->folio[0] = folio;
	p->move->first[0] = 0;
	p->move->nr = 1;
	gm_replace_pmd(p, folio);
	spin_unlock(ptl);
	return 0;

unlock_folio:
	folio_unlock(folio);
unlock:
	spin_unlock(ptl);
	return ret;
}

/*
 * Take the pages of the piece away from the CPU.  A marker stands for each and
 * the block has them, but not yet their data.
 *
 * Return: 0; -E2BIG when a larger page must be split first; -EBUSY when some
 * page cannot move; -EAGAIN when the page table changed; -EFAULT while the OOM
 * reaper is at work.
 */
static int gm_freeze(struct gm_piece *p)
{
	struct mmu_notifier_range range;
	pmd_t pmd;
	int ret;

	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 0,
				      p->vma->vm_mm, p->start, gm_piece_end(p),
				      p->as);
	mmu_notifier_invalidate_range_start(&range);
	pmd = pmdp_get_lockless(p->pmd);
	if (is_swap_pmd(pmd))
		ret = -EBUSY;
	else if (pmd_trans_huge(pmd))
		ret = gm_freeze_pmd(p);
	else if (p->move->max < p->nr)
		ret = -EAGAIN;
	else
		ret = gm_freeze_ptes(p);
	mmu_notifier_invalidate_range_end(&range);
	return ret;
}

/* Give the pages of @folio that were not zapped back to the CPU. */
static unsigned int gm_thaw_folio(struct gm_piece *p, pte_t *ptep,
				  struct folio *folio, unsigned long first)
{
	struct vm_area_struct *vma = p->vma;
	unsigned int mapped = 0;
	unsigned long i;

	for (i = 0; i < folio_nr_pages(folio); i++) {
		unsigned long addr = gm_block_start(p->block) +
				     ((first + i) << PAGE_SHIFT);
		pte_t *slot = ptep + (first - p->from) + i;
		struct page *page = folio_page(folio, i);
		pte_t pte;

		if (!is_gmem_marker(ptep_get(slot)))
			continue;
		pte = pte_mksoft_dirty(pte_mkdirty(mk_pte(page,
							  vma->vm_page_prot)));
		if (vma->vm_flags & VM_WRITE)
			pte = pte_mkwrite(pte, vma);
		folio_add_anon_rmap_ptes(folio, page, 1, vma, addr,
					 RMAP_EXCLUSIVE);
		set_pte_at(vma->vm_mm, addr, slot, pte);
		mapped++;
	}
	add_mm_counter(vma->vm_mm, MM_ANONPAGES, mapped);
	return mapped;
}

/* The data did not make it: everything becomes as it was before gm_freeze(). */
static void gm_thaw(struct gm_piece *p)
{
	struct mm_struct *mm = p->vma->vm_mm;
	struct gm_move *move = p->move;
	unsigned int mapped;
	unsigned long i;
	spinlock_t *ptl;
	pte_t *ptep;

	/* Only khugepaged replaces tables, and not one with BUSY markers. */
	ptep = pte_offset_map_lock(mm, p->pmd, p->start, &ptl);
	for (i = 0; i < move->nr; i++) {
		struct folio *folio = move->folio[i];

		mapped = ptep ? gm_thaw_folio(p, ptep, folio, move->first[i]) : 0;
		folio_ref_unfreeze(folio, max(mapped, 1U));
		folio_unlock(folio);
		if (!mapped)
			folio_put(folio);
	}
	move->nr = 0;
	if (ptep) {
		for (i = 0; i < p->nr; i++)
			if (is_gmem_marker(ptep_get(ptep + i)))
				pte_clear(mm, p->start + (i << PAGE_SHIFT),
					  ptep + i);
		vm_object_clear_valid(&p->as->vmo, p->block, p->from, p->nr);
		pte_unmap_unlock(ptep, ptl);
	}
}

/**
 * gm_migrate_free() - free what moves to a device left behind on the host
 * @spent: the moves, a list; all their blocks are done with
 *
 * The folios are frozen since before the copy, so nobody else has them.
 *
 * Context: Process context, no locks needed.
 */
void gm_migrate_free(struct gm_move *spent)
{
	struct folio_batch fbatch;
	struct gm_move *move;

	folio_batch_init(&fbatch);
	while ((move = spent)) {
		spent = move->next;
		gm_move_dma_unmap(move);
		while (move->nr) {
			struct folio *folio = move->folio[--move->nr];

			folio_ref_unfreeze(folio, 1);
			folio_unlock(folio);
			if (move->max == 1)
				folio_put(folio);
			else if (!folio_batch_add(&fbatch, folio))
				folios_put(&fbatch);
		}
		gm_move_free(move);
	}
	if (folio_batch_count(&fbatch))
		folios_put(&fbatch);
}

static unsigned long gm_move_pages(const struct gm_move *move)
{
	unsigned long pages = 0;
	unsigned int i;

	for (i = 0; i < move->nr; i++)
		pages += folio_nr_pages(move->folio[i]);
	return pages;
}

/* Take the pages away from the CPU, and send their data. */
static int gm_move_in_start(struct gm_piece *p)
{
	struct gm_dev *gdev = p->hnode->gdev;
	int ret = gm_freeze(p);

	if (ret)
		return ret;
	gm_move_zero(gdev, p->move, p->block, p->from, p->nr);
	gm_move_copy(gdev, p->move, p->block, GM_COPY_TO_DEV);
	return 0;
}

/* The data is there, and the device has the only copy that counts. */
static int gm_move_in_finish(struct gm_piece *p)
{
	unsigned long copied = gm_move_pages(p->move);

	if (gm_move_wait(p->move)) {
		gm_move_dma_unmap(p->move);
		gm_thaw(p);
		return -EIO;
	}
	gm_stat_add(p->hnode, GM_STAT_TO_DEV, copied);
	gm_stat_add(p->hnode, GM_STAT_FIRST_TOUCH, p->nr - copied);
	return 0;
}

/*
 * Split the large folio at @addr, so that a part of it can move.
 *
 * Return: 0 when it is worth to try again, or -EBUSY.
 */
static int gm_split(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr)
{
	struct folio *folio = NULL;
	struct page *page;
	spinlock_t *ptl;
	pte_t *ptep, pte;
	int ret;

	if (pmd_trans_huge(pmdp_get_lockless(pmd))) {
		split_huge_pmd(vma, pmd, addr);
		return 0;
	}
	ptep = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!ptep)
		return 0;
	pte = ptep_get(ptep);
	page = pte_present(pte) ? vm_normal_page(vma, addr, pte) : NULL;
	if (page) {
		folio = page_folio(page);
		folio_get(folio);
	}
	pte_unmap_unlock(ptep, ptl);
	if (!folio)
		return -EBUSY;

	ret = -EBUSY;
	if (folio_test_large(folio) && folio_test_anon(folio) &&
	    folio_trylock(folio)) {
		if (!split_folio(folio))
			ret = 0;
		folio_unlock(folio);
	}
	folio_put(folio);
	return ret;
}

/* Move the piece into its BUSY block, and make the device see the block. */
static int gm_move_and_map(struct gm_piece *p, struct gm_context *ctx)
{
	int ret = gm_move_in_start(p);

	if (!ret)
		ret = gm_move_in_finish(p);
	if (!ret)
		ret = gm_as_map_block(p->as, ctx, p->vma, p->block,
				      &p->prepared);
	/* Without the block nothing may keep the device from going away. */
	if (!p->spent)
		gm_move_dma_unmap(p->move);
	gm_block_done(p->as, p->block);
	return ret;
}

/* The piece's room for folios: a huge page needs one. */
static struct gm_move *gm_piece_move(const struct gm_piece *p)
{
	bool huge = pmd_trans_huge(pmdp_get_lockless(p->pmd));

	return gm_move_alloc(huge ? 1 : p->nr, p->gfp);
}

/* A new, BUSY block for the whole piece. */
static int gm_piece_insert(struct gm_piece *p, unsigned int order)
{
	gfp_t gfp = p->gfp | __GFP_ACCOUNT;
	struct gm_block *block;
	int ret;

	block = gm_block_alloc(order, gfp);
	if (!block)
		return -ENOMEM;
	block->vpn = p->start >> PAGE_SHIFT;
	ret = gm_run_alloc(p->hnode, order, &block->loc, gfp);
	if (ret)
		goto err_block;
	gm_run_set_rmap(block->loc, p->vma->anon_vma,
			linear_page_index(p->vma, p->start));
	ret = vm_object_insert(&p->as->vmo, block, gfp);
	if (ret)
		goto err_run;
	p->block = block;
	p->from = 0;
	return 0;

err_run:
	gm_run_put(block->loc);
err_block:
	gm_block_put(block);
	return ret;
}

/*
 * A piece that is missing in the middle of an existing block: each piece has all
 * of the block mapped anew, so it should not be a page if it can be more.
 *
 * Return: as gm_migrate(); of a piece that is more than a page, -EEXIST when it
 * is not missing as a whole.
 */
static int gm_migrate_fill(struct gm_piece *p, struct gm_context *ctx)
{
	unsigned long vpn = p->start >> PAGE_SHIFT;
	unsigned long start = ALIGN_DOWN(p->start, PAGE_SIZE << GM_ORDER_2M);
	struct gm_block *block, *owned;
	int ret;

	/* The block's other pages are mapped together with this one. */
	p->prepared.order = 0;
	ret = gm_as_prepare(p->as, ctx, p->hnode->gdev, start,
			    start + (PAGE_SIZE << GM_ORDER_2M), &p->prepared);
	if (ret)
		return ret;
	block = vm_object_claim_around(&p->as->vmo, vpn, p->nr, p->hnode, p->vma,
				       &owned);
	if (PTR_ERR_OR_ZERO(block) == -EBUSY) {
		gm_block_wait(owned);
		gm_block_put(owned);
		return -EAGAIN;
	}
	if (!block)
		return p->nr > 1 ? -EEXIST : -EAGAIN;
	if (IS_ERR(block))
		return PTR_ERR(block);

	p->block = block;
	p->from = vpn - block->vpn;
	/* All of its pages are mapped, for writing. */
	gm_mark_soft_dirty(p->vma, block);
	return gm_move_and_map(p, ctx);
}

/**
 * gm_migrate() - move host pages, or pages that do not exist yet, to a device
 * @as: address space
 * @hnode: destination
 * @ctx: context that must see the result, or NULL
 * @vma: VMA; the piece around @addr lies in it, and userfaultfd does not watch it
 * @addr: any address in the piece
 * @order: size of the piece
 * @spent: list that takes what is left to be freed, when the caller wants to do
 *	   that later with gm_migrate_free(), or NULL; only with @ctx, whose
 *	   driver keeps the device meanwhile
 *
 * Every context of the device sees the pages when this returns 0, except one
 * whose mapping an invalidation prevents; that is only an error for @ctx.
 *
 * Context: mmap lock or VMA lock held for reading. Sleeps.
 * Return: 0; -EEXIST when a device has part of the piece; -EXDEV when the block
 * around it cannot take it, being another device's or shared; -EBUSY when a page
 * cannot move now; -ENOSPC when the device is full; -EAGAIN when things changed;
 * -EIO when the device or the DMA mapping failed; -EFAULT; -ENOMEM; or the errno
 * of &gm_mmu.peer_map for @ctx.  On any error the data is where it was, or moved
 * without being mapped.
 */
int gm_migrate(struct gm_as *as, struct gm_hnode *hnode,
	       struct gm_context *ctx, struct vm_area_struct *vma,
	       unsigned long addr, unsigned int order, struct gm_move **spent)
{
	struct gm_piece p = {
		.as = as,
		.hnode = hnode,
		.vma = vma,
		.start = ALIGN_DOWN(addr, PAGE_SIZE << order),
		.nr = 1UL << order,
		.gfp = GFP_KERNEL,
		.spent = spent,
		.prepared.order = order,
	};
	int ret;

	p.pmd = gm_pmd_alloc(vma->vm_mm, p.start);
	if (!p.pmd || pte_alloc(vma->vm_mm, p.pmd) || anon_vma_prepare(vma))
		return -ENOMEM;
	p.move = gm_piece_move(&p);
	if (!p.move)
		return -ENOMEM;
	ret = gm_as_prepare(as, ctx, hnode->gdev, p.start, gm_piece_end(&p),
			    &p.prepared);
	if (!ret)
		ret = gm_piece_insert(&p, order);
	if (!ret)
		ret = gm_move_and_map(&p, ctx);
	else if (ret == -EEXIST && order < GM_ORDER_2M)
		ret = gm_migrate_fill(&p, ctx);
	if (ret == -E2BIG)
		ret = gm_split(vma, p.pmd, addr) ?: -EAGAIN;
	if (spent && p.move->nr) {
		p.move->next = *spent;
		*spent = p.move;
	} else {
		gm_migrate_free(p.move);
	}
	return ret;
}

/* --- several pieces at a time ----------------------------------------------------- */

/* How far ahead device page tables are prepared, in pieces. */
#define GM_STREAM_AHEAD		64

/**
 * struct gm_stream - pieces whose data is under way
 * @piece: ring of them
 * @head: of the oldest one
 * @nr: how many
 * @pos: where the next one begins
 * @failed: first byte that did not move
 */
struct gm_stream {
	struct gm_piece piece[GM_STREAM_DEPTH];
	unsigned int head;
	unsigned int nr;
	unsigned long pos;
	unsigned long failed;
};

/*
 * Send the piece on its way.  Other blocks are BUSY: page tables that are not
 * there and pages that cannot move as they are need more than is allowed here.
 */
static int gm_piece_start(struct gm_piece *p)
{
	int ret;

	p->pmd = mm_find_pmd(p->vma->vm_mm, p->start);
	if (!p->pmd || pmd_none(pmdp_get_lockless(p->pmd)) ||
	    !p->vma->anon_vma)
		return -EAGAIN;
	p->move = gm_piece_move(p);
	if (!p->move)
		return -ENOMEM;
	ret = gm_piece_insert(p, p->prepared.order);
	if (ret)
		goto free;
	ret = gm_move_in_start(p);
	if (!ret)
		return 0;
	gm_block_done(p->as, p->block);
free:
	gm_move_free(p->move);
	return ret;
}

/* The oldest piece arrives. */
static void gm_stream_finish(struct gm_stream *s)
{
	struct gm_piece *p = &s->piece[s->head++ % GM_STREAM_DEPTH];

	s->nr--;
	if (gm_move_in_finish(p))
		s->failed = min(s->failed, p->start);
	else
		gm_as_map_block(p->as, NULL, p->vma, p->block, &p->prepared);
	gm_move_dma_unmap(p->move);
	gm_block_done(p->as, p->block);
	gm_migrate_free(p->move);
}

/*
 * Start what can be.
 *
 * Return: true when the stream is full, false when nothing more shall start.
 */
static bool gm_stream_fill(struct gm_stream *s, const struct gm_piece *model,
			   unsigned long end)
{
	const struct gm_dev *gdev = model->hnode->gdev;
	unsigned int order = model->prepared.order;
	struct vm_object *vmo = &model->as->vmo;
	unsigned long loc, first;
	struct gm_piece *p;

	while (s->nr < GM_STREAM_DEPTH) {
		if (s->pos >= end || s->failed != ULONG_MAX ||
		    fatal_signal_pending(current) ||
		    mmap_lock_is_contended(model->vma->vm_mm))
			return false;
		loc = vm_object_find(vmo, s->pos >> PAGE_SHIFT, &first);
		if (loc != GM_LOC_NONE) {
			if (gm_loc_to_hnode(loc) != model->hnode)
				return false;
			s->pos += vm_object_extent(vmo, s->pos >> PAGE_SHIFT) <<
				  PAGE_SHIFT;
			continue;
		}
		if (gm_fit_order(gdev, model->vma, s->pos, order) != order)
			return false;

		p = &s->piece[(s->head + s->nr) % GM_STREAM_DEPTH];
		*p = *model;
		p->start = ALIGN_DOWN(s->pos, PAGE_SIZE << order);
		if (gm_piece_start(p))
			return false;
		s->nr++;
		s->pos = gm_piece_end(p);
	}
	return true;
}

/**
 * gm_migrate_range() - move the pages of a range as long as that is easy
 * @as: address space
 * @hnode: destination
 * @vma: a shared VMA that userfaultfd does not watch
 * @addr: in: first byte of the range; out: of what is left of it
 * @end: end of the range, in @vma
 *
 * The copies of several pieces are under way at once.  Ends where a piece cannot
 * move in one step, which is then for the caller to make ready and for
 * gm_make_resident(), and where the mmap lock is wanted.
 *
 * Context: mmap lock held for reading, no block BUSY. Sleeps; no block of the
 * caller is BUSY when it returns.
 */
void gm_migrate_range(struct gm_as *as, struct gm_hnode *hnode,
		      struct vm_area_struct *vma, unsigned long *addr,
		      unsigned long end)
{
	unsigned int order = gm_fit_order(hnode->gdev, vma, *addr,
					  ilog2(gm_hnode_unit(hnode)));
	unsigned long size = PAGE_SIZE << order;
	struct gm_piece model = {
		.as = as,
		.hnode = hnode,
		.vma = vma,
		.nr = 1UL << order,
		.gfp = GM_STREAM_GFP,
		.prepared.order = order,
	};
	struct gm_stream s = { .pos = *addr, .failed = ULONG_MAX };
	unsigned long start = ALIGN_DOWN(*addr, size);
	bool more = true;

	/* The last piece may reach out of the range, not out of the VMA. */
	end = min(end, start + GM_STREAM_AHEAD * size);
	gm_as_prepare(as, NULL, hnode->gdev, start,
		      min(ALIGN(end, size), vma->vm_end), &model.prepared);

	for (;;) {
		more = more && gm_stream_fill(&s, &model, end);
		if (!s.nr)
			break;
		gm_stream_finish(&s);
		cond_resched();
	}
	*addr = max(*addr, min(s.pos, s.failed));
}

/**
 * gm_fit_order() - the largest piece around an address
 * @gdev: device
 * @vma: VMA
 * @addr: address in @vma
 * @max: not larger than this
 *
 * Context: mmap lock or VMA lock held for reading.
 * Return: an order that the device has and whose piece lies within @vma.
 */
unsigned int gm_fit_order(const struct gm_dev *gdev,
			  const struct vm_area_struct *vma,
			  unsigned long addr, unsigned int max)
{
	unsigned long orders = gdev->pgsizes & GENMASK(max, 0);

	while (orders > 1) {
		unsigned int order = __fls(orders);
		unsigned long start = ALIGN_DOWN(addr, PAGE_SIZE << order);

		if (start >= vma->vm_start &&
		    start + (PAGE_SIZE << order) <= vma->vm_end)
			return order;
		orders ^= BIT(order);
	}
	return 0;
}

/*
 * A huge page that cannot move has a reference too many: it cannot be split to
 * move in parts, and loses nothing but its place in the page table by a try.
 */
static bool gm_huge_mapped(struct vm_area_struct *vma, unsigned long addr)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);

	return pmd && pmd_trans_huge(pmdp_get_lockless(pmd));
}

/**
 * gm_populate() - bring the page at an address to a device
 * @as: address space
 * @hnode: destination
 * @ctx: context that must see it, or NULL
 * @vma: a shared VMA
 * @addr: address in @vma
 * @spent: as in gm_migrate()
 *
 * Moves the largest piece around @addr that can move as a whole.
 *
 * Context: mmap lock or VMA lock held for reading. Sleeps.
 * Return: as gm_migrate(), for the smallest piece that was tried.
 */
int gm_populate(struct gm_as *as, struct gm_hnode *hnode,
		struct gm_context *ctx, struct vm_area_struct *vma,
		unsigned long addr, struct gm_move **spent)
{
	unsigned int order = ilog2(gm_hnode_unit(hnode));
	int ret;

	for (;;) {
		order = gm_fit_order(hnode->gdev, vma, addr, order);
		ret = gm_migrate(as, hnode, ctx, vma, addr, order, spent);
		if (!order || (ret != -EBUSY && ret != -EEXIST))
			return ret;
		if (ret == -EBUSY && order == GM_ORDER_2M &&
		    gm_huge_mapped(vma, addr))
			return ret;
		order--;
	}
}
