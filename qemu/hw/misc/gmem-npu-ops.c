/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: the operations of compute queues.
 *
 * A job is a sequence of steps.  A step first translates everything it will
 * touch, and only when all of it is there does it read, compute and write: a
 * step that faults has done nothing and is repeated as a whole, so its effects
 * happen once.  Translations are not kept from one step to the next.
 *
 * Floating-point results must be those of the same C loop on the CPU, hence no
 * fused multiply-add.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qemu/bswap.h"
#include "gmem-npu.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

#define NPU_HIST_BYTES  (256 * sizeof(uint64_t))

/* One operand of a step: a virtual range in at most two pages. */
typedef struct NpuSpan {
    uint64_t va;
    uint32_t unit;              /* bytes of an element */
    bool write;                 /* also when it is read before */
    bool fixed;                 /* one element, however many others have */
    uint64_t bytes;
    unsigned pieces;
    NpuMapping piece[2];
} NpuSpan;

typedef struct NpuStep {
    NpuQueue *q;
    int64_t end;                /* when all that was done so far is over */
    unsigned status;
    bool finished;
} NpuStep;

/* --- translation --------------------------------------------------------- */

static bool npu_step_stopped(const NpuStep *st)
{
    return st->status || st->q->nfaults;
}

static void npu_step_fault(NpuStep *st, uint64_t va, uint64_t flags)
{
    NpuQueue *q = st->q;

    va &= ~(NPU_PAGE - 1);
    for (unsigned i = 0; i < q->nfaults; i++) {
        if (q->fault[i].va == va && q->fault[i].flags == flags) {
            return;
        }
    }
    q->fault[q->nfaults++] = (NpuFault) { va, flags };
}

static bool npu_step_translate(NpuStep *st, uint64_t va, bool write,
                               NpuMapping *map)
{
    uint64_t ns = 0, flags = write ? NPU_FAULT_WRITE : 0;
    NpuXlate ret;

    ret = npu_mmu_translate(st->q->npu, npu_ctx(st->q), va, write, map, &ns,
                            &st->status);
    st->end += ns;
    if (ret == NPU_XLATE_MISS) {
        npu_step_fault(st, va, flags);
    } else if (ret == NPU_XLATE_PROT) {
        npu_step_fault(st, va, flags | NPU_FAULT_PROT);
    }
    return ret == NPU_XLATE_OK;
}

/* Translate the rest of a span whose first page is known. */
static void npu_span_rest(NpuStep *st, NpuSpan *sp)
{
    NpuMapping *first = &sp->piece[0], *second = &sp->piece[1];

    sp->pieces = 1;
    if (first->run < sp->bytes) {
        sp->pieces = 2;
        npu_step_translate(st, sp->va + first->run, sp->write, second);
        second->run = sp->bytes - first->run;
    } else {
        first->run = sp->bytes;
    }
}

/*
 * Translate the spans of a step that wants @want elements of each.  Returns how
 * many elements the step can do: as many as lie in the first page of each span
 * that is not fixed, or one that crosses into the next page; 0 when the step
 * has to stop.
 */
static uint64_t npu_step_map(NpuStep *st, NpuSpan *span, unsigned n,
                             uint64_t want)
{
    uint64_t count = want;
    unsigned i;

    for (i = 0; i < n && !st->status; i++) {
        NpuSpan *sp = &span[i];

        if (!npu_step_translate(st, sp->va, sp->write, &sp->piece[0])) {
            continue;
        }
        if (!sp->fixed) {
            count = MIN(count, MIN(sp->piece[0].run, NPU_STEP_BYTES) /
                               sp->unit);
        }
    }
    if (npu_step_stopped(st)) {
        return 0;
    }
    count = MAX(count, 1);
    for (i = 0; i < n && !st->status; i++) {
        span[i].bytes = span[i].fixed ? span[i].unit : count * span[i].unit;
        npu_span_rest(st, &span[i]);
    }
    return npu_step_stopped(st) ? 0 : count;
}

/* --- data ---------------------------------------------------------------- */

