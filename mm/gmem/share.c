// SPDX-License-Identifier: GPL-2.0
/*
 * Copy-on-write of device memory.
 *
 * Fork gives the child a view of every run that the parent has pages of, see
 * vm_object_share(), and from then on neither side's devices may write.  A
 * device that wants to gets a run of its own here, by a copy that stays on the
 * device; the last one left with the old run gets it back without one.  A CPU
 * that touches a page brings its own process's view home and leaves the others
 * alone.
 */
#include "gmem.h"

/**
 * gm_unshare() - give a block a run that nobody else has a view of
 * @as: address space
 * @block: BUSY block of @as, of the caller
 * @fresh: run of the size of @block; belongs to the block on success
 * @move: of the size of @block
 *
 * The translations of the block are gone afterwards, also on failure.
 *
 * Context: mmap lock or VMA lock held for reading. Sleeps.
 * Return: 0, or -EIO when the device could not copy; the block keeps its run.
 */
int gm_unshare(struct gm_as *as, struct gm_block *block, unsigned long fresh,
	       struct gm_move *move)
{
	struct gm_dev *gdev = gm_loc_to_hnode(block->loc)->gdev;
	unsigned long shared = block->loc;

	/*
	 * Before the last view of the old run can go, and before the copy: what
	 * mremap() left of a block may still be mapped for writing, for another
	 * context of the process.
	 */
	gm_as_unmap(as, gdev, gm_block_start(block), gm_block_end(block));
	if (gm_move_local(gdev, move, block, fresh))
		return -EIO;
	gm_run_copy_rmap(fresh, shared);
	vm_object_set_loc(&as->vmo, block, fresh);
	gm_run_put(shared);
	return 0;
}
