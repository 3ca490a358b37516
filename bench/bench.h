/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the benchmarks share.  A program collects its figures and prints them
 * at its end, so that the console is quiet while it measures.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gmem_util.h"

/* The kselftest exit status of a program that cannot run here. */
#define BENCH_SKIP	4

/* Print a message and exit. */
void bench_die(const char *format, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* Remember a figure; @format makes its name. */
void bench_figure(double value, const char *unit, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Print all figures. */
void bench_print(void);

/* Sorts @v. */
uint64_t bench_median(uint64_t *v, size_t nr);

uint64_t bench_least(const uint64_t *v, size_t nr);

/* Load a module, unless it is there; false if there is none to load. */
bool bench_load(const char *module);
bool bench_load_driver(void);

/* --- the device -------------------------------------------------------------- */

/* Exit when @err, an errno, is not 0. */
void bench_check(int err, const char *what);

/* Exit when the two differ. */
void bench_expect(const char *what, uint64_t value, uint64_t expected);

/*
 * Load the driver and attach to the first device.  Exits as skipped without
 * either, or when nothing counts instructions.
 */
void bench_attach(struct npu *npu);

void bench_stats(const struct npu *npu, struct npu_stats *stats);

/* What @counter, an NPU_STAT_*, went up by. */
static inline uint64_t bench_count(const struct npu_stats *before,
				   const struct npu_stats *after,
				   unsigned int counter)
{
	return after->c[counter] - before->c[counter];
}

/* No one else has a turn, not even a child, before we sleep; or as usual. */
void bench_go_first(bool first);

/*
 * Map memory, advise @advice, and write gmem_pattern(page, SZ_4K, offset) to
 * each of its pages.
 */
void bench_map(struct gmem_buf *buf, size_t len, int advice, int flags);

/* Shared memory of which the first word of each page is its offset plus one. */
void bench_map_shared(struct gmem_buf *buf, size_t len, int advice);

/* Every byte is what bench_map() wrote. */
void bench_expect_data(const struct gmem_buf *buf);

/*
 * Memory of @pages pages which a device can only have singly: of each 64K the
 * first one is missing.  The first word of a page is its number plus one.
 */
void bench_map_singles(struct gmem_buf *buf, size_t pages, int flags);

#define BENCH_SINGLES	15		/* of 16 */

/* The page numbered @i of those. */
static inline char *bench_single(const struct gmem_buf *buf, size_t i)
{
	return buf->p + i / BENCH_SINGLES * SZ_64K +
	       (1 + i % BENCH_SINGLES) * SZ_4K;
}

/* Figures WHO.p5.* of one piece of @len bytes, and WHO.p4.* if that is a page. */
void bench_piece(const char *who, const char *size, size_t len, double fault,
		 double recall);

/*
 * Figures WHO.held.CALL: system calls on 2 MiB, mapped with @flags, that @to_dev
 * has sent to a device.
 */
void bench_held(const char *who, int flags,
		void (*to_dev)(const struct gmem_buf *buf, void *arg),
		void *arg);

#define PCI_DEVICES	"/sys/bus/pci/devices"

/* The lowest, or the highest, PCI address of an accelerator. */
void bench_find_npu(char *found, size_t len, bool last);

/*
 * Instructions that the machine has executed: a register of the first
 * accelerator, mapped, so that reading it needs neither a driver nor a system
 * call.
 */
void bench_counter_open(void);

extern const volatile uint64_t *bench_counter;

static inline uint64_t bench_insn(void)
{
	return *bench_counter;
}

#endif /* BENCH_H */
