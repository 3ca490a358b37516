/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gmem-npu: registers, descriptors and page-table format.
 *
 * This header is the machine-readable half of the hardware specification,
 * Documentation/gmem/hardware.rst.  The device model, its tests and the driver
 * include this one file, so it has macros only and needs no other header.
 *
 * All registers are 64 bits wide and little endian; a 32-bit access to either
 * half is allowed.  "DMA address" is an address on the device's side of the
 * IOMMU, "local address" an offset into the local memory (BAR 2).
 */
#ifndef GMEM_NPU_REGS_H
#define GMEM_NPU_REGS_H

#define NPU_PCI_VENDOR			0x1234
#define NPU_PCI_DEVICE			0x6e70
#define NPU_PCI_CLASS			0x1200	/* processing accelerator */

#define NPU_BAR_REGS			0
#define NPU_BAR_MEM			2	/* 64-bit, prefetchable */
#define NPU_BAR_MSIX			4
#define NPU_BAR_REGS_SIZE		0x10000

/* MSI-X vectors. Queue q (compute and copy numbered together) has 2 + q. */
#define NPU_VEC_FAULT			0
#define NPU_VEC_ERROR			1
#define NPU_VEC_QUEUE(q)		(2 + (q))

/* --- global ------------------------------------------------------------- */

#define NPU_REG_ID			0x0000
#define  NPU_ID_MAGIC			0x474d454d	/* bits 31:0, "GMEM" */
#define  NPU_ID_VERSION(id)		(((id) >> 32) & 0xffff)
#define  NPU_VERSION			1
#define NPU_REG_CAPS			0x0008
#define  NPU_CAPS_COMPUTE(c)		((c) & 0xff)		/* queues */
#define  NPU_CAPS_COPY(c)		(((c) >> 8) & 0xff)	/* queues */
#define  NPU_CAPS_CONTEXTS(c)		(((c) >> 16) & 0xffff)
#define  NPU_CAPS_VA_BITS(c)		(((c) >> 32) & 0xff)
#define NPU_REG_MEM_SIZE		0x0010
#define NPU_REG_CTRL			0x0018
#define  NPU_CTRL_ENABLE		(1ULL << 0)
#define  NPU_CTRL_RESET			(1ULL << 1)	/* reads 0 when done */
#define NPU_REG_STATUS			0x0020
#define  NPU_STATUS_DEAD		(1ULL << 0)	/* gone until reset */
#define  NPU_STATUS_TLBI_BUSY		(1ULL << 1)
#define NPU_REG_INSN			0x0028	/* raw instructions executed */
#define NPU_REG_TIME			0x0030	/* virtual clock, ns */
#define NPU_REG_ERROR			0x0038	/* why VEC_ERROR, write 1 clears */
#define  NPU_ERROR_BUS			(1ULL << 0)	/* DMA was refused */
#define  NPU_ERROR_DESC			(1ULL << 1)	/* malformed descriptor */
#define  NPU_ERROR_ECC			(1ULL << 2)	/* local memory */
#define  NPU_ERROR_FAULTQ		(1ULL << 3)	/* fault queue overflow */
#define NPU_REG_ERROR_ADDR		0x0040	/* address of the last error */

/* --- replayable faults --------------------------------------------------- */

#define NPU_REG_FAULTQ_BASE		0x0100	/* DMA address, 4 KiB aligned */
#define NPU_REG_FAULTQ_SIZE		0x0108	/* records, a power of two */
#define NPU_REG_FAULTQ_HEAD		0x0110	/* free running, written by driver */
#define NPU_REG_FAULTQ_TAIL		0x0118	/* free running, by the device */
#define NPU_REG_FAULT_RESP		0x0120	/* one response a write */
#define  NPU_RESP_REPLAY		(0ULL << 0)	/* translate again */
#define  NPU_RESP_ABORT			(1ULL << 0)	/* end the job, see ERRNO */
#define  NPU_RESP_QUEUE(q)		((__NPU_U64(q) & 0xff) << 8)
#define  NPU_RESP_ALL			(1ULL << 16)	/* every stalled queue */
#define  NPU_RESP_ERRNO(e)		((__NPU_U64(e) & 0xffff) << 32)

/* A fault record is 4 words; it is valid when its phase is right. */
#define NPU_FAULT_WORDS			4
#define NPU_FAULT_W_ADDR		0	/* faulting VA, page aligned */
#define NPU_FAULT_W_INFO		1
#define  NPU_FAULT_PHASE		(1ULL << 0)	/* 1 in the first lap, then 0 */
#define  NPU_FAULT_WRITE		(1ULL << 1)
#define  NPU_FAULT_PROT			(1ULL << 2)	/* present, not permitted */
#define  NPU_FAULT_CTX(i)		(((i) >> 16) & 0xffff)
#define  NPU_FAULT_QUEUE(i)		(((i) >> 32) & 0xff)
#define NPU_FAULT_W_TIME		2	/* virtual clock at the fault, ns */
#define NPU_FAULT_W_FENCE		3	/* fence value of the job */

