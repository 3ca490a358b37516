// SPDX-License-Identifier: GPL-2.0
/*
 * vm_objects that share runs: fork and mremap() against a model that knows the
 * device page behind each virtual page and nothing else.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/rmap.h>
#include <linux/sizes.h>

#include "../gmem.h"
#include "fake.h"

#define OBJECTS		3
#define PAGES		(8 * GM_CHUNK_PAGES)
#define DEVICE_PAGES	(32 * GM_CHUNK_PAGES)
#define STEPS		600
#define NOTHING		ULONG_MAX

static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };

/**
 * struct model - vm_objects and what should be in them
 * @test: for assertions
 * @gdev: device with @hnode
 * @hnode: its memory
 * @anon_vma: where runs claim to be
 * @vmo: the objects
 * @page: dpfn behind each page, or NOTHING
 * @views: entries that point to the run of a dpfn, as counted
 * @rnd: generator
 */
struct model {
	struct kunit *test;
	struct gm_dev *gdev;
	struct gm_hnode *hnode;
	struct anon_vma anon_vma;
	struct vm_object vmo[OBJECTS];
	unsigned long page[OBJECTS][PAGES];
	unsigned int views[DEVICE_PAGES];
	struct rnd_state rnd;
};

static unsigned long random(struct model *m, unsigned long below)
{
	return prandom_u32_state(&m->rnd) % below;
}

static bool clear(const struct model *m, unsigned int obj, unsigned long vpn,
		  unsigned long nr)
{
	while (nr--)
		if (m->page[obj][vpn + nr] != NOTHING)
			return false;
	return true;
}

/* --- steps -------------------------------------------------------------------- */

