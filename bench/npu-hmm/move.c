// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: the data of a batch of up to 512 pages.
 *
 * What makes it fast: host pages that follow one another in memory, as those
 * of a huge page that was split do, are one piece from the beginning, so that
 * the DMA API has less to go through.  dma_map_sg() gives all of a batch one
 * range of DMA addresses: one IOVA is allocated, one IOTLB invalidation undoes
 * it (intel-iommu in strict mode waits for each), adjacent pages share an
 * IOMMU superpage, and the engine needs no list.  When there is one piece only,
 * dma_map_page() does the same with less ado.  Mapping page by page would be
 * 512 IOVAs and 512 invalidations.  A copy runs while the caller does
 * something else; moves are kept for the next time, nothing is zeroed that
 * need not be.
 */
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include "hmm.h"

/**
 * move_get() - a move
 * @gdev: device
 *
 * Context: Process context. May sleep.
 * Return: a move whose arrays have anything in them, or NULL.
 */
struct move *move_get(struct gm_dev *gdev)
{
	struct move *m;

	spin_lock(&gdev->lock);
	m = list_first_entry_or_null(&gdev->moves, struct move, link);
	if (m)
		list_del(&m->link);
	spin_unlock(&gdev->lock);
	if (!m) {
		m = kvzalloc(sizeof(*m), GFP_KERNEL);
		if (!m)
			return NULL;
		m->gdev = gdev;
	}
	return m;
}

/**
 * move_put() - the reverse of move_get()
 * @m: move, not in progress
 *
 * Context: Process context.
 */
void move_put(struct move *m)
{
	spin_lock(&m->gdev->lock);
	list_add(&m->link, &m->gdev->moves);
	spin_unlock(&m->gdev->lock);
}

/**
 * move_free_all() - free the moves that are kept
 * @gdev: device that nobody uses
 *
 * Context: Process context.
 */
void move_free_all(struct gm_dev *gdev)
{
	struct move *m, *next;

	list_for_each_entry_safe(m, next, &gdev->moves, link)
		kvfree(m);
}

/**
 * move_begin() - begin to say what is copied
 * @m: move
 * @op: direction
 * @nr: pages of the range
 *
 * Context: Any context.
 */
void move_begin(struct move *m, enum gm_copy_op op, unsigned int nr)
{
	m->op = op;
	m->nr = nr;
	m->nr_sg = 0;
	m->next_pfn = 0;
	m->nr_run = 0;
	m->nr_zero = 0;
	m->copying = false;
	m->error = 0;
}

static void move_add_run(struct gm_copy *run, unsigned int *nr, u64 dev)
{
	struct gm_copy *last = run + *nr - 1;

	if (*nr && last->dev + last->len == dev) {
		last->len += PAGE_SIZE;
	} else {
		last++;
		last->dev = dev;
		last->len = PAGE_SIZE;
		++*nr;
	}
}

/**
 * move_add() - a page is to be copied
 * @m: move
 * @host: host page
 * @dev: device address
 *
 * Context: Any context.
 */
void move_add(struct move *m, struct page *host, u64 dev)
{
	unsigned long pfn = page_to_pfn(host);
	struct scatterlist *sg;

	if (m->nr_sg && pfn == m->next_pfn) {
		m->sg[m->nr_sg - 1].length += PAGE_SIZE;
	} else {
		sg = &m->sg[m->nr_sg];
		if (m->nr_sg)
			sg_unmark_end(sg - 1);
		sg_init_table(sg, 1);
		sg_set_page(sg, host, PAGE_SIZE, 0);
		m->nr_sg++;
	}
	m->next_pfn = pfn + 1;
	move_add_run(m->run, &m->nr_run, dev);
}

/**
 * move_add_zero() - a page of the device is to be zeroed
 * @m: move
 * @dev: device address
 *
 * Context: Any context.
 */
void move_add_zero(struct move *m, u64 dev)
{
	move_add_run(m->zero, &m->nr_zero, dev);
}

static void move_fence_init(struct gm_fence *fence)
{
	init_completion(&fence->done);
	fence->error = 0;
}

/**
 * move_zero() - zero what is to be zeroed, and wait for it
 * @m: move
 *
 * Context: Process context. Sleeps.
 * Return: 0 or the negative errno of the device.
 */
int move_zero(struct move *m)
{
	struct gm_fence fence;
	int ret;

	if (!m->nr_zero)
		return 0;
	move_fence_init(&fence);
	ret = npu_mmu.copy(m->gdev, GM_COPY_ZERO, m->zero, m->nr_zero, &fence);
	if (ret)
		return ret;
	wait_for_completion(&fence.done);
	return fence.error;
}

static enum dma_data_direction move_dir(const struct move *m)
{
	return m->op == GM_COPY_TO_DEV ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

static int move_dma_map(struct move *m)
{
	struct device *dev = m->gdev->dev;
	int nr;

	if (m->nr_sg == 1) {
		m->host = dma_map_page(dev, sg_page(m->sg), 0, m->sg->length,
				       move_dir(m));
		if (dma_mapping_error(dev, m->host))
			return -ENOMEM;
		sg_dma_address(m->sg) = m->host;
		sg_dma_len(m->sg) = m->sg->length;
		return 1;
	}
	nr = dma_map_sg(dev, m->sg, m->nr_sg, move_dir(m));
	return nr ? nr : -ENOMEM;
}

static void move_dma_unmap(struct move *m)
{
	struct device *dev = m->gdev->dev;

	if (m->nr_sg == 1)
		dma_unmap_page(dev, m->host, m->sg->length, move_dir(m));
	else
		dma_unmap_sg(dev, m->sg, m->nr_sg, move_dir(m));
}

/* Bring the pieces of both sides together: mostly there is one of each. */
static unsigned int move_segments(struct move *m, unsigned int nr_dma)
{
	struct scatterlist *sg = m->sg;
	unsigned int at = 0, nr = 0, i;
	struct gm_copy *run;
	size_t done, len;

	for (i = 0; i < m->nr_run; i++) {
		run = &m->run[i];
		for (done = 0; done < run->len; done += len) {
			len = min_t(size_t, run->len - done,
				    sg_dma_len(sg) - at);
			m->seg[nr].host = sg_dma_address(sg) + at;
			m->seg[nr].dev = run->dev + done;
			m->seg[nr++].len = len;
			at += len;
			if (at == sg_dma_len(sg) && --nr_dma) {
				sg = sg_next(sg);
				at = 0;
			}
		}
	}
	return nr;
}

/**
 * move_start() - start the copy
 * @m: move
 *
 * Whether it worked is what move_wait() returns.
 *
 * Context: Process context. May sleep.
 */
void move_start(struct move *m)
{
	int nr;

	if (!m->nr_sg)
		return;
	nr = move_dma_map(m);
	if (nr < 0) {
		m->error = nr;
		return;
	}
	move_fence_init(&m->copied);
	m->error = npu_mmu.copy(m->gdev, m->op, m->seg, move_segments(m, nr),
				&m->copied);
	if (m->error)
		move_dma_unmap(m);
	else
		m->copying = true;
}

/**
 * move_wait() - wait for the copy
 * @m: move
 *
 * Context: Process context. Sleeps.
 * Return: 0, or a negative errno when not everything was copied.
 */
int move_wait(struct move *m)
{
	if (m->copying) {
		wait_for_completion(&m->copied.done);
		m->error = m->copied.error;
		m->copying = false;
		move_dma_unmap(m);
	}
	return m->error;
}
