// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory as nodes: ids, accounting, the limit, files, waiting for room
 * and taking the memory away, with devices that exist in name only.
 */
#include <kunit/device.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/rmap.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "../gmem.h"
#include "fake.h"

#define CHUNKS		4
#define PAGES		(CHUNKS * GM_CHUNK_PAGES)
#define SIZE		((u64)PAGES << PAGE_SHIFT)
#define BASE		SZ_1G

static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };

/**
 * struct fixture - a device with memory, and an owner of runs
 * @test: for assertions
 * @dev: device
 * @gdev: the same for GMEM
 * @hnode: its memory
 * @anon_vma: where runs claim to be; no VMA is linked to it
 * @other: another one
 */
struct fixture {
	struct kunit *test;
	struct device *dev;
	struct gm_dev *gdev;
	struct gm_hnode *hnode;
	struct anon_vma anon_vma;
	struct anon_vma other;
};

static unsigned long take_in(struct fixture *f, struct anon_vma *anon_vma,
			     unsigned int order, unsigned long pgoff)
{
	unsigned long loc = GM_LOC_NONE;

	KUNIT_ASSERT_EQ(f->test, 0, gm_run_alloc(f->hnode, order, &loc, GFP_KERNEL));
	gm_run_set_rmap(loc, anon_vma, pgoff);
	return loc;
}

static unsigned long take(struct fixture *f, unsigned int order,
			  unsigned long pgoff)
{
	return take_in(f, &f->anon_vma, order, pgoff);
}

/* The files as a reader sees them. */
static struct kobj_attribute *find_file(struct fixture *f, const char *name)
{
	struct attribute **attr = gm_hnode_groups[0]->attrs;

	while (*attr && strcmp((*attr)->name, name))
		attr++;
	KUNIT_ASSERT_NOT_NULL_MSG(f->test, *attr, "no file %s", name);
	return container_of(*attr, struct kobj_attribute, attr);
}

static u64 read_file(struct fixture *f, const char *name)
{
	struct kobj_attribute *file = find_file(f, name);
	char *buf = kunit_kzalloc(f->test, PAGE_SIZE * 2, GFP_KERNEL);
	u64 value = 0;

	KUNIT_ASSERT_NOT_NULL(f->test, buf);
	buf = PTR_ALIGN(buf, PAGE_SIZE);
	KUNIT_ASSERT_GT(f->test, file->show(&f->hnode->kobj, file, buf), 0);
	KUNIT_ASSERT_EQ(f->test, kstrtou64(buf, 0, &value), 0);
	return value;
}

static ssize_t write_limit(struct fixture *f, const char *text)
{
	struct kobj_attribute *file = find_file(f, "limit");

	return file->store(&f->hnode->kobj, file, text, strlen(text));
}

static void check_unused(struct fixture *f)
{
	struct kunit *test = f->test;

	KUNIT_EXPECT_EQ(test, read_file(f, "used"), 0);
	KUNIT_EXPECT_EQ(test, read_file(f, "free"), SIZE);
	KUNIT_EXPECT_EQ(test, read_file(f, "free_4k"), SIZE);
	KUNIT_EXPECT_EQ(test, read_file(f, "free_64k"), SIZE);
	KUNIT_EXPECT_EQ(test, read_file(f, "free_2m"), SIZE);
	KUNIT_EXPECT_TRUE(test, list_empty(&f->hnode->lru));
}

/* --- devices and ids ----------------------------------------------------------- */

static void hnode_bad_device(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct gm_mmu mmu = gm_fake_mmu;
	struct gm_dev *gdev;

	mmu.copy = NULL;
	gdev = gm_dev_create(f->dev, &mmu, GM_DEV_CAP_REPLAYABLE, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gdev), -EINVAL);
	mmu = gm_fake_mmu;
	mmu.pgsize_bitmap = SZ_2M;
	gdev = gm_dev_create(f->dev, &mmu, GM_DEV_CAP_REPLAYABLE, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gdev), -EINVAL);
	gdev = gm_dev_create(f->dev, &gm_fake_mmu, 0, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gdev), -EOPNOTSUPP);
	gdev = gm_dev_create(f->dev, &gm_fake_mmu, ~0UL, NULL);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gdev), -EOPNOTSUPP);
}

