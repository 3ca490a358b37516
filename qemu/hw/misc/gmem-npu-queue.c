/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: descriptor queues, completions, replayable faults, cancellation.
 *
 * A queue works on one descriptor at a time.  Its timer is the only thing that
 * moves it on:
 *
 *   IDLE --doorbell--> FETCH --> RUN --> (retired) FETCH or IDLE
 *                                 |
 *                                 +--miss--> FAULT --> STALL --response--> RUN
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "gmem-npu.h"

/* --- running ------------------------------------------------------------- */

void npu_queue_arm(NpuQueue *q, int64_t when)
{
    /* Time passes in every step, so that nothing can hold the clock. */
    timer_mod(q->timer, MAX(when, npu_now() + 1));
}

/* The descriptor's work is over; retire it at @when. */
void npu_queue_finish(NpuQueue *q, unsigned status, int64_t when)
{
    q->status = status;
    q->finished = true;
    npu_queue_arm(q, when);
}

/* Start on the next descriptor, if there is one and nothing forbids it. */
void npu_queue_kick(NpuQueue *q)
{
    if (q->state == NPU_IDLE && q->enabled && !q->hung &&
        (q->npu->ctrl & NPU_CTRL_ENABLE) && q->head != q->tail) {
        q->state = NPU_FETCH;
        npu_queue_arm(q, npu_now() + q->npu->cmd_ns);
    }
}

/* Forget the work in progress; nothing is reported. */
static void npu_queue_stop(NpuQueue *q)
{
    timer_del(q->timer);
    npu_copy_release(q);
    q->state = NPU_IDLE;
    q->begun = q->finished = q->killed = false;
    q->nfaults = q->nwritten = 0;
}

static void npu_queue_complete(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t addr = q->desc[NPU_DESC_W_FENCE_ADDR];
    uint64_t done[NPU_DONE_WORDS] = {
        [NPU_DONE_W_FENCE] = q->desc[NPU_DESC_W_FENCE],
        [NPU_DONE_W_STATUS] = q->status,
        [NPU_DONE_W_RESULT] = q->result,
        [NPU_DONE_W_FAULTS] = q->faults,
    };

    if (addr % sizeof(uint64_t)) {
        npu_error(s, NPU_ERROR_DESC, addr);
    } else if (addr && npu_dma_write(s, addr + sizeof(uint64_t), done + 1,
                                     sizeof(done) - sizeof(uint64_t))) {
        npu_dma_write_word(s, addr, done[NPU_DONE_W_FENCE]);
    }
    if (npu_flags(q) & NPU_F_IRQ) {
        npu_irq(s, NPU_VEC_QUEUE(q->nr));
    }
}

/* Report the descriptor and go on to the next. */
void npu_queue_retire(NpuQueue *q, unsigned status)
{
    q->status = status;
    if (status && !q->chain_status) {
        q->chain_status = status;
    }
    if (q->copy) {
        q->result = q->chain_status;
    }
    q->chain_closed = q->desc[NPU_DESC_W_FENCE_ADDR] != 0;
    npu_queue_stop(q);
    npu_queue_complete(q);
    q->head++;
    npu_queue_kick(q);
}

/* Why the descriptor may not even begin; 0 when it may. */
static unsigned npu_queue_veto(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    bool order = npu_flags(q) & NPU_F_ORDER_SKIP;

    if (!order && q->chain_closed) {
        q->chain_status = 0;
    }
    if (!q->copy && npu_ctx(q) < s->nr_contexts &&
        q->head < q->killed_below[npu_ctx(q)]) {
        return NPU_ECANCELED;
    }
    if (order && q->chain_status) {
        return NPU_ECANCELED;
    }
    return 0;
}

static void npu_queue_begin(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t slot = q->base + (q->head & (q->size - 1)) * NPU_DESC_SIZE;
    unsigned status;

    if (!npu_dma_read(s, slot, q->desc, sizeof(q->desc))) {
        /* What it says is unknown, so there is nothing to report it to. */
        q->enabled = false;
        npu_queue_stop(q);
        return;
    }
    q->state = NPU_RUN;
    q->begun = true;
    q->result = q->faults = 0;
    status = npu_queue_veto(q);
    if (status || npu_op(q) == NPU_OP_NOP) {
        npu_queue_retire(q, status);
    } else if (q->copy) {
        npu_copy_begin(q);
    } else {
        npu_job_begin(q);
    }
}

/* --- faults -------------------------------------------------------------- */

