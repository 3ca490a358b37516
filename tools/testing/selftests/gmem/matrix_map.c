// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of the matrix on mappings: unmapping, moving, protection,
 * advice, userfaultfd.
 */
#include "matrix.h"

#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise	440
#endif
#define RW			(PROT_READ | PROT_WRITE)

static bool alone(const struct cell *c)
{
	return c->race == CELL_ALONE && c->state != CELL_MOVING;
}

/* --- unmapping ----------------------------------------------------------- */

static int run_munmap(struct cell *c)
{
	if (munmap(c->p, c->n))
		return errno;
	cell_unmapped(c, c->at, c->n);
	c->hole = c->p;
	c->hole_len = c->n;
	return 0;
}

const struct matrix_op op_munmap = {
	.name = "munmap",
	.flags = OP_LOSES | OP_FAULTS,
	.run = run_munmap,
};

static int run_mmap_fixed(struct cell *c)
{
	if (mmap(c->p, c->n, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
		 MAP_PEER_SHARED, -1, 0) != c->p)
		return errno;
	memset(c->shadow + c->at, 0, c->n);
	return 0;
}

const struct matrix_op op_mmap_fixed = {
	.name = "mmap MAP_FIXED over it",
	.flags = OP_LOSES | OP_FAULTS | OP_AGAIN,
	.run = run_mmap_fixed,
};

/* The heap shrinks and grows again. */
static int run_brk(struct cell *c)
{
	if (sbrk(0) != c->p + c->n)
		return cell_fail(c, "somebody else made the heap grow");
	if (sbrk(-(intptr_t)c->n) == (void *)-1 ||
	    sbrk(c->n) == (void *)-1)
		return errno;
	memset(c->shadow + c->at, 0, c->n);
	return 0;
}

const struct matrix_op op_brk = {
	.name = "brk, down and up",
	.flags = OP_LOSES | OP_FAULTS | OP_HEAP | OP_AGAIN,
	.run = run_brk,
};

/* --- mremap -------------------------------------------------------------- */

static const size_t growth = CELL_GROWTH * SZ_4K;

/* The whole in place, a part by moving away. */
static int run_mremap_grow(struct cell *c)
{
	int flags = 0, err;
	char *to = c->p;

	if (c->part) {
		flags = MREMAP_MAYMOVE | MREMAP_FIXED;
		err = cell_away(c, c->n + growth, (uintptr_t)c->p, PROT_NONE,
				0);
		if (err)
			return err;
		to = c->away.p;
	} else if (munmap(c->p + c->n, growth)) {
		return errno;
	}
	if (mremap(c->p, c->n, c->n + growth, flags, to) != to)
		return errno;
	cell_moved(c, c->at, c->n, to);
	cell_moved(c, c->len, growth, to + c->n);
	c->len += growth;
	if (c->part) {
		c->hole = c->p;
		c->hole_len = c->n;
	}
	return 0;
}

const struct matrix_op op_mremap_grow = {
	.name = "mremap, grow",
	.flags = OP_FAULTS,
	.run = run_mremap_grow,
};

static int run_mremap_shrink(struct cell *c)
{
	size_t keep = c->n / SZ_4K / 2 * SZ_4K;

	if (mremap(c->p, c->n, keep, 0) != c->p)
		return errno;
	cell_unmapped(c, c->at + keep, c->n - keep);
	c->hole = c->p + keep;
	c->hole_len = c->n - keep;
	return 0;
}

const struct matrix_op op_mremap_shrink = {
	.name = "mremap, shrink",
	.flags = OP_FAULTS | OP_LOSES,
	.run = run_mremap_shrink,
};

/* op.arg: by how much more than the alignment of the address. */
static int run_mremap_move(struct cell *c)
{
	int err = cell_away(c, c->n, (uintptr_t)c->p + c->op->arg, PROT_NONE,
			    0);

	if (err)
		return err;
	if (mremap(c->p, c->n, c->n, MREMAP_MAYMOVE | MREMAP_FIXED,
		   c->away.p) != c->away.p)
		return errno;
	cell_moved(c, c->at, c->n, c->away.p);
	c->hole = c->p;
	c->hole_len = c->n;
	return 0;
}