/* --- TLB invalidation by register ---------------------------------------- */

#define NPU_REG_TLBI_START		0x0200	/* VA, inclusive */
#define NPU_REG_TLBI_END		0x0208	/* VA, exclusive; ~0 is the end */
#define NPU_REG_TLBI_GO			0x0210	/* write a context to queue one */
#define NPU_REG_TLBI_QUEUED		0x0218	/* invalidations ever queued */
#define NPU_REG_TLBI_DONE		0x0220	/* invalidations ever completed */
/* Up to this many may be outstanding; one more is dropped with ERROR_DESC. */
#define NPU_TLBI_DEPTH			64

/* --- error injection ------------------------------------------------------ */

#define NPU_REG_INJECT_ARG		0x0300
#define NPU_REG_INJECT			0x0308	/* write one of: */
#define  NPU_INJECT_NONE		0	/* clear all that is armed */
#define  NPU_INJECT_COPY_FAIL		1	/* the ARG-th copy command fails */
#define  NPU_INJECT_JOB_FAIL		2	/* the ARG-th job fails */
#define  NPU_INJECT_ECC			3	/* local page at ARG is bad */
#define  NPU_INJECT_HANG		4	/* queue ARG stops for good */
#define  NPU_INJECT_REMOVE		5	/* the device dies now */

/* --- statistics: read only, cleared by a write of any value to STAT_CLEAR - */

#define NPU_REG_STAT_CLEAR		0x0400
#define NPU_REG_STAT(n)			(0x0408 + 8 * (n))
#define  NPU_STAT_TRANSLATIONS		0
#define  NPU_STAT_TLB_HITS		1
#define  NPU_STAT_STALE_HITS		2	/* a walk would have disagreed */
#define  NPU_STAT_WALKS			3
#define  NPU_STAT_FAULTS		4	/* records written */
#define  NPU_STAT_FAULT_DROPS		5	/* records lost to overflow */
#define  NPU_STAT_REPLAYS		6
#define  NPU_STAT_TLBI			7
#define  NPU_STAT_JOBS			8
#define  NPU_STAT_COPIES		9	/* copy-queue data commands */
#define  NPU_STAT_DMA_DESCS		10	/* segments moved over the link */
#define  NPU_STAT_COPY_TO_DEV		11	/* bytes, copy engines */
#define  NPU_STAT_COPY_FROM_DEV		12	/* bytes, copy engines */
#define  NPU_STAT_COPY_LOCAL		13	/* bytes, copy engines */
#define  NPU_STAT_JOB_HOST_READ		14	/* bytes, compute over the link */
#define  NPU_STAT_JOB_HOST_WRITE	15
#define  NPU_STAT_JOB_LOCAL_READ	16
#define  NPU_STAT_JOB_LOCAL_WRITE	17
#define  NPU_STAT_IRQS			18
#define  NPU_STAT_LINK_NS		19	/* time the link moved copy bytes */
#define  NPU_STAT_STALL_NS		20	/* from faults to their answers */
#define  NPU_STAT_NR			21

/* --- queues --------------------------------------------------------------- */

/* Compute queues come first, then copy queues. */
#define NPU_QUEUE(q)			(0x1000 + (q) * 0x40)
#define NPU_Q_BASE			0x00	/* DMA address, 4 KiB aligned */
#define NPU_Q_SIZE			0x08	/* descriptors, a power of two */
#define NPU_Q_CTRL			0x10
#define  NPU_Q_ENABLE			(1ULL << 0)	/* 1: HEAD = TAIL = 0 */
#define NPU_Q_HEAD			0x18	/* descriptors ever retired */
#define NPU_Q_TAIL			0x20	/* doorbell: descriptors ever queued */
#define NPU_Q_STATUS			0x28
#define  NPU_Q_RUNNING			(1ULL << 0)
#define  NPU_Q_STALLED			(1ULL << 1)	/* waits for FAULT_RESP */
#define  NPU_Q_HUNG			(1ULL << 2)
#define NPU_MAX_QUEUES			32

/* --- contexts -------------------------------------------------------------- */

#define NPU_CTX(c)			(0x4000 + (c) * 0x10)
#define NPU_CTX_ROOT			0x00	/* local address | valid */
#define  NPU_CTX_VALID			(1ULL << 0)
#define NPU_CTX_KILL			0x08	/* write: abort its jobs; */
						/* reads 0 once none is left */
#define NPU_MAX_CONTEXTS		256

/* --- page tables: 4 levels of 512 entries in local memory ------------------ */

