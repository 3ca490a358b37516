// SPDX-License-Identifier: GPL-2.0
/*
 * GMEM address spaces, and devices attached to them.
 *
 * A gm_as hangs off its mm from the first use to the end of exit_mmap(), and
 * outlives it while a context still points at it.  A context is made and
 * destroyed by its driver; the process may die at any time in between, after
 * which the context is dead: it has no translations and gets no new ones.
 */
#include <linux/export.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "gmem.h"

static struct gm_as *gm_as_alloc(struct mm_struct *mm)
{
	struct gm_as *as = kzalloc(sizeof(*as), GFP_KERNEL_ACCOUNT);

	if (!as)
		return NULL;

	kref_init(&as->ref);
	mmgrab(mm);
	as->mm = mm;
	vm_object_init(&as->vmo);
	init_rwsem(&as->ctx_sem);
	INIT_LIST_HEAD(&as->contexts);
	return as;
}

static void gm_as_release(struct kref *ref)
{
	struct gm_as *as = container_of(ref, struct gm_as, ref);

	WARN_ON(!xa_empty(&as->vmo.pages));
	mmdrop(as->mm);
	kfree(as);
}

void gm_as_get(struct gm_as *as)
{
	kref_get(&as->ref);
}

void gm_as_put(struct gm_as *as)
{
	kref_put(&as->ref, gm_as_release);
}

struct gm_as *gm_as_create(struct mm_struct *mm)
{
	struct gm_as *as = READ_ONCE(mm->gm_as);
	struct gm_as *fresh;

	if (!as) {
		fresh = gm_as_alloc(mm);
		if (!fresh)
			return ERR_PTR(-ENOMEM);
		as = cmpxchg(&mm->gm_as, NULL, fresh);
		if (as)
			gm_as_put(fresh);
		else
			as = fresh;
	}
	/* The mm has users, so its own reference is still there. */
	gm_as_get(as);
	return as;
}
EXPORT_SYMBOL_GPL(gm_as_create);

void gm_as_destroy(struct gm_as *as)
{
	if (as)
		gm_as_put(as);
}
EXPORT_SYMBOL_GPL(gm_as_destroy);

/* Is @gdev attached to @as, which may be NULL? */
bool gm_as_attached(struct gm_as *as, const struct gm_dev *gdev)
{
	struct gm_context *ctx;
	bool attached = false;

	if (!as)
		return false;
	down_read(&as->ctx_sem);
	list_for_each_entry(ctx, &as->contexts, as_link)
		attached |= ctx->gdev == gdev;
	up_read(&as->ctx_sem);
	return attached;
}

void __gm_exit(struct mm_struct *mm)
{
	struct gm_as *as = mm->gm_as;

	vm_object_trim(&as->vmo);
	/* Every marker was zapped, and every entry went with its marker. */
	VM_WARN_ON_ONCE(!xa_empty(&as->vmo.pages));
	mm->gm_as = NULL;
	gm_as_put(as);
}

/*
 * The owner of a BUSY block is done: let the block go, and its run if nobody
 * uses it.
 *
 * Context: Any context that may take spinlocks; never sleeps.
 */
void gm_block_done(struct gm_as *as, struct gm_block *block)
{
	unsigned long loc = vm_object_release(&as->vmo, block);

	if (loc != GM_LOC_NONE)
		gm_run_put(loc);
}

static struct gm_context *gm_context_alloc(struct gm_as *as,
					   struct gm_dev *gdev,
					   unsigned int flags, void *drvdata)
{
	struct gm_context *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!ctx)
		return NULL;

	ctx->gdev = gdev;
	ctx->as = as;
	ctx->flags = flags;
	ctx->drvdata = drvdata;
	INIT_LIST_HEAD(&ctx->as_link);
	INIT_LIST_HEAD(&ctx->dev_link);
	for (i = 0; i < GM_MAP_LOCKS; i++)
		mutex_init(&ctx->map_lock[i]);
	spin_lock_init(&ctx->inval_lock);
	init_waitqueue_head(&ctx->inval_wait);
	xa_init(&ctx->windows);
	gm_as_get(as);
	return ctx;
}

static void gm_context_free(struct gm_context *ctx)
{
	gm_as_put(ctx->as);
	kfree(ctx);
}

struct gm_context *gm_as_attach(struct gm_as *as, struct gm_dev *gdev,
				unsigned int flags, void *drvdata)
{
	struct gm_context *ctx;
	int ret;

	if (flags & ~GM_ATTACH_STRICT)
		return ERR_PTR(-EINVAL);
	if (!mmget_not_zero(as->mm))
		return ERR_PTR(-ESRCH);

	ctx = gm_context_alloc(as, gdev, flags, drvdata);
	if (!ctx) {
		ret = -ENOMEM;
		goto err_mm;
	}
	ret = gdev->mmu->pmap_create(ctx);
	if (ret)
		goto err_ctx;
	ret = gm_ctx_inval_register(ctx);
	if (ret)
		goto err_pmap;

	mutex_lock(&gdev->lock);
	list_add_tail(&ctx->dev_link, &gdev->contexts);
	mutex_unlock(&gdev->lock);
	down_write(&as->ctx_sem);
	ctx->born = as->births++;
	list_add_tail(&ctx->as_link, &as->contexts);
	up_write(&as->ctx_sem);
	mmput(as->mm);
	return ctx;

err_pmap:
	gdev->mmu->pmap_destroy(ctx);
err_ctx:
	gm_context_free(ctx);
err_mm:
	mmput(as->mm);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_GPL(gm_as_attach);

void gm_as_detach(struct gm_context *ctx)
{
	struct gm_dev *gdev;

	if (!ctx)
		return;

	gdev = ctx->gdev;
	gm_remote_destroy(ctx);
	/*
	 * Kills the context, if the process's exit has not, and leaves no
	 * translation.  A recall that still finds it in the list has the device
	 * forget what it has forgotten.
	 */
	gm_ctx_inval_unregister(ctx);
	down_write(&ctx->as->ctx_sem);
	list_del(&ctx->as_link);
	up_write(&ctx->as->ctx_sem);
	mutex_lock(&gdev->lock);
	list_del(&ctx->dev_link);
	mutex_unlock(&gdev->lock);
	gdev->mmu->pmap_destroy(ctx);
	gm_context_free(ctx);
}
EXPORT_SYMBOL_GPL(gm_as_detach);
