/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: copy queues. Data in each direction, what the commands cost on the
 * link, chains, and progress while every compute queue is stalled.
 */
#include "qemu/osdep.h"
#include "gmem-npu-qtest.h"

#define TO_LOCAL        NPU_F_DST_LOCAL
#define FROM_LOCAL      NPU_F_SRC_LOCAL
#define INSIDE          (NPU_F_SRC_LOCAL | NPU_F_DST_LOCAL)

static NpuCmd copy(unsigned flags, uint64_t src, uint64_t dst, uint64_t bytes)
{
    return (NpuCmd) { NPU_OP_COPY, flags, .arg = { src, dst, bytes } };
}

static void put(Npu *n, uint64_t at, const void *data, uint64_t bytes)
{
    qtest_bufwrite(n->qts, at, data, bytes);
}

static void expect(Npu *n, uint64_t at, const void *data, uint64_t bytes)
{
    void *got = g_malloc(bytes);

    qtest_bufread(n->qts, at, got, bytes);
    g_assert_cmpmem(got, bytes, data, bytes);
    g_free(got);
}

/* --- data ---------------------------------------------------------------- */

static void test_copy(void)
{
    enum { BYTES = 100001 };
    uint8_t *data = g_malloc(BYTES);
    Npu *n = npu_start("");
    uint64_t src = npu_ram(n, BYTES + PAGE) + 3;
    uint64_t dst = npu_ram(n, BYTES + PAGE) + 1;
    uint64_t a = npu_local(n, BYTES + PAGE) + 5;
    uint64_t b = npu_local(n, BYTES + PAGE) + 2;

    npu_noise(data, BYTES, 1);
    put(n, src, data, BYTES);
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(TO_LOCAL, src, a, BYTES)), ==,
                     0);
    expect(n, n->mem + a, data, BYTES);
    g_assert_cmpuint(npu_do(n, COPYQ(1), copy(INSIDE, a, b, BYTES)), ==, 0);
    expect(n, n->mem + b, data, BYTES);
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(FROM_LOCAL, b, dst, BYTES)), ==,
                     0);
    expect(n, dst, data, BYTES);
    /* Ranges inside the local memory may overlap. */
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(INSIDE, a, a + 9, BYTES - 9)),
                     ==, 0);
    expect(n, n->mem + a + 9, data, BYTES - 9);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPIES), ==, 4);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPY_TO_DEV), ==, BYTES);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPY_FROM_DEV), ==, BYTES);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPY_LOCAL), ==, 2 * BYTES - 9);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_DMA_DESCS), ==, 2);
    npu_stop(n);
    g_free(data);
}

#define SEGS    5

/* Segments of host memory that follow each other backwards. */
static uint64_t make_list(Npu *n, uint64_t *list, const uint64_t *bytes)
{
    uint64_t at = npu_ram(n, PAGE), area = npu_ram(n, SEGS * 16 * PAGE);

    for (unsigned i = 0; i < SEGS; i++) {
        list[2 * i] = area + (SEGS - 1 - i) * 16 * PAGE + 3 * i;
        list[2 * i + 1] = bytes[i];
    }
    put(n, at, list, SEGS * 16);
    return at;
}

static void test_sg(void)
{
    static const uint64_t bytes[SEGS] = { 1, 4096, 7, 10000, 8 };
    uint64_t total = 1 + 4096 + 7 + 10000 + 8, list[2 * SEGS], done = 0;
    uint8_t *data = g_malloc(total);
    Npu *n = npu_start("");
    uint64_t at = make_list(n, list, bytes), local = npu_local(n, 32 * KIB) + 1;
    NpuCmd sg = { NPU_OP_COPY_SG, TO_LOCAL, .arg = { at, local, SEGS } };

    npu_noise(data, total, 1);
    for (unsigned i = 0; i < SEGS; i++) {
        put(n, list[2 * i], data + done, bytes[i]);
        done += bytes[i];
    }
    g_assert_cmpuint(npu_do(n, COPYQ(0), sg), ==, 0);
    expect(n, n->mem + local, data, total);

    npu_noise(data, total, 2);
    put(n, n->mem + local, data, total);
    sg.flags = FROM_LOCAL;
    g_assert_cmpuint(npu_do(n, COPYQ(0), sg), ==, 0);
    done = 0;
    for (unsigned i = 0; i < SEGS; i++) {
        expect(n, list[2 * i], data + done, bytes[i]);
        done += bytes[i];
    }
    g_assert_cmpuint(npu_stat(n, NPU_STAT_DMA_DESCS), ==, 2 * SEGS);
    npu_stop(n);
    g_free(data);
}