#define NPU_VA_BITS			48
#define NPU_PT_LEVELS			4	/* level 3 is the root */
#define NPU_PT_ENTRIES			512
#define NPU_PT_SHIFT(level)		(12 + 9 * (level))
#define NPU_PTE_V			(1ULL << 0)
#define NPU_PTE_W			(1ULL << 1)
#define NPU_PTE_SYS			(1ULL << 2)	/* a DMA address, not local */
#define NPU_PTE_A			(1ULL << 3)	/* set by the device */
#define NPU_PTE_D			(1ULL << 4)	/* set by the device */
#define NPU_PTE_LEAF			(1ULL << 5)	/* at level 1: a 2 MiB page */
#define NPU_PTE_64K			(1ULL << 6)	/* one of 16 alike, level 0 */
#define NPU_PTE_FRAME			0x000ffffffffff000ULL

/* --- descriptors: 8 words --------------------------------------------------- */

#define NPU_DESC_WORDS			8
#define NPU_DESC_SIZE			64
#define NPU_DESC_W_OP			0
#define  NPU_DESC_OP(w)			((w) & 0xff)
#define  NPU_DESC_FLAGS(w)		(((w) >> 8) & 0xff)
#define  NPU_DESC_CTX(w)		(((w) >> 16) & 0xffff)
#define  NPU_DESC(op, flags, ctx)	(__NPU_U64(op) | \
					 __NPU_U64(flags) << 8 | \
					 __NPU_U64(ctx) << 16)
#define NPU_DESC_W_ARG(n)		(1 + (n))	/* n is 0 to 4 */
#define NPU_DESC_W_FENCE_ADDR		6	/* DMA address or 0 */
#define NPU_DESC_W_FENCE		7	/* value to write there */

#define NPU_F_IRQ			0x01	/* interrupt after the fence */
#define NPU_F_SRC_LOCAL			0x02	/* copy queues: local address */
#define NPU_F_DST_LOCAL			0x04
#define NPU_F_ORDER_SKIP		0x08	/* skip if an earlier one failed */

/* A completion is 4 words at the fence address, the fence value written last. */
#define NPU_DONE_WORDS			4
#define NPU_DONE_W_FENCE		0
#define NPU_DONE_W_STATUS		1	/* 0 or a positive errno */
#define NPU_DONE_W_RESULT		2
#define NPU_DONE_W_FAULTS		3	/* faults the job took */

/* Any queue. */
#define NPU_OP_NOP			0x00

/*
 * Copy queues.  Commands of one queue run in order; queues run in parallel
 * and share the link.  They never wait for a compute queue or for a fault.
 */
#define NPU_OP_COPY			0x10	/* src, dst, bytes */
#define NPU_OP_COPY_SG			0x11	/* list, local, segments: the */
						/* list is {DMA address, bytes} */
						/* pairs; DST_LOCAL gathers, */
						/* SRC_LOCAL scatters */
#define NPU_OP_ZERO			0x12	/* dst, bytes */
#define NPU_OP_PTE_WRITE		0x13	/* local, value, count, step: */
						/* pte[i] = value + i * step */
#define NPU_OP_TLB_INVL			0x14	/* start, end */
#define NPU_OP_REPLAY			0x15	/* replay every stalled queue */

/* Compute queues: every address is a VA of the descriptor's context. */
#define NPU_OP_FILL			0x20	/* dst, bytes, 64-bit pattern */
#define NPU_OP_MEMCPY			0x21	/* dst, src, bytes */
#define NPU_OP_AXPY			0x22	/* y, x, n, float a: y += a * x */
#define NPU_OP_MATMUL			0x23	/* C, A, B, NPU_DIM(m, n, k), ld: */
						/* C[m,n] = A[m,k] B[k,n], float, */
						/* row major, k ascending; ld is */
						/* 0 (dense) */
#define NPU_OP_REDUCE			0x24	/* src, n: sum of u64 -> result */
#define NPU_OP_HISTOGRAM		0x25	/* u64 dst[256], src, bytes: += */
#define NPU_OP_CHASE			0x26	/* node, next, value, max nodes: */
						/* byte offsets; sum of the u64 */
						/* values -> result, NULL ends */
#define NPU_OP_GATHER			0x27	/* u64 dst, src, u64 index, n: */
						/* dst[i] = src[index[i]] */
#define NPU_OP_SCATTER			0x28	/* u64 dst, src, u64 index, n: */
						/* dst[index[i]] = src[i] */
#define NPU_OP_ATOMIC_ADD		0x29	/* u64 *p, addend, times: old */
						/* value of the last -> result */

#define NPU_DIM(m, n, k)		(__NPU_U64(m) | __NPU_U64(n) << 20 | \
					 __NPU_U64(k) << 40)
#define NPU_DIM_M(d)			((d) & 0xfffff)
#define NPU_DIM_N(d)			(((d) >> 20) & 0xfffff)
#define NPU_DIM_K(d)			(((d) >> 40) & 0xfffff)

#define __NPU_U64(x)			((unsigned long long)(x))

#endif /* GMEM_NPU_REGS_H */
