/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: copy engines and the commands of copy queues.
 *
 * A transfer over the link is a list of segments.  Each needs a DMA descriptor,
 * which is prepared while the segment before it moves, and then takes the link
 * in turns that it shares with the other engines and with jobs.  The bytes
 * themselves move when the last turn is over: a source that is changed or a
 * destination that is freed too early shows in the data.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "gmem-npu.h"

static void npu_copy_bad(NpuQueue *q, unsigned status, uint64_t addr)
{
    npu_error(q->npu, NPU_ERROR_DESC, addr);
    npu_queue_retire(q, status);
}

void npu_copy_release(NpuQueue *q)
{
    if (q->xfer.seg != &q->xfer.one) {
        g_free(q->xfer.seg);
    }
    memset(&q->xfer, 0, sizeof(q->xfer));
}

/* --- timing -------------------------------------------------------------- */

/* Take the next turn on the link. */
static void npu_copy_turn(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    NpuTransfer *x = &q->xfer;
    uint64_t bytes = MIN(NPU_LINK_TURN, x->seg[x->cur].bytes - x->moved);
    int64_t end = npu_link_grant(s, x->link, bytes, npu_now());
    uint64_t taken = npu_ns(bytes, s->link_bandwidth);

    if (!x->moved) {
        s->stat[NPU_STAT_DMA_DESCS]++;
        x->desc_ready = end - taken + s->dma_desc_ns;
    }
    s->stat[NPU_STAT_LINK_NS] += taken;
    x->moved += bytes;
    x->on_link = true;
    npu_queue_arm(q, end);
}

static void npu_copy_data(NpuQueue *q);

/* A turn is over, or the descriptor of a segment is ready. */
void npu_copy_advance(NpuQueue *q)
{
    NpuTransfer *x = &q->xfer;

    if (x->on_link && x->moved == x->seg[x->cur].bytes) {
        x->cur++;
        x->moved = 0;
    }
    x->on_link = false;
    if (x->cur == x->nsegs) {
        npu_copy_data(q);
    } else if (!x->moved && npu_now() < x->desc_ready) {
        npu_queue_arm(q, x->desc_ready);
    } else {
        npu_copy_turn(q);
    }
}

static void npu_copy_start(NpuQueue *q, NpuLink link, uint64_t local)
{
    q->xfer.link = link;
    q->xfer.local = local;
    q->xfer.desc_ready = npu_now() + q->npu->dma_desc_ns;
    npu_queue_arm(q, q->xfer.desc_ready);
}

static void npu_copy_one(NpuQueue *q, NpuLink link, uint64_t dma,
                         uint64_t local, uint64_t bytes)
{
    q->xfer.one = (NpuSegment) { dma, bytes };
    q->xfer.seg = &q->xfer.one;
    q->xfer.nsegs = 1;
    npu_copy_start(q, link, local);
}

/* --- the data ------------------------------------------------------------ */

static unsigned npu_copy_to_local(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    NpuTransfer *x = &q->xfer;
    uint64_t local = x->local;

    for (unsigned i = 0; i < x->nsegs; i++) {
        if (!npu_dma_read(s, x->seg[i].dma, s->mem + local, x->seg[i].bytes)) {
            return NPU_EIO;
        }
        local += x->seg[i].bytes;
    }
    npu_ecc_repair(s, x->local, local - x->local);
    s->stat[NPU_STAT_COPY_TO_DEV] += local - x->local;
    return 0;
}

static unsigned npu_copy_read_ok(GmemNpu *s, uint64_t local, uint64_t bytes)
{
    if (npu_ecc_hit(s, local, bytes)) {
        npu_error(s, NPU_ERROR_ECC, local);
        return NPU_EIO;
    }
    return 0;
}

static unsigned npu_copy_from_local(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    NpuTransfer *x = &q->xfer;
    uint64_t local = x->local;

    for (unsigned i = 0; i < x->nsegs; i++) {
        if (npu_copy_read_ok(s, local, x->seg[i].bytes) ||
            !npu_dma_write(s, x->seg[i].dma, s->mem + local,
                           x->seg[i].bytes)) {
            return NPU_EIO;
        }
        local += x->seg[i].bytes;
    }
    s->stat[NPU_STAT_COPY_FROM_DEV] += local - x->local;
    return 0;
}

