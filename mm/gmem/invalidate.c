// SPDX-License-Identifier: GPL-2.0
/*
 * Device translations, and taking them away.
 *
 * Each context subscribes to the MMU notifiers of its process; drivers never
 * see them.  The scheme is that of KVM: invalidate_range_start() marks a range
 * as being invalidated and removes its translations, and until the matching
 * end() no translation in the range is installed.  Installing and removing
 * exclude each other by the context's map lock, so a translation either is
 * there for start() to remove, or finds the range marked.
 *
 * When start() must not sleep (the OOM reaper) it marks the range and leaves
 * the translations to a worker.  Device memory that is zapped meanwhile waits
 * on the device's list of dead runs until the worker is through.
 * Host memory has a mechanism of its own, see remote.c.
 */
#include <linux/hash.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>

#include "gmem.h"

/* Translations gathered on the stack for one call of peer_map. */
#define GM_MAP_BATCH	16

/*
 * The map lock
 *
 * One lock for the device page table, or, if the driver can have different 2 MiB
 * of it changed at a time, one of several that their addresses choose.  Who
 * changes more than 2 MiB takes all of them, in order.
 *
 * Return: the first lock for [@start, @end), and in *@last the last one.
 */
unsigned int gm_ctx_locks(const struct gm_context *ctx, unsigned long start,
			  unsigned long end, unsigned int *last)
{
	const unsigned int shift = PAGE_SHIFT + GM_ORDER_2M;

	*last = 0;
	if (!ctx->gdev->mmu->map_concurrent)
		return 0;
	if (start >> shift == (end - 1) >> shift)
		return *last = hash_long(start >> shift, ilog2(GM_MAP_LOCKS));
	*last = GM_MAP_LOCKS - 1;
	return 0;
}

/**
 * gm_ctx_lock() - lock a part of the device page table
 * @ctx: context
 * @start: first address
 * @end: end of the range
 *
 * Context: May sleep. Taken in MMU notifiers and so in reclaim.
 */
void gm_ctx_lock(struct gm_context *ctx, unsigned long start,
		 unsigned long end)
{
	unsigned int i, last;

	for (i = gm_ctx_locks(ctx, start, end, &last); i <= last; i++)
		mutex_lock_nested(&ctx->map_lock[i], i);
}

/**
 * gm_ctx_unlock() - the reverse of gm_ctx_lock()
 * @ctx: context
 * @start: as for gm_ctx_lock()
 * @end: as for gm_ctx_lock()
 */
void gm_ctx_unlock(struct gm_context *ctx, unsigned long start,
		   unsigned long end)
{
	unsigned int i, last;

	for (i = gm_ctx_locks(ctx, start, end, &last); i <= last; i++)
		mutex_unlock(&ctx->map_lock[i]);
}

/* Context: Any context. */
bool gm_ctx_trylock(struct gm_context *ctx, unsigned long start,
		    unsigned long end)
{
	unsigned int i, last, first = gm_ctx_locks(ctx, start, end, &last);

	for (i = first; i <= last; i++) {
		if (mutex_trylock(&ctx->map_lock[i]))
			continue;
		while (i-- > first)
			mutex_unlock(&ctx->map_lock[i]);
		return false;
	}
	return true;
}

#ifdef CONFIG_LOCKDEP
void gm_ctx_assert_locked(struct gm_context *ctx, unsigned long start,
			  unsigned long end)
{
	unsigned int i, last;

	for (i = gm_ctx_locks(ctx, start, end, &last); i <= last; i++)
		lockdep_assert_held(&ctx->map_lock[i]);
}
#endif

/* A translation that is removed in part goes whole, up to the largest size. */
static struct gm_range gm_range_grown(unsigned long start, unsigned long end)
{
	const unsigned long size = PAGE_SIZE << GM_ORDER_2M;

	return (struct gm_range) {
		.start = ALIGN_DOWN(start, size),
		.end = end > ULONG_MAX - size ? end : ALIGN(end, size),
	};
}

static void gm_ctx_flush(struct gm_context *ctx, unsigned long start,
			 unsigned long end)
{
	struct gm_range range = gm_range_grown(start, end);

	ctx->gdev->mmu->tlb_invl(ctx, range.start, range.end);
}

