// SPDX-License-Identifier: GPL-2.0
/*
 * P12: how long a device waits for a huge page of the host, at the 99th
 * percentile, when half of its memory is in use and when all of it is.
 *
 * Open loop: a job arrives every so often, whether or not those before it have
 * ended, at a rate that takes half of the link.  The time counts from when it
 * should have arrived.  Each job touches another huge page.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"

#define SERVERS		8	/* so many jobs may be under way */
#define PIECES		40
#define ROUNDS		3
#define SAMPLES		(ROUNDS * PIECES)
#define PERIOD_NS	(2 * 131072)	/* twice what 2 MiB take on the link */

static struct npu npu;
static struct gmem_buf work;
static uint64_t start_ns;
static uint64_t latency[SAMPLES];
static unsigned int base;		/* first sample of the round */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = {
		.tv_sec = ns / 1000000000,
		.tv_nsec = ns % 1000000000,
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) ==
	       EINTR)
		;
}

static void *serve(void *first)
{
	struct npu_result result;
	uint64_t due;
	size_t i;

	for (i = (uintptr_t)first; i < PIECES; i += SERVERS) {
		due = start_ns + i * PERIOD_NS;
		sleep_until(due);
		bench_check(_npu_atomic_add(&npu,
					    (uint64_t *)(work.p + i * SZ_2M),
					    1, 1, &result), "job");
		latency[base + i] = now_ns() - due;
		bench_expect("faults", result.faults, 1);
	}
	return NULL;
}

static void run(void)
{
	pthread_t threads[SERVERS];
	size_t i;

	/* Time for all to be asleep. */
	start_ns = now_ns() + 10000000;
	for (i = 0; i < SERVERS; i++)
		bench_check(pthread_create(&threads[i], NULL, serve,
					   (void *)i), "thread");
	for (i = 0; i < SERVERS; i++)
		bench_check(pthread_join(threads[i], NULL), "thread");
}

static void check_data(void)
{
	size_t i;

	for (i = 0; i < PIECES; i++)
		--*(uint64_t *)(work.p + i * SZ_2M);
	bench_expect_data(&work);
}

/* With @percent of the device full of what other jobs wrote. */
static void measure(const char *name, unsigned int percent)
{
	size_t len = npu.mem_size / 100 * percent / SZ_2M * SZ_2M;
	struct gmem_buf full;

	for (base = 0; base < SAMPLES; base += PIECES) {
		bench_check(_gmem_map(&full, len, SZ_2M, 0,
				      PROT_READ | PROT_WRITE,
				      MAP_PEER_SHARED), "mmap");
		bench_check(madvise(full.p, len, MADV_HUGEPAGE) ? errno : 0,
			    "madvise");
		bench_check(_npu_fill(&npu, full.p, len, 1, NULL), "fill");
		bench_map(&work, PIECES * SZ_2M, MADV_HUGEPAGE,
			  MAP_PEER_SHARED);
		run();
		check_data();
		gmem_unmap(&work);
		gmem_unmap(&full);
	}
	bench_figure(bench_median(latency, SAMPLES), "ns", "p12.median-%s",
		     name);
	bench_figure(latency[SAMPLES * 99 / 100], "ns", "p12.p99-%s", name);
}

int main(void)
{
	bench_attach(&npu);
	measure("half", 50);
	measure("full", 100);
	npu_close(&npu);
	bench_print();
	return 0;
}
