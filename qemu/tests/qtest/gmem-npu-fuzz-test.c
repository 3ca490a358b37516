/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: descriptors, page tables and register writes made of values that
 * are likely to hit a limit, in an order that looks random and is the same in
 * every run. The device may refuse them all, but it must neither break nor
 * write to host memory that it was not told about.
 */
#include "qemu/osdep.h"
#include "gmem-npu-qtest.h"

typedef struct Fuzz {
    Npu *n;
    uint64_t seed;
    uint64_t host, guard;       /* the area it may write, and one it may not */
    uint64_t va;
} Fuzz;

#define AREA    (64 * KIB)

static uint64_t fuzz_random(Fuzz *f, uint64_t below)
{
    f->seed = f->seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (f->seed >> 33) % below;
}

/* Sizes, counts, flags and what is just beyond them. */
static uint64_t fuzz_number(Fuzz *f)
{
    static const uint64_t numbers[] = {
        0, 1, 2, 7, 8, 9, 255, 256, 511, 512, 4095, 4096, 4097, 65535, 65536,
        65537, 1 << 20, 1 << 21, 64 * MIB - 8, 64 * MIB, 64 * MIB + 8,
        1ULL << 32, (1ULL << 48) - 8, 1ULL << 48, 1ULL << 61, 1ULL << 63,
        ~0ULL - 7, ~0ULL,
    };

    return numbers[fuzz_random(f, ARRAY_SIZE(numbers))];
}

/* An address of any kind, near something. */
static uint64_t fuzz_address(Fuzz *f)
{
    switch (fuzz_random(f, 6)) {
    case 0:
        return f->va + fuzz_random(f, 16 * PAGE);
    case 1:
        return f->va + fuzz_random(f, 16) * PAGE;
    case 2:
        return f->host + fuzz_random(f, AREA / 2) / 8 * 8;
    case 3:
        return fuzz_random(f, 64 * MIB);
    case 4:
        return f->n->mem_size - fuzz_random(f, 2 * PAGE);
    default:
        return fuzz_number(f);
    }
}

/* Half of the words are what would fit, the others whatever. */
static uint64_t fuzz_arg(Fuzz *f, unsigned i)
{
    if (fuzz_random(f, 8) == 0) {
        return fuzz_number(f);
    }
    return i < 2 ? fuzz_address(f) : fuzz_random(f, 2) ? fuzz_address(f) :
           fuzz_random(f, 5000);
}

static void fuzz_descriptor(Fuzz *f, unsigned q)
{
    static const unsigned copies[] = {
        NPU_OP_NOP, NPU_OP_COPY, NPU_OP_COPY_SG, NPU_OP_ZERO,
        NPU_OP_TLB_INVL, NPU_OP_REPLAY, 0x77,
    };
    NpuCmd cmd = { .flags = fuzz_random(f, 16), .no_fence = true };

    cmd.op = q >= COPYQ(0) ? copies[fuzz_random(f, ARRAY_SIZE(copies))] :
                             NPU_OP_FILL + fuzz_random(f, 11);
    cmd.ctx = fuzz_random(f, 16) ? CTX : fuzz_random(f, 70);
    for (unsigned i = 0; i < 5; i++) {
        cmd.arg[i] = fuzz_arg(f, i);
    }
    /* Host memory is written by DMA address only inside the area. */
    if (cmd.op == NPU_OP_COPY && !(cmd.flags & NPU_F_DST_LOCAL)) {
        cmd.arg[1] = f->host + fuzz_random(f, AREA / 2);
        cmd.arg[2] = fuzz_random(f, 2) ? fuzz_random(f, AREA / 2) :
                     fuzz_number(f) | 1ULL << 62;
    } else if (cmd.op == NPU_OP_ZERO && !(cmd.flags & NPU_F_DST_LOCAL)) {
        cmd.arg[0] = f->host + fuzz_random(f, AREA / 2);
        cmd.arg[1] = fuzz_random(f, AREA / 2);
    } else if (cmd.op == NPU_OP_COPY_SG) {
        cmd.arg[0] = f->host + fuzz_random(f, AREA);
        cmd.flags = fuzz_random(f, 2) ? NPU_F_DST_LOCAL : 0;
    }
    npu_submit(f->n, q, cmd);
}

