/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: every operation of the compute queues against the same thing done
 * by the CPU, on each page size in local and in system memory, with operands
 * that start anywhere and cross pages.
 */
#include "qemu/osdep.h"
#include "gmem-npu-qtest.h"

typedef struct Leaf {
    const char *name;
    unsigned shift;
    bool sys;
} Leaf;

static const Leaf leaves[] = {
    { "4k-local", 12, false },
    { "64k-local", 16, false },
    { "2m-local", 21, false },
    { "4k-system", 12, true },
    { "64k-system", 16, true },
    { "2m-system", 21, true },
};

/* Bytes of an operand: some pages of 4 KiB, and two of what is larger. */
static uint64_t span(const Leaf *leaf)
{
    return leaf->shift == 12 ? 5 * PAGE : (1ULL << leaf->shift) + 3 * PAGE;
}

static NpuBuf noisy(Npu *n, const Leaf *leaf, uint64_t bytes, uint64_t offset,
                    uint64_t seed, void *copy)
{
    NpuBuf b = npu_buf(n, leaf->shift, leaf->sys, bytes, offset);

    npu_noise(copy, bytes, seed);
    npu_buf_put(&b, copy);
    return b;
}

/* A job that nothing else disturbs and that finds all its pages. */
static uint64_t run(Npu *n, NpuCmd cmd)
{
    uint64_t index;

    cmd.ctx = CTX;
    index = npu_submit(n, COMPUTE(0), cmd);
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), index), ==, 0);
    g_assert_cmpuint(npu_done_word(n, COMPUTE(0), index, NPU_DONE_W_FAULTS),
                     ==, 0);
    return npu_result(n, COMPUTE(0), index);
}

static void test_fill(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t bytes = span(leaf), pattern = 0x0123456789abcdefULL;
    uint8_t *want = g_malloc(bytes);
    Npu *n = npu_start("");
    NpuBuf whole = noisy(n, leaf, bytes, 13, 1, want);

    /* Not the first nor the last bytes: they must stay as they are. */
    for (uint64_t i = 0; i < bytes - 10; i++) {
        want[3 + i] = pattern >> i % 8 * 8;
    }
    run(n, (NpuCmd) { NPU_OP_FILL,
                      .arg = { whole.va + 3, bytes - 10, pattern } });
    npu_buf_expect(&whole, want);
    npu_stop(n);
    g_free(want);
}

static void test_memcpy(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t bytes = span(leaf);
    uint8_t *src = g_malloc(bytes), *dst = g_malloc(bytes);
    Npu *n = npu_start("");
    NpuBuf s = noisy(n, leaf, bytes, 4095, 1, src);
    NpuBuf d = noisy(n, leaf, bytes, 7, 2, dst);

    memcpy(dst + 1, src + 2, bytes - 5);
    run(n, (NpuCmd) { NPU_OP_MEMCPY, .arg = { d.va + 1, s.va + 2,
                                              bytes - 5 } });
    npu_buf_expect(&d, dst);
    npu_buf_expect(&s, src);
    npu_stop(n);
    g_free(src);
    g_free(dst);
}

static float *noise_floats(uint64_t count, uint64_t seed)
{
    float *f = g_new(float, count);
    int16_t *raw = g_new(int16_t, count);

    npu_noise(raw, count * sizeof(*raw), seed);
    for (uint64_t i = 0; i < count; i++) {
        f[i] = raw[i] / 7.0f;
    }
    g_free(raw);
    return f;
}

static NpuBuf float_buf(Npu *n, const Leaf *leaf, const float *f,
                        uint64_t count, uint64_t offset)
{
    NpuBuf b = npu_buf(n, leaf->shift, leaf->sys, count * sizeof(*f), offset);

    npu_buf_put(&b, f);
    return b;
}

