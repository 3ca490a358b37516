// SPDX-License-Identifier: GPL-2.0
/*
 * The vm_object against an array of pages.
 *
 * The model has, of each virtual page, the block it is in and whether it is
 * valid; a block at rest, a single page and a BUSY block differ only in fields
 * of the model.  Every answer of a random walk over the operations is compared
 * with it, and so are pages after each step.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/prandom.h>

#include "../gmem.h"

/* Not at zero, and across a node of the xarray and more. */
#define BASE	(7 * GM_CHUNK_PAGES)
#define PAGES	(3 * GM_CHUNK_PAGES)
#define STEPS	3000
/* So often all pages are looked at, and at other times some. */
#define FULL	16
#define SOME	64

/**
 * struct model_block - a block that should be there
 * @loc: its run, or GM_LOC_NONE when the slot is not used
 * @vpn: first page
 * @owned: the block while it is BUSY, and the test its owner; else NULL
 */
struct model_block {
	unsigned long loc;
	unsigned long vpn;
	struct gm_block *owned;
};

/**
 * struct model - a vm_object and what should be in it
 * @vmo: what is tested
 * @test: for assertions
 * @rnd: dice
 * @of: block that covers the page, or NULL
 * @valid: does the device have the page?
 * @blocks: all blocks
 * @next_dpfn: where the next run will be
 */
struct model {
	struct vm_object vmo;
	struct kunit *test;
	struct rnd_state rnd;
	struct model_block *of[PAGES];
	bool valid[PAGES];
	struct model_block blocks[PAGES];
	unsigned long next_dpfn;
};

static unsigned int roll(struct model *m, unsigned int sides)
{
	return prandom_u32_state(&m->rnd) % sides;
}

static unsigned long block_pages(const struct model_block *mb)
{
	return 1UL << gm_loc_order(mb->loc);
}

static bool any_valid(const struct model *m, const struct model_block *mb)
{
	unsigned long i;

	for (i = 0; i < block_pages(mb); i++)
		if (m->valid[mb->vpn - BASE + i])
			return true;
	return false;
}

static void set_valid(struct model *m, unsigned long vpn, unsigned long nr,
		      bool valid)
{
	while (nr--)
		m->valid[vpn++ - BASE] = valid;
}

static struct model_block *model_add(struct model *m, unsigned long vpn,
				     unsigned long loc)
{
	struct model_block *mb = m->blocks;
	unsigned long i;

	while (mb->loc != GM_LOC_NONE)
		mb++;
	mb->loc = loc;
	mb->vpn = vpn;
	for (i = 0; i < block_pages(mb); i++)
		m->of[vpn - BASE + i] = mb;
	return mb;
}

static void model_remove(struct model *m, struct model_block *mb)
{
	unsigned long i;

	for (i = 0; i < block_pages(mb); i++)
		m->of[mb->vpn - BASE + i] = NULL;
	mb->loc = GM_LOC_NONE;
}

/* --- comparing everything -------------------------------------------------- */

/* Valid pages of the block, from this one on and without a gap. */
static unsigned long ref_extent(const struct model *m, unsigned long vpn)
{
	const struct model_block *mb = m->of[vpn - BASE];
	unsigned long at = vpn;

	while (at < BASE + PAGES && m->of[at - BASE] == mb && m->valid[at - BASE])
		at++;
	return at - vpn;
}

static void check_page(struct model *m, unsigned long vpn)
{
	struct model_block *mb = m->of[vpn - BASE];
	unsigned long first = 0, loc;

	loc = vm_object_find(&m->vmo, vpn, &first);
	KUNIT_ASSERT_EQ(m->test, vm_object_extent(&m->vmo, vpn),
			ref_extent(m, vpn));
	if (!m->valid[vpn - BASE]) {
		KUNIT_ASSERT_EQ(m->test, loc, GM_LOC_NONE);
		return;
	}
	KUNIT_ASSERT_EQ(m->test, loc, mb->loc);
	KUNIT_ASSERT_EQ(m->test, first, mb->vpn);
}

