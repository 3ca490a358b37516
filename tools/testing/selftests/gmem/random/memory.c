// SPDX-License-Identifier: GPL-2.0
/*
 * The random test: what a process does with its memory by system calls and by
 * the CPU.
 */
#include "random.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define PM_PRESENT		(1ULL << 63)

static const struct range none;

static size_t len_of(struct range r)
{
	return r.nr * SZ_4K;
}

/* --- mappings -------------------------------------------------------------------- */

static unsigned int pick_prot(struct actor *a)
{
	switch (below(a, 8)) {
	case 0:
		return PAGE_MAPPED;
	case 1:
	case 2:
		return PAGE_RO;
	default:
		return PAGE_RW;
	}
}

static int prot_of(unsigned int flags)
{
	return (flags & PAGE_READ ? PROT_READ : 0) |
	       (flags & PAGE_WRITE ? PROT_WRITE : 0);
}

static void map_range(struct actor *a, struct range r)
{
	unsigned int flags = chance(a, 85) ? PAGE_RW : pick_prot(a);
	char *p;

	if (chance(a, 80))
		flags |= PAGE_SHARED;
	record(a, r, none, flags);
	p = mmap(page_at(r.first), len_of(r), prot_of(flags),
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
		 (flags & PAGE_SHARED ? MAP_PEER_SHARED : 0), -1, 0);
	expect(a, 0, p == MAP_FAILED ? errno : 0);
	set_hole(r);
	set_zero(r);
	set_bits(r, flags);
	if (chance(a, 50))
		expect(a, 0, madvise(p, len_of(r), chance(a, 70) ?
				     MADV_HUGEPAGE : MADV_NOHUGEPAGE) ?
		       errno : 0);
	if (chance(a, 20))
		verify_some(a, r);
}

void map_plots(struct actor *a)
{
	unsigned int i;

	for (i = 0; i < process.plots; i++)
		if (process.plot[i].owner == a->nr)
			map_range(a, process.plot[i].range);
}

static int map(struct actor *a)
{
	map_range(a, pick(a));
	return 0;
}

static int unmap(struct actor *a)
{
	struct range r = pick(a);

	/* Otherwise there is soon little left to work on. */
	if (r.nr > 64 && chance(a, 70))
		r.nr = 1 + below(a, 64);
	record(a, r, none, 0);
	expect(a, 0, munmap(page_at(r.first), len_of(r)) ? errno : 0);
	set_hole(r);
	return 0;
}

static int protect(struct actor *a)
{
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED);
	unsigned int flags = chance(a, 60) ? PAGE_RW : pick_prot(a);

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, flags);
	expect(a, 0, mprotect(page_at(r.first), len_of(r), prot_of(flags)) ?
	       errno : 0);
	clear_bits(r, PAGE_RW);
	set_bits(r, flags);
	verify_some(a, r);
	return 0;
}

/* --- mremap() ----------------------------------------------------------------------- */

/* Whether a range is in more VMAs than one. */
static bool vma_border(struct range r)
{
	uintptr_t start = (uintptr_t)page_at(r.first), end = start + len_of(r);
	uintptr_t from, to;
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) ==
			2 && ((from > start && from < end) ||
			      (to > start && to < end));
	if (f)
		fclose(f);
	return found;
}

/* The model of pages that now are somewhere else. */
static void move_model(struct range from, struct range to)
{
	unsigned int flags = process.page[from.first] & ~PAGE_LAZY;
	unsigned int nr = from.nr < to.nr ? from.nr : to.nr;
	struct range more = { to.first + nr, to.nr - nr };

	memcpy(&process.page[to.first], &process.page[from.first], nr);
	memcpy(shadow_at(to.first), shadow_at(from.first), nr * SZ_4K);
	set_hole(more);
	set_bits(more, flags);
	set_zero(more);
}

/*
 * A failed mremap() has taken away what was in its place, and what it should
 * have cut off.  The pages to move must not suffer.
 */
static void move_failed(struct actor *a, struct range from, struct range to,
			int err)
{
	struct range tail = { from.first + to.nr, from.nr - to.nr };

	if (err != EFAULT || !vma_border(from))
		expect(a, 0, err);
	munmap(page_at(to.first), len_of(to));
	set_hole(to);
	if (from.nr > to.nr) {
		munmap(page_at(tail.first), len_of(tail));
		set_hole(tail);
	}
	verify_some(a, from);
}

/* As the kernel's page tables, or a device's blocks, can be moved, or not. */
static struct range move_target(struct actor *a, struct range from)
{
	static const unsigned int align[] = { BLOCK_PAGES, 16, 1 };
	unsigned int i = align[below(a, 3)];
	struct range to = pick(a), plot = to;