static void test_zero(void)
{
    enum { BYTES = 150000 };
    uint8_t *data = g_malloc(BYTES);
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, BYTES), local = npu_local(n, BYTES);

    npu_noise(data, BYTES, 1);
    put(n, host, data, BYTES);
    put(n, n->mem + local, data, BYTES);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_ZERO, TO_LOCAL,
                         .arg = { local + 1, BYTES - 2 } }), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_ZERO, .arg = { host + 1, BYTES - 2 } }), ==,
                     0);
    memset(data + 1, 0, BYTES - 2);
    expect(n, host, data, BYTES);
    expect(n, n->mem + local, data, BYTES);
    npu_stop(n);
    g_free(data);
}

static void test_pte_write(void)
{
    Npu *n = npu_start("");
    uint64_t frame = npu_local(n, 64 * KIB), va = 0x200000000000, slot;

    slot = npu_pte_addr(n, CTX, va, 0);
    local_wr(n, slot + 16 * 8, 99);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_PTE_WRITE,
                         .arg = { slot, frame | NPU_PTE_V | NPU_PTE_64K, 16,
                                  PAGE } }), ==, 0);
    for (unsigned i = 0; i < 16; i++) {
        g_assert_cmphex(local_rd(n, slot + 8 * i), ==,
                        (frame + i * PAGE) | NPU_PTE_V | NPU_PTE_64K);
    }
    g_assert_cmpuint(local_rd(n, slot + 16 * 8), ==, 99);
    local_wr(n, frame + 5 * PAGE, 1234);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_REDUCE, .ctx = CTX,
                         .arg = { va + 5 * PAGE, 1 } }), ==, 0);
    g_assert_cmpuint(npu_result(n, COMPUTE(0), 0), ==, 1234);
    /* It moves no data, so it is no copy. */
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPIES), ==, 0);
    npu_stop(n);
}

/* The bytes are those that are there when the transfer ends. */
static void test_late_data(void)
{
    Npu *n = npu_start("");
    uint64_t src = npu_ram(n, PAGE), dst = npu_local(n, PAGE), index;

    host_wr(n, src, 1);
    local_wr(n, dst, 0);
    index = npu_submit(n, COPYQ(0), copy(TO_LOCAL, src, dst, PAGE));
    npu_step(n, T_CMD + T_DESC + T_LINK(PAGE) - 1);
    g_assert_cmpuint(local_rd(n, dst), ==, 0);
    host_wr(n, src, 2);
    npu_step(n, 1);
    g_assert_cmpuint(local_rd(n, dst), ==, 2);
    g_assert_cmpuint(npu_status(n, COPYQ(0), index), ==, 0);
    npu_stop(n);
}

/* --- timing -------------------------------------------------------------- */

static void expect_time(Npu *n, NpuCmd cmd, uint64_t ns)
{
    uint64_t index = npu_submit(n, COPYQ(0), cmd);

    npu_expect_time(n, COPYQ(0), index, ns);
}

static uint64_t list_of(Npu *n, unsigned segs, uint64_t bytes)
{
    uint64_t list = npu_ram(n, segs * 16), area = npu_ram(n, segs * bytes);

    for (unsigned i = 0; i < segs; i++) {
        host_wr(n, list + 16 * i, area + i * bytes);
        host_wr(n, list + 16 * i + 8, bytes);
    }
    return list;
}