static bool npu_fault_write(NpuQueue *q, const NpuFault *f)
{
    GmemNpu *s = q->npu;
    uint64_t lap, slot, rec[NPU_FAULT_WORDS];

    if (s->faultq_tail - s->faultq_head >= s->faultq_size) {
        s->stat[NPU_STAT_FAULT_DROPS]++;
        npu_error(s, NPU_ERROR_FAULTQ, f->va);
        return false;
    }
    lap = s->faultq_tail / s->faultq_size;
    slot = s->faultq_base + s->faultq_tail % s->faultq_size * sizeof(rec);
    rec[NPU_FAULT_W_ADDR] = f->va;
    rec[NPU_FAULT_W_INFO] = f->flags | (lap & 1 ? 0 : NPU_FAULT_PHASE) |
                            (uint64_t)npu_ctx(q) << 16 |
                            (uint64_t)q->nr << 32;
    rec[NPU_FAULT_W_TIME] = q->fault_time;
    rec[NPU_FAULT_W_FENCE] = q->desc[NPU_DESC_W_FENCE];

    /* The word with the phase goes last: it makes the record valid. */
    if (!npu_dma_write(s, slot, rec, sizeof(uint64_t)) ||
        !npu_dma_write(s, slot + NPU_FAULT_W_TIME * sizeof(uint64_t),
                       rec + NPU_FAULT_W_TIME, 2 * sizeof(uint64_t)) ||
        !npu_dma_write_word(s, slot + NPU_FAULT_W_INFO * sizeof(uint64_t),
                            rec[NPU_FAULT_W_INFO])) {
        return false;
    }
    s->faultq_tail++;
    s->stat[NPU_STAT_FAULTS]++;
    q->faults++;
    return true;
}

/* The step that ended at @when missed: write its records, then stall. */
void npu_queue_stall(NpuQueue *q, int64_t when)
{
    q->state = NPU_FAULT;
    q->nwritten = 0;
    q->fault_time = when;
    npu_queue_arm(q, when + q->npu->fault_ns);
}

/* Write the records that the step left, as far as there is room. */
static void npu_queue_report(NpuQueue *q)
{
    unsigned before = q->nwritten;

    while (q->nwritten < q->nfaults &&
           npu_fault_write(q, &q->fault[q->nwritten])) {
        q->nwritten++;
    }
    q->state = NPU_STALL;
    if (q->nwritten != before) {
        npu_irq(q->npu, NPU_VEC_FAULT);
    }
}

/* Try again to write what did not fit into the fault queue. */
void npu_fault_room(GmemNpu *s)
{
    for (unsigned i = 0; i < s->nr_queues; i++) {
        NpuQueue *q = &s->queue[i];

        if (q->state == NPU_STALL && q->nwritten < q->nfaults && !q->hung) {
            q->state = NPU_FAULT;
            npu_queue_arm(q, npu_now() + s->fault_ns);
        }
    }
}

static void npu_queue_respond(NpuQueue *q, uint64_t resp)
{
    GmemNpu *s = q->npu;
    unsigned err = extract64(resp, 32, 16);

    if (q->state != NPU_STALL || q->hung) {
        return;
    }
    s->stat[NPU_STAT_STALL_NS] += npu_now() - q->fault_time;
    q->state = NPU_RUN;
    q->nfaults = q->nwritten = 0;
    if (resp & NPU_RESP_ABORT) {
        npu_queue_finish(q, err ? err : NPU_EFAULT, npu_now() + s->replay_ns);
    } else {
        s->stat[NPU_STAT_REPLAYS]++;
        npu_queue_arm(q, npu_now() + s->replay_ns);
    }
}

/* Resume or end stalled jobs; what overflowed is reported again. */
void npu_fault_respond(GmemNpu *s, uint64_t resp)
{
    unsigned nr = extract64(resp, 8, 8);

    for (unsigned i = 0; i < s->nr_queues; i++) {
        if ((resp & NPU_RESP_ALL) || i == nr) {
            npu_queue_respond(&s->queue[i], resp);
        }
    }
    npu_fault_room(s);
}

void npu_faultq_set_size(GmemNpu *s, uint64_t size)
{
    if (size > NPU_MAX_RING || (size & (size - 1))) {
        npu_error(s, NPU_ERROR_DESC, NPU_REG_FAULTQ_SIZE);
        size = 0;
    }
    s->faultq_size = size;
    s->faultq_head = s->faultq_tail = 0;
    npu_fault_room(s);
}

void npu_faultq_set_head(GmemNpu *s, uint64_t head)
{
    if (s->faultq_tail - head > s->faultq_tail - s->faultq_head) {
        npu_error(s, NPU_ERROR_DESC, NPU_REG_FAULTQ_HEAD);
        return;
    }
    s->faultq_head = head;
    npu_fault_room(s);
}

/* --- cancellation -------------------------------------------------------- */

static bool npu_queue_works_for(const NpuQueue *q, unsigned ctx)
{
    return !q->copy && q->begun && npu_ctx(q) == ctx;
}

/* End the jobs of a context that are running, stalled or queued now. */
void npu_ctx_kill(GmemNpu *s, unsigned ctx)
{
    for (unsigned i = 0; i < s->nr_queues; i++) {
        NpuQueue *q = &s->queue[i];

        q->killed_below[ctx] = q->tail;
        if (npu_queue_works_for(q, ctx) && !q->killed) {
            q->killed = true;
            if (!q->hung) {
                q->state = NPU_RUN;
                npu_queue_finish(q, NPU_ECANCELED, npu_now() + s->cmd_ns);
            }
        }
    }
}