static uint64_t float_bits(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static void test_axpy(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t count = span(leaf) / sizeof(float);
    float *x = noise_floats(count, 1), *y = noise_floats(count, 2);
    float a = 1.7f;
    Npu *n = npu_start("");
    /* Elements of both cross pages, at different places. */
    NpuBuf bx = float_buf(n, leaf, x, count, 2);
    NpuBuf by = float_buf(n, leaf, y, count, 1001);

    for (uint64_t i = 0; i < count; i++) {
        /* Volatile: rounded before the addition, never fused with it. */
        volatile float product = a * x[i];

        y[i] += product;
    }
    run(n, (NpuCmd) { NPU_OP_AXPY,
                      .arg = { by.va, bx.va, count, float_bits(a) } });
    npu_buf_expect(&by, y);
    npu_buf_expect(&bx, x);
    npu_stop(n);
    g_free(x);
    g_free(y);
}

static void test_matmul(const void *opaque)
{
    const Leaf *leaf = opaque;
    /* Larger than a tile in each dimension, and no multiple of one. */
    const uint64_t rows = 67, cols = 261, depth = 70;
    float *a = noise_floats(rows * depth, 1);
    float *b = noise_floats(depth * cols, 2);
    float *c = noise_floats(rows * cols, 3);
    Npu *n = npu_start("");
    NpuBuf ba = float_buf(n, leaf, a, rows * depth, 1);
    NpuBuf bb = float_buf(n, leaf, b, depth * cols, 4094);
    NpuBuf bc = float_buf(n, leaf, c, rows * cols, 8);

    for (uint64_t i = 0; i < rows; i++) {
        for (uint64_t j = 0; j < cols; j++) {
            float sum = 0;

            for (uint64_t k = 0; k < depth; k++) {
                /* Volatile as above. */
                volatile float product = a[i * depth + k] * b[k * cols + j];

                sum += product;
            }
            c[i * cols + j] = sum;
        }
    }
    run(n, (NpuCmd) { NPU_OP_MATMUL,
                      .arg = { bc.va, ba.va, bb.va,
                               NPU_DIM(rows, cols, depth) } });
    npu_buf_expect(&bc, c);
    npu_stop(n);
    g_free(a);
    g_free(b);
    g_free(c);
}

static void test_reduce(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t count = span(leaf) / 8, sum = 0;
    uint64_t *x = g_new(uint64_t, count);
    Npu *n = npu_start("");
    NpuBuf b = noisy(n, leaf, count * 8, 4091, 1, x);

    for (uint64_t i = 0; i < count; i++) {
        sum += x[i];
    }
    g_assert_cmphex(run(n, (NpuCmd) { NPU_OP_REDUCE,
                                      .arg = { b.va, count } }), ==, sum);
    npu_stop(n);
    g_free(x);
}

static void test_histogram(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t bytes = span(leaf);
    uint64_t want[256];
    uint8_t *x = g_malloc(bytes);
    Npu *n = npu_start("");
    NpuBuf src = noisy(n, leaf, bytes, 77, 1, x);
    NpuBuf hist = noisy(n, leaf, sizeof(want), 3001, 2, want);

    for (uint64_t i = 0; i < bytes; i++) {
        want[x[i]]++;
    }
    run(n, (NpuCmd) { NPU_OP_HISTOGRAM, .arg = { hist.va, src.va, bytes } });
    npu_buf_expect(&hist, want);
    npu_stop(n);
    g_free(x);
}

#define NODES   200

static void test_chase(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t bytes = span(leaf), sum = 0, half = 0, stride = bytes / NODES;
    uint8_t *image = g_malloc(bytes);
    uint64_t next = stride - 9, value = 1;
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, leaf->shift, leaf->sys, bytes, 3);
    uint64_t at = 0;

    /* 7 has no factor in common with NODES: each node is visited once. */
    npu_noise(image, bytes, 5);
    for (unsigned i = 0; i < NODES; i++) {
        uint64_t to = (i + 1) * 7 % NODES * stride, v;
        uint64_t pointer = i + 1 < NODES ? b.va + to : 0;

        memcpy(&v, image + at + value, 8);
        sum += v;
        half += i < NODES / 2 ? v : 0;
        memcpy(image + at + next, &pointer, 8);
        at = to;
    }
    npu_buf_put(&b, image);
    g_assert_cmphex(run(n, (NpuCmd) { NPU_OP_CHASE, .arg = {
                        b.va, next, value, 1000 } }), ==, sum);
    g_assert_cmphex(run(n, (NpuCmd) { NPU_OP_CHASE, .arg = {
                        b.va, next, value, NODES / 2 } }), ==, half);
    npu_stop(n);
    g_free(image);
}