static unsigned long ref_next(const struct model *m, unsigned long vpn,
			      unsigned long last)
{
	for (; vpn <= last; vpn++)
		if (m->valid[vpn - BASE])
			return vpn;
	return ULONG_MAX;
}

static void check_next(struct model *m)
{
	unsigned long from = BASE + roll(m, PAGES);
	unsigned long last = from + roll(m, BASE + PAGES - from);

	KUNIT_ASSERT_EQ(m->test, vm_object_next(&m->vmo, from, last),
			ref_next(m, from, last));
}

/* One walk over all of it: every page is found, in order. */
static void check_walk(struct model *m)
{
	unsigned long from, vpn, last = BASE + PAGES - 1;

	for (from = BASE; from <= last; from = vpn + 1) {
		vpn = vm_object_next(&m->vmo, from, last);
		KUNIT_ASSERT_EQ(m->test, vpn, ref_next(m, from, last));
		if (vpn == ULONG_MAX)
			break;
	}
}

/* Its slot is not empty, and in the node that is remembered. */
static void check_anchor(struct model *m)
{
	XA_STATE(xas, &m->vmo.pages, m->vmo.anchor);
	void *entry;

	if (m->vmo.anchor == ULONG_MAX)
		return;
	xas_lock(&xas);
	entry = xas_load(&xas);
	xas_unlock(&xas);
	KUNIT_ASSERT_NOT_NULL(m->test, entry);
	KUNIT_ASSERT_PTR_EQ(m->test, xas.xa_node, m->vmo.node);
}

static void check_vmo(struct model *m)
{
	bool empty = true;
	unsigned long i;

	for (i = 0; i < PAGES; i++) {
		check_page(m, BASE + i);
		empty &= !m->of[i];
	}
	check_walk(m);
	check_anchor(m);
	if (empty)
		vm_object_trim(&m->vmo);
	KUNIT_ASSERT_EQ(m->test, xa_empty(&m->vmo.pages), empty);
}

static void check_some(struct model *m)
{
	unsigned int i;

	for (i = 0; i < SOME; i++)
		check_page(m, BASE + roll(m, PAGES));
	check_next(m);
	check_anchor(m);
}

/* --- operations ---------------------------------------------------------------- */

static struct gm_block *new_block(struct model *m, unsigned long vpn,
				  unsigned int order)
{
	struct gm_block *block = gm_block_alloc(order, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(m->test, block);
	KUNIT_ASSERT_TRUE(m->test, block->busy);
	block->vpn = vpn;
	block->loc = gm_loc(3, m->next_dpfn, order);
	m->next_dpfn += GM_CHUNK_PAGES;
	return block;
}

/* Return: the new block, or NULL when the place is taken. */
static struct model_block *do_insert(struct model *m, unsigned long vpn,
				     unsigned int order)
{
	struct gm_block *block = new_block(m, vpn, order);
	struct model_block *mb = NULL;
	bool taken = false;
	unsigned long i;
	int ret;

	for (i = 0; i < 1UL << order; i++)
		taken |= !!m->of[vpn - BASE + i];
	ret = vm_object_insert(&m->vmo, block, GFP_KERNEL);
	KUNIT_ASSERT_EQ(m->test, ret, taken ? -EEXIST : 0);
	if (taken) {
		KUNIT_ASSERT_EQ(m->test, refcount_read(&block->refs), 1);
		gm_block_put(block);
	} else {
		mb = model_add(m, vpn, block->loc);
		mb->owned = block;
	}
	return mb;
}

static void do_claim(struct model *m, unsigned long vpn, bool with_spare)
{
	struct model_block *mb = m->of[vpn - BASE];
	struct gm_block *spare = NULL, *given, *block, *owned = NULL;
	struct kunit *test = m->test;

	if (with_spare) {
		spare = gm_block_alloc(0, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, spare);
	}
	given = spare;
	block = vm_object_claim(&m->vmo, vpn, &spare, &owned);

	if (!mb) {
		KUNIT_ASSERT_NULL(test, block);
	} else if (mb->owned) {
		KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(block), -EBUSY);
		KUNIT_ASSERT_PTR_EQ(test, owned, mb->owned);
		gm_block_put(owned);
	} else if (!gm_loc_order(mb->loc) && !with_spare) {
		KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(block), -ENOMEM);
	} else {
		KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL(block));
		KUNIT_ASSERT_TRUE(test, block->busy);
		KUNIT_ASSERT_EQ(test, block->vpn, mb->vpn);
		KUNIT_ASSERT_EQ(test, block->loc, mb->loc);
		if (!gm_loc_order(mb->loc)) {
			KUNIT_ASSERT_PTR_EQ(test, block, given);
			KUNIT_ASSERT_NULL(test, spare);
			given = NULL;
		}
		mb->owned = block;
	}
	KUNIT_ASSERT_PTR_EQ(test, spare, given);
	gm_block_put(spare);
}

