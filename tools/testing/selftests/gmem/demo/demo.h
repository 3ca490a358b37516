/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the demos have in common: a device that the process is attached to, and
 * a stopwatch that counts what the device did.
 */
#ifndef GMEM_DEMO_H
#define GMEM_DEMO_H

#include "../gmem_util.h"

struct demo {
	struct npu npu;
	const char *file;	/* for the demo that reads one */
	/* The row of the table. */
	size_t bytes;
	uint64_t faults;
	uint64_t to_device;
	uint64_t to_host;
	uint64_t time_ns;
	uint64_t link_ns;
	/* Since demo_start(). */
	struct npu_stats start;
};

/*
 * Count from here to demo_stop(): the device's work and the way home of its
 * results, not the CPU's own computation of what they must be.
 */
int demo_start(struct demo *demo);
int demo_stop(struct demo *demo);

/* Memory that the device shares, or NULL with a message. */
void *demo_map(struct demo *demo, size_t len);

/* Say what went wrong and return 1; @err is an errno or 0. */
int demo_fail(const char *what, int err);

/* Each returns 0 when every byte was right. */
int demo_matmul(struct demo *demo);
int demo_list(struct demo *demo);
int demo_histogram(struct demo *demo);
int demo_oversubscribe(struct demo *demo);

#endif /* GMEM_DEMO_H */