	for (plot.nr = 0; plot.nr < process.plots; plot.nr++)
		if (overlap(to, process.plot[plot.nr].range))
			break;
	plot = process.plot[plot.nr].range;
	to.first += (from.first - to.first) & (i - 1);
	to.nr = chance(a, 70) ? from.nr : to.nr;
	if (to.first >= plot.first + plot.nr)
		to.first = plot.first;
	if (to.nr > plot.first + plot.nr - to.first)
		to.nr = plot.first + plot.nr - to.first;
	return to;
}

static int move(struct actor *a)
{
	struct range from = pick_run(a, PAGE_MAPPED, PAGE_MAPPED), to;
	unsigned int i, first = from.first;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	char *p;

	/* What one VMA can have. */
	for (i = 1; i < from.nr; i++)
		if ((process.page[first + i] ^ process.page[first]) &
		    ~PAGE_LAZY)
			from.nr = i;
	to = move_target(a, from);
	if (!from.nr || overlap(from, to))
		return SKIPPED;
	if (from.nr == to.nr && chance(a, 30))
		flags |= MREMAP_DONTUNMAP;
	record(a, to, from, flags);
	p = mremap(page_at(from.first), len_of(from), len_of(to), flags,
		   page_at(to.first));
	if (p == MAP_FAILED) {
		move_failed(a, from, to, errno);
		return 0;
	}
	expect(a, 0, p == page_at(to.first) ? 0 : EINVAL);
	move_model(from, to);
	if (flags & MREMAP_DONTUNMAP) {
		set_zero(from);
		clear_bits(from, PAGE_LOCKED);
		verify_some(a, from);
	} else {
		set_hole(from);
	}
	verify_some(a, to);
	return 0;
}

/* In place: longer where a hole is next, shorter always. */
static int resize(struct actor *a)
{
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED), all = r;
	unsigned int i, nr;
	char *p;

	if (!r.nr)
		return SKIPPED;
	for (i = 0; r.first >= process.plot[i].range.first +
	     process.plot[i].range.nr; i++)
		;
	nr = process.plot[i].range.first + process.plot[i].range.nr - r.first;
	if (chance(a, 50) && r.nr > 1)
		all.nr = 1 + below(a, r.nr - 1);
	else if (nr > r.nr)
		all.nr = r.nr + 1 + below(a, nr - r.nr);
	else
		return SKIPPED;
	if (all.nr > r.nr) {
		/* The last page alone, as it is in one VMA. */
		all.nr -= r.nr - 1;
		all.first += r.nr - 1;
		r = (struct range) { all.first, 1 };
	}
	record(a, all, r, 0);
	p = mremap(page_at(r.first), len_of(r), len_of(all), 0);
	if (all.nr > r.nr &&
	    any((struct range) { r.first + 1, all.nr - 1 }, PAGE_MAPPED)) {
		expect(a, ENOMEM, p == MAP_FAILED ? errno : 0);
		verify_some(a, r);
		return 0;
	}
	if (all.nr < r.nr) {
		/* The end goes also when the rest turns out to be several. */
		set_hole((struct range) { r.first + all.nr, r.nr - all.nr });
		if (p == MAP_FAILED && errno == EFAULT && vma_border(all))
			return 0;
	}
	expect(a, 0, p == MAP_FAILED ? errno : 0);
	if (all.nr > r.nr)
		move_model(r, all);
	verify_some(a, all);
	return 0;
}

/* What mremap() must refuse before it has changed anything. */
static int move_onto_itself(struct actor *a)
{
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED);
	char *p;

	if (r.nr < 2)
		return SKIPPED;
	record(a, r, none, 0);
	p = mremap(page_at(r.first), len_of(r) / 2, len_of(r) / 2,
		   MREMAP_MAYMOVE | MREMAP_FIXED, page_at(r.first));
	expect(a, EINVAL, p == MAP_FAILED ? errno : 0);
	verify_some(a, r);
	return 0;
}

/* --- madvise(), mlock() ------------------------------------------------------------- */

/* Advice that drops contents stops at the first locked page. */
static int drop(struct actor *a)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED_LOCKED,
	};
	struct range r = pick(a), done = { r.first, 0 };
	int how = advice[below(a, 3)], want = 0, err;

	if (r.nr > 16 && chance(a, 50))
		r.nr = 1 + below(a, 16);
	record(a, r, none, how);
	for (; done.nr < r.nr; done.nr++) {
		unsigned int flags = process.page[done.first + done.nr];

		if (flags & PAGE_LOCKED && how == MADV_DONTNEED) {
			want = EINVAL;
			break;
		}
		if (!(flags & PAGE_MAPPED))
			want = ENOMEM;
	}
	err = madvise(page_at(r.first), len_of(r), how) ? errno : 0;
	expect(a, want, err);
	set_zero(done);
	verify_some(a, r);
	return 0;
}

