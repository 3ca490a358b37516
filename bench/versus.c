// SPDX-License-Identifier: GPL-2.0
/*
 * The sample driver on GMEM against npu-hmm, a driver of the same accelerator
 * on migrate_vma and hmm_range_fault(): one each, in one boot, doing the same.
 * A figure is printed twice, as gmem.NAME and as hmm.NAME.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

#define PIECES	16
#define LEN	(PIECES * SZ_2M)
#define SAMPLES	21

struct driver {
	const char *name;
	bool peer;
	struct npu npu;
};

static void stats(const struct driver *d, struct npu_stats *out)
{
	bench_stats(&d->npu, out);
}

/* Memory of which the device may take pages, every byte of it written. */
static void map(const struct driver *d, struct gmem_buf *buf, size_t len,
		int advice)
{
	bench_map(buf, len, advice, d->peer ? 0 : MAP_PEER_SHARED);
}

static void expect_data(const struct gmem_buf *buf, uint64_t added)
{
	static uint64_t want[SZ_4K / sizeof(uint64_t)];
	size_t i, at;

	for (i = 0; i < buf->len; i += SZ_4K) {
		gmem_pattern(want, SZ_4K, i);
		if (i % SZ_2M == 0)
			want[0] += added;
		at = gmem_diff(want, buf->p + i, SZ_4K);
		if (at != SZ_4K)
			bench_die("byte %zu differs", i + at);
	}
}

static void expect_on_dev(const struct driver *d, const void *p, size_t len,
			  size_t pages)
{
	bench_expect("pages on the device",
		     d->peer ? peer_pages_on_dev(p, len) :
			       gmem_pages_on(p, len, d->npu.hnid), pages);
}

static void prefetch(struct driver *d, const struct gmem_buf *buf, bool to_dev)
{
	int err;

	if (d->peer)
		err = _peer_prefetch(&d->npu, buf->p, buf->len, to_dev);
	else
		err = _hmadvise(to_dev ? d->npu.hnid : GMEM_ANY_NODE, buf->p,
				buf->len, HMADV_PREFETCH);
	bench_check(err, "prefetch");
}

static void figure(const struct driver *d, double value, const char *unit,
		   const char *name)
{
	bench_figure(value, unit, "%s.%s", d->name, name);
}

/* --- 2 MiB -------------------------------------------------------------------- */

/* A job that touches one word of each huge page. */
static void measure_faults(struct driver *d)
{
	static uint64_t link[PIECES], stall[PIECES];
	struct npu_stats before, after;
	struct npu_result result;
	struct gmem_buf buf;
	double link_ns, stall_ns;
	int i;

	map(d, &buf, LEN, MADV_HUGEPAGE);
	for (i = 0; i < PIECES; i++) {
		stats(d, &before);
		bench_check(_npu_atomic_add(&d->npu,
					    (void *)(buf.p + i * SZ_2M), 7, 1,
					    &result), "job");
		stats(d, &after);
		bench_expect("bytes", bench_count(&before, &after,
						  NPU_STAT_COPY_TO_DEV),
		       SZ_2M);
		bench_expect("faults", result.faults, 1);
		link[i] = bench_count(&before, &after, NPU_STAT_LINK_NS);
		stall[i] = bench_count(&before, &after, NPU_STAT_STALL_NS);
	}
	expect_on_dev(d, buf.p, LEN, LEN / SZ_4K);
	expect_data(&buf, 7);
	gmem_unmap(&buf);
	link_ns = bench_median(link, PIECES);
	stall_ns = bench_median(stall, PIECES);
	figure(d, 100 * link_ns / stall_ns, "%", "p1.copy-share");
	figure(d, stall_ns, "ns", "p1.fault");
}

static void report(struct driver *d, const struct npu_stats *before,
		   const struct npu_stats *after, unsigned int direction,
		   const char *what)
{
	char name[40];

	bench_expect("bytes", bench_count(before, after, direction), LEN);
	snprintf(name, sizeof(name), "p3.%s", what);
	figure(d, (double)(after->insn - before->insn) / PIECES,
	       "instructions/2MiB", name);
	snprintf(name, sizeof(name), "p2.%s", what);
	figure(d, 100.0 * bench_count(before, after, NPU_STAT_LINK_NS) /
	       (after->time_ns - before->time_ns), "%", name);
}

static void measure_prefetch(struct driver *d, int advice, const char *pages)
{
	struct npu_stats before, after;
	struct gmem_buf buf;
	char name[32];

	map(d, &buf, LEN, advice);
	stats(d, &before);
	prefetch(d, &buf, true);
	stats(d, &after);
	expect_on_dev(d, buf.p, LEN, LEN / SZ_4K);
	snprintf(name, sizeof(name), "prefetch-to-dev%s", pages);
	report(d, &before, &after, NPU_STAT_COPY_TO_DEV, name);

	stats(d, &before);
	prefetch(d, &buf, false);
	stats(d, &after);
	expect_on_dev(d, buf.p, LEN, 0);
	snprintf(name, sizeof(name), "prefetch-to-host%s", pages);
	report(d, &before, &after, NPU_STAT_COPY_FROM_DEV, name);
	expect_data(&buf, 0);
	gmem_unmap(&buf);
}