const struct matrix_op op_mremap_move = {
	.name = "mremap, aligned alike",
	.flags = OP_FAULTS,
	.run = run_mremap_move,
};

const struct matrix_op op_mremap_unaligned = {
	.name = "mremap by 12 KiB more",
	.flags = OP_FAULTS,
	.arg = 3 * SZ_4K,
	.run = run_mremap_move,
};

/* What the worker does at the old address counts on from zero. */
static void leave_twins(struct cell *c, size_t n)
{
	size_t i;

	for (i = 0; i < n; i += SZ_4K)
		c->twin[(c->at + i) / SZ_4K] =
			(uint64_t *)(c->p + i + CELL_WORD);
}

static int run_mremap_dontunmap(struct cell *c)
{
	int err = cell_away(c, c->n, (uintptr_t)c->p, PROT_NONE, 0);

	if (err)
		return err;
	if (mremap(c->p, c->n, c->n, MREMAP_MAYMOVE | MREMAP_FIXED |
		   MREMAP_DONTUNMAP, c->away.p) != c->away.p)
		return errno;
	cell_moved(c, c->at, c->n, c->away.p);
	leave_twins(c, c->n);
	return 0;
}

static int after_mremap_dontunmap(struct cell *c)
{
	return c->twin[c->at / SZ_4K] ? cell_zero(c, c->p, c->n) : 0;
}

const struct matrix_op op_mremap_dontunmap = {
	.name = "mremap DONTUNMAP",
	.flags = OP_FAULTS | OP_LOSES,
	.run = run_mremap_dontunmap,
	.after = after_mremap_dontunmap,
};

/* --- protection ---------------------------------------------------------- */

static int run_mprotect(struct cell *c)
{
	return mprotect(c->p, c->n, c->op->arg) ? errno : 0;
}

static int after_mprotect_ro(struct cell *c)
{
	if (cell_same(c, c->p, c->at, c->n))
		return -1;
	if (_npu_fill(&c->npu[0], c->p, SZ_4K, 1, NULL) != EPERM ||
	    _npu_touch(&c->npu[0], c->p + c->n - SZ_4K, SZ_4K, true, NULL) !=
	    EPERM)
		return cell_fail(c, "the device may write");
	if (gmem_poke(c->p, 1))
		return cell_fail(c, "the CPU may write");
	return mprotect(c->p, c->n, RW);
}

const struct matrix_op op_mprotect_ro = {
	.name = "mprotect, read-only",
	.flags = OP_FAULTS,
	.arg = PROT_READ,
	.run = run_mprotect,
	.after = after_mprotect_ro,
};

static int after_mprotect_none(struct cell *c)
{
	if (_npu_fill(&c->npu[0], c->p, SZ_4K, 1, NULL) != EFAULT ||
	    _npu_touch(&c->npu[0], c->p + c->n - SZ_4K, SZ_4K, false, NULL) !=
	    EFAULT)
		return cell_fail(c, "the device may read");
	if (gmem_peek(c->p))
		return cell_fail(c, "the CPU may read");
	return mprotect(c->p, c->n, RW);
}

const struct matrix_op op_mprotect_none = {
	.name = "mprotect, none",
	.flags = OP_FAULTS,
	.arg = PROT_NONE,
	.run = run_mprotect,
	.after = after_mprotect_none,
};

static int run_mprotect_back(struct cell *c)
{
	if (mprotect(c->p, c->n, PROT_READ) ||
	    mprotect(c->p, c->n, PROT_NONE) || mprotect(c->p, c->n, RW))
		return errno;
	return 0;
}

