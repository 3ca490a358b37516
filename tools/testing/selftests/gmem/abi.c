// SPDX-License-Identifier: GPL-2.0
/*
 * What the system calls accept and what they refuse, and that a refused call
 * changes nothing and logs nothing.
 */
#include "gmem_test.h"

#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE		0x08
#endif

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(abi)
{
	struct npu npu;
	struct gmem_buf buf;
	char shadow[4 * SZ_64K];
	struct npu_stats before;
	int log;
};

#define LEN			(4 * SZ_64K)

/* A mapping that is half on the device and half on the host. */
FIXTURE_SETUP(abi)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
	gmem_map(&self->buf, LEN, SZ_64K, 0, RW, MAP_PEER_SHARED);
	gmem_pattern(self->buf.p, LEN, 5);
	gmem_pattern(self->shadow, LEN, 5);
	hmadvise(self->npu.hnid, self->buf.p, LEN / 2, HMADV_PREFETCH);
	npu_stats(&self->npu, &self->before);
	self->log = gmem_log_open();
	ASSERT_LE(0, self->log);
}

FIXTURE_TEARDOWN_PARENT(abi)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* After refused calls: the same bytes in the same places, nothing said. */
static void assert_unchanged(struct __test_metadata *_metadata,
			     FIXTURE_DATA(abi) *self)
{
	struct npu_stats now;
	struct gmem_smaps maps;
	char text[256] = "";

	ASSERT_EQ(0, gmem_log_read(self->log, text, sizeof(text)))
		TH_LOG("kernel log: %s", text);
	ASSERT_ON(self->npu.hnid, self->buf.p, LEN / 2);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p + LEN / 2, LEN / 2);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(1, maps.vmas);
	ASSERT_EQ(1, maps.peer_shared);
	npu_stats(&self->npu, &now);
	ASSERT_EQ(self->before.c[NPU_STAT_COPIES], now.c[NPU_STAT_COPIES]);
	ASSERT_SAME(self->shadow, self->buf.p, LEN);
}

static const int behaviors[] = {
	HMADV_SHARE, HMADV_UNSHARE, HMADV_PREFETCH, HMADV_DISCARD,
};

#define for_each_behavior(b) \
	for (const int *__b = behaviors; \
	     __b < behaviors + ARRAY_SIZE(behaviors) && ((b) = *__b, 1); \
	     __b++)

/* --- mmap() ---------------------------------------------------------------- */

static int try_mmap(struct __test_metadata *_metadata, int prot, int flags,
		    int fd, struct gmem_smaps *maps)
{
	char *p = mmap(NULL, SZ_64K, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		return errno;
	gmem_smaps(0, p, SZ_64K, maps);
	munmap(p, SZ_64K);
	return 0;
}

TEST_F(abi, mmap_accepts)
{
	const int flags[] = {
		0, MAP_NORESERVE, MAP_POPULATE, MAP_NONBLOCK, MAP_STACK,
		MAP_32BIT,
	};
	struct gmem_smaps maps;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		OK(try_mmap(_metadata, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			    MAP_PEER_SHARED | flags[i], -1, &maps))
			TH_LOG("flags %#x", flags[i]);
		ASSERT_EQ(1, maps.peer_shared);
	}
	OK(try_mmap(_metadata, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_PEER_SHARED, -1, &maps));
	ASSERT_EQ(1, maps.peer_shared);
	/* And without the flag, a VMA is not shared. */
	OK(try_mmap(_metadata, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, &maps));
	ASSERT_EQ(0, maps.peer_shared);
	assert_unchanged(_metadata, self);
}

