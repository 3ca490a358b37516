// SPDX-License-Identifier: GPL-2.0
/*
 * The vm_object: which pages of an address space a device holds, and where.
 *
 * An xarray by virtual page number.  A single page at rest is a value, so that
 * it costs one slot; anything larger, and anything that is BUSY, is a gm_block,
 * stored as one multi-order entry.  Clearing a page never allocates: it clears
 * a bit, or erases an entry.  See gmem.h for the states and the locks.
 */
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "gmem.h"

void vm_object_init(struct vm_object *vmo)
{
	xa_init(&vmo->pages);
	vmo->anchor = ULONG_MAX;
}

/*
 * The anchor
 *
 * A page that comes and goes alone would make and free a node for each level of
 * the xarray every time, and each look at it would descend through all of them.
 * So the slot of a single page that came lately is the anchor: when the page
 * goes, a zero entry stays in the slot, which everybody takes for nothing, and
 * with it the node.  As long as there is an anchor its node is there, and what
 * looks for a page near it begins there.
 *
 * The slot has an entry of order 0, whatever happens: who puts a larger one over
 * it raises the anchor before, and so does who moves entries.
 */
static bool vm_object_at_anchor(const struct vm_object *vmo, unsigned long vpn)
{
	return (vpn ^ vmo->anchor) < XA_CHUNK_SIZE;
}

/* Begin at the anchor, if @xas, which is fresh, looks for something near it. */
static void vm_object_seek(struct vm_object *vmo, struct xa_state *xas)
{
	lockdep_assert_held(&vmo->pages.xa_lock);
	if (!vm_object_at_anchor(vmo, xas->xa_index))
		return;
	xas->xa_node = vmo->node;
	xas->xa_offset = xas->xa_index % XA_CHUNK_SIZE;
}

static void vm_object_raise_anchor(struct vm_object *vmo)
{
	XA_STATE(xas, &vmo->pages, vmo->anchor);

	if (vmo->anchor == ULONG_MAX)
		return;
	vm_object_seek(vmo, &xas);
	vmo->anchor = ULONG_MAX;
	if (xa_is_zero(xas_load(&xas)))
		xas_store(&xas, NULL);
}

/* @xas has just stored a single page. */
static void vm_object_drop_anchor(struct vm_object *vmo, struct xa_state *xas)
{
	if (vm_object_at_anchor(vmo, xas->xa_index))
		return;
	/* The entry at 0 may be moved out of its node, and that be freed. */
	if (xas->xa_index < XA_CHUNK_SIZE)
		return;
	vm_object_raise_anchor(vmo);
	vmo->anchor = xas->xa_index;
	vmo->node = xas->xa_node;
}

static void *vm_object_load(struct vm_object *vmo, struct xa_state *xas)
{
	void *entry;

	vm_object_seek(vmo, xas);
	entry = xas_load(xas);
	return xa_is_zero(entry) ? NULL : entry;
}

/* @xas has what goes. */
static void vm_object_erase(struct vm_object *vmo, struct xa_state *xas)
{
	xas_store(xas, vmo->anchor == xas->xa_index ? XA_ZERO_ENTRY : NULL);
}

/* Keep nothing that no page needs. */
void vm_object_trim(struct vm_object *vmo)
{
	xa_lock(&vmo->pages);
	vm_object_raise_anchor(vmo);
	xa_unlock(&vmo->pages);
}

struct gm_block *gm_block_alloc(unsigned int order, gfp_t gfp)
{
	struct gm_block *block;

	/* Of a single page it lives for one move: nobody is charged. */
	if (!order)
		block = kzalloc(struct_size_t(struct gm_block, valid, 1),
				gfp & ~__GFP_ACCOUNT);
	else
		block = kzalloc(struct_size(block, valid,
					    BITS_TO_LONGS(1UL << order)), gfp);
	if (block) {
		refcount_set(&block->refs, 1);
		block->busy = true;
	}
	return block;
}

void gm_block_put(struct gm_block *block)
{
	if (block && refcount_dec_and_test(&block->refs))
		kfree(block);
}

/* Wait until somebody else's block is no longer BUSY. */
void gm_block_wait(struct gm_block *block)
{
	wait_var_event(&block->busy, !READ_ONCE(block->busy));
}

/* A value for page @i of @block, which it may outlive. */
static void *gm_block_page(const struct gm_block *block, unsigned long i)
{
	return xa_mk_value(gm_loc(gm_loc_hnode(block->loc),
				  gm_loc_dpfn(block->loc) + i, 0));
}

