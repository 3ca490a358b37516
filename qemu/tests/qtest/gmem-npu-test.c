/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: identity, registers, reset, removal, injected errors, several
 * devices, and what happens behind an IOMMU.
 */
#include "qemu/osdep.h"
#include "qapi/qmp/qdict.h"
#include "gmem-npu-qtest.h"

static const uint64_t VA = 0x7f1234560000;

static NpuCmd fill(uint64_t va, uint64_t bytes, uint64_t pattern)
{
    return (NpuCmd) { NPU_OP_FILL, .ctx = CTX,
                      .arg = { va, bytes, pattern } };
}

static NpuCmd to_local(uint64_t host, uint64_t local, uint64_t bytes)
{
    return (NpuCmd) { NPU_OP_COPY, NPU_F_DST_LOCAL,
                      .arg = { host, local, bytes } };
}

static NpuCmd from_local(uint64_t local, uint64_t host, uint64_t bytes)
{
    return (NpuCmd) { NPU_OP_COPY, NPU_F_SRC_LOCAL,
                      .arg = { local, host, bytes } };
}

/* --- identity and registers ---------------------------------------------- */

static void test_identity(void)
{
    Npu *n = npu_start("compute-queues=5,copy-queues=3,contexts=17");
    uint64_t id = npu_rd(n, NPU_REG_ID), caps = npu_rd(n, NPU_REG_CAPS);
    uint8_t cap;

    g_assert_cmphex(qpci_config_readw(n->pci, PCI_VENDOR_ID), ==,
                    NPU_PCI_VENDOR);
    g_assert_cmphex(qpci_config_readw(n->pci, PCI_DEVICE_ID), ==,
                    NPU_PCI_DEVICE);
    g_assert_cmphex(qpci_config_readw(n->pci, PCI_CLASS_DEVICE), ==,
                    NPU_PCI_CLASS);
    cap = qpci_find_capability(n->pci, PCI_CAP_ID_MSIX, 0);
    g_assert_cmpuint(qpci_config_readw(n->pci, cap + PCI_MSIX_FLAGS) &
                     PCI_MSIX_FLAGS_QSIZE, ==, NPU_VEC_QUEUE(8) - 1);
    cap = qpci_find_capability(n->pci, PCI_CAP_ID_EXP, 0);
    g_assert_true(qpci_config_readl(n->pci, cap + PCI_EXP_DEVCAP) &
                  PCI_EXP_DEVCAP_FLR);

    g_assert_cmphex(id & 0xffffffff, ==, NPU_ID_MAGIC);
    g_assert_cmpuint(NPU_ID_VERSION(id), ==, NPU_VERSION);
    g_assert_cmpuint(NPU_CAPS_COMPUTE(caps), ==, 5);
    g_assert_cmpuint(NPU_CAPS_COPY(caps), ==, 3);
    g_assert_cmpuint(NPU_CAPS_CONTEXTS(caps), ==, 17);
    g_assert_cmpuint(NPU_CAPS_VA_BITS(caps), ==, NPU_VA_BITS);
    g_assert_cmpuint(npu_rd(n, NPU_REG_MEM_SIZE), ==, 64 * MIB);
    /* No instructions are executed here. */
    g_assert_cmpuint(npu_rd(n, NPU_REG_INSN), ==, 0);
    npu_stop(n);
}

static void test_time(void)
{
    Npu *n = npu_start("");
    uint64_t start = npu_rd(n, NPU_REG_TIME);

    npu_step(n, 12345);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TIME), ==, start + 12345);
    npu_stop(n);
}

/* Every register that is a plain value keeps it, whole and in halves. */
static void test_access_size(void)
{
    static const uint64_t plain[] = {
        NPU_REG_TLBI_START, NPU_REG_TLBI_END, NPU_REG_INJECT_ARG,
    };
    Npu *n = npu_start("");
    uint64_t at;

    for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
        at = n->regs + plain[i];
        npu_wr(n, plain[i], 0x1122334455667788ULL);
        g_assert_cmphex(npu_rd(n, plain[i]), ==, 0x1122334455667788ULL);
        g_assert_cmphex(qtest_readl(n->qts, at), ==, 0x55667788);
        g_assert_cmphex(qtest_readl(n->qts, at + 4), ==, 0x11223344);
        /* The high half waits for the low one. */
        qtest_writel(n->qts, at + 4, 0xaabbccdd);
        g_assert_cmphex(npu_rd(n, plain[i]), ==, 0x1122334455667788ULL);
        qtest_writel(n->qts, at, 0x99);
        g_assert_cmphex(npu_rd(n, plain[i]), ==, 0xaabbccdd00000099ULL);
        /* A low half alone is a small number; no half is used twice. */
        qtest_writel(n->qts, at, 0x77);
        g_assert_cmphex(npu_rd(n, plain[i]), ==, 0x77);
    }
    /* A high half of another register is not taken. */
    qtest_writel(n->qts, n->regs + NPU_REG_TLBI_START + 4, 1);
    qtest_writel(n->qts, n->regs + NPU_REG_TLBI_END, 2);
    g_assert_cmphex(npu_rd(n, NPU_REG_TLBI_END), ==, 2);
    npu_stop(n);
}