/*
 * Have @change, which is peer_unmap or pmap_protect, made to [@start, @end), and
 * have the device forget what was there.
 *
 * The map lock is for the page table.  To wait for the device takes longer than
 * to change that, and other threads have other blocks to map and unmap; what
 * keeps this range from being mapped again meanwhile is not the lock.  Who finds
 * the table changed already, or the context dead, waits for the device all the
 * same: the other may still be waiting.
 *
 * Context: The range is marked as being invalidated, or its block is BUSY.
 */
static void gm_ctx_change(struct gm_context *ctx, unsigned long start,
			  unsigned long end,
			  void (*change)(struct gm_context *ctx,
					 unsigned long start,
					 unsigned long end))
{
	gm_ctx_lock(ctx, start, end);
	if (!ctx->dead)
		change(ctx, start, end);
	gm_ctx_unlock(ctx, start, end);
	gm_ctx_flush(ctx, start, end);
}

/*
 * Is a part of [@start, @end) being invalidated, or of what a large page over it
 * translates?  That may have lost its translation with another page, and nothing
 * takes its place before the device has forgotten it.
 */
static bool gm_ctx_inval_blocked(struct gm_context *ctx, unsigned long start,
				 unsigned long end)
{
	struct gm_range range = gm_range_grown(start, end);
	bool blocked;

	spin_lock(&ctx->inval_lock);
	blocked = ctx->inval_active && range.start < ctx->inval_end &&
		  range.end > ctx->inval_start;
	spin_unlock(&ctx->inval_lock);
	return blocked;
}

/*
 * Wait until no invalidation of [start, end) is under way, or for a moment:
 * several that overlap may keep the union of their ranges alive for long.
 *
 * Context: mmap lock or VMA lock may be held for reading; no block is BUSY.
 */
void gm_ctx_inval_wait(struct gm_context *ctx, unsigned long start,
		       unsigned long end)
{
	wait_event_timeout(ctx->inval_wait,
			   !gm_ctx_inval_blocked(ctx, start, end), HZ / 10);
}

/*
 * The largest translation that page @i of @block can be part of, within the
 * pages [i, end) that may be mapped.
 */
static unsigned int gm_map_order(const struct gm_dev *gdev,
				 const struct gm_block *block, unsigned long i,
				 unsigned long end)
{
	unsigned int order = gm_block_order(block);

	for (; order; order--) {
		unsigned long nr = 1UL << order;

		if (gdev->pgsizes & BIT(order) && IS_ALIGNED(i, nr) &&
		    i + nr <= end &&
		    find_next_zero_bit(block->valid, i + nr, i) >= i + nr)
			break;
	}
	return order;
}

/*
 * A zap may have left pieces that are smaller than the page tables were
 * prepared for; the next fault will know.
 */
static int gm_ctx_map_pages(struct gm_context *ctx, struct gm_block *block,
			    unsigned long i, unsigned long end,
			    unsigned int flags, unsigned int order)
{
	u64 base = gm_loc_addr(block->loc, 0);
	struct gm_map maps[GM_MAP_BATCH];
	unsigned int nr = 0;
	int ret = 0;

	for (; i < end && !ret; i += 1UL << maps[nr - 1].order) {
		i = find_next_bit(block->valid, end, i);
		if (i >= end)
			break;
		if (nr == GM_MAP_BATCH)
			nr = 0;
		maps[nr].va = gm_block_start(block) + (i << PAGE_SHIFT);
		maps[nr].addr = base + ((u64)i << PAGE_SHIFT);
		maps[nr].order = gm_map_order(ctx->gdev, block, i, end);
		maps[nr].flags = flags;
		if (maps[nr].order < order)
			return -EAGAIN;
		if (++nr == GM_MAP_BATCH)
			ret = ctx->gdev->mmu->peer_map(ctx, maps, nr);
	}
	if (!ret && nr && nr < GM_MAP_BATCH)
		ret = ctx->gdev->mmu->peer_map(ctx, maps, nr);
	return ret;
}

/*
 * Map what @block has of @vma for the device, whose page tables take pages of
 * at least @order, with the right to write if @flags has it and nothing forbids.
 *
 * The block is BUSY and the caller its owner, so its pages can only become
 * fewer, by a zap.  A zap comes after an invalidation of its range started, and
 * that either is seen here or waits for the map lock and removes what is mapped
 * now.
 *
 * Context: mmap lock or VMA lock held for reading, block BUSY.
 * Return: 0; -EAGAIN while the range is being invalidated, or when smaller
 * pages are needed; -ESRCH when the context is dead; or the errno of peer_map.
 */