static uint64_t *random_indices(uint64_t count, uint64_t below, uint64_t seed)
{
    uint64_t *index = g_new(uint64_t, count);

    npu_noise(index, count * sizeof(*index), seed);
    for (uint64_t i = 0; i < count; i++) {
        index[i] %= below;
    }
    return index;
}

static void test_gather(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t slots = span(leaf) / 8, count = 700;
    uint64_t *index = random_indices(count, slots, 9);
    uint64_t *src = g_new(uint64_t, slots), *dst = g_new(uint64_t, count);
    Npu *n = npu_start("");
    NpuBuf bs = noisy(n, leaf, slots * 8, 5, 1, src);
    NpuBuf bd = noisy(n, leaf, count * 8, 6, 2, dst);
    NpuBuf bi = npu_buf(n, leaf->shift, leaf->sys, count * 8, 4);

    npu_buf_put(&bi, index);
    for (uint64_t i = 0; i < count; i++) {
        dst[i] = src[index[i]];
    }
    run(n, (NpuCmd) { NPU_OP_GATHER, .arg = { bd.va, bs.va, bi.va, count } });
    npu_buf_expect(&bd, dst);
    npu_stop(n);
    g_free(index);
    g_free(src);
    g_free(dst);
}

static void test_scatter(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t slots = span(leaf) / 8, count = 700;
    /* Some indices come twice: the later one wins. */
    uint64_t *index = random_indices(count, MIN(slots, 300), 9);
    uint64_t *dst = g_new(uint64_t, slots), *src = g_new(uint64_t, count);
    Npu *n = npu_start("");
    NpuBuf bd = noisy(n, leaf, slots * 8, 5, 1, dst);
    NpuBuf bs = noisy(n, leaf, count * 8, 6, 2, src);
    NpuBuf bi = npu_buf(n, leaf->shift, leaf->sys, count * 8, 4);

    npu_buf_put(&bi, index);
    for (uint64_t i = 0; i < count; i++) {
        dst[index[i]] = src[i];
    }
    run(n, (NpuCmd) { NPU_OP_SCATTER, .arg = { bd.va, bs.va, bi.va, count } });
    npu_buf_expect(&bd, dst);
    npu_stop(n);
    g_free(index);
    g_free(src);
    g_free(dst);
}

static void test_atomic_add(const void *opaque)
{
    const Leaf *leaf = opaque;
    uint64_t words[3] = { 1, 1000, 2 };
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, leaf->shift, leaf->sys, sizeof(words), 16);

    npu_buf_put(&b, words);
    g_assert_cmpuint(run(n, (NpuCmd) { NPU_OP_ATOMIC_ADD,
                                       .arg = { b.va + 8, 5, 9 } }), ==, 1040);
    words[1] = 1045;
    npu_buf_expect(&b, words);
    /* An addend is signed if one likes. */
    g_assert_cmpuint(run(n, (NpuCmd) { NPU_OP_ATOMIC_ADD,
                                       .arg = { b.va + 8, -45, 1 } }), ==,
                     1045);
    words[1] = 1000;
    npu_buf_expect(&b, words);
    npu_stop(n);
}