const struct matrix_op op_mprotect_back = {
	.name = "mprotect, there and back",
	.flags = OP_FAULTS | OP_AGAIN,
	.run = run_mprotect_back,
};

/* A flag that has nothing to do with the pages splits and merges VMAs. */
static int run_vma_split_merge(struct cell *c)
{
	unsigned int pieces = c->part ? 3 : 1;
	struct gmem_smaps maps;

	if (madvise(c->p, c->n, MADV_DONTDUMP))
		return errno;
	if (_gmem_smaps(0, c->buf.p, c->len, &maps) || maps.vmas != pieces)
		return cell_fail(c, "%u VMAs, not split", maps.vmas);
	if (madvise(c->p, c->n, MADV_DODUMP))
		return errno;
	if (_gmem_smaps(0, c->buf.p, c->len, &maps) || maps.vmas != 1)
		return cell_fail(c, "%u VMAs, not merged", maps.vmas);
	return 0;
}

const struct matrix_op op_vma_split_merge = {
	.name = "VMA split and merge",
	.flags = OP_AGAIN,
	.run = run_vma_split_merge,
};

/* --- madvise ------------------------------------------------------------- */

static int run_advice(struct cell *c)
{
	return madvise(c->p, c->n, c->op->arg) ? errno : 0;
}

static int run_dontneed(struct cell *c)
{
	int err = run_advice(c);

	if (!err)
		memset(c->shadow + c->at, 0, c->n);
	return err;
}

const struct matrix_op op_dontneed = {
	.name = "MADV_DONTNEED",
	.flags = OP_LOSES | OP_AGAIN,
	.arg = MADV_DONTNEED,
	.run = run_dontneed,
};

/* Each page has what it had, or is empty. */
static int after_madv_free(struct cell *c)
{
	size_t i;

	for (i = 0; i < c->n; i += SZ_4K) {
		if (gmem_nonzero(c->p + i, CELL_WORD) == CELL_WORD)
			memset(c->shadow + c->at + i, 0, SZ_4K);
	}
	return 0;
}

const struct matrix_op op_madv_free = {
	.name = "MADV_FREE",
	.flags = OP_LOSES | OP_AGAIN,
	.arg = MADV_FREE,
	.run = run_advice,
	.after = after_madv_free,
};

const struct matrix_op op_cold = {
	.name = "MADV_COLD",
	.flags = OP_AGAIN,
	.arg = MADV_COLD,
	.run = run_advice,
};

const struct matrix_op op_pageout = {
	.name = "MADV_PAGEOUT, to swap",
	.flags = OP_AGAIN,
	.arg = MADV_PAGEOUT,
	.run = run_advice,
};

const struct matrix_op op_willneed = {
	.name = "MADV_WILLNEED",
	.flags = OP_AGAIN,
	.arg = MADV_WILLNEED,
	.run = run_advice,
};

const struct matrix_op op_populate_read = {
	.name = "MADV_POPULATE_READ",
	.flags = OP_AGAIN,
	.arg = MADV_POPULATE_READ,
	.run = run_advice,
};

const struct matrix_op op_populate_write = {
	.name = "MADV_POPULATE_WRITE",
	.flags = OP_AGAIN,
	.arg = MADV_POPULATE_WRITE,
	.run = run_advice,
};

static int run_collapse(struct cell *c)
{
	if (madvise(c->buf.p, c->len, MADV_HUGEPAGE))
		return errno;
	return run_advice(c);
}

/*
 * There is no huge page to be made of a range without an aligned 2 MiB, nor of
 * one of which nothing is on the host, as if it were all in swap.  Pages that
 * others have a reference on cannot be copied.
 */
static bool expect_collapse(const struct cell *c, int err)
{
	uintptr_t first = ((uintptr_t)c->p + SZ_2M - 1) / SZ_2M;
	uintptr_t end = ((uintptr_t)c->p + c->n) / SZ_2M;

	if (first > end || c->shape->block < SZ_2M)
		return err == EINVAL;
	if (!alone(c))
		return !err || err == EAGAIN || err == EBUSY || err == EINVAL;
	if (first == end)
		return !err;
	if (c->state == CELL_DEVICE)
		return err == EINVAL;
	if (c->state == CELL_PINNED && !c->shape->thp)
		return err == EAGAIN;
	return !err;
}

