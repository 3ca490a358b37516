// SPDX-License-Identifier: GPL-2.0
/*
 * Moving 2 MiB between host and device: how much of a fault is the copy, how
 * many instructions the rest takes, how much of the link a prefetch gets.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "gmem_util.h"

#define PIECES	32
#define LEN	(PIECES * SZ_2M)

static struct npu npu;

static void stats(struct npu_stats *out)
{
	bench_stats(&npu, out);
}

/* Shared memory on huge pages of the host, every byte of it written. */
static void map_huge(struct gmem_buf *buf)
{
	struct gmem_smaps smaps;
	size_t i;

	bench_check(_gmem_map(buf, LEN, SZ_2M, 0, PROT_READ | PROT_WRITE,
			      MAP_PEER_SHARED), "mmap");
	bench_check(madvise(buf->p, LEN, MADV_HUGEPAGE) ? errno : 0, "madvise");
	for (i = 0; i < PIECES; i++)
		gmem_pattern(buf->p + i * SZ_2M, SZ_2M, i);
	bench_check(_gmem_smaps(0, buf->p, LEN, &smaps), "smaps");
	if (smaps.huge != LEN)
		bench_die("%zu of %lu bytes are on huge pages", smaps.huge,
			  LEN);
}

/* What was written is there, and jobs have added @added to each first word. */
static void expect_data(const struct gmem_buf *buf, uint64_t added)
{
	static uint64_t want[SZ_2M / sizeof(uint64_t)];
	size_t i, at;

	for (i = 0; i < PIECES; i++) {
		gmem_pattern(want, SZ_2M, i);
		want[0] += added;
		at = gmem_diff(want, buf->p + i * SZ_2M, SZ_2M);
		if (at != SZ_2M)
			bench_die("piece %zu differs at byte %zu", i, at);
	}
}

static void expect_on(const struct gmem_buf *buf, int node)
{
	size_t pages = gmem_pages_on(buf->p, LEN, node);

	if (pages != LEN / SZ_4K)
		bench_die("%zu of %lu pages are on node %d", pages,
			  LEN / SZ_4K, node);
}

static void expect_moved(uint64_t bytes, uint64_t expected)
{
	if (bytes != expected)
		bench_die("%llu bytes were moved, not %llu",
			  (unsigned long long)bytes,
			  (unsigned long long)expected);
}

/*
 * P1: jobs that touch one word each, of a huge page that the host has.  The
 * device counts how long the job stalled, from the time in the fault record to
 * the replay, and how long the link moved bytes.
 */
static void measure_faults(void)
{
	static uint64_t link[PIECES], stall[PIECES], insn[PIECES];
	struct npu_stats before, after;
	struct npu_result result;
	struct gmem_buf buf;
	uint64_t link_ns, stall_ns;
	int i;

	map_huge(&buf);
	for (i = 0; i < PIECES; i++) {
		stats(&before);
		bench_check(_npu_atomic_add(&npu, (void *)(buf.p + i * SZ_2M),
					    7, 1, &result), "job");
		stats(&after);
		expect_moved(bench_count(&before, &after, NPU_STAT_COPY_TO_DEV),
			     SZ_2M);
		if (result.faults != 1)
			bench_die("%d faults for one word",
				  (int)result.faults);
		link[i] = bench_count(&before, &after, NPU_STAT_LINK_NS);
		stall[i] = bench_count(&before, &after, NPU_STAT_STALL_NS);
		insn[i] = after.insn - before.insn;
	}
	expect_on(&buf, npu.hnid);
	expect_data(&buf, 7);
	gmem_unmap(&buf);

	link_ns = bench_median(link, PIECES);
	stall_ns = bench_median(stall, PIECES);
	bench_figure(100.0 * link_ns / stall_ns, "%", "p1.copy-share");
	bench_figure(stall_ns, "ns", "p1.fault");
	bench_figure(link_ns, "ns", "p1.link");
	bench_figure(bench_median(insn, PIECES), "instructions", "p1.job");
}

/* P3, P2: the instructions of one move of everything, and its time. */
static void report_move(const struct npu_stats *before,
			const struct npu_stats *after, unsigned int direction,
			const char *what)
{
	expect_moved(bench_count(before, after, direction), LEN);
	bench_figure((double)(after->insn - before->insn) / PIECES,
		     "instructions/2MiB", "p3.%s", what);
	bench_figure(100.0 * bench_count(before, after, NPU_STAT_LINK_NS) /
		     (after->time_ns - before->time_ns), "%", "p2.%s", what);
}

static void measure_prefetch(void)
{
	struct npu_stats before, after;
	struct gmem_buf buf;

	map_huge(&buf);
	stats(&before);
	bench_check(_hmadvise(npu.hnid, buf.p, LEN, HMADV_PREFETCH),
		    "prefetch");
	stats(&after);
	expect_on(&buf, npu.hnid);
	report_move(&before, &after, NPU_STAT_COPY_TO_DEV, "prefetch-to-dev");

	stats(&before);
	bench_check(_hmadvise(-1, buf.p, LEN, HMADV_PREFETCH), "prefetch");
	stats(&after);
	expect_on(&buf, GMEM_ANY_NODE);
	report_move(&before, &after, NPU_STAT_COPY_FROM_DEV,
		    "prefetch-to-host");
	expect_data(&buf, 0);
	gmem_unmap(&buf);
}

/* The same through the fault path, without a device that waits. */
static void measure_touch(void)
{
	struct npu_stats before, after;
	struct gmem_buf buf;
	uint64_t done;

	map_huge(&buf);
	stats(&before);
	bench_check(_npu_touch(&npu, buf.p, LEN, true, &done),
		    "GMEM_NPU_TOUCH");
	stats(&after);
	expect_on(&buf, npu.hnid);
	report_move(&before, &after, NPU_STAT_COPY_TO_DEV, "fault-to-dev");
	expect_data(&buf, 0);
	gmem_unmap(&buf);
}

int main(void)
{
	bench_attach(&npu);
	measure_faults();
	measure_prefetch();
	measure_touch();
	npu_close(&npu);
	bench_print();
	return 0;
}