/* Two queues add to one word, interleaved, and no addition is lost. */
static void test_atomic_parallel(void)
{
    uint64_t word = 0;
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 8, 0);
    NpuCmd cmd = { NPU_OP_ATOMIC_ADD, .ctx = CTX, .arg = { b.va, 1, 100 } };
    uint64_t i0, i1;

    npu_buf_put(&b, &word);
    i0 = npu_submit(n, COMPUTE(0), cmd);
    i1 = npu_submit(n, COMPUTE(1), cmd);
    g_assert_cmpuint(npu_wait(n, COMPUTE(0), i0), ==, 0);
    g_assert_cmpuint(npu_wait(n, COMPUTE(1), i1), ==, 0);
    word = 200;
    npu_buf_expect(&b, &word);
    /* Had they run one after the other, one would have seen 99 last. */
    g_assert_cmpuint(npu_result(n, COMPUTE(0), i0), >, 150);
    g_assert_cmpuint(npu_result(n, COMPUTE(1), i1), >, 150);
    npu_stop(n);
}

/* --- descriptors that must not be obeyed --------------------------------- */

static void test_bad_jobs(void)
{
    const uint64_t limit = 1ULL << NPU_VA_BITS;
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 2 * PAGE, 0);
    const struct {
        NpuCmd cmd;
        uint64_t status;
    } bad[] = {
        { { 0xee }, E_INVAL },
        { { NPU_OP_COPY, .arg = { 0, 0, 8 } }, E_INVAL },
        { { NPU_OP_TLB_INVL, .arg = { 0, PAGE } }, E_INVAL },
        { { NPU_OP_FILL, .arg = { b.va, 0 } }, E_INVAL },
        { { NPU_OP_FILL, .arg = { limit - 8, 9 } }, E_FAULT },
        { { NPU_OP_FILL, .arg = { limit, 1 } }, E_FAULT },
        { { NPU_OP_FILL, .arg = { ~0ULL, 1 } }, E_FAULT },
        { { NPU_OP_FILL, .arg = { b.va, ~0ULL } }, E_FAULT },
        { { NPU_OP_MEMCPY, .arg = { b.va, b.va, 0 } }, E_INVAL },
        { { NPU_OP_MEMCPY, .arg = { b.va, limit, 8 } }, E_FAULT },
        { { NPU_OP_AXPY, .arg = { b.va, b.va, 0 } }, E_INVAL },
        { { NPU_OP_AXPY, .arg = { b.va, b.va, 1ULL << 62 } }, E_FAULT },
        { { NPU_OP_AXPY, .arg = { b.va, 1ULL << 63, 4 } }, E_FAULT },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va } }, E_INVAL },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va, NPU_DIM(0, 1, 1) } },
          E_INVAL },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va, NPU_DIM(1, 0, 1) } },
          E_INVAL },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va, NPU_DIM(1, 1, 0) } },
          E_INVAL },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va, NPU_DIM(1, 1, 1), 4 } },
          E_INVAL },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, b.va,
                                    NPU_DIM(1, 1, 1) | 1ULL << 60 } },
          E_INVAL },
        { { NPU_OP_MATMUL, .arg = { limit - 8, b.va, b.va,
                                    NPU_DIM(1, 3, 1) } }, E_FAULT },
        { { NPU_OP_MATMUL, .arg = { b.va, limit - 8, b.va,
                                    NPU_DIM(1, 1, 3) } }, E_FAULT },
        { { NPU_OP_MATMUL, .arg = { b.va, b.va, limit - 8,
                                    NPU_DIM(1, 3, 1) } }, E_FAULT },
        { { NPU_OP_REDUCE, .arg = { b.va, 0 } }, E_INVAL },
        { { NPU_OP_REDUCE, .arg = { b.va, 1ULL << 61 } }, E_FAULT },
        { { NPU_OP_HISTOGRAM, .arg = { b.va, b.va, 0 } }, E_INVAL },
        { { NPU_OP_HISTOGRAM, .arg = { limit - 2047, b.va, 1 } }, E_FAULT },
        { { NPU_OP_HISTOGRAM, .arg = { b.va, limit - 1, 2 } }, E_FAULT },
        { { NPU_OP_CHASE, .arg = { b.va, 0, 8, 0 } }, E_INVAL },
        { { NPU_OP_CHASE, .arg = { limit, 0, 8, 1 } }, E_FAULT },
        { { NPU_OP_GATHER, .arg = { b.va, b.va, b.va, 0 } }, E_INVAL },
        { { NPU_OP_GATHER, .arg = { limit - 1, b.va, b.va, 1 } }, E_FAULT },
        { { NPU_OP_GATHER, .arg = { b.va, b.va, limit - 1, 1 } }, E_FAULT },
        { { NPU_OP_GATHER, .arg = { b.va, limit, b.va, 1 } }, E_FAULT },
        { { NPU_OP_SCATTER, .arg = { b.va, b.va, b.va, 0 } }, E_INVAL },
        { { NPU_OP_SCATTER, .arg = { b.va, limit - 1, b.va, 1 } }, E_FAULT },
        { { NPU_OP_SCATTER, .arg = { limit, b.va, b.va, 1 } }, E_FAULT },
        { { NPU_OP_ATOMIC_ADD, .arg = { b.va, 1, 0 } }, E_INVAL },
        { { NPU_OP_ATOMIC_ADD, .arg = { b.va + 4, 1, 1 } }, E_INVAL },
        { { NPU_OP_ATOMIC_ADD, .arg = { limit, 1, 1 } }, E_FAULT },
        /* Contexts that do not exist, or have no page table. */
        { { NPU_OP_FILL, .ctx = 64, .arg = { b.va, 8 } }, E_INVAL },
        { { NPU_OP_FILL, .ctx = 0xffff, .arg = { b.va, 8 } }, E_INVAL },
        { { NPU_OP_FILL, .ctx = 1, .arg = { b.va, 8 } }, E_FAULT },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        NpuCmd cmd = bad[i].cmd;

        cmd.ctx = cmd.ctx ? cmd.ctx : CTX;
        g_test_message("bad[%u]: op 0x%x", i, cmd.op);
        g_assert_cmpuint(npu_do(n, COMPUTE(0), cmd), ==, bad[i].status);
        npu_expect_error(n, NPU_ERROR_DESC);
    }
    /* The queue still works. */
    run(n, (NpuCmd) { NPU_OP_FILL, .arg = { b.va, 8, 42 } });
    npu_stop(n);
}

