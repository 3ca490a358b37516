// SPDX-License-Identifier: GPL-2.0
/*
 * Bugs that were found and must not come back, by name.
 */
#include "gmem_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(regress)
{
	struct npu npu[2];
	struct gmem_buf buf;
	char *shadow;
};

FIXTURE_SETUP(regress)
{
	int i;

	for (i = 0; i < 2; i++) {
		npu_open(&self->npu[i], i);
		npu_attach(&self->npu[i], 0);
	}
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	self->shadow = malloc(SZ_2M);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->buf.p, SZ_2M, 29);
	gmem_pattern(self->shadow, SZ_2M, 29);
	npu_dirty(&self->npu[0], self->buf.p, self->shadow, SZ_2M);
	ASSERT_ON(self->npu[0].hnid, self->buf.p, SZ_2M);
}

FIXTURE_TEARDOWN_PARENT(regress)
{
	_gmem_write_file("/proc/sys/vm/nr_hugepages", "0");
	EXPECT_NO_DEVICE_PAGES();
}

/*
 * A device faults on a page that is missing in the block of another device,
 * and the rest of that block is in two VMAs.  Only the faulting VMA's part was
 * brought home, so the block never went away and the fault never ended.
 */
TEST_F(regress, foreign_block_in_two_vmas)
{
	char *page = self->buf.p + 5 * SZ_4K;
	struct npu_result res;

	OK(mprotect(self->buf.p + SZ_1M, SZ_1M, PROT_READ));
	OK(madvise(page, SZ_4K, MADV_DONTNEED));
	memset(self->shadow + 5 * SZ_4K, 0, SZ_4K);

	npu_atomic_add(&self->npu[1], (uint64_t *)page, 7, 1, &res);
	ASSERT_EQ(0, res.value);
	/* A fault that gives up in the end works on the page in place. */
	ASSERT_ON(self->npu[1].hnid, page, SZ_4K);
	*(uint64_t *)(self->shadow + 5 * SZ_4K) = 7;
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/*
 * A prefetch stepped over a run of device memory as a whole and left the pages
 * behind that were missing in it.
 */
TEST_F(regress, prefetch_fills_gaps)
{
	ASSERT_TRUE(gmem_peek(self->buf.p + 100 * SZ_4K));
	ASSERT_NE(SZ_2M / SZ_4K, gmem_pages_on(self->buf.p, SZ_2M,
					       self->npu[0].hnid));
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	ASSERT_ON(self->npu[0].hnid, self->buf.p, SZ_2M);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/*
 * A page that fills a hole brings its neighbours of the same VMA along, in small
 * pages; a large page over them, as old as from before the VMA was split, stayed
 * in part.  With it the device had what had been discarded since.
 */
TEST_F(regress, fill_beside_a_split)
{
	char *group = self->buf.p + SZ_64K, *rest = group + SZ_64K / 2;
	struct npu_stats before, now;
	struct npu_result res;

	npu_stats(&self->npu[0], &before);
	OK(madvise(self->buf.p, SZ_4K, MADV_DONTNEED));
	npu_reduce(&self->npu[0], self->buf.p + SZ_1M, SZ_4K, NULL);
	OK(madvise(rest, self->buf.p + SZ_2M - rest, MADV_DONTFORK));
	npu_reduce(&self->npu[0], self->buf.p, SZ_4K, &res);
	ASSERT_EQ(0, res.value);

	OK(madvise(group, SZ_4K, MADV_DONTNEED));
	npu_reduce(&self->npu[0], rest, SZ_4K, &res);
	ASSERT_EQ(gmem_sum(self->shadow + (rest - self->buf.p), SZ_4K),
		  res.value);
	npu_reduce(&self->npu[0], group, SZ_4K, &res);
	ASSERT_EQ(0, res.value);
	npu_stats(&self->npu[0], &now);
	ASSERT_EQ(before.c[NPU_STAT_STALE_HITS], now.c[NPU_STAT_STALE_HITS]);
	memset(self->shadow, 0, SZ_4K);
	memset(self->shadow + SZ_64K, 0, SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/*
 * The zero page, mapped for a device at many addresses, made DMA debugging
 * believe in overlapping transfers.
 */
TEST_F(regress, zero_page_mapped_twice)
{
	struct npu_result res;
	struct gmem_buf plain;

	gmem_map(&plain, SZ_64K, SZ_64K, 0, RW, 0);
	npu_reduce(&self->npu[0], plain.p, SZ_64K, &res);
	ASSERT_EQ(0, res.value);
	npu_reduce(&self->npu[1], plain.p, SZ_64K, &res);
	ASSERT_EQ(0, res.value);
}

/*
 * Nothing on the CPU's side says that a device wrote to a host page, so that
 * reclaim took a page that MADV_FREE had cleaned for clean, and dropped it.
 */
TEST_F(regress, remote_write_makes_dirty)
{
	struct gmem_buf plain;

	gmem_map(&plain, SZ_64K, SZ_64K, 0, RW, 0);
	gmem_pattern(plain.p, SZ_64K, 31);
	OK(madvise(plain.p, SZ_64K, MADV_FREE));
	npu_fill(&self->npu[0], plain.p, SZ_64K, 0x1122334455667788, NULL);
	OK(madvise(plain.p, SZ_64K, MADV_PAGEOUT));
	memset(self->shadow, 0, SZ_64K);
	for (size_t i = 0; i < SZ_64K / 8; i++)
		((uint64_t *)self->shadow)[i] = 0x1122334455667788;
	ASSERT_SAME(self->shadow, plain.p, SZ_64K);
}

/* UNSHARE left host pages mapped for a device that only may have shared ones. */
TEST_F(regress, unshare_ends_remote_access)
{
	struct npu strict;

	OK(mlock(self->buf.p, SZ_64K));
	npu_open(&strict, 0);
	npu_attach(&strict, GMEM_NPU_ATTACH_STRICT);
	npu_fill(&strict, self->buf.p, SZ_64K, 5, NULL);
	hmadvise(-1, self->buf.p, SZ_64K, HMADV_UNSHARE);
	npu_fill_err(EFAULT, &strict, self->buf.p, SZ_64K, 6, NULL);
	ASSERT_EQ(5, *(uint64_t *)self->buf.p);
	npu_close(&strict);
}

/*
 * SHARE and UNSHARE of several mappings that became one took what was left of
 * it for a hole.
 */
TEST_F(regress, unshare_merges_mappings)
{
	struct gmem_buf plain;

	gmem_map(&plain, SZ_64K, SZ_64K, 0, RW, 0);
	hmadvise(-1, plain.p + 5 * SZ_4K, SZ_4K, HMADV_SHARE);
	hmadvise(-1, plain.p, SZ_64K, HMADV_UNSHARE);
	hmadvise(-1, plain.p, 5 * SZ_4K, HMADV_SHARE);
	hmadvise(-1, plain.p + 6 * SZ_4K, 2 * SZ_4K, HMADV_SHARE);
	hmadvise(-1, plain.p, SZ_64K, HMADV_SHARE);
	OK(munmap(plain.p + 8 * SZ_4K, SZ_4K));
	hmadvise_err(ENOMEM, -1, plain.p, SZ_64K, HMADV_UNSHARE);
}

/* DISCARD emptied a mapping that was sealed against that. */
TEST_F(regress, discard_of_sealed_memory)
{
	hmadvise(-1, self->buf.p, SZ_2M, HMADV_PREFETCH);
	OK(mprotect(self->buf.p, SZ_2M, PROT_READ));
	OK(syscall(462, self->buf.p, SZ_2M, 0));
	hmadvise_err(EPERM, -1, self->buf.p, SZ_2M, HMADV_DISCARD);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/* A limit below 2 MiB made every page stay on the host. */
TEST_F(regress, limit_below_a_block)
{
	int hnid = self->npu[1].hnid;
	size_t there;

	gmem_hnode_set(hnid, "limit", SZ_1M);
	npu_dirty(&self->npu[1], self->buf.p, self->shadow, SZ_2M);
	there = gmem_pages_on(self->buf.p, SZ_2M, hnid);
	gmem_hnode_set(hnid, "limit", gmem_hnode_get(hnid, "size"));
	ASSERT_NE(0, there);
	ASSERT_LE(there, SZ_1M / SZ_4K);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/*
 * A copy that an engine did not finish, as in a reset, raised SIGBUS, though
 * the data was there and the next copy would have worked.
 */
TEST_F(regress, copy_error_is_tried_again)
{
	struct npu_result res;
	struct gmem_buf page;

	gmem_map(&page, SZ_4K, SZ_2M, SZ_4K, RW, MAP_PEER_SHARED);
	memcpy(page.p, self->shadow, SZ_4K);
	npu_reduce(&self->npu[0], page.p, SZ_4K, &res);
	ASSERT_ON(self->npu[0].hnid, page.p, SZ_4K);
	npu_inject(&self->npu[0], NPU_INJECT_COPY_FAIL, 1);
	ASSERT_TRUE(gmem_peek(page.p));
	npu_inject(&self->npu[0], NPU_INJECT_NONE, 0);
	ASSERT_ON(GMEM_ANY_NODE, page.p, SZ_4K);
	ASSERT_SAME(self->shadow, page.p, SZ_4K);
}

struct collapse {
	char *p;
	bool stop;
};

static void *collapse_all_the_time(void *arg)
{
	struct collapse *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED))
		madvise(c->p, SZ_2M, MADV_COLLAPSE);
	return NULL;
}

/*
 * A fault under the VMA lock made a huge page of a page table that khugepaged
 * had found valid, but not yet locked; it put the huge page back as a table.
 */
TEST_F(regress, collapse_meets_recall)
{
	struct collapse c = { .p = self->buf.p };
	unsigned long i, n = gmem_scaled(200);
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, collapse_all_the_time, &c));
	for (i = 0; i < n; i++) {
		/* Home as single pages, which can be collapsed. */
		OK(madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
		ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
		OK(madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
		hmadvise(self->npu[i % 2].hnid, self->buf.p, SZ_2M,
			 HMADV_PREFETCH);
		/* Home as a huge page. */
		ASSERT_TRUE(gmem_peek(self->buf.p));
		ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
		hmadvise(self->npu[i % 2].hnid, self->buf.p, SZ_2M,
			 HMADV_PREFETCH);
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/* Forget where the pages were: they are single, on the host, and written. */
static void host_pages(struct __test_metadata *_metadata,
		       FIXTURE_DATA(regress) *self)
{
	OK(madvise(self->buf.p, SZ_2M, MADV_DONTNEED));
	OK(madvise(self->buf.p, SZ_2M, MADV_NOHUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, SZ_2M);
}

/* All of it is on the device, in one block: it comes home as a huge page. */
static void one_block(struct __test_metadata *_metadata,
		      FIXTURE_DATA(regress) *self, int hnid)
{
	ASSERT_ON(hnid, self->buf.p, SZ_2M);
	OK(madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	ASSERT_TRUE(gmem_peek(self->buf.p + SZ_1M));
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, SZ_2M);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/*
 * After a fork pages moved one by one, thirty times as slowly, and stayed in
 * pages, although the child that had shared them was gone.
 */
TEST_F(regress, prefetch_after_a_fork)
{
	pid_t pid;

	host_pages(_metadata, self);
	pid = gmem_fork();
	if (!pid)
		_exit(0);
	OK(gmem_child(pid));
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	one_block(_metadata, self, self->npu[0].hnid);
}

/* The same while the child is there, with data that is its own. */
TEST_F(regress, prefetch_beside_a_child)
{
	int go[2];
	pid_t pid;
	char c;

	host_pages(_metadata, self);
	OK(pipe(go));
	pid = gmem_fork();
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1))
			_exit(2);
		_exit(gmem_diff(self->shadow, self->buf.p, SZ_2M) != SZ_2M);
	}
	close(go[0]);
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	one_block(_metadata, self, self->npu[0].hnid);
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	npu_fill(&self->npu[0], self->buf.p, SZ_2M, 0x9876ULL, NULL);
	close(go[1]);
	OK(gmem_child(pid));
	ASSERT_EQ(0x9876ULL * (SZ_2M / 8), gmem_sum(self->buf.p, SZ_2M));
}

/* What is swapped out comes in before the piece moves, not while it does. */
TEST_F(regress, prefetch_of_swapped_pages)
{
	OK(_gmem_swap_on());
	host_pages(_metadata, self);
	gmem_page_out(self->buf.p + SZ_64K, SZ_1M);
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	one_block(_metadata, self, self->npu[0].hnid);
}

/*
 * The look for the next page that must come in first went on behind the last
 * one, into what lies behind the mapping.  With CONFIG_DEBUG_VM_PGFLAGS core MM
 * had something against it.
 */
TEST_F(regress, prefetch_looks_no_further)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB;
	char *huge;

	gmem_write_file("/proc/sys/vm/nr_hugepages", "1");
	if (gmem_read_number("/proc/sys/vm/nr_hugepages") < 1)
		SKIP(return, "no huge page to have behind the mapping");
	gmem_unmap(&self->buf);
	gmem_map(&self->buf, 2 * SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	huge = mmap(self->buf.p + SZ_2M, SZ_2M, RW, flags | MAP_FIXED, -1, 0);
	ASSERT_EQ(self->buf.p + SZ_2M, huge);
	memset(huge, 0x5a, SZ_2M);
	OK(_gmem_swap_on());
	host_pages(_metadata, self);
	gmem_page_out(huge - SZ_4K, SZ_4K);
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	one_block(_metadata, self, self->npu[0].hnid);
	ASSERT_EQ(0x5a, huge[0]);
	OK(munmap(huge, SZ_2M));
}

/* What is not in the range that was advised stays where and as it is. */
TEST_F(regress, prefetch_clears_what_was_advised)
{
	struct gmem_smaps maps;

	OK(_gmem_swap_on());
	host_pages(_metadata, self);
	gmem_page_out(self->buf.p, SZ_2M);
	hmadvise(self->npu[0].hnid, self->buf.p + SZ_1M, SZ_64K,
		 HMADV_PREFETCH);
	ASSERT_ON(self->npu[0].hnid, self->buf.p + SZ_1M, SZ_64K);
	gmem_smaps(0, self->buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M - SZ_64K, maps.swap);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

/* Single pages of another device become one block, with those of the host. */
TEST_F(regress, prefetch_gathers_pages)
{
	char *page;
	pid_t pid;

	host_pages(_metadata, self);
	pid = gmem_fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	/* What a child shares goes alone when a device faults on it. */
	for (page = self->buf.p; page < self->buf.p + SZ_1M; page += SZ_64K) {
		npu_touch(&self->npu[1], page, SZ_4K, true, NULL);
		ASSERT_ON(self->npu[1].hnid, page, SZ_4K);
	}
	ASSERT_EQ(SZ_1M / SZ_64K, gmem_pages_on(self->buf.p, SZ_2M,
						self->npu[1].hnid));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	one_block(_metadata, self, self->npu[0].hnid);
}

/*
 * A huge page with a reference too many cannot be split.  Each of its pages was
 * tried in vain, and the huge page lost its place in the page table by that.
 */
TEST_F(regress, pinned_huge_page_stays_huge)
{
	struct iovec iov = { .iov_len = SZ_4K };
	struct gmem_smaps maps;
	struct npu_result res;
	int p[2];

	gmem_unmap(&self->buf);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	iov.iov_base = self->buf.p + SZ_1M;
	OK(madvise(self->buf.p, SZ_2M, MADV_HUGEPAGE));
	memcpy(self->buf.p, self->shadow, SZ_2M);
	gmem_smaps(0, self->buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M, maps.huge);
	OK(pipe(p));
	ASSERT_EQ(SZ_4K, vmsplice(p[1], &iov, 1, 0));
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	npu_reduce(&self->npu[0], self->buf.p, SZ_2M, &res);
	ASSERT_EQ(gmem_sum(self->shadow, SZ_2M), res.value);
	ASSERT_ON(GMEM_ANY_NODE, self->buf.p, SZ_2M);
	gmem_smaps(0, self->buf.p, SZ_2M, &maps);
	ASSERT_EQ(SZ_2M, maps.huge);
	close(p[0]);
	close(p[1]);
	hmadvise(self->npu[0].hnid, self->buf.p, SZ_2M, HMADV_PREFETCH);
	ASSERT_ON(self->npu[0].hnid, self->buf.p, SZ_2M);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_2M);
}

GMEM_TEST_MAIN("bugs that were found, by name")