/* Any access anywhere leaves a device that works. */
static void test_any_register(void)
{
    static const uint64_t values[] = { 0, 1, 0xff, ~0ULL, 1ULL << 63 };
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, PAGE, 0);

    /* All that mean something, and a sample of what lies behind. */
    for (unsigned reg = 0; reg < NPU_BAR_REGS_SIZE;
         reg += reg < NPU_CTX(NPU_MAX_CONTEXTS) ? 8 : 0x3f8) {
        npu_rd(n, reg);
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            npu_wr(n, reg, values[i]);
        }
        qtest_writel(n->qts, n->regs + reg + 4, 0x80000001);
        qtest_writel(n->qts, n->regs + reg, 0x80000001);
        qtest_readb(n->qts, n->regs + reg + 1);
        qtest_writeb(n->qts, n->regs + reg + 1, 0xff);
        if (reg % 0x200 == 0) {
            npu_step(n, 100000);
        }
    }
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_RESET);
    npu_step(n, T_RESET);
    n->root[CTX] = 0;
    npu_root(n, CTX);
    npu_map_page(n, CTX, b.va, b.phys, 12, NPU_PTE_W);
    npu_program(n);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va, 8, 1)), ==, 0);
    npu_stop(n);
}

static void test_bad_queue(void)
{
    Npu *n = npu_start("");
    uint64_t q = NPU_QUEUE(COPYQ(0)), i;

    /* Not while it is enabled. */
    npu_wr(n, q + NPU_Q_BASE, 0x1000);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_wr(n, q + NPU_Q_SIZE, 4);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmphex(npu_rd(n, q + NPU_Q_BASE), ==, n->ring[COPYQ(0)]);
    g_assert_cmpuint(npu_rd(n, q + NPU_Q_SIZE), ==, RING);

    /* More than the ring has; backwards. */
    npu_wr(n, q + NPU_Q_TAIL, RING + 1);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_wr(n, q + NPU_Q_TAIL, ~0ULL);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    i = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    npu_wr(n, q + NPU_Q_TAIL, 1);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i), ==, 0);

    npu_wr(n, q + NPU_Q_CTRL, 0);
    npu_wr(n, q + NPU_Q_TAIL, 3);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_wr(n, q + NPU_Q_SIZE, 5);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmpuint(npu_rd(n, q + NPU_Q_SIZE), ==, 0);
    npu_wr(n, q + NPU_Q_SIZE, 1ULL << 17);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_wr(n, q + NPU_Q_CTRL, NPU_Q_ENABLE);
    npu_expect_error(n, NPU_ERROR_DESC);
    g_assert_cmphex(npu_rd(n, q + NPU_Q_CTRL), ==, 0);
    npu_stop(n);
}

/* What is queued while the device is disabled starts when it is enabled. */
static void test_global_enable(void)
{
    Npu *n = npu_start("");
    uint64_t first, second, third;

    first = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    second = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    npu_wr(n, NPU_REG_CTRL, 0);
    third = npu_submit(n, COPYQ(1), (NpuCmd) { NPU_OP_NOP });
    npu_step(n, 1000000);
    /* What had begun is finished. */
    g_assert_cmpuint(npu_status(n, COPYQ(0), first), ==, 0);
    g_assert_cmpuint(npu_status(n, COPYQ(0), second), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(1), third), ==, NO_STATUS);
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_ENABLE);
    g_assert_cmpuint(npu_wait(n, COPYQ(0), second), ==, 0);
    g_assert_cmpuint(npu_wait(n, COPYQ(1), third), ==, 0);
    npu_stop(n);
}

/* --- DMA that goes wrong ------------------------------------------------- */

static void set_master(Npu *n, bool on)
{
    uint16_t cmd = qpci_config_readw(n->pci, PCI_COMMAND);

    qpci_config_writew(n->pci, PCI_COMMAND,
                       on ? cmd | PCI_COMMAND_MASTER :
                            cmd & ~PCI_COMMAND_MASTER);
}