/*
 * Linux 6.12 loses pages that MADV_FREE was not meant for: one that was read
 * back from a synchronous swap device is clean and has no copy there any more,
 * so that a child that gives it up takes it from its parent as well.  Written
 * to, a page is dirty or another one.
 */
static void make_dirty(struct range r)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++) {
		uint64_t *word = word_in(page_at(i), 0);

		if (gmem_pagemap(word) & PM_PRESENT)
			__atomic_fetch_or(word, 0, __ATOMIC_SEQ_CST);
	}
}

static int drop_lazily(struct actor *a)
{
	struct range r = pick_run(a, PAGE_RW | PAGE_LOCKED, PAGE_RW);

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, 0);
	make_dirty(r);
	expect(a, 0, madvise(page_at(r.first), len_of(r), MADV_FREE) ?
	       errno : 0);
	set_bits(r, PAGE_LAZY);
	if (chance(a, 50))
		madvise(page_at(r.first), len_of(r), MADV_PAGEOUT);
	verify_some(a, r);
	return 0;
}

/* Advice that must be taken and changes no contents. */
static int advise(struct actor *a)
{
	static const int advice[] = {
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK,
		MADV_KEEPONFORK, MADV_KEEPONFORK, MADV_DONTFORK, MADV_DOFORK,
		MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP,
	};
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED);
	int how = advice[below(a, sizeof(advice) / sizeof(advice[0]))];

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, how);
	expect(a, 0, madvise(page_at(r.first), len_of(r), how) ? errno : 0);
	if (how == MADV_WIPEONFORK)
		set_bits(r, PAGE_WIPE);
	if (how == MADV_KEEPONFORK)
		clear_bits(r, PAGE_WIPE);
	if (how == MADV_DONTFORK)
		set_bits(r, PAGE_NOFORK);
	if (how == MADV_DOFORK)
		clear_bits(r, PAGE_NOFORK);
	return 0;
}

/* Advice that may fail, for locked pages or for lack of something. */
static int hint(struct actor *a)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT, MADV_COLLAPSE,
		MADV_COLLAPSE, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_WILLNEED,
	};
	struct range r = pick(a);
	int how = advice[below(a, sizeof(advice) / sizeof(advice[0]))];

	record(a, r, none, how);
	madvise(page_at(r.first), len_of(r), how);
	verify_some(a, r);
	return 0;
}

static int lock(struct actor *a)
{
	struct range r = pick_run(a, PAGE_RO, PAGE_RO);

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, 0);
	expect(a, 0, mlock(page_at(r.first), len_of(r)) ? errno : 0);
	set_bits(r, PAGE_LOCKED);
	verify_some(a, r);
	return 0;
}

static int unlock(struct actor *a)
{
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED);

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, 0);
	expect(a, 0, munlock(page_at(r.first), len_of(r)) ? errno : 0);
	clear_bits(r, PAGE_LOCKED);
	return 0;
}

static int clear_soft_dirty(struct actor *a)
{
	record(a, none, none, 0);
	expect(a, 0, _gmem_write_file("/proc/self/clear_refs",
				      chance(a, 50) ? "4" : "1"));
	return 0;
}

/* --- access by the CPU ---------------------------------------------------------------- */

static int cpu_write(struct actor *a)
{
	struct range r = pick_run(a, PAGE_RW, PAGE_RW);
	struct bytes b;

	if (!r.nr)
		return SKIPPED;
	b = pick_bytes(a, r, 1, MAX_DATA * SZ_4K);
	record(a, pages_of(b), none, b.at);
	make_data(a, b, a->bounce);
	memcpy((char *)ARENA_BASE + b.at, a->bounce, b.len);
	put(a, b, a->bounce);
	verify_some(a, pages_of(b));
	return 0;
}

/* A byte in each of some pages, in any order. */
static int cpu_touch(struct actor *a)
{
	struct range r = pick_run(a, PAGE_RW, PAGE_RW);
	unsigned int i, nr = 1 + below(a, 20);

	if (!r.nr || !settle(r))
		return SKIPPED;
	record(a, r, none, nr);
	for (i = 0; i < nr; i++) {
		size_t at = (r.first + below(a, r.nr)) * SZ_4K +
			    below(a, SZ_4K);

		*((volatile char *)ARENA_BASE + at) = a->op + i;
		process.shadow[at] = a->op + i;
	}
	verify_some(a, r);
	return 0;
}

