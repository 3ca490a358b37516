// SPDX-License-Identifier: GPL-2.0
/*
 * Fault and recall of one block of each size that the device has: what a byte
 * costs apart from its copy.
 *
 * A fault is GMEM_NPU_TOUCH less the same ioctl on nothing, a recall the access
 * of the CPU that brings the block home.  All else is in them: the wait for the
 * copy, the DMA API, interrupts.  The CPU moves no byte itself.  The least of the
 * samples is taken: whether the idle CPU stops its tick is a matter of chance.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define SAMPLES	21

static const struct size {
	const char *name;
	struct gmem_shape shape;
} sizes[] = {
	{ .name = "4k", .shape = { .block = SZ_4K, .nr = 1 } },
	{ .name = "64k", .shape = { .block = SZ_64K, .nr = 1 } },
	{ .name = "2m", .shape = { .block = SZ_2M, .nr = 1, .thp = true } },
};

static struct npu npu;

static uint64_t touch(const void *p, size_t len)
{
	uint64_t start = bench_insn();

	bench_check(_npu_touch(&npu, p, len, true, NULL), "GMEM_NPU_TOUCH");
	return bench_insn() - start;
}

static void expect_on_dev(const struct gmem_buf *buf, size_t bytes)
{
	bench_expect("pages on the device",
		     gmem_pages_on(buf->p, buf->len, npu.hnid), bytes / SZ_4K);
}

static void figures(const struct size *size, const char *what, uint64_t insn)
{
	bench_figure(insn, "instructions", "p5.%s-%s", what, size->name);
	bench_figure(1024.0 * insn / size->shape.block, "instructions/KiB",
		     "p5.%s-per-KiB-%s", what, size->name);
}

static void measure(const struct size *size)
{
	static uint64_t fault[SAMPLES], recall[SAMPLES];
	struct npu_stats before, after;
	struct gmem_buf buf;
	size_t i;

	bench_check(_gmem_map_shape(&buf, &size->shape), "mmap");
	for (i = 0; i < buf.len; i += SZ_4K)
		gmem_pattern(buf.p + i, SZ_4K, i);
	for (i = 0; i < SAMPLES; i++) {
		bench_stats(&npu, &before);
		fault[i] = touch(buf.p, buf.len);
		fault[i] -= touch(buf.p, 0);
		expect_on_dev(&buf, buf.len);

		recall[i] = bench_insn();
		(void)*(volatile char *)buf.p;
		recall[i] = bench_insn() - recall[i];
		expect_on_dev(&buf, 0);
		bench_stats(&npu, &after);
		bench_expect("bytes to the device",
			     bench_count(&before, &after, NPU_STAT_COPY_TO_DEV),
			     buf.len);
		bench_expect("bytes to the host",
			     bench_count(&before, &after,
					 NPU_STAT_COPY_FROM_DEV), buf.len);
	}
	bench_expect_data(&buf);
	gmem_unmap(&buf);
	figures(size, "fault", bench_least(fault, SAMPLES));
	figures(size, "recall", bench_least(recall, SAMPLES));
}

int main(void)
{
	size_t i;

	bench_attach(&npu);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		measure(&sizes[i]);
	npu_close(&npu);
	bench_print();
	return 0;
}
