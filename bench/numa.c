// SPDX-License-Identifier: GPL-2.0
/*
 * A peer: coherent device memory as it is used today, a NUMA node that has
 * memory and no CPU, to and from which move_pages() and mbind() move pages.  What
 * is numa.NAME here is GMEM's NAME: a "fault" is the system call by which a
 * driver or a runtime would move what a device asked for, a "recall" the one that
 * brings it back.  Nothing else does; who wants the device to be served without
 * being told has to build that.
 *
 * The CPU copies, and since all other figures are without the copy, that is taken
 * off: migration uses memcpy(), which on a processor without fast strings has a
 * loop of 12 instructions for each 32 bytes.
 *
 * What makes it fast: one call for everything that moves; an address for each
 * huge page, which goes whole, and not one for each of its 512 pages; of
 * move_pages() and mbind(), whichever takes fewer instructions; LRU batches that
 * were emptied before; and a node with more than enough memory free, so that no
 * allocation reclaims.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define PIECES		16
#define LEN		(PIECES * SZ_2M)
#define SAMPLES		21

/* From linux/mempolicy.h. */
#define MPOL_PREFERRED	1
#define MPOL_MF_MOVE	2

#define HOST		0
#define DEVICE		1
#define NODES		"/sys/devices/system/node/"

static const char * const directions[] = { "to-host", "to-dev" };

static bool have_node(void)
{
	char has_memory[64], has_cpu[64];

	return gmem_read_file(NODES "has_memory", has_memory,
			      sizeof(has_memory)) > 0 &&
	       gmem_read_file(NODES "has_cpu", has_cpu, sizeof(has_cpu)) > 0 &&
	       !strcmp(has_memory, "0-1\n") && !strcmp(has_cpu, "0\n");
}

static void expect_on(const struct gmem_buf *buf, int node)
{
	bench_expect("pages on the node",
		     gmem_pages_on(buf->p, buf->len, node), buf->len / SZ_4K);
}

/* --- moving ------------------------------------------------------------------ */

/* An address in each @step bytes. */
static uint64_t move_pages_insn(const struct gmem_buf *buf, size_t step,
				int node)
{
	static void *pages[LEN / SZ_4K];
	static int nodes[LEN / SZ_4K], status[LEN / SZ_4K];
	size_t nr = step ? buf->len / step : 0, i;
	uint64_t start;
	long ret;

	for (i = 0; i < nr; i++) {
		pages[i] = buf->p + i * step;
		nodes[i] = node;
	}
	start = bench_insn();
	ret = syscall(SYS_move_pages, 0, nr, pages, nodes, status,
		      MPOL_MF_MOVE);
	start = bench_insn() - start;
	if (ret)
		bench_die("move_pages: %ld", ret);
	return start;
}

static uint64_t mbind_insn(const struct gmem_buf *buf, int node)
{
	unsigned long mask = 1UL << node;
	uint64_t start = bench_insn();
	long ret = syscall(SYS_mbind, buf->p, buf->len, MPOL_PREFERRED, &mask,
			   8 * sizeof(mask), MPOL_MF_MOVE);

	start = bench_insn() - start;
	if (ret)
		bench_die("mbind: %m");
	return start;
}

#define COPY_INSN(len)	((len) / 32 * 12)

static double without_copy(uint64_t insn, size_t len)
{
	return (double)insn - COPY_INSN(len);
}

static void expect_slow_strings(void)
{
	char text[4096];

	if (gmem_read_file("/proc/cpuinfo", text, sizeof(text)) <= 0)
		bench_die("/proc/cpuinfo: %m");
	if (strstr(text, " erms") || strstr(text, " fsrm"))
		bench_die("the processor copies in another way");
}

/* --- P3: 32 MiB in one call -------------------------------------------------- */