TEST_F(abi, mmap_refuses)
{
	const int anon = MAP_ANONYMOUS | MAP_PEER_SHARED;
	const struct {
		int flags;
		bool file;
	} bad[] = {
		{ .flags = anon | MAP_PRIVATE | MAP_LOCKED },
		{ .flags = anon | MAP_PRIVATE | MAP_GROWSDOWN },
		{ .flags = anon | MAP_PRIVATE | MAP_HUGETLB },
		{ .flags = anon | MAP_PRIVATE | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT },
		{ .flags = anon | MAP_SHARED },
		{ .flags = anon | MAP_SHARED_VALIDATE },
		{ .flags = anon | MAP_DROPPABLE },
		{ .flags = MAP_PEER_SHARED | MAP_PRIVATE, .file = true },
		{ .flags = MAP_PEER_SHARED | MAP_SHARED, .file = true },
		{ .flags = MAP_PEER_SHARED | MAP_SHARED_VALIDATE, .file = true },
	};
	int fd = memfd_create("abi", 0);
	struct gmem_smaps maps;
	unsigned int i;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, SZ_64K));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		FAILS(EOPNOTSUPP, try_mmap(_metadata, RW, bad[i].flags,
					   bad[i].file ? fd : -1, &maps))
			TH_LOG("flags %#x", bad[i].flags);
	}
	/* The huge page size of 1 GiB is none of our bits. */
	ASSERT_EQ(0, (30 << MAP_HUGE_SHIFT) & MAP_PEER_SHARED);
	assert_unchanged(_metadata, self);
}

/* A request that is refused does not unmap what was there. */
TEST_F(abi, refused_mmap_fixed_unmaps_nothing)
{
	ASSERT_EQ(MAP_FAILED, mmap(self->buf.p, LEN, RW, MAP_PRIVATE |
				   MAP_ANONYMOUS | MAP_PEER_SHARED | MAP_FIXED |
				   MAP_GROWSDOWN, -1, 0));
	ASSERT_EQ(EOPNOTSUPP, errno);
	assert_unchanged(_metadata, self);
}

/* prior art: a mapping was charged twice when its place was not the first choice */
TEST_F(abi, mmap_is_charged_once)
{
	static const char statm[] = "/proc/self/statm";
	const int flags = MAP_ANONYMOUS | MAP_PEER_SHARED;
	long long before = gmem_read_number(statm);
	char *p;

	ASSERT_LT(0, before);
	p = mmap(NULL, SZ_2M, RW, flags | MAP_PRIVATE, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(before + (long long)(SZ_2M / SZ_4K), gmem_read_number(statm));
	ASSERT_EQ(p, mmap(p, SZ_2M, RW, flags | MAP_PRIVATE | MAP_FIXED, -1,
			  0));
	ASSERT_EQ(MAP_FAILED, mmap(NULL, SZ_2M, RW, flags | MAP_SHARED, -1, 0));
	hmadvise(self->npu.hnid, p, SZ_2M, HMADV_PREFETCH);
	ASSERT_EQ(before + (long long)(SZ_2M / SZ_4K), gmem_read_number(statm));
	OK(munmap(p, SZ_2M));
	ASSERT_EQ(before, gmem_read_number(statm));
	ASSERT_SAME(self->shadow, self->buf.p, LEN);
}

/* --- hmadvise() ------------------------------------------------------------ */

TEST_F(abi, unaligned_start)
{
	int b;

	for_each_behavior(b) {
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p + 1, SZ_4K, b);
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p + SZ_4K - 1,
			     SZ_64K, b);
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p + 2048, 0, b);
	}
	assert_unchanged(_metadata, self);
}

/* prior art: start ~0 with length -1 brought the machine down */
TEST_F(abi, overflow)
{
	int b;

	for_each_behavior(b) {
		hmadvise_err(EINVAL, self->npu.hnid, (void *)~0UL, -1UL, b);
		hmadvise_err(EINVAL, self->npu.hnid, (void *)~0UL, 1, b);
		hmadvise_err(EINVAL, self->npu.hnid, (void *)~0UL, 0, b);
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p, -1UL, b);
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p,
			     -SZ_4K, b);
		hmadvise_err(EINVAL, self->npu.hnid, (void *)-SZ_4K, SZ_64K,
			     b);
		hmadvise_err(EINVAL, self->npu.hnid, NULL, -1UL, b);
	}
	assert_unchanged(_metadata, self);
}

