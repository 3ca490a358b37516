// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory as nodes, and runs of it.
 *
 * An hnode is in the table from the end of gm_hnode_create() to
 * gm_hnode_destroy(), which comes after gm_hnode_evacuate(): who has a run of
 * it finds it there without a lock.  Who has only an id must take a reference,
 * and finds out from gm_run_alloc() that the device went away.
 */
#include <linux/idr.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "gmem.h"

static DEFINE_IDA(gm_hnode_ida);
/* Serializes changes of gm_hnodes[] with look-ups of ids. */
static DEFINE_SPINLOCK(gm_hnodes_lock);
static struct gm_hnode *gm_hnodes[GM_MAX_HNODES];

static void gm_hnode_release(struct kobject *kobj)
{
	struct gm_hnode *hnode = container_of(kobj, struct gm_hnode, kobj);

	gm_chunk_free(hnode->spare);
	gm_buddy_destroy(&hnode->buddy);
	gm_dev_put(hnode->gdev);
	kfree(hnode);
}

static const struct kobj_type gm_hnode_ktype = {
	.release	= gm_hnode_release,
	.sysfs_ops	= &kobj_sysfs_ops,
	.default_groups	= gm_hnode_groups,
};

static struct gm_hnode *gm_hnode_alloc(struct gm_dev *gdev, u64 base, u64 size)
{
	struct gm_hnode *hnode = kzalloc(sizeof(*hnode), GFP_KERNEL);

	if (!hnode)
		return ERR_PTR(-ENOMEM);

	kobject_init(&hnode->kobj, &gm_hnode_ktype);
	kref_get(&gdev->ref);
	hnode->gdev = gdev;
	hnode->base = base;
	hnode->nr_pages = size >> PAGE_SHIFT;
	hnode->limit = hnode->nr_pages;
	spin_lock_init(&hnode->lock);
	INIT_LIST_HEAD(&hnode->lru);
	init_waitqueue_head(&hnode->evict_wait);
	init_waitqueue_head(&hnode->space_wait);
	return hnode;
}

static void gm_hnode_publish(unsigned int index, struct gm_hnode *hnode)
{
	spin_lock(&gm_hnodes_lock);
	WRITE_ONCE(gm_hnodes[index], hnode);
	spin_unlock(&gm_hnodes_lock);
}

/**
 * gm_hnode_create() - make device memory a node
 * @gdev: device
 * @base: device address of the first byte
 * @size: bytes, a multiple of 2 MiB
 *
 * Context: Process context. May sleep.
 * Return: the hnode, whose reference gm_hnode_destroy() drops, or an
 * ERR_PTR(): -EINVAL, -ENOSPC when no id is free, -ENOMEM.
 */
struct gm_hnode *gm_hnode_create(struct gm_dev *gdev, u64 base, u64 size)
{
	struct gm_hnode *hnode = gm_hnode_alloc(gdev, base, size);
	int ret;

	if (IS_ERR(hnode))
		return hnode;

	ret = gm_buddy_init(&hnode->buddy, hnode->nr_pages);
	if (ret)
		goto err_put;
	ret = ida_alloc_max(&gm_hnode_ida, GM_MAX_HNODES - 1, GFP_KERNEL);
	if (ret < 0)
		goto err_put;
	hnode->index = ret;
	hnode->id = GM_HNID_BASE + ret;
	ret = gm_evictor_start(hnode);
	if (ret)
		goto err_id;
	ret = gm_sysfs_add(hnode);
	if (ret)
		goto err_evictor;
	gm_hnode_publish(hnode->index, hnode);
	return hnode;

err_evictor:
	gm_evictor_stop(hnode);
err_id:
	ida_free(&gm_hnode_ida, hnode->index);
err_put:
	gm_hnode_put(hnode);
	return ERR_PTR(ret);
}

/**
 * gm_hnode_destroy() - the reverse of gm_hnode_create()
 * @hnode: hnode that gm_hnode_evacuate() emptied
 *
 * The struct stays until the last reference is dropped.
 *
 * Context: Process context. Sleeps, cannot fail.
 */