static void hnode_bad_memory(struct kunit *test)
{
	static const struct {
		u64 base, size;
	} bad[] = {
		{ 0, 0 },
		{ 0, SZ_2M - 1 },
		{ 0, SZ_4K },
		{ SZ_4K, SZ_2M },
		{ 0, SZ_2M + SZ_4K },
		{ -(u64)SZ_2M, SZ_4M },
		{ 0, (u64)PAGE_SIZE << GM_LOC_DPFN_BITS },
		{ 0, -(u64)SZ_2M },
	};
	struct fixture *f = test->priv;
	struct gm_dev *gdev;
	unsigned int i;

	gdev = gm_dev_create(f->dev, &gm_fake_mmu, GM_DEV_CAP_REPLAYABLE, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(gdev));
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    gm_dev_register_physmem(gdev, bad[i].base,
							    bad[i].size),
				    "case %u", i);
	KUNIT_EXPECT_EQ(test, -EBUSY,
			gm_dev_register_physmem(f->gdev, BASE, SIZE));
	/* Neither has memory now: both calls have nothing to do. */
	gm_dev_unregister_physmem(gdev);
	gm_dev_destroy(gdev);
	gm_dev_destroy(NULL);
}

static void hnode_ids(struct kunit *test)
{
	static const int bad[] = {
		INT_MIN, -2, -1, 0, 1, GM_HNID_BASE - 1,
		GM_HNID_BASE + GM_MAX_HNODES - 1, GM_HNID_BASE + GM_MAX_HNODES,
		GM_HNID_BASE + 0x10000, INT_MAX,
	};
	struct fixture *f = test->priv;
	struct gm_hnode *hnode;
	int id = f->hnode->id;
	unsigned int i;

	KUNIT_EXPECT_GE(test, id, GM_HNID_BASE);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_NULL_MSG(test, gm_hnode_get(bad[i]), "id %d",
				      bad[i]);
	hnode = gm_hnode_get(id);
	KUNIT_ASSERT_PTR_EQ(test, hnode, f->hnode);

	/* A reference keeps the struct, but nothing comes out of it. */
	gm_dev_unregister_physmem(f->gdev);
	KUNIT_EXPECT_NULL(test, gm_hnode_get(id));
	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		unsigned long loc;

		KUNIT_EXPECT_EQ(test, -ENOSPC,
				gm_run_alloc(hnode, orders[i], &loc, GFP_KERNEL));
	}
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(hnode, 1), -ENOSPC);
	gm_hnode_put(hnode);
	/* And the device can give its memory once more. */
	KUNIT_EXPECT_GE(test, gm_dev_register_physmem(f->gdev, BASE, SIZE),
			GM_HNID_BASE);
	f->hnode = f->gdev->hnode;
}

static int no_evictor_start(struct gm_hnode *hnode)
{
	return 0;
}

static void no_evictor_stop(struct gm_hnode *hnode)
{
}

/* Without its thread, an hnode that was never used is empty by itself. */
static void destroy_unused(struct gm_hnode *hnode)
{
	hnode->closing = true;
	gm_hnode_destroy(hnode);
}

/*
 * Every id is given out once; without one registration fails cleanly.  A
 * thousand threads would take minutes on a kernel with checkers.
 */
static void hnode_ids_run_out(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct gm_hnode **hnodes;
	unsigned int nr, i;

	hnodes = kunit_kcalloc(test, GM_MAX_HNODES, sizeof(*hnodes),
			       GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hnodes);
	kunit_activate_static_stub(test, gm_evictor_start, no_evictor_start);
	kunit_activate_static_stub(test, gm_evictor_stop, no_evictor_stop);
	for (nr = 0; nr < GM_MAX_HNODES; nr++) {
		hnodes[nr] = gm_hnode_create(f->gdev, 0, SZ_2M);
		if (IS_ERR(hnodes[nr]))
			break;
	}
	/* The fixture has one, a device of this machine may have others. */
	KUNIT_EXPECT_LT(test, nr, GM_MAX_HNODES);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(hnodes[nr]), -ENOSPC);
	for (i = 0; i < nr; i++) {
		struct gm_hnode *hnode = gm_hnode_get(hnodes[i]->id);

		KUNIT_EXPECT_PTR_EQ(test, hnode, hnodes[i]);
		gm_hnode_put(hnode);
	}
	while (nr--)
		destroy_unused(hnodes[nr]);
	hnodes[0] = gm_hnode_create(f->gdev, 0, SZ_2M);
	KUNIT_ASSERT_FALSE(test, IS_ERR(hnodes[0]));
	destroy_unused(hnodes[0]);
	kunit_deactivate_static_stub(test, gm_evictor_start);
	kunit_deactivate_static_stub(test, gm_evictor_stop);
}