static int cpu_read(struct actor *a)
{
	struct range r = pick(a);

	record(a, r, none, 0);
	verify(a, r, chance(a, 50) ? BY_CPU : below(a, NR_HOW));
	return 0;
}

/* Through the kernel: which of the bytes is the first that it must refuse? */
static int kernel_write(struct actor *a)
{
	struct range r = pick_run(a, PAGE_RW, PAGE_RW);
	struct iovec local, remote;
	struct bytes b;
	ssize_t n;

	if (!r.nr)
		return SKIPPED;
	b = pick_bytes(a, r, 1, MAX_DATA * SZ_4K);
	record(a, pages_of(b), none, b.at);
	make_data(a, b, a->bounce);
	local = (struct iovec) { a->bounce, b.len };
	remote = (struct iovec) { (char *)ARENA_BASE + b.at, b.len };
	n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	expect(a, 0, n == (ssize_t)b.len ? 0 : n < 0 ? errno : EIO);
	put(a, b, a->bounce);
	verify_some(a, pages_of(b));
	return 0;
}

static int kernel_write_err(struct actor *a)
{
	struct range r = pick_run(a, PAGE_WRITE, 0);
	struct iovec local, remote;
	ssize_t n;

	if (!r.nr)
		return SKIPPED;
	record(a, r, none, 0);
	local = (struct iovec) { a->bounce, SZ_4K };
	remote = (struct iovec) { page_at(r.first), SZ_4K };
	n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	expect(a, EFAULT, n < 0 ? errno : 0);
	verify_some(a, r);
	return 0;
}

/* As a debugger does it, which may write to what is read-only. */
static int debugger_write(struct actor *a)
{
	struct range r = pick_run(a, PAGE_MAPPED, PAGE_MAPPED);
	struct bytes b;
	ssize_t n;

	if (!r.nr)
		return SKIPPED;
	b = pick_bytes(a, r, 1, 16 * SZ_4K);
	record(a, pages_of(b), none, b.at);
	make_data(a, b, a->bounce);
	n = pwrite(mem_fd(), a->bounce, b.len, ARENA_BASE + b.at);
	expect(a, 0, n == (ssize_t)b.len ? 0 : n < 0 ? errno : EIO);
	put(a, b, a->bounce);
	verify_some(a, pages_of(b));
	return 0;
}

/* read(2) into the pages and write(2) from them, with a pipe between. */
static int pipe_through(struct actor *a)
{
	struct range from, to;
	struct bytes b;
	ssize_t n;
	int fd[2];

	if (!pick_two(a, PAGE_RO, PAGE_RO, PAGE_RW, PAGE_RW, &from, &to) ||
	    !settle(from))
		return SKIPPED;
	b = pick_bytes(a, to, 1, 8 * SZ_4K);
	if (b.len > len_of(from))
		b.len = len_of(from);
	record(a, pages_of(b), from, b.at);
	if (pipe(fd))
		return SKIPPED;
	n = write(fd[1], page_at(from.first), b.len);
	expect(a, 0, n == (ssize_t)b.len ? 0 : n < 0 ? errno : EIO);
	n = read(fd[0], (char *)ARENA_BASE + b.at, b.len);
	expect(a, 0, n == (ssize_t)b.len ? 0 : n < 0 ? errno : EIO);
	close(fd[0]);
	close(fd[1]);
	put(a, b, shadow_at(from.first));
	verify_some(a, pages_of(b));
	return 0;
}

static int verify_all(struct actor *a)
{
	record(a, none, none, 0);
	verify_plots(a, true);
	return 0;
}

const struct operation memory_ops[] = {
	{ "mmap", 60, map },
	{ "munmap", 15, unmap },
	{ "mprotect", 40, protect },
	{ "mremap", 60, move },
	{ "mremap-in-place", 20, resize },
	{ "mremap-onto-itself", 3, move_onto_itself },
	{ "madvise-drop", 15, drop },
	{ "madvise-free", 10, drop_lazily },
	{ "madvise", 20, advise },
	{ "madvise-hint", 40, hint },
	{ "mlock", 8, lock },
	{ "munlock", 16, unlock },
	{ "clear-refs", 3, clear_soft_dirty },
	{ "cpu-write", 80, cpu_write },
	{ "cpu-touch", 40, cpu_touch },
	{ "cpu-read", 40, cpu_read },
	{ "kernel-write", 20, kernel_write },
	{ "kernel-write-err", 8, kernel_write_err },
	{ "debugger-write", 12, debugger_write },
	{ "pipe", 12, pipe_through },
	{ "verify-all", 4, verify_all },
	{ }
};
