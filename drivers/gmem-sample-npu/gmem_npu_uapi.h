/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * gmem-npu sample driver: the ioctls of /dev/gmem-npuN.
 *
 * A file is one context: GMEM_NPU_ATTACH binds it to the caller's address
 * space, jobs then name plain virtual addresses of that address space.  Every
 * structure starts with its own size; reserved fields must be zero.
 *
 * errno: EINVAL an argument is wrong, EFAULT a pointer is, ENOTTY no such
 * ioctl, ENXIO not attached, EBUSY attached already, EPERM the caller's
 * address space is not the attached one, or it lacks a capability, EAGAIN too
 * many jobs wait to be collected, ENOSPC no hardware context is free, ENODEV
 * the device is gone.
 */
#ifndef GMEM_NPU_UAPI_H
#define GMEM_NPU_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct gmem_npu_info - what the device is
 * @size: sizeof(struct gmem_npu_info)
 * @hnid: out: the hnode id of its memory, for hmadvise()
 * @mem_size: out: bytes of memory that GMEM manages
 * @nr_queues: out: compute queues
 * @flags: out: 0
 */
struct gmem_npu_info {
	__u32 size;
	__s32 hnid;
	__u64 mem_size;
	__u32 nr_queues;
	__u32 flags;
};

#define GMEM_NPU_ATTACH_STRICT	0x1	/* only peer-shared memory */

/**
 * struct gmem_npu_attach - bind the file to the caller's address space
 * @size: sizeof(struct gmem_npu_attach)
 * @flags: GMEM_NPU_ATTACH_*
 */
struct gmem_npu_attach {
	__u32 size;
	__u32 flags;
};

/**
 * struct gmem_npu_submit - queue one job
 * @size: sizeof(struct gmem_npu_submit)
 * @op: a compute NPU_OP_*
 * @queue: compute queue, or ~0 for any
 * @flags: must be 0
 * @args: the operation's arguments, as gmem_npu_regs.h has them
 * @seqno: out: identifies the job in GMEM_NPU_WAIT
 */
struct gmem_npu_submit {
	__u32 size;
	__u32 op;
	__u32 queue;
	__u32 flags;
	__u64 args[5];
	__u64 seqno;
};

/**
 * struct gmem_npu_wait - wait for a job and collect its result
 * @size: sizeof(struct gmem_npu_wait)
 * @status: out: 0, or the errno the job failed with, positive: EFAULT for a
 *          hole or PROT_NONE, EPERM for a write to a read-only range, EIO for
 *          a device error or a reset, ENODEV when the device died, ECANCELED
 *          when the context was torn down
 * @seqno: from GMEM_NPU_SUBMIT; a job can be collected once
 * @timeout_ns: relative; 0 polls (EAGAIN when not done), ~0 waits for ever,
 *          otherwise ETIMEDOUT
 * @result: out: what the operation returns
 * @faults: out: page faults the job took
 */
struct gmem_npu_wait {
	__u32 size;
	__s32 status;
	__u64 seqno;
	__u64 timeout_ns;
	__u64 result;
	__u64 faults;
};

/**
 * struct gmem_npu_stats - counters of the device
 * @size: sizeof(struct gmem_npu_stats)
 * @nr: in: entries of @counters to fill from 0; out: how many there are
 * @insn: out: instructions the machine has executed (exact under icount)
 * @time_ns: out: virtual clock
 * @ctx_faults: out: faults of this context that were answered
 * @ctx_jobs: out: jobs of this context that ended
 * @counters: in: pointer to __u64 entries, indexed by NPU_STAT_*
 */
struct gmem_npu_stats {
	__u32 size;
	__u32 nr;
	__u64 insn;
	__u64 time_ns;
	__u64 ctx_faults;
	__u64 ctx_jobs;
	__u64 counters;
};

/**
 * struct gmem_npu_inject - make the hardware fail, for tests
 * @size: sizeof(struct gmem_npu_inject)
 * @what: NPU_INJECT_*
 * @arg: as gmem_npu_regs.h has it; for NPU_INJECT_ECC a virtual address of
 *       the caller that is on this device now
 *
 * Needs CAP_SYS_ADMIN.
 */
struct gmem_npu_inject {
	__u32 size;
	__u32 what;
	__u64 arg;
};

/**
 * struct gmem_npu_touch - fault addresses as the device would, without a job
 * @size: sizeof(struct gmem_npu_touch)
 * @write: fault for writing
 * @start: first byte
 * @len: bytes
 * @done: out: bytes from @start that are mapped for the device now
 *
 * Fails with what a job would fail with.
 */
struct gmem_npu_touch {
	__u32 size;
	__u32 write;
	__u64 start;
	__u64 len;
	__u64 done;
};

#define GMEM_NPU_IOC	'G'
#define GMEM_NPU_INFO	_IOWR(GMEM_NPU_IOC, 0x80, struct gmem_npu_info)
#define GMEM_NPU_ATTACH	_IOW(GMEM_NPU_IOC, 0x81, struct gmem_npu_attach)
#define GMEM_NPU_DETACH	_IO(GMEM_NPU_IOC, 0x82)
#define GMEM_NPU_SUBMIT	_IOWR(GMEM_NPU_IOC, 0x83, struct gmem_npu_submit)
#define GMEM_NPU_WAIT	_IOWR(GMEM_NPU_IOC, 0x84, struct gmem_npu_wait)
#define GMEM_NPU_STATS	_IOWR(GMEM_NPU_IOC, 0x85, struct gmem_npu_stats)
#define GMEM_NPU_INJECT	_IOW(GMEM_NPU_IOC, 0x86, struct gmem_npu_inject)
#define GMEM_NPU_TOUCH	_IOWR(GMEM_NPU_IOC, 0x87, struct gmem_npu_touch)

#endif /* GMEM_NPU_UAPI_H */