/* --- runs ------------------------------------------------------------------------ */

static void hnode_runs(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long locs[ARRAY_SIZE(orders)], pages = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		locs[i] = take(f, orders[i], 1000 + i);
		pages += 1UL << orders[i];
		KUNIT_EXPECT_EQ(test, gm_loc_order(locs[i]), orders[i]);
		KUNIT_EXPECT_PTR_EQ(test, gm_loc_to_hnode(locs[i]), f->hnode);
		KUNIT_EXPECT_EQ(test, gm_loc_addr(locs[i], 0), BASE +
				(gm_loc_dpfn(locs[i]) << PAGE_SHIFT));
		KUNIT_EXPECT_EQ(test, read_file(f, "used"),
				(u64)pages << PAGE_SHIFT);
		KUNIT_EXPECT_EQ(test, read_file(f, "free"),
				SIZE - ((u64)pages << PAGE_SHIFT));
	}
	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		struct gm_run *run = gm_run_of(locs[i]);

		KUNIT_EXPECT_PTR_EQ(test, run->anon_vma, &f->anon_vma);
		KUNIT_EXPECT_EQ(test, (u64)run->pgoff, 1000 + i);
		KUNIT_EXPECT_EQ(test, (u64)run->views, 1);
	}
	/* The first two share a chunk, the third has one for itself. */
	KUNIT_EXPECT_EQ(test, read_file(f, "free_2m"), SIZE - 2 * SZ_2M);
	KUNIT_EXPECT_EQ(test, read_file(f, "free_64k"),
			SIZE - SZ_2M - 2 * SZ_64K);
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		gm_run_put(locs[i]);
	check_unused(f);
}

/* More pages than an int counts, of which only those in use cost something. */
static void hnode_large(struct kunit *test)
{
	const u64 size = (u64)PAGE_SIZE << 32;
	unsigned long locs[ARRAY_SIZE(orders)], pages = 0;
	struct fixture *f = test->priv;
	struct gm_hnode *small = f->hnode;
	struct gm_dev *gdev;
	unsigned int i;

	gdev = gm_dev_create(f->dev, &gm_fake_mmu, GM_DEV_CAP_REPLAYABLE, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(gdev));
	KUNIT_ASSERT_GE(test, gm_dev_register_physmem(gdev, 0, size),
			GM_HNID_BASE);
	f->hnode = gdev->hnode;
	KUNIT_EXPECT_EQ(test, read_file(f, "size"), size);
	KUNIT_EXPECT_EQ(test, read_file(f, "limit"), size);
	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		locs[i] = take(f, orders[i], 1000 + i);
		pages += 1UL << orders[i];
	}
	KUNIT_EXPECT_EQ(test, read_file(f, "used"), (u64)pages << PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, read_file(f, "free"),
			size - ((u64)pages << PAGE_SHIFT));
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		gm_run_put(locs[i]);
	KUNIT_EXPECT_EQ(test, read_file(f, "used"), 0);
	KUNIT_EXPECT_EQ(test, read_file(f, "free_2m"), size);
	f->hnode = small;
	gm_dev_unregister_physmem(gdev);
	gm_dev_destroy(gdev);
}

