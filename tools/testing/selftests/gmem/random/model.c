// SPDX-License-Identifier: GPL-2.0
/*
 * The random test: the arena, what it must be like, and what does not agree.
 */
#include "random.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHOWN_RECORDS	16

struct process process;

/* --- chance ---------------------------------------------------------------- */

uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = a + 0x9e3779b97f4a7c15ULL * (b + 1);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	x ^= x >> 31;
	return x ? x : 1;
}

uint64_t below(struct actor *a, uint64_t n)
{
	return (gmem_random(&a->rnd) >> 11) % n;
}

bool chance(struct actor *a, unsigned int percent)
{
	return below(a, 100) < percent;
}

/* --- the arena --------------------------------------------------------------- */

static void add_plot(unsigned int nr, unsigned int owner)
{
	struct plot *plot = &process.plot[process.plots++];

	plot->range = (struct range) { process.pages, nr };
	plot->owner = owner;
	process.pages += nr;
}

/*
 * Two blocks of 2 MiB for each actor, one after the other, and one more in
 * strips: half of it in such that devices have blocks of 64 KiB in them, and
 * half where a block of any size has pages of several actors.
 */
void model_init(uint64_t seed, unsigned int actors)
{
	unsigned int i, nr, left;
	uint64_t rnd = mix(seed, 0);

	process.pages = 0;
	process.plots = 0;
	for (i = 0; i < actors; i++)
		add_plot(2 * BLOCK_PAGES, i);
	for (left = BLOCK_PAGES / 2, i = 0; left; left -= nr, i++) {
		nr = 16 * (gmem_random(&rnd) % 3 + 1);
		nr = nr < left ? nr : left;
		add_plot(nr, i % actors);
	}
	for (left = BLOCK_PAGES / 2, i = 0; left; left -= nr, i++) {
		nr = gmem_random(&rnd) % 24 + 1;
		nr = nr < left ? nr : left;
		add_plot(nr, i % actors);
	}
	process.page = calloc(process.pages, 1);
	process.shadow = mmap(NULL, process.pages * SZ_4K,
			      PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	process.actor = calloc(MAX_ACTORS, sizeof(*process.actor));
	if (!process.page || process.shadow == MAP_FAILED || !process.actor) {
		perror("random: no memory for the model");
		_exit(1);
	}
	process.actors = actors;
	process.mem = -1;
}

static bool plot_is(const struct plot *plot, unsigned int owner, bool large)
{
	return plot->owner == owner &&
	       (plot->range.nr > BLOCK_PAGES) == large;
}

unsigned int plots_of(unsigned int owner, bool large)
{
	unsigned int i, nr = 0;

	for (i = 0; i < process.plots; i++)
		nr += plot_is(&process.plot[i], owner, large);
	return nr;
}

/* As often one of the large ones as one of the others: each actor has both. */
static const struct plot *pick_plot(struct actor *a)
{
	bool large = chance(a, 50);
	unsigned int i, n = below(a, plots_of(a->nr, large));

	for (i = 0; i < process.plots; i++)
		if (plot_is(&process.plot[i], a->nr, large) && !n--)
			break;
	return &process.plot[i];
}

struct range pick(struct actor *a)
{
	const struct range plot = pick_plot(a)->range;
	static const unsigned int most[] = { 1, 1, 4, 4, 8, 32, 100, 300 };
	unsigned int nr, first, to, align = 1;

	switch (below(a, 16)) {
	case 0:
		nr = BLOCK_PAGES;
		align = BLOCK_PAGES;
		break;
	case 1:
		nr = plot.nr;
		break;
	case 2:
	case 3:
		align = 16;
		nr = 16 * (1 + below(a, 3));
		break;
	default:
		nr = 1 + below(a, most[below(a, 8)]);
	}
	first = plot.first + below(a, plot.nr);
	first -= first % align;
	if (first < plot.first)
		first = plot.first;
	to = plot.first + plot.nr;
	if (nr > to - first) {
		/* Up to the end, or as many as wanted. */
		if (chance(a, 50) || nr > plot.nr)
			nr = to - first;
		else
			first = to - nr;
	}
	return (struct range) { first, nr };
}

struct range pick_run(struct actor *a, unsigned int mask, unsigned int bits)
{
	struct range r = { 0, 0 };
	unsigned int i, end, tries;

	for (tries = 0; tries < 8; tries++) {
		r = pick(a);
		end = r.first + r.nr;
		for (i = r.first; i < end; i++)
			if ((process.page[i] & mask) == bits)
				break;
		for (r.first = i; i < end; i++)
			if ((process.page[i] & mask) != bits)
				break;
		r.nr = i - r.first;
		if (r.nr)
			break;
	}
	return r;
}

bool overlap(struct range r, struct range r2)
{
	return r.first < r2.first + r2.nr && r2.first < r.first + r.nr;
}

bool pick_two(struct actor *a, unsigned int mask, unsigned int bits,
	      unsigned int mask2, unsigned int bits2, struct range *r,
	      struct range *r2)
{
	unsigned int tries;

	*r = pick_run(a, mask, bits);
	for (tries = 0; tries < 8 && r->nr; tries++) {
		*r2 = pick_run(a, mask2, bits2);
		if (r2->nr && !overlap(*r, *r2))
			return true;
	}
	return false;
}

bool any(struct range r, unsigned int bits)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++)
		if (process.page[i] & bits)
			return true;
	return false;
}