/*
 * Publish @block, BUSY and without valid pages, with the caller as its owner.
 * The vm_object takes over the reference of gm_block_alloc() and the owner
 * gets one of its own, which vm_object_release() drops.  Who owns another block
 * meanwhile must not enter reclaim, and says so in @gfp.
 *
 * Context: Process context. May sleep.
 * Return: 0, -EEXIST when something is in the range, -ENOMEM.
 */
int vm_object_insert(struct vm_object *vmo, struct gm_block *block, gfp_t gfp)
{
	XA_STATE_ORDER(xas, &vmo->pages, block->vpn, gm_block_order(block));

	do {
		xas_lock(&xas);
		if (gm_block_order(block)) {
			if ((block->vpn ^ vmo->anchor) < gm_block_pages(block))
				vm_object_raise_anchor(vmo);
			if (xas_find_conflict(&xas))
				xas_set_err(&xas, -EEXIST);
		} else if (vm_object_load(vmo, &xas)) {
			xas_set_err(&xas, -EEXIST);
		}
		if (!xas_error(&xas))
			xas_store(&xas, block);
		if (!xas_error(&xas)) {
			refcount_inc(&block->refs);
			if (!gm_block_order(block))
				vm_object_drop_anchor(vmo, &xas);
		}
		xas_unlock(&xas);
	} while (xas_nomem(&xas, gfp));

	return xas_error(&xas);
}

/*
 * Make what holds page @vpn BUSY, with the caller as owner.
 *
 * @spare is an order 0 block for when a value must become one, and is consumed
 * then.
 *
 * Context: Any context that may take spinlocks; never sleeps.
 * Return: the block with a reference; NULL when there is nothing; -EBUSY when
 * somebody else owns it, and *@owned is that block, with a reference; -ENOMEM
 * when a spare is needed and none was given.
 */
struct gm_block *vm_object_claim(struct vm_object *vmo, unsigned long vpn,
				 struct gm_block **spare,
				 struct gm_block **owned)
{
	XA_STATE(xas, &vmo->pages, vpn);
	struct gm_block *block;
	void *entry;

	xas_lock(&xas);
	entry = vm_object_load(vmo, &xas);
	if (!entry) {
		block = NULL;
	} else if (!xa_is_value(entry)) {
		block = entry;
		refcount_inc(&block->refs);
		if (block->busy) {
			*owned = block;
			block = ERR_PTR(-EBUSY);
		} else {
			block->busy = true;
		}
	} else if (!*spare) {
		block = ERR_PTR(-ENOMEM);
	} else {
		block = *spare;
		*spare = NULL;
		block->vpn = vpn;
		block->loc = xa_to_value(entry);
		__set_bit(0, block->valid);
		refcount_inc(&block->refs);
		xas_store(&xas, block);
	}
	xas_unlock(&xas);
	return block;
}

/*
 * Make the block that holds page @vpn BUSY, with the caller as owner, waiting
 * for who owns it.  That the mmap lock is held for writing does not mean that
 * nobody does: a CPU fault under the lock of another VMA, with pages of the same
 * block, may.  It never takes the mmap lock, so the wait ends.
 *
 * Context: mmap lock held for writing. Sleeps.
 * Return: the block with a reference, or NULL when there is none.
 */
static struct gm_block *vm_object_own(struct vm_object *vmo, unsigned long vpn)
{
	struct gm_block *block, *owned, *none = NULL;

	while ((block = vm_object_claim(vmo, vpn, &none, &owned))) {
		if (PTR_ERR_OR_ZERO(block) == -EBUSY) {
			gm_block_wait(owned);
			gm_block_put(owned);
			continue;
		}
		/* A single page. */
		if (IS_ERR(block))
			return NULL;
		break;
	}
	return block;
}

/*
 * Make the block around the @nr missing pages from @vpn on BUSY, with the caller
 * as owner, if they may join it.
 *
 * They may not when what is missing here is another process's, nor when eviction
 * would not find it in @vma: where VMAs were unmapped, others may have come
 * since the block did.  To look before the block is BUSY matters: it may lose
 * its last page then, and the anon_vma of its run is only there for sure if it
 * is that of a VMA which the caller has locked.
 *
 * Context: As vm_object_claim().
 * Return: the block with a reference; NULL when there is none around all of
 * them, or it has one; -EXDEV when they may not join; -EBUSY as in
 * vm_object_claim().
 */
