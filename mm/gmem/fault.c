// SPDX-License-Identifier: GPL-2.0
/*
 * Device page faults.
 *
 * A fault takes the mmap lock of its process for reading, finds out where the
 * page is, and brings it to the device, or, when it cannot or should not move,
 * maps it where it is.  Whatever needs the lock dropped (room on the device,
 * pages parked in another CPU's LRU batch, a notifier for host memory) is done
 * without it, and the fault starts over.
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/userfaultfd_k.h>

#include "../internal.h"
#include "gmem.h"

/* Attempts to move a page before it is mapped where it is. */
#define GM_FAULT_TRIES	6

/*
 * How often things may change under an attempt before the device gets what it
 * asked for where it is: a page that others fight for must not starve a job.
 */
#define GM_FAULT_RETRIES	64

/*
 * Only memory that can lose its pages without anybody else noticing: private
 * and anonymous, not locked, not growing.
 */
bool gm_vma_can_share(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma) &&
	       !(vma->vm_flags & (VM_SHARED | VM_SPECIAL | VM_HUGETLB |
				  VM_GROWSDOWN | VM_GROWSUP | VM_LOCKED |
				  VM_DROPPABLE));
}

/* Let core MM bring a page into a state that can move. */
static int gm_fault_in(struct vm_area_struct *vma, unsigned long addr)
{
	unsigned int flags = FAULT_FLAG_REMOTE;
	vm_fault_t ret;

	flags |= vma->vm_flags & VM_WRITE ? FAULT_FLAG_WRITE :
					    FAULT_FLAG_UNSHARE;
	ret = handle_mm_fault(vma, addr, flags, NULL);
	return ret & VM_FAULT_ERROR ? vm_fault_to_errno(ret, FOLL_HWPOISON) : 0;
}

/*
 * Another device has the block around a page, though not the page itself.  The
 * block goes with its last page, and the pages may be in several VMAs.
 */
