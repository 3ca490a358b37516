/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: translation, accessed and dirty bits, the TLB that keeps what it
 * has, replayable faults and their overflow, and the end of a context.
 */
#include "qemu/osdep.h"
#include "gmem-npu-qtest.h"

static NpuCmd fill(uint64_t va, uint64_t bytes, uint64_t pattern)
{
    return (NpuCmd) { NPU_OP_FILL, .ctx = CTX,
                      .arg = { va, bytes, pattern } };
}

static NpuCmd reduce(uint64_t va, uint64_t count)
{
    return (NpuCmd) { NPU_OP_REDUCE, .ctx = CTX, .arg = { va, count } };
}

static uint64_t sum_of(Npu *n, uint64_t va)
{
    uint64_t index = npu_submit(n, COMPUTE(0), reduce(va, 1));

    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 0);
    return npu_result(n, COMPUTE(0), index);
}

static const uint64_t VA = 0x7f1234560000;

/* --- accessed and dirty -------------------------------------------------- */

static void check_marks(Npu *n, unsigned shift, bool sys)
{
    uint64_t size = 1ULL << shift, bits = NPU_PTE_W | (sys ? NPU_PTE_SYS : 0);
    uint64_t frame = sys ? npu_ram(n, size) : npu_local(n, size);
    uint64_t va = n->va_next, at = va + size - PAGE, slot, pte;

    n->va_next += 4 * MIB;
    npu_map_page(n, CTX, va, frame, shift, bits);
    slot = npu_pte_addr(n, CTX, at, shift == 21 ? 1 : 0);
    pte = local_rd(n, slot);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), reduce(at, 1)), ==, 0);
    g_assert_cmphex(local_rd(n, slot), ==, pte | NPU_PTE_A);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(at, 8, 1)), ==, 0);
    g_assert_cmphex(local_rd(n, slot), ==, pte | NPU_PTE_A | NPU_PTE_D);

    /* Cleared without an invalidation, they stay clear: the TLB knows. */
    local_wr(n, slot, pte);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(at, 8, 2)), ==, 0);
    g_assert_cmphex(local_rd(n, slot), ==, pte);
    npu_flush(n, at, at + 1);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(at, 8, 3)), ==, 0);
    g_assert_cmphex(local_rd(n, slot), ==, pte | NPU_PTE_A | NPU_PTE_D);
    if (shift == 16) {
        /* The mark goes into the one entry of 16 that was walked. */
        slot = npu_pte_addr(n, CTX, va, 0);
        g_assert_cmphex(local_rd(n, slot) & (NPU_PTE_A | NPU_PTE_D), ==, 0);
    }
}

static void test_marks(void)
{
    Npu *n = npu_start("");

    for (int sys = 0; sys < 2; sys++) {
        check_marks(n, 12, sys);
        check_marks(n, 16, sys);
        check_marks(n, 21, sys);
    }
    npu_stop(n);
}

/* All 16 entries of a 64 KiB page may hold the frame of the first. */
static void test_64k_same_frame(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, 64 * KIB);

    for (unsigned i = 0; i < 16; i++) {
        local_wr(n, npu_pte_addr(n, CTX, VA + i * PAGE, 0),
                 frame | NPU_PTE_V | NPU_PTE_W | NPU_PTE_64K);
        local_wr(n, frame + i * PAGE, 100 + i);
    }
    for (unsigned i = 0; i < 16; i++) {
        npu_flush(n, 0, ~0ULL);
        g_assert_cmpuint(sum_of(n, VA + i * PAGE), ==, 100 + i);
    }
    npu_stop(n);
}

/* --- the TLB ------------------------------------------------------------- */