/* A descriptor that cannot be fetched stops its queue and no other. */
static void test_fetch_refused(void)
{
    Npu *n = npu_start("");
    uint64_t q = NPU_QUEUE(COPYQ(0)), i;

    set_master(n, false);
    npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    npu_step(n, 10000);
    set_master(n, true);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR), ==, NPU_ERROR_BUS);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR_ADDR), ==, n->ring[COPYQ(0)]);
    g_assert_cmphex(npu_rd(n, q + NPU_Q_CTRL), ==, 0);
    g_assert_cmphex(npu_rd(n, q + NPU_Q_STATUS), ==, 0);
    i = npu_submit(n, COPYQ(1), (NpuCmd) { NPU_OP_NOP });
    g_assert_cmpuint(npu_wait(n, COPYQ(1), i), ==, 0);
    npu_queue_setup(n, COPYQ(0));
    i = npu_submit(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
    g_assert_cmpuint(npu_wait(n, COPYQ(0), i), ==, 0);
    npu_stop(n);
}

/* A fence that cannot be written: the queue goes on. */
static void test_fence_refused(void)
{
    static const uint64_t fences[] = { 0x7000000000000000ULL, 0x1004 };
    static const uint64_t errors[] = { NPU_ERROR_BUS, NPU_ERROR_DESC };
    Npu *n = npu_start("");
    uint64_t i;

    for (unsigned k = 0; k < 2; k++) {
        i = npu_push(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP });
        host_wr(n, n->ring[COPYQ(0)] + i * NPU_DESC_SIZE +
                8 * NPU_DESC_W_FENCE_ADDR, fences[k]);
        npu_ring(n, COPYQ(0));
        npu_step(n, T_CMD);
        npu_expect_error(n, errors[k]);
        g_assert_cmpuint(npu_rd(n, NPU_QUEUE(COPYQ(0)) + NPU_Q_HEAD), ==,
                         i + 1);
    }
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    npu_stop(n);
}

/* The device's own registers are no target: they change nothing. */
static void test_dma_to_self(void)
{
    Npu *n = npu_start("");
    uint64_t local = npu_local(n, 128 * KIB), i;

    /* Among others this would reset, kill, and ring every doorbell. */
    qtest_memset(n->qts, n->mem + local, 0xff, NPU_BAR_REGS_SIZE);
    i = npu_submit(n, COPYQ(0), from_local(local, n->regs,
                                           NPU_BAR_REGS_SIZE));
    npu_wait(n, COPYQ(0), i);
    g_assert_cmphex(npu_rd(n, NPU_REG_CTRL), ==, NPU_CTRL_ENABLE);
    g_assert_cmphex(npu_rd(n, NPU_REG_FAULTQ_BASE), ==, n->faultq);
    i = npu_submit(n, COPYQ(0), to_local(n->regs, local, 4096));
    npu_wait(n, COPYQ(0), i);
    g_assert_cmphex(local_rd(n, local), ==, ~0ULL);
    /* A job that adds to one atomically. */
    npu_map_page(n, CTX, VA, n->regs, 12, NPU_PTE_W | NPU_PTE_SYS);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_ATOMIC_ADD, .ctx = CTX,
                         .arg = { VA + NPU_REG_CTRL, 1, 1 } }), ==, E_IO);
    /* The local memory by its bus address is memory like any other. */
    local_wr(n, local, 5);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(n->mem + local,
                                                  local + 4096, 8)), ==, 0);
    g_assert_cmpuint(local_rd(n, local + 4096), ==, 5);
    npu_stop(n);
}

/* --- reset --------------------------------------------------------------- */

static const uint64_t zero_after_reset[] = {
    NPU_REG_ERROR, NPU_REG_ERROR_ADDR, NPU_REG_STATUS, NPU_REG_FAULTQ_BASE,
    NPU_REG_FAULTQ_SIZE, NPU_REG_FAULTQ_HEAD, NPU_REG_FAULTQ_TAIL,
    NPU_REG_TLBI_START, NPU_REG_TLBI_END, NPU_REG_TLBI_QUEUED,
    NPU_REG_TLBI_DONE, NPU_REG_INJECT_ARG, NPU_CTX(CTX) + NPU_CTX_ROOT,
    NPU_CTX(CTX) + NPU_CTX_KILL,
};

