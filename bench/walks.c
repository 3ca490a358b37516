// SPDX-License-Identifier: GPL-2.0
/*
 * P6: faults of huge pages and of 2 MiB of single pages, for the host to count
 * which functions the kernel enters meanwhile: see scripts/bench-walks.py.
 * What is to be counted lies between two calls of sched_get_priority_min(),
 * which nothing else calls.  Each such window is announced in a line "# window FORMAT FAULTS".
 *
 * Nothing here takes any time that means something.
 */
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

#define PIECES	16
#define LEN	(PIECES * SZ_2M)

static void fault(const struct npu *npu, const char *name, bool peer,
		  int advice)
{
	const char *suffix = advice == MADV_HUGEPAGE ? "" : "-4k";
	struct npu_stats before, after;
	struct gmem_buf buf, other;

	bench_map(&buf, LEN, advice, peer ? 0 : MAP_PEER_SHARED);
	/* The last pages still wait in batches for the LRU lists. */
	bench_map(&other, SZ_64K, MADV_NOHUGEPAGE, 0);
	bench_stats(npu, &before);
	sched_get_priority_min(SCHED_FIFO);
	bench_check(_npu_touch(npu, buf.p, LEN, true, NULL), "GMEM_NPU_TOUCH");
	sched_get_priority_min(SCHED_FIFO);
	bench_stats(npu, &after);
	printf("# window %s.p6.%%s%s %d\n", name, suffix, PIECES);
	bench_expect("bytes",
		     bench_count(&before, &after, NPU_STAT_COPY_TO_DEV), LEN);
	bench_figure((double)bench_count(&before, &after, NPU_STAT_TLBI) /
		     PIECES, "per-fault", "%s.p6.device-flushes%s", name,
		     suffix);
	bench_expect_data(&buf);
	gmem_unmap(&other);
	gmem_unmap(&buf);
}

int main(void)
{
	struct npu npu, peer;

	if (!bench_load_driver() || npu_count() < 2 || !peer_bind_last()) {
		printf("# SKIP not two accelerators with a driver each\n");
		return BENCH_SKIP;
	}
	bench_check(_npu_open(&npu, 0), "/dev/gmem-npu0");
	bench_check(_peer_open(&peer, 0), "/dev/hmm-npu0");
	bench_check(_npu_attach(&npu, 0), "attach");
	bench_check(_npu_attach(&peer, 0), "attach");
	fault(&npu, "gmem", false, MADV_HUGEPAGE);
	fault(&npu, "gmem", false, MADV_NOHUGEPAGE);
	fault(&peer, "hmm", true, MADV_HUGEPAGE);
	fault(&peer, "hmm", true, MADV_NOHUGEPAGE);
	npu_close(&npu);
	npu_close(&peer);
	bench_print();
	return 0;
}