static unsigned npu_copy_local(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t src = npu_arg(q, 0), dst = npu_arg(q, 1), bytes = npu_arg(q, 2);

    if (npu_copy_read_ok(s, src, bytes)) {
        return NPU_EIO;
    }
    memmove(s->mem + dst, s->mem + src, bytes);
    npu_ecc_repair(s, dst, bytes);
    s->stat[NPU_STAT_COPY_LOCAL] += bytes;
    return 0;
}

static unsigned npu_zero_local(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t dst = npu_arg(q, 0), bytes = npu_arg(q, 1);

    memset(s->mem + dst, 0, bytes);
    npu_ecc_repair(s, dst, bytes);
    s->stat[NPU_STAT_COPY_LOCAL] += bytes;
    return 0;
}

static unsigned npu_zero_host(NpuQueue *q)
{
    static const uint8_t zero[NPU_LINK_TURN];
    uint64_t dst = npu_arg(q, 0), bytes = npu_arg(q, 1), done, part;

    for (done = 0; done < bytes; done += part) {
        part = MIN(sizeof(zero), bytes - done);
        if (!npu_dma_write(q->npu, dst + done, zero, part)) {
            return NPU_EIO;
        }
    }
    q->npu->stat[NPU_STAT_COPY_FROM_DEV] += bytes;
    return 0;
}

static unsigned npu_pte_write(NpuQueue *q)
{
    uint64_t *pte = (uint64_t *)(q->npu->mem + npu_arg(q, 0));
    uint64_t value = npu_arg(q, 1), count = npu_arg(q, 2);

    for (uint64_t i = 0; i < count; i++) {
        qatomic_set(&pte[i], value + i * npu_arg(q, 3));
    }
    npu_ecc_repair(q->npu, npu_arg(q, 0), count * sizeof(*pte));
    return 0;
}

/* A data command that was told to fail does so when its time is over. */
static bool npu_copy_injected(NpuQueue *q)
{
    GmemNpu *s = q->npu;

    s->stat[NPU_STAT_COPIES]++;
    return s->copies_to_fail && --s->copies_to_fail == 0;
}

/* The time of the command has passed: do what it says, and retire it. */
static void npu_copy_data(NpuQueue *q)
{
    uint64_t flags = npu_flags(q);
    unsigned status = 0;

    switch (npu_op(q)) {
    case NPU_OP_PTE_WRITE:
        status = npu_pte_write(q);
        break;
    case NPU_OP_TLB_INVL:
        npu_tlb_drop(q->npu, npu_ctx(q), npu_arg(q, 0), npu_arg(q, 1));
        break;
    case NPU_OP_ZERO:
        if (npu_copy_injected(q)) {
            status = NPU_EIO;
        } else if (flags & NPU_F_DST_LOCAL) {
            status = npu_zero_local(q);
        } else {
            status = npu_zero_host(q);
        }
        break;
    default:
        if (npu_copy_injected(q)) {
            status = NPU_EIO;
        } else if (!q->xfer.nsegs) {
            status = npu_copy_local(q);
        } else if (q->xfer.link == NPU_TO_DEVICE) {
            status = npu_copy_to_local(q);
        } else {
            status = npu_copy_from_local(q);
        }
    }
    npu_queue_retire(q, status);
}

/* --- commands ------------------------------------------------------------ */

/* A host range must not wrap around. */
static bool npu_host_ok(uint64_t addr, uint64_t bytes)
{
    return addr + bytes > addr || addr + bytes == 0;
}

static void npu_begin_local(NpuQueue *q, uint64_t bytes)
{
    npu_queue_arm(q, npu_now() + npu_ns(bytes, q->npu->mem_bandwidth));
}

static void npu_begin_copy(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t src = npu_arg(q, 0), dst = npu_arg(q, 1), bytes = npu_arg(q, 2);
    bool from_local = npu_flags(q) & NPU_F_SRC_LOCAL;
    bool to_local = npu_flags(q) & NPU_F_DST_LOCAL;

    if (!bytes || bytes > s->mem_size || (!from_local && !to_local)) {
        npu_copy_bad(q, NPU_EINVAL, bytes);
    } else if (from_local ? !npu_local_ok(s, src, bytes) :
                            !npu_host_ok(src, bytes)) {
        npu_copy_bad(q, NPU_EFAULT, src);
    } else if (to_local ? !npu_local_ok(s, dst, bytes) :
                          !npu_host_ok(dst, bytes)) {
        npu_copy_bad(q, NPU_EFAULT, dst);
    } else if (from_local && to_local) {
        npu_begin_local(q, 2 * bytes);
    } else if (to_local) {
        npu_copy_one(q, NPU_TO_DEVICE, src, dst, bytes);
    } else {
        npu_copy_one(q, NPU_FROM_DEVICE, dst, src, bytes);
    }
}