static void hnode_limit(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long a, b, loc;
	char text[32];

	KUNIT_EXPECT_EQ(test, read_file(f, "limit"), SIZE);
	KUNIT_EXPECT_EQ(test, write_limit(f, "junk"), -EINVAL);
	KUNIT_EXPECT_EQ(test, write_limit(f, "-1"), -EINVAL);
	KUNIT_EXPECT_EQ(test, write_limit(f, ""), -EINVAL);
	KUNIT_EXPECT_EQ(test, write_limit(f, "0x1ffffffffffffffff"), -ERANGE);
	snprintf(text, sizeof(text), "%llu\n", SIZE + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, write_limit(f, text), -EINVAL);
	KUNIT_EXPECT_EQ(test, read_file(f, "limit"), SIZE);

	/* 17 pages, rounded down from a byte less than 18. */
	snprintf(text, sizeof(text), "%lu\n", 18 * PAGE_SIZE - 1);
	KUNIT_EXPECT_EQ(test, write_limit(f, text), strlen(text));
	KUNIT_EXPECT_EQ(test, read_file(f, "limit"), 17 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, -ENOSPC,
			gm_run_alloc(f->hnode, GM_ORDER_2M, &loc, GFP_KERNEL));
	a = take(f, GM_ORDER_64K, 0);
	KUNIT_EXPECT_EQ(test, -ENOSPC,
			gm_run_alloc(f->hnode, GM_ORDER_64K, &loc, GFP_KERNEL));
	b = take(f, 0, 16);
	KUNIT_EXPECT_EQ(test, -ENOSPC, gm_run_alloc(f->hnode, 0, &loc, GFP_KERNEL));

	/* Below what is in use: allowed, and nothing comes out any more. */
	KUNIT_EXPECT_EQ(test, write_limit(f, "0"), 1);
	gm_run_put(b);
	KUNIT_EXPECT_EQ(test, -ENOSPC, gm_run_alloc(f->hnode, 0, &loc, GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 1), -ENOSPC);
	gm_run_put(a);
	check_unused(f);
}

/* Until nothing fits, in random orders; every run is another one. */
static void hnode_fill(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long *locs, nr = 0, loc, pages = 0, i;
	unsigned long *map;
	struct rnd_state rnd;
	unsigned int order;

	locs = kunit_kcalloc(test, PAGES, sizeof(*locs), GFP_KERNEL);
	map = kunit_kcalloc(test, BITS_TO_LONGS(PAGES), sizeof(*map),
			    GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, locs);
	KUNIT_ASSERT_NOT_NULL(test, map);
	prandom_seed_state(&rnd, 99);

	while (pages < PAGES) {
		order = orders[prandom_u32_state(&rnd) % ARRAY_SIZE(orders)];
		if (gm_run_alloc(f->hnode, order, &loc, GFP_KERNEL)) {
			KUNIT_ASSERT_NE(test, order, 0);
			continue;
		}
		for (i = 0; i < 1UL << order; i++)
			KUNIT_ASSERT_FALSE(test,
					   test_and_set_bit(gm_loc_dpfn(loc) + i,
							    map));
		locs[nr++] = loc;
		pages += 1UL << order;
	}
	KUNIT_EXPECT_EQ(test, pages, PAGES);
	KUNIT_EXPECT_EQ(test, read_file(f, "free"), 0);
	KUNIT_EXPECT_EQ(test, -ENOSPC, gm_run_alloc(f->hnode, 0, &loc, GFP_KERNEL));
	while (nr--)
		gm_run_put(locs[nr]);
	check_unused(f);
}

#define THREADS		4
#define HELD		32
#define ROUNDS		3000

struct churn {
	struct fixture *f;
	unsigned int seed;
	unsigned int failed;
	struct completion done;
};

static int churn_fn(void *data)
{
	struct churn *c = data;
	unsigned long held[HELD] = { };
	struct rnd_state rnd;
	unsigned int i, slot, order;

	prandom_seed_state(&rnd, c->seed);
	for (i = 0; i < ROUNDS; i++) {
		slot = prandom_u32_state(&rnd) % HELD;
		order = orders[prandom_u32_state(&rnd) % 16 / 7];
		if (held[slot] != GM_LOC_NONE) {
			c->failed += gm_run_of(held[slot])->pgoff !=
				     c->seed * ROUNDS + slot;
			gm_run_put(held[slot]);
			held[slot] = GM_LOC_NONE;
		} else if (gm_run_alloc(c->f->hnode, order, &held[slot], GFP_KERNEL)) {
			held[slot] = GM_LOC_NONE;
		} else {
			gm_run_set_rmap(held[slot], &c->f->anon_vma,
					c->seed * ROUNDS + slot);
		}
		cond_resched();
	}
	for (slot = 0; slot < HELD; slot++)
		if (held[slot] != GM_LOC_NONE)
			gm_run_put(held[slot]);
	complete(&c->done);
	return 0;
}