static void npu_charge_link(NpuStep *st, NpuLink link, uint64_t bytes)
{
    GmemNpu *s = st->q->npu;
    unsigned stat = link == NPU_TO_DEVICE ? NPU_STAT_JOB_HOST_READ :
                                            NPU_STAT_JOB_HOST_WRITE;

    s->stat[stat] += bytes;
    st->end = npu_link_grant(s, link, bytes, st->end) + s->dma_desc_ns;
}

static void npu_charge_local(NpuStep *st, unsigned stat, uint64_t bytes)
{
    GmemNpu *s = st->q->npu;

    s->stat[stat] += bytes;
    st->end += npu_ns(bytes, s->mem_bandwidth);
}

static void npu_charge_alu(NpuStep *st, uint64_t ops)
{
    st->end += npu_ns(ops, st->q->npu->alu_rate);
}

static bool npu_piece_get(NpuStep *st, const NpuMapping *m, void *buf)
{
    GmemNpu *s = st->q->npu;

    if (m->sys) {
        npu_charge_link(st, NPU_TO_DEVICE, m->run);
        return npu_dma_read(s, m->addr, buf, m->run);
    }
    npu_charge_local(st, NPU_STAT_JOB_LOCAL_READ, m->run);
    if (npu_ecc_hit(s, m->addr, m->run)) {
        npu_error(s, NPU_ERROR_ECC, m->addr);
        return false;
    }
    memcpy(buf, s->mem + m->addr, m->run);
    return true;
}

static bool npu_piece_put(NpuStep *st, const NpuMapping *m, const void *buf)
{
    GmemNpu *s = st->q->npu;

    if (m->sys) {
        npu_charge_link(st, NPU_FROM_DEVICE, m->run);
        return npu_dma_write(s, m->addr, buf, m->run);
    }
    npu_charge_local(st, NPU_STAT_JOB_LOCAL_WRITE, m->run);
    memcpy(s->mem + m->addr, buf, m->run);
    npu_ecc_repair(s, m->addr, m->run);
    return true;
}

static bool npu_get(NpuStep *st, const NpuSpan *sp, void *buf)
{
    uint8_t *p = buf;

    for (unsigned i = 0; i < sp->pieces; i++) {
        if (!npu_piece_get(st, &sp->piece[i], p)) {
            st->status = NPU_EIO;
            return false;
        }
        p += sp->piece[i].run;
    }
    return true;
}

static bool npu_put(NpuStep *st, const NpuSpan *sp, const void *buf)
{
    const uint8_t *p = buf;

    for (unsigned i = 0; i < sp->pieces; i++) {
        if (!npu_piece_put(st, &sp->piece[i], p)) {
            st->status = NPU_EIO;
            return false;
        }
        p += sp->piece[i].run;
    }
    return true;
}

/* @count elements are done; the job is over when there are @total. */
static void npu_step_progress(NpuStep *st, uint64_t count, uint64_t total)
{
    st->q->job.done += count;
    st->finished = st->q->job.done == total;
}

/* --- streaming operations ------------------------------------------------ */

static void npu_step_fill(NpuStep *st)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 1), n;
    NpuSpan dst = { .va = npu_arg(q, 0) + done, .unit = 1, .write = true };
    uint8_t *buf = q->scratch->x;

    n = npu_step_map(st, &dst, 1, total - done);
    for (uint64_t i = 0; i < n; i++) {
        buf[i] = npu_arg(q, 2) >> (done + i) % 8 * 8;
    }
    if (n && npu_put(st, &dst, buf)) {
        npu_step_progress(st, n, total);
    }
}

static void npu_step_memcpy(NpuStep *st)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 2), n;
    NpuSpan sp[] = {
        { .va = npu_arg(q, 0) + done, .unit = 1, .write = true },
        { .va = npu_arg(q, 1) + done, .unit = 1 },
    };

    n = npu_step_map(st, sp, 2, total - done);
    if (n && npu_get(st, &sp[1], q->scratch->x) &&
        npu_put(st, &sp[0], q->scratch->x)) {
        npu_step_progress(st, n, total);
    }
}

