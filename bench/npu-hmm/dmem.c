// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: device memory as MEMORY_DEVICE_PRIVATE pages.
 *
 * What makes it fast: a range of 16 pages or more gets a chunk of 2 MiB for
 * itself, with each page where its address has it within 2 MiB.  So a batch is
 * one piece for the copy engine, and the device can translate it with a 2 MiB
 * or with 64 KiB leaves although Linux 6.12 knows these pages only as 4 KiB
 * ones.  Taking and giving back a page is one bit and one counter; eviction
 * takes whole chunks, in the order in which they were filled.
 */
#include <linux/ioport.h>
#include <linux/slab.h>

#include "hmm.h"

/* Fewer free chunks than that are too few; eviction goes on to the double. */
#define DMEM_LOW	2U

static struct dmem_chunk *dmem_chunk(struct gm_dev *gdev, unsigned long pfn)
{
	return &gdev->chunks[(pfn - gdev->first_pfn) / CHUNK_PAGES];
}

static void dmem_clear(struct gm_dev *gdev, unsigned long pfn)
{
	struct dmem_chunk *chunk = dmem_chunk(gdev, pfn);

	lockdep_assert_held(&gdev->lock);
	__clear_bit((pfn - gdev->first_pfn) % CHUNK_PAGES, chunk->used);
	chunk->nr_used--;
	if (chunk->evicting)
		return;
	if (!chunk->nr_used) {
		list_del_init(&chunk->room);
		list_move(&chunk->link, &gdev->free);
		gdev->nr_free++;
	} else if (list_empty(&chunk->room)) {
		list_add(&chunk->room, &gdev->room);
	}
}

static void dmem_page_free(struct page *page)
{
	struct gm_dev *gdev = page->pgmap->owner;

	spin_lock(&gdev->lock);
	dmem_clear(gdev, page_to_pfn(page));
	spin_unlock(&gdev->lock);
}

static const struct dev_pagemap_ops dmem_ops = {
	.page_free	= dmem_page_free,
	.migrate_to_ram	= out_fault,
};

/* --- allocation ------------------------------------------------------------- */

static struct dmem_chunk *dmem_first_use(struct gm_dev *gdev)
{
	struct dmem_chunk *chunk;

	chunk = list_first_entry_or_null(&gdev->free, struct dmem_chunk, link);
	if (chunk) {
		list_move_tail(&chunk->link, &gdev->lru);
		gdev->nr_free--;
	}
	return chunk;
}

static bool dmem_reserve_range(struct move *m, unsigned int offset)
{
	struct gm_dev *gdev = m->gdev;
	struct dmem_chunk *chunk = dmem_first_use(gdev);

	if (!chunk)
		return false;
	bitmap_set(chunk->used, offset, m->nr);
	chunk->nr_used = m->nr;
	if (m->nr < CHUNK_PAGES)
		list_add(&chunk->room, &gdev->room);
	m->chunk = gdev->first_pfn + (chunk - gdev->chunks) * CHUNK_PAGES +
		   offset;
	return true;
}

static bool dmem_reserve_one(struct move *m)
{
	struct gm_dev *gdev = m->gdev;
	struct dmem_chunk *chunk;
	unsigned int i;

	chunk = list_first_entry_or_null(&gdev->room, struct dmem_chunk, room);
	if (!chunk) {
		chunk = dmem_first_use(gdev);
		if (!chunk)
			return false;
		list_add(&chunk->room, &gdev->room);
	}
	i = find_first_zero_bit(chunk->used, CHUNK_PAGES);
	__set_bit(i, chunk->used);
	if (++chunk->nr_used == CHUNK_PAGES)
		list_del_init(&chunk->room);
	m->single[m->nr_single++] = gdev->first_pfn +
		(chunk - gdev->chunks) * CHUNK_PAGES + i;
	return true;
}

/**
 * dmem_reserve() - take device memory for a move, before any page is unmapped
 * @m: move of m->nr pages
 * @offset: of its first page within 2 MiB
 *
 * Each page must be given to dmem_take() or dmem_unreserve().
 *
 * Context: Process context.
 * Return: 0, or -ENOSPC.
 */
int dmem_reserve(struct move *m, unsigned int offset)
{
	struct gm_dev *gdev = m->gdev;
	bool ok = true;

	m->chunk = 0;
	m->nr_single = 0;
	spin_lock(&gdev->lock);
	if (m->nr >= CHUNK_WORTH)
		ok = dmem_reserve_range(m, offset);
	else
		while (ok && m->nr_single < m->nr)
			ok = dmem_reserve_one(m);
	if (!ok)
		while (m->nr_single)
			dmem_clear(gdev, m->single[--m->nr_single]);
	spin_unlock(&gdev->lock);
	if (READ_ONCE(gdev->nr_free) < DMEM_LOW)
		queue_work(system_unbound_wq, &gdev->evict);
	return ok ? 0 : -ENOSPC;
}

/**
 * dmem_take() - begin to use a page
 * @m: move with memory reserved
 * @i: which of its pages
 *
 * Context: Process context.
 * Return: the pfn of the page, which is locked and has one reference.
 */