/* Threads that do not know of each other; afterwards nothing is missing. */
static void hnode_parallel(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct churn *c;
	unsigned int i;

	c = kunit_kcalloc(test, THREADS, sizeof(*c), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, c);
	for (i = 0; i < THREADS; i++) {
		c[i].f = f;
		c[i].seed = i + 1;
		init_completion(&c[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(churn_fn, &c[i],
							    "gmem_kunit/%u",
							    i)));
	}
	for (i = 0; i < THREADS; i++) {
		wait_for_completion(&c[i].done);
		KUNIT_EXPECT_EQ(test, c[i].failed, 0);
	}
	check_unused(f);
}

/* Views come and go; the run goes with the last one. */
static void hnode_views(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long loc, part, other;
	unsigned int i, order;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		order = orders[i];
		loc = take(f, order, 5000);
		part = gm_loc(gm_loc_hnode(loc), gm_loc_dpfn(loc) +
			      (1UL << order) - 1, 0);
		KUNIT_EXPECT_EQ(test, gm_run_loc(part), loc);
		KUNIT_EXPECT_PTR_EQ(test, gm_run_of(part), gm_run_of(loc));
		KUNIT_EXPECT_FALSE(test, gm_run_shared(loc));
		KUNIT_EXPECT_TRUE(test, gm_run_takes(loc, &f->anon_vma, 5000));
		KUNIT_EXPECT_FALSE(test, gm_run_takes(loc, &f->anon_vma, 4999));
		KUNIT_EXPECT_FALSE(test, gm_run_takes(loc, NULL, 5000));
		if (order)
			KUNIT_EXPECT_FALSE(test, gm_run_takes(part,
							      &f->anon_vma,
							      5000));

		KUNIT_EXPECT_TRUE(test, gm_run_get(part, 2));
		KUNIT_EXPECT_TRUE(test, gm_run_shared(loc));
		KUNIT_EXPECT_TRUE(test, gm_run_shared(part));
		KUNIT_EXPECT_FALSE(test, gm_run_takes(loc, &f->anon_vma, 5000));
		other = take(f, 0, 0);
		gm_run_copy_rmap(other, part);
		KUNIT_EXPECT_EQ(test, (u64)gm_run_of(other)->pgoff,
				5000 + (1UL << order) - 1);
		gm_run_put(other);

		gm_run_put(part);
		gm_run_put(loc);
		KUNIT_EXPECT_FALSE(test, gm_run_shared(part));
		KUNIT_EXPECT_EQ(test, read_file(f, "used"),
				PAGE_SIZE << order);
		gm_run_put(part);
		check_unused(f);
	}
}

/* A view that went while an invalidation was put off may still be looked at. */
static void hnode_stale(struct kunit *test)
{
	struct fixture *f = test->priv;
	/* Keeps the descriptor that the other is part of. */
	unsigned long keep = take(f, GM_ORDER_64K, 9000);
	unsigned long loc = take(f, GM_ORDER_64K, 5000), again;

	KUNIT_ASSERT_TRUE(test, gm_run_get(loc, 1));
	f->gdev->deferred = 1;
	gm_run_put(loc);
	KUNIT_EXPECT_TRUE(test, gm_run_shared(loc));
	KUNIT_EXPECT_FALSE(test, gm_run_takes(loc, &f->anon_vma, 5000));
	KUNIT_EXPECT_EQ(test, f->gdev->dead, GM_LOC_NONE);
	f->gdev->deferred = 0;
	KUNIT_EXPECT_TRUE(test, gm_run_shared(loc));
	gm_run_put(loc);
	again = take(f, GM_ORDER_64K, 5000);
	KUNIT_EXPECT_EQ(test, again, loc);
	KUNIT_EXPECT_FALSE(test, gm_run_shared(again));
	gm_run_put(again);
	gm_run_put(keep);
	check_unused(f);
}

/* More views than a run can count are refused, and nothing changes. */
static void hnode_too_many_views(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long loc = take(f, 0, 0);
	unsigned long views = GM_MAX_VIEWS;

	KUNIT_EXPECT_TRUE(test, gm_run_get(loc, GM_MAX_VIEWS - 1));
	KUNIT_EXPECT_FALSE(test, gm_run_get(loc, 1));
	KUNIT_EXPECT_FALSE(test, gm_run_get(loc, GM_MAX_VIEWS));
	gm_run_put(loc);
	KUNIT_EXPECT_FALSE(test, gm_run_get(loc, 2));
	KUNIT_EXPECT_TRUE(test, gm_run_get(loc, 1));
	while (views--)
		gm_run_put(loc);
	check_unused(f);
}