/* An element that lies in no address space ends the job that names it. */
static void test_bad_data(void)
{
    uint64_t word = 1ULL << 60;
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, PAGE, 0);

    npu_buf_put(&b, (uint64_t[PAGE / 8]) { 1, 2, word });
    /* The first node is fine and points to nowhere. */
    g_assert_cmpuint(npu_do(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_CHASE, .ctx = CTX,
                         .arg = { b.va, 16, 0, 5 } }), ==, E_FAULT);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_GATHER, .ctx = CTX,
                         .arg = { b.va + 64, b.va, b.va + 16, 1 } }), ==,
                     E_FAULT);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_stop(n);
}

/* --- timing -------------------------------------------------------------- */

/*
 * A job costs the fetch, and for each step its walks, its bytes and its
 * arithmetic. These are worked out by hand from the specification.
 */
static void test_timing(void)
{
    Npu *n = npu_start("");
    NpuBuf local = npu_buf(n, 12, false, 2 * PAGE, 0);
    NpuBuf big = npu_buf(n, 21, false, 256 * KIB, 0);
    NpuBuf host = npu_buf(n, 12, true, PAGE, 0);
    NpuCmd fill = { NPU_OP_FILL, .ctx = CTX };
    uint64_t index;

    /* Two pages, a walk of four levels and a write each. */
    fill.arg[0] = local.va;
    fill.arg[1] = 2 * PAGE;
    index = npu_submit(n, COMPUTE(0), fill);
    npu_expect_time(n, COMPUTE(0), index,
                    T_CMD + 2 * (4 * T_WALK + T_MEM(PAGE)));
    /* Again, with translations from the TLB. */
    index = npu_submit(n, COMPUTE(0), fill);
    npu_expect_time(n, COMPUTE(0), index, T_CMD + 2 * T_MEM(PAGE));
    /* A large page: three levels once, four steps of 64 KiB. */
    fill.arg[0] = big.va;
    fill.arg[1] = 256 * KIB;
    index = npu_submit(n, COMPUTE(0), fill);
    npu_expect_time(n, COMPUTE(0), index,
                    T_CMD + 3 * T_WALK + 4 * T_MEM(64 * KIB));
    /* Over the link. */
    fill.arg[0] = host.va;
    fill.arg[1] = PAGE;
    index = npu_submit(n, COMPUTE(0), fill);
    npu_expect_time(n, COMPUTE(0), index,
                    T_CMD + 4 * T_WALK + T_LINK(PAGE) + T_DESC);
    /* 512 additions at 1e12 a second round up to 1 ns. */
    index = npu_submit(n, COMPUTE(0), (NpuCmd) {
        NPU_OP_REDUCE, .ctx = CTX, .arg = { local.va, 512 } });
    npu_expect_time(n, COMPUTE(0), index, T_CMD + T_MEM(PAGE) + 1);
    /* A local atomic: latency, read, write. */
    index = npu_submit(n, COMPUTE(0), (NpuCmd) {
        NPU_OP_ATOMIC_ADD, .ctx = CTX, .arg = { local.va, 1, 3 } });
    npu_expect_time(n, COMPUTE(0), index, T_CMD + 3 * (T_LATENCY + 2));
    index = npu_submit(n, COMPUTE(0), (NpuCmd) { NPU_OP_NOP });
    npu_expect_time(n, COMPUTE(0), index, T_CMD);
    npu_stop(n);
}