/* Everything is in motion, and then comes what @reset does. */
static void check_reset(void (*reset)(Npu *n), bool keeps_memory)
{
    Npu *n = npu_start("");
    uint64_t host = npu_ram(n, MIB), local = npu_local(n, MIB), i[4];
    NpuBuf b = npu_buf(n, 12, false, MIB, 0);
    uint64_t old = npu_local(n, PAGE), translations;

    local_wr(n, local, 42);
    host_wr(n, host, 1);
    npu_map_page(n, CTX, VA, old, 12, NPU_PTE_W);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(VA, 8, 7)), ==, 0);
    npu_inject(n, NPU_INJECT_ECC, 0);
    npu_inject(n, NPU_INJECT_JOB_FAIL, 10);
    npu_inject(n, NPU_INJECT_HANG, COMPUTE(3));
    i[0] = npu_submit(n, COMPUTE(0), fill(b.va, b.bytes, 1));
    i[1] = npu_submit(n, COMPUTE(1), fill(VA + PAGE, 8, 1));
    i[2] = npu_submit(n, COPYQ(0), to_local(host, local, MIB));
    i[3] = npu_submit(n, COPYQ(1), from_local(local, host, MIB));
    npu_step(n, 10000);
    npu_wr(n, NPU_REG_TLBI_END, ~0ULL);
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    npu_wr(n, NPU_QUEUE(COPYQ(0)) + NPU_Q_TAIL, ~0ULL);
    /* The interrupt of that error is still to come. */
    npu_irq_seen(n, NPU_VEC_ERROR);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR), !=, 0);
    translations = npu_stat(n, NPU_STAT_TRANSLATIONS);

    reset(n);
    npu_step(n, 10000000);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), i[0]), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COMPUTE(1), i[1]), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(0), i[2]), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(1), i[3]), ==, NO_STATUS);
    g_assert_cmpuint(host_rd(n, host), ==, 1);
    g_assert_false(npu_irq_seen(n, NPU_VEC_ERROR));
    g_assert_cmphex(npu_rd(n, NPU_REG_CTRL), ==, 0);
    for (unsigned k = 0; k < ARRAY_SIZE(zero_after_reset); k++) {
        g_assert_cmphex(npu_rd(n, zero_after_reset[k]), ==, 0);
    }
    for (unsigned q = 0; q < NQUEUES; q++) {
        for (unsigned reg = 0; reg < 0x40; reg += 8) {
            g_assert_cmphex(npu_rd(n, NPU_QUEUE(q) + reg), ==, 0);
        }
    }
    /* Statistics outlive a reset, so that they can explain it. */
    g_assert_cmpuint(npu_stat(n, NPU_STAT_TRANSLATIONS), ==, translations);
    g_assert_cmpuint(local_rd(n, local), ==, keeps_memory ? 42 : 0);

    /* Programmed again, it works, and has forgotten every translation. */
    npu_program(n);
    if (keeps_memory) {
        npu_map_page(n, CTX, VA, old + 0, 12, 0);
        i[0] = npu_submit(n, COMPUTE(3), fill(VA, 8, 8));
        npu_expect_fault(n, COMPUTE(3), VA, NPU_FAULT_WRITE | NPU_FAULT_PROT);
        npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_ABORT | NPU_RESP_ALL);
        g_assert_cmpuint(npu_wait(n, COMPUTE(3), i[0]), ==, E_FAULT);
    }
    g_assert_cmpuint(npu_do(n, COPYQ(0), from_local(0, host, PAGE)), ==, 0);
    npu_stop(n);
}

static void ctrl_reset(Npu *n)
{
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_RESET);
    npu_step(n, T_RESET - 1);
    g_assert_cmphex(npu_rd(n, NPU_REG_CTRL), ==, NPU_CTRL_RESET);
    /* Nothing is heard before it is over. */
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_ENABLE);
    npu_wr(n, NPU_REG_TLBI_START, 1);
    npu_step(n, 1);
    g_assert_cmphex(npu_rd(n, NPU_REG_CTRL), ==, 0);
}

static void function_reset(Npu *n)
{
    uint8_t cap = qpci_find_capability(n->pci, PCI_CAP_ID_EXP, 0);
    uint16_t ctl = qpci_config_readw(n->pci, cap + PCI_EXP_DEVCTL);

    qpci_config_writew(n->pci, cap + PCI_EXP_DEVCTL,
                       ctl | PCI_EXP_DEVCTL_BCR_FLR);
    npu_place(n);
    npu_msix_setup(n);
}

static void removal(Npu *n)
{
    npu_inject(n, NPU_INJECT_REMOVE, 0);
    g_assert_cmphex(npu_rd(n, NPU_REG_ID), ==, ~0ULL);
    g_assert_cmphex(npu_rd(n, NPU_REG_STATUS), ==, ~0ULL);
    g_assert_cmphex(npu_rd(n, NPU_QUEUE(0) + NPU_Q_HEAD), ==, ~0ULL);
    g_assert_cmphex(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, ~0ULL);
    g_assert_cmphex(local_rd(n, 0), ==, ~0ULL);
    local_wr(n, 0, 1);
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_ENABLE);
    npu_step(n, 1000000);
    g_assert_cmphex(npu_rd(n, NPU_REG_ID), ==, ~0ULL);
    ctrl_reset(n);
    g_assert_cmphex(npu_rd(n, NPU_REG_ID) & 0xffffffff, ==, NPU_ID_MAGIC);
}