struct gm_block *vm_object_claim_around(struct vm_object *vmo,
					unsigned long vpn, unsigned long nr,
					const struct gm_hnode *hnode,
					struct vm_area_struct *vma,
					struct gm_block **owned)
{
	unsigned long pgoff = linear_page_index(vma, vpn << PAGE_SHIFT);
	struct gm_block *block;
	unsigned long i;
	void *entry;

	xa_lock(&vmo->pages);
	entry = xa_load(&vmo->pages, vpn);
	block = xa_is_value(entry) ? NULL : entry;
	if (!block)
		goto unlock;
	i = vpn - block->vpn;
	if (i + nr > gm_block_pages(block)) {
		block = NULL;
	} else if (block->busy) {
		refcount_inc(&block->refs);
		*owned = block;
		block = ERR_PTR(-EBUSY);
	} else if (find_next_bit(block->valid, i + nr, i) < i + nr) {
		block = NULL;
	} else if (gm_loc_to_hnode(block->loc) != hnode ||
		   !gm_run_takes(block->loc, vma->anon_vma, pgoff - i)) {
		block = ERR_PTR(-EXDEV);
	} else {
		refcount_inc(&block->refs);
		block->busy = true;
	}
unlock:
	xa_unlock(&vmo->pages);
	return block;
}

static void gm_block_unbusy(struct gm_block *block)
{
	/* Pairs with the barrier of a sleeper in gm_block_wait(). */
	smp_mb();
	wake_up_var(&block->busy);
}

/*
 * The owner of a BUSY block is done with it and gives up its reference.  The
 * block stays when it still has pages, and otherwise goes, with its run for the
 * caller to retire.
 *
 * Context: Any context that may take spinlocks; never sleeps.
 * Return: loc of the run nobody has any more, or GM_LOC_NONE.
 */
unsigned long vm_object_release(struct vm_object *vmo, struct gm_block *block)
{
	XA_STATE_ORDER(xas, &vmo->pages, block->vpn, gm_block_order(block));
	unsigned long loc = GM_LOC_NONE;
	bool stays;

	xas_lock(&xas);
	if (!gm_block_order(block))
		vm_object_seek(vmo, &xas);
	if (bitmap_empty(block->valid, gm_block_pages(block))) {
		stays = false;
		loc = block->loc;
		vm_object_erase(vmo, &xas);
	} else {
		stays = gm_block_order(block);
		if (!stays)
			xas_store(&xas, xa_mk_value(block->loc));
	}
	WRITE_ONCE(block->busy, false);
	xas_unlock(&xas);

	gm_block_unbusy(block);
	if (!stays)
		gm_block_put(block);
	gm_block_put(block);
	return loc;
}

/* Page @i, which may be gone already, and up to @max - 1 that follow on it. */
static unsigned int gm_block_zap(struct gm_block *block, unsigned int i,
				 unsigned int max)
{
	unsigned int end = min_t(unsigned int, i + max, gm_block_pages(block));
	unsigned int nr = find_next_zero_bit(block->valid, end, i) - i;

	bitmap_clear(block->valid, i, nr);
	return nr ?: 1;
}

/*
 * Page @vpn is gone, and of the *@nr pages from there those that follow it in
 * its block without a hole: *@nr says how many they were.  Called under their
 * page table lock, by zaps: never waits, never allocates.  A BUSY block is left
 * to its owner.
 *
 * Return: loc of the run nobody has any more, or GM_LOC_NONE.
 */
unsigned long vm_object_zap(struct vm_object *vmo, unsigned long vpn,
			    unsigned int *nr)
{
	XA_STATE(xas, &vmo->pages, vpn);
	unsigned long loc = GM_LOC_NONE;
	struct gm_block *block = NULL;
	unsigned int zapped = 1;
	void *entry;

	xas_lock(&xas);
	entry = vm_object_load(vmo, &xas);
	if (xa_is_value(entry)) {
		loc = xa_to_value(entry);
		vm_object_erase(vmo, &xas);
	} else if (entry) {
		block = entry;
		zapped = gm_block_zap(block, vpn - block->vpn, *nr);
		if (block->busy ||
		    !bitmap_empty(block->valid, gm_block_pages(block))) {
			block = NULL;
		} else {
			loc = block->loc;
			xas_set_order(&xas, block->vpn, gm_block_order(block));
			vm_object_erase(vmo, &xas);
		}
	}
	xas_unlock(&xas);
	gm_block_put(block);
	*nr = zapped;
	return loc;
}

