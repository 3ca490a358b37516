/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gmem-npu sample driver: what its files share.
 *
 *   gmem.c   all that GMEM sees of the driver apart from its operations
 *   mmu.c    the operations: page tables, TLB
 *   copy.c   the copy operation and the copy engines behind it
 *   fault.c  from the fault queue to gm_dev_fault_batch() and back
 *   job.c    compute queues
 *   queue.c  what compute and copy queues have in common, and the watchdog
 *   hw.c     registers: start, stop, reset, TLB invalidation, errors
 *   cdev.c   /dev/gmem-npuN
 *   fail.c   operations that fail on request, for tests
 *   pci.c    probe and remove
 *
 * Locks, outermost first:
 *
 *   npu->files_lock
 *     file->sem                 read: an ioctl uses context and device;
 *                               write: attach, detach, removal
 *       (the mmap lock, GMEM's locks, and under those:)
 *         pmap->prepare_lock    pmap_prepare only; allocates
 *           npu->tables_lock
 *         gm_context.map_lock   GMEM's; around the page table's
 *                               operations in mmu.c
 *         engine->submit        around one call of copy
 *           npu->reset_lock     nothing is allocated under it
 *             npu->tlbi_lock
 *             npu->faultq_lock  this one and below: in interrupts
 *               queue->lock
 *                 file->job_lock
 *
 * No lock is held across gm_dev_fault() or gm_dev_fault_batch() but file->sem,
 * which no operation takes.
 */
#ifndef GMEM_NPU_H
#define GMEM_NPU_H

#include <linux/atomic.h>
#include <linux/fault-inject.h>
#include <linux/gmem.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "gmem_npu_regs.h"
#include "gmem_npu_uapi.h"

/* Of the driver and, with a number behind it, of the device files. */
#ifndef NPU_NAME
#define NPU_NAME	"gmem-npu"
#endif

struct npu;
struct npu_file;

/* Events that the driver counts; names in pci.c. */
enum npu_count {
	NPU_COUNT_BUS_ERRORS,
	NPU_COUNT_DESC_ERRORS,
	NPU_COUNT_ECC_ERRORS,
	NPU_COUNT_FAULTQ_OVERFLOWS,
	NPU_COUNT_COPY_ERRORS,
	NPU_COUNT_QUEUE_HANGS,
	NPU_COUNT_DEVICE_RESETS,
	NPU_NR_COUNTS
};

/**
 * struct npu_ctx - a hardware context, bound to an address space
 * @npu: the device
 * @as: GMEM's address space
 * @gm: GMEM's context
 * @mm: compared with the caller's, never used; holds a reference
 * @id: hardware context, from pmap_create to pmap_destroy
 * @slots: one for each compute queue
 * @faulting: queues whose faults are being served for this context
 * @faults: faults answered
 * @jobs: jobs ended
 */
struct npu_ctx {
	struct npu *npu;
	struct gm_as *as;
	struct gm_context *gm;
	struct mm_struct *mm;
	unsigned int id;
	struct npu_fault_slot *slots;
	atomic_t faulting;
	atomic64_t faults;
	atomic64_t jobs;
};

/**
 * struct npu_job - one command for a compute queue
 * @link: in npu_file.jobs until the result was collected
 * @queued: in npu_compute.waiting until it runs
 * @file: who collects the result
 * @ctx: whose addresses it uses; valid until it ended
 * @seqno: its name in user space
 * @fence: its name in the hardware, while it runs
 * @op: NPU_OP_*
 * @args: operands
 * @ended: the members below are valid; file->job_lock
 * @status: positive errno or 0
 * @result: what the operation returned
 * @faults: page faults that it took
 */
struct npu_job {
	struct list_head link;
	struct list_head queued;
	struct npu_file *file;
	struct npu_ctx *ctx;
	u64 seqno;
	u64 fence;
	u32 op;
	u64 args[5];
	bool ended;
	int status;
	u64 result;
	u64 faults;
};

/**
 * struct npu_queue - a ring of descriptors and the completions beside it
 * @npu: the device
 * @nr: hardware queue
 * @size: descriptors in the ring, a power of two
 * @lock: protects everything below it; taken in interrupts
 * @stopped: nothing may be queued: not started, in reset, or dead
 * @ring: descriptors
 * @done: completions, one for each descriptor
 * @dma: DMA address of @ring; @done follows it
 * @head: descriptors completed since the last start
 * @tail: descriptors queued since the last start
 * @base: the fence of descriptor n is @base + n + 1: no value comes twice
 * @progress: when @head last moved or the ring was last empty, in jiffies
 * @end: called for each completed descriptor, with @lock held
 */
struct npu_queue {
	struct npu *npu;
	unsigned int nr;
	unsigned int size;
	spinlock_t lock;	/* everything below */
	bool stopped;
	__le64 *ring;
	__le64 *done;
	dma_addr_t dma;
	u64 head;
	u64 tail;
	u64 base;
	unsigned long progress;
	void (*end)(struct npu_queue *q, unsigned int slot, int status,
		    u64 result, u64 faults);
};

/* Faults of one stalled queue that are served together. */
#define NPU_MAX_FAULTS		128

/**
 * struct npu_fault_slot - the faults of one context on one compute queue
 * @c: compute queue
 * @ctx: context
 * @work: serves a batch: these faults and those of followers
 * @link: in the list of the drain, or in the leader's @batch
 * @batch: slots that @work answers, this one last
 * @fence: the stalled job
 * @busy: from the first record to the answer; queue lock
 * @open: records may be added; queue lock
 * @missed: a record came that could not be added; queue lock
 * @nr: number of @record
 * @record: faulting addresses, bit 0 set for writes
 * @nr_faults: number of @fault
 * @fault: the faults of the whole batch
 */
struct npu_fault_slot {
	struct npu_compute *c;
	struct npu_ctx *ctx;
	struct work_struct work;
	struct list_head link;
	struct list_head batch;
	u64 fence;
	bool busy;
	bool open;
	bool missed;
	unsigned int nr;
	u64 record[NPU_MAX_FAULTS];
	unsigned int nr_faults;
	struct gm_fault fault[NPU_MAX_FAULTS];
};

/**
 * struct npu_compute - a compute queue
 * @q: the ring; one job at a time is in it
 * @job: that job, or NULL; queue lock
 * @waiting: jobs that run after it; queue lock
 * @load: @job and @waiting counted
 */
struct npu_compute {
	struct npu_queue q;
	struct npu_job *job;
	struct list_head waiting;
	unsigned int load;
};

#define NPU_COPY_RING		64	/* commands in flight per engine */
#define NPU_COPY_IRQ_EVERY	16	/* a full ring makes progress by these */
#define NPU_COPY_SEGS		512	/* pieces of host memory per command */

/**
 * struct npu_copy_cmd - the driver's side of one command of a copy engine
 * @fence: signalled when the command ended, or NULL
 * @bytes: how much it moves
 */
struct npu_copy_cmd {
	struct gm_fence *fence;
	u64 bytes;
};

/**
 * struct npu_engine - a copy engine
 * @q: the ring
 * @submit: held while one batch is put into the ring
 * @lists: NPU_COPY_SEGS pieces for each descriptor of the ring
 * @lists_dma: DMA address of @lists
 * @cmd: for each descriptor of the ring; queue lock
 * @error: first error of the batch that is completing; queue lock
 * @load: bytes queued and not yet moved
 * @room: woken when descriptors were completed or @q starts or dies
 */
struct npu_engine {
	struct npu_queue q;
	struct mutex submit;	/* one batch at a time */
	__le64 *lists;
	dma_addr_t lists_dma;
	struct npu_copy_cmd cmd[NPU_COPY_RING];
	int error;
	u64 load;
	wait_queue_head_t room;
};

/**
 * struct npu - a device
 * @ref: one for the driver's binding, one for each open file
 * @pdev: PCI device; not used after remove()
 * @id: N of /dev/gmem-npuN
 * @regs: registers
 * @name: of the device file
 * @misc: the device file
 * @gdev: GMEM's device
 * @hnid: hnode of its memory
 * @mem_size: bytes of local memory that GMEM manages, from 0
 * @tables: the rest of the local memory, which holds page tables
 * @tables_base: local address of @tables
 * @nr_tables: how many fit
 * @tables_own: how many each context can have for sure
 * @tables_free: how many of the others are free; tables_lock
 * @tables_used: bitmap
 * @tables_hint: where to look for the next free one
 * @tables_lock: protects @tables_free, @tables_used and @tables_hint
 * @nr_compute: compute queues
 * @nr_engines: copy queues, numbered after the compute queues
 * @nr_contexts: hardware contexts
 * @compute: compute queues
 * @engine: copy engines
 * @ctx_ids: hardware contexts in use
 * @root: NPU_CTX_ROOT of each context; reset_lock
 * @reset_lock: one reset at a time
 * @resets: resets that were done; reset_lock to write
 * @dead: nothing is to be expected of the hardware any more; never unset
 * @tlbi_lock: protects the invalidation registers and the members below
 * @tlbi_off: the hardware is in reset or dead, nothing is cached
 * @tlbi_queued: invalidations ever asked for
 * @tlbi_known: how many of these are known to be done
 * @tlbi_base: @tlbi_queued at the last reset
 * @faultq: fault records
 * @faultq_dma: DMA address of @faultq
 * @faultq_size: number of records, a power of two
 * @faultq_head: records taken since the last reset; faultq_lock
 * @faultq_lock: one reader of the fault queue at a time
 * @wq: serves faults
 * @fault_wait: woken when a context's faults have been served
 * @watchdog: finds what does not complete
 * @inject_lock: the two registers of error injection
 * @files_lock: protects @files and @gone
 * @files: open files
 * @gone: the driver was unbound; file->sem to read
 * @counts: events
 */
struct npu {
	struct kref ref;
	struct pci_dev *pdev;
	int id;
	void __iomem *regs;
	char name[24];
	struct miscdevice misc;

	struct gm_dev *gdev;
	int hnid;
	u64 mem_size;

	void __iomem *tables;
	u64 tables_base;
	unsigned int nr_tables;
	unsigned int tables_own;
	unsigned int tables_free;
	unsigned long *tables_used;
	unsigned int tables_hint;
	spinlock_t tables_lock;	/* of what is free */

	unsigned int nr_compute;
	unsigned int nr_engines;
	unsigned int nr_contexts;
	struct npu_compute *compute;
	struct npu_engine *engine;

	struct ida ctx_ids;
	u64 root[NPU_MAX_CONTEXTS];
	struct mutex reset_lock;	/* one reset at a time */
	unsigned int resets;
	bool dead;

	spinlock_t tlbi_lock;	/* registers and tlbi_* */
	bool tlbi_off;
	u64 tlbi_queued;
	u64 tlbi_known;
	u64 tlbi_base;

	__le64 *faultq;
	dma_addr_t faultq_dma;
	unsigned int faultq_size;
	u64 faultq_head;
	spinlock_t faultq_lock;	/* one reader at a time */
	struct workqueue_struct *wq;
	wait_queue_head_t fault_wait;

	struct delayed_work watchdog;
	struct mutex inject_lock;	/* two registers */

	struct mutex files_lock;	/* files, gone */
	struct list_head files;
	bool gone;

	atomic_t counts[NPU_NR_COUNTS];
};

extern unsigned int npu_timeout_ms;

static inline u64 npu_read(const struct npu *npu, unsigned int reg)
{
	return readq(npu->regs + reg);
}

static inline void npu_write(struct npu *npu, unsigned int reg, u64 val)
{
	writeq(val, npu->regs + reg);
}

static inline void npu_count(struct npu *npu, enum npu_count what)
{
	atomic_inc(&npu->counts[what]);
}

static inline struct npu_compute *npu_to_compute(struct npu_queue *q)
{
	return container_of(q, struct npu_compute, q);
}

static inline struct npu_engine *npu_to_engine(struct npu_queue *q)
{
	return container_of(q, struct npu_engine, q);
}

static inline struct npu_queue *npu_queue(struct npu *npu, unsigned int nr)
{
	return nr < npu->nr_compute ? &npu->compute[nr].q :
	       &npu->engine[nr - npu->nr_compute].q;
}

static inline unsigned int npu_nr_queues(const struct npu *npu)
{
	return npu->nr_compute + npu->nr_engines;
}

/* gmem.c */
int npu_gmem_init(struct npu *npu);
void npu_gmem_exit(struct npu *npu);
int npu_gmem_attach(struct npu_ctx *ctx, unsigned int flags);
void npu_gmem_detach(struct npu_ctx *ctx);
void npu_gmem_serve(struct npu_ctx *ctx, struct gm_fault *faults,
		    unsigned int nr);
int npu_gmem_touch(struct npu_ctx *ctx, unsigned long addr, bool write);

/* mmu.c */
extern const struct gm_mmu npu_mmu;
int npu_tables_init(struct npu *npu);
unsigned long npu_pmap_find(struct npu_ctx *ctx, unsigned long va, u64 *local);

/* copy.c */
int npu_engines_init(struct npu *npu);
int npu_copy(struct gm_dev *gdev, enum gm_copy_op op,
	     const struct gm_copy *segs, unsigned int nr,
	     struct gm_fence *fence);

/* fault.c */
int npu_faults_init(struct npu *npu);
void npu_faults_start(struct npu *npu);
int npu_fault_slots_alloc(struct npu_ctx *ctx);
void npu_fault_slots_free(struct npu_ctx *ctx);
irqreturn_t npu_fault_irq(int irq, void *data);
void npu_fault_answer(struct gm_context *gm, struct gm_fault *faults,
		      unsigned int nr);
void npu_faults_overflowed(struct npu *npu);

/* job.c */
int npu_compute_init(struct npu *npu);
void npu_compute_start(struct npu_compute *c);
void npu_compute_drop(struct npu_compute *c, const struct npu_ctx *ctx,
		      int status);
void npu_job_submit(struct npu *npu, struct npu_job *job, unsigned int queue);
void npu_ctx_stop(struct npu_ctx *ctx);

/* queue.c */
int npu_queue_init(struct npu *npu, struct npu_queue *q, unsigned int nr,
		   unsigned int size);
u64 npu_queue_push(struct npu_queue *q, const u64 *desc);
void npu_queue_kick(struct npu_queue *q);
void npu_queue_reap(struct npu_queue *q);
irqreturn_t npu_queue_irq(int irq, void *data);
void npu_queue_stop(struct npu_queue *q);
void npu_queue_flush(struct npu_queue *q);
void npu_queue_start(struct npu_queue *q);
bool npu_queue_hung(struct npu_queue *q);
void npu_watch(struct npu *npu);
void npu_watchdog(struct work_struct *work);

/* hw.c */
int npu_hw_probe(struct npu *npu);
void npu_hw_start(struct npu *npu);
void npu_hw_stop(struct npu *npu);
bool npu_hw_present(struct npu *npu);
bool npu_poll(struct npu *npu, unsigned int reg, u64 mask);
void npu_reset(struct npu *npu, unsigned int resets);
void npu_ctx_set_root(struct npu *npu, unsigned int id, u64 root);
void npu_tlb_invalidate(struct npu *npu, unsigned int id,
			const struct gm_range *ranges, unsigned int nr);
void npu_tlb_forget(struct npu *npu, unsigned int id,
		    const struct gm_range *range);
irqreturn_t npu_error_irq(int irq, void *data);

/* cdev.c */
int npu_cdev_add(struct npu *npu);
void npu_cdev_remove(struct npu *npu);
void npu_job_end(struct npu_job *job, int status, u64 result, u64 faults);

/* pci.c */
void npu_put(struct npu *npu);

/* fail.c */
enum npu_fail {
	NPU_FAIL_PMAP_CREATE,
	NPU_FAIL_PMAP_PREPARE,
	NPU_FAIL_PEER_MAP,
	NPU_FAIL_COPY,
	NPU_NR_FAILS
};

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS
bool npu_fail(enum npu_fail what);
void npu_fail_init(void);
void npu_fail_exit(void);
#else
static inline bool npu_fail(enum npu_fail what)
{
	return false;
}

static inline void npu_fail_init(void)
{
}

static inline void npu_fail_exit(void)
{
}
#endif

#endif /* GMEM_NPU_H */
