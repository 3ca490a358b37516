// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: contexts.
 *
 * What makes it fast: one interval notifier for the whole address space, made
 * when the context is, so that no fault ever inserts one.  Where nothing is
 * mapped for the device, known from one look into an xarray, an invalidation
 * costs neither a walk nor a command to the TLB.  Pages that follow one another
 * on the device are mapped by the largest leaf that fits, 2 MiB at best.
 */
#include <linux/dma-mapping.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "hmm.h"

#define SVM_MAPS	16	/* for one call of peer_map */

/* --- translations ------------------------------------------------------------ */

/**
 * svm_map_prepare() - make sure that svm_map() needs no memory
 * @svm: context
 * @start: address of the first page
 * @map: translation of each page
 * @nr: how many; they lie in 2 MiB
 *
 * Context: Process context, not under the map lock. Sleeps.
 * Return: 0 or -ENOMEM.
 */
int svm_map_prepare(struct svm *svm, unsigned long start, const u64 *map,
		    unsigned int nr)
{
	unsigned long end = start + ((unsigned long)nr << PAGE_SHIFT);
	unsigned int order = 0;
	int ret;

	if (nr == CHUNK_PAGES && (map[0] & MOVE_MAP) &&
	    map[nr - 1] == map[0] + CHUNK_SIZE - PAGE_SIZE)
		order = ilog2(CHUNK_PAGES);
	ret = npu_mmu.pmap_prepare(&svm->gm, start, end, order);
	/*
	 * Whoever forgets the window from now on has invalidated it, so that
	 * nothing is going to be mapped.
	 */
	if (!ret && !xa_load(&svm->windows, start / CHUNK_SIZE))
		ret = xa_err(xa_store(&svm->windows, start / CHUNK_SIZE,
				      xa_mk_value(1), GFP_KERNEL));
	return ret;
}

/* The largest leaf for the first of @nr pages that follow one another. */
static unsigned int svm_order(unsigned long va, u64 addr, unsigned int nr)
{
	static const unsigned int orders[] = { 9, 4 };
	unsigned int i;

	if (addr & GM_MAP_HOST)
		return 0;
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		if (nr >> orders[i] &&
		    IS_ALIGNED(va | (addr & PAGE_MASK), PAGE_SIZE << orders[i]))
			return orders[i];
	return 0;
}

/**
 * svm_run() - how many translations follow one another
 * @map: translation of each page, the first one is valid
 * @nr: how many
 *
 * Context: Any context.
 * Return: pages from the first on with adjacent addresses and the same flags.
 */
unsigned int svm_run(const u64 *map, unsigned int nr)
{
	unsigned int i = 1;

	while (i < nr && map[i] == map[i - 1] + PAGE_SIZE)
		i++;
	return i;
}

/**
 * svm_map() - install translations
 * @svm: context
 * @start: address of the first page
 * @map: translation of each page
 * @nr: how many; they lie in 2 MiB
 *
 * Context: Map lock held, after svm_map_prepare(). May sleep.
 * Return: 0, or a negative errno after which none of them is valid.
 */
int svm_map(struct svm *svm, unsigned long start, const u64 *map,
	    unsigned int nr)
{
	struct gm_map maps[SVM_MAPS];
	unsigned int i = 0, run = 0, n = 0, order;
	int ret = 0;

	lockdep_assert_held(&svm->gm.map_lock[0]);
	while (i < nr && !ret) {
		if (!(map[i] & MOVE_MAP)) {
			i++;
			continue;
		}
		if (!run)
			run = svm_run(map + i, nr - i);
		maps[n].va = start + ((unsigned long)i << PAGE_SHIFT);
		order = svm_order(maps[n].va, map[i], run);
		maps[n].addr = map[i] & PAGE_MASK;
		maps[n].order = order;
		maps[n++].flags = map[i] & (GM_MAP_WRITE | GM_MAP_HOST);
		i += 1U << order;
		run -= 1U << order;
		if (n == SVM_MAPS) {
			ret = npu_mmu.peer_map(&svm->gm, maps, n);
			n = 0;
		}
	}
	if (n && !ret)
		ret = npu_mmu.peer_map(&svm->gm, maps, n);
	if (ret) {
		npu_mmu.peer_unmap(&svm->gm, start, start +
				   ((unsigned long)nr << PAGE_SHIFT));
		npu_mmu.tlb_invl(&svm->gm, start, start +
				 ((unsigned long)nr << PAGE_SHIFT));
	}
	return ret;
}