/* The fault path without a device that waits, and the way back by the CPU. */
static void measure_touch(struct driver *d, int advice, const char *pages)
{
	struct npu_stats before, after;
	struct gmem_buf buf;
	char name[32];
	uint64_t done;
	size_t i;

	map(d, &buf, LEN, advice);
	stats(d, &before);
	bench_check(_npu_touch(&d->npu, buf.p, LEN, true, &done),
		    "GMEM_NPU_TOUCH");
	stats(d, &after);
	expect_on_dev(d, buf.p, LEN, LEN / SZ_4K);
	snprintf(name, sizeof(name), "fault-to-dev%s", pages);
	report(d, &before, &after, NPU_STAT_COPY_TO_DEV, name);

	stats(d, &before);
	for (i = 0; i < LEN; i += SZ_4K)
		(void)*(volatile char *)(buf.p + i);
	stats(d, &after);
	snprintf(name, sizeof(name), "fault-to-host%s", pages);
	report(d, &before, &after, NPU_STAT_COPY_FROM_DEV, name);
	expect_data(&buf, 0);
	gmem_unmap(&buf);
}

/* --- 4 KiB -------------------------------------------------------------------- */

static uint64_t touch_insn(struct driver *d, const void *p, size_t len)
{
	uint64_t start = bench_insn();

	bench_check(_npu_touch(&d->npu, p, len, true, NULL), "GMEM_NPU_TOUCH");
	return bench_insn() - start;
}

static uint64_t job_insn(struct driver *d, void *p, uint64_t faults)
{
	struct npu_result result;
	uint64_t start = bench_insn();

	bench_check(_npu_atomic_add(&d->npu, p, 1, 1, &result), "job");
	start = bench_insn() - start;
	bench_expect("faults", result.faults, faults);
	return start;
}

/*
 * A page that is alone in its mapping.  p4.job is what a job takes longer when
 * it faults for the page: interrupt, worker, fault and answer.  p4.fault is the
 * fault alone, from an ioctl of which the ioctl is taken off and, as from the
 * way home, @copy: what waits for a copy of one page and what the DMA API does.
 * On the way home the device's TLB is waited for as well.
 */
static void measure_small(struct driver *d, uint64_t copy, uint64_t tlb)
{
	static uint64_t fault[SAMPLES], job[SAMPLES], recall[SAMPLES];
	volatile uint64_t *word;
	struct gmem_buf buf;
	uint64_t value;
	int i;

	map(d, &buf, SZ_4K, MADV_NOHUGEPAGE);
	word = (volatile uint64_t *)buf.p;
	for (i = 0; i < SAMPLES; i++) {
		value = *word;
		job[i] = job_insn(d, buf.p, 1);
		job[i] -= job_insn(d, buf.p, 0);
		expect_on_dev(d, buf.p, SZ_4K, 1);
		bench_expect("sum", *word - value, 2);
		expect_on_dev(d, buf.p, SZ_4K, 0);

		fault[i] = touch_insn(d, buf.p, SZ_4K);
		fault[i] -= touch_insn(d, buf.p, 0);
		expect_on_dev(d, buf.p, SZ_4K, 1);
		recall[i] = bench_insn();
		value = *word - value;
		recall[i] = bench_insn() - recall[i];
		bench_expect("sum", value, 2);
		expect_on_dev(d, buf.p, SZ_4K, 0);
	}
	gmem_unmap(&buf);
	figure(d, bench_median(job, SAMPLES), "instructions", "p4.job");
	figure(d, bench_median(fault, SAMPLES) - copy, "instructions",
	       "p4.fault");
	figure(d, bench_median(recall, SAMPLES) - copy - tlb, "instructions",
	       "p4.recall");
}

static void to_dev(const struct gmem_buf *buf, void *arg)
{
	struct driver *d = arg;

	prefetch(d, buf, true);
	expect_on_dev(d, buf->p, buf->len, buf->len / SZ_4K);
}

/* One at a time: neither shall pay for the other's notifiers. */
static void attach(struct driver *d)
{
	if (d->peer)
		bench_check(_peer_open(&d->npu, 0), "/dev/hmm-npu0");
	else
		bench_check(_npu_open(&d->npu, 0), "/dev/gmem-npu0");
	bench_check(_npu_attach(&d->npu, 0), "attach");
}

/* What both drivers do alike, by the same functions. */
static void measure_copy(struct driver *peer, uint64_t *copy, uint64_t *tlb)
{
	static uint64_t insn[SAMPLES], tlb_insn[SAMPLES];
	int i;

	attach(peer);
	for (i = 0; i < SAMPLES; i++)
		bench_check(_peer_copy(&peer->npu, SZ_4K, &insn[i],
				       &tlb_insn[i]), "copy");
	npu_close(&peer->npu);
	*copy = bench_median(insn, SAMPLES);
	*tlb = bench_median(tlb_insn, SAMPLES);
	bench_figure(*copy, "instructions", "p4.copy");
	bench_figure(*tlb, "instructions", "p4.tlb");
}

int main(void)
{
	struct driver drivers[] = {
		{ .name = "gmem" },
		{ .name = "hmm", .peer = true },
	};
	uint64_t copy, tlb;
	unsigned int i;

	if (!bench_load_driver() || npu_count() < 2 || !peer_bind_last()) {
		printf("# SKIP not two accelerators with a driver each\n");
		return BENCH_SKIP;
	}
	bench_counter_open();
	measure_copy(&drivers[1], &copy, &tlb);
	for (i = 0; i < 2; i++) {
		attach(&drivers[i]);
		measure_faults(&drivers[i]);
		measure_prefetch(&drivers[i], MADV_HUGEPAGE, "");
		measure_prefetch(&drivers[i], MADV_NOHUGEPAGE, "-4k");
		measure_touch(&drivers[i], MADV_HUGEPAGE, "");
		measure_small(&drivers[i], copy, tlb);
		measure_touch(&drivers[i], MADV_NOHUGEPAGE, "-4k");
		bench_held(drivers[i].name, drivers[i].peer ? 0 :
			   MAP_PEER_SHARED, to_dev, &drivers[i]);
		npu_close(&drivers[i].npu);
	}
	bench_print();
	return 0;
}
