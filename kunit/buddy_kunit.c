// SPDX-License-Identifier: GPL-2.0
/*
 * The allocator of device memory against an array of pages.
 *
 * The model knows of each page which run has it and looks at all of them for
 * every question.  check_buddy() compares everything the allocator keeps with
 * it, after each step.
 */
#include <kunit/test.h>
#include <linux/prandom.h>

#include "../gmem.h"

#define CHUNKS		4
#define PAGES		(CHUNKS * GM_CHUNK_PAGES)
#define GROUP		BIT(GM_ORDER_64K)
#define STEPS		3000

static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };

/**
 * struct model - a buddy and what should be in it
 * @buddy: what is tested
 * @test: for assertions
 * @used: is the page in use?
 * @head: order plus 1 when a run begins at the page, else 0
 * @runs: first pages of all runs
 * @nr_runs: how many
 */
struct model {
	struct gm_buddy buddy;
	struct kunit *test;
	bool used[PAGES];
	u8 head[PAGES];
	unsigned long runs[PAGES];
	unsigned int nr_runs;
};

static unsigned long count_used(const struct model *m, unsigned long from,
				unsigned long nr)
{
	unsigned long i, used = 0;

	for (i = from; i < from + nr; i++)
		used += m->used[i];
	return used;
}

static unsigned long count_free_runs(const struct model *m, unsigned long from,
				     unsigned long nr, unsigned int order)
{
	unsigned long i, runs = 0;

	for (i = from; i < from + nr; i += 1UL << order)
		runs += !count_used(m, i, 1UL << order);
	return runs;
}

/* Is there a group of which a part is in use, with room, in the range? */
static bool has_scraps(const struct model *m, unsigned long from,
		       unsigned long nr)
{
	unsigned long i, used;

	for (i = from; i < from + nr; i += GROUP) {
		used = count_used(m, i, GROUP);
		if (used && used < GROUP)
			return true;
	}
	return false;
}

/* Is there a chunk in use that has room for @order? */
static bool has_open_room(const struct model *m, unsigned int order)
{
	unsigned long i;

	if (order == GM_ORDER_2M)
		return false;
	for (i = 0; i < PAGES; i += GM_CHUNK_PAGES)
		if (count_used(m, i, GM_CHUNK_PAGES) &&
		    count_free_runs(m, i, GM_CHUNK_PAGES, order))
			return true;
	return false;
}

static void check_chunk(const struct model *m, unsigned long index)
{
	struct gm_chunk *chunk = m->buddy.chunks[index];
	unsigned long first = index * GM_CHUNK_PAGES, i;
	unsigned long used = count_used(m, first, GM_CHUNK_PAGES);
	struct kunit *test = m->test;

	KUNIT_ASSERT_EQ(test, test_bit(index, m->buddy.busy), used > 0);
	KUNIT_ASSERT_EQ(test, !!chunk, used > 0);
	if (!chunk) {
		KUNIT_ASSERT_GE(test, index, m->buddy.hint);
		return;
	}
	KUNIT_ASSERT_EQ(test, chunk->index, index);
	KUNIT_ASSERT_EQ(test, chunk->used, used);
	KUNIT_ASSERT_EQ(test, chunk->free_groups,
			count_free_runs(m, first, GM_CHUNK_PAGES,
					GM_ORDER_64K));
	KUNIT_ASSERT_EQ(test, chunk->whole,
			m->head[first] == GM_ORDER_2M + 1);
	KUNIT_ASSERT_EQ(test, list_empty(&chunk->partial),
			used == GM_CHUNK_PAGES);
	if (chunk->whole)
		return;
	KUNIT_ASSERT_NOT_NULL(test, chunk->parts);
	for (i = 0; i < GM_CHUNK_PAGES; i++) {
		u8 head = m->head[first + i];

		if (test_bit(i, chunk->map) == m->used[first + i] &&
		    test_bit(i, chunk->head) == !!head &&
		    test_bit(i, chunk->large) == (head == GM_ORDER_64K + 1))
			continue;
		KUNIT_FAIL(test, "page %lu of chunk %lu differs", i, index);
	}
}

/* Every listed chunk belongs on its list; those with scraps come first. */
static void check_lists(const struct model *m)
{
	unsigned long listed = 0, partial = 0, i;
	struct kunit *test = m->test;
	struct gm_chunk *chunk;
	bool clean = false;

	list_for_each_entry(chunk, &m->buddy.partial[0], partial) {
		KUNIT_ASSERT_EQ(test, chunk->free_groups, 0);
		listed++;
	}
	list_for_each_entry(chunk, &m->buddy.partial[GM_ORDER_64K], partial) {
		bool scraps = has_scraps(m, chunk->index * GM_CHUNK_PAGES,
					 GM_CHUNK_PAGES);

		KUNIT_ASSERT_GT(test, chunk->free_groups, 0);
		KUNIT_ASSERT_FALSE(test, scraps && clean);
		clean = !scraps;
		listed++;
	}
	for (i = 0; i < PAGES; i += GM_CHUNK_PAGES) {
		unsigned long used = count_used(m, i, GM_CHUNK_PAGES);

		partial += used && used < GM_CHUNK_PAGES;
	}
	KUNIT_ASSERT_EQ(test, listed, partial);
}