void gm_hnode_destroy(struct gm_hnode *hnode)
{
	WARN_ON(!hnode->closing || hnode->used);
	gm_hnode_publish(hnode->index, NULL);
	gm_sysfs_remove(hnode);
	gm_evictor_stop(hnode);
	ida_free(&gm_hnode_ida, hnode->index);
	gm_hnode_put(hnode);
}

/**
 * gm_hnode_get() - find an hnode by what user space calls it
 * @hnid: any number
 *
 * Context: Any context that may take spinlocks.
 * Return: the hnode with a reference, or NULL when @hnid is none.
 */
struct gm_hnode *gm_hnode_get(int hnid)
{
	struct gm_hnode *hnode;

	if (hnid < GM_HNID_BASE || hnid >= GM_HNID_BASE + GM_MAX_HNODES)
		return NULL;

	spin_lock(&gm_hnodes_lock);
	hnode = gm_hnodes[hnid - GM_HNID_BASE];
	if (hnode)
		kobject_get(&hnode->kobj);
	spin_unlock(&gm_hnodes_lock);
	return hnode;
}

/**
 * gm_hnode_put() - drop a reference of gm_hnode_get()
 * @hnode: hnode
 *
 * Context: Process context. May sleep.
 */
void gm_hnode_put(struct gm_hnode *hnode)
{
	kobject_put(&hnode->kobj);
}

/**
 * gm_loc_to_hnode() - which hnode is a run in?
 * @loc: run that stays allocated
 *
 * Context: Any context.
 * Return: the hnode, which stays as long as the run.
 */
struct gm_hnode *gm_loc_to_hnode(unsigned long loc)
{
	return READ_ONCE(gm_hnodes[gm_loc_hnode(loc)]);
}

static struct gm_chunk *gm_loc_chunk(unsigned long loc)
{
	struct gm_buddy *buddy = &gm_loc_to_hnode(loc)->buddy;

	return buddy->chunks[gm_loc_dpfn(loc) / GM_CHUNK_PAGES];
}

/**
 * gm_run_loc() - the run that a view is part of
 * @loc: a run, or an aligned part of one, that stays allocated
 *
 * Context: Any context.
 * Return: loc of the whole run.
 */
unsigned long gm_run_loc(unsigned long loc)
{
	const struct gm_chunk *chunk = gm_loc_chunk(loc);
	unsigned long dpfn = gm_loc_dpfn(loc);
	unsigned long group;

	if (chunk->whole)
		return gm_loc(gm_loc_hnode(loc),
			      ALIGN_DOWN(dpfn, GM_CHUNK_PAGES), GM_ORDER_2M);
	group = ALIGN_DOWN(dpfn, 1UL << GM_ORDER_64K);
	if (test_bit(group % GM_CHUNK_PAGES, chunk->large))
		return gm_loc(gm_loc_hnode(loc), group, GM_ORDER_64K);
	return loc;
}

/**
 * gm_run_of() - the descriptor of a run
 * @loc: a run, or an aligned part of one, that stays allocated
 *
 * Context: Any context.
 * Return: the descriptor, which stays as long as the run.
 */
struct gm_run *gm_run_of(unsigned long loc)
{
	struct gm_chunk *chunk = gm_loc_chunk(loc);

	if (chunk->whole)
		return &chunk->run;
	return &chunk->parts[gm_loc_dpfn(gm_run_loc(loc)) % GM_CHUNK_PAGES];
}

/* Return: as gm_buddy_alloc(). */
static long gm_run_take(struct gm_hnode *hnode, unsigned int order,
			struct gm_chunk **fresh)
{
	long dpfn;

	lockdep_assert_held(&hnode->lock);
	if (hnode->closing || hnode->used + (1UL << order) > hnode->limit)
		return -ENOSPC;
	if (!*fresh && order < GM_ORDER_2M)
		fresh = &hnode->spare;
	dpfn = gm_buddy_alloc(&hnode->buddy, order, fresh);
	if (dpfn < 0)
		return dpfn;

	hnode->used += 1UL << order;
	list_move_tail(&hnode->buddy.chunks[dpfn / GM_CHUNK_PAGES]->lru,
		       &hnode->lru);
	return dpfn;
}