static void test_statistics(void)
{
    Npu *n = npu_start("");
    NpuBuf local = npu_buf(n, 12, false, PAGE, 0);
    NpuBuf host = npu_buf(n, 12, true, PAGE, 0);

    run(n, (NpuCmd) { NPU_OP_MEMCPY, .arg = { host.va, local.va, 1000 } });
    run(n, (NpuCmd) { NPU_OP_MEMCPY, .arg = { local.va, host.va, 24 } });
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOBS), ==, 2);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOB_LOCAL_READ), ==, 1000);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOB_HOST_WRITE), ==, 1000);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOB_LOCAL_WRITE), ==, 24);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOB_HOST_READ), ==, 24);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TRANSLATIONS), ==, 4);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TLB_HITS), ==, 2);
    /* Each page's first access, and the first write to the local one. */
    g_assert_cmpuint(npu_stat(n, NPU_STAT_WALKS), ==, 3);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_STALE_HITS), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULTS), ==, 0);
    npu_wr(n, NPU_REG_STAT_CLEAR, 1);
    for (unsigned i = 0; i < NPU_STAT_NR; i++) {
        g_assert_cmpuint(npu_stat(n, i), ==, 0);
    }
    npu_stop(n);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(const void *leaf);
    } ops[] = {
        { "fill", test_fill },
        { "memcpy", test_memcpy },
        { "axpy", test_axpy },
        { "matmul", test_matmul },
        { "reduce", test_reduce },
        { "histogram", test_histogram },
        { "chase", test_chase },
        { "gather", test_gather },
        { "scatter", test_scatter },
        { "atomic-add", test_atomic_add },
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(leaves); j++) {
            g_autofree char *path = g_strdup_printf("/gmem-npu/ops/%s/%s",
                                                    ops[i].name,
                                                    leaves[j].name);

            qtest_add_data_func(path, &leaves[j], ops[i].fn);
        }
    }
    qtest_add_func("/gmem-npu/ops/atomic-parallel", test_atomic_parallel);
    qtest_add_func("/gmem-npu/ops/bad-jobs", test_bad_jobs);
    qtest_add_func("/gmem-npu/ops/bad-data", test_bad_data);
    qtest_add_func("/gmem-npu/ops/timing", test_timing);
    qtest_add_func("/gmem-npu/ops/statistics", test_statistics);
    return g_test_run();
}