/* A piece comes to the device, with or without all of its pages. */
static void step_add(struct model *m)
{
	unsigned int obj = random(m, OBJECTS);
	unsigned int order = orders[random(m, ARRAY_SIZE(orders))];
	unsigned long nr = 1UL << order, i;
	unsigned long vpn = ALIGN_DOWN(random(m, PAGES), nr);
	struct gm_block *block;
	unsigned long loc;

	block = gm_block_alloc(order, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(m->test, block);
	if (gm_run_alloc(m->hnode, order, &loc, GFP_KERNEL)) {
		gm_block_put(block);
		return;
	}
	gm_run_set_rmap(loc, &m->anon_vma, vpn);
	block->vpn = vpn;
	block->loc = loc;
	if (vm_object_insert(&m->vmo[obj], block, GFP_KERNEL)) {
		/* Something is there, or a block with a hole is around it. */
		gm_run_put(loc);
		gm_block_put(block);
		return;
	}
	KUNIT_ASSERT_TRUE(m->test, clear(m, obj, vpn, nr));
	for (i = 0; i < nr; i++) {
		if (i && !random(m, 4))
			continue;
		vm_object_set_valid(&m->vmo[obj], block, i, 1);
		m->page[obj][vpn + i] = gm_loc_dpfn(loc) + i;
	}
	KUNIT_EXPECT_EQ(m->test, GM_LOC_NONE,
			vm_object_release(&m->vmo[obj], block));
}

static void zap(struct model *m, unsigned int obj, unsigned long vpn,
		unsigned long end)
{
	unsigned long loc, last;
	unsigned int nr;

	while (vpn < end) {
		nr = end - vpn;
		loc = vm_object_zap(&m->vmo[obj], vpn, &nr);
		if (loc != GM_LOC_NONE)
			gm_run_put(loc);
		KUNIT_ASSERT_GE(m->test, nr, 1);
		for (last = vpn + nr; vpn < last; vpn++) {
			if (nr > 1)
				KUNIT_ASSERT_NE(m->test, NOTHING,
						m->page[obj][vpn]);
			m->page[obj][vpn] = NOTHING;
		}
	}
	KUNIT_ASSERT_EQ(m->test, vpn, end);
}

static void step_zap(struct model *m)
{
	unsigned int obj = random(m, OBJECTS);
	unsigned long vpn = random(m, PAGES);
	unsigned long end = min(vpn + 1 + random(m, 700), PAGES);

	zap(m, obj, vpn, end);
}

/* VMA by VMA, as fork does it; a part of the parent is left out. */
static void step_fork(struct model *m)
{
	unsigned int obj = random(m, OBJECTS);
	unsigned int child = (obj + 1) % OBJECTS;
	unsigned long vpn, end, i;

	vm_object_destroy(&m->vmo[child]);
	for (i = 0; i < PAGES; i++)
		m->page[child][i] = NOTHING;
	for (vpn = 0; vpn < PAGES; vpn = end) {
		end = min(vpn + 1 + random(m, 2000), PAGES);
		if (!random(m, 4))
			continue;
		KUNIT_ASSERT_EQ(m->test, 0,
				vm_object_share(&m->vmo[obj], &m->vmo[child],
						vpn, end - 1));
		memcpy(&m->page[child][vpn], &m->page[obj][vpn],
		       (end - vpn) * sizeof(vpn));
	}
}

/* A range moves to another one, of which nothing is left; or it does not. */
static void step_mremap(struct model *m)
{
	unsigned int obj = random(m, OBJECTS);
	unsigned long nr = 1 + random(m, PAGES / 2);
	unsigned long from = random(m, PAGES - nr + 1);
	unsigned long to = random(m, PAGES - nr + 1);
	bool moved = random(m, 4);
	unsigned long i;

	/* As often as not in alignment. */
	if (random(m, 2))
		to = ALIGN_DOWN(to, GM_CHUNK_PAGES) + from % GM_CHUNK_PAGES;
	if (to + nr > PAGES || (from < to + nr && to < from + nr))
		return;
	zap(m, obj, to, to + nr);
	KUNIT_ASSERT_EQ(m->test, 0,
			vm_object_rekey_begin(&m->vmo[obj], from, to, nr));
	vm_object_rekey_end(&m->vmo[obj], from, to, nr, moved);
	for (i = 0; moved && i < nr; i++) {
		m->page[obj][to + i] = m->page[obj][from + i];
		m->page[obj][from + i] = NOTHING;
	}
}

/* --- checks -------------------------------------------------------------------- */

static void check_pages(struct model *m, unsigned int obj)
{
	unsigned long vpn, first = 0, loc, dpfn;

	for (vpn = 0; vpn < PAGES; vpn++) {
		loc = vm_object_find(&m->vmo[obj], vpn, &first);
		dpfn = loc == GM_LOC_NONE ? NOTHING :
					    gm_loc_dpfn(loc) + vpn - first;
		KUNIT_ASSERT_EQ_MSG(m->test, dpfn, m->page[obj][vpn],
				    "object %u page %lu", obj, vpn);
	}
}

static void count_views(struct model *m, struct vm_object *vmo)
{
	unsigned long index, loc;
	void *entry;

	xa_for_each(&vmo->pages, index, entry) {
		struct gm_block *block = entry;

		loc = xa_is_value(entry) ? xa_to_value(entry) : block->loc;
		m->views[gm_loc_dpfn(gm_run_loc(loc))]++;
		if (!xa_is_value(entry)) {
			KUNIT_EXPECT_EQ(m->test, block->vpn, index);
			KUNIT_EXPECT_FALSE(m->test, block->busy);
			KUNIT_EXPECT_FALSE(m->test,
					   bitmap_empty(block->valid,
							gm_block_pages(block)));
		}
	}
}

/* Every run has as many views as there are entries that point to it. */
static void check_views(struct model *m)
{
	unsigned long dpfn, used = 0, loc;
	unsigned int i;

	memset(m->views, 0, sizeof(m->views));
	for (i = 0; i < OBJECTS; i++)
		count_views(m, &m->vmo[i]);
	for (dpfn = 0; dpfn < DEVICE_PAGES; dpfn++) {
		if (!m->views[dpfn])
			continue;
		loc = gm_run_loc(gm_loc(m->hnode->index, dpfn, 0));
		KUNIT_EXPECT_EQ(m->test, gm_loc_dpfn(loc), dpfn);
		KUNIT_EXPECT_EQ(m->test, (u64)gm_run_of(loc)->views,
				m->views[dpfn]);
		KUNIT_EXPECT_EQ(m->test, gm_run_shared(loc),
				m->views[dpfn] > 1);
		used += 1UL << gm_loc_order(loc);
	}
	KUNIT_EXPECT_EQ(m->test, m->hnode->used, used);
}

static void share_random(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned int i, step;

	for (step = 0; step < STEPS; step++) {
		switch (random(m, 16)) {
		case 0:
			step_fork(m);
			break;
		case 1 ... 2:
			step_mremap(m);
			break;
		case 3 ... 4:
			step_zap(m);
			break;
		default:
			step_add(m);
			break;
		}
		if (step % 4)
			continue;
		for (i = 0; i < OBJECTS; i++)
			check_pages(m, i);
		check_views(m);
		cond_resched();
	}
}

/* An order 9 block, whole, at page 0 of the first object. */
static unsigned long add_block(struct model *m, unsigned long vpn)
{
	struct gm_block *block = gm_block_alloc(GM_ORDER_2M, GFP_KERNEL);
	unsigned long loc;

	KUNIT_ASSERT_NOT_NULL(m->test, block);
	KUNIT_ASSERT_EQ(m->test, 0, gm_run_alloc(m->hnode, GM_ORDER_2M, &loc, GFP_KERNEL));
	gm_run_set_rmap(loc, &m->anon_vma, vpn);
	block->vpn = vpn;
	block->loc = loc;
	KUNIT_ASSERT_EQ(m->test, 0, vm_object_insert(&m->vmo[0], block, GFP_KERNEL));
	vm_object_set_valid(&m->vmo[0], block, 0, GM_CHUNK_PAGES);
	vm_object_release(&m->vmo[0], block);
	return loc;
}

/* Half of a block goes out of alignment, into a hole of another block. */
static void share_mremap_into_a_hole(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned long a = add_block(m, 0), b = add_block(m, GM_CHUNK_PAGES);
	unsigned long i, first = 0, vpn = GM_CHUNK_PAGES;
	unsigned int nr = 16;

	KUNIT_EXPECT_EQ(test, GM_LOC_NONE,
			vm_object_zap(&m->vmo[0], vpn + 3, &nr));
	KUNIT_EXPECT_EQ(test, nr, 16);
	KUNIT_ASSERT_EQ(test, 0, vm_object_rekey_begin(&m->vmo[0], 100, vpn + 3,
						       16));
	vm_object_rekey_end(&m->vmo[0], 100, vpn + 3, 16, true);
	for (i = 0; i < 16; i++) {
		KUNIT_EXPECT_EQ(test, gm_loc(m->hnode->index,
					     gm_loc_dpfn(a) + 100 + i, 0),
				vm_object_find(&m->vmo[0], vpn + 3 + i,
					       &first));
		KUNIT_EXPECT_EQ(test, GM_LOC_NONE,
				vm_object_find(&m->vmo[0], 100 + i, &first));
	}
	KUNIT_EXPECT_EQ(test, (u64)gm_run_of(a)->views, GM_CHUNK_PAGES);
	KUNIT_EXPECT_EQ(test, (u64)gm_run_of(b)->views, GM_CHUNK_PAGES - 16);
}

/* A move that did not happen leaves no trace, and no slot is in the way. */
static void share_mremap_undone(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned long loc = add_block(m, 0), first = 0;

	KUNIT_ASSERT_EQ(test, 0,
			vm_object_rekey_begin(&m->vmo[0], 0, GM_CHUNK_PAGES,
					      GM_CHUNK_PAGES));
	vm_object_rekey_end(&m->vmo[0], 0, GM_CHUNK_PAGES, GM_CHUNK_PAGES,
			    false);
	KUNIT_EXPECT_EQ(test, loc, vm_object_find(&m->vmo[0], 5, &first));
	KUNIT_EXPECT_EQ(test, first, 0);
	KUNIT_EXPECT_EQ(test, (u64)gm_run_of(loc)->views, 1);
	add_block(m, GM_CHUNK_PAGES);
}

/* More views than can be counted: nothing changes. */
static void share_too_many_views(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned long loc = add_block(m, 0), first = 0;
	u64 views = GM_MAX_VIEWS;

	KUNIT_ASSERT_TRUE(test, gm_run_get(loc, views - 1));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			vm_object_share(&m->vmo[0], &m->vmo[1], 0,
					GM_CHUNK_PAGES - 1));
	KUNIT_EXPECT_TRUE(test, xa_empty(&m->vmo[1].pages));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			vm_object_rekey_begin(&m->vmo[0], 1, 600, 7));
	vm_object_rekey_end(&m->vmo[0], 1, 600, 7, false);
	KUNIT_EXPECT_EQ(test, loc, vm_object_find(&m->vmo[0], 1, &first));
	KUNIT_EXPECT_EQ(test, (u64)gm_run_of(loc)->views, views);
	while (--views)
		gm_run_put(loc);
}