const struct matrix_op op_collapse = {
	.name = "MADV_COLLAPSE",
	.flags = OP_AGAIN,
	.arg = MADV_COLLAPSE,
	.expect = expect_collapse,
	.run = run_collapse,
};

const struct matrix_op op_hugepage = {
	.name = "MADV_HUGEPAGE",
	.flags = OP_AGAIN,
	.arg = MADV_HUGEPAGE,
	.run = run_advice,
};

const struct matrix_op op_nohugepage = {
	.name = "MADV_NOHUGEPAGE",
	.flags = OP_AGAIN,
	.arg = MADV_NOHUGEPAGE,
	.run = run_advice,
};

const struct matrix_op op_mergeable = {
	.name = "MADV_MERGEABLE",
	.flags = OP_AGAIN,
	.arg = MADV_MERGEABLE,
	.run = run_advice,
};

static bool expect_einval(const struct cell *c, int err)
{
	(void)c;
	return err == EINVAL;
}

const struct matrix_op op_madv_remove = {
	.name = "MADV_REMOVE",
	.arg = MADV_REMOVE,
	.expect = expect_einval,
	.run = run_advice,
};

static int run_process_madvise(struct cell *c)
{
	struct iovec iov = { c->p, c->n };
	int fd = syscall(SYS_pidfd_open, getpid(), 0);
	int err = 0;

	if (syscall(SYS_process_madvise, fd, &iov, 1, MADV_PAGEOUT, 0) !=
	    (long)c->n)
		err = errno;
	close(fd);
	return err;
}

const struct matrix_op op_process_madvise = {
	.name = "process_madvise PAGEOUT",
	.flags = OP_AGAIN,
	.run = run_process_madvise,
};

static int child_has_no_range(struct cell *c)
{
	if (gmem_peek(c->p) || gmem_peek(c->p + c->n - SZ_4K))
		return cell_fail(c, "a child has it");
	return 0;
}

static int run_dontfork(struct cell *c)
{
	int err = run_advice(c);

	return err ? err : cell_child(c, child_has_no_range);
}

const struct matrix_op op_dontfork = {
	.name = "MADV_DONTFORK, fork",
	.flags = OP_AGAIN,
	.arg = MADV_DONTFORK,
	.run = run_dontfork,
};

static int child_has_zeros(struct cell *c)
{
	if (gmem_nonzero(c->p, c->n) != c->n)
		return cell_fail(c, "a child has contents");
	return 0;
}

static int run_wipeonfork(struct cell *c)
{
	int err = run_advice(c);

	return err ? err : cell_child(c, child_has_zeros);
}

const struct matrix_op op_wipeonfork = {
	.name = "MADV_WIPEONFORK, fork",
	.flags = OP_AGAIN,
	.arg = MADV_WIPEONFORK,
	.run = run_wipeonfork,
};

/* --- mlock --------------------------------------------------------------- */

static int run_mlock(struct cell *c)
{
	return mlock(c->p, c->n) ? errno : 0;
}

static int after_mlock(struct cell *c)
{
	if (cell_same(c, c->p, c->at, c->n) ||
	    cell_device_adds(c, &c->npu[0], c->p, c->at, c->n))
		return -1;
	if (gmem_pages_on(c->p, c->n, GMEM_ANY_NODE) != c->n / SZ_4K)
		return cell_fail(c, "locked pages are not on the host");
	return munlock(c->p, c->n);
}

const struct matrix_op op_mlock = {
	.name = "mlock",
	.flags = OP_AGAIN,
	.run = run_mlock,
	.after = after_mlock,
};

