// SPDX-License-Identifier: GPL-2.0
/*
 * The vm_object: which pages of an address space a device holds, and where.
 *
 * An xarray by virtual page number.  A single page at rest is a value, so that
 * it costs one slot; anything larger, and anything that is BUSY, is a gm_block,
 * stored as one multi-order entry.  Clearing a page never allocates: it clears
 * a bit, or erases an entry.  See gmem.h for the states and the locks.
 */
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "gmem.h"

void vm_object_init(struct vm_object *vmo)
{
	xa_init(&vmo->pages);
}

struct gm_block *gm_block_alloc(unsigned int order, gfp_t gfp)
{
	struct gm_block *block;

	block = kzalloc(struct_size(block, valid, BITS_TO_LONGS(1UL << order)),
			gfp);
	if (block) {
		refcount_set(&block->refs, 1);
		block->busy = true;
	}
	return block;
}

void gm_block_put(struct gm_block *block)
{
	if (block && refcount_dec_and_test(&block->refs))
		kfree_rcu(block, rcu);
}

/* Wait until somebody else's block is no longer BUSY. */
void gm_block_wait(struct gm_block *block)
{
	wait_var_event(&block->busy, !READ_ONCE(block->busy));
}

/*
 * Publish @block, BUSY and without valid pages, with the caller as its owner.
 * The vm_object takes over the reference of gm_block_alloc() and the owner
 * gets one of its own, which vm_object_release() drops.
 *
 * Context: Process context. May sleep.
 * Return: 0, -EEXIST when something is in the range, -ENOMEM.
 */
int vm_object_insert(struct vm_object *vmo, struct gm_block *block)
{
	XA_STATE_ORDER(xas, &vmo->pages, block->vpn, gm_block_order(block));

	do {
		xas_lock(&xas);
		if (xas_find_conflict(&xas)) {
			xas_set_err(&xas, -EEXIST);
		} else {
			xas_store(&xas, block);
			if (!xas_error(&xas))
				refcount_inc(&block->refs);
		}
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL_ACCOUNT));

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
	entry = xas_load(&xas);
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
	if (bitmap_empty(block->valid, gm_block_pages(block))) {
		stays = false;
		loc = block->loc;
		xas_store(&xas, NULL);
	} else {
		stays = gm_block_order(block);
		if (!stays)
			xas_store(&xas, xa_mk_value(block->loc));
	}
	WRITE_ONCE(block->busy, false);
	xas_unlock(&xas);

	/* Pairs with the barrier of a sleeper in gm_block_wait(). */
	smp_mb();
	wake_up_var(&block->busy);
	if (!stays)
		gm_block_put(block);
	gm_block_put(block);
	return loc;
}

/*
 * Page @vpn is gone.  Called under its page table lock, by zaps: never waits,
 * never allocates.  A BUSY block is left to its owner.
 *
 * Return: loc of the run nobody has any more, or GM_LOC_NONE.
 */
unsigned long vm_object_zap(struct vm_object *vmo, unsigned long vpn)
{
	XA_STATE(xas, &vmo->pages, vpn);
	unsigned long loc = GM_LOC_NONE;
	struct gm_block *block = NULL;
	void *entry;

	xas_lock(&xas);
	entry = xas_load(&xas);
	if (xa_is_value(entry)) {
		loc = xa_to_value(entry);
		xas_store(&xas, NULL);
	} else if (entry) {
		block = entry;
		__clear_bit(vpn - block->vpn, block->valid);
		if (block->busy ||
		    !bitmap_empty(block->valid, gm_block_pages(block))) {
			block = NULL;
		} else {
			loc = block->loc;
			xas_set_order(&xas, block->vpn, gm_block_order(block));
			xas_store(&xas, NULL);
		}
	}
	xas_unlock(&xas);
	gm_block_put(block);
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
	unsigned long loc = GM_LOC_NONE;
	struct gm_block *block;
	void *entry;

	xa_lock(&vmo->pages);
	entry = xa_load(&vmo->pages, vpn);
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
	xa_unlock(&vmo->pages);
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