int gm_ctx_map_block(struct gm_context *ctx, struct vm_area_struct *vma,
		     struct gm_block *block, unsigned int order,
		     unsigned int flags)
{
	unsigned long start = max(gm_block_start(block), vma->vm_start);
	unsigned long end = min(gm_block_end(block), vma->vm_end);
	unsigned long base = gm_block_start(block);
	bool failed = false;
	int ret;

	if (!(vma->vm_flags & VM_WRITE) || gm_run_shared(block->loc))
		flags = 0;
	/* Part of it may be in a large page, which is older than the VMA. */
	if (start > base || end < gm_block_end(block))
		gm_ctx_change(ctx, start, end, ctx->gdev->mmu->peer_unmap);

	gm_ctx_lock(ctx, start, end);
	if (ctx->dead) {
		ret = -ESRCH;
	} else if (gm_ctx_inval_blocked(ctx, start, end)) {
		ret = -EAGAIN;
	} else {
		ret = gm_ctx_map_pages(ctx, block, (start - base) >> PAGE_SHIFT,
				       (end - base) >> PAGE_SHIFT, flags,
				       order);
		failed = ret;
	}
	gm_ctx_unlock(ctx, start, end);
	if (failed)
		gm_ctx_change(ctx, start, end, ctx->gdev->mmu->peer_unmap);
	return ret;
}

/*
 * Map @block in every context of its device that was prepared for it.  Only
 * @ctx, if given, must succeed; another device job faults when it comes to the
 * range.
 *
 * Context: As gm_ctx_map_block().
 * Return: as gm_ctx_map_block() for @ctx.
 */
int gm_as_map_block(struct gm_as *as, const struct gm_context *ctx,
		    struct vm_area_struct *vma, struct gm_block *block,
		    const struct gm_prepared *prepared)
{
	const struct gm_dev *gdev = gm_loc_to_hnode(block->loc)->gdev;
	struct gm_context *other;
	int ret = 0, err;

	down_read(&as->ctx_sem);
	list_for_each_entry(other, &as->contexts, as_link) {
		if (other->gdev != gdev ||
		    (other != ctx && (!prepared->all ||
				      other->born >= prepared->births)))
			continue;
		err = gm_ctx_map_block(other, vma, block, prepared->order,
				       GM_MAP_WRITE);
		if (other == ctx)
			ret = err;
	}
	up_read(&as->ctx_sem);
	return ret;
}

/*
 * Prepare the device page table of a context.  What was prepared stays so, and
 * single pages are mostly near one another: of the last 2 MiB that were
 * prepared for them the driver is not asked again.
 */
static int gm_ctx_prepare(struct gm_context *ctx, unsigned long start,
			  unsigned long end, unsigned int order)
{
	const unsigned int shift = PAGE_SHIFT + GM_ORDER_2M;
	unsigned long window = start >> shift;
	int ret;

	if (order || (end - 1) >> shift != window)
		return ctx->gdev->mmu->pmap_prepare(ctx, start, end, order);
	/* Pairs with the release below. */
	if (smp_load_acquire(&ctx->prepared) == window + 1)
		return 0;
	start = window << shift;
	ret = ctx->gdev->mmu->pmap_prepare(ctx, start, start + BIT(shift), 0);
	if (ret)
		return ret;
	/* Who finds the window sees what the driver has done. */
	smp_store_release(&ctx->prepared, window + 1);
	return 0;
}

/*
 * Prepare the device page tables of every context of @gdev for a range, in
 * pages of at least prepared->order; the rest of @prepared is filled in.
 *
 * Context: mmap lock or VMA lock held for reading, no block BUSY. Sleeps.
 * Return: 0, or the errno of pmap_prepare for @ctx.
 */
int gm_as_prepare(struct gm_as *as, struct gm_context *ctx,
		  const struct gm_dev *gdev, unsigned long start,
		  unsigned long end, struct gm_prepared *prepared)
{
	struct gm_context *other;
	int ret = 0, err;

	prepared->all = true;
	down_read(&as->ctx_sem);
	prepared->births = as->births;
	list_for_each_entry(other, &as->contexts, as_link) {
		if (other->gdev != gdev)
			continue;
		err = gm_ctx_prepare(other, start, end, prepared->order);
		if (err)
			prepared->all = false;
		if (other == ctx)
			ret = err;
	}
	up_read(&as->ctx_sem);
	return ret;
}