static void npu_step_axpy(NpuStep *st)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 2), n;
    NpuSpan sp[] = {
        { .va = npu_arg(q, 0) + 4 * done, .unit = 4, .write = true },
        { .va = npu_arg(q, 1) + 4 * done, .unit = 4 },
    };
    float *y = (float *)q->scratch->y, *x = (float *)q->scratch->x, a;
    uint32_t bits = npu_arg(q, 3);

    memcpy(&a, &bits, sizeof(a));
    n = npu_step_map(st, sp, 2, total - done);
    if (!n || !npu_get(st, &sp[0], y) || !npu_get(st, &sp[1], x)) {
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        float product = a * x[i];

        y[i] = y[i] + product;
    }
    npu_charge_alu(st, 2 * n);
    if (npu_put(st, &sp[0], y)) {
        npu_step_progress(st, n, total);
    }
}

static void npu_step_reduce(NpuStep *st)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 1), n;
    NpuSpan src = { .va = npu_arg(q, 0) + 8 * done, .unit = 8 };
    uint64_t *x = (uint64_t *)q->scratch->x;

    n = npu_step_map(st, &src, 1, total - done);
    if (!n || !npu_get(st, &src, x)) {
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        q->result += x[i];
    }
    npu_charge_alu(st, n);
    npu_step_progress(st, n, total);
}

static void npu_step_histogram(NpuStep *st)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 2), n;
    NpuSpan sp[] = {
        { .va = npu_arg(q, 0), .unit = NPU_HIST_BYTES, .fixed = true,
          .write = true },
        { .va = npu_arg(q, 1) + done, .unit = 1 },
    };
    uint64_t *hist = (uint64_t *)q->scratch->y;
    uint8_t *x = q->scratch->x;

    n = npu_step_map(st, sp, 2, total - done);
    if (!n || !npu_get(st, &sp[0], hist) || !npu_get(st, &sp[1], x)) {
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        hist[x[i]]++;
    }
    npu_charge_alu(st, n);
    if (npu_put(st, &sp[0], hist)) {
        npu_step_progress(st, n, total);
    }
}

/* --- random access ------------------------------------------------------- */

/*
 * Gather and scatter: @table is the array that the indices point into, @linear
 * the other one.  The indices of a batch are read first, because the elements
 * of the table cannot be translated before they are known.
 */
static void npu_step_indexed(NpuStep *st, uint64_t linear, uint64_t table,
                             bool scatter)
{
    NpuQueue *q = st->q;
    uint64_t done = q->job.done, total = npu_arg(q, 3), n, i;
    uint64_t *index = (uint64_t *)q->scratch->x;
    uint64_t *data = (uint64_t *)q->scratch->y;
    NpuSpan element[NPU_BATCH];
    NpuSpan sp[] = {
        { .va = linear + 8 * done, .unit = 8, .write = !scatter },
        { .va = npu_arg(q, 2) + 8 * done, .unit = 8 },
    };

    n = npu_step_map(st, sp, 2, MIN(total - done, NPU_BATCH));
    if (!n || !npu_get(st, &sp[1], index)) {
        return;
    }
    for (i = 0; i < n && !st->status; i++) {
        element[i] = (NpuSpan) { .va = table + 8 * index[i], .unit = 8,
                                 .write = scatter };
        npu_step_map(st, &element[i], 1, 1);
    }
    if (npu_step_stopped(st) || (scatter && !npu_get(st, &sp[0], data))) {
        return;
    }
    for (i = 0; i < n; i++) {
        if (!(scatter ? npu_put(st, &element[i], &data[i]) :
                        npu_get(st, &element[i], &data[i]))) {
            return;
        }
    }
    if (scatter || npu_put(st, &sp[0], data)) {
        npu_step_progress(st, n, total);
    }
}

static void npu_step_gather(NpuStep *st)
{
    npu_step_indexed(st, npu_arg(st->q, 0), npu_arg(st->q, 1), false);
}