/**
 * gm_run_alloc() - take a run
 * @hnode: from where; the caller has a reference, or a context of its device
 * @order: size: 0, %GM_ORDER_64K or %GM_ORDER_2M
 * @loc: out: the run, with one view, that of the caller
 * @gfp: for a descriptor
 *
 * What the run contains is somebody else's and must be overwritten before a
 * process can see it.  Eviction does not find it before gm_run_set_rmap().
 *
 * Context: Process context, no spinlock. May sleep.
 * Return: 0, -ENOSPC or -ENOMEM.
 */
int gm_run_alloc(struct gm_hnode *hnode, unsigned int order,
		 unsigned long *loc, gfp_t gfp)
{
	struct gm_chunk *fresh = NULL;
	struct gm_run *run;
	long dpfn;

	might_sleep();
	for (;;) {
		spin_lock(&hnode->lock);
		dpfn = gm_run_take(hnode, order, &fresh);
		if (dpfn >= 0) {
			*loc = gm_loc(hnode->index, dpfn, order);
			run = gm_run_of(*loc);
			run->anon_vma = NULL;
			run->pgoff = 0;
			run->views = 1;
			run->stale = 0;
		}
		spin_unlock(&hnode->lock);
		if (dpfn != -EAGAIN)
			break;
		fresh = gm_chunk_alloc(order, gfp);
		if (!fresh)
			return -ENOMEM;
	}
	gm_chunk_free(fresh);
	return dpfn < 0 ? dpfn : 0;
}

/**
 * gm_run_set_rmap() - say where a run can be found
 * @loc: run of the caller
 * @anon_vma: of the VMA that it is about to have pages in
 * @pgoff: page offset in that VMA, of the first page
 *
 * Context: Any context that may take spinlocks.
 */
void gm_run_set_rmap(unsigned long loc, struct anon_vma *anon_vma,
		     unsigned long pgoff)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);
	struct gm_run *run;

	spin_lock(&hnode->lock);
	run = gm_run_of(loc);
	run->anon_vma = anon_vma;
	run->pgoff = pgoff;
	spin_unlock(&hnode->lock);
}

/**
 * gm_run_copy_rmap() - let a run be found where another one is
 * @loc: run of the caller
 * @from: a view of the caller, of the same size
 *
 * Context: Any context that may take spinlocks.
 */
void gm_run_copy_rmap(unsigned long loc, unsigned long from)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(from);
	struct anon_vma *anon_vma;
	unsigned long pgoff;
	struct gm_run *run;

	spin_lock(&hnode->lock);
	run = gm_run_of(from);
	anon_vma = run->anon_vma;
	pgoff = run->pgoff + gm_loc_dpfn(from) - gm_loc_dpfn(gm_run_loc(from));
	spin_unlock(&hnode->lock);
	gm_run_set_rmap(loc, anon_vma, pgoff);
}

/* Could anybody but the owner of a view see what is written to the run? */
static bool gm_run_seen(const struct gm_run *run)
{
	return run->views > 1 || run->stale;
}

/**
 * gm_run_takes() - may a page of a VMA join a run?
 * @loc: view of the caller
 * @anon_vma: of the VMA
 * @pgoff: page offset in the VMA at which the first page of the run would be
 *
 * Context: Any context that may take spinlocks.
 * Return: true when nobody else has a view, and eviction will find the page.
 */
bool gm_run_takes(unsigned long loc, const struct anon_vma *anon_vma,
		  unsigned long pgoff)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);
	struct gm_run *run;
	bool takes;

	spin_lock(&hnode->lock);
	run = gm_run_of(loc);
	takes = !gm_run_seen(run) && gm_run_loc(loc) == loc &&
		run->anon_vma == anon_vma && run->pgoff == pgoff;
	spin_unlock(&hnode->lock);
	return takes;
}

/**
 * gm_run_get() - add views
 * @loc: view of the caller, whose mmap lock is held for writing
 * @views: how many more
 *
 * Context: Any context that may take spinlocks.
 * Return: false when there are too many already.
 */
bool gm_run_get(unsigned long loc, unsigned int views)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);
	struct gm_run *run;
	bool ok;

	spin_lock(&hnode->lock);
	run = gm_run_of(loc);
	ok = run->views + views <= GM_MAX_VIEWS;
	if (ok)
		run->views += views;
	spin_unlock(&hnode->lock);
	return ok;
}

