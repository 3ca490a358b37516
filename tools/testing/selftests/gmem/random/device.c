// SPDX-License-Identifier: GPL-2.0
/*
 * The random test: hmadvise() and the jobs of devices.
 */
#include "random.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define CHASE_MAX		64
#define INDEX_MAX		256
#define FLOATS_MAX		8192

static const struct range none;

static size_t len_of(struct range r)
{
	return r.nr * SZ_4K;
}

static char *arena_at(size_t at)
{
	return (char *)ARENA_BASE + at;
}

/* The second half of the bounce buffer. */
static char *bounce2(struct actor *a)
{
	return a->bounce + MAX_DATA * SZ_4K;
}

/* --- which device ------------------------------------------------------------------ */

static int attach(struct actor *a, unsigned int d)
{
	int err;

	if (_npu_open(&a->npu[d], d))
		return SKIPPED;
	/* Where the results of most jobs go must not be refused. */
	a->strict[d] = a->shares && chance(a, 30);
	err = _npu_attach(&a->npu[d], a->strict[d] ? GMEM_NPU_ATTACH_STRICT :
						     0);
	a->attached[d] = !err;
	if (err)
		npu_close(&a->npu[d]);
	/* More contexts than the device has are no error of anybody's. */
	if (err && err != ENOSPC)
		expect(a, 0, err);
	return err ? SKIPPED : 0;
}

void devices_open(struct actor *a)
{
	unsigned int d;

	for (d = 0; d < shared->npus; d++)
		attach(a, d);
}

void devices_close(struct actor *a)
{
	unsigned int d;

	for (d = 0; d < shared->npus; d++) {
		if (a->attached[d])
			npu_close(&a->npu[d]);
		a->attached[d] = false;
	}
}

bool device_reads(const struct actor *a, unsigned int d, unsigned int flags)
{
	return a->attached[d] && flags & PAGE_READ &&
	       (!a->strict[d] || flags & PAGE_SHARED);
}

/* One that is attached, or -1. */
static int pick_device(struct actor *a)
{
	unsigned int d = below(a, shared->npus);

	if (!a->attached[d])
		d = (d + 1) % shared->npus;
	return a->attached[d] ? (int)d : -1;
}

/* A device and pages that it may access. */
static int pick_for(struct actor *a, unsigned int flags, struct range *r)
{
	int d = pick_device(a);

	if (d < 0)
		return -1;
	if (a->strict[d])
		flags |= PAGE_SHARED;
	*r = pick_run(a, flags, flags);
	return r->nr ? d : -1;
}

/* --- jobs ----------------------------------------------------------------------------- */

/* What changes no contents, while a job is at work on the pages. */
static void meanwhile(struct actor *a, struct range r)
{
	const struct range first = { r.first, 1 };
	char *p = page_at(r.first);
	unsigned int i;

	switch (below(a, 7)) {
	case 0:
		_hmadvise(-1, p, len_of(r), HMADV_PREFETCH);
		break;
	case 1:
		_hmadvise(shared->hnid[below(a, shared->npus)], p, len_of(r),
			  HMADV_PREFETCH);
		break;
	case 2:
		madvise(p, len_of(r), MADV_PAGEOUT);
		break;
	case 3:
		madvise(p, len_of(r), MADV_COLLAPSE);
		break;
	case 4:
		_gmem_write_file("/proc/self/clear_refs", "4");
		break;
	case 5:
		if (!any_lacks(first, PAGE_RO) && !any(first, PAGE_LOCKED) &&
		    !mlock(p, SZ_4K))
			munlock(p, SZ_4K);
		break;
	default:
		for (i = r.first; i < r.first + r.nr; i++)
			if (process.page[i] & PAGE_READ)
				(void)*(volatile char *)page_at(i);
	}
}

static int job(struct actor *a, unsigned int d, struct range r, uint32_t op,
	       const uint64_t arg[5], uint64_t *value)
{
	struct npu_result res = { 0 };
	uint64_t seqno;
	int err;

	err = _npu_submit(&a->npu[d], op, arg[0], arg[1], arg[2], arg[3],
			  arg[4], &seqno);
	if (err)
		return err;
	if (chance(a, 20))
		meanwhile(a, r);
	err = _npu_wait(&a->npu[d], seqno, &res);
	if (value)
		*value = res.value;
	return err;
}