static void svm_unmap_host(struct svm *svm, unsigned long first,
			   unsigned long last)
{
	unsigned long vpn;
	void *dma;

	if (xa_empty(&svm->host))
		return;
	xa_for_each_range(&svm->host, vpn, dma, first, last) {
		dma_unmap_page_attrs(svm->gdev->dev,
				     (dma_addr_t)xa_to_value(dma) << PAGE_SHIFT,
				     PAGE_SIZE, DMA_BIDIRECTIONAL,
				     DMA_ATTR_SKIP_CPU_SYNC);
		xa_erase(&svm->host, vpn);
	}
}

/* Is anything mapped in a range?  Windows that it covers are forgotten. */
static bool svm_mapped(struct svm *svm, unsigned long start, unsigned long end)
{
	unsigned long window;
	bool mapped = false;
	void *entry;

	/* Eviction comes page by page, and one page takes a leaf with it. */
	if (end - start == PAGE_SIZE)
		return npu_pmap_find(svm->gm.drvdata, start, NULL);
	xa_for_each_range(&svm->windows, window, entry, start / CHUNK_SIZE,
			  (end - 1) / CHUNK_SIZE) {
		mapped = true;
		if (window * CHUNK_SIZE >= start &&
		    end - window * CHUNK_SIZE >= CHUNK_SIZE)
			xa_erase(&svm->windows, window);
	}
	return mapped;
}

static bool svm_invalidate(struct mmu_interval_notifier *mni,
			   const struct mmu_notifier_range *range,
			   unsigned long seq)
{
	struct svm *svm = container_of(mni, struct svm, notifier);
	struct move *m;

	if (!mmu_notifier_range_blockable(range))
		return false;

	mutex_lock(&svm->gm.map_lock[0]);
	mmu_interval_set_seq(mni, seq);
	list_for_each_entry(m, &svm->moves, link)
		if (m->task != current && range->start < m->args.end &&
		    range->end > m->args.start)
			m->zapped = true;
	if (svm_mapped(svm, range->start, range->end)) {
		npu_mmu.peer_unmap(&svm->gm, range->start, range->end);
		npu_mmu.tlb_invl(&svm->gm, range->start, range->end);
		svm_unmap_host(svm, range->start >> PAGE_SHIFT,
			       (range->end - 1) >> PAGE_SHIFT);
	}
	mutex_unlock(&svm->gm.map_lock[0]);
	return true;
}

static const struct mmu_interval_notifier_ops svm_notifier_ops = {
	.invalidate = svm_invalidate,
};

/* --- contexts ---------------------------------------------------------------- */

/**
 * npu_gmem_attach() - bind a context to the caller's address space
 * @ctx: context
 * @flags: 0
 *
 * Context: Process context, the owner's file->sem held for writing. May sleep.
 * Return: 0, or a negative errno after which nothing is bound.
 */
int npu_gmem_attach(struct npu_ctx *ctx, unsigned int flags)
{
	struct gm_dev *gdev = ctx->npu->gdev;
	struct svm *svm;
	int ret;

	/* HMM does not know of memory that is shared on purpose. */
	if (flags)
		return -EOPNOTSUPP;
	svm = kzalloc(sizeof(*svm), GFP_KERNEL_ACCOUNT);
	if (!svm)
		return -ENOMEM;
	svm->mm = current->mm;
	svm->gdev = gdev;
	svm->gm.drvdata = ctx;
	mutex_init(&svm->gm.map_lock[0]);
	xa_init(&svm->windows);
	xa_init(&svm->host);
	INIT_LIST_HEAD(&svm->moves);
	ret = npu_mmu.pmap_create(&svm->gm);
	if (ret)
		goto err_free;
	ctx->gm = &svm->gm;
	ret = mmu_interval_notifier_insert(&svm->notifier, svm->mm, 0,
					   ULONG_MAX & PAGE_MASK,
					   &svm_notifier_ops);
	if (ret)
		goto err_pmap;
	down_write(&gdev->door_sem);
	list_add(&svm->link, &gdev->contexts);
	up_write(&gdev->door_sem);
	return 0;

err_pmap:
	npu_mmu.pmap_destroy(&svm->gm);
err_free:
	kfree(svm);
	return ret;
}

/**
 * npu_gmem_detach() - the reverse of npu_gmem_attach()
 * @ctx: context without jobs, of which no fault is being served
 *
 * Context: Process context, the owner's file->sem held for writing. Sleeps.
 */
void npu_gmem_detach(struct npu_ctx *ctx)
{
	struct svm *svm = to_svm(ctx->gm);

	down_write(&svm->gdev->door_sem);
	list_del(&svm->link);
	up_write(&svm->gdev->door_sem);
	mmu_interval_notifier_remove(&svm->notifier);
	npu_mmu.pmap_destroy(&svm->gm);
	svm_unmap_host(svm, 0, ULONG_MAX);
	xa_destroy(&svm->host);
	xa_destroy(&svm->windows);
	kfree(svm);
}