static void do_release(struct model *m, struct model_block *mb)
{
	struct gm_block *block = mb->owned;
	unsigned long loc;

	/* Without this one it might be gone when its state is looked at. */
	refcount_inc(&block->refs);
	loc = vm_object_release(&m->vmo, block);
	KUNIT_ASSERT_FALSE(m->test, block->busy);
	mb->owned = NULL;
	if (any_valid(m, mb)) {
		KUNIT_ASSERT_EQ(m->test, loc, GM_LOC_NONE);
		/* A larger one stays, a single page becomes a value. */
		KUNIT_ASSERT_EQ(m->test, refcount_read(&block->refs),
				gm_loc_order(mb->loc) ? 2 : 1);
	} else {
		KUNIT_ASSERT_EQ(m->test, loc, mb->loc);
		KUNIT_ASSERT_EQ(m->test, refcount_read(&block->refs), 1);
		model_remove(m, mb);
	}
	gm_block_put(block);
}

static unsigned long zap_one(struct model *m, unsigned long vpn)
{
	unsigned int nr = 1;
	unsigned long loc = vm_object_zap(&m->vmo, vpn, &nr);

	KUNIT_EXPECT_EQ(m->test, nr, 1);
	return loc;
}

static void do_zap(struct model *m, unsigned long vpn)
{
	struct model_block *mb = m->of[vpn - BASE];
	unsigned long loc = zap_one(m, vpn);

	set_valid(m, vpn, 1, false);
	if (!mb || mb->owned || any_valid(m, mb)) {
		KUNIT_ASSERT_EQ(m->test, loc, GM_LOC_NONE);
		return;
	}
	KUNIT_ASSERT_EQ(m->test, loc, mb->loc);
	model_remove(m, mb);
}

static void do_set_clear(struct model *m, struct model_block *mb, bool set,
			 unsigned long from, unsigned long nr)
{
	if (set)
		vm_object_set_valid(&m->vmo, mb->owned, from, nr);
	else
		vm_object_clear_valid(&m->vmo, mb->owned, from, nr);
	set_valid(m, mb->vpn + from, nr, set);
}

/* A block with all of its pages, at rest. */
static struct model_block *add_full(struct model *m, unsigned long vpn,
				    unsigned int order)
{
	struct model_block *mb = do_insert(m, vpn, order);

	KUNIT_ASSERT_NOT_NULL(m->test, mb);
	do_set_clear(m, mb, true, 0, 1UL << order);
	do_release(m, mb);
	check_vmo(m);
	return mb;
}

static void clear_all(struct model *m)
{
	unsigned long i;

	for (i = 0; i < PAGES; i++) {
		if (m->of[i] && m->of[i]->owned)
			do_release(m, m->of[i]);
		do_zap(m, BASE + i);
	}
	check_vmo(m);
	KUNIT_EXPECT_TRUE(m->test, xa_empty(&m->vmo.pages));
}

/* --- cases ------------------------------------------------------------------------ */

