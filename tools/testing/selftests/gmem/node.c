// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel does with whole nodes of host memory: a block of it is taken
 * offline with pages of shared memory in it, and NUMA balancing makes pages
 * inaccessible to see who uses them.  Neither concerns a page that a device has,
 * and a translation of a device must not outlive the page that leaves.
 */
#include "gmem_test.h"

#include <signal.h>
#include <sys/time.h>

#define MEMORY		"/sys/devices/system/memory"
#define BALANCING	"/proc/sys/kernel/numa_balancing"
#define SCAN		"/sys/kernel/debug/sched/numa_balancing/"
#define PM_PRESENT	(1ULL << 63)
#define PM_PFN		((1ULL << 55) - 1)

/* Bytes of a block of memory, 0 when there are none. */
static size_t block_size(void)
{
	char text[32];

	if (gmem_read_file(MEMORY "/block_size_bytes", text, sizeof(text)) < 0)
		return 0;
	return strtoull(text, NULL, 16);
}

static void interrupt(int sig)
{
	(void)sig;
}

static void block_path(int block, char *path, size_t len)
{
	snprintf(path, len, MEMORY "/memory%d/state", block);
}

/*
 * Ask a block to change its state.  The kernel tries to empty a block until it
 * is told to stop, which happens after some seconds.
 */
static int block_set(int block, const char *state)
{
	struct sigaction act = { .sa_handler = interrupt };
	struct itimerval limit = { .it_value.tv_sec = 20 };
	struct itimerval none = {};
	char path[64];
	int err;

	block_path(block, path, sizeof(path));
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &limit, NULL);
	err = _gmem_write_file(path, state);
	setitimer(ITIMER_REAL, &none, NULL);
	return err;
}

/* Make a block that has nothing but movable pages; its number, or -1. */
static int block_make_movable(void)
{
	char path[64];
	int block;

	/* The kernel's own pages are mostly in low blocks. */
	for (block = 1023; block >= 0; block--) {
		block_path(block, path, sizeof(path));
		if (access(path, F_OK) || block_set(block, "offline"))
			continue;
		if (!block_set(block, "online_movable"))
			return block;
		block_set(block, "online");
	}
	return -1;
}

/* Pages of a range that are in the block. */
static size_t block_pages(int block, const char *p, size_t len)
{
	size_t size = block_size() / SZ_4K, at, pages = 0;

	for (at = 0; at < len; at += SZ_4K) {
		uint64_t word = gmem_pagemap(p + at);

		pages += word & PM_PRESENT &&
			 (word & PM_PFN) / size == (uint64_t)block;
	}
	return pages;
}

FIXTURE(offline)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
	int block;
};