/*
 * A block that cannot be cut is home as far as it moves, and the rest of it, which
 * is another VMA's, stays where it is.
 */
static void share_mremap_beside_too_many(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned long loc = add_block(m, 0), first = 0;
	u64 views = GM_MAX_VIEWS;
	unsigned int nr = 256;

	KUNIT_ASSERT_TRUE(test, gm_run_get(loc, views - 1));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			vm_object_rekey_begin(&m->vmo[0], 0, 1024, nr));
	KUNIT_EXPECT_EQ(test, GM_LOC_NONE, vm_object_zap(&m->vmo[0], 0, &nr));
	KUNIT_ASSERT_EQ(test, nr, 256);
	vm_object_rekey_end(&m->vmo[0], 0, 1024, nr, true);
	KUNIT_EXPECT_EQ(test, loc, vm_object_find(&m->vmo[0], 300, &first));
	KUNIT_EXPECT_EQ(test, first, 0);
	KUNIT_EXPECT_EQ(test, GM_LOC_NONE,
			vm_object_find(&m->vmo[0], 1100, &first));
	while (--views)
		gm_run_put(loc);
}

static int share_init(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct device *dev;
	unsigned int i, k;

	KUNIT_ASSERT_NOT_NULL(test, m);
	m->test = test;
	test->priv = m;
	atomic_set(&m->anon_vma.refcount, 1);
	init_rwsem(&m->anon_vma.rwsem);
	m->anon_vma.root = &m->anon_vma;
	m->anon_vma.rb_root = RB_ROOT_CACHED;
	prandom_seed_state(&m->rnd, 4711);
	for (i = 0; i < OBJECTS; i++) {
		vm_object_init(&m->vmo[i]);
		for (k = 0; k < PAGES; k++)
			m->page[i][k] = NOTHING;
	}
	dev = kunit_device_register(test, "gmem_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	m->gdev = gm_dev_create(dev, &gm_fake_mmu, GM_DEV_CAP_REPLAYABLE, m);
	KUNIT_ASSERT_FALSE(test, IS_ERR(m->gdev));
	KUNIT_ASSERT_GE(test, gm_dev_register_physmem(m->gdev, SZ_1G,
						      (u64)DEVICE_PAGES <<
						      PAGE_SHIFT),
			GM_HNID_BASE);
	m->hnode = m->gdev->hnode;
	return 0;
}

static void share_exit(struct kunit *test)
{
	struct model *m = test->priv;
	unsigned int i;

	if (IS_ERR_OR_NULL(m->gdev))
		return;
	for (i = 0; i < OBJECTS; i++)
		vm_object_destroy(&m->vmo[i]);
	KUNIT_EXPECT_EQ(test, m->hnode->used, 0);
	gm_dev_destroy(m->gdev);
}

static struct kunit_case share_cases[] = {
	KUNIT_CASE_SLOW(share_random),
	KUNIT_CASE(share_mremap_into_a_hole),
	KUNIT_CASE(share_mremap_undone),
	KUNIT_CASE(share_too_many_views),
	KUNIT_CASE(share_mremap_beside_too_many),
	{}
};

static struct kunit_suite share_suite = {
	.name = "gmem_share",
	.init = share_init,
	.exit = share_exit,
	.test_cases = share_cases,
};

kunit_test_suite(share_suite);
