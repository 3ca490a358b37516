// SPDX-License-Identifier: GPL-2.0
/*
 * Device page faults.
 *
 * A fault takes the mmap lock of its process for reading, finds out where the
 * page is, and brings it to the device, or, when it cannot or should not move,
 * maps it where it is.  Whatever needs the lock dropped (room on the device,
 * pages parked in another CPU's LRU batch, a notifier for host memory) is done
 * without it, and the fault starts over.
 *
 * What a move leaves behind on the host is freed last: first the driver hears
 * that the access can be replayed.
 */
#include <linux/export.h>
#include <linux/memcontrol.h>
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

/* Faults of a batch after which what the moves left behind is freed. */
#define GM_FAULT_KEEP		16

/*
 * Only memory that can lose its pages without anybody else noticing: private
 * and anonymous, not locked, not growing.  A private mapping of /dev/zero can
 * have any offset, and struct gm_run has no room for all of them.
 */
bool gm_vma_can_share(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma) &&
	       vma->vm_pgoff + vma_pages(vma) < BIT_ULL(GM_PGOFF_BITS) &&
	       !(vma->vm_flags & (VM_SHARED | VM_SPECIAL | VM_HUGETLB |
				  VM_GROWSDOWN | VM_GROWSUP | VM_LOCKED |
				  VM_DROPPABLE | VM_SHADOW_STACK));
}

/*
 * Let core MM bring a page into a state that can move.
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0, or what a fault of the CPU ends with.
 */
int gm_fault_in(struct vm_area_struct *vma, unsigned long addr)
{
	unsigned int flags = FAULT_FLAG_REMOTE;
	vm_fault_t ret;

	flags |= vma->vm_flags & VM_WRITE ? FAULT_FLAG_WRITE :
					    FAULT_FLAG_UNSHARE;
	ret = handle_mm_fault(vma, addr, flags, NULL);
	return ret & VM_FAULT_ERROR ? vm_fault_to_errno(ret, FOLL_HWPOISON) : 0;
}

/*
 * The block around a page is another device's, or shared with a child, and so
 * the page cannot join it.  The block goes with its last page, and the pages
 * may be in several VMAs.
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

/**
 * struct gm_resident - a fault on a page that its device has
 * @ctx: context
 * @hnode: the device's memory
 * @vma: VMA of the page
 * @start: first byte of what holds the page
 * @order: size of that
 * @write: access
 * @small: the device may see only a part, and needs tables for single pages
 * @spare: block for a single page
 * @fresh: run for when the page is shared and must not be, or %GM_LOC_NONE
 * @move: for filling @fresh
 */
struct gm_resident {
	struct gm_context *ctx;
	struct gm_hnode *hnode;
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned int order;
	bool write;
	bool small;
	struct gm_block *spare;
	unsigned long fresh;
	struct gm_move *move;
};

/* What there must be before the block is BUSY. */
static int gm_resident_prepare(struct gm_resident *r)
{
	struct gm_context *ctx = r->ctx;
	int ret;

	ret = ctx->gdev->mmu->pmap_prepare(ctx, r->start, r->start +
					   (PAGE_SIZE << r->order),
					   r->small ? 0 : r->order);
	if (ret)
		return ret;
	r->spare = gm_block_alloc(0, GFP_KERNEL_ACCOUNT);
	if (!r->spare)
		return -ENOMEM;
	if (!r->write ||
	    !vm_object_shared(&ctx->as->vmo, r->start >> PAGE_SHIFT))
		return 0;
	r->move = gm_move_alloc(1U << r->order, GFP_KERNEL);
	if (!r->move)
		return -ENOMEM;
	return gm_run_alloc(r->hnode, r->order, &r->fresh, GFP_KERNEL_ACCOUNT);
}

static void gm_resident_finish(struct gm_resident *r)
{
	gm_block_put(r->spare);
	if (r->fresh != GM_LOC_NONE)
		gm_run_put(r->fresh);
	gm_move_free(r->move);
}