static void random_step(struct model *m)
{
	static const unsigned int orders[] = {
		0, 0, 0, 0, GM_ORDER_64K, GM_ORDER_64K, GM_ORDER_2M,
	};
	unsigned long vpn = BASE + roll(m, PAGES), from, nr;
	struct model_block *mb = m->of[vpn - BASE];
	unsigned int order;

	/* While somebody owns the block, mostly its owner does something. */
	if (mb && mb->owned && roll(m, 4)) {
		nr = block_pages(mb);
		from = roll(m, nr);
		if (!roll(m, 3))
			do_release(m, mb);
		else
			do_set_clear(m, mb, roll(m, 3), from,
				     1 + roll(m, nr - from));
		return;
	}
	switch (roll(m, 8)) {
	case 0 ... 3:
		order = orders[roll(m, ARRAY_SIZE(orders))];
		do_insert(m, ALIGN_DOWN(vpn, 1UL << order), order);
		break;
	case 4:
		do_claim(m, vpn, roll(m, 4));
		break;
	case 5:
		/* The end of a piece of address space. */
		for (nr = roll(m, GM_CHUNK_PAGES); nr; nr--)
			if (vpn + nr < BASE + PAGES)
				do_zap(m, vpn + nr);
		break;
	default:
		do_zap(m, vpn);
	}
}

static void vmo_random(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned int step;

	for (step = 0; step < STEPS; step++) {
		random_step(m);
		if (step % FULL)
			check_some(m);
		else
			check_vmo(m);
	}
	clear_all(m);
}

/* Every order against every order, at the first and the last page. */
static void vmo_conflicts(struct kunit *test)
{
	static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };
	struct model *m = test->priv;
	unsigned int a, b;

	for (a = 0; a < ARRAY_SIZE(orders); a++) {
		for (b = 0; b < ARRAY_SIZE(orders); b++) {
			unsigned long last = BASE + GM_CHUNK_PAGES - 1;

			add_full(m, ALIGN_DOWN(last, 1UL << orders[a]),
				 orders[a]);
			KUNIT_EXPECT_NULL(test,
					  do_insert(m, ALIGN_DOWN(last, 1UL << orders[b]),
						    orders[b]));
			/* The neighbour is free. */
			add_full(m, last + 1, orders[b]);
			clear_all(m);
		}
	}
}

/* A page is a value while it rests, a block while it is BUSY. */
static void vmo_single_page(struct kunit *test)
{
	struct model *m = test->priv;
	struct model_block *mb = add_full(m, BASE + 5, 0);

	KUNIT_EXPECT_TRUE(test, xa_is_value(xa_load(&m->vmo.pages, BASE + 5)));
	do_claim(m, BASE + 5, false);
	KUNIT_EXPECT_NULL(test, mb->owned);
	do_claim(m, BASE + 5, true);
	KUNIT_ASSERT_NOT_NULL(test, mb->owned);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&m->vmo.pages, BASE + 5),
			    (void *)mb->owned);
	check_vmo(m);
	do_release(m, mb);
	KUNIT_EXPECT_TRUE(test, xa_is_value(xa_load(&m->vmo.pages, BASE + 5)));
	clear_all(m);
}

/* A zap leaves a BUSY block to its owner, who finds out when it is done. */
static void vmo_zap_busy(struct kunit *test)
{
	static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };
	struct model *m = test->priv;
	struct model_block *mb;
	unsigned long loc, i;
	unsigned int o;

	for (o = 0; o < ARRAY_SIZE(orders); o++) {
		mb = add_full(m, BASE, orders[o]);
		loc = mb->loc;
		do_claim(m, BASE, true);
		KUNIT_ASSERT_NOT_NULL(test, mb->owned);
		for (i = 0; i < 1UL << orders[o]; i++)
			do_zap(m, BASE + i);
		check_vmo(m);
		/* Still there, in the way of a new one and owned. */
		KUNIT_EXPECT_NULL(test, do_insert(m, BASE, orders[o]));
		do_claim(m, BASE, true);
		KUNIT_EXPECT_EQ(test, vm_object_release(&m->vmo, mb->owned),
				loc);
		mb->owned = NULL;
		model_remove(m, mb);
		check_vmo(m);
	}
}

