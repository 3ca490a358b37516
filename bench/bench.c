// SPDX-License-Identifier: GPL-2.0
/*
 * What the benchmarks share: figures, and the instruction counter.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "gmem_util.h"

#define MAX_FIGURES	256

static struct figure {
	char name[48];
	const char *unit;
	double value;
} figures[MAX_FIGURES];

static unsigned int nr_figures;

const volatile uint64_t *bench_counter;

void bench_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	exit(1);
}

void bench_figure(double value, const char *unit, const char *format, ...)
{
	struct figure *figure = &figures[nr_figures++];
	va_list args;

	if (nr_figures > MAX_FIGURES)
		bench_die("more than %d figures", MAX_FIGURES);
	va_start(args, format);
	vsnprintf(figure->name, sizeof(figure->name), format, args);
	va_end(args);
	figure->value = value;
	figure->unit = unit;
}

void bench_piece(const char *who, const char *size, size_t len, double fault,
		 double recall)
{
	bench_figure(fault, "instructions", "%s.p5.fault-%s", who, size);
	bench_figure(recall, "instructions", "%s.p5.recall-%s", who, size);
	bench_figure(1024 * fault / len, "instructions/KiB",
		     "%s.p5.fault-per-KiB-%s", who, size);
	bench_figure(1024 * recall / len, "instructions/KiB",
		     "%s.p5.recall-per-KiB-%s", who, size);
	if (len != SZ_4K)
		return;
	bench_figure(fault, "instructions", "%s.p4.fault", who);
	bench_figure(recall, "instructions", "%s.p4.recall", who);
}

void bench_print(void)
{
	unsigned int i;

	/* Counts are whole, means and shares have two digits. */
	for (i = 0; i < nr_figures; i++)
		printf("%s %.*f %s\n", figures[i].name,
		       figures[i].value == (uint64_t)figures[i].value ? 0 : 2,
		       figures[i].value, figures[i].unit);
}

static int bench_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t bench_median(uint64_t *v, size_t nr)
{
	qsort(v, nr, sizeof(*v), bench_compare);
	return v[nr / 2];
}

uint64_t bench_least(const uint64_t *v, size_t nr)
{
	uint64_t least = v[0];

	while (nr--)
		if (v[nr] < least)
			least = v[nr];
	return least;
}

/* --- the driver ------------------------------------------------------------- */

bool bench_load(const char *module)
{
	int fd = open(module, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		bench_die("cannot load %s: %m", module);
	close(fd);
	return true;
}

bool bench_load_driver(void)
{
	return bench_load("/modules/gmem_npu.ko");
}

/* --- the device ------------------------------------------------------------- */

void bench_check(int err, const char *what)
{
	if (err)
		bench_die("%s: %s", what, strerror(err));
}

void bench_expect(const char *what, uint64_t value, uint64_t expected)
{
	if (value != expected)
		bench_die("%s: %llu, not %llu", what,
			  (unsigned long long)value,
			  (unsigned long long)expected);
}

void bench_attach(struct npu *npu)
{
	if (!bench_load_driver() || !npu_count()) {
		printf("# SKIP there is no accelerator or no driver\n");
		exit(BENCH_SKIP);
	}
	bench_check(_npu_open(npu, 0), "/dev/gmem-npu0");
	bench_check(_npu_attach(npu, 0), "attach");
	bench_counter_open();
}

void bench_stats(const struct npu *npu, struct npu_stats *stats)
{
	bench_check(_npu_stats(npu, stats), "GMEM_NPU_STATS");
}

void bench_map(struct gmem_buf *buf, size_t len, int advice, int flags)
{
	size_t i;

	bench_check(_gmem_map(buf, len, SZ_2M, 0, PROT_READ | PROT_WRITE,
			      flags), "mmap");
	bench_check(madvise(buf->p, len, advice) ? errno : 0, "madvise");
	for (i = 0; i < len; i += SZ_4K)
		gmem_pattern(buf->p + i, SZ_4K, i);
}

void bench_go_first(bool first)
{
	const struct sched_param param = { .sched_priority = first };

	if (sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER, &param))
		bench_die("sched_setscheduler: %m");
}