static int run_munlock(struct cell *c)
{
	return mlock(c->p, c->n) || munlock(c->p, c->n) ? errno : 0;
}

const struct matrix_op op_munlock = {
	.name = "mlock, munlock",
	.flags = OP_AGAIN,
	.run = run_munlock,
};

/* --- userfaultfd --------------------------------------------------------- */

static struct gmem_uffd uffd = { .fd = -1 };

static void uffd_end(void)
{
	if (uffd.fd >= 0)
		close(uffd.fd);
	uffd.fd = -1;
}

/* Protected pages can be read; who writes waits until they are not. */
static int run_uffd_wp(struct cell *c)
{
	int err;

	uffd.fd = gmem_uffd_open(c->p, c->n, UFFDIO_REGISTER_MODE_WP);
	if (uffd.fd < 0)
		return errno;
	err = gmem_uffd_protect(uffd.fd, c->p, c->n, true);
	if (err)
		return err;
	if (cell_same(c, c->p, c->at, c->n))
		return -1;
	err = gmem_uffd_protect(uffd.fd, c->p, c->n, false);
	if (err)
		return err;
	cell_put(c, c->p, c->fresh + c->at, c->n);
	cell_put(c, c->shadow + c->at, c->fresh + c->at, c->n);
	return 0;
}

static int after_uffd(struct cell *c)
{
	(void)c;
	uffd_end();
	return 0;
}

const struct matrix_op op_uffd_wp = {
	.name = "userfaultfd, protect",
	.flags = OP_CHANGES | OP_FAULTS,
	.run = run_uffd_wp,
	.after = after_uffd,
};

/* The handler fills what was dropped with other bytes. */
static int run_uffd_missing(struct cell *c)
{
	uffd.fd = gmem_uffd_open(c->p, c->n, UFFDIO_REGISTER_MODE_MISSING);
	if (uffd.fd < 0)
		return errno;
	cell_put(c, c->shadow + c->at, c->fresh + c->at, c->n);
	uffd.fill = c->shadow + c->at;
	uffd.p = c->p;
	if (gmem_uffd_start(&uffd))
		return cell_fail(c, "no thread");
	if (madvise(c->p, c->n, MADV_DONTNEED))
		return errno;
	return cell_same(c, c->p, c->at, c->n);
}

static int after_uffd_missing(struct cell *c)
{
	if (uffd.fd < 0)
		return 0;
	gmem_uffd_stop(&uffd);
	uffd_end();
	return uffd.seen ? 0 : cell_fail(c, "no fault was reported");
}

const struct matrix_op op_uffd_missing = {
	.name = "userfaultfd, missing",
	.flags = OP_LOSES | OP_FAULTS,
	.pages = 16,
	.run = run_uffd_missing,
	.after = after_uffd_missing,
};

static int run_uffd_copy(struct cell *c)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)c->p,
		.src = (uintptr_t)c->fresh,
		.len = c->n,
	};

	if (uffd.fd < 0)
		uffd.fd = gmem_uffd_open(c->p, c->n,
					 UFFDIO_REGISTER_MODE_MISSING);
	return uffd.fd < 0 || ioctl(uffd.fd, UFFDIO_COPY, &copy) ? errno : 0;
}

/* There is a page already, wherever it is. */
static bool expect_eexist(const struct cell *c, int err)
{
	(void)c;
	return err == EEXIST;
}

const struct matrix_op op_uffd_copy = {
	.name = "UFFDIO_COPY onto it",
	.flags = OP_FAULTS,
	.expect = expect_eexist,
	.run = run_uffd_copy,
	.after = after_uffd,
};