static void npu_step_scatter(NpuStep *st)
{
    npu_step_indexed(st, npu_arg(st->q, 1), npu_arg(st->q, 0), true);
}

static void npu_step_chase(NpuStep *st)
{
    NpuQueue *q = st->q;
    NpuJob *job = &q->job;
    NpuSpan sp[] = {
        { .va = job->node + npu_arg(q, 1), .unit = 8 },
        { .va = job->node + npu_arg(q, 2), .unit = 8 },
    };
    uint64_t next, value;

    if (!npu_step_map(st, sp, 2, 1) || !npu_get(st, &sp[0], &next) ||
        !npu_get(st, &sp[1], &value)) {
        return;
    }
    st->end += q->npu->mem_latency_ns;
    q->result += value;
    job->node = next;
    npu_step_progress(st, 1, npu_arg(q, 3));
    st->finished |= !next;
}

static void npu_step_atomic_add(NpuStep *st)
{
    NpuQueue *q = st->q;
    GmemNpu *s = q->npu;
    NpuSpan p = { .va = npu_arg(q, 0), .unit = 8, .write = true };
    uint64_t addr, old;

    if (!npu_step_map(st, &p, 1, 1)) {
        return;
    }
    addr = p.piece[0].addr;
    st->end += s->mem_latency_ns;
    if (p.piece[0].sys) {
        npu_charge_link(st, NPU_TO_DEVICE, 8);
        npu_charge_link(st, NPU_FROM_DEVICE, 8);
        if (!npu_dma_fetch_add(s, addr, npu_arg(q, 1), &old)) {
            st->status = NPU_EIO;
            return;
        }
    } else if (!npu_piece_get(st, &p.piece[0], &old)) {
        st->status = NPU_EIO;
        return;
    } else {
        npu_charge_local(st, NPU_STAT_JOB_LOCAL_WRITE, 8);
        old = qatomic_fetch_add((uint64_t *)(s->mem + addr), npu_arg(q, 1));
    }
    q->result = old;
    npu_step_progress(st, 1, npu_arg(q, 2));
}

/* --- matrix multiply ----------------------------------------------------- */

/*
 * Tiles of C are built in on-chip memory from panels of A and B that are loaded
 * a row at a time; one row is one step.  The tiles of a row of C, and the parts
 * of a dot product, come in ascending order.
 */
typedef struct NpuTile {
    uint32_t m, n, k;           /* the whole matrices */
    uint32_t rows, cols, depth; /* this tile */
} NpuTile;

static NpuTile npu_tile(const NpuQueue *q)
{
    uint64_t dim = npu_arg(q, 3);
    NpuTile t = { NPU_DIM_M(dim), NPU_DIM_N(dim), NPU_DIM_K(dim) };

    t.rows = MIN(NPU_TILE_M, t.m - q->job.mm.i);
    t.cols = MIN(NPU_TILE_N, t.n - q->job.mm.j);
    t.depth = MIN(NPU_TILE_K, t.k - q->job.mm.k);
    return t;
}

static void npu_tile_multiply(NpuStep *st, const NpuTile *t)
{
    NpuScratch *m = st->q->scratch;

    for (uint32_t i = 0; i < t->rows; i++) {
        float *c = m->c + i * NPU_TILE_N;

        for (uint32_t k = 0; k < t->depth; k++) {
            float a = m->a[i * NPU_TILE_K + k];
            const float *b = m->b + k * NPU_TILE_N;

            for (uint32_t j = 0; j < t->cols; j++) {
                float product = a * b[j];

                c[j] = c[j] + product;
            }
        }
    }
    npu_charge_alu(st, 2ULL * t->rows * t->cols * t->depth);
}