#define JOB(a, d, r, op, value, ...) \
	job(a, d, r, op, (const uint64_t [5]) { __VA_ARGS__ }, value)

int device_fetch(struct actor *a, unsigned int d, struct range r)
{
	return _npu_memcpy(&a->npu[d], a->bounce, page_at(r.first), len_of(r),
			   NULL);
}

static uint64_t pattern_of(struct actor *a)
{
	return chance(a, 10) ? 0 : mix(process.id + a->nr, a->op);
}

static void make_fill(char *data, size_t len, uint64_t pattern)
{
	size_t i;

	for (i = 0; i < len; i++)
		data[i] = pattern >> i % 8 * 8;
}

/* The first page that the device must not have, and with which error. */
static int first_error(const struct actor *a, unsigned int d, bool write,
		       struct range r, unsigned int *page)
{
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++) {
		unsigned int flags = process.page[i];

		*page = i;
		if (!(flags & PAGE_READ))
			return EFAULT;
		if (write && !(flags & PAGE_WRITE))
			return EPERM;
		if (a->strict[d] && !(flags & PAGE_SHARED))
			return EFAULT;
	}
	return 0;
}

/* Of any range: up to the first page that must not be written to. */
static int fill(struct actor *a)
{
	struct range r = pick(a);
	uint64_t pattern = pattern_of(a);
	int d = pick_device(a), want;
	unsigned int bad;
	struct bytes b;

	if (chance(a, 85))
		d = pick_for(a, PAGE_RW, &r);
	if (d < 0)
		return SKIPPED;
	b = pick_bytes(a, r, 1, MAX_DATA * SZ_4K);
	record(a, pages_of(b), none, pattern);
	want = first_error(a, d, true, pages_of(b), &bad);
	expect(a, want, JOB(a, d, pages_of(b), NPU_OP_FILL, NULL,
			    ARENA_BASE + b.at, b.len, pattern));
	if (want)
		b.len = bad * SZ_4K > b.at ? bad * SZ_4K - b.at : 0;
	make_fill(a->bounce, b.len, pattern);
	if (b.len)
		put(a, b, a->bounce);
	verify_some(a, r);
	return 0;
}

static int reduce(struct actor *a)
{
	struct range r = pick(a);
	int d = pick_device(a), want;
	unsigned int bad;
	struct bytes b;
	uint64_t sum;

	if (chance(a, 85))
		d = pick_for(a, PAGE_RO, &r);
	if (d < 0)
		return SKIPPED;
	b = pick_bytes(a, r, 8, MAX_DATA * SZ_4K);
	r = pages_of(b);
	if (!settle(r))
		return SKIPPED;
	record(a, r, none, d);
	want = first_error(a, d, false, r, &bad);
	expect(a, want, JOB(a, d, r, NPU_OP_REDUCE, &sum, ARENA_BASE + b.at,
			    b.len / 8));
	if (!want && sum != gmem_sum(process.shadow + b.at, b.len)) {
		verify(a, r, BY_MEM);
		fail(a, r, "sum of %zu bytes at %#zx by device %d: %" PRIx64
		     ", must be %" PRIx64, b.len, b.at, d, sum,
		     gmem_sum(process.shadow + b.at, b.len));
	}
	return 0;
}

static int touch(struct actor *a)
{
	struct range r;
	bool write = chance(a, 50);
	int d = pick_for(a, write ? PAGE_RW : PAGE_RO, &r);

	if (d < 0)
		return SKIPPED;
	record(a, r, none, write);
	expect(a, 0, _npu_touch(&a->npu[d], page_at(r.first), len_of(r), write,
				NULL));
	verify_some(a, r);
	return 0;
}