/* The block is BUSY and the caller its owner. */
static int gm_resident_map(struct gm_resident *r, struct gm_block *block)
{
	unsigned int flags = GM_MAP_WRITE;
	struct gm_context *ctx = r->ctx;
	int ret;

	if (gm_loc_to_hnode(block->loc) != r->hnode ||
	    gm_block_start(block) != r->start ||
	    gm_block_order(block) != r->order)
		return -EAGAIN;
	if (!r->small && !bitmap_full(block->valid, gm_block_pages(block)))
		return -EXFULL;
	if (r->write && gm_run_shared(block->loc)) {
		if (r->fresh == GM_LOC_NONE)
			return -EAGAIN;
		ret = gm_unshare(ctx->as, block, r->fresh, r->move);
		if (ret)
			return ret;
		r->fresh = GM_LOC_NONE;
	}
	if (r->write || !vma_soft_dirty_enabled(r->vma))
		gm_mark_soft_dirty(r->vma, block);
	else
		flags = 0;
	return gm_ctx_map_block(ctx, r->vma, block, r->small ? 0 : r->order,
				flags);
}

static int gm_resident_try(struct gm_resident *r)
{
	struct gm_block *block, *owned;
	struct gm_as *as = r->ctx->as;
	int ret;

	block = vm_object_claim(&as->vmo, r->start >> PAGE_SHIFT, &r->spare,
				&owned);
	if (PTR_ERR_OR_ZERO(block) == -EBUSY) {
		gm_block_wait(owned);
		gm_block_put(owned);
		return -EAGAIN;
	}
	if (IS_ERR_OR_NULL(block))
		return -EAGAIN;
	ret = gm_resident_map(r, block);
	gm_block_done(as, block);
	return ret;
}

/*
 * The device has the page and only lacks the translation, or the right to
 * write.
 *
 * A block of which the device may see only a part needs tables for single
 * pages; whether it is one is only known once it is BUSY.
 */
static int gm_fault_resident(struct gm_context *ctx, struct gm_hnode *hnode,
			     struct vm_area_struct *vma, unsigned long first,
			     unsigned int order, bool write)
{
	unsigned long start = first << PAGE_SHIFT;
	unsigned long end = start + (PAGE_SIZE << order);
	bool small = start < vma->vm_start || end > vma->vm_end;
	int ret;

	do {
		struct gm_resident r = {
			.ctx = ctx,
			.hnode = hnode,
			.vma = vma,
			.start = start,
			.order = order,
			.write = write,
			.small = small,
			.fresh = GM_LOC_NONE,
		};

		ret = gm_resident_prepare(&r);
		if (!ret)
			ret = gm_resident_try(&r);
		gm_resident_finish(&r);
		small = true;
	} while (ret == -EXFULL);
	/* A cached read-only translation must not be found again. */
	if (!ret && write)
		ctx->gdev->mmu->tlb_invl(ctx, start, end);
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
 * @spent: as in gm_migrate()
 *
 * One step; -EAGAIN asks for another one, after which things are different.
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0; -EAGAIN; -EBUSY when the page cannot move now; -ENOSPC when the
 * device is full; -EIO when it failed; or an error that ends the access.
 */
int gm_make_resident(struct gm_as *as, struct gm_hnode *hnode,
		     struct gm_context *ctx, struct vm_area_struct *vma,
		     unsigned long addr, bool write, struct gm_move **spent)
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
		ret = gm_fault_resident(ctx, hnode, vma, first,
					gm_loc_order(loc), write);
	} else {
		ret = gm_populate(as, hnode, ctx, vma, addr, spent);
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
 * @spent: list of what moves left behind
 */
struct gm_fault_state {
	struct gm_context *ctx;
	unsigned long addr;
	bool write;
	unsigned int tries;
	unsigned int retries;
	bool remote;
	struct gm_move **spent;
};

static int gm_check_access(struct vm_area_struct *vma, bool write)
{
	/* What may be written may be read, as on the CPU. */
	if (!vma || !(vma->vm_flags & (VM_READ | VM_WRITE)))
		return -EFAULT;
	/* Nor may GUP write to a shadow stack. */
	if (write && (!(vma->vm_flags & VM_WRITE) ||
		      vma->vm_flags & VM_SHADOW_STACK))
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
			       f->write, f->spent);
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
		if (++f->tries >= GM_FAULT_TRIES || !hnode ||
		    gm_wait_for_space(hnode, gm_hnode_unit(hnode)))
			f->remote = true;
		return 0;
	case -ENOLINK:
		return gm_remote_prepare(f->ctx, f->addr);
	default:
		return why;
	}
}