/* The panel is complete: which one is next? */
static void npu_tile_next(NpuStep *st, const NpuTile *t)
{
    NpuQueue *q = st->q;
    NpuJob *job = &q->job;

    job->mm.row = 0;
    switch (job->mm.phase) {
    case NPU_LOAD_A:
        job->mm.phase = NPU_LOAD_B;
        return;
    case NPU_LOAD_B:
        npu_tile_multiply(st, t);
        job->mm.k += t->depth;
        job->mm.phase = job->mm.k < t->k ? NPU_LOAD_A : NPU_STORE_C;
        return;
    case NPU_STORE_C:
        memset(q->scratch->c, 0, sizeof(q->scratch->c));
        job->mm.phase = NPU_LOAD_A;
        job->mm.k = 0;
        job->mm.j += t->cols;
        if (job->mm.j == t->n) {
            job->mm.j = 0;
            job->mm.i += t->rows;
        }
        st->finished = job->mm.i == t->m;
        return;
    }
}

static void npu_step_matmul(NpuStep *st)
{
    NpuQueue *q = st->q;
    NpuJob *job = &q->job;
    NpuTile t = npu_tile(q);
    uint64_t i = job->mm.i, j = job->mm.j, k = job->mm.k, row = job->mm.row;
    NpuSpan sp = { .fixed = true };
    uint32_t rows;
    float *buf;

    switch (job->mm.phase) {
    case NPU_LOAD_A:
        sp.va = npu_arg(q, 1) + 4 * ((i + row) * t.k + k);
        sp.unit = 4 * t.depth;
        buf = q->scratch->a + row * NPU_TILE_K;
        rows = t.rows;
        break;
    case NPU_LOAD_B:
        sp.va = npu_arg(q, 2) + 4 * ((k + row) * t.n + j);
        sp.unit = 4 * t.cols;
        buf = q->scratch->b + row * NPU_TILE_N;
        rows = t.depth;
        break;
    default:
        sp.va = npu_arg(q, 0) + 4 * ((i + row) * t.n + j);
        sp.unit = 4 * t.cols;
        sp.write = true;
        buf = q->scratch->c + row * NPU_TILE_N;
        rows = t.rows;
    }
    if (npu_step_map(st, &sp, 1, 1) &&
        (sp.write ? npu_put(st, &sp, buf) : npu_get(st, &sp, buf)) &&
        ++job->mm.row == rows) {
        npu_tile_next(st, &t);
    }
}

/* --- starting a job ------------------------------------------------------ */

/* A range of @count elements from @va must exist in the address space. */
static unsigned npu_range(uint64_t va, uint64_t count, uint64_t unit)
{
    uint64_t limit = 1ULL << NPU_VA_BITS;

    if (!count) {
        return NPU_EINVAL;
    }
    return va >= limit || count > (limit - va) / unit ? NPU_EFAULT : 0;
}

static unsigned npu_check_fill(NpuQueue *q)
{
    return npu_range(npu_arg(q, 0), npu_arg(q, 1), 1);
}

static unsigned npu_check_memcpy(NpuQueue *q)
{
    unsigned status = npu_range(npu_arg(q, 0), npu_arg(q, 2), 1);

    return status ? status : npu_range(npu_arg(q, 1), npu_arg(q, 2), 1);
}

static unsigned npu_check_axpy(NpuQueue *q)
{
    unsigned status = npu_range(npu_arg(q, 0), npu_arg(q, 2), 4);

    return status ? status : npu_range(npu_arg(q, 1), npu_arg(q, 2), 4);
}

static unsigned npu_check_matmul(NpuQueue *q)
{
    uint64_t dim = npu_arg(q, 3);
    uint64_t m = NPU_DIM_M(dim), n = NPU_DIM_N(dim), k = NPU_DIM_K(dim);
    unsigned status;

    if (!m || !n || !k || dim >> 60 || npu_arg(q, 4)) {
        return NPU_EINVAL;
    }
    status = npu_range(npu_arg(q, 0), m * n, 4);
    if (!status) {
        status = npu_range(npu_arg(q, 1), m * k, 4);
    }
    return status ? status : npu_range(npu_arg(q, 2), k * n, 4);
}

static unsigned npu_check_reduce(NpuQueue *q)
{
    return npu_range(npu_arg(q, 0), npu_arg(q, 1), 8);
}

