/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The peer: npu-hmm, the driver of the same accelerator without GMEM.
 */
#ifndef PEER_H
#define PEER_H

#include "gmem_util.h"

/* Load npu-hmm, which takes all accelerators that no driver has. */
bool peer_load(void);

/* Give npu-hmm the last accelerator, and leave the others as they are. */
bool peer_bind_last(void);

/* The device that npu-hmm numbers @number, as _npu_open(). */
int _peer_open(struct npu *npu, unsigned int number);

/* Move a range to the device, or home. */
int _peer_prefetch(const struct npu *npu, const void *p, size_t len,
		   bool to_dev);

/*
 * Instructions of a copy of @len bytes alone, with all that waits and maps, and
 * of an invalidation of the device's TLB.
 */
int _peer_copy(const struct npu *npu, size_t len, uint64_t *insn,
	       uint64_t *tlb_insn);

/* Pages of a range that are device-private. */
size_t peer_pages_on_dev(const void *p, size_t len);

/* For peer-test.c: what these functions of gmem_util.c are called there. */
size_t gmem_util_pages_on(const void *p, size_t len, int node);
int gmem_util_smaps(pid_t pid, const void *p, size_t len,
		    struct gmem_smaps *out);

#endif /* PEER_H */