/* A range that ends above all user addresses, or lies there. */
TEST_F(abi, kernel_addresses)
{
	int b;

	for_each_behavior(b) {
		int err = _hmadvise(self->npu.hnid, (void *)(1UL << 63),
				    SZ_64K, b);

		ASSERT_TRUE(err == ENOMEM || err == EINVAL);
		err = _hmadvise(self->npu.hnid, (void *)-SZ_64K, SZ_4K, b);
		ASSERT_TRUE(err == ENOMEM || err == EINVAL);
	}
	assert_unchanged(_metadata, self);
}

TEST_F(abi, zero_length)
{
	int b;

	for_each_behavior(b) {
		hmadvise(self->npu.hnid, self->buf.p, 0, b);
		hmadvise(self->npu.hnid, NULL, 0, b);
	}
	assert_unchanged(_metadata, self);
}

TEST_F(abi, unknown_behavior)
{
	const int bad[] = {
		-1, INT_MIN, INT_MAX, 0, HMADV_SHARE - 1, HMADV_DISCARD + 1,
		0x200, 0x100000, HMADV_PREFETCH | 1 << 30,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p, LEN, bad[i]);
		hmadvise_err(EINVAL, self->npu.hnid, self->buf.p, 0, bad[i]);
	}
	assert_unchanged(_metadata, self);
}

/* The numbers of madvise() mean nothing here, and ours nothing there. */
TEST_F(abi, madvise_numbers)
{
	int b;

	for (b = 0; b < HMADV_SHARE; b++)
		hmadvise_err(EINVAL, GMEM_ANY_NODE, self->buf.p, LEN, b);
	for_each_behavior(b) {
		ASSERT_EQ(-1, madvise(self->buf.p, LEN, b));
		ASSERT_EQ(EINVAL, errno);
	}
	assert_unchanged(_metadata, self);
}

TEST_F(abi, no_such_node)
{
	const int bad[] = {
		-2, INT_MIN, 7, 63, 1023, self->npu.hnid + 512, 2047, 2048,
		65536, 1 << 20, INT_MAX,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		hmadvise_err(ENODEV, bad[i], self->buf.p, LEN, HMADV_PREFETCH);
		hmadvise_err(ENODEV, bad[i], self->buf.p, SZ_4K,
			     HMADV_PREFETCH);
	}
	assert_unchanged(_metadata, self);
}

/* Behaviors that need no node do not look at it. */
TEST_F(abi, node_is_ignored)
{
	const int any[] = { -1, 0, INT_MIN, INT_MAX, 4711 };
	struct gmem_smaps maps;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(any); i++) {
		hmadvise(any[i], self->buf.p, LEN, HMADV_UNSHARE);
		gmem_smaps(0, self->buf.p, LEN, &maps);
		ASSERT_EQ(0, maps.peer_shared);
		hmadvise(any[i], self->buf.p, LEN, HMADV_SHARE);
		gmem_smaps(0, self->buf.p, LEN, &maps);
		ASSERT_EQ(1, maps.peer_shared);
		ASSERT_SAME(self->shadow, self->buf.p, LEN);
		hmadvise(any[i], self->buf.p, LEN, HMADV_DISCARD);
		ASSERT_ZERO(self->buf.p, LEN);
		memcpy(self->buf.p, self->shadow, LEN);
	}
}

TEST_F(abi, nothing_mapped)
{
	char *hole = self->buf.p + LEN;
	int b;

	ASSERT_EQ(0, munmap(hole, SZ_4K));
	for_each_behavior(b) {
		hmadvise_err(ENOMEM, self->npu.hnid, hole, SZ_4K, b);
		hmadvise_err(ENOMEM, self->npu.hnid, NULL, SZ_4K, b);
	}
	assert_unchanged(_metadata, self);
}

