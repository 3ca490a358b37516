/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the gmem-npu tests share: a machine with the device in it, page tables
 * and buffers in its memory, queues, and the virtual clock.
 *
 * The CPU is the test program: guest memory, local memory (through BAR 2) and
 * registers are reached by qtest accesses, and time passes only in npu_step()
 * and in the functions that wait.
 */
#ifndef GMEM_NPU_QTEST_H
#define GMEM_NPU_QTEST_H

#include "qemu/host-utils.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"
#include "hw/pci/pci_regs.h"
#include "gmem_npu_regs.h"

#define KIB             1024ULL
#define MIB             (1024 * KIB)
#define PAGE            4096ULL

/* errno numbers of the device, whatever the host has */
#define E_IO            5
#define E_FAULT         14
#define E_INVAL         22
#define E_CANCELED      125

/* Properties that the tests do not change keep these values. */
#define T_CMD           200
#define T_WALK          100
#define T_DESC          1000
#define T_TLBI          500
#define T_FAULT         500
#define T_REPLAY        200
#define T_IRQ           500
#define T_RESET         10000
#define T_LATENCY       100
/* 16 bytes pass the link in a nanosecond, 1000 the local memory. */
#define T_LINK(bytes)   (((bytes) + 15) / 16)
#define T_MEM(bytes)    (((bytes) + 999) / 1000)

#define RING            64      /* descriptors in each queue */
#define FAULTQ          16      /* records in the fault queue */
#define CTX             3       /* the context that the tests use */
#define COMPUTE(i)      (i)
#define COPYQ(i)        (4 + (i))
#define NQUEUES         6
#define NO_STATUS       (~0ULL)

#define RAM_FIRST       (16 * MIB)      /* guest memory given to the device */
#define RAM_SIZE        (512 * MIB)
#define BAR_FIRST       0x8000000000ULL
#define BAR_WINDOW      0x1000000000ULL
#define BAR_MEM_AT      0x800000000ULL  /* of the window */
#define TABLES          (8 * MIB)       /* of local memory, at its end */

typedef struct NpuMachine {
    QTestState *qts;
    QPCIBus *bus;
    uint64_t ram_next;
    char *bios;
} NpuMachine;

typedef struct Npu {
    NpuMachine *m;
    QTestState *qts;
    QPCIDevice *pci;
    uint64_t regs, mem, msix;   /* where the BARs are */
    uint64_t mem_size;
    uint64_t local_next, table_next, va_next;
    uint64_t root[NPU_MAX_CONTEXTS];
    uint64_t ring[NQUEUES], done[NQUEUES], tail[NQUEUES];
    uint64_t faultq, irqs;
} Npu;

/* --- the machine --------------------------------------------------------- */

static inline NpuMachine *npu_machine(const char *args)
{
    NpuMachine *m = g_new0(NpuMachine, 1);
    int fd = g_file_open_tmp("gmem-npu-XXXXXX", &m->bios, NULL);

    /* Nothing runs on the CPU, but a PC does not start without firmware. */
    g_assert_cmpint(ftruncate(fd, 64 * KIB), ==, 0);
    close(fd);
    m->qts = qtest_initf("-M q35 -m 512M -nodefaults -bios %s "
                         "-global apic-common.vapic=off %s", m->bios, args);
    m->bus = qpci_new_pc(m->qts, NULL);
    m->ram_next = RAM_FIRST;
    return m;
}

static inline void npu_machine_stop(NpuMachine *m)
{
    qpci_free_pc(m->bus);
    qtest_quit(m->qts);
    unlink(m->bios);
    g_free(m->bios);
    g_free(m);
}

/* Guest memory that nothing else uses, zeroed. */
static inline uint64_t npu_ram(Npu *n, uint64_t bytes)
{
    uint64_t align = MAX(PAGE, MIN(pow2ceil(bytes), 2 * MIB));
    uint64_t at = QEMU_ALIGN_UP(n->m->ram_next, align);

    n->m->ram_next = at + QEMU_ALIGN_UP(bytes, PAGE);
    g_assert_cmpuint(n->m->ram_next, <=, RAM_SIZE);
    return at;
}

