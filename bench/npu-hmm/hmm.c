// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: beginning and end of a device, and the two functions of GMEM that
 * the files of the sample driver call.
 */
#include <linux/hmm.h>
#include <linux/limits.h>
#include <linux/slab.h>

#include "hmm.h"

#if !IS_ENABLED(CONFIG_DEVICE_PRIVATE) || !IS_ENABLED(CONFIG_HMM_MIRROR)
#error npu-hmm needs CONFIG_DEVICE_PRIVATE and CONFIG_HMM_MIRROR
#endif

/* Not the symbols that GMEM exports: those of this module come first. */
void *gm_dev_drvdata(const struct gm_dev *gdev)
{
	return gdev->npu;
}

void gm_fence_signal(struct gm_fence *fence, int error)
{
	fence->error = error;
	complete(&fence->done);
}

static void gdev_release(struct kref *ref)
{
	kfree(container_of(ref, struct gm_dev, ref));
}

/**
 * gdev_put() - drop a reference
 * @gdev: device
 *
 * Context: Process context.
 */
void gdev_put(struct gm_dev *gdev)
{
	kref_put(&gdev->ref, gdev_release);
}

/**
 * npu_gmem_init() - take the memory of the device over
 * @npu: device, ready to copy
 *
 * Context: Process context, no locks. May sleep.
 * Return: 0, or a negative errno after which nothing is registered.
 */
int npu_gmem_init(struct npu *npu)
{
	struct gm_dev *gdev;
	int ret;

	gdev = kzalloc(sizeof(*gdev), GFP_KERNEL);
	if (!gdev)
		return -ENOMEM;
	kref_init(&gdev->ref);
	gdev->npu = npu;
	gdev->dev = &npu->pdev->dev;
	ret = dmem_init(gdev);
	if (ret)
		goto err_put;
	ret = door_open(gdev);
	if (ret)
		goto err_dmem;
	npu->gdev = gdev;
	/* No node: device-private pages are in none. */
	npu->hnid = INT_MAX - npu->id;
	return 0;

err_dmem:
	dmem_exit(gdev);
err_put:
	gdev_put(gdev);
	return ret;
}

/**
 * npu_gmem_exit() - bring all data home and forget the device
 * @npu: device without contexts, still able to copy
 *
 * Context: Process context, no locks. Sleeps as long as host memory is short.
 */
void npu_gmem_exit(struct npu *npu)
{
	door_close(npu->gdev);
	dmem_exit(npu->gdev);
	gdev_put(npu->gdev);
}