static void test_timing(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, 2 * MIB), local = npu_local(n, 2 * MIB);
    uint64_t list;

    /* 1 us for the descriptor and 131.072 us for the bytes. */
    expect_time(n, copy(TO_LOCAL, host, local, 2 * MIB), T_CMD + 1000 + 131072);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_LINK_NS), ==, 131072);
    expect_time(n, copy(FROM_LOCAL, local, host, 2 * MIB),
                T_CMD + 1000 + 131072);
    expect_time(n, copy(TO_LOCAL, host, local, 1), T_CMD + T_DESC + 1);
    expect_time(n, copy(INSIDE, local, local, 2 * MIB),
                T_CMD + T_MEM(4 * MIB));
    expect_time(n, (NpuCmd) { NPU_OP_ZERO, TO_LOCAL, .arg = {
                local, 2 * MIB } }, T_CMD + T_MEM(2 * MIB));
    expect_time(n, (NpuCmd) { NPU_OP_ZERO, .arg = { host, 2 * MIB } },
                T_CMD + 1000 + 131072);
    expect_time(n, (NpuCmd) { NPU_OP_NOP }, T_CMD);
    expect_time(n, (NpuCmd) { NPU_OP_TLB_INVL, .ctx = CTX,
                .arg = { 0, ~0ULL } }, T_CMD + T_TLBI);
    expect_time(n, (NpuCmd) { NPU_OP_PTE_WRITE, .arg = { local, 0, 512, 0 } },
                T_CMD + T_MEM(512 * 8));
    expect_time(n, (NpuCmd) { NPU_OP_REPLAY }, T_CMD);

    /* 512 segments of 4 KiB: one descriptor each, the last one's bytes. */
    list = list_of(n, 512, PAGE);
    expect_time(n, (NpuCmd) { NPU_OP_COPY_SG, TO_LOCAL, .arg = {
                list, local, 512 } }, T_CMD + 512 * T_DESC + T_LINK(PAGE));
    /* 32 segments of 64 KiB: the descriptors hide behind the bytes. */
    list = list_of(n, 32, 64 * KIB);
    expect_time(n, (NpuCmd) { NPU_OP_COPY_SG, TO_LOCAL, .arg = {
                list, local, 32 } }, T_CMD + T_DESC + T_LINK(2 * MIB));
    /* Commands of one queue follow each other. */
    npu_push(n, COPYQ(0), copy(TO_LOCAL, host, local, PAGE));
    expect_time(n, copy(TO_LOCAL, host, local, PAGE),
                2 * (T_CMD + T_DESC + T_LINK(PAGE)));
    npu_stop(n);
}

static void test_link_shared(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, 4 * MIB), local = npu_local(n, 4 * MIB);
    uint64_t i0, i1;

    /* Opposite directions do not meet. */
    i0 = npu_submit(n, COPYQ(0), copy(TO_LOCAL, host, local, MIB));
    i1 = npu_submit(n, COPYQ(1), copy(FROM_LOCAL, local + MIB, host + MIB,
                                      MIB));
    npu_step(n, T_CMD + T_DESC + T_LINK(MIB) - 1);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i0), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, NO_STATUS);
    npu_step(n, 1);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i0), ==, 0);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, 0);

    /* The same direction: turns of 64 KiB, and 1 MiB each takes twice. */
    i0 = npu_submit(n, COPYQ(0), copy(TO_LOCAL, host, local, MIB));
    i1 = npu_submit(n, COPYQ(1), copy(TO_LOCAL, host + MIB, local + MIB,
                                      MIB));
    npu_step(n, T_CMD + T_DESC + T_LINK(2 * MIB) - T_LINK(64 * KIB) - 1);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i0), ==, NO_STATUS);
    npu_step(n, 1);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i0), ==, 0);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, NO_STATUS);
    npu_step(n, T_LINK(64 * KIB) - 1);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, NO_STATUS);
    npu_step(n, 1);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, 0);

    /* A small copy does not wait for the whole of a large one. */
    i0 = npu_submit(n, COPYQ(0), copy(TO_LOCAL, host, local, 2 * MIB));
    i1 = npu_submit(n, COPYQ(1), copy(TO_LOCAL, host + 2 * MIB,
                                      local + 2 * MIB, PAGE));
    npu_step(n, T_CMD + T_DESC + T_LINK(64 * KIB) + T_LINK(PAGE));
    g_assert_cmpuint(npu_status(n, COPYQ(1), i1), ==, 0);
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i0), ==, 0);
    npu_stop(n);
}

