// SPDX-License-Identifier: GPL-2.0
/*
 * One move of pages between the host and a device: its memory, its DMA.
 *
 * Everything a move needs is allocated in one go before the block it works on
 * becomes BUSY, so that a BUSY block never waits for reclaim.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include "gmem.h"

/* All pages of the move are adjacent on the device, so holes can be too. */
struct gm_move *gm_move_alloc(unsigned int order)
{
	unsigned int max = 1U << order;
	struct gm_move *move = kzalloc(sizeof(*move), GFP_KERNEL);

	if (!move)
		return NULL;

	move->max = max;
	move->folio = kvmalloc_array(max, sizeof(*move->folio), GFP_KERNEL);
	move->first = kvmalloc_array(max, sizeof(*move->first), GFP_KERNEL);
	move->orig = kvmalloc_array(max, sizeof(*move->orig), GFP_KERNEL);
	move->seg = kvmalloc_array(max, sizeof(*move->seg), GFP_KERNEL);
	if (!move->folio || !move->first || !move->orig || !move->seg) {
		gm_move_free(move);
		return NULL;
	}
	return move;
}

void gm_move_free(struct gm_move *move)
{
	if (!move)
		return;

	kvfree(move->seg);
	kvfree(move->orig);
	kvfree(move->first);
	kvfree(move->folio);
	kfree(move);
}

static void gm_move_dma_unmap(struct device *dev, struct gm_move *move,
			      unsigned int nr, enum dma_data_direction dir)
{
	while (nr--)
		dma_unmap_page(dev, move->seg[nr].host, move->seg[nr].len, dir);
}

static int gm_move_dma_map(struct device *dev, struct gm_move *move,
			   const struct gm_block *block,
			   enum dma_data_direction dir)
{
	unsigned int i;

	for (i = 0; i < move->nr; i++) {
		struct gm_copy *seg = &move->seg[i];

		seg->len = folio_size(move->folio[i]);
		seg->dev = gm_loc_addr(block->loc, move->first[i]);
		seg->host = DMA_MAPPING_ERROR;
		if (!gm_fail_dma())
			seg->host = dma_map_page(dev,
						 folio_page(move->folio[i], 0),
						 0, seg->len, dir);
		if (dma_mapping_error(dev, seg->host)) {
			gm_move_dma_unmap(dev, move, i, dir);
			return -ENOBUFS;
		}
	}
	return 0;
}

/* Run one operation over move->seg[] and wait for it. */
static int gm_copy_wait(struct gm_dev *gdev, enum gm_copy_op op,
			const struct gm_copy *seg, unsigned int nr)
{
	struct gm_fence fence;
	int ret;

	gm_fence_init(&fence);
	ret = gdev->mmu->copy(gdev, op, seg, nr, &fence);
	if (!ret)
		ret = gm_fence_wait(&fence);
	if (ret == -ENODEV)
		WRITE_ONCE(gdev->broken, true);
	return ret;
}

/*
 * Copy between the folios of @move and their pages of the BUSY @block.
 *
 * Context: Process context, block BUSY. Sleeps, enters no reclaim.
 * Return: 0; -ENOBUFS when the host side cannot be mapped for DMA; or the
 * negative errno of the device; with the source intact.
 */
int gm_move_copy(struct gm_dev *gdev, struct gm_move *move,
		 struct gm_block *block, enum gm_copy_op op)
{
	enum dma_data_direction dir = op == GM_COPY_TO_DEV ? DMA_TO_DEVICE :
							     DMA_FROM_DEVICE;
	int ret;

	if (!move->nr)
		return 0;
	ret = gm_move_dma_map(gdev->dev, move, block, dir);
	if (ret)
		return ret;
	ret = gm_copy_wait(gdev, op, move->seg, move->nr);
	gm_move_dma_unmap(gdev->dev, move, move->nr, dir);
	return ret;
}

/*
 * Zero the pages [from, from + nr) of the BUSY @block that have no folio in
 * @move: what a process first sees of device memory is never another's.
 *
 * Context: As gm_move_copy().
 * Return: 0, or the negative errno of the device.
 */
int gm_move_zero(struct gm_dev *gdev, struct gm_move *move,
		 struct gm_block *block, unsigned long from, unsigned long nr)
{
	unsigned long page = from, end = from + nr, next;
	unsigned int segs = 0, i;

	for (i = 0; i <= move->nr; i++) {
		next = i < move->nr ? move->first[i] : end;
		if (next > page) {
			move->seg[segs].host = 0;
			move->seg[segs].dev = gm_loc_addr(block->loc, page);
			move->seg[segs++].len = (next - page) << PAGE_SHIFT;
		}
		if (i < move->nr)
			page = next + folio_nr_pages(move->folio[i]);
	}
	return segs ? gm_copy_wait(gdev, GM_COPY_ZERO, move->seg, segs) : 0;
}

/*
 * Copy what is valid of the BUSY @block to the run @to of the same device.
 *
 * Context: As gm_move_copy().
 * Return: 0, or the negative errno of the device.
 */
int gm_move_local(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, unsigned long to)
{
	unsigned long pages = gm_block_pages(block), from, end;
	unsigned int segs = 0;

	for (from = find_first_bit(block->valid, pages); from < pages;
	     from = find_next_bit(block->valid, pages, end)) {
		end = find_next_zero_bit(block->valid, pages, from);
		move->seg[segs].host = gm_loc_addr(block->loc, from);
		move->seg[segs].dev = gm_loc_addr(to, from);
		move->seg[segs++].len = (end - from) << PAGE_SHIFT;
	}
	return segs ? gm_copy_wait(gdev, GM_COPY_LOCAL, move->seg, segs) : 0;
}
