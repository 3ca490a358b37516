/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: an accelerator with its own memory, page tables and TLB.
 *
 * What each part of the model shares with the others.  What software sees is
 * specified by Documentation/gmem/hardware.rst and gmem_npu_regs.h.
 *
 * Everything runs under the big QEMU lock, in register accesses and in timers
 * of the virtual clock.  Two rules keep the parts apart:
 *
 * - A register access never does DMA and never calls another part's engine: it
 *   changes state and arms a timer.
 * - While a timer does DMA, register accesses to this device are refused
 *   (GmemNpu::in_dma), so a DMA that the guest aims at the device's own
 *   registers cannot change the state below the timer's feet.
 */
#ifndef HW_MISC_GMEM_NPU_H
#define HW_MISC_GMEM_NPU_H

#include "hw/pci/pci.h"
#include "qom/object.h"
#include "gmem_npu_regs.h"

#define TYPE_GMEM_NPU "gmem-npu"
OBJECT_DECLARE_SIMPLE_TYPE(GmemNpu, GMEM_NPU)

#define NPU_PAGE                4096ULL
#define NPU_MAX_VECTORS         NPU_VEC_QUEUE(NPU_MAX_QUEUES)
#define NPU_MAX_RING            65536
#define NPU_TLB_WAYS            4
#define NPU_ECC_PAGES           64
#define NPU_SG_MAX              65536

/* The most that one step of a job touches through one operand. */
#define NPU_STEP_BYTES          65536
/* The link is granted in turns of this many bytes. */
#define NPU_LINK_TURN           65536
/* Elements that one step of a gather or scatter works on. */
#define NPU_BATCH               32
/* Two pages for each element of a batch and for each of two arrays. */
#define NPU_STEP_FAULTS         (2 * NPU_BATCH + 4)

/* Status values: the errno numbers of Linux, whatever the host has. */
#define NPU_EIO                 5
#define NPU_EFAULT              14
#define NPU_EINVAL              22
#define NPU_ECANCELED           125

typedef enum NpuLink {
    NPU_TO_DEVICE,
    NPU_FROM_DEVICE,
    NPU_LINKS
} NpuLink;

/* --- translation (gmem-npu-mmu.c) --------------------------------------- */

typedef enum NpuXlate {
    NPU_XLATE_OK,
    NPU_XLATE_MISS,             /* nothing present: a fault */
    NPU_XLATE_PROT,             /* present, write not permitted: a fault */
    NPU_XLATE_FAILED            /* no fault would help; see the status */
} NpuXlate;

typedef struct NpuMapping {
    uint64_t addr;              /* local address, or DMA address when sys */
    uint64_t run;               /* bytes from addr to the end of the page */
    bool sys;
} NpuMapping;

typedef struct NpuTlbEntry {
    bool valid, sys, write, dirty;
    uint8_t shift;
    uint16_t ctx;
    uint64_t vpn;               /* VA >> shift */
    uint64_t frame;
} NpuTlbEntry;

typedef struct NpuTlbi {
    unsigned ctx;
    uint64_t start, end;
} NpuTlbi;

/* --- queues (gmem-npu-queue.c) ------------------------------------------- */

typedef enum NpuQueueState {
    NPU_IDLE,
    NPU_FETCH,                  /* until the descriptor has been fetched */
    NPU_RUN,                    /* until the step or transfer is over */
    NPU_FAULT,                  /* until the fault records are written */
    NPU_STALL,                  /* until software responds */
} NpuQueueState;

typedef struct NpuFault {
    uint64_t va;                /* page aligned */
    uint64_t flags;             /* NPU_FAULT_WRITE, NPU_FAULT_PROT */
} NpuFault;

typedef struct NpuSegment {
    uint64_t dma;
    uint64_t bytes;
} NpuSegment;

/* A copy command in progress; a transfer without segments is local. */
typedef struct NpuTransfer {
    NpuSegment *seg;            /* is &one, or allocated */
    NpuSegment one;
    unsigned nsegs, cur;
    uint64_t moved;             /* bytes of the current segment */
    int64_t desc_ready;         /* when its DMA descriptor is there */
    bool on_link;               /* the timer is the end of a turn */
    NpuLink link;
    uint64_t local;
} NpuTransfer;