static void test_properties(void)
{
    Npu *n = npu_start("link-bandwidth=1000000000,dma-desc-ns=7,cmd-ns=11,"
                       "mem-bandwidth=500000000,tlbi-ns=13,irq-ns=17");
    uint64_t host = npu_ram(n, PAGE), local = npu_local(n, PAGE);

    expect_time(n, copy(TO_LOCAL, host, local, 1000), 11 + 7 + 1000);
    expect_time(n, (NpuCmd) { NPU_OP_ZERO, TO_LOCAL, .arg = { local, 1000 } },
                11 + 2000);
    expect_time(n, (NpuCmd) { NPU_OP_TLB_INVL, .ctx = CTX, .arg = { 0, 1 } },
                11 + 13);
    expect_time(n, (NpuCmd) { NPU_OP_NOP, NPU_F_IRQ }, 11);
    npu_step(n, 16);
    g_assert_false(npu_irq_seen(n, NPU_VEC_QUEUE(COPYQ(0))));
    npu_step(n, 1);
    g_assert_true(npu_irq_seen(n, NPU_VEC_QUEUE(COPYQ(0))));
    npu_stop(n);
}

/* Everything for free: time passes all the same, 1 ns for each wait. */
static void test_no_cost(void)
{
    Npu *n = npu_start("link-bandwidth=0,dma-desc-ns=0,cmd-ns=0,"
                       "mem-bandwidth=0,tlbi-ns=0,irq-ns=0,walk-ns=0,"
                       "fault-ns=0,replay-ns=0,alu-rate=0,mem-latency-ns=0");
    uint64_t host = npu_ram(n, 2 * MIB), local = npu_local(n, 2 * MIB);
    NpuBuf b = npu_buf(n, 12, true, 4 * PAGE, 0);

    g_assert_cmpuint(npu_timed(n, COPYQ(0), copy(TO_LOCAL, host, local,
                                                 2 * MIB)), <, 100);
    g_assert_cmpuint(npu_timed(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_ATOMIC_ADD, .ctx = CTX,
                         .arg = { b.va, 1, 500 } }), ==, 501);
    npu_stop(n);
}

/* --- fences, interrupts, order ------------------------------------------- */

static void test_fence(void)
{
    Npu *n = npu_start("");
    uint64_t local = npu_local(n, PAGE), i;

    /* No fence address: HEAD still tells, and so does the interrupt. */
    npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_ZERO, TO_LOCAL | NPU_F_IRQ,
                                       .arg = { local, PAGE },
                                       .no_fence = true });
    npu_step(n, T_CMD + T_MEM(PAGE));
    g_assert_cmpuint(npu_rd(n, NPU_QUEUE(COPYQ(0)) + NPU_Q_HEAD), ==, 1);
    g_assert_cmphex(npu_done_word(n, COPYQ(0), 0, NPU_DONE_W_FENCE), ==,
                    ~0ULL);
    npu_step(n, T_IRQ);
    g_assert_true(npu_irq_seen(n, NPU_VEC_QUEUE(COPYQ(0))));
    g_assert_false(npu_irq_seen(n, NPU_VEC_QUEUE(COPYQ(1))));

    /* Without the flag there is none. */
    i = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i), ==, 0);
    npu_step(n, T_IRQ);
    g_assert_false(npu_irq_seen(n, NPU_VEC_QUEUE(COPYQ(0))));
    g_assert_cmpuint(npu_stat(n, NPU_STAT_IRQS), ==, 1);

    /* Two events before the message is sent are one message. */
    npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP, NPU_F_IRQ });
    npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP, NPU_F_IRQ });
    npu_step(n, 10000);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_IRQS), ==, 2);
    npu_stop(n);
}

