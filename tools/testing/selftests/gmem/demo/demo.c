// SPDX-License-Identifier: GPL-2.0
/*
 * Run the demos and print what each made the device do, a row each.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "demo.h"

static const struct {
	const char *name;
	int (*run)(struct demo *demo);
	const char *about;
} demos[] = {
	{ "matmul", demo_matmul,
	  "matrix product and y += a * x in mmap(MAP_PEER_SHARED) memory" },
	{ "list", demo_list,
	  "a search tree made with malloc(), shared by hmadvise(), walked" },
	{ "histogram", demo_histogram,
	  "byte histogram of a file that was read into shared memory" },
	{ "oversubscribe", demo_oversubscribe,
	  "y += a * x over 1.5 times the memory of the device" },
};

#define NR_DEMOS	(sizeof(demos) / sizeof(demos[0]))

int demo_fail(const char *what, int err)
{
	fprintf(stderr, "gmem-demo: %s%s%s\n", what, err ? ": " : "",
		err ? strerror(err) : "");
	return 1;
}

int demo_start(struct demo *demo)
{
	int err = _npu_stats(&demo->npu, &demo->start);

	return err ? demo_fail("stats", err) : 0;
}

int demo_stop(struct demo *demo)
{
	const struct npu_stats *start = &demo->start;
	struct npu_stats now;
	int err = _npu_stats(&demo->npu, &now);

	if (err)
		return demo_fail("stats", err);
	demo->faults += now.ctx_faults - start->ctx_faults;
	demo->to_device += now.c[NPU_STAT_COPY_TO_DEV] -
			   start->c[NPU_STAT_COPY_TO_DEV];
	demo->to_host += now.c[NPU_STAT_COPY_FROM_DEV] -
			 start->c[NPU_STAT_COPY_FROM_DEV];
	demo->time_ns += now.time_ns - start->time_ns;
	demo->link_ns += now.c[NPU_STAT_LINK_NS] - start->c[NPU_STAT_LINK_NS];
	return 0;
}

void *demo_map(struct demo *demo, size_t len)
{
	void *p;

	len = (len + SZ_2M - 1) / SZ_2M * SZ_2M;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_PEER_SHARED, -1, 0);
	if (p == MAP_FAILED) {
		demo_fail("mmap", errno);
		return NULL;
	}
	/* Without huge pages it works as well. */
	madvise(p, len, MADV_HUGEPAGE);
	demo->bytes += len;
	return p;
}

static void print_header(void)
{
	printf("%-14s %12s %8s %14s %14s %12s %7s\n", "demo", "bytes",
	       "faults", "to device", "to host", "time us", "link");
}

static void print_row(const char *name, const struct demo *demo)
{
	printf("%-14s %12zu %8" PRIu64 " %14" PRIu64 " %14" PRIu64
	       " %12" PRIu64 " %6.1f%%\n", name, demo->bytes,
	       demo->faults, demo->to_device, demo->to_host,
	       demo->time_ns / 1000,
	       demo->time_ns ? 100.0 * demo->link_ns / demo->time_ns : 0);
	fflush(stdout);
}

static int run(unsigned int i, const char *file)
{
	struct demo demo = { .file = file };
	int err;

	err = _npu_open(&demo.npu, 0);
	if (err)
		return demo_fail("/dev/gmem-npu", err);
	err = _npu_attach(&demo.npu, 0);
	if (err)
		return demo_fail("attach", err);
	err = demos[i].run(&demo);
	npu_close(&demo.npu);
	if (err) {
		printf("%-14s FAILED\n", demos[i].name);
		return 1;
	}
	print_row(demos[i].name, &demo);
	return 0;
}

static void usage(FILE *to)
{
	size_t i;

	fprintf(to,
		"Usage: gmem-demo [-l] [-f FILE] [DEMO...]\n\n"
		"Runs all demos or those named, checks every byte of their\n"
		"results against the CPU's, and prints what the device did.\n"
		"Exits with 0 when all was right.\n\n"
		"  -f, --file FILE  what the histogram is of (/data/source.txt)\n"
		"  -l, --list       list the demos\n"
		"  -h, --help       this\n\n");
	for (i = 0; i < NR_DEMOS; i++)
		fprintf(to, "  %-14s %s\n", demos[i].name, demos[i].about);
	fprintf(to,
		"\nThe columns: bytes of memory worked on; page faults of the\n"
		"device; bytes copied to the device and to the host; virtual\n"
		"time; and how much of it the link was busy with copies.\n\n"
		"GMEM_NPU is the number of the device, GMEM_TEST_SCALE the\n"
		"amount of work in percent.\n");
}

static int find(const char *name)
{
	size_t i;

	for (i = 0; i < NR_DEMOS; i++) {
		if (!strcmp(name, demos[i].name))
			return i;
	}
	return -1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *file = "/data/source.txt";
	unsigned int i, failed = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "f:lh", options, NULL)) != -1) {
		switch (opt) {
		case 'f':
			file = optarg;
			break;
		case 'l':
			for (i = 0; i < NR_DEMOS; i++)
				puts(demos[i].name);
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	for (i = optind; i < (unsigned int)argc; i++) {
		if (find(argv[i]) < 0) {
			fprintf(stderr, "gmem-demo: no demo %s\n", argv[i]);
			return 2;
		}
	}

	print_header();
	if (optind == argc) {
		for (i = 0; i < NR_DEMOS; i++)
			failed += run(i, file);
	}
	for (i = optind; i < (unsigned int)argc; i++)
		failed += run(find(argv[i]), file);
	return failed ? 1 : 0;
}