static void test_ctrl_reset(void)
{
    check_reset(ctrl_reset, true);
}

static void test_function_reset(void)
{
    check_reset(function_reset, true);
}

static void test_removal(void)
{
    check_reset(removal, false);
}

static void test_removal_function_reset(void)
{
    Npu *n = npu_start("");

    npu_inject(n, NPU_INJECT_REMOVE, 0);
    g_assert_cmphex(npu_rd(n, NPU_REG_ID), ==, ~0ULL);
    function_reset(n);
    g_assert_cmphex(npu_rd(n, NPU_REG_ID) & 0xffffffff, ==, NPU_ID_MAGIC);
    npu_stop(n);
}

/* --- injected errors ----------------------------------------------------- */

static void test_inject_counts(void)
{
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 8, 0);
    uint64_t host = npu_ram(n, PAGE), local = npu_local(n, PAGE), word = 5;

    npu_buf_put(&b, &word);
    npu_inject(n, NPU_INJECT_JOB_FAIL, 2);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va, 8, 1)), ==, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(1), fill(b.va, 8, 2)), ==, E_IO);
    word = 1;
    npu_buf_expect(&b, &word);
    g_assert_cmpuint(npu_do(n, COMPUTE(1), fill(b.va, 8, 3)), ==, 0);

    host_wr(n, host, 9);
    npu_inject(n, NPU_INJECT_COPY_FAIL, 1);
    /* Commands that move no data do not count. */
    g_assert_cmpuint(npu_do(n, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 8)), ==, E_IO);
    g_assert_cmpuint(local_rd(n, local), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 8)), ==, 0);
    g_assert_cmpuint(local_rd(n, local), ==, 9);

    npu_inject(n, NPU_INJECT_COPY_FAIL, 1);
    npu_inject(n, NPU_INJECT_JOB_FAIL, 1);
    npu_inject(n, NPU_INJECT_NONE, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 8)), ==, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va, 8, 1)), ==, 0);

    /* What cannot be armed. */
    npu_inject(n, NPU_INJECT_COPY_FAIL, 0);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_inject(n, NPU_INJECT_JOB_FAIL, 0);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_inject(n, NPU_INJECT_ECC, n->mem_size);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_inject(n, NPU_INJECT_HANG, NQUEUES);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_inject(n, 99, 0);
    npu_expect_error(n, NPU_ERROR_DESC);
    npu_stop(n);
}

static void expect_ecc(Npu *n, uint64_t addr)
{
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR_ADDR), ==, addr);
    npu_expect_error(n, NPU_ERROR_ECC);
}

static void test_ecc(void)
{
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, 3 * PAGE, 0);
    uint64_t page = npu_buf_frame(&b, 1), host = npu_ram(n, PAGE);
    NpuCmd read = { NPU_OP_REDUCE, .ctx = CTX, .arg = { b.va, 1024 } };
    NpuCmd add = { NPU_OP_ATOMIC_ADD, .ctx = CTX,
                   .arg = { b.va + PAGE, 1, 1 } };

    npu_inject(n, NPU_INJECT_ECC, page + 123);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, E_IO);
    expect_ecc(n, page);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), add), ==, E_IO);
    expect_ecc(n, page);
    g_assert_cmpuint(npu_do(n, COPYQ(0), from_local(page + 8, host, 8)), ==,
                     E_IO);
    expect_ecc(n, page + 8);
    /* Its neighbours are good. */
    g_assert_cmpuint(npu_do(n, COPYQ(0), from_local(page - 8, host, 8)), ==,
                     0);
    /* Writing a part does not help; writing all of it does. */
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va + PAGE, PAGE - 1, 1)),
                     ==, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, E_IO);
    expect_ecc(n, page);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va + PAGE, PAGE, 1)), ==,
                     0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, 0);

    npu_inject(n, NPU_INJECT_ECC, page);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, page, PAGE)), ==, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, 0);
    npu_inject(n, NPU_INJECT_ECC, page);
    npu_inject(n, NPU_INJECT_NONE, 0);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, 0);

    /* A page table in a bad page. */
    npu_inject(n, NPU_INJECT_ECC, n->root[CTX]);
    npu_flush(n, 0, ~0ULL);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), read), ==, E_IO);
    expect_ecc(n, n->root[CTX]);
    npu_stop(n);
}