/**
 * gm_run_shared() - can others see a run?
 * @loc: view of the caller
 *
 * They can when there is more than one view, or when a view that is gone may
 * have left a translation: see gm_run_put().
 *
 * Only an owner of a view can add one, and needs its mmap lock for writing to
 * do so.  So "no" stays true while the caller holds that lock for reading.
 *
 * Context: Any context that may take spinlocks.
 * Return: true when nobody may write to it.
 */
bool gm_run_shared(unsigned long loc)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);
	bool shared;

	spin_lock(&hnode->lock);
	shared = gm_run_seen(gm_run_of(loc));
	spin_unlock(&hnode->lock);
	return shared;
}

static void __gm_run_free(struct gm_hnode *hnode, unsigned long loc)
{
	unsigned int order = gm_loc_order(loc);
	struct gm_chunk *chunk;

	lockdep_assert_held(&hnode->lock);
	chunk = gm_buddy_free(&hnode->buddy, gm_loc_dpfn(loc), order);
	if (chunk)
		list_del_init(&chunk->lru);
	/* A page that goes back and forth alone must not cost one each time. */
	if (chunk && chunk->parts && !hnode->spare)
		hnode->spare = chunk;
	else
		gm_chunk_free(chunk);
	hnode->used -= 1UL << order;
	hnode->freed += 1UL << order;
	/*
	 * Under the lock, since evacuation may end with this run and the hnode
	 * be gone when the lock is dropped.  Waiters look at what they wait for
	 * under the lock too, so they are on the queue by now or will see it.
	 */
	if (waitqueue_active(&hnode->space_wait))
		wake_up(&hnode->space_wait);
}

/**
 * gm_run_free() - give a run back
 * @loc: run that no device can reach any more
 *
 * Context: Any context that may take spinlocks; never sleeps.
 */
void gm_run_free(unsigned long loc)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);

	spin_lock(&hnode->lock);
	__gm_run_free(hnode, loc);
	spin_unlock(&hnode->lock);
}

/**
 * gm_run_free_list() - give the runs of a list of the dead back
 * @loc: the first one, or %GM_LOC_NONE
 *
 * Context: Any context that may take spinlocks; never sleeps.
 */
void gm_run_free_list(unsigned long loc)
{
	while (loc != GM_LOC_NONE) {
		unsigned long next = gm_run_of(loc)->next;

		gm_run_free(loc);
		loc = next;
	}
}

/*
 * A view of @run went.  While an invalidation is put off, a run without views
 * must wait for it, and one that still has some is stale.
 *
 * Return: true when the run must wait.
 */
static bool gm_run_bury(struct gm_dev *gdev, struct gm_run *run,
			unsigned long loc)
{
	bool buried = false;

	spin_lock(&gdev->dead_lock);
	if (gdev->deferred && run->views) {
		run->stale = 1;
	} else if (gdev->deferred) {
		run->next = gdev->dead;
		gdev->dead = loc;
		buried = true;
	}
	spin_unlock(&gdev->dead_lock);
	return buried;
}

/**
 * gm_run_put() - give a view up
 * @loc: view of the caller, for which its device has no translation, or one
 * whose removal was put off
 *
 * With its last view the run goes back to its hnode, but not while any device
 * may still hold a translation because an invalidation was put off.  Views that
 * went earlier may have left one too, so whose it was does not matter.  Who
 * keeps a view then must not write to the run, since the device of a process
 * that is dying could read it: the run stays shared, and is copied from.
 *
 * Context: Any context that may take spinlocks; never sleeps.
 */
void gm_run_put(unsigned long loc)
{
	struct gm_hnode *hnode = gm_loc_to_hnode(loc);
	struct gm_run *run;

	spin_lock(&hnode->lock);
	loc = gm_run_loc(loc);
	run = gm_run_of(loc);
	run->views--;
	if (!gm_run_bury(hnode->gdev, run, loc) && !run->views)
		__gm_run_free(hnode, loc);
	spin_unlock(&hnode->lock);
}