static void check_buddy(const struct model *m)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++)
		KUNIT_ASSERT_EQ(m->test,
				gm_buddy_nr_free(&m->buddy, orders[i]),
				count_free_runs(m, 0, PAGES, orders[i]));
	for (i = 0; i < CHUNKS; i++)
		check_chunk(m, i);
	check_lists(m);
}

/* Low fragmentation: nothing that is whole is broken without need. */
static void check_choice(const struct model *m, long dpfn, unsigned int order,
			 bool opened)
{
	unsigned long chunk = ALIGN_DOWN(dpfn, GM_CHUNK_PAGES);
	struct kunit *test = m->test;

	KUNIT_ASSERT_EQ(test, opened, !has_open_room(m, order));
	KUNIT_ASSERT_EQ(test, opened, !count_used(m, chunk, GM_CHUNK_PAGES));
	if (!order && has_scraps(m, 0, PAGES))
		KUNIT_ASSERT_TRUE(test, has_scraps(m, ALIGN_DOWN(dpfn, GROUP),
						   GROUP));
}

/* Allocate, with every answer checked.  Return: dpfn, or -ENOSPC. */
static long model_alloc(struct model *m, unsigned int order)
{
	unsigned long room = count_free_runs(m, 0, PAGES, order), i;
	struct gm_chunk *fresh = NULL;
	struct kunit *test = m->test;
	bool opened;
	long dpfn;

	dpfn = gm_buddy_alloc(&m->buddy, order, &fresh);
	opened = dpfn == -EAGAIN;
	if (opened) {
		check_buddy(m);
		fresh = gm_chunk_alloc(order, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, fresh);
		dpfn = gm_buddy_alloc(&m->buddy, order, &fresh);
		KUNIT_ASSERT_GE(test, dpfn, 0);
		KUNIT_ASSERT_NULL(test, fresh);
	}
	if (!room) {
		KUNIT_ASSERT_EQ(test, dpfn, -ENOSPC);
		return dpfn;
	}
	KUNIT_ASSERT_GE(test, dpfn, 0);
	KUNIT_ASSERT_LE(test, dpfn + (1L << order), (long)PAGES);
	KUNIT_ASSERT_EQ(test, dpfn & ((1L << order) - 1), 0);
	KUNIT_ASSERT_EQ(test, count_used(m, dpfn, 1UL << order), 0);
	check_choice(m, dpfn, order, opened);

	for (i = 0; i < 1UL << order; i++)
		m->used[dpfn + i] = true;
	m->head[dpfn] = order + 1;
	m->runs[m->nr_runs++] = dpfn;
	return dpfn;
}

static void model_free(struct model *m, unsigned int which)
{
	unsigned long dpfn = m->runs[which], i;
	unsigned int order = m->head[dpfn] - 1;
	struct gm_chunk *chunk;

	for (i = 0; i < 1UL << order; i++)
		m->used[dpfn + i] = false;
	m->head[dpfn] = 0;
	m->runs[which] = m->runs[--m->nr_runs];

	chunk = gm_buddy_free(&m->buddy, dpfn, order);
	KUNIT_EXPECT_EQ(m->test, !!chunk,
			!count_used(m, ALIGN_DOWN(dpfn, GM_CHUNK_PAGES),
				    GM_CHUNK_PAGES));
	gm_chunk_free(chunk);
}

static void fill(struct model *m, unsigned int order)
{
	while (model_alloc(m, order) >= 0)
		;
}

static void free_all(struct model *m)
{
	while (m->nr_runs)
		model_free(m, m->nr_runs - 1);
}

/* --- cases --------------------------------------------------------------------- */

/* Random runs come and go, while the memory fills and empties in waves. */
static void buddy_random(struct kunit *test)
{
	struct model *m = test->priv;
	struct rnd_state rnd;
	unsigned int step;

	prandom_seed_state(&rnd, 4711);
	for (step = 0; step < STEPS; step++) {
		bool filling = step / (STEPS / 8) % 2 == 0;
		u32 dice = prandom_u32_state(&rnd) % 100;
		unsigned int order;

		if (m->nr_runs && dice < (filling ? 30 : 70)) {
			model_free(m, prandom_u32_state(&rnd) % m->nr_runs);
		} else {
			dice = prandom_u32_state(&rnd) % 100;
			order = dice < 70 ? 0 : dice < 95 ? GM_ORDER_64K :
							    GM_ORDER_2M;
			model_alloc(m, order);
		}
		check_buddy(m);
	}
	free_all(m);
	check_buddy(m);
}

/* Exactly as many runs as the size allows, twice, for each order. */
static void buddy_exhaust_and_refill(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned int i, round;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		for (round = 0; round < 2; round++) {
			fill(m, orders[i]);
			KUNIT_EXPECT_EQ(test, m->nr_runs, PAGES >> orders[i]);
			KUNIT_EXPECT_EQ(test, gm_buddy_nr_free(&m->buddy, 0), 0);
			check_buddy(m);
			free_all(m);
			check_buddy(m);
		}
	}
}