/*
 * No context of @gdev translates [start, end) any more.
 *
 * Context: A block over the range is BUSY, so nothing is mapped again.
 */
void gm_as_unmap(struct gm_as *as, const struct gm_dev *gdev,
		 unsigned long start, unsigned long end)
{
	struct gm_context *ctx;

	down_read(&as->ctx_sem);
	list_for_each_entry(ctx, &as->contexts, as_link) {
		if (ctx->gdev == gdev)
			gm_ctx_change(ctx, start, end, gdev->mmu->peer_unmap);
	}
	up_read(&as->ctx_sem);
}

/* --- deferred invalidation ------------------------------------------------- */

/* Remove all translations in @ranges, with one flush if the device can. */
static void gm_ctx_unmap_ranges(struct gm_context *ctx,
				const struct gm_range *ranges, unsigned int nr)
{
	const struct gm_mmu *mmu = ctx->gdev->mmu;
	struct gm_range grown[GM_DEFERRED_RANGES];
	unsigned int i;

	gm_ctx_assert_locked(ctx, 0, ULONG_MAX);

	for (i = 0; i < nr; i++) {
		mmu->peer_unmap(ctx, ranges[i].start, ranges[i].end);
		grown[i] = gm_range_grown(ranges[i].start, ranges[i].end);
	}
	if (mmu->tlb_invl_coalesced) {
		mmu->tlb_invl_coalesced(ctx, grown, nr);
		return;
	}
	for (i = 0; i < nr; i++)
		mmu->tlb_invl(ctx, grown[i].start, grown[i].end);
}

static void gm_inval_work(struct work_struct *work)
{
	struct gm_context *ctx = container_of(work, struct gm_context,
					      inval_work);
	struct gm_range ranges[GM_DEFERRED_RANGES];
	struct gm_dev *gdev = ctx->gdev;
	unsigned long dead = GM_LOC_NONE;
	unsigned int nr;

	gm_ctx_lock(ctx, 0, ULONG_MAX);
	spin_lock(&ctx->inval_lock);
	nr = ctx->nr_deferred;
	memcpy(ranges, ctx->deferred, nr * sizeof(*ranges));
	ctx->nr_deferred = 0;
	spin_unlock(&ctx->inval_lock);
	if (!ctx->dead)
		gm_ctx_unmap_ranges(ctx, ranges, nr);
	gm_ctx_unlock(ctx, 0, ULONG_MAX);

	spin_lock(&gdev->dead_lock);
	if (!--gdev->deferred) {
		dead = gdev->dead;
		gdev->dead = GM_LOC_NONE;
	}
	spin_unlock(&gdev->dead_lock);
	gm_run_free_list(dead);
}

/* What finds no place of its own makes the last one larger, which is safe. */
static void gm_inval_defer(struct gm_context *ctx, unsigned long start,
			   unsigned long end)
{
	struct gm_range *last;
	bool first;

	spin_lock(&ctx->inval_lock);
	first = !ctx->nr_deferred;
	if (ctx->nr_deferred < GM_DEFERRED_RANGES) {
		last = &ctx->deferred[ctx->nr_deferred++];
		last->start = start;
		last->end = end;
	} else {
		last = &ctx->deferred[GM_DEFERRED_RANGES - 1];
		last->start = min(last->start, start);
		last->end = max(last->end, end);
	}
	if (first) {
		spin_lock(&ctx->gdev->dead_lock);
		ctx->gdev->deferred++;
		spin_unlock(&ctx->gdev->dead_lock);
	}
	spin_unlock(&ctx->inval_lock);
	if (first)
		queue_work(system_unbound_wq, &ctx->inval_work);
}

/* --- MMU notifier ---------------------------------------------------------- */

/* GMEM's own moves change CPU mappings, not who has the device's pages. */
static bool gm_inval_ignored(const struct gm_context *ctx,
			     const struct mmu_notifier_range *range)
{
	return range->event == MMU_NOTIFY_MIGRATE && range->owner == ctx->as;
}

static void gm_inval_now(struct gm_context *ctx,
			 const struct mmu_notifier_range *range)
{
	const struct gm_mmu *mmu = ctx->gdev->mmu;

	switch (range->event) {
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
		gm_ctx_change(ctx, range->start, range->end, mmu->pmap_protect);
		break;
	default:
		gm_ctx_change(ctx, range->start, range->end, mmu->peer_unmap);
		break;
	}
}