/* --- who has to go ------------------------------------------------------------------ */

static void put_victims(struct gm_victim *victims, int nr)
{
	while (nr-- > 0)
		put_anon_vma(victims[nr].anon_vma);
}

/* Chunks come up in the order in which they were last allocated from. */
static void hnode_victims_order(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long locs[CHUNKS];
	struct gm_victim victim;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, gm_hnode_victims(f->hnode, &victim, 1), -ENOENT);
	for (i = 0; i < CHUNKS; i++)
		locs[i] = take(f, GM_ORDER_2M, i * GM_CHUNK_PAGES);
	for (i = 0; i < 2 * CHUNKS; i++) {
		KUNIT_ASSERT_EQ(test, gm_hnode_victims(f->hnode, &victim, 1),
				1);
		KUNIT_EXPECT_EQ(test, victim.loc, locs[i % CHUNKS]);
		KUNIT_EXPECT_EQ(test, victim.pgoff,
				i % CHUNKS * GM_CHUNK_PAGES);
		KUNIT_EXPECT_PTR_EQ(test, victim.anon_vma, &f->anon_vma);
		put_victims(&victim, 1);
	}
	/* A new run makes its chunk the youngest. */
	gm_run_put(locs[0]);
	locs[0] = take(f, GM_ORDER_2M, 0);
	for (i = 1; i <= CHUNKS; i++) {
		KUNIT_ASSERT_EQ(test, gm_hnode_victims(f->hnode, &victim, 1),
				1);
		KUNIT_EXPECT_EQ(test, victim.loc, locs[i % CHUNKS]);
		put_victims(&victim, 1);
	}
	for (i = 0; i < CHUNKS; i++)
		gm_run_put(locs[i]);
	check_unused(f);
}

/* All runs of a chunk, whatever their order, except those given up. */
static void hnode_victims_parts(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long locs[40];
	struct gm_victim *victims;
	int refs = atomic_read(&f->anon_vma.refcount), nr;
	unsigned int i;

	victims = kunit_kcalloc(test, GM_CHUNK_PAGES, sizeof(*victims),
				GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, victims);
	for (i = 0; i < ARRAY_SIZE(locs); i++)
		locs[i] = take(f, i % 4 ? 0 : GM_ORDER_64K, 100 * i);

	nr = gm_hnode_victims(f->hnode, victims, GM_CHUNK_PAGES);
	KUNIT_ASSERT_EQ(test, nr, (int)ARRAY_SIZE(locs));
	KUNIT_EXPECT_EQ(test, atomic_read(&f->anon_vma.refcount), refs + nr);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ(test, victims[i].loc,
				locs[victims[i].pgoff / 100]);
	put_victims(victims, nr);

	nr = gm_hnode_victims(f->hnode, victims, 3);
	KUNIT_EXPECT_EQ(test, nr, 3);
	put_victims(victims, nr);

	/* What waits for a deferred invalidation. */
	f->gdev->deferred = 1;
	gm_run_put(locs[3]);
	gm_run_put(locs[7]);
	KUNIT_EXPECT_EQ(test, f->gdev->dead, locs[7]);
	KUNIT_EXPECT_EQ(test, gm_run_of(locs[7])->next, locs[3]);
	KUNIT_EXPECT_EQ(test, gm_run_of(locs[3])->next, GM_LOC_NONE);
	nr = gm_hnode_victims(f->hnode, victims, GM_CHUNK_PAGES);
	KUNIT_EXPECT_EQ(test, nr, (int)ARRAY_SIZE(locs) - 2);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_NE(test, victims[i].loc, locs[3]);
		KUNIT_EXPECT_NE(test, victims[i].loc, locs[7]);
	}
	put_victims(victims, nr);
	f->gdev->deferred = 0;
	gm_run_free_list(f->gdev->dead);
	f->gdev->dead = GM_LOC_NONE;

	KUNIT_EXPECT_EQ(test, atomic_read(&f->anon_vma.refcount), refs);
	for (i = 0; i < ARRAY_SIZE(locs); i++)
		if (i != 3 && i != 7)
			gm_run_put(locs[i]);
	check_unused(f);
}

/* --- waiting -------------------------------------------------------------------------- */