static void measure_large(int advice, const char *pages)
{
	size_t step = advice == MADV_HUGEPAGE ? SZ_2M : SZ_4K;
	uint64_t by_pages, by_range;
	struct gmem_buf buf, other;
	int node;

	bench_map(&buf, LEN, advice, 0);
	/* The last pages still wait in batches for the LRU lists. */
	bench_map(&other, SZ_64K, MADV_NOHUGEPAGE, 0);
	for (node = DEVICE; node >= HOST; node--) {
		by_range = mbind_insn(&buf, node);
		expect_on(&buf, node);
		/* There and back again, so that the other one can do the same. */
		mbind_insn(&buf, !node);
		by_pages = move_pages_insn(&buf, step, node);
		expect_on(&buf, node);
		bench_figure(without_copy(by_pages, LEN) / PIECES,
			     "instructions/2MiB", "numa.move_pages-%s%s",
			     directions[node], pages);
		bench_figure(without_copy(by_range, LEN) / PIECES,
			     "instructions/2MiB", "numa.mbind-%s%s",
			     directions[node], pages);
		if (by_range < by_pages)
			by_pages = by_range;
		bench_figure(without_copy(by_pages, LEN) / PIECES,
			     "instructions/2MiB", "numa.p3.prefetch-%s%s",
			     directions[node], pages);
	}
	bench_expect_data(&buf);
	gmem_unmap(&other);
	gmem_unmap(&buf);
}

/* --- P4, P5: one piece ------------------------------------------------------- */

/* The call, less the same call on nothing. */
static uint64_t least_move(const struct gmem_buf *buf, size_t step, int node)
{
	uint64_t insn[SAMPLES];
	int i;

	for (i = 0; i < SAMPLES; i++) {
		if (gmem_node(buf->p) == node)
			move_pages_insn(buf, step, !node);
		expect_on(buf, !node);
		insn[i] = move_pages_insn(buf, step, node);
		expect_on(buf, node);
		insn[i] -= move_pages_insn(buf, 0, node);
	}
	return bench_least(insn, SAMPLES);
}

static void measure_piece(size_t len, const char *size)
{
	size_t step = len == SZ_2M ? SZ_2M : SZ_4K;
	struct gmem_buf buf;
	double fault, recall;

	bench_map(&buf, len, len == SZ_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, 0);
	fault = without_copy(least_move(&buf, step, DEVICE), len);
	recall = without_copy(least_move(&buf, step, HOST), len);
	bench_expect_data(&buf);
	gmem_unmap(&buf);
	bench_piece("numa", size, len, fault, recall);
}

/* --- what a process pays for what is there ----------------------------------- */

static void to_dev(const struct gmem_buf *buf, void *arg)
{
	(void)arg;
	move_pages_insn(buf, SZ_2M, DEVICE);
	expect_on(buf, DEVICE);
}

/* --- what it takes to have the memory at all --------------------------------- */

/* A struct page for each 4 KiB, used or not; it is taken from the node. */
static void measure_metadata(void)
{
	char text[4096];
	const char *at;
	double total, size;

	if (gmem_read_file(NODES "node1/meminfo", text, sizeof(text)) <= 0)
		bench_die("no meminfo of the node");
	at = strstr(text, "MemTotal:");
	if (!at)
		bench_die("no MemTotal of the node");
	total = atof(at + strlen("MemTotal:")) * 1024;
	/* The machine gave it a power of two. */
	for (size = SZ_2M; size < total; size *= 2)
		;
	bench_figure(100 * (size - total) / size, "%-of-bytes",
		     "numa.metadata.4k");
	bench_figure(100 * (size - total) / size, "%-of-bytes",
		     "numa.metadata.2m");
}

int main(void)
{
	if (!have_node()) {
		printf("# SKIP there is no node of memory without CPUs\n");
		return BENCH_SKIP;
	}
	bench_counter_open();
	expect_slow_strings();
	bench_figure(COPY_INSN(SZ_2M), "instructions/2MiB", "numa.copy");
	measure_large(MADV_HUGEPAGE, "");
	measure_large(MADV_NOHUGEPAGE, "-4k");
	measure_piece(SZ_4K, "4k");
	measure_piece(SZ_64K, "64k");
	measure_piece(SZ_2M, "2m");
	bench_held("numa", 0, to_dev, NULL);
	measure_metadata();
	bench_print();
	return 0;
}