/* The run of a block at rest is given up with its last page, not earlier. */
static void vmo_zap_last_page(struct kunit *test)
{
	struct model *m = test->priv;
	struct model_block *mb = add_full(m, BASE, GM_ORDER_64K);
	unsigned long loc = mb->loc, pages = block_pages(mb), i;

	for (i = 1; i < pages; i++)
		KUNIT_EXPECT_EQ(test, zap_one(m, BASE + i),
				GM_LOC_NONE);
	KUNIT_EXPECT_EQ(test, zap_one(m, BASE), loc);
	KUNIT_EXPECT_EQ(test, zap_one(m, BASE), GM_LOC_NONE);
	set_valid(m, BASE, pages, false);
	model_remove(m, mb);
	check_vmo(m);
}

/* Several at once: up to a hole, the end of the block or as many as asked for. */
static void vmo_zap_several(struct kunit *test)
{
	static const struct {
		unsigned int at, max, nr;
	} zaps[] = {
		{ 5, 1, 1 }, { 2, 512, 3 }, { 5, 512, 1 }, { 6, 4, 4 },
		{ 10, 512, 6 },
	};
	struct model *m = test->priv;
	struct model_block *mb = add_full(m, BASE, GM_ORDER_64K);
	unsigned long behind = add_full(m, BASE + 16, GM_ORDER_64K)->loc;
	unsigned long first, loc = mb->loc;
	unsigned int i, nr;

	for (i = 0; i < ARRAY_SIZE(zaps); i++) {
		nr = zaps[i].max;
		KUNIT_EXPECT_EQ(test, GM_LOC_NONE,
				vm_object_zap(&m->vmo, BASE + zaps[i].at, &nr));
		KUNIT_EXPECT_EQ(test, nr, zaps[i].nr);
		set_valid(m, BASE + zaps[i].at, nr, false);
		check_vmo(m);
	}
	nr = 512;
	KUNIT_EXPECT_EQ(test, loc, vm_object_zap(&m->vmo, BASE, &nr));
	KUNIT_EXPECT_EQ(test, nr, 2);
	set_valid(m, BASE, 2, false);
	model_remove(m, mb);
	check_vmo(m);
	KUNIT_EXPECT_EQ(test, behind, vm_object_find(&m->vmo, BASE + 16, &first));
}

/* The ends of the index range, where one more would wrap. */
static void vmo_edges(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned long last = ULONG_MAX >> PAGE_SHIFT, first;
	struct gm_block *block = new_block(m, last, 0);

	KUNIT_ASSERT_EQ(test, vm_object_insert(&m->vmo, block, GFP_KERNEL), 0);
	vm_object_set_valid(&m->vmo, block, 0, 1);
	KUNIT_EXPECT_EQ(test, vm_object_release(&m->vmo, block), GM_LOC_NONE);
	KUNIT_EXPECT_EQ(test, vm_object_next(&m->vmo, 0, last), last);
	KUNIT_EXPECT_EQ(test, vm_object_next(&m->vmo, 0, last - 1), ULONG_MAX);
	KUNIT_EXPECT_EQ(test, vm_object_next(&m->vmo, last, last), last);
	KUNIT_EXPECT_NE(test, vm_object_find(&m->vmo, last, &first),
			GM_LOC_NONE);
	KUNIT_EXPECT_EQ(test, first, last);
	KUNIT_EXPECT_EQ(test, vm_object_find(&m->vmo, 0, &first), GM_LOC_NONE);
	KUNIT_EXPECT_NE(test, zap_one(m, last), GM_LOC_NONE);
	vm_object_trim(&m->vmo);
	KUNIT_EXPECT_TRUE(test, xa_empty(&m->vmo.pages));
}