static int gm_clear_away(struct mm_struct *mm, unsigned long addr)
{
	unsigned long start = ALIGN_DOWN(addr, PAGE_SIZE << GM_ORDER_2M);
	unsigned long end = start + (PAGE_SIZE << GM_ORDER_2M);
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, start);
	int ret;

	mmap_assert_locked(mm);
	for_each_vma_range(vmi, vma, end) {
		ret = gm_recall_range(vma, max(start, vma->vm_start),
				      min(end, vma->vm_end), NUMA_NO_NODE);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * The device has the page and only lacks the translation.
 *
 * A block of which the device may see only a part needs tables for single
 * pages; whether it is one is only known once it is BUSY.
 */
static int gm_fault_resident(struct gm_context *ctx,
			     struct vm_area_struct *vma, unsigned long first,
			     unsigned int order, bool write)
{
	unsigned long start = first << PAGE_SHIFT;
	unsigned long end = start + (PAGE_SIZE << order);
	struct gm_block *block, *owned, *spare;
	struct gm_as *as = ctx->as;
	bool small = start < vma->vm_start || end > vma->vm_end;
	int ret;

again:
	ret = ctx->gdev->mmu->pmap_prepare(ctx, start, end, small ? 0 : order);
	if (ret)
		return ret;
	spare = gm_block_alloc(0, GFP_KERNEL_ACCOUNT);
	if (!spare)
		return -ENOMEM;
	block = vm_object_claim(&as->vmo, first, &spare, &owned);
	gm_block_put(spare);
	if (PTR_ERR_OR_ZERO(block) == -EBUSY) {
		gm_block_wait(owned);
		gm_block_put(owned);
		return -EAGAIN;
	}
	if (IS_ERR_OR_NULL(block))
		return -EAGAIN;

	if (gm_loc_to_hnode(block->loc)->gdev != ctx->gdev ||
	    gm_block_start(block) != start || gm_block_order(block) != order)
		ret = -EAGAIN;
	else if (!small && !bitmap_full(block->valid, gm_block_pages(block)))
		ret = -EXFULL;
	else
		ret = gm_ctx_map_block(ctx, vma, block, small ? 0 : order);
	gm_block_done(as, block);
	if (ret == -EXFULL) {
		small = true;
		goto again;
	}
	if (!ret && write) {
		/* A cached read-only translation must not be found again. */
		mutex_lock(&ctx->map_lock);
		if (!ctx->dead)
			ctx->gdev->mmu->tlb_invl(ctx, start, end);
		mutex_unlock(&ctx->map_lock);
	}
	return ret;
}

/**
 * gm_make_resident() - have a page of a shared VMA on a device
 * @as: address space
 * @hnode: destination
 * @ctx: context that must see it, or NULL
 * @vma: VMA that may be shared
 * @addr: address in @vma
 * @write: for writing
 *
 * One step; -EAGAIN asks for another one, after which things are different.
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0; -EAGAIN; -EBUSY when the page cannot move now; -ENOSPC when the
 * device is full; -EIO when it failed; or an error that ends the access.
 */
int gm_make_resident(struct gm_as *as, struct gm_hnode *hnode,
		     struct gm_context *ctx, struct vm_area_struct *vma,
		     unsigned long addr, bool write)
{
	unsigned long loc, first;
	int ret;

	loc = vm_object_find(&as->vmo, addr >> PAGE_SHIFT, &first);
	if (loc != GM_LOC_NONE) {
		if (gm_loc_to_hnode(loc) != hnode) {
			ret = gm_recall(vma, addr, GM_RECALL_WHOLE,
					NUMA_NO_NODE);
			return !ret || ret == -ENOENT ? -EAGAIN : ret;
		}
		if (!ctx)
			return 0;
		ret = gm_fault_resident(ctx, vma, first, gm_loc_order(loc),
					write);
	} else {
		ret = gm_populate(as, hnode, ctx, vma, addr);
	}

	switch (ret) {
	case -EXDEV:
		return gm_clear_away(vma->vm_mm, addr) ?: -EAGAIN;
	case -EBUSY:
		return gm_fault_in(vma, addr) ?: -EBUSY;
	case -EEXIST:
		return -EAGAIN;
	default:
		return ret;
	}
}

/* --- faults --------------------------------------------------------------------- */

/**
 * struct gm_fault_state - progress of one fault
 * @ctx: context
 * @addr: page aligned
 * @write: access
 * @tries: attempts to move the page so far
 * @retries: times that things changed under an attempt
 * @remote: do not try any more
 */
struct gm_fault_state {
	struct gm_context *ctx;
	unsigned long addr;
	bool write;
	unsigned int tries;
	unsigned int retries;
	bool remote;
};

static int gm_check_access(struct vm_area_struct *vma, bool write)
{
	/* What may be written may be read, as on the CPU. */
	if (!vma || !(vma->vm_flags & (VM_READ | VM_WRITE)))
		return -EFAULT;
	if (write && !(vma->vm_flags & VM_WRITE))
		return -EPERM;
	return 0;
}

/* One attempt.  -EAGAIN, -EBUSY, -ENOSPC and -ENOLINK are for gm_fault_wait(). */
static int gm_fault_try(struct gm_fault_state *f)
{
	struct gm_hnode *hnode = READ_ONCE(f->ctx->gdev->hnode);
	struct mm_struct *mm = f->ctx->as->mm;
	struct vm_area_struct *vma = vma_lookup(mm, f->addr);
	bool shared;
	int ret;

	ret = gm_check_access(vma, f->write);
	if (ret)
		return ret;
	shared = vma->vm_flags & VM_PEER_SHARED;
	if (!shared && f->ctx->flags & GM_ATTACH_STRICT)
		return -EFAULT;
	if (!shared || f->remote || !hnode || !gm_vma_can_share(vma) ||
	    userfaultfd_armed(vma))
		return gm_remote_map(f->ctx, vma, f->addr, f->write);

	ret = gm_make_resident(f->ctx->as, hnode, f->ctx, vma, f->addr,
			       f->write);
	if (ret == -EIO)
		f->remote = true;
	return ret == -EIO ? -EAGAIN : ret;
}

/*
 * Do, without the mmap lock, what the last attempt was lacking.
 *
 * Return: 0 to try again, or the error of the fault.
 */
static int gm_fault_wait(struct gm_fault_state *f, int why)
{
	struct gm_hnode *hnode = READ_ONCE(f->ctx->gdev->hnode);

	if (fatal_signal_pending(current))
		return -EINTR;
	if (READ_ONCE(f->ctx->dead))
		return -ESRCH;

	switch (why) {
	case -EAGAIN:
		if (++f->retries >= GM_FAULT_RETRIES)
			f->remote = true;
		gm_ctx_inval_wait(f->ctx, f->addr, f->addr + PAGE_SIZE);
		cond_resched();
		return 0;
	case -EBUSY:
		if (++f->tries >= GM_FAULT_TRIES)
			f->remote = true;
		else if (f->tries > 1)
			lru_add_drain_all();
		else
			lru_add_drain();
		return 0;
	case -ENOSPC:
		if (++f->retries >= GM_FAULT_RETRIES || !hnode ||
		    gm_wait_for_space(hnode, gm_hnode_unit(hnode)))
			f->remote = true;
		return 0;
	case -ENOLINK:
		return gm_remote_prepare(f->ctx, f->addr);
	default:
		return why;
	}
}

static int gm_fault_one(struct gm_context *ctx, struct gm_fault *fault)
{
	struct gm_fault_state f = {
		.ctx = ctx,
		.addr = fault->addr & PAGE_MASK,
		.write = fault->flags & GM_FAULT_WRITE,
	};
	struct mm_struct *mm = ctx->as->mm;
	int ret;

	if (fault->flags & ~GM_FAULT_WRITE)
		return -EINVAL;
	do {
		mmap_read_lock(mm);
		ret = gm_fault_try(&f);
		mmap_read_unlock(mm);
		if (!ret)
			return 0;
		ret = gm_fault_wait(&f, ret);
	} while (!ret);
	return ret;
}

static int gm_fault_cmp(const void *a, const void *b)
{
	const struct gm_fault *fa = a, *fb = b;

	return (fa->addr > fb->addr) - (fa->addr < fb->addr);
}

void gm_dev_fault_batch(struct gm_context *ctx, struct gm_fault *faults,
			unsigned int nr)
{
	struct mm_struct *mm = ctx->as->mm;
	struct gm_hnode *hnode = READ_ONCE(ctx->gdev->hnode);
	unsigned int i;

	if (!mmget_not_zero(mm)) {
		for (i = 0; i < nr; i++)
			faults[i].error = -ESRCH;
		return;
	}

	sort(faults, nr, sizeof(*faults), gm_fault_cmp, NULL);
	for (i = 0; i < nr; i++) {
		faults[i].error = gm_fault_one(ctx, &faults[i]);
		if (!faults[i].error)
			atomic_long_inc(&ctx->faults);
	}
	if (hnode)
		gm_stat_add(hnode, GM_STAT_FAULTS, nr);
	mmput(mm);
}
EXPORT_SYMBOL_GPL(gm_dev_fault_batch);

int gm_dev_fault(struct gm_context *ctx, unsigned long addr,
		 unsigned int flags)
{
	struct gm_fault fault = { .addr = addr, .flags = flags };

	gm_dev_fault_batch(ctx, &fault, 1);
	return fault.error;
}
EXPORT_SYMBOL_GPL(gm_dev_fault);
