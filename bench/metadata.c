// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel keeps about memory that a device has: objects that it allocates
 * while a range goes there.  Page tables of the CPU are there anyway and are not
 * counted, nor is what the range itself takes, whose VMAs have caches of their
 * own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define SZ_1G		(1024 * SZ_1M)

static struct npu npu;

/* Caches that GMEM and its driver allocate from. */
static bool is_ours(const char *cache)
{
	return !strncmp(cache, "kmalloc-", 8) ||
	       !strcmp(cache, "radix_tree_node");
}

/* Objects in use, with what is left over at the end of a slab. */
static long long slab_bytes(const char *line)
{
	unsigned long active, total, size, per_slab, pages;
	char name[64];

	if (sscanf(line, "%63s %lu %lu %lu %lu %lu", name, &active, &total,
		   &size, &per_slab, &pages) != 6 || !is_ours(name))
		return 0;
	return (long long)active * (pages * SZ_4K / per_slab);
}

/* Free objects that a CPU has put aside would be taken for ones in use. */
static void flush_slab(const char *line)
{
	char name[64], path[128];

	if (sscanf(line, "%63s", name) != 1 || !is_ours(name))
		return;
	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", name);
	bench_check(_gmem_write_file(path, "1"), path);
}

static long long sum_slabs(void (*flush)(const char *line))
{
	FILE *f = fopen("/proc/slabinfo", "r");
	long long bytes = 0;
	char line[512];

	if (!f)
		bench_die("/proc/slabinfo: %m");
	while (fgets(line, sizeof(line), f)) {
		if (flush)
			flush(line);
		bytes += slab_bytes(line);
	}
	fclose(f);
	return bytes;
}

static long long kernel_bytes(void)
{
	/* What is freed by RCU goes first. */
	gmem_sleep_ms(500);
	sum_slabs(flush_slab);
	return sum_slabs(NULL);
}

#define UNTOUCHED	10000

/* VMAs that nobody touches. */
static long long untouched(int flags)
{
	long long before = kernel_bytes();
	struct gmem_buf buf;
	size_t at;

	bench_check(_gmem_map(&buf, 2 * UNTOUCHED * SZ_4K, SZ_2M, 0,
			      PROT_READ | PROT_WRITE, flags), "mmap");
	for (at = SZ_4K; at < buf.len; at += 2 * SZ_4K)
		bench_check(munmap(buf.p + at, SZ_4K) ? errno : 0, "munmap");
	before = kernel_bytes() - before;
	gmem_unmap(&buf);
	return before;
}

/* Each makes a device have @len bytes, less holes, in blocks of one size. */
static void layout_4k(struct gmem_buf *buf, size_t len)
{
	bench_map_singles(buf, len / SZ_64K * BENCH_SINGLES, MAP_PEER_SHARED);
}

static void layout_64k(struct gmem_buf *buf, size_t len)
{
	size_t at;

	bench_map_shared(buf, len, MADV_NOHUGEPAGE);
	for (at = 0; at < len; at += SZ_2M)
		bench_check(munmap(buf->p + at, SZ_64K) ? errno : 0, "munmap");
}

static void layout_2m(struct gmem_buf *buf, size_t len)
{
	bench_map_shared(buf, len, MADV_HUGEPAGE);
}

static const struct layout {
	const char *name;
	void (*map)(struct gmem_buf *buf, size_t len);
	unsigned int parts;	/* of which the first is a hole */
} layouts[] = {
	{ "4k", layout_4k, 16 },
	{ "64k", layout_64k, 32 },
	{ "2m", layout_2m, 0 },
};

static void to_device(const struct gmem_buf *buf, size_t holes)
{
	bench_expect("errno",
		     _hmadvise(npu.hnid, buf->p, buf->len, HMADV_PREFETCH),
		     holes ? ENOMEM : 0);
	bench_expect("pages on the device",
		     gmem_pages_on(buf->p, buf->len, npu.hnid),
		     (buf->len - holes) / SZ_4K);
}

/*
 * The driver keeps page tables of the device as long as the context is there.
 * With @driver it makes them while bytes are counted, otherwise before.
 *
 * Return: in per cent of what is on the device.
 */
static double measure(const struct layout *layout, size_t len, bool driver)
{
	size_t holes = layout->parts ? len / layout->parts : 0;
	struct gmem_buf buf;
	long long bytes;

	bench_check(_npu_attach(&npu, 0), "attach");
	layout->map(&buf, len);
	if (!driver) {
		to_device(&buf, holes);
		bench_expect("errno", _hmadvise(-1, buf.p, buf.len,
						HMADV_DISCARD),
			     holes ? ENOMEM : 0);
	}
	bytes = kernel_bytes();
	to_device(&buf, holes);
	bytes = kernel_bytes() - bytes;
	gmem_unmap(&buf);
	bench_check(_npu_detach(&npu), "detach");
	if (!driver)
		bench_figure(bytes, "bytes", "curve.metadata-%s.%zu",
			     layout->name, len - holes);
	return 100.0 * bytes / (len - holes);
}

static void measure_layout(const struct layout *layout)
{
	static const size_t sizes[] = { SZ_1G / 16, SZ_1G / 4, SZ_1G };
	size_t i, len = 0;
	double percent = 0;

	for (i = 0; i < ARRAY_SIZE(sizes) && sizes[i] <= npu.mem_size; i++) {
		len = sizes[i];
		percent = measure(layout, len, false);
	}
	bench_figure(percent, "%-of-bytes", "metadata.%s", layout->name);
	bench_figure(measure(layout, len, true), "%-of-bytes",
		     "metadata.%s-with-driver", layout->name);
}

int main(void)
{
	long long plain;
	size_t i;

	if (!bench_load_driver() || !npu_count()) {
		printf("# SKIP there is no accelerator or no driver\n");
		return BENCH_SKIP;
	}
	bench_check(_npu_open(&npu, 0), "/dev/gmem-npu0");
	/* The first time fills caches. */
	untouched(0);
	plain = untouched(0);
	bench_figure((double)(untouched(MAP_PEER_SHARED) - plain) / UNTOUCHED,
		     "bytes/VMA", "metadata.untouched");
	for (i = 0; i < ARRAY_SIZE(layouts); i++)
		measure_layout(&layouts[i]);
	npu_close(&npu);
	bench_print();
	return 0;
}
