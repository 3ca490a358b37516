// SPDX-License-Identifier: GPL-2.0
/*
 * One move of pages between the host and a device: its memory, its DMA.
 *
 * Everything a move needs is allocated in one go before the block it works on
 * becomes BUSY, so that a BUSY block never waits for reclaim.  The operations
 * of the device are started here and waited for later: who moves several blocks
 * prepares the next one and cleans up after the last one meanwhile.
 *
 * Host memory in several places is mapped by dma_map_sg(): behind an IOMMU that
 * is one range of DMA addresses, which costs one invalidation when it is undone,
 * and the engine gets a single piece.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "gmem.h"

#define GM_MOVE_SIZE(max) (sizeof(struct gm_move) + (max) * \
			   (sizeof(struct scatterlist) + \
			    sizeof(struct gm_copy) + sizeof(struct folio *) + \
			    sizeof(pte_t) + sizeof(unsigned short)))

/*
 * Room for @max folios.  All pages of the move are adjacent on the device, so
 * the holes between the folios, and their ends, fit in as well.
 */
struct gm_move *gm_move_alloc(unsigned int max, gfp_t gfp)
{
	struct gm_move *move;

	/* The allocator likes constants. */
	if (max == 1)
		move = kmalloc(GM_MOVE_SIZE(1), gfp);
	else
		move = kvmalloc(GM_MOVE_SIZE(max), gfp);
	if (!move)
		return NULL;

	move->next = NULL;
	move->started = 0;
	move->error = 0;
	move->mapped = 0;
	move->nr = 0;
	move->max = max;
	/* By falling alignment. */
	move->sg = (void *)(move + 1);
	move->seg = (void *)(move->sg + max);
	move->folio = (void *)(move->seg + max);
	move->orig = (void *)(move->folio + max);
	move->first = (void *)(move->orig + max);
	return move;
}

/* Of a move that is over; the folios are the caller's. */
void gm_move_free(struct gm_move *move)
{
	if (!move)
		return;

	WARN_ON_ONCE(move->started || move->mapped);
	kvfree(move);
}

/* The device has stopped touching the folios: let the CPU have them. */
void gm_move_dma_unmap(struct gm_move *move)
{
	struct scatterlist *sg = move->sg;

	if (move->mapped == 1)
		dma_unmap_page(move->gdev->dev, sg_dma_address(sg), sg->length,
			       move->dir);
	else if (move->mapped)
		dma_unmap_sg(move->gdev->dev, sg, move->mapped, move->dir);
	move->mapped = 0;
}

/* Return: how many entries of move->sg[] hold the folios. */
static unsigned int gm_move_gather(struct gm_move *move)
{
	unsigned int max = dma_get_max_seg_size(move->gdev->dev);
	struct scatterlist *sg = NULL;
	unsigned int i, nr = 0;
	unsigned long pfn = 0;

	for (i = 0; i < move->nr; i++) {
		struct folio *folio = move->folio[i];
		size_t len = folio_size(folio);

		if (sg && folio_pfn(folio) == pfn && sg->length + len <= max) {
			sg->length += len;
		} else {
			if (sg)
				sg_unmark_end(sg);
			sg = &move->sg[nr++];
			memset(sg, 0, sizeof(*sg));
			sg_init_marker(sg, 1);
			sg_set_page(sg, folio_page(folio, 0), len, 0);
		}
		pfn = folio_pfn(folio) + folio_nr_pages(folio);
	}
	return nr;
}

static int gm_move_dma_map(struct gm_move *move)
{
	struct device *dev = move->gdev->dev;
	unsigned int nr = gm_move_gather(move);
	struct scatterlist *sg = move->sg;

	if (gm_fail_dma())
		return -ENOBUFS;
	if (nr == 1) {
		/* The same, with less ado. */
		sg_dma_address(sg) = dma_map_page(dev, sg_page(sg), 0,
						  sg->length, move->dir);
		sg_dma_len(sg) = sg->length;
		if (dma_mapping_error(dev, sg_dma_address(sg)))
			return -ENOBUFS;
	} else if (!dma_map_sg(dev, sg, nr, move->dir)) {
		return -ENOBUFS;
	}
	move->mapped = nr;
	return 0;
}