static void fill_whole(struct fixture *f, unsigned long *locs)
{
	unsigned int i;

	for (i = 0; i < CHUNKS; i++)
		locs[i] = take(f, GM_ORDER_2M, i * GM_CHUNK_PAGES);
}

/* Nothing can be evicted: the wait ends with an error, again and again. */
static void hnode_no_space(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long locs[CHUNKS];
	unsigned int i;

	fill_whole(f, locs);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 1), -ENOSPC);
		KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, PAGES),
				-ENOSPC);
	}
	for (i = 0; i < CHUNKS; i++)
		gm_run_put(locs[i]);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 1), 0);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, PAGES), 0);
	/* More than there will ever be, even while nothing is in use. */
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, PAGES + 1), -ENOSPC);
	check_unused(f);
}

/* Room is counted in pieces that suit: pages all over are not 2 MiB. */
static void hnode_space_fragmented(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long *locs, kept[CHUNKS], i;

	locs = kunit_kcalloc(test, PAGES, sizeof(*locs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, locs);
	for (i = 0; i < PAGES; i++)
		locs[i] = take(f, 0, i);
	for (i = 0; i < PAGES; i++) {
		unsigned long dpfn = gm_loc_dpfn(locs[i]);

		if (dpfn % GM_CHUNK_PAGES)
			gm_run_put(locs[i]);
		else
			kept[dpfn / GM_CHUNK_PAGES] = locs[i];
	}

	/* One page is left in each chunk. */
	KUNIT_EXPECT_EQ(test, read_file(f, "used"), CHUNKS * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 1), 0);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 16), 0);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, GM_CHUNK_PAGES),
			-ENOSPC);
	gm_run_put(kept[0]);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, GM_CHUNK_PAGES), 0);
	KUNIT_EXPECT_EQ(test, gm_wait_for_space(f->hnode, 2 * GM_CHUNK_PAGES),
			-ENOSPC);
	for (i = 1; i < CHUNKS; i++)
		gm_run_put(kept[i]);
	check_unused(f);
}

/**
 * struct waiter - somebody who wants a page
 * @work: waits
 * @hnode: for a page of it
 * @done: the wait is over
 * @ret: what it returned
 */
struct waiter {
	struct work_struct work;
	struct gm_hnode *hnode;
	struct completion done;
	int ret;
};

static void wait_for_page(struct work_struct *work)
{
	struct waiter *w = container_of(work, struct waiter, work);

	w->ret = gm_wait_for_space(w->hnode, 1);
	complete(&w->done);
}

static struct waiter *start_waiter(struct fixture *f)
{
	struct waiter *w = kunit_kzalloc(f->test, sizeof(*w), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(f->test, w);
	w->hnode = f->hnode;
	init_completion(&w->done);
	INIT_WORK(&w->work, wait_for_page);
	queue_work(system_unbound_wq, &w->work);
	return w;
}

/* Wait until a pass is under way and another one asked for, or not. */
static void wait_for_pass(struct fixture *f, bool asked)
{
	unsigned int tries;
	bool there = false;

	for (tries = 0; tries < 250 && !there; tries++) {
		msleep(20);
		spin_lock(&f->hnode->lock);
		there = f->hnode->evict_seq & 1 &&
			f->hnode->evict_asked == asked;
		spin_unlock(&f->hnode->lock);
	}
	KUNIT_EXPECT_TRUE(f->test, there);
}

/*
 * A pass waits for locks before it gives up, and who asks meanwhile gets one of
 * his own.
 */
static void hnode_pass_under_way(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long locs[CHUNKS];
	struct waiter *first, *second;
	unsigned int i;

	locs[0] = take(f, GM_ORDER_2M, 0);
	for (i = 1; i < CHUNKS; i++)
		locs[i] = take_in(f, &f->other, GM_ORDER_2M, i);

	/* The pass comes to the first run and stays there. */
	down_write(&f->anon_vma.rwsem);
	down_write_nested(&f->other.rwsem, 1);
	first = start_waiter(f);
	wait_for_pass(f, false);
	second = start_waiter(f);
	wait_for_pass(f, true);
	KUNIT_EXPECT_FALSE(test, completion_done(&first->done));
	KUNIT_EXPECT_FALSE(test, completion_done(&second->done));

	/* It ends without success, and the next one stays at the same run. */
	up_write(&f->anon_vma.rwsem);
	down_write_nested(&f->anon_vma.rwsem, 2);
	up_write(&f->other.rwsem);
	flush_work(&first->work);
	KUNIT_EXPECT_EQ(test, first->ret, -ENOSPC);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&second->done,
							     HZ / 5));
	gm_run_put(locs[1]);
	up_write(&f->anon_vma.rwsem);
	flush_work(&second->work);
	KUNIT_EXPECT_EQ(test, second->ret, 0);

	gm_run_put(locs[0]);
	for (i = 2; i < CHUNKS; i++)
		gm_run_put(locs[i]);
	check_unused(f);
}