/* Remap a page without telling the TLB: the old frame is used, and counted. */
static void check_stale(unsigned shift, bool sys)
{
    uint64_t bits = NPU_PTE_W | (sys ? NPU_PTE_SYS : 0);
    uint64_t size = 1ULL << shift, stale = 0;
    Npu *n = npu_start("");
    uint64_t base = sys ? 0 : n->mem;
    uint64_t old = sys ? npu_ram(n, size) : npu_local(n, size);
    uint64_t new = sys ? npu_ram(n, size) : npu_local(n, size);
    uint64_t va = VA & ~(size - 1), slot;

    host_wr(n, base + old, 1);
    host_wr(n, base + new, 2);
    npu_map_page(n, CTX, va, old, shift, bits);
    g_assert_cmpuint(sum_of(n, va), ==, 1);
    npu_map_page(n, CTX, va, new, shift, bits);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, stale);
    g_assert_cmpuint(sum_of(n, va), ==, 1);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, ++stale);

    /* A write goes to the old frame, and marks no other page as dirty. */
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(va, 8, 3)), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, ++stale);
    g_assert_cmpuint(host_rd(n, base + old), ==, 3);
    g_assert_cmpuint(host_rd(n, base + new), ==, 2);
    slot = npu_pte_addr(n, CTX, va, shift == 21 ? 1 : 0);
    g_assert_cmphex(local_rd(n, slot) & (NPU_PTE_A | NPU_PTE_D), ==, 0);

    /* Not even the end of the mapping is noticed. */
    local_wr(n, slot, 0);
    g_assert_cmpuint(sum_of(n, va), ==, 3);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, ++stale);

    npu_map_page(n, CTX, va, new, shift, bits);
    npu_flush(n, va + size - 1, va + size);
    g_assert_cmpuint(sum_of(n, va), ==, 2);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, stale);
    npu_stop(n);
}

static void test_stale(void)
{
    for (int sys = 0; sys < 2; sys++) {
        check_stale(12, sys);
        check_stale(16, sys);
        check_stale(21, sys);
    }
}

/* What an invalidation drops, and what it leaves. */
static void test_invalidate_range(void)
{
    Npu *n = npu_start("");
    uint64_t old = npu_local(n, 4 * PAGE), new = npu_local(n, 4 * PAGE);

    for (unsigned i = 0; i < 4; i++) {
        local_wr(n, old + i * PAGE, 10 + i);
        local_wr(n, new + i * PAGE, 20 + i);
        npu_map_page(n, CTX, VA + i * PAGE, old + i * PAGE, 12, 0);
        g_assert_cmpuint(sum_of(n, VA + i * PAGE), ==, 10 + i);
        npu_map_page(n, CTX, VA + i * PAGE, new + i * PAGE, 12, 0);
    }
    /* From the last byte of page 1 to the first of page 2. */
    npu_flush(n, VA + 2 * PAGE - 1, VA + 2 * PAGE + 1);
    g_assert_cmpuint(sum_of(n, VA), ==, 10);
    g_assert_cmpuint(sum_of(n, VA + PAGE), ==, 21);
    g_assert_cmpuint(sum_of(n, VA + 2 * PAGE), ==, 22);
    g_assert_cmpuint(sum_of(n, VA + 3 * PAGE), ==, 13);
    /* Another context's entries stay. */
    npu_wr(n, NPU_REG_TLBI_START, 0);
    npu_wr(n, NPU_REG_TLBI_END, ~0ULL);
    npu_wr(n, NPU_REG_TLBI_GO, CTX + 1);
    npu_step(n, T_TLBI);
    g_assert_cmpuint(sum_of(n, VA), ==, 10);
    npu_flush(n, 0, ~0ULL);
    g_assert_cmpuint(sum_of(n, VA), ==, 20);
    g_assert_cmpuint(sum_of(n, VA + 3 * PAGE), ==, 23);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TLBI), ==, 3);
    npu_stop(n);
}

/* The same VA in two contexts is two pages. */
static void test_contexts(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, 2 * PAGE);
    uint64_t i;

    npu_root(n, 5);
    npu_map_page(n, CTX, VA, frame, 12, 0);
    npu_map_page(n, 5, VA, frame + PAGE, 12, 0);
    local_wr(n, frame, 1);
    local_wr(n, frame + PAGE, 2);
    g_assert_cmpuint(sum_of(n, VA), ==, 1);
    i = npu_submit(n, COMPUTE(1), (NpuCmd) { NPU_OP_REDUCE, .ctx = 5,
                                             .arg = { VA, 1 } });
    g_assert_cmpuint(npu_wait(n, COMPUTE(1), i), ==, 0);
    g_assert_cmpuint(npu_result(n, COMPUTE(1), i), ==, 2);
    g_assert_cmpuint(sum_of(n, VA), ==, 1);
    npu_stop(n);
}

