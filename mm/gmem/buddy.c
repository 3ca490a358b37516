// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages of a device's memory are in use.
 *
 * Memory is handed out as aligned runs of one page, of 64 KiB and of 2 MiB.  A
 * chunk of 2 MiB that is wholly free is a clear bit and nothing more; one that
 * is in use has a descriptor.  In a chunk that is handed out in parts, a group
 * is an aligned 64 KiB of it.
 *
 * Small runs must not spoil large ones: a single page comes from a group that
 * is in parts already as long as there is one anywhere, else from a chunk that
 * is, and a wholly free chunk is opened last.  The lists of chunks with room
 * are kept so that the first or last entry is the right one.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "gmem.h"

#define GM_GROUP_PAGES	BIT(GM_ORDER_64K)
#define GM_CHUNK_GROUPS	(GM_CHUNK_PAGES / GM_GROUP_PAGES)
#define GM_GROUP_FULL	(BIT(GM_GROUP_PAGES) - 1)

/**
 * gm_buddy_init() - start with everything free
 * @buddy: zeroed
 * @nr_pages: size, a multiple of %GM_CHUNK_PAGES
 *
 * Context: May sleep.
 * Return: 0, -EINVAL or -ENOMEM.
 */
int gm_buddy_init(struct gm_buddy *buddy, unsigned long nr_pages)
{
	unsigned long nr_chunks = nr_pages / GM_CHUNK_PAGES;
	unsigned int i;

	if (!nr_pages || nr_pages % GM_CHUNK_PAGES)
		return -EINVAL;

	buddy->chunks = kvcalloc(nr_chunks, sizeof(*buddy->chunks),
				 GFP_KERNEL);
	buddy->busy = kvcalloc(BITS_TO_LONGS(nr_chunks), sizeof(*buddy->busy),
			       GFP_KERNEL);
	if (!buddy->chunks || !buddy->busy) {
		gm_buddy_destroy(buddy);
		return -ENOMEM;
	}

	for (i = 0; i < ARRAY_SIZE(buddy->partial); i++)
		INIT_LIST_HEAD(&buddy->partial[i]);
	buddy->nr_chunks = nr_chunks;
	buddy->hint = 0;
	buddy->free_chunks = nr_chunks;
	buddy->free_groups = nr_chunks * GM_CHUNK_GROUPS;
	buddy->free_pages = nr_pages;
	return 0;
}

/**
 * gm_buddy_destroy() - the reverse of gm_buddy_init()
 * @buddy: nothing of it is in use, or zeroed
 *
 * Context: May sleep.
 */
void gm_buddy_destroy(struct gm_buddy *buddy)
{
	kvfree(buddy->busy);
	kvfree(buddy->chunks);
	buddy->busy = NULL;
	buddy->chunks = NULL;
}

/**
 * gm_chunk_alloc() - make a descriptor for gm_buddy_alloc()
 * @order: of the run that is wanted
 * @gfp: how to allocate
 *
 * Context: As @gfp.
 * Return: the descriptor, or NULL.
 */
struct gm_chunk *gm_chunk_alloc(unsigned int order, gfp_t gfp)
{
	struct gm_chunk *chunk = kzalloc(sizeof(*chunk), gfp);

	if (!chunk)
		return NULL;

	INIT_LIST_HEAD(&chunk->lru);
	INIT_LIST_HEAD(&chunk->partial);
	if (order < GM_ORDER_2M) {
		chunk->parts = kmalloc_array(GM_CHUNK_PAGES,
					     sizeof(*chunk->parts), gfp);
		if (!chunk->parts) {
			kfree(chunk);
			return NULL;
		}
	}
	return chunk;
}

/**
 * gm_chunk_free() - free a descriptor that the allocator does not have
 * @chunk: descriptor, or NULL
 *
 * Context: Any context.
 */
void gm_chunk_free(struct gm_chunk *chunk)
{
	if (!chunk)
		return;

	kfree(chunk->parts);
	kfree(chunk);
}

static unsigned long gm_chunk_group(const struct gm_chunk *chunk,
				    unsigned long page)
{
	return bitmap_read(chunk->map, ALIGN_DOWN(page, GM_GROUP_PAGES),
			   GM_GROUP_PAGES);
}