/* Local memory that nothing else uses, aligned to its size up to 2 MiB. */
static inline uint64_t npu_local(Npu *n, uint64_t bytes)
{
    uint64_t align = MAX(PAGE, MIN(pow2ceil(bytes), 2 * MIB));
    uint64_t at = QEMU_ALIGN_UP(n->local_next, align);

    n->local_next = at + QEMU_ALIGN_UP(bytes, PAGE);
    g_assert_cmpuint(n->local_next, <=, n->mem_size - TABLES);
    return at;
}

static inline uint64_t npu_rd(Npu *n, uint64_t reg)
{
    return qtest_readq(n->qts, n->regs + reg);
}

static inline void npu_wr(Npu *n, uint64_t reg, uint64_t val)
{
    qtest_writeq(n->qts, n->regs + reg, val);
}

static inline uint64_t npu_stat(Npu *n, unsigned stat)
{
    return npu_rd(n, NPU_REG_STAT(stat));
}

static inline uint64_t host_rd(Npu *n, uint64_t addr)
{
    return qtest_readq(n->qts, addr);
}

static inline void host_wr(Npu *n, uint64_t addr, uint64_t val)
{
    qtest_writeq(n->qts, addr, val);
}

static inline uint64_t local_rd(Npu *n, uint64_t addr)
{
    return qtest_readq(n->qts, n->mem + addr);
}

static inline void local_wr(Npu *n, uint64_t addr, uint64_t val)
{
    qtest_writeq(n->qts, n->mem + addr, val);
}

/* --- time ---------------------------------------------------------------- */

static inline void npu_step(Npu *n, int64_t ns)
{
    qtest_clock_step(n->qts, ns);
}

/* To the next event on the virtual clock; without one, on to the time limit. */
static inline void npu_step_event(Npu *n)
{
    int64_t now = qtest_clock_step(n->qts, 0);

    if (qtest_clock_step_next(n->qts) <= now) {
        qtest_clock_step(n->qts, 1000000);
    }
}

static inline uint64_t npu_time(Npu *n)
{
    return npu_rd(n, NPU_REG_TIME);
}

/* --- interrupts ---------------------------------------------------------- */

/* Whether a vector was raised since this was last asked; nothing waits. */
static inline bool npu_irq_seen(Npu *n, unsigned vector)
{
    bool seen = qtest_readl(n->qts, n->irqs + 4 * vector) == vector + 1;

    qtest_writel(n->qts, n->irqs + 4 * vector, 0);
    return seen;
}

