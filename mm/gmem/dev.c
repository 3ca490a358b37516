// SPDX-License-Identifier: GPL-2.0
/*
 * GMEM devices: what a driver creates first and destroys last.
 */
#include <linux/device.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/slab.h>

#include "gmem.h"

/* Counts devices; while it is off no process can have a GMEM marker. */
DEFINE_STATIC_KEY_FALSE(gm_key);

void gm_fence_init(struct gm_fence *fence)
{
	init_completion(&fence->done);
	fence->error = 0;
}

void gm_fence_signal(struct gm_fence *fence, int error)
{
	fence->error = error;
	complete(&fence->done);
}
EXPORT_SYMBOL_GPL(gm_fence_signal);

/*
 * Uninterruptible: the engine reads or writes pages that the caller holds.  The
 * driver has promised to signal in bounded time.
 */
int gm_fence_wait(struct gm_fence *fence)
{
	wait_for_completion(&fence->done);
	return fence->error;
}

static bool gm_mmu_complete(const struct gm_mmu *mmu)
{
	return mmu->pgsize_bitmap & PAGE_SIZE && mmu->pmap_create &&
	       mmu->pmap_destroy && mmu->pmap_prepare && mmu->peer_map &&
	       mmu->peer_unmap && mmu->pmap_protect && mmu->tlb_invl &&
	       mmu->copy;
}

static unsigned long gm_mmu_orders(const struct gm_mmu *mmu)
{
	static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };
	unsigned long bits = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++)
		if (mmu->pgsize_bitmap & PAGE_SIZE << orders[i])
			bits |= BIT(orders[i]);
	return bits;
}

struct gm_dev *gm_dev_create(struct device *dev, const struct gm_mmu *mmu,
			     unsigned long caps, void *drvdata)
{
	struct gm_dev *gdev;

	if (!dev || !mmu || !gm_mmu_complete(mmu))
		return ERR_PTR(-EINVAL);
	if (caps != GM_DEV_CAP_REPLAYABLE)
		return ERR_PTR(-EOPNOTSUPP);

	gdev = kzalloc(sizeof(*gdev), GFP_KERNEL);
	if (!gdev)
		return ERR_PTR(-ENOMEM);

	kref_init(&gdev->ref);
	gdev->dev = get_device(dev);
	gdev->mmu = mmu;
	gdev->drvdata = drvdata;
	gdev->pgsizes = gm_mmu_orders(mmu);
	mutex_init(&gdev->lock);
	INIT_LIST_HEAD(&gdev->contexts);
	spin_lock_init(&gdev->dead_lock);
	gdev->dead = GM_LOC_NONE;
	static_branch_inc(&gm_key);
	return gdev;
}
EXPORT_SYMBOL_GPL(gm_dev_create);

static void gm_dev_release(struct kref *ref)
{
	struct gm_dev *gdev = container_of(ref, struct gm_dev, ref);

	put_device(gdev->dev);
	kfree(gdev);
}

void gm_dev_put(struct gm_dev *gdev)
{
	kref_put(&gdev->ref, gm_dev_release);
}

void gm_dev_destroy(struct gm_dev *gdev)
{
	if (!gdev)
		return;

	gm_dev_unregister_physmem(gdev);
	WARN_ON(!list_empty(&gdev->contexts));
	static_branch_dec(&gm_key);
	gm_dev_put(gdev);
}
EXPORT_SYMBOL_GPL(gm_dev_destroy);

void *gm_dev_drvdata(const struct gm_dev *gdev)
{
	return gdev->drvdata;
}
EXPORT_SYMBOL_GPL(gm_dev_drvdata);

int gm_dev_register_physmem(struct gm_dev *gdev, u64 base, u64 size)
{
	struct gm_hnode *hnode;
	u64 end;
	int ret;

	if (!size || !IS_ALIGNED(base | size, PAGE_SIZE << GM_ORDER_2M) ||
	    check_add_overflow(base, size, &end) ||
	    size >> PAGE_SHIFT >= BIT_ULL(GM_LOC_DPFN_BITS))
		return -EINVAL;

	mutex_lock(&gdev->lock);
	if (gdev->hnode) {
		ret = -EBUSY;
		goto unlock;
	}
	hnode = gm_hnode_create(gdev, base, size);
	if (IS_ERR(hnode)) {
		ret = PTR_ERR(hnode);
		goto unlock;
	}
	WRITE_ONCE(gdev->hnode, hnode);
	ret = hnode->id;
unlock:
	mutex_unlock(&gdev->lock);
	return ret;
}
EXPORT_SYMBOL_GPL(gm_dev_register_physmem);

void gm_dev_unregister_physmem(struct gm_dev *gdev)
{
	struct gm_hnode *hnode = gdev->hnode;

	if (!hnode)
		return;

	/* From here on nothing is handed out, so no new page can come. */
	gm_hnode_evacuate(hnode);
	mutex_lock(&gdev->lock);
	WRITE_ONCE(gdev->hnode, NULL);
	mutex_unlock(&gdev->lock);
	gm_hnode_destroy(hnode);
}
EXPORT_SYMBOL_GPL(gm_dev_unregister_physmem);

static int __init gm_init(void)
{
	return gm_sysfs_init();
}
subsys_initcall(gm_init);