static void test_hang(void)
{
    Npu *n = npu_start("");
    NpuBuf b = npu_buf(n, 12, false, MIB, 0);
    uint64_t host = npu_ram(n, MIB), local = npu_local(n, MIB), job, copy;

    job = npu_submit(n, COMPUTE(1), fill(b.va, b.bytes, 1));
    copy = npu_submit(n, COPYQ(1), to_local(host, local, MIB));
    npu_step(n, 5000);
    npu_inject(n, NPU_INJECT_HANG, COMPUTE(1));
    npu_inject(n, NPU_INJECT_HANG, COPYQ(1));
    npu_wr(n, NPU_CTX(CTX) + NPU_CTX_KILL, 1);
    npu_step(n, 100000000);
    g_assert_cmpuint(npu_status(n, COMPUTE(1), job), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(1), copy), ==, NO_STATUS);
    g_assert_cmphex(npu_rd(n, NPU_QUEUE(COMPUTE(1)) + NPU_Q_STATUS), ==,
                    NPU_Q_HUNG | NPU_Q_RUNNING);
    /* Its job cannot be ended either: only a reset helps. */
    g_assert_cmpuint(npu_rd(n, NPU_CTX(CTX) + NPU_CTX_KILL), ==, 1);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(b.va, 8, 1)), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 8)), ==, 0);
    npu_wr(n, NPU_QUEUE(COMPUTE(1)) + NPU_Q_CTRL, 0);
    npu_wr(n, NPU_QUEUE(COMPUTE(1)) + NPU_Q_CTRL, NPU_Q_ENABLE);
    npu_expect_error(n, NPU_ERROR_DESC);
    ctrl_reset(n);
    npu_program(n);
    g_assert_cmpuint(npu_do(n, COMPUTE(1), fill(b.va, 8, 1)), ==, 0);
    g_assert_cmpuint(npu_do(n, COPYQ(1), to_local(host, local, 8)), ==, 0);
    npu_stop(n);
}

/* --- sizes and numbers --------------------------------------------------- */

static void test_two_devices(void)
{
    NpuMachine *m = npu_machine("-device gmem-npu,addr=4,mem-size=64M "
                                "-device gmem-npu,addr=5,mem-size=66M");
    Npu *a = npu_probe(m, 4), *b = npu_probe(m, 5);
    uint64_t host = npu_ram(a, MIB), i, j;

    g_assert_cmpuint(a->mem_size, ==, 64 * MIB);
    g_assert_cmpuint(b->mem_size, ==, 66 * MIB);
    local_wr(a, 0, 1);
    local_wr(b, 0, 2);
    /* Each has its own link: they do not wait for each other. */
    i = npu_submit(a, COPYQ(0), from_local(0, host, 512 * KIB));
    j = npu_submit(b, COPYQ(0), from_local(0, host + 512 * KIB, 512 * KIB));
    npu_step(a, T_CMD + T_DESC + T_LINK(512 * KIB));
    g_assert_cmpuint(npu_status(a, COPYQ(0), i), ==, 0);
    g_assert_cmpuint(npu_status(b, COPYQ(0), j), ==, 0);
    g_assert_cmpuint(host_rd(a, host), ==, 1);
    g_assert_cmpuint(host_rd(a, host + 512 * KIB), ==, 2);
    /* From one to the other, by bus address. */
    g_assert_cmpuint(npu_do(a, COPYQ(0), from_local(0, b->mem + 4096, 8)), ==,
                     0);
    g_assert_cmpuint(local_rd(b, 4096), ==, 1);
    npu_inject(a, NPU_INJECT_REMOVE, 0);
    g_assert_cmphex(npu_rd(a, NPU_REG_ID), ==, ~0ULL);
    g_assert_cmpuint(npu_do(b, COPYQ(0), (NpuCmd) { NPU_OP_NOP }), ==, 0);
    npu_release(a);
    npu_release(b);
    npu_machine_stop(m);
}

static void test_largest_memory(void)
{
    NpuMachine *m = npu_machine("-device gmem-npu,addr=4,mem-size=16G");
    Npu *n = npu_probe(m, 4);
    uint64_t top = 16 * 1024 * MIB - 2 * MIB - TABLES;

    g_assert_cmpuint(n->mem_size, ==, 16 * 1024 * MIB);
    npu_map_page(n, CTX, VA & ~(2 * MIB - 1), top, 21, NPU_PTE_W);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(VA & ~(2 * MIB - 1), 2 * MIB,
                                                0x55)), ==, 0);
    g_assert_cmpuint(local_rd(n, top + 2 * MIB - 8), ==, 0x55);
    /* All of it is there to be zeroed: 17.2 ms at 1 TB/s. */
    g_assert_cmpuint(npu_timed(n, COPYQ(0), (NpuCmd) {
                         NPU_OP_ZERO, NPU_F_DST_LOCAL,
                         .arg = { top, 2 * MIB } }), ==,
                     T_CMD + T_MEM(2 * MIB));
    g_assert_cmpuint(local_rd(n, top + 2 * MIB - 8), ==, 0);
    npu_release(n);
    npu_machine_stop(m);
}

