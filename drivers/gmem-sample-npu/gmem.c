// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: what a driver does for GMEM besides its operations.
 *
 * A device makes itself known, gives its memory away, attaches processes and
 * passes faults on.  scripts/count-driver.sh holds this file under 70 lines.
 */
#include <linux/gmem.h>

#include "npu.h"

/**
 * npu_gmem_init() - make the device and its memory known to GMEM
 * @npu: device, ready to copy
 *
 * Context: Process context, no locks. May sleep.
 * Return: 0, or a negative errno after which nothing is registered.
 */
int npu_gmem_init(struct npu *npu)
{
	struct gm_dev *gdev;
	int hnid;

	gdev = gm_dev_create(&npu->pdev->dev, &npu_mmu, GM_DEV_CAP_REPLAYABLE,
			     npu);
	if (IS_ERR(gdev))
		return PTR_ERR(gdev);
	hnid = gm_dev_register_physmem(gdev, 0, npu->mem_size);
	if (hnid < 0) {
		gm_dev_destroy(gdev);
		return hnid;
	}
	npu->gdev = gdev;
	npu->hnid = hnid;
	return 0;
}

/**
 * npu_gmem_exit() - bring all data home and forget the device
 * @npu: device without contexts, still able to copy
 *
 * Context: Process context, no locks. Sleeps as long as host memory is short.
 */
void npu_gmem_exit(struct npu *npu)
{
	gm_dev_destroy(npu->gdev);
}

/**
 * npu_gmem_attach() - bind a context to the caller's address space
 * @ctx: context
 * @flags: GM_ATTACH_*
 *
 * Context: Process context, the owner's file->sem held for writing. May sleep.
 * Return: 0, or a negative errno after which nothing is bound.
 */
int npu_gmem_attach(struct npu_ctx *ctx, unsigned int flags)
{
	ctx->as = gm_as_create(current->mm);
	if (IS_ERR(ctx->as))
		return PTR_ERR(ctx->as);
	ctx->gm = gm_as_attach(ctx->as, ctx->npu->gdev, flags, ctx);
	if (IS_ERR(ctx->gm)) {
		gm_as_destroy(ctx->as);
		return PTR_ERR(ctx->gm);
	}
	return 0;
}

/**
 * npu_gmem_detach() - the reverse of npu_gmem_attach()
 * @ctx: context without jobs, of which no fault is being served
 *
 * Context: Process context, the owner's file->sem held for writing. Sleeps.
 */
void npu_gmem_detach(struct npu_ctx *ctx)
{
	gm_as_detach(ctx->gm);
	gm_as_destroy(ctx->as);
}

/**
 * npu_gmem_serve() - serve faults that jobs of a context took
 * @ctx: context
 * @faults: faults; sorted in place, the outcome of each is in its error
 * @nr: how many
 *
 * The jobs are answered by npu_fault_answer().
 *
 * Context: Worker, no locks. Sleeps.
 */
void npu_gmem_serve(struct npu_ctx *ctx, struct gm_fault *faults,
		    unsigned int nr)
{
	gm_dev_fault_batch(ctx->gm, faults, nr, npu_fault_answer);
}

/**
 * npu_gmem_touch() - make one page accessible ahead of any job
 * @ctx: context
 * @addr: any byte of the page
 * @write: for writing too
 *
 * Context: Process context, file->sem held for reading. Sleeps.
 * Return: as gm_dev_fault().
 */
int npu_gmem_touch(struct npu_ctx *ctx, unsigned long addr, bool write)
{
	return gm_dev_fault(ctx->gm, addr, write ? GM_FAULT_WRITE : 0);
}