/* The tables, which copies may have overwritten, are made anew. */
static void fuzz_tables(Fuzz *f)
{
    Npu *n = f->n;

    for (unsigned i = 0; i < 16; i++) {
        bool sys = fuzz_random(f, 3) == 0;
        uint64_t frame = sys ? f->host + i * PAGE : i * PAGE;
        uint64_t bits = fuzz_random(f, 4) ? NPU_PTE_W : 0;

        if (fuzz_random(f, 8)) {
            npu_map_page(n, CTX, f->va + i * PAGE, frame, 12,
                         bits | (sys ? NPU_PTE_SYS : 0));
        } else {
            npu_unmap_page(n, CTX, f->va + i * PAGE);
        }
    }
}

static void fuzz_answer(Fuzz *f)
{
    Npu *n = f->n;

    npu_wr(n, NPU_REG_FAULTQ_HEAD, npu_rd(n, NPU_REG_FAULTQ_TAIL));
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ALL |
           (fuzz_random(f, 3) ? NPU_RESP_ABORT : NPU_RESP_REPLAY));
    if (fuzz_random(f, 20) == 0) {
        npu_wr(n, NPU_CTX(CTX) + NPU_CTX_KILL, 1);
    }
    if (fuzz_random(f, 10) == 0) {
        npu_inject(n, 1 + fuzz_random(f, 3), fuzz_number(f));
    }
    npu_wr(n, NPU_REG_ERROR, ~0ULL);
}

static void fuzz_restart(Fuzz *f)
{
    Npu *n = f->n;

    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_RESET);
    npu_step(n, T_RESET);
    /* A copy may have hit the tables: start with empty ones. */
    n->table_next = n->mem_size - TABLES;
    qtest_memset(n->qts, n->mem + n->table_next, 0, 16 * PAGE);
    npu_root(n, CTX);
    npu_program(n);
    fuzz_tables(f);
}

static void test_descriptors(void)
{
    Npu *n = npu_start("");
    Fuzz f = { .n = n, .seed = 20, .va = 0x100000000000 };
    uint8_t want[PAGE], got[PAGE];

    f.guard = npu_ram(n, PAGE);
    f.host = npu_ram(n, AREA);
    npu_noise(want, sizeof(want), 1);
    qtest_bufwrite(n->qts, f.guard, want, sizeof(want));
    for (unsigned round = 0; round < 150; round++) {
        fuzz_restart(&f);
        for (unsigned i = 0; i < 25; i++) {
            fuzz_descriptor(&f, fuzz_random(&f, NQUEUES));
            npu_step(n, fuzz_random(&f, 20000));
            fuzz_answer(&f);
        }
    }
    fuzz_restart(&f);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    qtest_bufread(n->qts, f.guard, got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), want, sizeof(want));
    g_assert_cmpuint(npu_stat(n, NPU_STAT_JOBS), >, 500);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_COPIES), >, 100);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_FAULTS), >, 100);
    npu_stop(n);
}

/* Page tables of random words: walks end, and nothing else happens. */
static void test_page_tables(void)
{
    Npu *n = npu_start("");
    Fuzz f = { .n = n, .seed = 7, .va = 0 };
    uint64_t words[512];

    for (unsigned round = 0; round < 60; round++) {
        fuzz_restart(&f);
        for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
            words[i] = (n->mem_size - TABLES + fuzz_random(&f, 8) * PAGE) |
                       fuzz_random(&f, 128);
            /* No system memory: any DMA address would do, and be found. */
            words[i] &= ~NPU_PTE_SYS;
            words[i] |= fuzz_random(&f, 16) ? 0 : fuzz_random(&f, 1 << 30)
                                                  << 22;
        }
        for (unsigned i = 0; i < 8; i++) {
            qtest_bufwrite(n->qts, n->mem + n->mem_size - TABLES + i * PAGE,
                           words, sizeof(words));
        }
        for (unsigned i = 0; i < 20; i++) {
            npu_submit(n, COMPUTE(fuzz_random(&f, 4)), (NpuCmd) {
                NPU_OP_MEMCPY, .ctx = CTX, .no_fence = true,
                .arg = { fuzz_random(&f, 1ULL << 30) << 18,
                         fuzz_random(&f, 1ULL << 30) << 18,
                         fuzz_random(&f, 30000) } });
            npu_step(n, 10000);
            fuzz_answer(&f);
        }
    }
    fuzz_restart(&f);
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    g_assert_cmpuint(npu_stat(n, NPU_STAT_WALKS), >, 500);
    npu_stop(n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/gmem-npu/fuzz/descriptors", test_descriptors);
    qtest_add_func("/gmem-npu/fuzz/page-tables", test_page_tables);
    return g_test_run();
}