/* Properties that make no device are refused, and say why. */
static void test_bad_properties(void)
{
    static const struct {
        const char *name;
        uint64_t value;
    } bad[] = {
        { "mem-size", 62 * MIB },
        { "mem-size", 65 * MIB },
        { "mem-size", 16 * 1024 * MIB + 2 * MIB },
        { "compute-queues", 0 },
        { "copy-queues", 0 },
        { "compute-queues", 31 },
        { "copy-queues", ~0U },
        { "contexts", 0 },
        { "contexts", 257 },
        { "tlb-entries", 0 },
        { "tlb-entries", 6 },
        { "tlb-entries", 1 << 20 },
    };
    NpuMachine *m = npu_machine("-device pcie-root-port,id=rp,slot=1");

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        QDict *args = qdict_new(), *resp;

        qdict_put_str(args, "driver", "gmem-npu");
        qdict_put_str(args, "bus", "rp");
        qdict_put_int(args, bad[i].name, bad[i].value);
        resp = qtest_qmp(m->qts, "{'execute': 'device_add', "
                         "'arguments': %p}", args);
        g_assert_true(qdict_haskey(resp, "error"));
        g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                              "desc"), "must"));
        qobject_unref(resp);
    }
    npu_machine_stop(m);
}

/* Bus 1 behind the root port, with room for the BARs of one device. */
static Npu *probe_behind_port(NpuMachine *m, unsigned slot)
{
    QPCIDevice *port = qpci_device_find(m->bus, QPCI_DEVFN(slot, 0));
    const uint64_t mem = BAR_FIRST, regs = 0xe1000000, msix = 0xe1100000;

    qpci_config_writeb(port, PCI_SECONDARY_BUS, 1);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, 1);
    qpci_config_writew(port, PCI_MEMORY_BASE, regs >> 16);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, msix >> 16);
    qpci_config_writew(port, PCI_PREF_MEMORY_BASE, mem >> 16 & 0xfff0);
    qpci_config_writew(port, PCI_PREF_MEMORY_LIMIT,
                       (mem + 63 * MIB) >> 16 & 0xfff0);
    qpci_config_writel(port, PCI_PREF_BASE_UPPER32, mem >> 32);
    qpci_config_writel(port, PCI_PREF_LIMIT_UPPER32, mem >> 32);
    qpci_device_enable(port);
    g_free(port);
    return npu_probe_at(m, QPCI_DEVFN(32, 0), regs, msix, mem);
}

/* What an operating system does when it has let go of a device. */
static void power_off(NpuMachine *m, unsigned slot)
{
    QPCIDevice *port = qpci_device_find(m->bus, QPCI_DEVFN(slot, 0));
    uint8_t cap = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    qpci_config_writew(port, cap + PCI_EXP_SLTCTL,
                       PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PWR_OFF);
    g_free(port);
}

/* Behind a root port it can be unplugged in the middle of its work. */
static void test_unplug(void)
{
    NpuMachine *m = npu_machine("-global ICH9-LPC."
                                "acpi-pci-hotplug-with-bridge-support=off "
                                "-device pcie-root-port,id=rp,slot=1,addr=4 "
                                "-device gmem-npu,id=npu,bus=rp,mem-size=64M");
    Npu *n = probe_behind_port(m, 4);
    NpuBuf b = npu_buf(n, 12, false, MIB, 0);
    uint64_t host = npu_ram(n, MIB), job, copy, flight;

    job = npu_submit(n, COMPUTE(0), fill(b.va, b.bytes, 1));
    copy = npu_submit(n, COPYQ(0), from_local(0, host, MIB));
    flight = npu_submit(n, COMPUTE(1), fill(VA, 8, 1));
    npu_step(n, 5000);
    npu_wr(n, NPU_REG_TLBI_END, ~0ULL);
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    qtest_qmp_device_del_send(m->qts, "npu");
    power_off(m, 4);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    npu_step(n, 100000000);
    g_assert_cmpuint(npu_status(n, COMPUTE(0), job), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COMPUTE(1), flight), ==, NO_STATUS);
    g_assert_cmpuint(npu_status(n, COPYQ(0), copy), ==, NO_STATUS);
    npu_release(n);
    npu_machine_stop(m);
}

/* --- IOMMU --------------------------------------------------------------- */

#define VTD             0xfed90000ULL
#define VTD_GCMD        (VTD + 0x18)
#define VTD_GSTS        (VTD + 0x1c)
#define VTD_RTADDR      (VTD + 0x20)