/* Fill with pages and keep those that @keep divides. */
static void fragment(struct model *m, unsigned long keep)
{
	unsigned int i = 0;

	fill(m, 0);
	while (i < m->nr_runs) {
		if (m->runs[i] % keep)
			model_free(m, i);
		else
			i++;
	}
	check_buddy(m);
}

/* One page in each chunk spoils it for 2 MiB and costs a single 64 KiB. */
static void buddy_one_page_per_chunk(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned int small;

	fragment(m, GM_CHUNK_PAGES);
	KUNIT_ASSERT_EQ(test, m->nr_runs, CHUNKS);
	KUNIT_EXPECT_EQ(test, model_alloc(m, GM_ORDER_2M), -ENOSPC);
	small = m->nr_runs;
	fill(m, GM_ORDER_64K);
	KUNIT_EXPECT_EQ(test, m->nr_runs - small,
			CHUNKS * (GM_CHUNK_PAGES / GROUP - 1));
	fill(m, 0);
	KUNIT_EXPECT_EQ(test, gm_buddy_nr_free(&m->buddy, 0), 0);
	check_buddy(m);
	free_all(m);
	check_buddy(m);
}

/* One page in each group spoils it for everything but pages. */
static void buddy_one_page_per_group(struct kunit *test)
{
	struct model *m = test->priv;

	fragment(m, GROUP);
	KUNIT_EXPECT_EQ(test, model_alloc(m, GM_ORDER_64K), -ENOSPC);
	KUNIT_EXPECT_EQ(test, model_alloc(m, GM_ORDER_2M), -ENOSPC);
	KUNIT_EXPECT_EQ(test, gm_buddy_nr_free(&m->buddy, 0),
			PAGES - PAGES / GROUP);
	free_all(m);
	check_buddy(m);
	KUNIT_EXPECT_EQ(test, gm_buddy_nr_free(&m->buddy, GM_ORDER_2M), CHUNKS);
}

/* A descriptor without parts does not do for a run that needs one. */
static void buddy_needs_parts(struct kunit *test)
{
	struct model *m = test->priv;
	struct gm_chunk *whole = gm_chunk_alloc(GM_ORDER_2M, GFP_KERNEL);
	struct gm_chunk *fresh = whole;

	KUNIT_ASSERT_NOT_NULL(test, whole);
	KUNIT_EXPECT_NULL(test, whole->parts);
	KUNIT_EXPECT_EQ(test, gm_buddy_alloc(&m->buddy, 0, &fresh), -EAGAIN);
	KUNIT_EXPECT_PTR_EQ(test, fresh, whole);
	check_buddy(m);
	gm_chunk_free(whole);
}

/* No descriptor is used up while there is no need for one. */
static void buddy_keeps_fresh(struct kunit *test)
{
	struct model *m = test->priv;
	struct gm_chunk *spare, *fresh;
	long dpfn;

	dpfn = model_alloc(m, 0);
	KUNIT_ASSERT_GE(test, dpfn, 0);
	spare = gm_chunk_alloc(0, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, spare);
	fresh = spare;
	dpfn = gm_buddy_alloc(&m->buddy, 0, &fresh);
	KUNIT_EXPECT_GE(test, dpfn, 0);
	KUNIT_EXPECT_PTR_EQ(test, fresh, spare);
	gm_chunk_free(fresh);
	KUNIT_EXPECT_NULL(test, gm_buddy_free(&m->buddy, dpfn, 0));
	free_all(m);
	check_buddy(m);
}

static void buddy_bad_size(struct kunit *test)
{
	static const unsigned long bad[] = {
		0, 1, GM_CHUNK_PAGES - 1, GM_CHUNK_PAGES + 1,
	};
	struct gm_buddy buddy = { };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ(test, gm_buddy_init(&buddy, bad[i]), -EINVAL);
}

static int buddy_init(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, m);
	KUNIT_ASSERT_EQ(test, gm_buddy_init(&m->buddy, PAGES), 0);
	m->test = test;
	test->priv = m;
	return 0;
}

static void buddy_exit(struct kunit *test)
{
	struct model *m = test->priv;

	if (m)
		gm_buddy_destroy(&m->buddy);
}

static struct kunit_case buddy_cases[] = {
	KUNIT_CASE_SLOW(buddy_random),
	KUNIT_CASE_SLOW(buddy_exhaust_and_refill),
	KUNIT_CASE(buddy_one_page_per_chunk),
	KUNIT_CASE(buddy_one_page_per_group),
	KUNIT_CASE(buddy_needs_parts),
	KUNIT_CASE(buddy_keeps_fresh),
	KUNIT_CASE(buddy_bad_size),
	{}
};

static struct kunit_suite buddy_suite = {
	.name = "gmem_buddy",
	.init = buddy_init,
	.exit = buddy_exit,
	.test_cases = buddy_cases,
};

kunit_test_suite(buddy_suite);