FIXTURE_VARIANT(offline)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(offline, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(offline, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(offline, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(offline, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(offline)
{
	self->block = -1;
	if (!block_size())
		SKIP(return, "memory cannot go offline");
	self->block = block_make_movable();
	if (self->block < 0)
		SKIP(return, "each block has pages that cannot move");
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 31);
	gmem_pattern(self->shadow, self->len, 31);
	ASSERT_EQ(self->len / SZ_4K,
		  block_pages(self->block, self->buf.p, self->len));
}

/* The block becomes what it was. */
FIXTURE_TEARDOWN_PARENT(offline)
{
	if (self->block >= 0) {
		EXPECT_NO_DEVICE_PAGES();
		block_set(self->block, "offline");
		EXPECT_EQ(0, block_set(self->block, "online"));
	}
}

typedef FIXTURE_DATA(offline) offline_t;

static void device_reads(struct __test_metadata *_metadata, struct npu *npu,
			 const char *p, const char *shadow, size_t len)
{
	struct npu_result res;

	npu_reduce(npu, p, len, &res);
	ASSERT_EQ(gmem_sum(shadow, len), res.value);
}

/* Host pages leave their block, and those of the device stay where they are. */
TEST_F(offline, device_pages_stay)
{
	size_t half = self->len / 2 / variant->shape.block *
		      variant->shape.block;

	npu_dirty(&self->npu, self->buf.p, self->shadow, half);
	ASSERT_ON(self->npu.hnid, self->buf.p, half);
	ASSERT_EQ(0, block_set(self->block, "offline"));
	ASSERT_ON(self->npu.hnid, self->buf.p, half);
	ASSERT_EQ(0, block_pages(self->block, self->buf.p, self->len));
	device_reads(_metadata, &self->npu, self->buf.p, self->shadow,
		     self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
}

/* A device that works on host memory in place follows the page. */
TEST_F(offline, remote_mapping_follows)
{
	struct npu_stats before, now;

	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_EQ(self->len / SZ_4K,
		  block_pages(self->block, self->buf.p, self->len));
	npu_stats(&self->npu, &before);

	ASSERT_EQ(0, block_set(self->block, "offline"));
	ASSERT_EQ(0, block_pages(self->block, self->buf.p, self->len));
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	gmem_pattern(self->buf.p, self->len, 32);
	gmem_pattern(self->shadow, self->len, 32);
	npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
	ASSERT_SAME(self->shadow, self->buf.p, self->len);
	npu_stats(&self->npu, &now);
	ASSERT_EQ(before.c[NPU_STAT_STALE_HITS], now.c[NPU_STAT_STALE_HITS]);
}

static void *come_and_go(void *arg)
{
	offline_t *self = arg;
	intptr_t times = 0;
	unsigned int i;

	for (i = 0; i < 3; i++)
		times += !block_set(self->block, "offline") &&
			 !block_set(self->block, "online_movable");
	return (void *)times;
}

/* Pages go back and forth while the memory that they come home to does. */
TEST_F(offline, while_pages_move)
{
	pthread_t thread;
	void *times;

	ASSERT_EQ(0, pthread_create(&thread, NULL, come_and_go, self));
	do {
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	} while (pthread_tryjoin_np(thread, &times));
	ASSERT_LT(0, (intptr_t)times);
}

/* --- NUMA balancing ----------------------------------------------------------- */

FIXTURE(balancing)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
	bool stop;
};

FIXTURE_VARIANT(balancing)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(balancing, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(balancing, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(balancing, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(balancing, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(balancing)
{
	if (gmem_read_number(BALANCING) < 0)
		SKIP(return, "no NUMA balancing");
	/* A kernel without CONFIG_SCHED_DEBUG takes a second each time. */
	_gmem_write_file(SCAN "scan_delay_ms", "10");
	_gmem_write_file(SCAN "scan_period_min_ms", "10");
	_gmem_write_file(SCAN "scan_period_max_ms", "50");
	gmem_write_file(BALANCING, "1");
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map_shape(&self->buf, &variant->shape);
	self->len = self->buf.len;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, self->len, 33);
	gmem_pattern(self->shadow, self->len, 33);
}

FIXTURE_TEARDOWN_PARENT(balancing)
{
	if (gmem_read_number(BALANCING) >= 0) {
		EXPECT_EQ(0, _gmem_write_file(BALANCING, "0"));
		EXPECT_NO_DEVICE_PAGES();
	}
}

typedef FIXTURE_DATA(balancing) balancing_t;

static long long vm_event(const char *name)
{
	char text[16384], *at;

	if (gmem_read_file("/proc/vmstat", text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, name);
	return at ? atoll(at + strlen(name)) : -1;
}

/* The kernel looks at the memory of who runs, with more than one thread. */
static void *run(void *arg)
{
	balancing_t *self = arg;

	while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

/* Inaccessible pages go to a device, and come home accessible. */
TEST_F(balancing, both_ways)
{
	long long updates = vm_event("numa_pte_updates ");
	long long faults = vm_event("numa_hint_faults ");
	uint64_t end = gmem_now_ms() + 60000;
	pthread_t thread;

	ASSERT_LE(0, updates);
	ASSERT_LE(0, faults);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, self));
	do {
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
		/* In host memory for long enough that it is looked at. */
		gmem_sleep_ms(30);
	} while ((vm_event("numa_pte_updates ") < updates + 8 ||
		  vm_event("numa_hint_faults ") < faults + 8) &&
		 gmem_now_ms() < end);
	__atomic_store_n(&self->stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_LE(updates + 8, vm_event("numa_pte_updates "));
	ASSERT_LE(faults + 8, vm_event("numa_hint_faults "));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, self->len);
}

/* A device that works on such pages in place. */
TEST_F(balancing, remote)
{
	long long updates = vm_event("numa_pte_updates ");
	uint64_t end = gmem_now_ms() + 60000;
	pthread_t thread;

	hmadvise(-1, self->buf.p, self->len, HMADV_UNSHARE);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, self));
	do {
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		gmem_sleep_ms(30);
		npu_dirty(&self->npu, self->buf.p, self->shadow, self->len);
		ASSERT_SAME(self->shadow, self->buf.p, self->len);
	} while (vm_event("numa_pte_updates ") < updates + 8 &&
		 gmem_now_ms() < end);
	__atomic_store_n(&self->stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_LE(updates + 8, vm_event("numa_pte_updates "));
}

GMEM_TEST_MAIN("what the kernel does with nodes of host memory: offline, balancing")