/* A page that went leaves its slot, which nobody finds and anybody may take. */
static void vmo_anchor(struct kunit *test)
{
	static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };
	struct model *m = test->priv;
	unsigned long far = BASE + 2 * GM_CHUNK_PAGES, vpn = BASE + 5;
	struct model_block *mb;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		add_full(m, vpn, 0);
		KUNIT_EXPECT_NE(test, zap_one(m, vpn), GM_LOC_NONE);
		KUNIT_EXPECT_FALSE(test, xa_empty(&m->vmo.pages));
		set_valid(m, vpn, 1, false);
		model_remove(m, m->of[vpn - BASE]);
		do_claim(m, vpn, true);
		do_zap(m, vpn);
		KUNIT_EXPECT_EQ(test, vm_object_extent(&m->vmo, vpn), 0);
		KUNIT_EXPECT_FALSE(test, vm_object_shared(&m->vmo, vpn));

		mb = do_insert(m, ALIGN_DOWN(vpn, 1UL << orders[i]), orders[i]);
		KUNIT_ASSERT_NOT_NULL(test, mb);
		do_set_clear(m, mb, true, 0, 1);
		do_release(m, mb);
		check_vmo(m);
		/* The anchor goes where pages come, and leaves nothing behind. */
		add_full(m, far, 0);
		KUNIT_EXPECT_EQ(test, m->vmo.anchor, far);
		clear_all(m);
	}
}

/* --- waiting ------------------------------------------------------------------------- */

#define WAITERS	4

/**
 * struct waiter - a thread that finds a BUSY block and waits for it
 * @block: the block, with a reference for the thread
 * @started: it runs
 * @done: the wait is over
 */
struct waiter {
	struct gm_block *block;
	struct completion started;
	struct completion done;
};

static int waiter_fn(void *data)
{
	struct waiter *w = data;

	complete(&w->started);
	gm_block_wait(w->block);
	gm_block_put(w->block);
	complete(&w->done);
	return 0;
}

/* All who wait go on when the owner is done, and nobody earlier. */
static void vmo_wait(struct kunit *test)
{
	struct model *m = test->priv;
	struct model_block *mb = do_insert(m, BASE, GM_ORDER_64K);
	struct gm_block *spare = NULL, *owned;
	struct waiter *w;
	unsigned int i;

	w = kunit_kcalloc(test, WAITERS, sizeof(*w), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, w);
	KUNIT_ASSERT_NOT_NULL(test, mb);
	for (i = 0; i < WAITERS; i++) {
		struct gm_block *ret;

		ret = vm_object_claim(&m->vmo, BASE + i, &spare, &owned);
		KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(ret), -EBUSY);
		w[i].block = owned;
		init_completion(&w[i].started);
		init_completion(&w[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(waiter_fn, &w[i],
							    "gmem_kunit/%u",
							    i)));
		wait_for_completion(&w[i].started);
	}
	msleep(20);
	for (i = 0; i < WAITERS; i++)
		KUNIT_EXPECT_FALSE(test, completion_done(&w[i].done));
	KUNIT_EXPECT_EQ(test, vm_object_release(&m->vmo, mb->owned), mb->loc);
	for (i = 0; i < WAITERS; i++)
		KUNIT_EXPECT_NE(test, 0,
				wait_for_completion_timeout(&w[i].done,
							    10 * HZ));
	KUNIT_EXPECT_TRUE(test, xa_empty(&m->vmo.pages));
}

static int vmo_init(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, m);
	vm_object_init(&m->vmo);
	m->test = test;
	prandom_seed_state(&m->rnd, 20241117);
	test->priv = m;
	return 0;
}

static struct kunit_case vmo_cases[] = {
	KUNIT_CASE_SLOW(vmo_random),
	KUNIT_CASE(vmo_conflicts),
	KUNIT_CASE(vmo_single_page),
	KUNIT_CASE(vmo_zap_busy),
	KUNIT_CASE(vmo_zap_last_page),
	KUNIT_CASE(vmo_zap_several),
	KUNIT_CASE(vmo_edges),
	KUNIT_CASE(vmo_anchor),
	KUNIT_CASE(vmo_wait),
	{}
};

static struct kunit_suite vmo_suite = {
	.name = "gmem_vm_object",
	.init = vmo_init,
	.test_cases = vmo_cases,
};

kunit_test_suite(vmo_suite);