/* From the arena or not, to the arena. */
static int copy(struct actor *a)
{
	struct range to, from = none;
	int d = pick_device(a);
	unsigned int strict = d >= 0 && a->strict[d] ? PAGE_SHARED : 0;
	const char *src = a->bounce;
	struct bytes b;

	if (d < 0)
		return SKIPPED;
	if (!pick_two(a, PAGE_RW | strict, PAGE_RW | strict, PAGE_RO | strict,
		      PAGE_RO | strict, &to, &from) || !settle(from))
		return SKIPPED;
	b = pick_bytes(a, to, 1, MAX_DATA * SZ_4K);
	if (b.len > len_of(from))
		b.len = len_of(from);
	if (chance(a, 30)) {
		make_data(a, b, a->bounce);
		from = none;
	} else {
		src = page_at(from.first);
	}
	record(a, pages_of(b), from, d);
	expect(a, 0, JOB(a, d, pages_of(b), NPU_OP_MEMCPY, NULL,
			 ARENA_BASE + b.at, (uintptr_t)src, b.len));
	put(a, b, from.nr ? shadow_at(from.first) : a->bounce);
	verify_some(a, pages_of(b));
	return 0;
}

/* Two devices, one after the other: y = 3, then y += 5 x. */
static int axpy(struct actor *a)
{
	float *x = (float *)bounce2(a), *y = (float *)a->bounce;
	const float three = 3, five = 5;
	uint32_t three_bits, five_bits;
	struct range r;
	struct bytes b;
	size_t i, n;
	int d = pick_for(a, PAGE_RW | PAGE_SHARED, &r), other;

	if (d < 0)
		return SKIPPED;
	other = a->attached[!d] ? !d : d;
	memcpy(&three_bits, &three, 4);
	memcpy(&five_bits, &five, 4);
	b = pick_bytes(a, r, 4, FLOATS_MAX * 4);
	n = b.len / 4;
	for (i = 0; i < n; i++) {
		x[i] = below(a, 1000);
		y[i] = three + five * x[i];
	}
	record(a, pages_of(b), none, n);
	expect(a, 0, JOB(a, d, r, NPU_OP_FILL, NULL, ARENA_BASE + b.at, b.len,
			 three_bits | (uint64_t)three_bits << 32));
	expect(a, 0, JOB(a, other, r, NPU_OP_AXPY, NULL, ARENA_BASE + b.at,
			 (uintptr_t)x, n, five_bits));
	put(a, b, a->bounce);
	verify_some(a, pages_of(b));
	return 0;
}

static int atomic_add(struct actor *a)
{
	struct range r;
	int d = pick_for(a, PAGE_RW, &r);
	uint64_t addend = below(a, 1000), times = 1 + below(a, 4), value;
	uint64_t *word;
	size_t at;

	if (d < 0 || !settle(r))
		return SKIPPED;
	at = r.first * SZ_4K + below(a, len_of(r) / 8) * 8;
	word = word_in(process.shadow, at);
	r = pages_of((struct bytes) { at, 8 });
	record(a, r, none, addend);
	expect(a, 0, JOB(a, d, r, NPU_OP_ATOMIC_ADD, &value, ARENA_BASE + at,
			 addend, times));
	*word += addend * times;
	if (value != *word - addend)
		fail(a, r, "old value of the word at %#zx: %" PRIx64
		     ", must be %" PRIx64, at, value, *word - addend);
	verify_some(a, r);
	return 0;
}

/* Counts bytes of the arena, into the arena. */
static int histogram(struct actor *a)
{
	const size_t bins = 256 * sizeof(uint64_t);
	struct range from, to;
	int d = pick_device(a);
	unsigned int strict = d >= 0 && a->strict[d] ? PAGE_SHARED : 0;
	uint64_t *count;
	size_t i, at, len;

	if (d < 0 || !pick_two(a, PAGE_RO | strict, PAGE_RO | strict,
			       PAGE_RW | strict, PAGE_RW | strict, &from,
			       &to) || !settle(from) || !settle(to))
		return SKIPPED;
	at = to.first * SZ_4K + below(a, (len_of(to) - bins) / 8) * 8;
	len = 1 + below(a, len_of(from) < SZ_64K ? len_of(from) : SZ_64K);
	record(a, to, from, len);
	expect(a, 0, JOB(a, d, to, NPU_OP_HISTOGRAM, NULL, ARENA_BASE + at,
			 (uintptr_t)page_at(from.first), len));
	count = word_in(process.shadow, at);
	for (i = 0; i < len; i++)
		count[(unsigned char)shadow_at(from.first)[i]]++;
	verify_some(a, pages_of((struct bytes) { at, bins }));
	return 0;
}