static bool npu_sg_ok(NpuQueue *q, uint64_t local)
{
    const NpuTransfer *x = &q->xfer;
    uint64_t total = 0;

    for (unsigned i = 0; i < x->nsegs; i++) {
        uint64_t bytes = x->seg[i].bytes;

        if (!bytes || bytes > q->npu->mem_size ||
            !npu_host_ok(x->seg[i].dma, bytes)) {
            npu_copy_bad(q, NPU_EINVAL, x->seg[i].dma);
            return false;
        }
        total += bytes;
        if (!npu_local_ok(q->npu, local, total)) {
            npu_copy_bad(q, NPU_EFAULT, local);
            return false;
        }
    }
    return true;
}

static void npu_begin_sg(NpuQueue *q)
{
    uint64_t list = npu_arg(q, 0), local = npu_arg(q, 1), n = npu_arg(q, 2);
    bool to_local = npu_flags(q) & NPU_F_DST_LOCAL;
    bool from_local = npu_flags(q) & NPU_F_SRC_LOCAL;

    if (!n || n > NPU_SG_MAX || to_local == from_local ||
        list % sizeof(uint64_t)) {
        npu_copy_bad(q, NPU_EINVAL, list);
        return;
    }
    q->xfer.seg = g_new(NpuSegment, n);
    q->xfer.nsegs = n;
    if (!npu_dma_read(q->npu, list, q->xfer.seg, n * sizeof(NpuSegment))) {
        npu_queue_retire(q, NPU_EIO);
    } else if (npu_sg_ok(q, local)) {
        npu_copy_start(q, to_local ? NPU_TO_DEVICE : NPU_FROM_DEVICE, local);
    }
}

static void npu_begin_zero(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t dst = npu_arg(q, 0), bytes = npu_arg(q, 1);
    bool to_local = npu_flags(q) & NPU_F_DST_LOCAL;

    if (!bytes || bytes > s->mem_size) {
        npu_copy_bad(q, NPU_EINVAL, bytes);
    } else if (to_local ? !npu_local_ok(s, dst, bytes) :
                          !npu_host_ok(dst, bytes)) {
        npu_copy_bad(q, NPU_EFAULT, dst);
    } else if (to_local) {
        npu_begin_local(q, bytes);
    } else {
        npu_copy_one(q, NPU_FROM_DEVICE, dst, 0, bytes);
    }
}

static void npu_begin_pte_write(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    uint64_t local = npu_arg(q, 0), count = npu_arg(q, 2);

    if (!count || count > s->mem_size / sizeof(uint64_t) ||
        local % sizeof(uint64_t)) {
        npu_copy_bad(q, NPU_EINVAL, local);
    } else if (!npu_local_ok(s, local, count * sizeof(uint64_t))) {
        npu_copy_bad(q, NPU_EFAULT, local);
    } else {
        npu_begin_local(q, count * sizeof(uint64_t));
    }
}

void npu_copy_begin(NpuQueue *q)
{
    GmemNpu *s = q->npu;

    switch (npu_op(q)) {
    case NPU_OP_COPY:
        npu_begin_copy(q);
        break;
    case NPU_OP_COPY_SG:
        npu_begin_sg(q);
        break;
    case NPU_OP_ZERO:
        npu_begin_zero(q);
        break;
    case NPU_OP_PTE_WRITE:
        npu_begin_pte_write(q);
        break;
    case NPU_OP_TLB_INVL:
        if (npu_tlbi_valid(s, npu_ctx(q), npu_arg(q, 0), npu_arg(q, 1))) {
            npu_queue_arm(q, npu_now() + s->tlbi_ns);
        } else {
            npu_copy_bad(q, NPU_EINVAL, npu_arg(q, 0));
        }
        break;
    case NPU_OP_REPLAY:
        npu_fault_respond(s, NPU_RESP_REPLAY | NPU_RESP_ALL);
        npu_queue_retire(q, 0);
        break;
    default:
        npu_copy_bad(q, NPU_EINVAL, npu_op(q));
    }
}