static void test_invalidate_timing(void)
{
    Npu *n = npu_start("");

    npu_wr(n, NPU_REG_TLBI_END, ~0ULL);
    for (unsigned i = 1; i <= NPU_TLBI_DEPTH; i++) {
        npu_wr(n, NPU_REG_TLBI_GO, CTX);
        g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_QUEUED), ==, i);
    }
    g_assert_cmphex(npu_rd(n, NPU_REG_STATUS), ==, NPU_STATUS_TLBI_BUSY);
    npu_step(n, T_TLBI - 1);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_DONE), ==, 0);
    npu_step(n, 1);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_DONE), ==, 1);

    /* There is room for one more, and not for two. */
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR), ==, 0);
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_QUEUED), ==, NPU_TLBI_DEPTH + 1);
    npu_step(n, NPU_TLBI_DEPTH * T_TLBI - 1);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_DONE), ==, NPU_TLBI_DEPTH);
    npu_step(n, 1);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_DONE), ==, NPU_TLBI_DEPTH + 1);
    g_assert_cmphex(npu_rd(n, NPU_REG_STATUS), ==, 0);
    npu_expect_error(n, NPU_ERROR_DESC);

    /* No such context; an empty range. */
    npu_wr(n, NPU_REG_TLBI_GO, 64);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_wr(n, NPU_REG_TLBI_START, 0x2000);
    npu_wr(n, NPU_REG_TLBI_END, 0x2000);
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_QUEUED), ==, NPU_TLBI_DEPTH + 1);
    npu_stop(n);
}

/* More pages than entries: all are still reached, by walking again. */
static void test_tlb_capacity(void)
{
    Npu *n = npu_start("tlb-entries=8");
    NpuBuf b = npu_buf(n, 12, false, 32 * PAGE, 0);

    for (unsigned round = 0; round < 2; round++) {
        g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va, b.bytes, round)),
                         ==, 0);
    }
    g_assert_cmpuint(npu_stat(n, NPU_STAT_WALKS), ==, 64);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TLB_HITS), ==, 0);
    npu_stop(n);
}

/* --- faults -------------------------------------------------------------- */

static void test_fault_replay(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, PAGE), index, start;
    NpuRecord r;

    npu_map_page(n, CTX, VA + 0x1000, frame, 12, NPU_PTE_W);
    npu_unmap_page(n, CTX, VA + 0x1000);
    index = npu_submit(n, COMPUTE(2), fill(VA + 0x1238, 8, 77));
    start = npu_time(n);
    /* Fetch, four levels of walk, the record. */
    npu_step(n, T_CMD + 4 * T_WALK + T_FAULT - 1);
    g_assert_false(npu_fault_pending(n));
    npu_step(n, 1);
    g_assert_true(npu_fault_pending(n));
    g_assert_false(npu_irq_seen(n, NPU_VEC_FAULT));
    npu_step(n, T_IRQ - 1);
    g_assert_false(npu_irq_seen(n, NPU_VEC_FAULT));
    npu_step(n, 1);
    g_assert_true(npu_irq_seen(n, NPU_VEC_FAULT));
    g_assert_cmphex(npu_rd(n, NPU_QUEUE(COMPUTE(2)) + NPU_Q_STATUS), ==,
                    NPU_Q_STALLED);

    g_assert_true(npu_record_valid(n, 0, &r));
    g_assert_cmphex(r.word[NPU_FAULT_W_ADDR], ==, VA + 0x1000);
    g_assert_cmphex(r.word[NPU_FAULT_W_INFO], ==,
                    NPU_FAULT_PHASE | NPU_FAULT_WRITE |
                    (uint64_t)CTX << 16 | 2ULL << 32);
    g_assert_cmpuint(r.word[NPU_FAULT_W_TIME], ==,
                     start + T_CMD + 4 * T_WALK);
    g_assert_cmpuint(r.word[NPU_FAULT_W_FENCE], ==, index + 1);
    npu_wr(n, NPU_REG_FAULTQ_HEAD, 1);

    /* Nothing happens until there is a response. */
    npu_map_page(n, CTX, VA + 0x1000, frame, 12, NPU_PTE_W);
    npu_step(n, 1000000);
    g_assert_cmpuint(npu_status(n, COMPUTE(2), index), ==, NO_STATUS);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALL_NS), ==, 0);
    npu_replay(n, COMPUTE(2));
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALL_NS), ==,
                     T_FAULT + T_IRQ + 1000000);
    npu_expect_time(n, COMPUTE(2), index, T_REPLAY + 4 * T_WALK + 1);
    g_assert_cmpuint(local_rd(n, frame + 0x238), ==, 77);
    g_assert_cmpuint(npu_done_word(n, COMPUTE(2), index, NPU_DONE_W_FAULTS),
                     ==, 1);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULTS), ==, 1);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_REPLAYS), ==, 1);
    npu_stop(n);
}

