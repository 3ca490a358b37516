// SPDX-License-Identifier: GPL-2.0
/*
 * Contexts of one process on one device: which of them get a translation.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/rmap.h>
#include <linux/sizes.h>

#include "../gmem.h"
#include "fake.h"

#define CONTEXTS	2

/**
 * struct fixture - a process and a device with memory
 * @test: for assertions
 * @mmu: the device counts what it maps; drvdata of a context is the fixture
 * @gdev: device
 * @as: the address space
 * @anon_vma: where the run claims to be
 * @ctx: contexts, those that are not attached NULL
 * @maps: calls of peer_map for each of them
 * @flushed: what the last call of tlb_invl was about
 * @locked: how many of the locks the last call of peer_unmap was under
 * @addr: a page of the process
 * @block: the page on the device, BUSY
 */
struct fixture {
	struct kunit *test;
	struct gm_mmu mmu;
	struct gm_dev *gdev;
	struct gm_as *as;
	struct anon_vma anon_vma;
	struct gm_context *ctx[CONTEXTS];
	unsigned int maps[CONTEXTS];
	struct gm_range flushed;
	unsigned int locked;
	unsigned long addr;
	struct gm_block *block;
};

static int count_map(struct gm_context *ctx, const struct gm_map *maps,
		     unsigned int nr)
{
	struct fixture *f = ctx->drvdata;
	unsigned int i;

	for (i = 0; i < CONTEXTS; i++)
		f->maps[i] += f->ctx[i] == ctx;
	return 0;
}

static void note_flush(struct gm_context *ctx, unsigned long start,
		       unsigned long end)
{
	struct fixture *f = ctx->drvdata;

	f->flushed.start = start;
	f->flushed.end = end;
}

static void count_locks(struct gm_context *ctx, unsigned long start,
			unsigned long end)
{
	struct fixture *f = ctx->drvdata;
	unsigned int i;

	f->locked = 0;
	for (i = 0; i < GM_MAP_LOCKS; i++)
		f->locked += mutex_is_locked(&ctx->map_lock[i]);
}

static void attach(struct fixture *f, unsigned int i)
{
	struct gm_context *ctx = gm_as_attach(f->as, f->gdev, 0, f);

	KUNIT_ASSERT_FALSE(f->test, IS_ERR(ctx));
	f->ctx[i] = ctx;
}

static void prepare(struct fixture *f, struct gm_prepared *prepared)
{
	prepared->order = 0;
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(f->test, 0,
			gm_as_prepare(f->as, f->ctx[0], f->gdev, f->addr,
				      f->addr + PAGE_SIZE, prepared));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_TRUE(f->test, prepared->all);
}

static void map(struct fixture *f, const struct gm_prepared *prepared)
{
	struct vm_area_struct *vma;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, f->addr);
	KUNIT_EXPECT_EQ(f->test, 0,
			gm_as_map_block(f->as, f->ctx[0], vma, f->block,
					prepared));
	mmap_read_unlock(current->mm);
}

/*
 * A context that came when the tables had been prepared is left out, as its own
 * were not; the next time it is like any other.
 */
static void context_attached_late(struct kunit *test)
{
	struct fixture *f = test->priv;
	struct gm_prepared prepared;

	attach(f, 0);
	prepare(f, &prepared);
	attach(f, 1);
	map(f, &prepared);
	KUNIT_EXPECT_EQ(test, f->maps[0], 1);
	KUNIT_EXPECT_EQ(test, f->maps[1], 0);
	prepare(f, &prepared);
	map(f, &prepared);
	KUNIT_EXPECT_EQ(test, f->maps[0], 2);
	KUNIT_EXPECT_EQ(test, f->maps[1], 1);
}

/*
 * The page may have been in a translation of 2 MiB, all of which the device must
 * forget: not every TLB finds the translation by a part of it.
 */
static void context_flushes_whole_pages(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long start = ALIGN_DOWN(f->addr, SZ_2M);

	attach(f, 0);
	gm_as_unmap(f->as, f->gdev, f->addr, f->addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, f->flushed.start, start);
	KUNIT_EXPECT_EQ(test, f->flushed.end, start + SZ_2M);
	/* A range that ends at a border ends there. */
	gm_as_unmap(f->as, f->gdev, start + SZ_2M - PAGE_SIZE, start + SZ_2M);
	KUNIT_EXPECT_EQ(test, f->flushed.start, start);
	KUNIT_EXPECT_EQ(test, f->flushed.end, start + SZ_2M);
	gm_as_unmap(f->as, f->gdev, 0, ULONG_MAX);
	KUNIT_EXPECT_EQ(test, f->flushed.start, 0);
	KUNIT_EXPECT_EQ(test, f->flushed.end, ULONG_MAX);
}