/* Is there room in a group that is in parts? */
static bool gm_chunk_has_scraps(const struct gm_chunk *chunk)
{
	return GM_CHUNK_PAGES - chunk->used >
	       chunk->free_groups * GM_GROUP_PAGES;
}

/*
 * Put @chunk on the list where it belongs.  On the list of chunks with a free
 * group, those that have scraps beside it come first.
 */
static void gm_chunk_file(struct gm_buddy *buddy, struct gm_chunk *chunk)
{
	list_del_init(&chunk->partial);
	if (chunk->used == GM_CHUNK_PAGES)
		return;
	if (!chunk->free_groups)
		list_add(&chunk->partial, &buddy->partial[0]);
	else if (gm_chunk_has_scraps(chunk))
		list_add(&chunk->partial, &buddy->partial[GM_ORDER_64K]);
	else
		list_add_tail(&chunk->partial, &buddy->partial[GM_ORDER_64K]);
}

/* The chunk in use that is best to take a run of @order from, if there is. */
static struct gm_chunk *gm_buddy_pick(struct gm_buddy *buddy,
				      unsigned int order)
{
	struct list_head *scraps = &buddy->partial[0];
	struct list_head *groups = &buddy->partial[GM_ORDER_64K];

	if (order == GM_ORDER_2M)
		return NULL;
	if (order == 0 && !list_empty(scraps))
		return list_first_entry(scraps, struct gm_chunk, partial);
	if (list_empty(groups))
		return NULL;
	if (order == 0)
		return list_first_entry(groups, struct gm_chunk, partial);
	return list_last_entry(groups, struct gm_chunk, partial);
}

/* Give @chunk, which is new, the first wholly free 2 MiB. */
static void gm_buddy_open(struct gm_buddy *buddy, struct gm_chunk *chunk)
{
	unsigned long index = find_next_zero_bit(buddy->busy, buddy->nr_chunks,
						 buddy->hint);

	chunk->index = index;
	chunk->free_groups = GM_CHUNK_GROUPS;
	__set_bit(index, buddy->busy);
	buddy->chunks[index] = chunk;
	buddy->hint = index + 1;
	buddy->free_chunks--;
}

static void gm_buddy_close(struct gm_buddy *buddy, struct gm_chunk *chunk)
{
	list_del_init(&chunk->partial);
	__clear_bit(chunk->index, buddy->busy);
	buddy->chunks[chunk->index] = NULL;
	buddy->hint = min(buddy->hint, chunk->index);
	buddy->free_chunks++;
}

/* The number of free groups is changing by @nr. */
static void gm_buddy_add_groups(struct gm_buddy *buddy, struct gm_chunk *chunk,
				int nr)
{
	chunk->free_groups += nr;
	buddy->free_groups += nr;
}

/* There is a free page, and it is not the last choice unless it has to be. */
static unsigned long gm_chunk_find_page(const struct gm_chunk *chunk)
{
	unsigned long page = find_first_zero_bit(chunk->map, GM_CHUNK_PAGES);
	unsigned long bits = gm_chunk_group(chunk, page);

	if (!gm_chunk_has_scraps(chunk))
		return page;
	while (!bits || bits == GM_GROUP_FULL) {
		page += GM_GROUP_PAGES;
		bits = gm_chunk_group(chunk, page);
	}
	return ALIGN_DOWN(page, GM_GROUP_PAGES) + ffz(bits);
}

/* There is a free group. */
static unsigned long gm_chunk_find_group(const struct gm_chunk *chunk)
{
	unsigned long page = 0;

	while (gm_chunk_group(chunk, page))
		page += GM_GROUP_PAGES;
	return page;
}

/* Take a run for which @chunk has room. */
static unsigned long gm_chunk_take(struct gm_buddy *buddy,
				   struct gm_chunk *chunk, unsigned int order)
{
	unsigned long page = 0;