/* A replay that comes too early gives a new record. */
static void test_fault_again(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, PAGE);
    uint64_t index = npu_submit(n, COMPUTE(0), fill(VA, 8, 1));

    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    npu_replay(n, COMPUTE(0));
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    npu_map_page(n, CTX, VA, frame, 12, NPU_PTE_W);
    npu_replay(n, COMPUTE(0));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 0);
    g_assert_cmpuint(npu_done_word(n, COMPUTE(0), index, NPU_DONE_W_FAULTS),
                     ==, 2);
    npu_stop(n);
}

/*
 * Every page of both operands faults, and the operation reads what it writes:
 * the result shows whether any part was done twice or not at all.
 */
static void test_effects_once(void)
{
    enum { COUNT = 3 * PAGE / 4 };
    float *x = g_new(float, COUNT), *y = g_new(float, COUNT);
    const float one = 1.0f;
    uint32_t bits;
    Npu *n = npu_start("");
    NpuBuf bx = npu_buf(n, 12, false, COUNT * 4, 2);
    NpuBuf by = npu_buf(n, 12, true, COUNT * 4, 402);
    uint64_t index, pte[2][4];

    for (unsigned i = 0; i < COUNT; i++) {
        x[i] = i;
        y[i] = 3 * i;
    }
    npu_buf_put(&bx, x);
    npu_buf_put(&by, y);
    memcpy(&bits, &one, sizeof(bits));
    for (unsigned i = 0; i < 4; i++) {
        uint64_t sx = npu_pte_addr(n, CTX, bx.va + i * PAGE, 0);
        uint64_t sy = npu_pte_addr(n, CTX, by.va + i * PAGE, 0);

        pte[0][i] = local_rd(n, sx);
        pte[1][i] = local_rd(n, sy);
        local_wr(n, sx, 0);
        local_wr(n, sy, 0);
    }
    index = npu_submit(n, COMPUTE(0), (NpuCmd) {
        NPU_OP_AXPY, .ctx = CTX, .arg = { by.va, bx.va, COUNT, bits } });
    for (unsigned i = 0; i < 4; i++) {
        uint64_t px = (bx.va + i * PAGE) & ~(PAGE - 1);
        uint64_t py = (by.va + i * PAGE) & ~(PAGE - 1);

        if (i == 0) {
            /* Both operands of the first step miss: one record for each. */
            npu_expect_fault(n, COMPUTE(0), py, NPU_FAULT_WRITE);
            npu_expect_fault(n, COMPUTE(0), px, 0);
            g_assert_false(npu_fault_pending(n));
        } else {
            /* The offsets differ: y leaves its page before x does. */
            npu_expect_fault(n, COMPUTE(0), py, NPU_FAULT_WRITE);
            local_wr(n, npu_pte_addr(n, CTX, py, 0), pte[1][i]);
            npu_replay(n, COMPUTE(0));
            npu_expect_fault(n, COMPUTE(0), px, 0);
        }
        local_wr(n, npu_pte_addr(n, CTX, px, 0), pte[0][i]);
        local_wr(n, npu_pte_addr(n, CTX, py, 0), pte[1][i]);
        npu_replay(n, COMPUTE(0));
    }
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        y[i] = 4 * i;
    }
    npu_buf_expect(&by, y);
    g_assert_cmpuint(npu_done_word(n, COMPUTE(0), index, NPU_DONE_W_FAULTS),
                     ==, 8);
    npu_stop(n);
    g_free(x);
    g_free(y);
}