unsigned long dmem_take(struct move *m, unsigned int i)
{
	unsigned long pfn = dmem_pfn(m, i);

	zone_device_page_init(pfn_to_page(pfn));
	return pfn;
}

/**
 * dmem_unreserve() - give a page back that is not needed
 * @m: move with memory reserved
 * @i: which of its pages
 *
 * Context: Process context.
 */
void dmem_unreserve(struct move *m, unsigned int i)
{
	spin_lock(&m->gdev->lock);
	dmem_clear(m->gdev, dmem_pfn(m, i));
	spin_unlock(&m->gdev->lock);
}

/* --- eviction --------------------------------------------------------------- */

/**
 * dmem_scarce() - should eviction go on?
 * @gdev: device
 *
 * Context: Any context.
 * Return: true while there are too few free chunks.
 */
bool dmem_scarce(struct gm_dev *gdev)
{
	return READ_ONCE(gdev->nr_free) < 2 * DMEM_LOW;
}

/**
 * dmem_oldest() - choose what to evict
 * @gdev: device
 *
 * Context: Process context.
 * Return: a chunk for dmem_evicted(), or NULL.
 */
struct dmem_chunk *dmem_oldest(struct gm_dev *gdev)
{
	struct dmem_chunk *chunk;

	spin_lock(&gdev->lock);
	list_for_each_entry(chunk, &gdev->lru, link)
		if (!chunk->evicting)
			break;
	if (list_entry_is_head(chunk, &gdev->lru, link)) {
		chunk = NULL;
	} else {
		chunk->evicting = true;
		list_del_init(&chunk->room);
		list_move_tail(&chunk->link, &gdev->lru);
	}
	spin_unlock(&gdev->lock);
	return chunk;
}

/**
 * dmem_evicted() - a chunk can be used again
 * @gdev: device
 * @chunk: from dmem_oldest(); what could not be evicted is still in it
 *
 * Context: Process context.
 */
void dmem_evicted(struct gm_dev *gdev, struct dmem_chunk *chunk)
{
	spin_lock(&gdev->lock);
	chunk->evicting = false;
	if (!chunk->nr_used) {
		list_move(&chunk->link, &gdev->free);
		gdev->nr_free++;
	} else if (chunk->nr_used < CHUNK_PAGES) {
		list_add(&chunk->room, &gdev->room);
	}
	spin_unlock(&gdev->lock);
}

/* --- beginning and end -------------------------------------------------------- */

/**
 * dmem_init() - make struct pages for the device memory
 * @gdev: device with its npu
 *
 * Context: Process context, from probe.
 * Return: 0 or a negative errno.
 */
int dmem_init(struct gm_dev *gdev)
{
	u64 size = gdev->npu->mem_size;
	struct resource *res;
	unsigned int i;
	void *pages;

	spin_lock_init(&gdev->lock);
	INIT_LIST_HEAD(&gdev->free);
	INIT_LIST_HEAD(&gdev->lru);
	INIT_LIST_HEAD(&gdev->room);
	INIT_LIST_HEAD(&gdev->moves);
	INIT_WORK(&gdev->evict, out_evict_work);
	gdev->nr_chunks = size / CHUNK_SIZE;
	gdev->nr_free = gdev->nr_chunks;
	gdev->chunks = kvcalloc(gdev->nr_chunks, sizeof(*gdev->chunks),
				GFP_KERNEL);
	if (!gdev->chunks)
		return -ENOMEM;
	for (i = 0; i < gdev->nr_chunks; i++) {
		INIT_LIST_HEAD(&gdev->chunks[i].room);
		list_add_tail(&gdev->chunks[i].link, &gdev->free);
	}

	res = request_free_mem_region(&iomem_resource, size, "npu-hmm");
	if (IS_ERR(res)) {
		kvfree(gdev->chunks);
		return PTR_ERR(res);
	}
	gdev->pgmap.type = MEMORY_DEVICE_PRIVATE;
	gdev->pgmap.range.start = res->start;
	gdev->pgmap.range.end = res->end;
	gdev->pgmap.nr_range = 1;
	gdev->pgmap.ops = &dmem_ops;
	gdev->pgmap.owner = gdev;
	pages = memremap_pages(&gdev->pgmap, NUMA_NO_NODE);
	if (IS_ERR(pages)) {
		release_mem_region(res->start, resource_size(res));
		kvfree(gdev->chunks);
		return PTR_ERR(pages);
	}
	gdev->first_pfn = res->start >> PAGE_SHIFT;
	return 0;
}

/**
 * dmem_exit() - the reverse of dmem_init()
 * @gdev: device without contexts
 *
 * Context: Process context. Sleeps until all data is in host memory.
 */
void dmem_exit(struct gm_dev *gdev)
{
	cancel_work_sync(&gdev->evict);
	out_evict_all(gdev);
	memunmap_pages(&gdev->pgmap);
	release_mem_region(gdev->pgmap.range.start,
			   range_len(&gdev->pgmap.range));
	move_free_all(gdev);
	kvfree(gdev->chunks);
}