/*
 * Where is page @vpn?
 *
 * Context: Any context. The answer may be out of date at once, unless the page
 * table lock of the page is held.
 * Return: loc of the run that holds the page, and in *@first the first virtual
 * page of the run; GM_LOC_NONE when no device has the page.
 */
unsigned long vm_object_find(struct vm_object *vmo, unsigned long vpn,
			     unsigned long *first)
{
	XA_STATE(xas, &vmo->pages, vpn);
	unsigned long loc = GM_LOC_NONE;
	struct gm_block *block;
	void *entry;

	xas_lock(&xas);
	entry = vm_object_load(vmo, &xas);
	if (xa_is_value(entry)) {
		loc = xa_to_value(entry);
		*first = vpn;
	} else if (entry) {
		block = entry;
		if (test_bit(vpn - block->vpn, block->valid)) {
			loc = block->loc;
			*first = block->vpn;
		}
	}
	xas_unlock(&xas);
	return loc;
}

/*
 * Context: Any context.
 * Return: the first page from @vpn to @last, inclusive, that a device has, or
 * ULONG_MAX.
 */
unsigned long vm_object_next(struct vm_object *vmo, unsigned long vpn,
			     unsigned long last)
{
	XA_STATE(xas, &vmo->pages, vpn);
	unsigned long found = ULONG_MAX;
	void *entry;

	xas_lock(&xas);
	xas_for_each(&xas, entry, last) {
		struct gm_block *block = entry;
		unsigned long bit;

		if (xa_is_zero(entry))
			continue;
		if (xa_is_value(entry)) {
			found = xas.xa_index;
			break;
		}
		bit = vpn > block->vpn ? vpn - block->vpn : 0;
		bit = find_next_bit(block->valid, gm_block_pages(block), bit);
		if (bit < gm_block_pages(block)) {
			found = block->vpn + bit;
			break;
		}
	}
	xas_unlock(&xas);
	return found > last ? ULONG_MAX : found;
}

/*
 * Context: Any context.
 * Return: how many pages from @vpn on, without a gap and within one entry, a
 * device has.
 */
unsigned long vm_object_extent(struct vm_object *vmo, unsigned long vpn)
{
	struct gm_block *block;
	unsigned long nr = 0;
	void *entry;

	xa_lock(&vmo->pages);
	entry = xa_load(&vmo->pages, vpn);
	if (xa_is_value(entry)) {
		nr = 1;
	} else if (entry) {
		block = entry;
		vpn -= block->vpn;
		nr = find_next_zero_bit(block->valid, gm_block_pages(block),
					vpn) - vpn;
	}
	xa_unlock(&vmo->pages);
	return nr;
}

/* Pages of a BUSY block come; under their page table lock, by its owner. */
void vm_object_set_valid(struct vm_object *vmo, struct gm_block *block,
			 unsigned long from, unsigned long nr)
{
	xa_lock(&vmo->pages);
	bitmap_set(block->valid, from, nr);
	xa_unlock(&vmo->pages);
}

/* Pages of a BUSY block go; under their page table lock, by its owner. */
void vm_object_clear_valid(struct vm_object *vmo, struct gm_block *block,
			   unsigned long from, unsigned long nr)
{
	xa_lock(&vmo->pages);
	bitmap_clear(block->valid, from, nr);
	xa_unlock(&vmo->pages);
}

/* A BUSY block gets another run; by its owner. */
void vm_object_set_loc(struct vm_object *vmo, struct gm_block *block,
		       unsigned long loc)
{
	xa_lock(&vmo->pages);
	block->loc = loc;
	xa_unlock(&vmo->pages);
}

/*
 * Context: As vm_object_find().
 * Return: true when a device has page @vpn and nobody may write to it.
 */
bool vm_object_shared(struct vm_object *vmo, unsigned long vpn)
{
	struct gm_block *block;
	bool shared = false;
	void *entry;

	xa_lock(&vmo->pages);
	entry = xa_load(&vmo->pages, vpn);
	if (xa_is_value(entry)) {
		shared = gm_run_shared(xa_to_value(entry));
	} else if (entry) {
		block = entry;
		shared = gm_run_shared(block->loc);
	}
	xa_unlock(&vmo->pages);
	return shared;
}

/* Give up every page, whatever becomes of the markers. */
void vm_object_destroy(struct vm_object *vmo)
{
	struct gm_block *block;
	unsigned long index;
	void *entry;

	vm_object_trim(vmo);
	xa_for_each(&vmo->pages, index, entry) {
		xa_erase(&vmo->pages, index);
		block = xa_is_value(entry) ? NULL : entry;
		gm_run_put(block ? block->loc : xa_to_value(entry));
		gm_block_put(block);
	}
}