/* Elements that a gather misses are reported together, each page once. */
static void test_gather_faults(void)
{
    Npu *n = npu_start("");
    NpuBuf src = npu_buf(n, 12, false, 4 * PAGE, 0);
    NpuBuf dst = npu_buf(n, 12, false, PAGE, 0);
    NpuBuf idx = npu_buf(n, 12, false, PAGE, 0);
    uint64_t index[] = { 0, 1024, 1, 1025, 512, 2 }, i, pte[4];
    uint64_t image[4 * PAGE / 8], want[PAGE / 8] = { };

    npu_noise(image, sizeof(image), 4);
    npu_buf_put(&src, image);
    idx.bytes = sizeof(index);
    npu_buf_put(&idx, index);
    npu_buf_put(&dst, want);
    for (unsigned p = 0; p < 4; p++) {
        uint64_t slot = npu_pte_addr(n, CTX, src.va + p * PAGE, 0);

        pte[p] = local_rd(n, slot);
        local_wr(n, slot, 0);
    }
    i = npu_submit(n, COMPUTE(3), (NpuCmd) {
        NPU_OP_GATHER, .ctx = CTX,
        .arg = { dst.va, src.va, idx.va, ARRAY_SIZE(index) } });
    npu_expect_fault(n, COMPUTE(3), src.va, 0);
    npu_expect_fault(n, COMPUTE(3), src.va + 2 * PAGE, 0);
    npu_expect_fault(n, COMPUTE(3), src.va + PAGE, 0);
    g_assert_false(npu_fault_pending(n));
    for (unsigned p = 0; p < 4; p++) {
        local_wr(n, npu_pte_addr(n, CTX, src.va + p * PAGE, 0), pte[p]);
    }
    npu_replay(n, COMPUTE(3));
    g_assert_cmpuint(npu_wait(n, COMPUTE(3), i), ==, 0);
    for (unsigned k = 0; k < ARRAY_SIZE(index); k++) {
        want[k] = image[index[k]];
    }
    npu_buf_expect(&dst, want);
    npu_stop(n);
}

static void test_fault_prot(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, PAGE), index;

    local_wr(n, frame, 5);
    npu_map_page(n, CTX, VA, frame, 12, 0);
    g_assert_cmpuint(sum_of(n, VA), ==, 5);
    index = npu_submit(n, COMPUTE(0), fill(VA, 8, 6));
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE | NPU_FAULT_PROT);
    g_assert_cmpuint(local_rd(n, frame), ==, 5);
    g_assert_cmphex(local_rd(n, npu_pte_addr(n, CTX, VA, 0)) & NPU_PTE_D, ==,
                    0);

    /* Widening needs no invalidation: the refusal was not remembered. */
    npu_map_page(n, CTX, VA, frame, 12, NPU_PTE_W);
    npu_replay(n, COMPUTE(0));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 0);
    g_assert_cmpuint(local_rd(n, frame), ==, 6);

    /* Narrowing does: until then the write goes through. */
    npu_map_page(n, CTX, VA, frame, 12, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(VA, 8, 7)), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, 1);
    g_assert_cmpuint(sum_of(n, VA), ==, 7);
    /* A read is as the page table has it. */
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, 1);
    npu_flush(n, VA, VA + PAGE);
    index = npu_submit(n, COMPUTE(0), fill(VA, 8, 8));
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE | NPU_FAULT_PROT);
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ABORT | NPU_RESP_ALL |
           NPU_RESP_ERRNO(1));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 1);
    g_assert_cmpuint(local_rd(n, frame), ==, 7);
    npu_stop(n);
}

static void test_fault_abort(void)
{
    Npu *n = npu_start("");
    uint64_t first = npu_submit(n, COMPUTE(0), fill(VA, 8, 1));
    uint64_t second = npu_submit(n, COMPUTE(0), fill(VA, 8, 1));

    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ABORT | NPU_RESP_QUEUE(0) |
           NPU_RESP_ERRNO(12));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), first), ==, 12);
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    /* Without an errno it is a fault like any other. */
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ABORT | NPU_RESP_QUEUE(0));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), second), ==, E_FAULT);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_REPLAYS), ==, 0);
    npu_stop(n);
}

/* A response for one queue leaves the others; one for all does not. */
static void test_respond_one(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, PAGE), i[3];

    for (unsigned q = 0; q < 3; q++) {
        i[q] = npu_submit(n, COMPUTE(q), fill(VA, 8, q));
        npu_expect_fault(n, COMPUTE(q), VA, NPU_FAULT_WRITE);
    }
    npu_map_page(n, CTX, VA, frame, 12, NPU_PTE_W);
    npu_replay(n, COMPUTE(1));
    g_assert_cmpuint(npu_wait(n, COMPUTE(1), i[1]), ==, 0);
    npu_step(n, 1000000);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), i[0]), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COMPUTE(2), i[2]), ==, NO_STATUS);
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_REPLAY | NPU_RESP_ALL);
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), i[0]), ==, 0);
    g_assert_cmpuint(npu_wait(n, COMPUTE(2), i[2]), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_REPLAYS), ==, 3);
    npu_stop(n);
}