/* As far as it goes; what is pinned stays. */
static int run_uffd_move(struct cell *c)
{
	size_t moved = 0;
	int err, tries;

	err = cell_away(c, c->n, (uintptr_t)c->p, RW, MAP_PEER_SHARED);
	if (err)
		return err;
	uffd.fd = gmem_uffd_open(c->away.p, c->n,
				 UFFDIO_REGISTER_MODE_MISSING);
	if (uffd.fd < 0)
		return errno;
	for (tries = 0; moved < c->n && tries < 50; tries++) {
		struct uffdio_move move = {
			.dst = (uintptr_t)c->away.p + moved,
			.src = (uintptr_t)c->p + moved,
			.len = c->n - moved,
		};

		err = ioctl(uffd.fd, UFFDIO_MOVE, &move) ? errno : 0;
		if (move.move > 0)
			moved += move.move;
		if (err && err != EAGAIN && err != EBUSY)
			break;
	}
	cell_moved(c, c->at, moved, c->away.p);
	leave_twins(c, moved);
	return moved == c->n ? 0 : err;
}

static int after_uffd_move(struct cell *c)
{
	size_t moved = 0;

	uffd_end();
	while (moved < c->n && c->twin[(c->at + moved) / SZ_4K])
		moved += SZ_4K;
	return cell_zero(c, c->p, moved);
}

static bool expect_uffd_move(const struct cell *c, int err)
{
	if (!alone(c))
		return !err || err == EBUSY || err == EAGAIN;
	return err == (c->state == CELL_PINNED ? EBUSY : 0);
}

/*
 * It has to split the folio, cannot, and tries again until somebody kills it: so
 * does the kernel without GMEM, as of 6.12.
 */
static const char *skip_pinned_huge(const struct cell *c)
{
	return c->state == CELL_PINNED && c->shape->thp ?
	       "of a pinned huge page it does not come back" : NULL;
}

const struct matrix_op op_uffd_move = {
	.name = "UFFDIO_MOVE from it",
	.flags = OP_FAULTS | OP_LOSES,
	.expect = expect_uffd_move,
	.skip = skip_pinned_huge,
	.run = run_uffd_move,
	.after = after_uffd_move,
};

/* --- hmadvise ------------------------------------------------------------ */

static int run_hmadvise(struct cell *c)
{
	return _hmadvise(-1, c->p, c->n, c->op->arg);
}

const struct matrix_op op_share = {
	.name = "HMADV_SHARE",
	.flags = OP_AGAIN,
	.arg = HMADV_SHARE,
	.run = run_hmadvise,
};

static int run_unshare(struct cell *c)
{
	int err = run_hmadvise(c);

	return err ? err : _hmadvise(-1, c->p, c->n, HMADV_SHARE);
}

const struct matrix_op op_unshare = {
	.name = "HMADV_UNSHARE, SHARE",
	.flags = OP_AGAIN,
	.arg = HMADV_UNSHARE,
	.run = run_unshare,
};

const struct matrix_op op_prefetch_host = {
	.name = "HMADV_PREFETCH, host",
	.flags = OP_AGAIN,
	.arg = HMADV_PREFETCH,
	.run = run_hmadvise,
};

static int run_prefetch(struct cell *c)
{
	return _hmadvise(c->npu[c->op->arg].hnid, c->p, c->n, HMADV_PREFETCH);
}

const struct matrix_op op_prefetch = {
	.name = "HMADV_PREFETCH, device",
	.flags = OP_AGAIN,
	.run = run_prefetch,
};

static const char *skip_one_device(const struct cell *c)
{
	return c->nr_npu < 2 ? "there is only one device" : NULL;
}

const struct matrix_op op_prefetch_other = {
	.name = "HMADV_PREFETCH, 2nd device",
	.flags = OP_AGAIN,
	.arg = 1,
	.skip = skip_one_device,
	.run = run_prefetch,
};

static int run_discard(struct cell *c)
{
	int err = run_hmadvise(c);

	if (!err)
		memset(c->shadow + c->at, 0, c->n);
	return err;
}

const struct matrix_op op_discard = {
	.name = "HMADV_DISCARD",
	.flags = OP_LOSES | OP_AGAIN,
	.arg = HMADV_DISCARD,
	.run = run_discard,
};