bool any_lacks(struct range r, unsigned int bits)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++)
		if (~process.page[i] & bits)
			return true;
	return false;
}

void set_bits(struct range r, unsigned int bits)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++)
		process.page[i] |= bits;
}

void set_mapped(struct range r, unsigned int bits)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++)
		if (process.page[i] & PAGE_MAPPED)
			process.page[i] |= bits;
}

void clear_bits(struct range r, unsigned int bits)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++)
		process.page[i] &= ~bits;
}

void set_zero(struct range r)
{
	clear_bits(r, PAGE_LAZY);
	memset(shadow_at(r.first), 0, r.nr * SZ_4K);
}

void set_hole(struct range r)
{
	clear_bits(r, 0xff);
}

/* --- data ---------------------------------------------------------------------- */

struct bytes pick_bytes(struct actor *a, struct range r, size_t align,
			size_t max)
{
	size_t start = r.first * SZ_4K, len = r.nr * SZ_4K, off;
	struct bytes b = { start, len };

	/* All of the pages, or from some byte to some byte. */
	if (chance(a, 50)) {
		off = below(a, len / align) * align;
		b.at = start + off;
		b.len = (1 + below(a, (len - off) / align)) * align;
	}
	if (b.len > max)
		b.len = max;
	return b;
}

struct range pages_of(struct bytes b)
{
	unsigned int first = b.at / SZ_4K;

	return (struct range) {
		first, (b.at + b.len + SZ_4K - 1) / SZ_4K - first
	};
}

void make_data(struct actor *a, struct bytes b, char *data)
{
	uint64_t stamp = (process.id & 0xfff) << 52 |
			 (uint64_t)(a->nr & 0xf) << 48 |
			 (a->op & 0xffff) << 32;
	size_t from, to, w;

	for (w = b.at / 8; w * 8 < b.at + b.len; w++) {
		uint64_t value = stamp | w;

		from = w * 8 < b.at ? b.at : w * 8;
		to = w * 8 + 8 > b.at + b.len ? b.at + b.len : w * 8 + 8;
		memcpy(data + from - b.at, (char *)&value + from % 8,
		       to - from);
	}
}

/* Whether a page is zero but for the bytes [from, to). */
static bool zero_around(const char *p, size_t from, size_t to)
{
	return gmem_nonzero(p, from) == from &&
	       gmem_nonzero(p + to, SZ_4K - to) == SZ_4K - to;
}

/*
 * A write to a part of a page that may have gone has kept the rest or has found
 * it gone, and that is how it stays.
 */