/*
 * Let a VT-d unit map the first GiB one to one in pages of 2 MiB, without the
 * page at @hole, which is one of the 4 KiB pages around it.
 */
static void vtd_setup(Npu *n, uint64_t hole)
{
    uint64_t root = npu_ram(n, PAGE), context = npu_ram(n, PAGE);
    uint64_t top = npu_ram(n, PAGE), middle = npu_ram(n, PAGE);
    uint64_t bottom = npu_ram(n, PAGE);

    for (unsigned i = 0; i < 512; i++) {
        uint64_t big = i * 2 * MIB, small = (hole & ~(2 * MIB - 1)) + i * PAGE;

        host_wr(n, middle + 8 * i, big == (hole & ~(2 * MIB - 1)) ?
                bottom | 3 : big | 0x80 | 3);
        host_wr(n, bottom + 8 * i, small == hole ? 0 : small | 3);
    }
    host_wr(n, top, middle | 3);
    /* A context for each function of bus 0: 39 bits, three levels. */
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        host_wr(n, context + 16 * devfn, top | 1);
        host_wr(n, context + 16 * devfn + 8, 1 << 8 | 1);
    }
    host_wr(n, root, context | 1);
    qtest_writeq(n->qts, VTD_RTADDR, root);
    qtest_writel(n->qts, VTD_GCMD, 1U << 30);
    qtest_writel(n->qts, VTD_GCMD, 1U << 31);
    g_assert_true(qtest_readl(n->qts, VTD_GSTS) & 1U << 31);
}

static void test_iommu(void)
{
    NpuMachine *m = npu_machine("-device intel-iommu "
                                "-device gmem-npu,addr=4,mem-size=64M");
    Npu *n = npu_probe(m, 4);
    uint64_t host = npu_ram(n, 2 * MIB), local = npu_local(n, 2 * MIB);
    uint64_t hole = host + 3 * PAGE;

    host_wr(n, host, 77);
    host_wr(n, hole, 1);
    local_wr(n, local, 2);
    vtd_setup(n, hole);
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 3 * PAGE)), ==,
                     0);
    g_assert_cmpuint(local_rd(n, local), ==, 77);
    /* The last of four pages is not mapped. */
    g_assert_cmpuint(npu_do(n, COPYQ(0), to_local(host, local, 4 * PAGE)), ==,
                     E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(npu_do(n, COPYQ(0), from_local(local, hole, 8)), ==,
                     E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(host_rd(n, hole), ==, 1);
    /* Jobs come the same way. */
    npu_map_page(n, CTX, VA, hole, 12, NPU_PTE_W | NPU_PTE_SYS);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), fill(VA, 8, 5)), ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(npu_do(n, COMPUTE(0), (NpuCmd) {
                         NPU_OP_ATOMIC_ADD, .ctx = CTX,
                         .arg = { VA, 1, 1 } }), ==, E_IO);
    npu_expect_error(n, NPU_ERROR_BUS);
    g_assert_cmpuint(host_rd(n, hole), ==, 1);
    npu_release(n);
    npu_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/gmem-npu/device/identity", test_identity);
    qtest_add_func("/gmem-npu/device/time", test_time);
    qtest_add_func("/gmem-npu/device/access-size", test_access_size);
    qtest_add_func("/gmem-npu/device/any-register", test_any_register);
    qtest_add_func("/gmem-npu/device/bad-queue", test_bad_queue);
    qtest_add_func("/gmem-npu/device/global-enable", test_global_enable);
    qtest_add_func("/gmem-npu/dma/fetch-refused", test_fetch_refused);
    qtest_add_func("/gmem-npu/dma/fence-refused", test_fence_refused);
    qtest_add_func("/gmem-npu/dma/to-self", test_dma_to_self);
    qtest_add_func("/gmem-npu/dma/iommu", test_iommu);
    qtest_add_func("/gmem-npu/reset/ctrl", test_ctrl_reset);
    qtest_add_func("/gmem-npu/reset/function", test_function_reset);
    qtest_add_func("/gmem-npu/reset/removal", test_removal);
    qtest_add_func("/gmem-npu/reset/removal-function",
                   test_removal_function_reset);
    qtest_add_func("/gmem-npu/inject/counts", test_inject_counts);
    qtest_add_func("/gmem-npu/inject/ecc", test_ecc);
    qtest_add_func("/gmem-npu/inject/hang", test_hang);
    qtest_add_func("/gmem-npu/size/two-devices", test_two_devices);
    qtest_add_func("/gmem-npu/size/largest-memory", test_largest_memory);
    qtest_add_func("/gmem-npu/size/bad-properties", test_bad_properties);
    qtest_add_func("/gmem-npu/size/unplug", test_unplug);
    return g_test_run();
}