static unsigned npu_check_histogram(NpuQueue *q)
{
    unsigned status = npu_range(npu_arg(q, 0), NPU_HIST_BYTES, 1);

    return status ? status : npu_range(npu_arg(q, 1), npu_arg(q, 2), 1);
}

static unsigned npu_check_chase(NpuQueue *q)
{
    q->job.node = npu_arg(q, 0);
    return npu_arg(q, 3) ? 0 : NPU_EINVAL;
}

static unsigned npu_check_gather(NpuQueue *q)
{
    unsigned status = npu_range(npu_arg(q, 0), npu_arg(q, 3), 8);

    return status ? status : npu_range(npu_arg(q, 2), npu_arg(q, 3), 8);
}

static unsigned npu_check_scatter(NpuQueue *q)
{
    unsigned status = npu_range(npu_arg(q, 1), npu_arg(q, 3), 8);

    return status ? status : npu_range(npu_arg(q, 2), npu_arg(q, 3), 8);
}

static unsigned npu_check_atomic_add(NpuQueue *q)
{
    if (npu_arg(q, 0) % 8 || !npu_arg(q, 2)) {
        return NPU_EINVAL;
    }
    return npu_range(npu_arg(q, 0), 1, 8);
}

static const struct NpuOperation {
    unsigned op;
    unsigned (*check)(NpuQueue *q);
    void (*step)(NpuStep *st);
} npu_operations[] = {
    { NPU_OP_FILL, npu_check_fill, npu_step_fill },
    { NPU_OP_MEMCPY, npu_check_memcpy, npu_step_memcpy },
    { NPU_OP_AXPY, npu_check_axpy, npu_step_axpy },
    { NPU_OP_MATMUL, npu_check_matmul, npu_step_matmul },
    { NPU_OP_REDUCE, npu_check_reduce, npu_step_reduce },
    { NPU_OP_HISTOGRAM, npu_check_histogram, npu_step_histogram },
    { NPU_OP_CHASE, npu_check_chase, npu_step_chase },
    { NPU_OP_GATHER, npu_check_gather, npu_step_gather },
    { NPU_OP_SCATTER, npu_check_scatter, npu_step_scatter },
    { NPU_OP_ATOMIC_ADD, npu_check_atomic_add, npu_step_atomic_add },
};

static const struct NpuOperation *npu_operation(const NpuQueue *q)
{
    for (unsigned i = 0; i < ARRAY_SIZE(npu_operations); i++) {
        if (npu_operations[i].op == npu_op(q)) {
            return &npu_operations[i];
        }
    }
    return NULL;
}

/* Do one step of the job and wait as long as it takes. */
void npu_job_step(NpuQueue *q)
{
    NpuStep st = { .q = q, .end = npu_now() };

    npu_operation(q)->step(&st);
    if (st.status) {
        q->nfaults = 0;
        npu_queue_finish(q, st.status, st.end);
    } else if (q->nfaults) {
        npu_queue_stall(q, st.end);
    } else if (st.finished) {
        npu_queue_finish(q, 0, st.end);
    } else {
        npu_queue_arm(q, st.end);
    }
}

void npu_job_begin(NpuQueue *q)
{
    GmemNpu *s = q->npu;
    const struct NpuOperation *op = npu_operation(q);
    unsigned status = NPU_EINVAL;

    s->stat[NPU_STAT_JOBS]++;
    memset(&q->job, 0, sizeof(q->job));
    if (op && npu_ctx(q) < s->nr_contexts) {
        status = op->check(q);
    }
    if (!status && !(s->ctx_root[npu_ctx(q)] & NPU_CTX_VALID)) {
        status = NPU_EFAULT;
    }
    if (status) {
        npu_error(s, NPU_ERROR_DESC, q->desc[NPU_DESC_W_OP]);
        npu_queue_retire(q, status);
        return;
    }
    if (s->jobs_to_fail && --s->jobs_to_fail == 0) {
        npu_queue_retire(q, NPU_EIO);
        return;
    }
    if (op->op == NPU_OP_MATMUL) {
        memset(q->scratch->c, 0, sizeof(q->scratch->c));
    }
    npu_job_step(q);
}