#define NPU_TILE_M              64
#define NPU_TILE_N              256
#define NPU_TILE_K              64

/* A job in progress: what it needs to go on where it stopped. */
typedef struct NpuJob {
    uint64_t done;              /* bytes, elements or nodes */
    uint64_t node;              /* pointer chasing */
    struct {
        uint32_t i, j, k;       /* origin of the tile */
        uint32_t row;           /* row of the panel that moves */
        enum { NPU_LOAD_A, NPU_LOAD_B, NPU_STORE_C } phase;
    } mm;
} NpuJob;

/* On-chip buffers of one compute queue. */
typedef struct NpuScratch {
    uint8_t x[NPU_STEP_BYTES];
    uint8_t y[NPU_STEP_BYTES];
    float a[NPU_TILE_M * NPU_TILE_K];
    float b[NPU_TILE_K * NPU_TILE_N];
    float c[NPU_TILE_M * NPU_TILE_N];
} NpuScratch;

typedef struct NpuQueue {
    GmemNpu *npu;
    QEMUTimer *timer;
    unsigned nr;
    bool copy;                  /* a copy queue, else a compute queue */

    uint64_t base, size, head, tail;
    bool enabled, hung;
    NpuQueueState state;
    /* Per context: jobs queued below this index are cancelled. */
    uint64_t *killed_below;

    /* The descriptor at HEAD, once fetched. */
    uint64_t desc[NPU_DESC_WORDS];
    bool begun;                 /* the fields below are about that one */
    bool finished;              /* retire it when the timer fires */
    bool killed;
    unsigned status;
    uint64_t result;
    uint64_t faults;
    NpuJob job;
    NpuTransfer xfer;
    NpuScratch *scratch;

    /* The chain that NPU_F_ORDER_SKIP looks at. */
    unsigned chain_status;
    bool chain_closed;

    NpuFault fault[NPU_STEP_FAULTS];
    unsigned nfaults;           /* records of the step that stopped */
    unsigned nwritten;          /* the first so many are in the queue */
    int64_t fault_time;
} NpuQueue;

/* --- the device ---------------------------------------------------------- */

struct GmemNpu {
    PCIDevice parent_obj;

    /* properties */
    uint64_t mem_size;
    uint32_t nr_compute, nr_copy, nr_contexts, tlb_entries;
    uint64_t link_bandwidth, mem_bandwidth, alu_rate;
    uint32_t dma_desc_ns, walk_ns, mem_latency_ns, tlbi_ns, cmd_ns;
    uint32_t fault_ns, replay_ns, irq_ns, reset_ns;

    MemoryRegion regs, mem_bar, mem_ram, mem_gone;
    uint8_t *mem;               /* the local memory */
    bool in_dma;
    bool dead;

    uint64_t latch;             /* high half of a split 64-bit write */
    hwaddr latch_addr;

    uint64_t ctrl, error, error_addr;
    QEMUTimer *reset_timer;

    int64_t irq_at[NPU_MAX_VECTORS];
    QEMUTimer *irq_timer;

    uint64_t faultq_base, faultq_size, faultq_head, faultq_tail;

    uint64_t tlbi_start, tlbi_end, tlbi_queued, tlbi_done;
    NpuTlbi tlbi[NPU_TLBI_DEPTH];
    QEMUTimer *tlbi_timer;
    NpuTlbEntry *tlb;
    uint8_t *tlb_victim;        /* per set: the way to replace next */

    uint64_t inject_arg;
    uint64_t copies_to_fail, jobs_to_fail;      /* 0: none is armed */
    uint64_t ecc[NPU_ECC_PAGES];
    unsigned necc;

    uint64_t ctx_root[NPU_MAX_CONTEXTS];
    NpuQueue queue[NPU_MAX_QUEUES];
    unsigned nr_queues;