/* The ring is gone through many times; each descriptor is done once. */
static void test_wrap(void)
{
    Npu *n = npu_start("");
    uint64_t local = npu_local(n, PAGE), i = 0;

    for (unsigned k = 0; k < 3 * RING; k++) {
        i = npu_push(n, COPYQ(1), (NpuCmd) {
            NPU_OP_PTE_WRITE, .arg = { local + k % 7 * 8, k, 1, 0 } });
        if (k % 5 == 4) {
            npu_ring(n, COPYQ(1));
            g_assert_cmpuint(npu_wait(n, COPYQ(1), i), ==, 0);
        }
    }
    npu_ring(n, COPYQ(1));
    g_assert_cmpuint(npu_wait(n, COPYQ(1), i), ==, 0);
    for (unsigned k = 0; k < 7; k++) {
        unsigned last = 3 * RING - 1;

        g_assert_cmpuint(local_rd(n, local + k * 8), ==,
                         last - (last % 7 + 7 - k) % 7);
    }
    g_assert_cmpuint(npu_rd(n, NPU_QUEUE(COPYQ(1)) + NPU_Q_HEAD), ==,
                     3 * RING);
    npu_stop(n);
}

/* copy -> PTE write -> replay: what a driver makes of a fault. */
static void test_chain(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, PAGE), frame = npu_local(n, PAGE);
    uint64_t va = 0x200000000000, job, replay, start, pte;

    pte = npu_pte_addr(n, CTX, va, 0);
    host_wr(n, host, 4321);
    job = npu_submit(n, COMPUTE(0), (NpuCmd) { NPU_OP_REDUCE, .ctx = CTX,
                                               .arg = { va, 1 } });
    npu_expect_fault(n, COMPUTE(0), va, 0);
    npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_COPY, TO_LOCAL,
                                     .arg = { host, frame, PAGE },
                                     .no_fence = true });
    npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_PTE_WRITE, NPU_F_ORDER_SKIP,
                                     .arg = { pte, frame | NPU_PTE_V, 1 },
                                     .no_fence = true });
    start = npu_time(n);
    replay = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_REPLAY,
                                                NPU_F_ORDER_SKIP });
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), job), ==, 0);
    g_assert_cmpuint(npu_result(n, COMPUTE(0), job), ==, 4321);
    g_assert_cmpuint(npu_status(n, COPYQ(0), replay), ==, 0);
    g_assert_cmpuint(npu_time(n) - start, ==,
                     T_CMD + T_DESC + T_LINK(PAGE) + T_CMD + 1 + T_CMD +
                     T_REPLAY + 4 * T_WALK + 1 + 1);
    npu_stop(n);
}

/* One of two copies fails, whichever, and the rest of the chain is skipped. */
static void check_order_skip(Npu *n, uint64_t host, uint64_t a, unsigned nth)
{
    NpuCmd data = { NPU_OP_COPY, TO_LOCAL, .arg = { host, a + 8, 8 },
                    .no_fence = true };
    NpuCmd write = { NPU_OP_PTE_WRITE, NPU_F_ORDER_SKIP, .arg = { a, 7, 1 },
                     .no_fence = true };
    uint64_t i[4];

    local_wr(n, a, 1);
    npu_inject(n, NPU_INJECT_COPY_FAIL, nth);
    npu_push(n, COPYQ(0), data);
    npu_push(n, COPYQ(0), data);
    npu_push(n, COPYQ(0), write);
    i[0] = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP, NPU_F_ORDER_SKIP });
    /* Still in order: the fence above does not hide the failure. */
    i[1] = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP, NPU_F_ORDER_SKIP });
    /* A new chain. */
    i[2] = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    i[3] = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP, NPU_F_ORDER_SKIP });
    npu_ring(n, COPYQ(0));
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i[3]), ==, 0);
    for (unsigned k = 0; k < 2; k++) {
        g_assert_cmpuint(npu_status(n, COPYQ(0), i[k]), ==, E_CANCELED);
        g_assert_cmpuint(npu_result(n, COPYQ(0), i[k]), ==, E_IO);
    }
    g_assert_cmpuint(npu_status(n, COPYQ(0), i[2]), ==, 0);
    g_assert_cmpuint(npu_result(n, COPYQ(0), i[2]), ==, 0);
    g_assert_cmpuint(local_rd(n, a), ==, 1);
}