static void put_lazy(struct actor *a, unsigned int page, struct bytes b)
{
	size_t at = page * SZ_4K, from, to;
	char now[SZ_4K];

	from = b.at > at ? b.at - at : 0;
	to = b.at + b.len < at + SZ_4K ? b.at + b.len - at : SZ_4K;
	if (pread(mem_fd(), now, SZ_4K, ARENA_BASE + at) != (ssize_t)SZ_4K)
		fail(a, (struct range) { page, 1 }, "reading mem: errno %d",
		     errno);
	if (zero_around(now, from, to)) {
		memset(shadow_at(page), 0, from);
		memset(shadow_at(page) + to, 0, SZ_4K - to);
	}
	process.page[page] &= ~PAGE_LAZY;
}

void put(struct actor *a, struct bytes b, const char *data)
{
	struct range r = pages_of(b);
	unsigned int i;

	memcpy(process.shadow + b.at, data, b.len);
	for (i = r.first; i < r.first + r.nr; i++)
		if (process.page[i] & PAGE_LAZY)
			put_lazy(a, i, b);
}

bool settle(struct range r)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++) {
		uint64_t *word = word_in(page_at(i), 0), v;

		if (!(process.page[i] & PAGE_LAZY))
			continue;
		if (!(process.page[i] & PAGE_WRITE))
			return false;
		/* A write, and one that no page can vanish in. */
		v = __atomic_load_n(word, __ATOMIC_SEQ_CST);
		while (!__atomic_compare_exchange_n(word, &v, v, false,
						    __ATOMIC_SEQ_CST,
						    __ATOMIC_SEQ_CST))
			;
		if (gmem_nonzero(page_at(i), SZ_4K) == SZ_4K)
			memset(shadow_at(i), 0, SZ_4K);
		process.page[i] &= ~PAGE_LAZY;
	}
	return true;
}

void adopt(struct actor *a, struct range r, uint64_t pattern)
{
	size_t at = r.first * SZ_4K, end = at + r.nr * SZ_4K;

	for (; at < end; at += 8) {
		uint64_t now = *word_in((char *)ARENA_BASE, at);
		uint64_t *was = word_in(process.shadow, at);

		if (now != *was && now != pattern)
			fail(a, (struct range) { at / SZ_4K, 1 },
			     "word %zx of the page: %" PRIx64 ", neither old %"
			     PRIx64 " nor new %" PRIx64, at % SZ_4K, now, *was,
			     pattern);
		*was = now;
	}
}

/* --- verification ---------------------------------------------------------------- */

int mem_fd(void)
{
	if (process.mem < 0)
		process.mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	return process.mem;
}