/* --- overflow ------------------------------------------------------------ */

static void set_faultq(Npu *n, uint64_t size)
{
    npu_wr(n, NPU_REG_FAULTQ_SIZE, size);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_SIZE), ==, size);
}

/* Three queues fault into a queue of two records. */
static void overflow(Npu *n, uint64_t *index)
{
    set_faultq(n, 2);
    for (unsigned q = 0; q < 3; q++) {
        index[q] = npu_submit(n, COMPUTE(q), fill(VA + q * PAGE, 8, q));
    }
    npu_step(n, 100000);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_TAIL), ==, 2);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULT_DROPS), ==, 1);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULTS), ==, 2);
    g_assert_cmphex(npu_rd(n, NPU_QUEUE(COMPUTE(2)) + NPU_Q_STATUS), ==,
                    NPU_Q_STALLED);
    npu_expect_error(n, NPU_ERROR_FAULTQ);
}

static void expect_third(Npu *n)
{
    uint64_t rec[NPU_FAULT_WORDS];

    npu_step(n, T_FAULT);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_TAIL), ==, 3);
    qtest_bufread(n->qts, n->faultq, rec, sizeof(rec));
    g_assert_cmphex(rec[NPU_FAULT_W_ADDR], ==, VA + 2 * PAGE);
    /* It is in the second lap: the phase is 0 now. */
    g_assert_cmphex(rec[NPU_FAULT_W_INFO] & NPU_FAULT_PHASE, ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULT_DROPS), ==, 1);
}

/* Making room is enough to get the record that was dropped. */
static void test_overflow_head(void)
{
    Npu *n = npu_start("");
    uint64_t index[3];

    overflow(n, index);
    npu_wr(n, NPU_REG_FAULTQ_HEAD, 1);
    expect_third(n);
    npu_stop(n);
}

/* So is a response to any queue, when there is room already. */
static void check_overflow_response(uint64_t resp)
{
    Npu *n = npu_start("");
    uint64_t index[3];

    overflow(n, index);
    npu_wr(n, NPU_REG_FAULT_RESP, resp);
    npu_step(n, T_FAULT);
    /* Produced again, with no room yet. */
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULT_DROPS), ==, 2);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_TAIL), ==, 2);
    npu_stop(n);
}

static void test_overflow_response(void)
{
    check_overflow_response(NPU_RESP_ABORT | NPU_RESP_QUEUE(0));
    check_overflow_response(NPU_RESP_REPLAY | NPU_RESP_QUEUE(31));
}

/* One step with more misses than records: each is reported in the end. */
static void test_overflow_one_step(void)
{
    Npu *n = npu_start("");
    NpuBuf idx = npu_buf(n, 12, false, PAGE, 0);
    NpuBuf dst = npu_buf(n, 12, false, PAGE, 0);
    uint64_t index[20], frame = npu_local(n, 20 * PAGE), i;

    for (unsigned k = 0; k < 20; k++) {
        index[k] = k * 512;
        local_wr(n, frame + k * PAGE, 1000 + k);
    }
    idx.bytes = dst.bytes = sizeof(index);
    npu_buf_put(&idx, index);
    set_faultq(n, 8);
    i = npu_submit(n, COMPUTE(0), (NpuCmd) {
        NPU_OP_GATHER, .ctx = CTX, .arg = { dst.va, VA, idx.va, 20 } });
    for (unsigned k = 0; k < 20; k++) {
        uint64_t rec[NPU_FAULT_WORDS], slot = n->faultq + k % 8 * sizeof(rec);

        while (npu_rd(n, NPU_REG_FAULTQ_TAIL) <= k) {
            npu_step_event(n);
        }
        qtest_bufread(n->qts, slot, rec, sizeof(rec));
        g_assert_cmphex(rec[NPU_FAULT_W_ADDR], ==, VA + k * PAGE);
        npu_map_page(n, CTX, VA + k * PAGE, frame + k * PAGE, 12, 0);
        npu_wr(n, NPU_REG_FAULTQ_HEAD, k + 1);
    }
    npu_replay(n, COMPUTE(0));
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), i), ==, 0);
    g_assert_cmpuint(npu_done_word(n, COMPUTE(0), i, NPU_DONE_W_FAULTS), ==,
                     20);
    for (unsigned k = 0; k < 20; k++) {
        index[k] = 1000 + k;
    }
    npu_buf_expect(&dst, index);
    npu_stop(n);
}