static void gm_fault_free(struct gm_move **spent)
{
	gm_migrate_free(*spent);
	*spent = NULL;
}

static int gm_fault_one(struct gm_context *ctx, struct gm_fault *fault,
			struct gm_move **spent)
{
	struct gm_fault_state f = {
		.ctx = ctx,
		.addr = fault->addr & PAGE_MASK,
		.write = fault->flags & GM_FAULT_WRITE,
		.spent = spent,
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
		/* Who is waited for may need the memory. */
		gm_fault_free(spent);
		ret = gm_fault_wait(&f, ret);
	} while (!ret);
	return ret;
}

static int gm_fault_cmp(const void *a, const void *b)
{
	const struct gm_fault *fa = a, *fb = b;

	return (fa->addr > fb->addr) - (fa->addr < fb->addr);
}

static void gm_fault_all(struct gm_context *ctx, struct gm_fault *faults,
			 unsigned int nr, struct gm_move **spent)
{
	struct gm_hnode *hnode = READ_ONCE(ctx->gdev->hnode);
	unsigned int i;

	if (nr > 1)
		sort(faults, nr, sizeof(*faults), gm_fault_cmp, NULL);
	for (i = 0; i < nr; i++) {
		if (i && !(i % GM_FAULT_KEEP))
			gm_fault_free(spent);
		faults[i].error = gm_fault_one(ctx, &faults[i], spent);
		if (!faults[i].error)
			atomic_long_inc(&ctx->faults);
	}
	if (hnode)
		gm_stat_add(hnode, GM_STAT_FAULTS, nr);
}

/* A thread that works for others has what it allocates charged to them. */
static void gm_fault_charged(struct gm_context *ctx, struct gm_fault *faults,
			     unsigned int nr, struct gm_move **spent)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(ctx->as->mm);
	struct mem_cgroup *old = set_active_memcg(memcg);

	gm_fault_all(ctx, faults, nr, spent);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
}

void gm_dev_fault_batch(struct gm_context *ctx, struct gm_fault *faults,
			unsigned int nr, gm_fault_done_t done)
{
	struct mm_struct *mm = ctx->as->mm;
	bool alive = mmget_not_zero(mm);
	struct gm_move *spent = NULL;
	unsigned int i;

	if (!alive)
		for (i = 0; i < nr; i++)
			faults[i].error = -ESRCH;
	else if (mm == current->mm)
		gm_fault_all(ctx, faults, nr, &spent);
	else
		gm_fault_charged(ctx, faults, nr, &spent);
	if (done)
		done(ctx, faults, nr);
	gm_fault_free(&spent);
	if (alive)
		mmput(mm);
}
EXPORT_SYMBOL_GPL(gm_dev_fault_batch);

int gm_dev_fault(struct gm_context *ctx, unsigned long addr,
		 unsigned int flags)
{
	struct gm_fault fault = { .addr = addr, .flags = flags };

	gm_dev_fault_batch(ctx, &fault, 1, NULL);
	return fault.error;
}
EXPORT_SYMBOL_GPL(gm_dev_fault);