	if (order == GM_ORDER_2M) {
		chunk->whole = true;
		gm_buddy_add_groups(buddy, chunk, -(int)GM_CHUNK_GROUPS);
	} else if (order == GM_ORDER_64K) {
		page = gm_chunk_find_group(chunk);
		bitmap_set(chunk->map, page, GM_GROUP_PAGES);
		__set_bit(page, chunk->large);
		__set_bit(page, chunk->head);
		gm_buddy_add_groups(buddy, chunk, -1);
	} else {
		page = gm_chunk_find_page(chunk);
		if (!gm_chunk_group(chunk, page))
			gm_buddy_add_groups(buddy, chunk, -1);
		__set_bit(page, chunk->map);
		__set_bit(page, chunk->head);
	}
	chunk->used += 1U << order;
	buddy->free_pages -= 1UL << order;
	return page;
}

/**
 * gm_buddy_alloc() - take a run
 * @buddy: allocator
 * @order: 0, %GM_ORDER_64K or %GM_ORDER_2M
 * @fresh: descriptor from gm_chunk_alloc(), for this order, or NULL; becomes
 * NULL when it was used
 *
 * Context: Any context; the caller serializes.
 * Return: dpfn of the first page; -ENOSPC; or -EAGAIN when there is room but a
 * descriptor is needed.
 */
long gm_buddy_alloc(struct gm_buddy *buddy, unsigned int order,
		    struct gm_chunk **fresh)
{
	struct gm_chunk *chunk = gm_buddy_pick(buddy, order);
	unsigned long page;

	if (!chunk) {
		if (!buddy->free_chunks)
			return -ENOSPC;
		chunk = *fresh;
		if (!chunk || (order < GM_ORDER_2M && !chunk->parts))
			return -EAGAIN;
		*fresh = NULL;
		gm_buddy_open(buddy, chunk);
	}
	page = gm_chunk_take(buddy, chunk, order);
	gm_chunk_file(buddy, chunk);
	return chunk->index * GM_CHUNK_PAGES + page;
}

static bool gm_chunk_has_run(const struct gm_chunk *chunk, unsigned long page,
			     unsigned int order)
{
	if (!chunk)
		return false;
	if (chunk->whole || order == GM_ORDER_2M)
		return chunk->whole && order == GM_ORDER_2M && !page;
	return test_bit(page, chunk->head) &&
	       test_bit(page, chunk->large) == (order == GM_ORDER_64K);
}

/**
 * gm_buddy_free() - give a run back
 * @buddy: allocator
 * @dpfn: what gm_buddy_alloc() returned
 * @order: what it was asked for
 *
 * Context: Any context; the caller serializes.
 * Return: descriptor for the caller to free, when its chunk is no longer in
 * use; else NULL.
 */
struct gm_chunk *gm_buddy_free(struct gm_buddy *buddy, unsigned long dpfn,
			       unsigned int order)
{
	struct gm_chunk *chunk = buddy->chunks[dpfn / GM_CHUNK_PAGES];
	unsigned long page = dpfn % GM_CHUNK_PAGES;

	if (WARN_ON_ONCE(!gm_chunk_has_run(chunk, page, order)))
		return NULL;

	if (order == GM_ORDER_2M) {
		chunk->whole = false;
		gm_buddy_add_groups(buddy, chunk, GM_CHUNK_GROUPS);
	} else {
		bitmap_clear(chunk->map, page, 1U << order);
		__clear_bit(page, chunk->large);
		__clear_bit(page, chunk->head);
		if (!gm_chunk_group(chunk, page))
			gm_buddy_add_groups(buddy, chunk, 1);
	}
	chunk->used -= 1U << order;
	buddy->free_pages += 1UL << order;
	if (chunk->used) {
		gm_chunk_file(buddy, chunk);
		return NULL;
	}
	gm_buddy_close(buddy, chunk);
	return chunk;
}

/**
 * gm_buddy_nr_free() - how many runs could be taken
 * @buddy: allocator
 * @order: size of the runs
 *
 * Context: Any context; the caller serializes.
 * Return: runs of @order that could be taken if nothing else was.
 */
unsigned long gm_buddy_nr_free(const struct gm_buddy *buddy,
			       unsigned int order)
{
	switch (order) {
	case 0:
		return buddy->free_pages;
	case GM_ORDER_64K:
		return buddy->free_groups;
	default:
		return buddy->free_chunks;
	}
}