/* A fault queue that was never set up loses nothing either. */
static void test_no_faultq(void)
{
    Npu *n = npu_start("");
    uint64_t index;

    set_faultq(n, 0);
    index = npu_submit(n, COMPUTE(0), fill(VA, 8, 1));
    npu_step(n, 100000);
    npu_expect_error(n, NPU_ERROR_FAULTQ);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), index), ==, NO_STATUS);
    set_faultq(n, FAULTQ);
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    npu_stop(n);
}

static void test_bad_faultq(void)
{
    Npu *n = npu_start("");

    npu_wr(n, NPU_REG_FAULTQ_SIZE, 3);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_SIZE), ==, 0);
    npu_wr(n, NPU_REG_FAULTQ_SIZE, 1ULL << 17);
    npu_expect_error(n, NPU_ERROR_DESC);
    set_faultq(n, FAULTQ);
    /* Beyond the tail; then backwards. */
    npu_wr(n, NPU_REG_FAULTQ_HEAD, 1);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_submit(n, COMPUTE(0), fill(VA, 8, 1));
    npu_expect_fault(n, COMPUTE(0), VA, NPU_FAULT_WRITE);
    npu_wr(n, NPU_REG_FAULTQ_HEAD, 0);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_rd(n, NPU_REG_FAULTQ_HEAD), ==, 1);
    npu_stop(n);
}

/* --- broken page tables -------------------------------------------------- */

static void expect_broken(Npu *n, uint64_t at)
{
    g_assert_cmpuint(npu_do(n, COMPUTE(0), reduce(VA, 1)), ==, E_FAULT);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR_ADDR), ==, at);
    npu_expect_error(n, NPU_ERROR_DESC);
}

static void test_broken_tables(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, PAGE);
    uint64_t leaf, top;

    npu_map_page(n, CTX, VA, frame, 12, 0);
    leaf = npu_pte_addr(n, CTX, VA, 0);
    top = npu_pte_addr(n, CTX, VA, 3);

    /* A frame that is not there. */
    local_wr(n, leaf, n->mem_size | NPU_PTE_V);
    expect_broken(n, leaf);
    local_wr(n, leaf, (n->mem_size - PAGE) | NPU_PTE_V);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), reduce(VA, 1)), ==, 0);
    npu_flush(n, 0, ~0ULL);
    /* A 2 MiB page that ends beyond the memory would be one as well. */
    local_wr(n, npu_pte_addr(n, CTX, VA, 1),
             n->mem_size | NPU_PTE_V | NPU_PTE_LEAF);
    expect_broken(n, npu_pte_addr(n, CTX, VA, 1));
    /* A leaf where only tables may be; a table that is not there. */
    local_wr(n, top, frame | NPU_PTE_V | NPU_PTE_LEAF);
    expect_broken(n, top);
    local_wr(n, top, (n->mem_size + PAGE) | NPU_PTE_V);
    expect_broken(n, n->mem_size + PAGE);
    /* A root that is not there; no root. */
    npu_wr(n, NPU_CTX(CTX) + NPU_CTX_ROOT, n->mem_size | NPU_CTX_VALID);
    expect_broken(n, n->mem_size);
    npu_wr(n, NPU_CTX(CTX) + NPU_CTX_ROOT, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), reduce(VA, 1)), ==, E_FAULT);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_stop(n);
}

/* --- the end of a context ------------------------------------------------ */