static int gm_inval_start(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	struct gm_context *ctx = container_of(mn, struct gm_context, notifier);

	if (gm_inval_ignored(ctx, range))
		return 0;

	spin_lock(&ctx->inval_lock);
	if (ctx->inval_active++) {
		ctx->inval_start = min(ctx->inval_start, range->start);
		ctx->inval_end = max(ctx->inval_end, range->end);
	} else {
		ctx->inval_start = range->start;
		ctx->inval_end = range->end;
	}
	spin_unlock(&ctx->inval_lock);

	if (mmu_notifier_range_blockable(range))
		gm_inval_now(ctx, range);
	else
		gm_inval_defer(ctx, range->start, range->end);
	return 0;
}

static void gm_inval_end(struct mmu_notifier *mn,
			 const struct mmu_notifier_range *range)
{
	struct gm_context *ctx = container_of(mn, struct gm_context, notifier);
	bool last;

	if (gm_inval_ignored(ctx, range))
		return;

	spin_lock(&ctx->inval_lock);
	last = !--ctx->inval_active;
	spin_unlock(&ctx->inval_lock);
	if (last)
		wake_up_all(&ctx->inval_wait);
}

/* The process has no address space any more, or the context is detached. */
static void gm_inval_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct gm_context *ctx = container_of(mn, struct gm_context, notifier);

	gm_ctx_lock(ctx, 0, ULONG_MAX);
	if (!ctx->dead) {
		ctx->gdev->mmu->peer_unmap(ctx, 0, ULONG_MAX);
		gm_ctx_flush(ctx, 0, ULONG_MAX);
		/* Not earlier: gm_inval_work() then has nothing to wait for. */
		ctx->dead = true;
	}
	gm_ctx_unlock(ctx, 0, ULONG_MAX);
}

/*
 * Does the device use host pages of [start, end)?  The caller has a page table
 * lock, and so cannot wait for the map lock.  Who has that is changing what the
 * device uses, mostly because it asked for it.
 */
static int gm_inval_young(struct mmu_notifier *mn, unsigned long start,
			  unsigned long end, bool clear)
{
	struct gm_context *ctx = container_of(mn, struct gm_context, notifier);
	const struct gm_mmu *mmu = ctx->gdev->mmu;
	bool young;

	/* To miss one that is being made costs a fault at most. */
	if (!mmu->harvest_accessed || data_race(xa_empty(&ctx->windows)))
		return 0;
	if (!gm_ctx_trylock(ctx, start, end))
		return 1;
	young = !ctx->dead && mmu->harvest_accessed(ctx, start, end, clear);
	gm_ctx_unlock(ctx, start, end);
	return young;
}

static int gm_inval_clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
				unsigned long start, unsigned long end)
{
	return gm_inval_young(mn, start, end, true);
}

static int gm_inval_test_young(struct mmu_notifier *mn, struct mm_struct *mm,
			       unsigned long addr)
{
	return gm_inval_young(mn, addr, addr + PAGE_SIZE, false);
}

static const struct mmu_notifier_ops gm_notifier_ops = {
	.invalidate_range_start = gm_inval_start,
	.invalidate_range_end = gm_inval_end,
	.clear_flush_young = gm_inval_clear_young,
	.clear_young = gm_inval_clear_young,
	.test_young = gm_inval_test_young,
	.release = gm_inval_release,
};

/*
 * Context: The mm has users; takes its mmap lock.
 * Return: 0, or the errno of mmu_notifier_register().
 */
int gm_ctx_inval_register(struct gm_context *ctx)
{
	unsigned int i;

	/*
	 * The map lock is taken in notifiers and so in reclaim; say so once,
	 * for lockdep to report an allocation under it the first time.
	 */
	fs_reclaim_acquire(GFP_KERNEL);
	for (i = 0; i < GM_MAP_LOCKS; i++)
		might_lock_nested(&ctx->map_lock[i], i);
	fs_reclaim_release(GFP_KERNEL);

	INIT_WORK(&ctx->inval_work, gm_inval_work);
	ctx->notifier.ops = &gm_notifier_ops;
	return mmu_notifier_register(&ctx->notifier, ctx->as->mm);
}

/* The reverse; no translation, no callback and no work is left. */
void gm_ctx_inval_unregister(struct gm_context *ctx)
{
	mmu_notifier_unregister(&ctx->notifier, ctx->as->mm);
	flush_work(&ctx->inval_work);
}
