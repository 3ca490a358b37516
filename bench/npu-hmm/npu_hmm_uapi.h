/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * npu-hmm: the ioctls of /dev/hmm-npuN-move, which the caller's context on
 * /dev/hmm-npuN is found for.
 */
#ifndef NPU_HMM_UAPI_H
#define NPU_HMM_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct npu_hmm_move - move a range of the caller's memory
 * @start: first byte, page aligned
 * @len: bytes, page aligned
 */
struct npu_hmm_move {
	__u64 start;
	__u64 len;
};

/**
 * struct npu_hmm_copy - what the copy of a page alone costs
 * @bytes: how much to copy, at most 2 MiB of memory in one piece
 * @insn: out: instructions for mapping for DMA, the copy engine, the interrupt,
 *        waiting and unmapping
 * @tlb_insn: out: instructions of one invalidation of the device's TLB, which
 *            is waiting for the most part
 */
struct npu_hmm_copy {
	__u64 bytes;
	__u64 insn;
	__u64 tlb_insn;
};

/* ENXIO without a context, ENOMEM for a hole, EINVAL, EINTR, EFAULT. */
#define NPU_HMM_IOC	'H'
#define NPU_HMM_TO_DEV	_IOW(NPU_HMM_IOC, 0x80, struct npu_hmm_move)
#define NPU_HMM_TO_HOST	_IOW(NPU_HMM_IOC, 0x81, struct npu_hmm_move)
#define NPU_HMM_COPY	_IOWR(NPU_HMM_IOC, 0x82, struct npu_hmm_copy)

#endif /* NPU_HMM_UAPI_H */