static int gather(struct actor *a)
{
	uint64_t *index = (uint64_t *)bounce2(a);
	uint64_t *dst = (uint64_t *)a->bounce;
	size_t i, n = 1 + below(a, INDEX_MAX);
	struct range r;
	int d = pick_for(a, PAGE_RO, &r);

	if (d < 0 || !settle(r))
		return SKIPPED;
	for (i = 0; i < n; i++)
		index[i] = below(a, len_of(r) / 8);
	record(a, r, none, n);
	expect(a, 0, JOB(a, d, r, NPU_OP_GATHER, NULL, (uintptr_t)dst,
			 (uintptr_t)page_at(r.first), (uintptr_t)index, n));
	for (i = 0; i < n; i++)
		if (dst[i] != word_in(shadow_at(r.first), 0)[index[i]])
			fail(a, (struct range) { r.first + index[i] / 512, 1 },
			     "gather by device %d: word %#zx is %" PRIx64
			     ", must be %" PRIx64, d, (size_t)index[i] % 512,
			     dst[i], word_in(shadow_at(r.first), 0)[index[i]]);
	return 0;
}

static int scatter(struct actor *a)
{
	uint64_t *index = (uint64_t *)bounce2(a);
	uint64_t *src = (uint64_t *)a->bounce;
	size_t i, n = 1 + below(a, INDEX_MAX);
	struct range r;
	int d = pick_for(a, PAGE_RW, &r);

	if (d < 0 || !settle(r))
		return SKIPPED;
	for (i = 0; i < n; i++) {
		index[i] = below(a, len_of(r) / 8);
		src[i] = mix(a->op, i);
	}
	record(a, r, none, n);
	expect(a, 0, JOB(a, d, r, NPU_OP_SCATTER, NULL,
			 (uintptr_t)page_at(r.first), (uintptr_t)src,
			 (uintptr_t)index, n));
	for (i = 0; i < n; i++)
		word_in(shadow_at(r.first), 0)[index[i]] = src[i];
	verify_some(a, r);
	return 0;
}

/* A list through pages at random: the CPU makes it and a device walks it. */
static int chase(struct actor *a)
{
	uint64_t sum = 0, value, next = 0;
	struct range r;
	int d = pick_for(a, PAGE_RW, &r);
	size_t i, n;

	if (d < 0 || !settle(r))
		return SKIPPED;
	n = 1 + below(a, CHASE_MAX);
	record(a, r, none, n);
	for (i = 0; i < n; i++) {
		/* Nodes of two words, each in its own part of the pages. */
		size_t part = len_of(r) / 16 / CHASE_MAX;
		size_t at = r.first * SZ_4K +
			    (i * part + below(a, part)) * 16;
		uint64_t node[2] = { next, mix(a->op, i) };

		memcpy(arena_at(at), node, sizeof(node));
		memcpy(process.shadow + at, node, sizeof(node));
		sum += node[1];
		next = ARENA_BASE + at;
	}
	expect(a, 0, JOB(a, d, r, NPU_OP_CHASE, &value, next, 0, 8, n));
	if (value != sum)
		fail(a, r, "list of %zu by device %d: %" PRIx64
		     ", must be %" PRIx64, n, d, value, sum);
	verify_some(a, r);
	return 0;
}

/* --- a job that something happens to ----------------------------------------------- */

int device_fill_begin(struct actor *a, struct range *r, uint64_t *pattern,
		      unsigned int *d, uint64_t *seqno)
{
	int dev = pick_for(a, PAGE_RW, r);

	if (dev < 0 || !settle(*r))
		return SKIPPED;
	*d = dev;
	*pattern = pattern_of(a);
	record(a, *r, none, *pattern);
	expect(a, 0, _npu_submit(&a->npu[dev], NPU_OP_FILL,
				 (uintptr_t)page_at(r->first), len_of(*r),
				 *pattern, 0, 0, seqno));
	return 0;
}