/* --- fork ------------------------------------------------------------------------ */

static int gm_share_page(struct vm_object *child, unsigned long vpn,
			 void *entry)
{
	unsigned long loc = xa_to_value(entry);
	int ret;

	if (!gm_run_get(loc, 1))
		return -EOVERFLOW;
	ret = xa_err(xa_store(&child->pages, vpn, entry, GFP_KERNEL_ACCOUNT));
	if (ret)
		gm_run_put(loc);
	return ret;
}

/*
 * The child's counterpart of @block, BUSY: the one it has already, with pages
 * of another VMA, or a new one.
 */
static struct gm_block *gm_share_block(struct vm_object *child,
				       const struct gm_block *block)
{
	struct gm_block *copy;
	int ret;

	copy = vm_object_own(child, block->vpn);
	if (copy)
		return copy;
	copy = gm_block_alloc(gm_block_order(block), GFP_KERNEL_ACCOUNT);
	if (!copy)
		return ERR_PTR(-ENOMEM);
	copy->vpn = block->vpn;
	copy->loc = block->loc;
	ret = -EOVERFLOW;
	if (!gm_run_get(block->loc, 1))
		goto err_free;
	ret = vm_object_insert(child, copy, GFP_KERNEL_ACCOUNT);
	if (ret)
		goto err_run;
	return copy;

err_run:
	gm_run_put(block->loc);
err_free:
	gm_block_put(copy);
	return ERR_PTR(ret);
}

/*
 * Give @child a view of each page from @vpn to @last, inclusive, that @vmo has.
 *
 * Context: Both mmap locks, and the VMA lock of the pages, held for writing.
 * Sleeps.
 * Return: 0; -ENOMEM; or -EOVERFLOW when a run has too many views. Whatever
 * @child got until then stays.
 */
int vm_object_share(struct vm_object *vmo, struct vm_object *child,
		    unsigned long vpn, unsigned long last)
{
	struct gm_block *block, *copy;
	unsigned long bit, end;
	void *entry;
	int ret;

	while ((vpn = vm_object_next(vmo, vpn, last)) <= last) {
		entry = xa_load(&vmo->pages, vpn);
		if (xa_is_value(entry)) {
			ret = gm_share_page(child, vpn++, entry);
			if (ret)
				return ret;
			continue;
		}
		block = vm_object_own(vmo, vpn);
		if (!block)
			continue;
		copy = gm_share_block(child, block);
		if (!IS_ERR(copy)) {
			bit = vpn - block->vpn;
			end = min(last - block->vpn + 1, gm_block_pages(block));
			for_each_set_bit_from(bit, block->valid, end)
				vm_object_set_valid(child, copy, bit, 1);
			vm_object_release(child, copy);
			vpn = block->vpn + end;
		}
		vm_object_release(vmo, block);
		if (IS_ERR(copy))
			return PTR_ERR(copy);
	}
	return 0;
}

/* --- mremap() -------------------------------------------------------------------- */

/* Replace the caller's BUSY @block, if it can, by a value for each page. */
static int vm_object_flatten(struct vm_object *vmo, struct gm_block *block)
{
	unsigned int order = gm_block_order(block);
	unsigned long i, pages = gm_block_pages(block);
	unsigned int nr = bitmap_weight(block->valid, pages);
	XA_STATE(xas, &vmo->pages, block->vpn);

	if (!gm_run_get(block->loc, nr)) {
		vm_object_release(vmo, block);
		return -EOVERFLOW;
	}
	xas_split_alloc(&xas, block, order, GFP_KERNEL_ACCOUNT);
	if (xas_error(&xas)) {
		while (nr--)
			gm_run_put(block->loc);
		vm_object_release(vmo, block);
		return xas_error(&xas);
	}
	xas_lock(&xas);
	xas_split(&xas, block, order);
	for (i = 0; i < pages; i++) {
		xas_set(&xas, block->vpn + i);
		xas_store(&xas, test_bit(i, block->valid) ?
			  gm_block_page(block, i) : NULL);
	}
	WRITE_ONCE(block->busy, false);
	xas_unlock(&xas);
	gm_block_unbusy(block);
	gm_run_put(block->loc);
	/* The reference of the vm_object, and the owner's. */
	gm_block_put(block);
	gm_block_put(block);
	return 0;
}