static void test_ctx_kill(void)
{
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 2 * MIB, 0);
    uint64_t running, stalled, queued, other, frame = npu_local(n, PAGE);
    uint64_t before;

    npu_root(n, 5);
    npu_map_page(n, 5, VA, frame, 12, NPU_PTE_W);
    running = npu_submit(n, COMPUTE(0), fill(b.va, b.bytes, 1));
    stalled = npu_submit(n, COMPUTE(1), fill(VA, 8, 1));
    queued = npu_submit(n, COMPUTE(1), fill(b.va, 8, 1));
    other = npu_submit(n, COMPUTE(1), (NpuCmd) {
        NPU_OP_FILL, .ctx = 5, .arg = { VA, 8, 55 } });
    npu_step(n, 20000);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), running), ==, NO_STATUS);
    g_assert_cmphex(npu_rd(n, NPU_QUEUE(COMPUTE(1)) + NPU_Q_STATUS), ==,
                    NPU_Q_STALLED);
    g_assert_cmpuint(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, 0);

    npu_wr(n, NPU_CTX(CTX) + NPU_CTX_KILL, 1);
    g_assert_cmpuint(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, 1);
    before = npu_stat(n, NPU_STAT_TRANSLATIONS);
    npu_step(n, T_CMD);
    g_assert_cmpuint(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, 0);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), running), ==, E_CANCELED);
    g_assert_cmpuint(npu_status(n, COMPUTE(1), stalled), ==, E_CANCELED);
    g_assert_cmpuint(npu_wait(n, COMPUTE(1), queued), ==, E_CANCELED);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TRANSLATIONS), ==, before);
    /* Others behind it live on, and so does the context if it is used. */
    g_assert_cmpuint(npu_wait(n, COMPUTE(1), other), ==, 0);
    g_assert_cmpuint(local_rd(n, frame), ==, 55);
    g_assert_cmpuint(npu_do(n, COMPUTE(1), fill(b.va, 8, 9)), ==, 0);
    npu_stop(n);
}

/* Jobs behind a stalled one of another context are dead, if not reported. */
static void test_ctx_kill_queued(void)
{
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 8, 0);
    uint64_t word = 1, first, second;

    npu_buf_put(&b, &word);
    npu_root(n, 5);
    first = npu_submit(n, COMPUTE(0), (NpuCmd) { NPU_OP_FILL, .ctx = 5,
                                                 .arg = { VA, 8, 1 } });
    second = npu_submit(n, COMPUTE(0), fill(b.va, 8, 2));
    npu_step(n, 20000);
    npu_wr(n, NPU_CTX(CTX) + NPU_CTX_KILL, 1);
    g_assert_cmpuint(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, 0);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), second), ==, NO_STATUS);
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ABORT | NPU_RESP_ALL);
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), first), ==, E_FAULT);
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), second), ==, E_CANCELED);
    npu_buf_expect(&b, &word);
    npu_stop(n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/gmem-npu/mmu/marks", test_marks);
    qtest_add_func("/gmem-npu/mmu/64k-same-frame", test_64k_same_frame);
    qtest_add_func("/gmem-npu/mmu/stale", test_stale);
    qtest_add_func("/gmem-npu/mmu/contexts", test_contexts);
    qtest_add_func("/gmem-npu/mmu/invalidate-range", test_invalidate_range);
    qtest_add_func("/gmem-npu/mmu/invalidate-timing", test_invalidate_timing);
    qtest_add_func("/gmem-npu/mmu/tlb-capacity", test_tlb_capacity);
    qtest_add_func("/gmem-npu/mmu/broken-tables", test_broken_tables);
    qtest_add_func("/gmem-npu/fault/replay", test_fault_replay);
    qtest_add_func("/gmem-npu/fault/again", test_fault_again);
    qtest_add_func("/gmem-npu/fault/effects-once", test_effects_once);
    qtest_add_func("/gmem-npu/fault/gather", test_gather_faults);
    qtest_add_func("/gmem-npu/fault/prot", test_fault_prot);
    qtest_add_func("/gmem-npu/fault/abort", test_fault_abort);
    qtest_add_func("/gmem-npu/fault/respond-one", test_respond_one);
    qtest_add_func("/gmem-npu/fault/overflow-head", test_overflow_head);
    qtest_add_func("/gmem-npu/fault/overflow-response",
                   test_overflow_response);
    qtest_add_func("/gmem-npu/fault/overflow-one-step",
                   test_overflow_one_step);
    qtest_add_func("/gmem-npu/fault/no-queue", test_no_faultq);
    qtest_add_func("/gmem-npu/fault/bad-queue", test_bad_faultq);
    qtest_add_func("/gmem-npu/ctx/kill", test_ctx_kill);
    qtest_add_func("/gmem-npu/ctx/kill-queued", test_ctx_kill_queued);
    return g_test_run();
}