static ssize_t fetch_kernel(struct actor *a, struct range r)
{
	struct iovec local = { a->bounce, r.nr * SZ_4K };
	struct iovec remote = { page_at(r.first), r.nr * SZ_4K };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

/* What the pages contain, in place or in the bounce buffer. */
static const char *fetch(struct actor *a, struct range r, enum how how)
{
	ssize_t len = r.nr * SZ_4K, got = len;

	switch (how) {
	case BY_CPU:
		return page_at(r.first);
	case BY_MEM:
		got = pread(mem_fd(), a->bounce, len,
			    (uintptr_t)page_at(r.first));
		break;
	case BY_KERNEL:
		got = fetch_kernel(a, r);
		break;
	default:
		errno = device_fetch(a, how - BY_NPU0, r);
		got = errno ? -1 : len;
	}
	if (got != len)
		fail(a, r, "cannot read: way %d, %zd of %zd bytes, errno %d",
		     how, got, len, got < 0 ? errno : 0);
	return a->bounce;
}

static void mismatch(struct actor *a, unsigned int page, const char *found,
		     enum how how) __attribute__((noreturn));

static void mismatch(struct actor *a, unsigned int page, const char *found,
		     enum how how)
{
	static const char * const way[] = {
		"the CPU", "/proc/self/mem", "process_vm_readv()", "device 0",
		"device 1",
	};
	const uint64_t *want = word_in(shadow_at(page), 0);
	const uint64_t *got = word_in((char *)found, 0);
	unsigned int i, first = 0, nr = 0;
	uint64_t again;

	for (i = SZ_4K / 8; i-- > 0;) {
		if (got[i] != want[i]) {
			first = i;
			nr++;
		}
	}
	again = got[first];
	gmem_sleep_ms(100);
	if (pread(mem_fd(), &again, 8, (uintptr_t)page_at(page) + first * 8) !=
	    8)
		again = 0;
	fail(a, (struct range) { page, 1 },
	     "%s reads %u wrong words, the first at %x: %016" PRIx64
	     ", must be %016" PRIx64 "; 100 ms later %016" PRIx64
	     ".  A word is 3 digits of the process that wrote it, 1 of the actor, 4 of the operation, 8 for the index in the arena (0x%zx)",
	     way[how], nr, first * 8, got[first], want[first], again,
	     page * SZ_4K / 8 + first);
}

static void compare(struct actor *a, unsigned int page, const char *found,
		    enum how how)
{
	char now[SZ_4K];

	if (!memcmp(shadow_at(page), found, SZ_4K))
		return;
	if (!(process.page[page] & PAGE_LAZY))
		mismatch(a, page, found, how);
	/* It may have vanished while it was read, but then it stays away. */
	if (pread(mem_fd(), now, SZ_4K, (uintptr_t)page_at(page)) !=
	    (ssize_t)SZ_4K || gmem_nonzero(now, SZ_4K) != SZ_4K)
		mismatch(a, page, now, BY_MEM);
	set_zero((struct range) { page, 1 });
}

static enum how how_for(const struct actor *a, unsigned int flags, enum how how)
{
	/* Page by page, to a buffer that stays on the host, it takes long. */
	if (how >= BY_NPU0 && !a->shares)
		how = BY_KERNEL;
	if (how == BY_MEM || !(flags & PAGE_READ))
		return BY_MEM;
	if (how >= BY_NPU0 && !device_reads(a, how - BY_NPU0, flags))
		return BY_MEM;
	return how;
}

/* Whether all of a range is mapped, as the kernel sees it. */
static bool is_mapped(struct range r)
{
	unsigned char in_core[2 * BLOCK_PAGES];

	return !mincore(page_at(r.first), r.nr * SZ_4K, in_core);
}

/* Holes are where they should be, and nowhere else. */
static void verify_mappings(struct actor *a, struct range r)
{
	unsigned int end = r.first + r.nr;

	while (r.first < end) {
		bool mapped = process.page[r.first] & PAGE_MAPPED;

		for (r.nr = 1; r.first + r.nr < end; r.nr++)
			if (!(process.page[r.first + r.nr] & PAGE_MAPPED) ==
			    mapped)
				break;
		if (is_mapped(r) != mapped)
			fail(a, r, mapped ? "some of it is not mapped" :
					    "all of it is mapped");
		r.first += r.nr;
	}
}

void verify(struct actor *a, struct range r, enum how how)
{
	unsigned int i, end = r.first + r.nr;

	verify_mappings(a, r);
	while (r.first < end) {
		unsigned int flags = process.page[r.first];
		enum how now = how_for(a, flags, how);
		const char *found;

		if (!(flags & PAGE_MAPPED)) {
			r.first++;
			continue;
		}
		for (r.nr = 1; r.first + r.nr < end && r.nr < MAX_DATA; r.nr++) {
			flags = process.page[r.first + r.nr];
			if (!(flags & PAGE_MAPPED) ||
			    how_for(a, flags, how) != now)
				break;
		}
		found = fetch(a, r, now);
		if (any(r, PAGE_LAZY) ||
		    memcmp(shadow_at(r.first), found, r.nr * SZ_4K)) {
			for (i = 0; i < r.nr; i++)
				compare(a, r.first + i, found + i * SZ_4K, now);
		}
		r.first += r.nr;
	}
}

/* After an operation: by any means, or later, so that pages stay where they are. */
void verify_some(struct actor *a, struct range r)
{
	if (chance(a, 70))
		verify(a, r, below(a, NR_HOW));
}

void verify_plots(struct actor *a, bool by_any)
{
	unsigned int i;

	for (i = 0; i < process.plots; i++)
		if (process.plot[i].owner == a->nr)
			verify(a, process.plot[i].range,
			       by_any ? below(a, NR_HOW) : BY_CPU);
}

/* --- the record --------------------------------------------------------------------- */

static int say_record(char *text, size_t len, const struct record *rec)
{
	return snprintf(text, len, "%s/%u #%" PRIu64
			" %s: pages %u+%u, other %u+%u, argument %#" PRIx64
			", errno %d\n", process.path, rec->actor, rec->op,
			rec->name, rec->range.first, rec->range.nr,
			rec->other.first, rec->other.nr, rec->arg, rec->err);
}

static struct record *last_record(struct actor *a)
{
	return &a->record[(a->records - 1) % MAX_RECORDS];
}

void record(struct actor *a, struct range r, struct range other, uint64_t arg)
{
	struct record *rec = &a->record[a->records++ % MAX_RECORDS];
	char text[256];

	*rec = (struct record) {
		.order = __atomic_fetch_add(&process.records, 1,
					    __ATOMIC_SEQ_CST),
		.op = a->op,
		.name = a->name,
		.range = r,
		.other = other,
		.arg = arg,
		.err = -1,
		.actor = a->nr,
	};
	a->slot->range = r;
	if (shared->verbose) {
		int len = say_record(text, sizeof(text), rec);

		if (write(STDOUT_FILENO, text, len) != len)
			return;
	}
}

void expect(struct actor *a, int want, int err)
{
	last_record(a)->err = err;
	if (want != err)
		fail(a, last_record(a)->range,
		     "%s: errno %d (%s), must be %d (%s)", a->name, err,
		     strerror(err), want, strerror(want));
}

/* The next older record of any actor that is about a range. */
static const struct record *older(struct range r, uint64_t order)
{
	const struct record *best = NULL;
	unsigned int i, k;

	for (i = 0; i < MAX_ACTORS; i++) {
		const struct actor *a = &process.actor[i];

		for (k = 0; k < MAX_RECORDS && k < a->records; k++) {
			const struct record *rec = &a->record[k];

			if ((overlap(rec->range, r) || overlap(rec->other, r)) &&
			    rec->order < order &&
			    (!best || rec->order > best->order))
				best = rec;
		}
	}
	return best;
}

static int say_history(char *text, size_t len, struct range r)
{
	const struct record *rec;
	uint64_t order = ~0ULL;
	int i, n = 0;

	for (i = 0; i < SHOWN_RECORDS && n + 256 < (int)len; i++) {
		rec = older(r, order);
		if (!rec)
			break;
		n += snprintf(text + n, len - n, "#   ");
		n += say_record(text + n, len - n, rec);
		order = rec->order;
	}
	return n;
}

void fail(struct actor *a, struct range r, const char *format, ...)
{
	char text[8192];
	va_list args;
	int n, none = 0;

	if (!__atomic_compare_exchange_n(&shared->failed, &none, 1, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		process_end(1);
	n = snprintf(text, sizeof(text), "# FAILED in %s/%u #%" PRIu64 " %s: ",
		     process.path, a->nr, a->op, a->name);
	va_start(args, format);
	n += vsnprintf(text + n, sizeof(text) - n, format, args);
	va_end(args);
	n += snprintf(text + n, sizeof(text) - n,
		      "\n# pages %u+%u at %p, flags %02x, node %d, pagemap %016"
		      PRIx64 "\n# the last operations with them, backwards:\n",
		      r.first, r.nr, page_at(r.first),
		      r.first < process.pages ? process.page[r.first] : 0,
		      gmem_node(page_at(r.first)),
		      gmem_pagemap(page_at(r.first)));
	n += say_history(text + n, sizeof(text) - n, r);
	n += snprintf(text + n, sizeof(text) - n,
		      "# again: random --seed %" PRIu64
		      " --ops %" PRIu64 " --procs %u --threads %u%s\n",
		      shared->seed,
		      (process.depth ? process.root_op : a->op) + 1, shared->procs, shared->threads,
		      shared->noise ? "" : " --quiet");
	if (write(STDOUT_FILENO, text, n) != n)
		perror("random: report");
	process_end(1);
}