/*
 * Bring the pages of @block and what dma_map_sg() made of the host side
 * together.  It joins entries and splits none, so each folio is in one piece.
 *
 * Return: how many entries of move->seg[] it takes.
 */
static unsigned int gm_move_segments(struct gm_move *move,
				     const struct gm_block *block)
{
	u64 base = gm_loc_addr(block->loc, 0);
	struct scatterlist *sg = move->sg;
	struct gm_copy *seg = NULL;
	unsigned int i, nr = 0, at = 0;

	for (i = 0; i < move->nr; i++) {
		u64 dev = base + ((u64)move->first[i] << PAGE_SHIFT);
		size_t len = folio_size(move->folio[i]);
		dma_addr_t host;

		if (at == sg_dma_len(sg)) {
			sg = sg_next(sg);
			at = 0;
		}
		host = sg_dma_address(sg) + at;
		at += len;
		if (seg && seg->host + seg->len == host &&
		    seg->dev + seg->len == dev) {
			seg->len += len;
		} else {
			seg = &move->seg[nr++];
			seg->host = host;
			seg->dev = dev;
			seg->len = len;
		}
	}
	return nr;
}

static void gm_move_fail(struct gm_move *move, int error)
{
	if (error == -ENODEV)
		WRITE_ONCE(move->gdev->broken, true);
	if (!move->error)
		move->error = error;
}

/* Start one operation over move->seg[]. */
static void gm_move_submit(struct gm_move *move, enum gm_copy_op op,
			   unsigned int nr)
{
	struct gm_fence *fence = &move->fence[move->started];
	int ret;

	gm_fence_init(fence);
	ret = move->gdev->mmu->copy(move->gdev, op, move->seg, nr, fence);
	if (ret)
		gm_move_fail(move, ret);
	else
		move->started++;
}

/*
 * Start to copy between the folios of @move and their pages of the BUSY
 * @block, which are both the device's until gm_move_wait().
 *
 * Context: Process context, block BUSY. Sleeps, enters no reclaim.
 */
void gm_move_copy(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, enum gm_copy_op op)
{
	int ret;

	move->gdev = gdev;
	move->dir = op == GM_COPY_TO_DEV ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
	if (!move->nr)
		return;
	ret = gm_move_dma_map(move);
	if (ret)
		gm_move_fail(move, ret);
	else
		gm_move_submit(move, op, gm_move_segments(move, block));
}

/*
 * Start to zero the pages [from, from + nr) of the BUSY @block that have no
 * folio in @move: what a process first sees of device memory is never
 * another's.  Comes before gm_move_copy(), if that comes too.
 *
 * Context: As gm_move_copy().
 */
void gm_move_zero(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, unsigned long from, unsigned long nr)
{
	unsigned long page = from, end = from + nr, next;
	unsigned int segs = 0, i;

	move->gdev = gdev;
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
	if (segs)
		gm_move_submit(move, GM_COPY_ZERO, segs);
}

/*
 * Wait for all that was started.  The folios remain mapped for DMA.
 *
 * Context: Process context. Sleeps.
 * Return: 0; -ENOBUFS when the host side could not be mapped for DMA; or the
 * negative errno of the device; with the source intact.
 */
int gm_move_wait(struct gm_move *move)
{
	int ret;

	while (move->started) {
		ret = gm_fence_wait(&move->fence[--move->started]);
		if (ret)
			gm_move_fail(move, ret);
	}
	ret = move->error;
	move->error = 0;
	return ret;
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

	move->gdev = gdev;
	for (from = find_first_bit(block->valid, pages); from < pages;
	     from = find_next_bit(block->valid, pages, end)) {
		end = find_next_zero_bit(block->valid, pages, from);
		/* A zap may have come between the two. */
		if (end == from)
			continue;
		move->seg[segs].host = gm_loc_addr(block->loc, from);
		move->seg[segs].dev = gm_loc_addr(to, from);
		move->seg[segs++].len = (end - from) << PAGE_SHIFT;
	}
	if (segs)
		gm_move_submit(move, GM_COPY_LOCAL, segs);
	return gm_move_wait(move);
}