/* Detach in the middle of a job, and come back. */
static int reattach(struct actor *a)
{
	uint64_t pattern, seqno;
	unsigned int d;
	struct range r;

	if (device_fill_begin(a, &r, &pattern, &d, &seqno))
		return SKIPPED;
	/* To close it is not enough, a child may have the file as well. */
	expect(a, 0, _npu_detach(&a->npu[d]));
	npu_close(&a->npu[d]);
	a->attached[d] = false;
	adopt(a, r, pattern);
	attach(a, d);
	verify_some(a, r);
	return 0;
}

/* --- hmadvise() ------------------------------------------------------------------------ */

static int share_pages(struct actor *a)
{
	struct range r = pick(a);
	int want = any_lacks(r, PAGE_MAPPED) ? ENOMEM : 0;

	if (any(r, PAGE_LOCKED))
		want = EOPNOTSUPP;
	record(a, r, none, 0);
	expect(a, want, _hmadvise(-1, page_at(r.first), len_of(r),
				  HMADV_SHARE));
	if (want != EOPNOTSUPP)
		set_mapped(r, PAGE_SHARED);
	verify_some(a, r);
	return 0;
}

static int unshare_pages(struct actor *a)
{
	struct range r = pick(a);

	if (r.nr > 16 && chance(a, 60))
		r.nr = 16;
	record(a, r, none, 0);
	expect(a, any_lacks(r, PAGE_MAPPED) ? ENOMEM : 0,
	       _hmadvise(-1, page_at(r.first), len_of(r), HMADV_UNSHARE));
	clear_bits(r, PAGE_SHARED);
	verify_some(a, r);
	return 0;
}

/* What advice that is for shared memory only must return. */
static int shared_error(struct range r)
{
	int want = 0;
	unsigned int i;

	for (i = r.first; i < r.first + r.nr; i++) {
		unsigned int flags = process.page[i];

		if (!(flags & PAGE_MAPPED))
			want = ENOMEM;
		else if (!(flags & PAGE_SHARED))
			return EOPNOTSUPP;
	}
	return want;
}

static int prefetch_pages(struct actor *a)
{
	static const int host[] = { -1, 0 };
	struct range r = pick_run(a, PAGE_SHARED, PAGE_SHARED);
	unsigned int dev = below(a, shared->npus);
	bool home = chance(a, 35);
	int node, err, want;

	if (!r.nr || chance(a, 20))
		r = pick(a);
	node = home ? host[below(a, 2)] : shared->hnid[dev];
	record(a, r, none, node);
	want = shared_error(r);
	err = _hmadvise(node, page_at(r.first), len_of(r), HMADV_PREFETCH);
	/* Unless another thread has a context, which serves the process. */
	if (!home && !a->attached[dev] && err == EPERM)
		want = EPERM;
	/* A device that is full ends it early, and that is no error. */
	if (!home && !err && want == ENOMEM)
		want = 0;
	expect(a, want, err);
	verify_some(a, r);
	return 0;
}

static int discard_pages(struct actor *a)
{
	struct range r = pick(a);
	int want;

	if (r.nr > 16 && chance(a, 50))
		r.nr = 1 + below(a, 16);
	want = any(r, PAGE_LOCKED) ? EOPNOTSUPP : shared_error(r);
	record(a, r, none, 0);
	expect(a, want, _hmadvise(-1, page_at(r.first), len_of(r),
				  HMADV_DISCARD));
	if (want != EOPNOTSUPP)
		set_zero(r);
	verify_some(a, r);
	return 0;
}

const struct operation device_ops[] = {
	{ "npu-fill", 80, fill },
	{ "npu-reduce", 60, reduce },
	{ "npu-touch", 20, touch },
	{ "npu-copy", 60, copy },
	{ "npu-axpy", 20, axpy },
	{ "npu-atomic-add", 40, atomic_add },
	{ "npu-histogram", 15, histogram },
	{ "npu-gather", 25, gather },
	{ "npu-scatter", 25, scatter },
	{ "npu-chase", 15, chase },
	{ "npu-reattach", 8, reattach },
	{ "share", 20, share_pages },
	{ "unshare", 12, unshare_pages },
	{ "prefetch", 80, prefetch_pages },
	{ "discard", 12, discard_pages },
	{ }
};