    int64_t link_free[NPU_LINKS];       /* when the last turn ends */

    uint64_t stat[NPU_STAT_NR];
};

/* gmem-npu.c */
int64_t npu_now(void);
uint64_t npu_ns(uint64_t amount, uint64_t per_second);
void npu_irq(GmemNpu *s, unsigned vector);
void npu_error(GmemNpu *s, uint64_t why, uint64_t addr);
bool npu_dma_read(GmemNpu *s, uint64_t addr, void *buf, uint64_t bytes);
bool npu_dma_write(GmemNpu *s, uint64_t addr, const void *buf, uint64_t bytes);
bool npu_dma_write_word(GmemNpu *s, uint64_t addr, uint64_t value);
bool npu_dma_fetch_add(GmemNpu *s, uint64_t addr, uint64_t addend,
                       uint64_t *old);
bool npu_local_ok(const GmemNpu *s, uint64_t addr, uint64_t bytes);
bool npu_ecc_hit(GmemNpu *s, uint64_t addr, uint64_t bytes);
void npu_ecc_repair(GmemNpu *s, uint64_t addr, uint64_t bytes);
int64_t npu_link_grant(GmemNpu *s, NpuLink link, uint64_t bytes, int64_t when);

/* gmem-npu-mmu.c */
void npu_mmu_init(GmemNpu *s);
void npu_mmu_reset(GmemNpu *s);
void npu_mmu_exit(GmemNpu *s);
NpuXlate npu_mmu_translate(GmemNpu *s, unsigned ctx, uint64_t va, bool write,
                           NpuMapping *map, uint64_t *ns, unsigned *status);
void npu_tlb_drop(GmemNpu *s, unsigned ctx, uint64_t start, uint64_t end);
bool npu_tlbi_valid(const GmemNpu *s, uint64_t ctx, uint64_t start,
                    uint64_t end);
void npu_tlbi_queue(GmemNpu *s, uint64_t ctx);

/* gmem-npu-queue.c */
void npu_queue_init(GmemNpu *s, unsigned nr);
void npu_queue_reset(NpuQueue *q);
void npu_queue_exit(NpuQueue *q);
uint64_t npu_queue_read(NpuQueue *q, hwaddr reg);
void npu_queue_write(NpuQueue *q, hwaddr reg, uint64_t val);
void npu_queue_kick(NpuQueue *q);
void npu_queue_hang(NpuQueue *q);
void npu_queue_arm(NpuQueue *q, int64_t when);
void npu_queue_finish(NpuQueue *q, unsigned status, int64_t when);
void npu_queue_retire(NpuQueue *q, unsigned status);
void npu_queue_stall(NpuQueue *q, int64_t when);
void npu_fault_respond(GmemNpu *s, uint64_t resp);
void npu_fault_room(GmemNpu *s);
void npu_faultq_set_size(GmemNpu *s, uint64_t size);
void npu_faultq_set_head(GmemNpu *s, uint64_t head);
void npu_ctx_kill(GmemNpu *s, unsigned ctx);
bool npu_ctx_dying(const GmemNpu *s, unsigned ctx);

/* gmem-npu-copy.c */
void npu_copy_begin(NpuQueue *q);
void npu_copy_advance(NpuQueue *q);
void npu_copy_release(NpuQueue *q);

/* gmem-npu-ops.c */
void npu_job_begin(NpuQueue *q);
void npu_job_step(NpuQueue *q);

static inline uint64_t npu_arg(const NpuQueue *q, unsigned n)
{
    return q->desc[NPU_DESC_W_ARG(n)];
}

static inline unsigned npu_op(const NpuQueue *q)
{
    return NPU_DESC_OP(q->desc[NPU_DESC_W_OP]);
}

static inline uint64_t npu_flags(const NpuQueue *q)
{
    return NPU_DESC_FLAGS(q->desc[NPU_DESC_W_OP]);
}

static inline unsigned npu_ctx(const NpuQueue *q)
{
    return NPU_DESC_CTX(q->desc[NPU_DESC_W_OP]);
}

#endif