void bench_map_shared(struct gmem_buf *buf, size_t len, int advice)
{
	size_t i;

	bench_check(_gmem_map(buf, len, SZ_2M, 0, PROT_READ | PROT_WRITE,
			      MAP_PEER_SHARED), "mmap");
	bench_check(madvise(buf->p, len, advice) ? errno : 0, "madvise");
	for (i = 0; i < len; i += SZ_4K)
		*(uint64_t *)(buf->p + i) = i + 1;
}

void bench_expect_data(const struct gmem_buf *buf)
{
	static uint64_t want[SZ_4K / sizeof(uint64_t)];
	size_t i, at;

	for (i = 0; i < buf->len; i += SZ_4K) {
		gmem_pattern(want, SZ_4K, i);
		at = gmem_diff(want, buf->p + i, SZ_4K);
		if (at != SZ_4K)
			bench_die("byte %zu differs", i + at);
	}
}

void bench_map_singles(struct gmem_buf *buf, size_t pages, int flags)
{
	size_t groups = (pages + BENCH_SINGLES - 1) / BENCH_SINGLES, i;
	char *end;

	bench_check(_gmem_map(buf, groups * SZ_64K, SZ_2M, 0,
			      PROT_READ | PROT_WRITE, flags), "mmap");
	bench_check(madvise(buf->p, buf->len, MADV_NOHUGEPAGE) ? errno : 0,
		    "madvise");
	for (i = 0; i < groups; i++)
		bench_check(munmap(buf->p + i * SZ_64K, SZ_4K) ? errno : 0,
			    "munmap");
	for (i = 0; i < pages; i++)
		*(uint64_t *)bench_single(buf, i) = i + 1;
	/* The rest of the last group. */
	end = bench_single(buf, pages - 1) + SZ_4K;
	if (end < buf->p + buf->len)
		bench_check(munmap(end, buf->p + buf->len - end) ? errno : 0,
			    "munmap");
}

/* --- the instruction counter ---------------------------------------------- */

static long long pci_number(const char *device, const char *file)
{
	char path[320];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, file);
	return gmem_read_number(path);
}

void bench_find_npu(char *found, size_t len, bool last)
{
	struct dirent *entry;
	DIR *dir;

	found[0] = 0;
	dir = opendir(PCI_DEVICES);
	if (!dir)
		bench_die(PCI_DEVICES ": %m");
	while ((entry = readdir(dir))) {
		if (pci_number(entry->d_name, "vendor") != NPU_PCI_VENDOR ||
		    pci_number(entry->d_name, "device") != NPU_PCI_DEVICE)
			continue;
		if (!found[0] ||
		    (strcmp(entry->d_name, found) < 0) != last)
			snprintf(found, len, "%s", entry->d_name);
	}
	closedir(dir);
	if (!found[0]) {
		printf("# SKIP the machine has no gmem-npu\n");
		exit(BENCH_SKIP);
	}
}

void bench_counter_open(void)
{
	char device[256], path[320];
	void *regs;
	int fd;

	bench_find_npu(device, sizeof(device), false);
	/* Busy when it has a driver, which has enabled it then. */
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/enable", device);
	fd = open(path, O_WRONLY);
	if (fd < 0 || (write(fd, "1", 1) != 1 && errno != EBUSY))
		bench_die("%s: %m", path);
	close(fd);

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/resource%d", device,
		 NPU_BAR_REGS);
	fd = open(path, O_RDWR);
	if (fd < 0)
		bench_die("%s: %m", path);
	regs = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, fd, 0);
	if (regs == MAP_FAILED)
		bench_die("%s: %m", path);
	close(fd);
	bench_counter = (void *)((char *)regs + NPU_REG_INSN);
	if (!bench_insn()) {
		printf("# SKIP only -icount counts instructions\n");
		exit(BENCH_SKIP);
	}
}