static void test_order_skip(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, PAGE), a = npu_local(n, PAGE), i[2];
    NpuCmd write = { NPU_OP_PTE_WRITE, .arg = { a, 7, 1 }, .no_fence = true };

    check_order_skip(n, host, a, 1);
    check_order_skip(n, host, a, 2);

    /* Without the flag nothing is skipped. */
    npu_inject(n, NPU_INJECT_COPY_FAIL, 1);
    i[0] = npu_push(n, COPYQ(0), copy(TO_LOCAL, host, a + 8, 8));
    npu_push(n, COPYQ(0), write);
    i[1] = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    npu_ring(n, COPYQ(0));
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i[1]), ==, 0);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i[0]), ==, E_IO);
    g_assert_cmpuint(local_rd(n, a), ==, 7);
    /* A chain of one queue is not one of the other. */
    npu_inject(n, NPU_INJECT_COPY_FAIL, 1);
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(TO_LOCAL, host, a, 8)), ==,
                     E_IO);
    g_assert_cmpuint(npu_do(n, COPYQ(1), (NpuCmd) {
                         NPU_OP_NOP, NPU_F_ORDER_SKIP }), ==, 0);
    npu_stop(n);
}

/* With every compute queue stalled, copies, PTE writes and flushes go on. */
static void test_progress(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, PAGE), frame = npu_local(n, PAGE);
    uint64_t va = 0x200000000000, pte = npu_pte_addr(n, CTX, va, 0), job[4];

    host_wr(n, host, 1);
    npu_wr(n, NPU_REG_FAULTQ_SIZE, 2);
    for (unsigned q = 0; q < 4; q++) {
        job[q] = npu_submit(n, COMPUTE(q), (NpuCmd) {
            NPU_OP_ATOMIC_ADD, .ctx = CTX, .arg = { va, 10, 1 } });
    }
    npu_step(n, 100000);
    for (unsigned q = 0; q < 4; q++) {
        g_assert_cmphex(npu_rd(n, NPU_QUEUE(COMPUTE(q)) + NPU_Q_STATUS), ==,
                        NPU_Q_STALLED);
    }
    npu_expect_error(n, NPU_ERROR_FAULTQ);
    npu_flush(n, 0, ~0ULL);
    npu_push(n, COPYQ(1), copy(TO_LOCAL, host, frame, PAGE));
    npu_push(n, COPYQ(1), (NpuCmd) { NPU_OP_TLB_INVL, .ctx = CTX,
                                     .arg = { va, va + PAGE } });
    npu_push(n, COPYQ(1), (NpuCmd) {
        NPU_OP_PTE_WRITE, .arg = { pte, frame | NPU_PTE_V | NPU_PTE_W, 1 } });
    npu_submit(n, COPYQ(1), (NpuCmd) { NPU_OP_REPLAY });
    for (unsigned q = 0; q < 4; q++) {
        g_assert_cmpuint(npu_wait(n, COMPUTE(q), job[q]), ==, 0);
    }
    g_assert_cmpuint(local_rd(n, frame), ==, 41);
    npu_stop(n);
}

/* A translation that the command drops is not used again. */
static void test_invalidate(void)
{
    Npu *n = npu_start("");
    uint64_t a = npu_local(n, PAGE), b = npu_local(n, PAGE);
    uint64_t va = 0x200000000000, i;

    local_wr(n, a, 1);
    local_wr(n, b, 2);
    npu_map_page(n, CTX, va, a, 12, 0);
    for (unsigned round = 0; round < 2; round++) {
        i = npu_submit(n, COMPUTE(0), (NpuCmd) { NPU_OP_REDUCE, .ctx = CTX,
                                                 .arg = { va, 1 } });
        g_assert_cmpuint(npu_wait(n, COMPUTE(0), i), ==, 0);
        g_assert_cmpuint(npu_result(n, COMPUTE(0), i), ==, round + 1);
        npu_map_page(n, CTX, va, b, 12, 0);
        g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                             NPU_OP_TLB_INVL, .ctx = CTX,
                             .arg = { va, va + 1 } }), ==, 0);
    }
    npu_stop(n);
}

