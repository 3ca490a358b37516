// SPDX-License-Identifier: GPL-2.0
/*
 * How much is moved, and how often, when nobody says what will be needed: P7,
 * P8 and P9.  These figures are counts of faults and bytes; they do not depend
 * on the clock.
 */
#include <sys/mman.h>

#include "bench.h"

static struct npu npu;

static uint64_t moved(const struct npu_stats *before,
		      const struct npu_stats *after)
{
	return bench_count(before, after, NPU_STAT_COPY_TO_DEV) +
	       bench_count(before, after, NPU_STAT_COPY_FROM_DEV);
}

/* --- P7: faults for 2 MiB of single host pages -------------------------------- */

#define PIECES		8
#define LEN		(PIECES * SZ_2M)
#define PAGES		(LEN / SZ_4K)

/* An order in which to visit one word of each of some pages. */
struct order {
	const char *name;
	size_t stride;		/* bytes */
	bool shuffled;
	size_t keep;		/* one of so many, after they are shuffled */
};

static const struct order orders[] = {
	{ .name = "sequential", .stride = SZ_4K, .keep = 1 },
	{ .name = "stride", .stride = SZ_64K, .keep = 1 },
	{ .name = "random", .stride = SZ_4K, .shuffled = true, .keep = 1 },
	{ .name = "sparse", .stride = SZ_4K, .shuffled = true, .keep = 16 },
};

struct node {
	struct node *next;
	uint64_t value;
};

/*
 * Link the pages in this order.  A list, because the device cannot look ahead
 * in it: it reports one page at a time.  Returns how many there are.
 */
static size_t make_list(const struct order *order, char *p)
{
	static struct node *nodes[PAGES];
	size_t n = LEN / order->stride, i, other;
	uint64_t state = 1;
	struct node *swap;

	for (i = 0; i < n; i++)
		nodes[i] = (struct node *)(p + i * order->stride);
	/* The head of the list stays. */
	for (i = n - 1; order->shuffled && i > 1; i--) {
		other = 1 + gmem_random(&state) % i;
		swap = nodes[i];
		nodes[i] = nodes[other];
		nodes[other] = swap;
	}
	n /= order->keep;
	for (i = 0; i < n; i++) {
		nodes[i]->next = i + 1 < n ? nodes[i + 1] : NULL;
		nodes[i]->value = i * i;
	}
	return n;
}

static void measure_order(const struct order *order)
{
	struct npu_stats before, after;
	struct npu_result result;
	struct gmem_buf buf;
	uint64_t sum = 0;
	size_t n, i;

	bench_map(&buf, LEN, MADV_NOHUGEPAGE, MAP_PEER_SHARED);
	n = make_list(order, buf.p);
	bench_stats(&npu, &before);
	bench_check(_npu_chase(&npu, buf.p, offsetof(struct node, next),
			       offsetof(struct node, value), n, &result),
		    "chase");
	bench_stats(&npu, &after);
	for (i = 0; i < n; i++)
		sum += i * i;
	bench_expect("sum", result.value, sum);
	gmem_unmap(&buf);
	bench_figure((double)result.faults / PIECES, "faults/2MiB",
		     "p7.faults-%s", order->name);
	bench_figure((double)moved(&before, &after) / (n * SZ_4K),
		     "moved/touched", "p7.useless-%s", order->name);
}

/* --- P8: more data than memory ------------------------------------------------ */

#define FRAMES		32		/* of 2 MiB, on the device */
#define BLOCKS		(FRAMES * 3 / 2)
#define CYCLES		6
#define ACCESSES	(CYCLES * BLOCKS)

/*
 * Blocks that come to the device when the one is replaced that is needed last:
 * nobody can do with less who has to have a block there to use it.
 */
static unsigned int optimum(void)
{
	bool here[BLOCKS] = { false };
	unsigned int used = 0, misses = 0, i, b, wait, longest, victim;

	for (i = 0; i < ACCESSES; i++) {
		if (here[i % BLOCKS])
			continue;
		misses++;
		if (used < FRAMES) {
			used++;
			here[i % BLOCKS] = true;
			continue;
		}
		longest = 0;
		victim = 0;
		for (b = 0; b < BLOCKS; b++) {
			wait = (b + BLOCKS - i % BLOCKS) % BLOCKS;
			if (here[b] && wait > longest) {
				longest = wait;
				victim = b;
			}
		}
		here[victim] = false;
		here[i % BLOCKS] = true;
	}
	return misses;
}

static void measure_cycles(void)
{
	struct npu_stats before, after;
	struct gmem_buf buf;
	unsigned int i, misses;
	uint64_t *word;

	bench_check(_gmem_hnode_set(npu.hnid, "limit", FRAMES * SZ_2M),
		    "limit");
	bench_map(&buf, BLOCKS * SZ_2M, MADV_HUGEPAGE, MAP_PEER_SHARED);
	bench_stats(&npu, &before);
	for (i = 0; i < ACCESSES; i++) {
		word = (uint64_t *)(buf.p + i % BLOCKS * SZ_2M);
		bench_check(_npu_atomic_add(&npu, word, 1, 1, NULL), "job");
	}
	bench_stats(&npu, &after);
	for (i = 0; i < BLOCKS; i++) {
		word = (uint64_t *)(buf.p + i * SZ_2M);
		*word -= CYCLES;
	}
	bench_expect_data(&buf);
	gmem_unmap(&buf);
	bench_check(_gmem_hnode_set(npu.hnid, "limit", npu.mem_size), "limit");

	misses = optimum();
	bench_figure(moved(&before, &after) / SZ_1M, "MiB", "p8.bytes");
	/* What came and is not there at the end has gone. */
	bench_figure((2 * misses - FRAMES) * SZ_2M / SZ_1M, "MiB",
		     "p8.optimum");
}

/* --- P9: a page that both want ------------------------------------------------ */

#define ROUNDS		64

static void measure_ping_pong(void)
{
	struct npu_stats before, after;
	volatile uint64_t *word;
	struct gmem_buf buf;
	uint64_t value;
	int i;

	bench_map(&buf, SZ_4K, MADV_NOHUGEPAGE, MAP_PEER_SHARED);
	word = (volatile uint64_t *)buf.p;
	value = *word;
	bench_stats(&npu, &before);
	for (i = 0; i < ROUNDS; i++) {
		bench_check(_npu_atomic_add(&npu, (uint64_t *)buf.p, 1, 1,
					    NULL), "job");
		++*word;
	}
	bench_stats(&npu, &after);
	bench_expect("sum", *word - value, 2 * ROUNDS);
	gmem_unmap(&buf);
	bench_figure(moved(&before, &after) / SZ_4K, "moves", "p9.moves");
	bench_figure(2 * ROUNDS, "moves", "p9.uncontrolled");
}

int main(void)
{
	size_t i;

	bench_attach(&npu);
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		measure_order(&orders[i]);
	measure_cycles();
	measure_ping_pong();
	npu_close(&npu);
	bench_print();
	return 0;
}