/* prior art: a VMA above the address was taken for the one at it */
TEST_F(abi, hole_below_a_mapping)
{
	char *hole = self->buf.p - SZ_4K;
	int b;

	ASSERT_EQ(0, munmap(hole, SZ_4K));
	for_each_behavior(b)
		hmadvise_err(ENOMEM, self->npu.hnid, hole, SZ_4K, b);
	assert_unchanged(_metadata, self);
}

/* ENOMEM, and yet both mapped sides are processed, as madvise() does. */
TEST_F(abi, hole_in_the_middle)
{
	char *hole = self->buf.p + LEN / 2, *after = hole + SZ_64K;
	size_t tail = LEN / 2 - SZ_64K;
	struct gmem_smaps maps;

	ASSERT_EQ(0, munmap(hole, SZ_64K));
	hmadvise_err(ENOMEM, GMEM_ANY_NODE, self->buf.p, LEN, HMADV_PREFETCH);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, LEN / 2);
	hmadvise_err(ENOMEM, self->npu.hnid, self->buf.p, LEN, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, LEN / 2);
	ASSERT_ON(self->npu.hnid, after, tail);
	ASSERT_SAME(self->shadow, self->buf.p, LEN / 2);
	ASSERT_SAME(self->shadow + LEN / 2 + SZ_64K, after, tail);

	hmadvise_err(ENOMEM, GMEM_ANY_NODE, self->buf.p, LEN, HMADV_UNSHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(2, maps.vmas);
	ASSERT_EQ(0, maps.peer_shared);
	hmadvise_err(ENOMEM, GMEM_ANY_NODE, self->buf.p, LEN, HMADV_SHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(2, maps.peer_shared);

	hmadvise(self->npu.hnid, self->buf.p, LEN / 2, HMADV_PREFETCH);
	hmadvise_err(ENOMEM, GMEM_ANY_NODE, self->buf.p, LEN, HMADV_DISCARD);
	ASSERT_ZERO(self->buf.p, LEN / 2);
	ASSERT_ZERO(after, tail);
}

/* One call over several VMAs that differ in protection. */
TEST_F(abi, range_over_many_vmas)
{
	struct gmem_smaps maps;
	unsigned int i;

	for (i = 0; i < 4; i += 2)
		ASSERT_EQ(0, mprotect(self->buf.p + i * SZ_64K, SZ_64K,
				      PROT_READ));
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(4, maps.vmas);
	hmadvise(self->npu.hnid, self->buf.p, LEN, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, LEN);
	hmadvise(GMEM_ANY_NODE, self->buf.p, LEN, HMADV_UNSHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(0, maps.peer_shared);
	ASSERT_SAME(self->shadow, self->buf.p, LEN);
	hmadvise(GMEM_ANY_NODE, self->buf.p, LEN, HMADV_SHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(4, maps.peer_shared);
}

/* Of three VMAs the one in the middle, whose pages are on @node, gets advice. */
static void advise_middle(struct __test_metadata *_metadata,
			  FIXTURE_DATA(abi) *self, int node, int behavior)
{
	int to = node == GMEM_ANY_NODE ? self->npu.hnid : GMEM_ANY_NODE;
	char *first = self->buf.p, *middle = first + SZ_64K;
	char *last = first + LEN - SZ_64K;
	struct gmem_smaps maps;

	hmadvise(node, first, LEN, HMADV_PREFETCH);
	ASSERT_ON(node, first, LEN);
	hmadvise(to, middle, last - middle, behavior);
	ASSERT_ON(node, first, SZ_64K);
	ASSERT_ON(node, last, SZ_64K);
	gmem_smaps(0, first, SZ_64K, &maps);
	ASSERT_EQ(1, maps.peer_shared);
	gmem_smaps(0, last, SZ_64K, &maps);
	ASSERT_EQ(1, maps.peer_shared);
	hmadvise(-1, middle, last - middle, HMADV_SHARE);
	if (behavior == HMADV_DISCARD)
		memcpy(middle, self->shadow + SZ_64K, last - middle);
	ASSERT_SAME(self->shadow, first, LEN);
}

/* prior art: the first page after a range was taken to be in it */
TEST_F(abi, neighbours_untouched)
{
	char *middle = self->buf.p + SZ_64K;
	struct gmem_smaps maps;
	int b;

	OK(madvise(middle, LEN - 2 * SZ_64K, MADV_DONTDUMP));
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(3, maps.vmas);
	for_each_behavior(b) {
		advise_middle(_metadata, self, GMEM_ANY_NODE, b);
		advise_middle(_metadata, self, self->npu.hnid, b);
	}
	hmadvise(self->npu.hnid, self->buf.p, LEN, HMADV_PREFETCH);
	OK(munmap(middle, LEN - 2 * SZ_64K));
	ASSERT_ON(self->npu.hnid, self->buf.p, SZ_64K);
	ASSERT_ON(self->npu.hnid, self->buf.p + LEN - SZ_64K, SZ_64K);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_64K);
	ASSERT_SAME(self->shadow + LEN - SZ_64K, self->buf.p + LEN - SZ_64K,
		    SZ_64K);
}

/* A part of a VMA is split off and merges again. */
TEST_F(abi, unshare_and_share_a_part)
{
	struct gmem_smaps maps;

	hmadvise(-1, self->buf.p + SZ_64K, SZ_4K, HMADV_UNSHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(3, maps.vmas);
	ASSERT_EQ(2, maps.peer_shared);
	hmadvise(-1, self->buf.p + SZ_64K, SZ_4K, HMADV_SHARE);
	gmem_smaps(0, self->buf.p, LEN, &maps);
	ASSERT_EQ(1, maps.vmas);
	ASSERT_EQ(1, maps.peer_shared);
	ASSERT_SAME(self->shadow, self->buf.p, LEN);
}

/* Memory that is not shared is not moved or dropped. */
TEST_F(abi, not_shared)
{
	struct gmem_buf plain;

	gmem_map(&plain, SZ_64K, SZ_64K, 0, RW, 0);
	gmem_pattern(plain.p, SZ_64K, 8);
	hmadvise_err(EOPNOTSUPP, self->npu.hnid, plain.p, SZ_64K,
		     HMADV_PREFETCH);
	hmadvise_err(EOPNOTSUPP, -1, plain.p, SZ_64K, HMADV_PREFETCH);
	hmadvise_err(EOPNOTSUPP, -1, plain.p, SZ_64K, HMADV_DISCARD);
	gmem_pattern(self->shadow, SZ_64K, 8);
	ASSERT_SAME(self->shadow, plain.p, SZ_64K);
	gmem_pattern(self->shadow, SZ_64K, 5);
	assert_unchanged(_metadata, self);
}

/* What cannot be shared is not, whatever is asked. */
static void assert_unshareable(struct __test_metadata *_metadata,
			       const struct npu *npu, void *p, size_t len)
{
	struct gmem_smaps maps;

	hmadvise_err(EOPNOTSUPP, -1, p, len, HMADV_SHARE);
	hmadvise_err(EOPNOTSUPP, npu->hnid, p, len, HMADV_PREFETCH);
	hmadvise_err(EOPNOTSUPP, -1, p, len, HMADV_DISCARD);
	gmem_smaps(0, p, len, &maps);
	ASSERT_EQ(0, maps.peer_shared);
}

TEST_F(abi, file_mapping)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	char *p = mmap(NULL, SZ_4K, PROT_READ, MAP_PRIVATE, fd, 0);

	ASSERT_NE(MAP_FAILED, p);
	assert_unshareable(_metadata, &self->npu, p, SZ_4K);
	assert_unchanged(_metadata, self);
}

TEST_F(abi, shmem_mapping)
{
	int fd = memfd_create("abi", 0);
	char *p;

	ASSERT_EQ(0, ftruncate(fd, SZ_64K));
	p = mmap(NULL, SZ_64K, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	assert_unshareable(_metadata, &self->npu, p, SZ_64K);
	p = mmap(NULL, SZ_64K, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	assert_unshareable(_metadata, &self->npu, p, SZ_64K);
	assert_unchanged(_metadata, self);
}

TEST_F(abi, hugetlb_mapping)
{
	static const char pool[] = "/proc/sys/vm/nr_hugepages";
	char *p;

	gmem_write_file(pool, "2");
	p = mmap(NULL, SZ_2M, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p != MAP_FAILED) {
		p[0] = 1;
		assert_unshareable(_metadata, &self->npu, p, SZ_2M);
		ASSERT_EQ(1, p[0]);
		munmap(p, SZ_2M);
	}
	gmem_write_file(pool, "0");
	if (p == MAP_FAILED)
		SKIP(return, "no huge page to be had");
	assert_unchanged(_metadata, self);
}

TEST_F(abi, stack)
{
	char here;
	char *p = (char *)((uintptr_t)&here & ~(SZ_4K - 1));

	assert_unshareable(_metadata, &self->npu, p, SZ_4K);
	assert_unchanged(_metadata, self);
}

/* The vvar page is of a special mapping, the vdso of another. */
TEST_F(abi, special_mapping)
{
	char line[256];
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int found = 0;

	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		uintptr_t start;

		if (!strstr(line, "[vvar]") && !strstr(line, "[vdso]"))
			continue;
		if (sscanf(line, "%lx-", &start) != 1)
			continue;
		assert_unshareable(_metadata, &self->npu, (void *)start,
				   SZ_4K);
		found++;
	}
	fclose(f);
	ASSERT_NE(0, found);
	assert_unchanged(_metadata, self);
}

TEST_F(abi, locked_mapping)
{
	struct gmem_buf locked;

	gmem_map(&locked, SZ_64K, SZ_64K, 0, RW, 0);
	gmem_pattern(locked.p, SZ_64K, 5);
	ASSERT_EQ(0, mlock(locked.p, SZ_64K));
	hmadvise_err(EOPNOTSUPP, -1, locked.p, SZ_64K, HMADV_SHARE);
	ASSERT_SAME(self->shadow, locked.p, SZ_64K);
	ASSERT_EQ(0, munlock(locked.p, SZ_64K));
	hmadvise(-1, locked.p, SZ_64K, HMADV_SHARE);
	ASSERT_SAME(self->shadow, locked.p, SZ_64K);
	assert_unchanged(_metadata, self);
}

/* PROT_NONE: nobody may access it, yet it is anonymous memory. */
TEST_F(abi, prot_none_mapping)
{
	struct gmem_buf none;
	struct gmem_smaps maps;

	gmem_map(&none, SZ_64K, SZ_64K, 0, PROT_NONE, 0);
	hmadvise(-1, none.p, SZ_64K, HMADV_SHARE);
	gmem_smaps(0, none.p, SZ_64K, &maps);
	ASSERT_EQ(1, maps.peer_shared);
	hmadvise(self->npu.hnid, none.p, SZ_64K, HMADV_PREFETCH);
	ASSERT_EQ(0, mprotect(none.p, SZ_64K, RW));
	ASSERT_ZERO(none.p, SZ_64K);
	assert_unchanged(_metadata, self);
}

/* malloc() memory joins, without a byte of it changing. */
TEST_F(abi, share_heap)
{
	size_t len = 1 * SZ_1M;
	char *p = malloc(len);
	char *from = (char *)((uintptr_t)p & ~(SZ_4K - 1));
	char *to = (char *)(((uintptr_t)p + len + SZ_4K - 1) & ~(SZ_4K - 1));
	struct npu_result res;

	ASSERT_NE(NULL, p);
	gmem_pattern(p, len, 21);
	hmadvise(-1, from, to - from, HMADV_SHARE);
	hmadvise(self->npu.hnid, from, to - from, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, from, to - from);
	npu_reduce(&self->npu, p, len, &res);
	ASSERT_EQ(gmem_sum(p, len), res.value);
	free(p);
	ASSERT_SAME(self->shadow, self->buf.p, LEN);
}

/* A length that is no multiple of the page size means whole pages. */
TEST_F(abi, length_is_rounded_up)
{
	hmadvise(self->npu.hnid, self->buf.p + LEN / 2, 1, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p + LEN / 2, SZ_4K);
	/* prior art: a length of 2 was rounded down to nothing */
	hmadvise(-1, self->buf.p, 2, HMADV_DISCARD);
	ASSERT_ZERO(self->buf.p, SZ_4K);
	ASSERT_SAME(self->shadow + SZ_4K, self->buf.p + SZ_4K, LEN - SZ_4K);
}

TEST_F(abi, syscall_numbers)
{
	ASSERT_EQ(-1, syscall(500, -1, NULL, 0, -1));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(0, syscall(500, -1, NULL, 0, HMADV_SHARE));
	/* The next one is not there. */
	ASSERT_EQ(-1, syscall(501, 0, -1, NULL, 0, HMADV_SHARE));
	ASSERT_EQ(ENOSYS, errno);
	/* The argument is an int: the upper half of the register is not. */
	ASSERT_EQ(0, syscall(500, 0xdead0000ffffffffUL, self->buf.p, 0,
			     HMADV_SHARE));
	assert_unchanged(_metadata, self);
}

/* A process that never met a device has the same system call. */
TEST_F(abi, without_a_device)
{
	pid_t pid = gmem_fork();

	if (!pid) {
		struct gmem_buf buf;
		int err;

		err = _gmem_map(&buf, SZ_64K, SZ_64K, 0, RW, MAP_PEER_SHARED);
		if (err)
			_exit(1);
		gmem_pattern(buf.p, SZ_64K, 3);
		gmem_pattern(self->shadow, SZ_64K, 3);
		if (_hmadvise(-1, buf.p, SZ_64K, HMADV_PREFETCH) ||
		    _hmadvise(-1, buf.p, SZ_64K, HMADV_UNSHARE) ||
		    _hmadvise(-1, buf.p, SZ_64K, HMADV_SHARE))
			_exit(2);
		if (gmem_diff(self->shadow, buf.p, SZ_64K) != SZ_64K)
			_exit(3);
		if (_hmadvise(-1, buf.p, SZ_64K, HMADV_DISCARD))
			_exit(4);
		_exit(gmem_nonzero(buf.p, SZ_64K) != SZ_64K);
	}
	ASSERT_EQ(0, gmem_child(pid));
}

/*
 * The permission to open a device is the permission to use its memory: neither
 * who never opened one nor a child that has the file of its parent fills it.
 */
TEST_F(abi, prefetch_is_for_who_attached)
{
	pid_t pid = gmem_fork();

	if (!pid) {
		struct gmem_buf buf;
		struct npu npu;

		if (_gmem_map(&buf, SZ_64K, SZ_64K, 0, RW, MAP_PEER_SHARED))
			_exit(1);
		gmem_pattern(buf.p, SZ_64K, 3);
		gmem_pattern(self->shadow, SZ_64K, 3);
		if (_hmadvise(self->npu.hnid, buf.p, SZ_64K,
			      HMADV_PREFETCH) != EPERM)
			_exit(2);
		/* Checked without a range, too. */
		if (_hmadvise(self->npu.hnid, buf.p, 0,
			      HMADV_PREFETCH) != EPERM)
			_exit(3);
		if (gmem_pages_on(buf.p, SZ_64K, self->npu.hnid))
			_exit(4);
		/* Not even what its parent has there already. */
		if (_hmadvise(self->npu.hnid, self->buf.p, LEN,
			      HMADV_PREFETCH) != EPERM)
			_exit(5);
		if (_npu_open(&npu, 0) || _npu_attach(&npu, 0))
			_exit(6);
		if (_hmadvise(self->npu.hnid, buf.p, SZ_64K, HMADV_PREFETCH))
			_exit(7);
		if (gmem_pages_on(buf.p, SZ_64K, self->npu.hnid) != 16)
			_exit(8);
		_exit(gmem_diff(self->shadow, buf.p, SZ_64K) != SZ_64K);
	}
	ASSERT_EQ(0, gmem_child(pid));
	hmadvise(self->npu.hnid, self->buf.p, LEN, HMADV_PREFETCH);
	ASSERT_ON(self->npu.hnid, self->buf.p, LEN);
}

/* --- move_pages() and sysfs ------------------------------------------------- */

/* An hnode id is an answer, never a request. */
TEST_F(abi, move_pages_to_a_device)
{
	void *page = self->buf.p + LEN / 2;
	int node = self->npu.hnid, status = 0;
	long ret = syscall(SYS_move_pages, 0, 1, &page, &node, &status, 2);

	ASSERT_TRUE(ret == -1 ? errno == ENODEV : status < 0);
	assert_unchanged(_metadata, self);
}

/* prior art: nodes of CPUs were shown as nodes of devices, and the reverse */
TEST_F(abi, hnodes_are_no_cpu_nodes)
{
	unsigned long mask[GMEM_FIRST_HNID / 64 + 2] = {};
	char path[96];
	unsigned int i;
	glob_t g;

	OK(glob("/sys/kernel/mm/gmem/hnode*", 0, NULL, &g));
	ASSERT_EQ(npu_count(), g.gl_pathc);
	for (i = 0; i < g.gl_pathc; i++) {
		int hnid = atoi(strrchr(g.gl_pathv[i], '/') + strlen("/hnode"));

		ASSERT_LE(GMEM_FIRST_HNID, hnid);
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d",
			 hnid);
		ASSERT_NE(0, access(path, F_OK));
	}
	globfree(&g);
	/* No policy sends pages there either. */
	mask[GMEM_FIRST_HNID / 64] = 1;
	ASSERT_EQ(-1, syscall(SYS_mbind, self->buf.p, LEN, 2 /* MPOL_BIND */,
			      mask, sizeof(mask) * 8, 0));
	ASSERT_EQ(EINVAL, errno);
	assert_unchanged(_metadata, self);
}

TEST_F(abi, sysfs)
{
	int hnid = self->npu.hnid;
	long long size = gmem_hnode_get(hnid, "size");

	ASSERT_LE(GMEM_FIRST_HNID, hnid);
	ASSERT_EQ(self->npu.mem_size, size);
	ASSERT_EQ(size - (long long)LEN / 2, gmem_hnode_get(hnid, "free"));
	ASSERT_EQ(size, gmem_hnode_get(hnid, "limit"));
	/* Nonsense for a limit is refused and changes nothing. */
	FAILS(EINVAL, _gmem_hnode_set(hnid, "limit", ~0ULL));
	gmem_hnode_set(hnid, "limit", size);
	ASSERT_NE(0, _gmem_hnode_set(hnid, "size", 4096));
	ASSERT_NE(0, _gmem_hnode_set(hnid, "free", 4096));
	ASSERT_EQ(size, gmem_hnode_get(hnid, "limit"));
	assert_unchanged(_metadata, self);
}

GMEM_TEST_MAIN("What mmap(), hmadvise() and sysfs accept and refuse.")
