// SPDX-License-Identifier: GPL-2.0
/*
 * What lets the selftests run on npu-hmm: the functions of gmem_util.c that go
 * by GMEM's interfaces, on what there is without them.  gmem_util.c is compiled
 * with other names for them, see the Makefile.
 */
#include <errno.h>
#include <limits.h>
#include <sys/mman.h>

#include "bench.h"
#include "peer.h"

/* All devices are npu-hmm's. */
static void __attribute__((constructor)) load(void)
{
	if (!peer_load())
		bench_die("there is no npu-hmm");
}

static int prefetch(int hnid, const void *p, size_t len)
{
	unsigned int target = INT_MAX - hnid, count = npu_count(), i;
	struct npu npu;
	int err = 0;

	/* Whoever else has it gives it back: pages only move to or from. */
	for (i = 0; i < count && !err; i++) {
		npu.number = i;
		if (hnid >= GMEM_FIRST_HNID && i == target)
			continue;
		err = _peer_prefetch(&npu, p, len, false);
		if (err == ENXIO)
			err = 0;
	}
	npu.number = target;
	if (!err && hnid >= GMEM_FIRST_HNID)
		err = _peer_prefetch(&npu, p, len, true);
	return err;
}

int _hmadvise(int hnid, const void *start, size_t len, int behavior)
{
	switch (behavior) {
	case HMADV_SHARE:
		return 0;
	case HMADV_PREFETCH:
		return prefetch(hnid, start, len);
	case HMADV_DISCARD:
		return madvise((void *)start, len, MADV_DONTNEED) ? errno : 0;
	default:
		return EOPNOTSUPP;
	}
}

size_t gmem_pages_on(const void *p, size_t len, int node)
{
	if (node >= GMEM_FIRST_HNID)
		return peer_pages_on_dev(p, len);
	return gmem_util_pages_on(p, len, node);
}

/* smaps has device-private pages among the resident ones. */
int _gmem_smaps(pid_t pid, const void *p, size_t len, struct gmem_smaps *out)
{
	int err = gmem_util_smaps(pid, p, len, out);

	if (!err && !pid) {
		out->device = peer_pages_on_dev(p, len) * SZ_4K;
		out->rss -= out->device;
	}
	return err;
}

/* A page that is left would keep the module from being unloaded. */
bool gmem_hnodes_idle(void)
{
	return true;
}