/* --- commands that must not be obeyed ------------------------------------ */

static void test_bad_commands(void)
{
    Npu *n = npu_start("");
    uint64_t top = n->mem_size, list = npu_ram(n, PAGE), host = list;
    const struct {
        NpuCmd cmd;
        uint64_t status;
    } bad[] = {
        { { 0x7f }, E_INVAL },
        { { NPU_OP_FILL, .arg = { 0, 8 } }, E_INVAL },
        { copy(0, host, host, 8), E_INVAL },
        { copy(TO_LOCAL, host, 0, 0), E_INVAL },
        { copy(TO_LOCAL, host, 0, ~0ULL), E_INVAL },
        { copy(TO_LOCAL, host, 0, top + 1), E_INVAL },
        { copy(TO_LOCAL, host, top, 1), E_FAULT },
        { copy(TO_LOCAL, host, top - 4, 5), E_FAULT },
        { copy(TO_LOCAL, host, ~0ULL, 2), E_FAULT },
        { copy(TO_LOCAL, ~0ULL, 0, 2), E_FAULT },
        { copy(FROM_LOCAL, top - 4, host, 5), E_FAULT },
        { copy(FROM_LOCAL, 0, ~0ULL - 2, 8), E_FAULT },
        { copy(INSIDE, 0, top, 8), E_FAULT },
        { copy(INSIDE, -8ULL, 0, 16), E_FAULT },
        { { NPU_OP_ZERO, TO_LOCAL, .arg = { 0, 0 } }, E_INVAL },
        { { NPU_OP_ZERO, TO_LOCAL, .arg = { top - 1, 2 } }, E_FAULT },
        { { NPU_OP_ZERO, .arg = { host, top + 1 } }, E_INVAL },
        { { NPU_OP_ZERO, .arg = { ~0ULL, 2 } }, E_FAULT },
        { { NPU_OP_PTE_WRITE, .arg = { 4, 0, 1 } }, E_INVAL },
        { { NPU_OP_PTE_WRITE, .arg = { 0, 0, 0 } }, E_INVAL },
        { { NPU_OP_PTE_WRITE, .arg = { 8, 0, top / 8 } }, E_FAULT },
        { { NPU_OP_PTE_WRITE, .arg = { 0, 0, 1ULL << 61 } }, E_INVAL },
        { { NPU_OP_TLB_INVL, .ctx = CTX, .arg = { PAGE, PAGE } }, E_INVAL },
        { { NPU_OP_TLB_INVL, .ctx = CTX, .arg = { PAGE, 0 } }, E_INVAL },
        { { NPU_OP_TLB_INVL, .ctx = 64, .arg = { 0, PAGE } }, E_INVAL },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list, 0, 0 } }, E_INVAL },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list, 0, 65537 } }, E_INVAL },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list + 4, 0, 1 } }, E_INVAL },
        { { NPU_OP_COPY_SG, INSIDE, .arg = { list, 0, 1 } }, E_INVAL },
        { { NPU_OP_COPY_SG, 0, .arg = { list, 0, 1 } }, E_INVAL },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list, top - 8, 1 } }, E_FAULT },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list, top - 24, 2 } },
          E_FAULT },
        /* The third segment has no bytes, the fourth too many. */
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list, 0, 3 } }, E_INVAL },
        { { NPU_OP_COPY_SG, TO_LOCAL, .arg = { list + 48, 0, 1 } }, E_INVAL },
    };

    host_wr(n, list, host);
    host_wr(n, list + 8, 16);
    host_wr(n, list + 16, host);
    host_wr(n, list + 24, 16);
    host_wr(n, list + 56, ~0ULL);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        g_test_message("bad[%u]: op 0x%x", i, bad[i].cmd.op);
        g_assert_cmpuint(npu_do(n, COPYQ(0), bad[i].cmd), ==, bad[i].status);
        npu_expect_error(n, NPU_ERROR_DESC);
    }
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPIES), ==, 0);
    npu_stop(n);
}