static inline void npu_msix_setup(Npu *n)
{
    uint8_t cap = qpci_find_capability(n->pci, PCI_CAP_ID_MSIX, 0);
    uint16_t flags = qpci_config_readw(n->pci, cap + PCI_MSIX_FLAGS);

    for (unsigned i = 0; i < NPU_VEC_QUEUE(NQUEUES); i++) {
        uint64_t entry = n->msix + i * PCI_MSIX_ENTRY_SIZE;

        qtest_writel(n->qts, entry + PCI_MSIX_ENTRY_LOWER_ADDR,
                     n->irqs + 4 * i);
        qtest_writel(n->qts, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
        qtest_writel(n->qts, entry + PCI_MSIX_ENTRY_DATA, i + 1);
        qtest_writel(n->qts, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    }
    qpci_config_writew(n->pci, cap + PCI_MSIX_FLAGS,
                       flags | PCI_MSIX_FLAGS_ENABLE);
}

/* --- the device ---------------------------------------------------------- */

static inline void npu_queue_setup(Npu *n, unsigned q)
{
    npu_wr(n, NPU_QUEUE(q) + NPU_Q_BASE, n->ring[q]);
    npu_wr(n, NPU_QUEUE(q) + NPU_Q_SIZE, RING);
    npu_wr(n, NPU_QUEUE(q) + NPU_Q_CTRL, NPU_Q_ENABLE);
    n->tail[q] = 0;
}

/* Program the registers as a driver does after a reset. */
static inline void npu_program(Npu *n)
{
    qtest_memset(n->qts, n->faultq, 0, FAULTQ * 8 * NPU_FAULT_WORDS);
    npu_wr(n, NPU_REG_FAULTQ_BASE, n->faultq);
    npu_wr(n, NPU_REG_FAULTQ_SIZE, FAULTQ);
    for (unsigned q = 0; q < NQUEUES; q++) {
        npu_queue_setup(n, q);
    }
    for (unsigned c = 0; c < NPU_MAX_CONTEXTS; c++) {
        if (n->root[c]) {
            npu_wr(n, NPU_CTX(c) + NPU_CTX_ROOT, n->root[c] | NPU_CTX_VALID);
        }
    }
    npu_wr(n, NPU_REG_CTRL, NPU_CTRL_ENABLE);
}

static inline uint64_t npu_table(Npu *n)
{
    uint64_t at = n->table_next;

    n->table_next += PAGE;
    g_assert_cmpuint(n->table_next, <=, n->mem_size);
    return at;
}

static inline void npu_root(Npu *n, unsigned ctx)
{
    n->root[ctx] = npu_table(n);
    npu_wr(n, NPU_CTX(ctx) + NPU_CTX_ROOT, n->root[ctx] | NPU_CTX_VALID);
}

/* Place the BARs and let the device do DMA; a PCI reset undoes this. */
static inline void npu_place(Npu *n)
{
    qpci_config_writel(n->pci, PCI_BASE_ADDRESS_0, n->regs);
    qpci_config_writel(n->pci, PCI_BASE_ADDRESS_1, n->regs >> 32);
    qpci_config_writel(n->pci, PCI_BASE_ADDRESS_2, n->mem);
    qpci_config_writel(n->pci, PCI_BASE_ADDRESS_3, n->mem >> 32);
    qpci_config_writel(n->pci, PCI_BASE_ADDRESS_4, n->msix);
    qpci_device_enable(n->pci);
}

/* A device with its BARs where they are told to be, ready for work. */
static inline Npu *npu_probe_at(NpuMachine *m, unsigned devfn, uint64_t regs,
                                uint64_t msix, uint64_t mem)
{
    Npu *n = g_new0(Npu, 1);

    n->m = m;
    n->qts = m->qts;
    n->pci = qpci_device_find(m->bus, devfn);
    g_assert_nonnull(n->pci);
    n->regs = regs;
    n->msix = msix;
    n->mem = mem;
    npu_place(n);
    n->mem_size = npu_rd(n, NPU_REG_MEM_SIZE);
    n->table_next = n->mem_size - TABLES;
    n->va_next = 0x100000000000ULL;
    n->irqs = npu_ram(n, PAGE);
    npu_msix_setup(n);
    n->faultq = npu_ram(n, PAGE);
    for (unsigned q = 0; q < NQUEUES; q++) {
        n->ring[q] = npu_ram(n, RING * NPU_DESC_SIZE);
        n->done[q] = npu_ram(n, RING * 8 * NPU_DONE_WORDS);
    }
    npu_root(n, CTX);
    npu_program(n);
    return n;
}

/* The device in a slot of the root bus. */
static inline Npu *npu_probe(NpuMachine *m, unsigned slot)
{
    uint64_t window = BAR_FIRST + slot * BAR_WINDOW;

    return npu_probe_at(m, QPCI_DEVFN(slot, 0), window,
                        0xe0000000 + slot * MIB, window + BAR_MEM_AT);
}

static inline void npu_release(Npu *n)
{
    g_free(n->pci);
    g_free(n);
}

/* A machine with one device; @props as after "-device gmem-npu,". */
static inline Npu *npu_start(const char *props)
{
    char *args = g_strdup_printf("-device gmem-npu,addr=4,mem-size=64M,%s",
                                 props);
    NpuMachine *m = npu_machine(args);

    g_free(args);
    return npu_probe(m, 4);
}

static inline void npu_stop(Npu *n)
{
    NpuMachine *m = n->m;

    npu_release(n);
    npu_machine_stop(m);
}

/* --- page tables --------------------------------------------------------- */

/* Local address of the leaf entry of @va, with the tables above it made. */
static inline uint64_t npu_pte_addr(Npu *n, unsigned ctx, uint64_t va,
                                    int leaf)
{
    uint64_t table = n->root[ctx];

    for (int level = NPU_PT_LEVELS - 1; ; level--) {
        uint64_t slot = table +
                        (va >> NPU_PT_SHIFT(level)) % NPU_PT_ENTRIES * 8;
        uint64_t pte = local_rd(n, slot);

        if (level == leaf) {
            return slot;
        }
        if (!(pte & NPU_PTE_V)) {
            pte = npu_table(n) | NPU_PTE_V;
            local_wr(n, slot, pte);
        }
        table = pte & NPU_PTE_FRAME;
    }
}

/* Map one page of 1 << @shift bytes; @bits without V, 64K and LEAF. */
static inline void npu_map_page(Npu *n, unsigned ctx, uint64_t va,
                                uint64_t frame, unsigned shift, uint64_t bits)
{
    if (shift == 21) {
        local_wr(n, npu_pte_addr(n, ctx, va, 1),
                 frame | bits | NPU_PTE_V | NPU_PTE_LEAF);
        return;
    }
    for (unsigned i = 0; i < (shift == 16 ? 16 : 1); i++) {
        local_wr(n, npu_pte_addr(n, ctx, va + i * PAGE, 0),
                 (frame + i * PAGE) | bits | NPU_PTE_V |
                 (shift == 16 ? NPU_PTE_64K : 0));
    }
}

static inline void npu_unmap_page(Npu *n, unsigned ctx, uint64_t va)
{
    local_wr(n, npu_pte_addr(n, ctx, va, 0), 0);
}

/* --- buffers ------------------------------------------------------------- */

/*
 * A range of the context's addresses, backed by pages whose physical order is
 * the reverse of the virtual one: adjacent pages are never adjacent in memory.
 */
typedef struct NpuBuf {
    Npu *n;
    uint64_t va, bytes;
    uint64_t phys;              /* of the whole area */
    unsigned shift;
    bool sys;
    unsigned npages;
} NpuBuf;

static inline uint64_t npu_buf_frame(const NpuBuf *b, unsigned page)
{
    return b->phys + ((uint64_t)(b->npages - 1 - page) << b->shift);
}

/* @offset: of the buffer's first byte in its first page. */
static inline NpuBuf npu_buf(Npu *n, unsigned shift, bool sys, uint64_t bytes,
                             uint64_t offset)
{
    uint64_t size = 1ULL << shift;
    unsigned npages = (offset + bytes + size - 1) >> shift;
    NpuBuf b = { .n = n, .va = n->va_next + offset, .bytes = bytes,
                 .shift = shift, .sys = sys, .npages = npages };
    uint64_t area = MAX(npages * size, size);

    if (sys) {
        b.phys = QEMU_ALIGN_UP(npu_ram(n, area + size), size);
    } else {
        b.phys = QEMU_ALIGN_UP(npu_local(n, area + size), size);
    }
    for (unsigned i = 0; i < npages; i++) {
        npu_map_page(n, CTX, n->va_next + i * size, npu_buf_frame(&b, i),
                     shift, NPU_PTE_W | (sys ? NPU_PTE_SYS : 0));
    }
    n->va_next += QEMU_ALIGN_UP(npages * size, 2 * MIB) + 2 * MIB;
    return b;
}

/* Guest-physical address that the CPU uses for a byte of the buffer. */
static inline uint64_t npu_buf_at(const NpuBuf *b, uint64_t pos,
                                  uint64_t *run)
{
    uint64_t size = 1ULL << b->shift;
    uint64_t off = (b->va & (size - 1)) + pos;

    *run = size - (off & (size - 1));
    return npu_buf_frame(b, off >> b->shift) + (off & (size - 1)) +
           (b->sys ? 0 : b->n->mem);
}

static inline void npu_buf_put(const NpuBuf *b, const void *data)
{
    uint64_t run;

    for (uint64_t pos = 0; pos < b->bytes; pos += run) {
        uint64_t at = npu_buf_at(b, pos, &run);

        run = MIN(run, b->bytes - pos);
        qtest_bufwrite(b->n->qts, at, (const char *)data + pos, run);
    }
}

static inline void npu_buf_get(const NpuBuf *b, void *data)
{
    uint64_t run;

    for (uint64_t pos = 0; pos < b->bytes; pos += run) {
        uint64_t at = npu_buf_at(b, pos, &run);

        run = MIN(run, b->bytes - pos);
        qtest_bufread(b->n->qts, at, (char *)data + pos, run);
    }
}

static inline void npu_buf_expect(const NpuBuf *b, const void *data)
{
    void *got = g_malloc(b->bytes);

    npu_buf_get(b, got);
    g_assert_cmpmem(got, b->bytes, data, b->bytes);
    g_free(got);
}

/* Bytes that look random and are the same in every run. */
static inline void npu_noise(void *buf, uint64_t bytes, uint64_t seed)
{
    uint8_t *p = buf;

    for (uint64_t i = 0; i < bytes; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        p[i] = seed >> 56;
    }
}

/* --- descriptors --------------------------------------------------------- */

typedef struct NpuCmd {
    unsigned op, flags, ctx;
    uint64_t arg[5];
    bool no_fence;
} NpuCmd;

static inline uint64_t npu_done_at(Npu *n, unsigned q, uint64_t index)
{
    return n->done[q] + index % RING * 8 * NPU_DONE_WORDS;
}

/* Put a descriptor into the ring; the doorbell comes later. */
static inline uint64_t npu_push(Npu *n, unsigned q, NpuCmd cmd)
{
    uint64_t index = n->tail[q]++;
    uint64_t slot = n->ring[q] + index % RING * NPU_DESC_SIZE;
    uint64_t done = npu_done_at(n, q, index);
    uint64_t desc[NPU_DESC_WORDS] = {
        [NPU_DESC_W_OP] = NPU_DESC(cmd.op, cmd.flags, cmd.ctx),
        [NPU_DESC_W_FENCE_ADDR] = cmd.no_fence ? 0 : done,
        [NPU_DESC_W_FENCE] = index + 1,
    };

    memcpy(desc + NPU_DESC_W_ARG(0), cmd.arg, sizeof(cmd.arg));
    qtest_bufwrite(n->qts, slot, desc, sizeof(desc));
    qtest_memset(n->qts, done, 0xff, 8 * NPU_DONE_WORDS);
    return index;
}

static inline void npu_ring(Npu *n, unsigned q)
{
    npu_wr(n, NPU_QUEUE(q) + NPU_Q_TAIL, n->tail[q]);
}

static inline uint64_t npu_submit(Npu *n, unsigned q, NpuCmd cmd)
{
    uint64_t index = npu_push(n, q, cmd);

    npu_ring(n, q);
    return index;
}

static inline uint64_t npu_done_word(Npu *n, unsigned q, uint64_t index,
                                     unsigned word)
{
    return host_rd(n, npu_done_at(n, q, index) + 8 * word);
}

static inline void npu_inject(Npu *n, uint64_t what, uint64_t arg)
{
    npu_wr(n, NPU_REG_INJECT_ARG, arg);
    npu_wr(n, NPU_REG_INJECT, what);
}

/* The status that was reported, or NO_STATUS as long as there is none. */
static inline uint64_t npu_status(Npu *n, unsigned q, uint64_t index)
{
    if (npu_done_word(n, q, index, NPU_DONE_W_FENCE) != index + 1) {
        return NO_STATUS;
    }
    return npu_done_word(n, q, index, NPU_DONE_W_STATUS);
}

static inline uint64_t npu_result(Npu *n, unsigned q, uint64_t index)
{
    return npu_done_word(n, q, index, NPU_DONE_W_RESULT);
}

/* From event to event until the descriptor is done; for at most 1 s. */
static inline uint64_t npu_wait(Npu *n, unsigned q, uint64_t index)
{
    uint64_t end = npu_time(n) + 1000000000;
    uint64_t status;

    while ((status = npu_status(n, q, index)) == NO_STATUS) {
        g_assert_cmpuint(npu_time(n), <, end);
        npu_step_event(n);
    }
    return status;
}

/* Submit one descriptor and wait for it; returns its status. */
static inline uint64_t npu_do(Npu *n, unsigned q, NpuCmd cmd)
{
    return npu_wait(n, q, npu_submit(n, q, cmd));
}

/* The same, for the nanoseconds from the doorbell to the fence. */
static inline uint64_t npu_timed(Npu *n, unsigned q, NpuCmd cmd)
{
    uint64_t start = npu_time(n);

    g_assert_cmpuint(npu_do(n, q, cmd), ==, 0);
    return npu_time(n) - start;
}

/* @ns after the doorbell the fence must be there, and not a moment earlier. */
static inline void npu_expect_time(Npu *n, unsigned q, uint64_t index,
                                   uint64_t ns)
{
    npu_step(n, ns - 1);
    g_assert_cmpuint(npu_status(n, q, index), ==, NO_STATUS);
    npu_step(n, 1);
    g_assert_cmpuint(npu_status(n, q, index), ==, 0);
}

/* --- faults -------------------------------------------------------------- */

typedef struct NpuRecord {
    uint64_t word[NPU_FAULT_WORDS];
} NpuRecord;

static inline bool npu_record_valid(Npu *n, uint64_t index, NpuRecord *r)
{
    qtest_bufread(n->qts, n->faultq + index % FAULTQ * sizeof(*r), r,
                  sizeof(*r));
    return (r->word[NPU_FAULT_W_INFO] & NPU_FAULT_PHASE) ==
           (index / FAULTQ % 2 ? 0 : NPU_FAULT_PHASE);
}

/* Wait for the next record, as a driver that watches the phase does. */
static inline NpuRecord npu_next_fault(Npu *n)
{
    uint64_t head = npu_rd(n, NPU_REG_FAULTQ_HEAD);
    uint64_t end = npu_time(n) + 1000000000;
    NpuRecord r;

    while (!npu_record_valid(n, head, &r)) {
        g_assert_cmpuint(npu_time(n), <, end);
        npu_step_event(n);
    }
    npu_wr(n, NPU_REG_FAULTQ_HEAD, head + 1);
    return r;
}

static inline void npu_expect_fault(Npu *n, unsigned q, uint64_t va,
                                    uint64_t flags)
{
    NpuRecord r = npu_next_fault(n);
    uint64_t info = r.word[NPU_FAULT_W_INFO];

    g_assert_cmphex(r.word[NPU_FAULT_W_ADDR], ==, va);
    g_assert_cmphex(info & (NPU_FAULT_WRITE | NPU_FAULT_PROT), ==, flags);
    g_assert_cmpuint(NPU_FAULT_CTX(info), ==, CTX);
    g_assert_cmpuint(NPU_FAULT_QUEUE(info), ==, q);
}

static inline bool npu_fault_pending(Npu *n)
{
    return npu_rd(n, NPU_REG_FAULTQ_TAIL) != npu_rd(n, NPU_REG_FAULTQ_HEAD);
}

static inline void npu_replay(Npu *n, unsigned q)
{
    npu_wr(n, NPU_REG_FAULT_RESP, NPU_RESP_REPLAY | NPU_RESP_QUEUE(q));
}

/* Drop what the TLB has of the context, by register. */
static inline void npu_flush(Npu *n, uint64_t start, uint64_t end)
{
    npu_wr(n, NPU_REG_TLBI_START, start);
    npu_wr(n, NPU_REG_TLBI_END, end);
    npu_wr(n, NPU_REG_TLBI_GO, CTX);
    npu_step(n, T_TLBI);
    g_assert_cmpuint(npu_rd(n, NPU_REG_TLBI_DONE), ==,
                     npu_rd(n, NPU_REG_TLBI_QUEUED));
}

/* An error was reported, with its interrupt; acknowledge it. */
static inline void npu_expect_error(Npu *n, uint64_t why)
{
    npu_step(n, T_IRQ);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR), ==, why);
    g_assert_true(npu_irq_seen(n, NPU_VEC_ERROR));
    npu_wr(n, NPU_REG_ERROR, why);
    g_assert_cmphex(npu_rd(n, NPU_REG_ERROR), ==, 0);
}

#endif