bool npu_ctx_dying(const GmemNpu *s, unsigned ctx)
{
    for (unsigned i = 0; i < s->nr_queues; i++) {
        if (npu_queue_works_for(&s->queue[i], ctx) && s->queue[i].killed) {
            return true;
        }
    }
    return false;
}

void npu_queue_hang(NpuQueue *q)
{
    timer_del(q->timer);
    q->hung = true;
}

/* --- registers ----------------------------------------------------------- */

static void npu_queue_enable(NpuQueue *q, bool enable)
{
    if (!enable) {
        npu_queue_stop(q);
        q->enabled = false;
        return;
    }
    if (q->enabled) {
        return;
    }
    if (!q->size || q->hung) {
        npu_error(q->npu, NPU_ERROR_DESC, NPU_QUEUE(q->nr) + NPU_Q_CTRL);
        return;
    }
    q->head = q->tail = 0;
    q->chain_status = 0;
    q->chain_closed = true;
    memset(q->killed_below, 0, q->npu->nr_contexts * sizeof(uint64_t));
    q->enabled = true;
}

static void npu_queue_set_size(NpuQueue *q, uint64_t size)
{
    if (size > NPU_MAX_RING || (size & (size - 1))) {
        npu_error(q->npu, NPU_ERROR_DESC, NPU_QUEUE(q->nr) + NPU_Q_SIZE);
        size = 0;
    }
    q->size = size;
}

static void npu_queue_doorbell(NpuQueue *q, uint64_t tail)
{
    if (!q->enabled || tail - q->head > q->size ||
        tail - q->head < q->tail - q->head) {
        npu_error(q->npu, NPU_ERROR_DESC, NPU_QUEUE(q->nr) + NPU_Q_TAIL);
        return;
    }
    q->tail = tail;
    npu_queue_kick(q);
}

static uint64_t npu_queue_status(const NpuQueue *q)
{
    uint64_t val = q->hung ? NPU_Q_HUNG : 0;

    if (q->state == NPU_STALL) {
        val |= NPU_Q_STALLED;
    } else if (q->state != NPU_IDLE) {
        val |= NPU_Q_RUNNING;
    }
    return val;
}

uint64_t npu_queue_read(NpuQueue *q, hwaddr reg)
{
    switch (reg) {
    case NPU_Q_BASE:
        return q->base;
    case NPU_Q_SIZE:
        return q->size;
    case NPU_Q_CTRL:
        return q->enabled ? NPU_Q_ENABLE : 0;
    case NPU_Q_HEAD:
        return q->head;
    case NPU_Q_TAIL:
        return q->tail;
    case NPU_Q_STATUS:
        return npu_queue_status(q);
    }
    return 0;
}

void npu_queue_write(NpuQueue *q, hwaddr reg, uint64_t val)
{
    if (q->enabled && (reg == NPU_Q_BASE || reg == NPU_Q_SIZE)) {
        npu_error(q->npu, NPU_ERROR_DESC, NPU_QUEUE(q->nr) + reg);
        return;
    }
    switch (reg) {
    case NPU_Q_BASE:
        q->base = val & ~(NPU_PAGE - 1);
        break;
    case NPU_Q_SIZE:
        npu_queue_set_size(q, val);
        break;
    case NPU_Q_CTRL:
        npu_queue_enable(q, val & NPU_Q_ENABLE);
        break;
    case NPU_Q_TAIL:
        npu_queue_doorbell(q, val);
        break;
    }
}

/* --- life ---------------------------------------------------------------- */

static void npu_queue_timer(void *opaque)
{
    NpuQueue *q = opaque;

    switch (q->state) {
    case NPU_FETCH:
        npu_queue_begin(q);
        break;
    case NPU_RUN:
        if (q->finished) {
            npu_queue_retire(q, q->status);
        } else if (q->copy) {
            npu_copy_advance(q);
        } else {
            npu_job_step(q);
        }
        break;
    case NPU_FAULT:
        npu_queue_report(q);
        break;
    case NPU_IDLE:
    case NPU_STALL:
        break;
    }
}

void npu_queue_reset(NpuQueue *q)
{
    npu_queue_stop(q);
    q->base = q->size = q->head = q->tail = 0;
    q->enabled = q->hung = false;
}

void npu_queue_init(GmemNpu *s, unsigned nr)
{
    NpuQueue *q = &s->queue[nr];

    q->npu = s;
    q->nr = nr;
    q->copy = nr >= s->nr_compute;
    q->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, npu_queue_timer, q);
    q->killed_below = g_new0(uint64_t, s->nr_contexts);
    if (!q->copy) {
        q->scratch = g_new(NpuScratch, 1);
    }
}

void npu_queue_exit(NpuQueue *q)
{
    npu_queue_stop(q);
    timer_free(q->timer);
    g_free(q->killed_below);
    g_free(q->scratch);
}