/*
 * A driver that does not say that it can has no two calls at a time: whatever the
 * range is, it is the same lock.
 */
static void context_calls_do_not_overlap(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long i;

	attach(f, 0);
	for (i = 0; i < 4 * GM_MAP_LOCKS; i++) {
		mutex_lock(&f->ctx[0]->map_lock[0]);
		KUNIT_EXPECT_FALSE(test, gm_ctx_trylock(f->ctx[0], i * SZ_2M,
							(i + 1) * SZ_2M));
		mutex_unlock(&f->ctx[0]->map_lock[0]);
	}
	gm_as_unmap(f->as, f->gdev, 0, ULONG_MAX);
	KUNIT_EXPECT_EQ(test, f->locked, 1);
}

/* One that can: a lock for what is within 2 MiB, and all for what is not. */
static void context_calls_overlap(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned long used = 0, i;
	unsigned int first, last;

	f->mmu.map_concurrent = true;
	attach(f, 0);
	for (i = 0; i < 64; i++) {
		first = gm_ctx_locks(f->ctx[0], i * SZ_2M, (i + 1) * SZ_2M,
				     &last);
		KUNIT_EXPECT_EQ(test, first, last);
		KUNIT_EXPECT_EQ(test, first,
				gm_ctx_locks(f->ctx[0], i * SZ_2M + SZ_64K,
					     i * SZ_2M + SZ_1M, &last));
		used |= BIT(first);
	}
	KUNIT_EXPECT_EQ(test, used, GENMASK(GM_MAP_LOCKS - 1, 0));
	gm_as_unmap(f->as, f->gdev, f->addr, f->addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, f->locked, 1);
	gm_as_unmap(f->as, f->gdev, SZ_2M - PAGE_SIZE, SZ_2M + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, f->locked, GM_MAP_LOCKS);
	gm_as_unmap(f->as, f->gdev, 0, ULONG_MAX);
	KUNIT_EXPECT_EQ(test, f->locked, GM_MAP_LOCKS);
}

/* --- fixture ------------------------------------------------------------------ */

/* No vm_object has it: the process may be gone before the block is. */
static void fixture_block(struct fixture *f)
{
	struct gm_block *block = gm_block_alloc(0, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(f->test, block);
	KUNIT_ASSERT_EQ(f->test, 0,
			gm_run_alloc(f->gdev->hnode, 0, &block->loc,
				     GFP_KERNEL));
	block->vpn = f->addr >> PAGE_SHIFT;
	gm_run_set_rmap(block->loc, &f->anon_vma, block->vpn);
	__set_bit(0, block->valid);
	f->block = block;
}

static int context_init(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	struct device *dev = kunit_device_register(test, "gmem_kunit");

	KUNIT_ASSERT_NOT_NULL(test, f);
	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	f->test = test;
	test->priv = f;
	atomic_set(&f->anon_vma.refcount, 1);
	init_rwsem(&f->anon_vma.rwsem);
	f->anon_vma.root = &f->anon_vma;
	f->anon_vma.rb_root = RB_ROOT_CACHED;
	f->mmu = gm_fake_mmu;
	f->mmu.peer_map = count_map;
	f->mmu.peer_unmap = count_locks;
	f->mmu.tlb_invl = note_flush;
	f->gdev = gm_dev_create(dev, &f->mmu, GM_DEV_CAP_REPLAYABLE, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->gdev));
	KUNIT_ASSERT_GE(test,
			gm_dev_register_physmem(f->gdev, SZ_1G, SZ_8M),
			GM_HNID_BASE);
	f->addr = kunit_vm_mmap(test, NULL, 0, PAGE_SIZE,
				PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, f->addr, 0);
	f->as = gm_as_create(current->mm);
	KUNIT_ASSERT_FALSE(test, IS_ERR(f->as));
	fixture_block(f);
	return 0;
}

static void context_exit(struct kunit *test)
{
	struct fixture *f = test->priv;
	unsigned int i;

	for (i = 0; i < CONTEXTS; i++)
		gm_as_detach(f->ctx[i]);
	gm_run_put(f->block->loc);
	gm_block_put(f->block);
	gm_as_destroy(f->as);
	gm_dev_destroy(f->gdev);
}

static struct kunit_case context_cases[] = {
	KUNIT_CASE(context_attached_late),
	KUNIT_CASE(context_flushes_whole_pages),
	KUNIT_CASE(context_calls_do_not_overlap),
	KUNIT_CASE(context_calls_overlap),
	{}
};

static struct kunit_suite context_suite = {
	.name = "gmem_context",
	.init = context_init,
	.exit = context_exit,
	.test_cases = context_cases,
};

kunit_test_suite(context_suite);