/*
 * What cannot stay a block when the pages from @vpn to @last move by @delta,
 * because it moves only in part or out of alignment, becomes single pages.
 */
static int vm_object_cut(struct vm_object *vmo, unsigned long vpn,
			 unsigned long last, unsigned long delta)
{
	struct gm_block *block;
	unsigned long index;
	void *entry;
	int ret;

	xa_for_each_range(&vmo->pages, index, entry, vpn, last) {
		if (xa_is_value(entry))
			continue;
		block = vm_object_own(vmo, index);
		if (!block)
			continue;
		if (block->vpn >= vpn &&
		    block->vpn + gm_block_pages(block) - 1 <= last &&
		    IS_ALIGNED(delta, gm_block_pages(block))) {
			vm_object_release(vmo, block);
			continue;
		}
		ret = vm_object_flatten(vmo, block);
		if (ret)
			return ret;
	}
	return 0;
}

static unsigned int gm_entry_order(void *entry)
{
	return xa_is_value(entry) ? 0 : gm_block_order(entry);
}

/* Have slots for a copy of each entry, @delta further on. */
static int vm_object_reserve(struct vm_object *vmo, unsigned long vpn,
			     unsigned long last, unsigned long delta)
{
	unsigned long index;
	void *entry;

	xa_for_each_range(&vmo->pages, index, entry, vpn, last) {
		XA_STATE_ORDER(xas, &vmo->pages, (index + delta),
			       gm_entry_order(entry));

		do {
			xas_lock(&xas);
			xas_store(&xas, XA_ZERO_ENTRY);
			xas_unlock(&xas);
		} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));
		if (xas_error(&xas))
			return xas_error(&xas);
	}
	return 0;
}

/*
 * The pages of @nr from @vpn on are about to move to @to, where nothing is
 * mapped and which does not overlap.  Everything that the move needs is
 * allocated; vm_object_rekey_end() must follow, whatever this returns.
 *
 * Context: mmap lock held for writing, and the locks of the VMAs of both ranges.
 * Sleeps.
 * Return: 0; -ENOMEM; or -EOVERFLOW when a run has too many views. An error
 * leaves all pages where they were.
 */
int vm_object_rekey_begin(struct vm_object *vmo, unsigned long vpn,
			  unsigned long to, unsigned long nr)
{
	unsigned long last = vpn + nr - 1, delta = to - vpn;
	int ret;

	/* Its zero entry would look like a slot that is reserved here. */
	vm_object_trim(vmo);
	ret = vm_object_cut(vmo, vpn, last, delta);
	/* What reaches in from outside does not stay a block, wherever it is. */
	if (!ret)
		ret = vm_object_cut(vmo, to, to + nr - 1, 1);
	return ret ?: vm_object_reserve(vmo, vpn, last, delta);
}

/*
 * One entry of those from @vpn to @last.  A block that reaches out of the range
 * is there when it could not be cut: it has no pages in the range, or none of
 * them moved.  Its other pages, and so itself, are not the caller's alone.
 */
static void gm_rekey_entry(struct vm_object *vmo, unsigned long index,
			   unsigned long vpn, unsigned long last,
			   unsigned long delta, bool moved)
{
	XA_STATE(xas, &vmo->pages, index);
	struct gm_block *block = NULL;
	void *entry;

	xas_lock(&xas);
	entry = xas_load(&xas);
	if (!xa_is_value(entry))
		block = entry;
	if (!entry || xa_is_zero(entry) ||
	    (block && (block->vpn < vpn ||
		       block->vpn + gm_block_pages(block) - 1 > last)))
		goto unlock;

	if (moved) {
		xas_store(&xas, NULL);
		if (block)
			block->vpn += delta;
	}
	xas_set_order(&xas, index + delta, gm_entry_order(entry));
	if (xa_is_zero(xas_load(&xas)))
		xas_store(&xas, moved ? entry : NULL);
	else
		WARN_ON_ONCE(moved);
unlock:
	xas_unlock(&xas);
}

/*
 * The PTEs moved, if @moved, and the pages follow; or they did not, and what
 * was reserved is given up.
 *
 * Context: As vm_object_rekey_begin(). Allocates nothing.
 */
void vm_object_rekey_end(struct vm_object *vmo, unsigned long vpn,
			 unsigned long to, unsigned long nr, bool moved)
{
	unsigned long index, last = vpn + nr - 1;
	void *entry;

	xa_for_each_range(&vmo->pages, index, entry, vpn, last)
		gm_rekey_entry(vmo, index, vpn, last, to - vpn, moved);
}