struct later {
	struct delayed_work work;
	unsigned long locs[CHUNKS];
};

static void free_later(struct work_struct *work)
{
	struct later *l = container_of(to_delayed_work(work), struct later,
				       work);
	unsigned int i;

	for (i = 0; i < CHUNKS; i++)
		gm_run_put(l->locs[i]);
}

/* Evacuation ends when the last run is back, and not before. */
static void hnode_evacuate(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct gm_hnode *hnode = gm_hnode_get(f->hnode->id);
	const unsigned long delay = HZ / 5;
	unsigned long since;
	struct later *l;

	KUNIT_ASSERT_NOT_NULL(test, hnode);
	l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, l);
	fill_whole(f, l->locs);
	INIT_DELAYED_WORK(&l->work, free_later);
	since = jiffies;
	schedule_delayed_work(&l->work, delay);
	gm_dev_unregister_physmem(f->gdev);
	KUNIT_EXPECT_GE(test, jiffies - since, delay);
	KUNIT_EXPECT_EQ(test, hnode->used, 0);
	flush_delayed_work(&l->work);
	gm_hnode_put(hnode);
	f->hnode = NULL;
}

/* --- fixture --------------------------------------------------------------------------- */

static void init_anon_vma(struct anon_vma *anon_vma)
{
	atomic_set(&anon_vma->refcount, 1);
	init_rwsem(&anon_vma->rwsem);
	anon_vma->root = anon_vma;
	anon_vma->rb_root = RB_ROOT_CACHED;
}

static int hnode_init(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->test = test;
	test->priv = f;
	f->dev = kunit_device_register(test, "gmem_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->dev));
	init_anon_vma(&f->anon_vma);
	init_anon_vma(&f->other);
	f->gdev = gm_dev_create(f->dev, &gm_fake_mmu, GM_DEV_CAP_REPLAYABLE, f);
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->gdev));
	KUNIT_ASSERT_PTR_EQ(test, gm_dev_drvdata(f->gdev), (void *)f);
	KUNIT_ASSERT_GE(test, gm_dev_register_physmem(f->gdev, BASE, SIZE),
			GM_HNID_BASE);
	f->hnode = f->gdev->hnode;
	check_unused(f);
	return 0;
}

static void hnode_exit(struct kunit *test)
{
	struct fixture *f = test->priv;

	if (!IS_ERR_OR_NULL(f->gdev))
		gm_dev_destroy(f->gdev);
}

static struct kunit_case hnode_cases[] = {
	KUNIT_CASE(hnode_bad_device),
	KUNIT_CASE(hnode_bad_memory),
	KUNIT_CASE(hnode_ids),
	KUNIT_CASE_SLOW(hnode_ids_run_out),
	KUNIT_CASE(hnode_runs),
	KUNIT_CASE_SLOW(hnode_large),
	KUNIT_CASE(hnode_limit),
	KUNIT_CASE(hnode_fill),
	KUNIT_CASE_SLOW(hnode_parallel),
	KUNIT_CASE(hnode_views),
	KUNIT_CASE(hnode_stale),
	KUNIT_CASE(hnode_too_many_views),
	KUNIT_CASE(hnode_victims_order),
	KUNIT_CASE(hnode_victims_parts),
	KUNIT_CASE(hnode_no_space),
	KUNIT_CASE(hnode_space_fragmented),
	KUNIT_CASE(hnode_pass_under_way),
	KUNIT_CASE(hnode_evacuate),
	{}
};

static struct kunit_suite hnode_suite = {
	.name = "gmem_hnode",
	.init = hnode_init,
	.exit = hnode_exit,
	.test_cases = hnode_cases,
};

kunit_test_suite(hnode_suite);