/* Host memory that is not there. */
static void test_refused(void)
{
    static const uint64_t nowhere = 0x7000000000000000ULL;
    Npu *n = npu_start("");
    uint64_t local = npu_local(n, PAGE), list = npu_ram(n, PAGE), i;

    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(TO_LOCAL, nowhere, local, 8)),
                     ==, E_IO);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR_ADDR), ==, nowhere);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(FROM_LOCAL, local, nowhere, 8)),
                     ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_ZERO, .arg = { nowhere, 8 } }), ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_COPY_SG, TO_LOCAL,
                         .arg = { nowhere, local, 1 } }), ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    host_wr(n, list, nowhere);
    host_wr(n, list + 8, 8);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_COPY_SG, TO_LOCAL,
                         .arg = { list, local, 1 } }), ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);

    /* A job that reads, writes or adds there. */
    npu_map_page(n, CTX, 0x200000000000, 0xfffff00000000ULL, 12,
                 NPU_PTE_W | NPU_PTE_SYS);
    for (unsigned op = 0; op < 3; op++) {
        static const unsigned ops[] = { NPU_OP_REDUCE, NPU_OP_FILL,
                                        NPU_OP_ATOMIC_ADD };

        i = npu_submit(n, COMPUTE(0), (NpuCmd) {
            ops[op], .ctx = CTX, .arg = { 0x200000000000, 1, 1 } });
        g_assert_cmpuint(npu_wait(n, COMPUTE(0), i), ==, E_IO);
        npu_expect_error(n, NPU_ERROR_BUS);
    }
    npu_stop(n);
}

/* Nothing that a disabled queue had begun goes on. */
static void test_queue_disable(void)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, MIB), local = npu_local(n, MIB), i;

    host_wr(n, host, 1);
    local_wr(n, local, 0);
    i = npu_submit(n, COPYQ(0), copy(TO_LOCAL, host, local, MIB));
    npu_step(n, 5000);
    npu_wr(n, NPU_QUEUE(COPYQ(0)) + NPU_Q_CTRL, 0);
    npu_step(n, 1000000);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i), ==, NO_STATUS);
    g_assert_cmpuint(local_rd(n, local), ==, 0);
    npu_queue_setup(n, COPYQ(0));
    g_assert_cmpuint(npu_rd(n, NPU_QUEUE(COPYQ(0)) + NPU_Q_HEAD), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), copy(TO_LOCAL, host, local, 8)), ==,
                     0);
    g_assert_cmpuint(local_rd(n, local), ==, 1);
    npu_stop(n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/gmem-npu/copy/copy", test_copy);
    qtest_add_func("/gmem-npu/copy/sg", test_sg);
    qtest_add_func("/gmem-npu/copy/zero", test_zero);
    qtest_add_func("/gmem-npu/copy/pte-write", test_pte_write);
    qtest_add_func("/gmem-npu/copy/invalidate", test_invalidate);
    qtest_add_func("/gmem-npu/copy/late-data", test_late_data);
    qtest_add_func("/gmem-npu/copy/timing", test_timing);
    qtest_add_func("/gmem-npu/copy/link-shared", test_link_shared);
    qtest_add_func("/gmem-npu/copy/properties", test_properties);
    qtest_add_func("/gmem-npu/copy/no-cost", test_no_cost);
    qtest_add_func("/gmem-npu/copy/fence", test_fence);
    qtest_add_func("/gmem-npu/copy/wrap", test_wrap);
    qtest_add_func("/gmem-npu/copy/chain", test_chain);
    qtest_add_func("/gmem-npu/copy/order-skip", test_order_skip);
    qtest_add_func("/gmem-npu/copy/progress", test_progress);
    qtest_add_func("/gmem-npu/copy/queue-disable", test_queue_disable);
    qtest_add_func("/gmem-npu/copy/bad-commands", test_bad_commands);
    qtest_add_func("/gmem-npu/copy/refused", test_refused);
    return g_test_run();
}
