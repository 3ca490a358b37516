/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: the PCI device, its registers, interrupts, DMA and local memory.
 *
 * An accelerator that shares a process's virtual addresses: it walks its own
 * page tables, reports replayable faults and moves data with copy engines.
 * Documentation/gmem/hardware.rst specifies it.
 */
#include "qemu/osdep.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "hw/pci/msix.h"
#include "hw/pci/pcie.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "sysemu/cpu-timers.h"
#include "gmem-npu.h"

#if HOST_BIG_ENDIAN
#error "gmem-npu reads its little endian structures in place"
#endif

/* --- time ---------------------------------------------------------------- */

int64_t npu_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* How long @amount takes at a rate; rounded up, and a rate of 0 is no time. */
uint64_t npu_ns(uint64_t amount, uint64_t per_second)
{
    unsigned __int128 ns = (unsigned __int128)amount * NANOSECONDS_PER_SECOND;

    return per_second ? (ns + per_second - 1) / per_second : 0;
}

/*
 * Take the link in one direction for @bytes, from @when or the end of the last
 * grant.  Returns when the bytes have passed.
 */
int64_t npu_link_grant(GmemNpu *s, NpuLink link, uint64_t bytes, int64_t when)
{
    s->link_free[link] = MAX(when, s->link_free[link]) +
                         npu_ns(bytes, s->link_bandwidth);
    return s->link_free[link];
}

/* --- interrupts and errors ----------------------------------------------- */

static void npu_irq_arm(GmemNpu *s)
{
    int64_t next = INT64_MAX;

    for (int i = 0; i < NPU_MAX_VECTORS; i++) {
        next = MIN(next, s->irq_at[i]);
    }
    if (next != INT64_MAX) {
        timer_mod(s->irq_timer, next);
    } else {
        timer_del(s->irq_timer);
    }
}

static void npu_irq_timer(void *opaque)
{
    GmemNpu *s = opaque;
    int64_t now = npu_now();

    for (int i = 0; i < NPU_MAX_VECTORS; i++) {
        if (s->irq_at[i] <= now) {
            s->irq_at[i] = INT64_MAX;
            s->stat[NPU_STAT_IRQS]++;
            s->in_dma = true;
            msix_notify(PCI_DEVICE(s), i);
            s->in_dma = false;
        }
    }
    npu_irq_arm(s);
}

/* Raise a vector; one that is already on its way covers this event too. */
void npu_irq(GmemNpu *s, unsigned vector)
{
    if (s->irq_at[vector] == INT64_MAX) {
        s->irq_at[vector] = npu_now() + s->irq_ns;
        npu_irq_arm(s);
    }
}

static void npu_irq_reset(GmemNpu *s)
{
    for (int i = 0; i < NPU_MAX_VECTORS; i++) {
        s->irq_at[i] = INT64_MAX;
    }
    timer_del(s->irq_timer);
}

void npu_error(GmemNpu *s, uint64_t why, uint64_t addr)
{
    s->error |= why;
    s->error_addr = addr;
    npu_irq(s, NPU_VEC_ERROR);
}

/* --- host memory --------------------------------------------------------- */

static bool npu_dma_result(GmemNpu *s, MemTxResult res, uint64_t addr)
{
    if (res != MEMTX_OK) {
        npu_error(s, NPU_ERROR_BUS, addr);
    }
    return res == MEMTX_OK;
}

bool npu_dma_read(GmemNpu *s, uint64_t addr, void *buf, uint64_t bytes)
{
    MemTxResult res;

    s->in_dma = true;
    res = pci_dma_read(PCI_DEVICE(s), addr, buf, bytes);
    s->in_dma = false;
    return npu_dma_result(s, res, addr);
}

bool npu_dma_write(GmemNpu *s, uint64_t addr, const void *buf, uint64_t bytes)
{
    MemTxResult res;

    s->in_dma = true;
    res = pci_dma_write(PCI_DEVICE(s), addr, buf, bytes);
    s->in_dma = false;
    return npu_dma_result(s, res, addr);
}

/* Write 8 aligned bytes at once, after everything written before. */
bool npu_dma_write_word(GmemNpu *s, uint64_t addr, uint64_t value)
{
    MemTxResult res;

    /* Pairs with the barrier of the driver that reads a valid record. */
    smp_wmb();
    s->in_dma = true;
    res = stq_le_pci_dma(PCI_DEVICE(s), addr, value, MEMTXATTRS_UNSPECIFIED);
    s->in_dma = false;
    return npu_dma_result(s, res, addr);
}

/* Add to 8 aligned bytes of RAM, atomically with the CPUs. */
bool npu_dma_fetch_add(GmemNpu *s, uint64_t addr, uint64_t addend,
                       uint64_t *old)
{
    AddressSpace *as = pci_get_address_space(PCI_DEVICE(s));
    dma_addr_t bytes = sizeof(*old);
    ram_addr_t offset;
    bool ram;
    void *p;

    p = dma_memory_map(as, addr, &bytes, DMA_DIRECTION_FROM_DEVICE,
                       MEMTXATTRS_UNSPECIFIED);
    if (!p) {
        return npu_dma_result(s, MEMTX_ERROR, addr);
    }
    /* For anything but RAM, this is a buffer that was not even read. */
    ram = bytes == sizeof(*old) && memory_region_from_host(p, &offset);
    if (ram) {
        *old = qatomic_fetch_add((uint64_t *)p, addend);
    }
    dma_memory_unmap(as, p, bytes, DMA_DIRECTION_FROM_DEVICE, ram ? bytes : 0);
    return npu_dma_result(s, ram ? MEMTX_OK : MEMTX_ERROR, addr);
}

/* --- local memory -------------------------------------------------------- */

bool npu_local_ok(const GmemNpu *s, uint64_t addr, uint64_t bytes)
{
    return bytes <= s->mem_size && addr <= s->mem_size - bytes;
}

/* Whether a page of the range is bad. */
bool npu_ecc_hit(GmemNpu *s, uint64_t addr, uint64_t bytes)
{
    for (unsigned i = 0; i < s->necc; i++) {
        if (s->ecc[i] < addr + bytes && addr < s->ecc[i] + NPU_PAGE) {
            return true;
        }
    }
    return false;
}

/* Writing all of a bad page makes it good again. */
void npu_ecc_repair(GmemNpu *s, uint64_t addr, uint64_t bytes)
{
    for (unsigned i = 0; i < s->necc;) {
        if (addr <= s->ecc[i] && s->ecc[i] + NPU_PAGE <= addr + bytes) {
            s->ecc[i] = s->ecc[--s->necc];
        } else {
            i++;
        }
    }
}

static uint64_t npu_gone_read(void *opaque, hwaddr addr, unsigned size)
{
    return ~0ULL;
}

static void npu_gone_write(void *opaque, hwaddr addr, uint64_t val,
                           unsigned size)
{
}

static const MemoryRegionOps npu_gone_ops = {
    .read = npu_gone_read,
    .write = npu_gone_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/* --- reset, removal, error injection ------------------------------------- */

/* Stop everything at once; nothing is written to host memory any more. */
static void npu_stop(GmemNpu *s)
{
    for (unsigned i = 0; i < s->nr_queues; i++) {
        npu_queue_reset(&s->queue[i]);
    }
    npu_mmu_reset(s);
    npu_irq_reset(s);
    memset(s->link_free, 0, sizeof(s->link_free));
}

static void npu_revive(GmemNpu *s)
{
    if (s->dead) {
        s->dead = false;
        memory_region_set_enabled(&s->mem_gone, false);
    }
}

static void npu_reset(GmemNpu *s)
{
    npu_stop(s);
    npu_revive(s);
    timer_del(s->reset_timer);
    s->ctrl = s->error = s->error_addr = 0;
    s->latch = s->latch_addr = 0;
    s->faultq_base = s->faultq_size = s->faultq_head = s->faultq_tail = 0;
    s->inject_arg = s->copies_to_fail = s->jobs_to_fail = 0;
    s->necc = 0;
}

static void npu_remove(GmemNpu *s)
{
    npu_stop(s);
    s->dead = true;
    memory_region_set_enabled(&s->mem_gone, true);
    /* What the memory held is lost with the device. */
    if (ram_block_discard_range(s->mem_ram.ram_block, 0, s->mem_size)) {
        memset(s->mem, 0, s->mem_size);
    }
}

static void npu_reset_timer(void *opaque)
{
    GmemNpu *s = opaque;

    s->ctrl &= ~NPU_CTRL_RESET;
}

static void npu_ctrl_write(GmemNpu *s, uint64_t val)
{
    if (val & NPU_CTRL_RESET) {
        npu_reset(s);
        s->ctrl = NPU_CTRL_RESET;
        timer_mod(s->reset_timer, npu_now() + s->reset_ns);
        return;
    }
    s->ctrl = val & NPU_CTRL_ENABLE;
    for (unsigned i = 0; i < s->nr_queues; i++) {
        npu_queue_kick(&s->queue[i]);
    }
}

static bool npu_inject_ecc(GmemNpu *s, uint64_t addr)
{
    uint64_t page = addr & ~(NPU_PAGE - 1);

    if (!npu_local_ok(s, page, NPU_PAGE) || s->necc == NPU_ECC_PAGES) {
        return false;
    }
    if (!npu_ecc_hit(s, page, NPU_PAGE)) {
        s->ecc[s->necc++] = page;
    }
    return true;
}

static bool npu_inject(GmemNpu *s, uint64_t what)
{
    uint64_t arg = s->inject_arg;

    switch (what) {
    case NPU_INJECT_NONE:
        s->copies_to_fail = s->jobs_to_fail = 0;
        s->necc = 0;
        return true;
    case NPU_INJECT_COPY_FAIL:
        s->copies_to_fail = arg;
        return arg != 0;
    case NPU_INJECT_JOB_FAIL:
        s->jobs_to_fail = arg;
        return arg != 0;
    case NPU_INJECT_ECC:
        return npu_inject_ecc(s, arg);
    case NPU_INJECT_HANG:
        if (arg < s->nr_queues) {
            npu_queue_hang(&s->queue[arg]);
        }
        return arg < s->nr_queues;
    case NPU_INJECT_REMOVE:
        npu_remove(s);
        return true;
    }
    return false;
}

/* --- registers ----------------------------------------------------------- */

static uint64_t npu_caps(const GmemNpu *s)
{
    return s->nr_compute | s->nr_copy << 8 |
           (uint64_t)s->nr_contexts << 16 | (uint64_t)NPU_VA_BITS << 32;
}

static uint64_t npu_global_read(GmemNpu *s, hwaddr reg)
{
    switch (reg) {
    case NPU_REG_ID:
        return NPU_ID_MAGIC | (uint64_t)NPU_VERSION << 32;
    case NPU_REG_CAPS:
        return npu_caps(s);
    case NPU_REG_MEM_SIZE:
        return s->mem_size;
    case NPU_REG_CTRL:
        return s->ctrl;
    case NPU_REG_STATUS:
        return s->tlbi_queued != s->tlbi_done ? NPU_STATUS_TLBI_BUSY : 0;
    case NPU_REG_INSN:
        return icount_enabled() ? icount_get_raw() : 0;
    case NPU_REG_TIME:
        return npu_now();
    case NPU_REG_ERROR:
        return s->error;
    case NPU_REG_ERROR_ADDR:
        return s->error_addr;
    case NPU_REG_FAULTQ_BASE:
        return s->faultq_base;
    case NPU_REG_FAULTQ_SIZE:
        return s->faultq_size;
    case NPU_REG_FAULTQ_HEAD:
        return s->faultq_head;
    case NPU_REG_FAULTQ_TAIL:
        return s->faultq_tail;
    case NPU_REG_TLBI_START:
        return s->tlbi_start;
    case NPU_REG_TLBI_END:
        return s->tlbi_end;
    case NPU_REG_TLBI_QUEUED:
        return s->tlbi_queued;
    case NPU_REG_TLBI_DONE:
        return s->tlbi_done;
    case NPU_REG_INJECT_ARG:
        return s->inject_arg;
    }
    return 0;
}

static void npu_global_write(GmemNpu *s, hwaddr reg, uint64_t val)
{
    switch (reg) {
    case NPU_REG_CTRL:
        npu_ctrl_write(s, val);
        break;
    case NPU_REG_ERROR:
        s->error &= ~val;
        break;
    case NPU_REG_FAULTQ_BASE:
        s->faultq_base = val & ~(NPU_PAGE - 1);
        break;
    case NPU_REG_FAULTQ_SIZE:
        npu_faultq_set_size(s, val);
        break;
    case NPU_REG_FAULTQ_HEAD:
        npu_faultq_set_head(s, val);
        break;
    case NPU_REG_FAULT_RESP:
        npu_fault_respond(s, val);
        break;
    case NPU_REG_TLBI_START:
        s->tlbi_start = val;
        break;
    case NPU_REG_TLBI_END:
        s->tlbi_end = val;
        break;
    case NPU_REG_TLBI_GO:
        npu_tlbi_queue(s, val);
        break;
    case NPU_REG_INJECT_ARG:
        s->inject_arg = val;
        break;
    case NPU_REG_INJECT:
        if (!npu_inject(s, val)) {
            npu_error(s, NPU_ERROR_DESC, NPU_REG_INJECT);
        }
        break;
    case NPU_REG_STAT_CLEAR:
        memset(s->stat, 0, sizeof(s->stat));
        break;
    }
}

static NpuQueue *npu_reg_queue(GmemNpu *s, hwaddr reg)
{
    hwaddr nr = (reg - NPU_QUEUE(0)) / (NPU_QUEUE(1) - NPU_QUEUE(0));

    return reg >= NPU_QUEUE(0) && nr < s->nr_queues ? &s->queue[nr] : NULL;
}

static bool npu_reg_ctx(GmemNpu *s, hwaddr reg, unsigned *ctx)
{
    *ctx = (reg - NPU_CTX(0)) / (NPU_CTX(1) - NPU_CTX(0));
    return reg >= NPU_CTX(0) && *ctx < s->nr_contexts;
}

static uint64_t npu_reg_read(GmemNpu *s, hwaddr reg)
{
    NpuQueue *q = npu_reg_queue(s, reg);
    unsigned ctx;

    if (s->dead || s->in_dma) {
        return ~0ULL;
    }
    if (q) {
        return npu_queue_read(q, reg - NPU_QUEUE(q->nr));
    }
    if (npu_reg_ctx(s, reg, &ctx)) {
        return reg == NPU_CTX(ctx) + NPU_CTX_ROOT ? s->ctx_root[ctx] :
               npu_ctx_dying(s, ctx);
    }
    if (reg >= NPU_REG_STAT(0) && reg < NPU_REG_STAT(NPU_STAT_NR)) {
        return s->stat[(reg - NPU_REG_STAT(0)) / 8];
    }
    return npu_global_read(s, reg);
}

static void npu_reg_write(GmemNpu *s, hwaddr reg, uint64_t val)
{
    NpuQueue *q = npu_reg_queue(s, reg);
    unsigned ctx;

    if (s->in_dma || (s->ctrl & NPU_CTRL_RESET)) {
        return;
    }
    /* A dead device hears only the reset that stands for plugging it in. */
    if (s->dead && !(reg == NPU_REG_CTRL && (val & NPU_CTRL_RESET))) {
        return;
    }
    if (q) {
        npu_queue_write(q, reg - NPU_QUEUE(q->nr), val);
    } else if (npu_reg_ctx(s, reg, &ctx)) {
        if (reg == NPU_CTX(ctx) + NPU_CTX_ROOT) {
            s->ctx_root[ctx] = val & (NPU_PTE_FRAME | NPU_CTX_VALID);
        } else {
            npu_ctx_kill(s, ctx);
        }
    } else {
        npu_global_write(s, reg, val);
    }
}

static uint64_t npu_mmio_read(void *opaque, hwaddr addr, unsigned size)
{
    uint64_t val = npu_reg_read(opaque, addr & ~7ULL);

    return size == 8 ? val : extract64(val, (addr & 4) * 8, 32);
}

/*
 * A 32-bit write of a high half waits for the low half of the same register,
 * and together they are one 64-bit write.
 */
static void npu_mmio_write(void *opaque, hwaddr addr, uint64_t val,
                           unsigned size)
{
    GmemNpu *s = opaque;

    if (size == 4 && (addr & 4)) {
        s->latch = val << 32;
        s->latch_addr = addr & ~7ULL;
        return;
    }
    if (size == 4 && s->latch_addr == addr) {
        val |= s->latch;
    }
    s->latch = s->latch_addr = 0;
    npu_reg_write(s, addr, val);
}

static const MemoryRegionOps npu_mmio_ops = {
    .read = npu_mmio_read,
    .write = npu_mmio_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 8 },
};

/* --- the device ---------------------------------------------------------- */

static bool npu_check_properties(GmemNpu *s, Error **errp)
{
    if (s->mem_size < 64 * MiB || s->mem_size > 16 * GiB ||
        s->mem_size % (2 * MiB)) {
        error_setg(errp, "mem-size must be a multiple of 2 MiB from 64 MiB "
                   "to 16 GiB");
    } else if (!s->nr_compute || !s->nr_copy ||
               s->nr_compute > NPU_MAX_QUEUES ||
               s->nr_copy > NPU_MAX_QUEUES - s->nr_compute) {
        error_setg(errp, "there must be at least one queue of each kind and "
                   "at most %d in all", NPU_MAX_QUEUES);
    } else if (!s->nr_contexts || s->nr_contexts > NPU_MAX_CONTEXTS) {
        error_setg(errp, "contexts must be from 1 to %d", NPU_MAX_CONTEXTS);
    } else if (!s->tlb_entries || s->tlb_entries % NPU_TLB_WAYS ||
               s->tlb_entries > 65536) {
        error_setg(errp, "tlb-entries must be a multiple of %d up to 65536",
                   NPU_TLB_WAYS);
    } else {
        return true;
    }
    return false;
}

static bool npu_init_memory(GmemNpu *s, Error **errp)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    Object *obj = OBJECT(s);
    Error *err = NULL;

    memory_region_init_ram_flags_nomigrate(&s->mem_ram, obj, "gmem-npu-mem",
                                           s->mem_size, RAM_NORESERVE, &err);
    if (err) {
        error_propagate(errp, err);
        return false;
    }
    s->mem = memory_region_get_ram_ptr(&s->mem_ram);
    memory_region_init(&s->mem_bar, obj, "gmem-npu-bar",
                       pow2ceil(s->mem_size));
    memory_region_add_subregion(&s->mem_bar, 0, &s->mem_ram);
    memory_region_init_io(&s->mem_gone, obj, &npu_gone_ops, s,
                          "gmem-npu-gone", pow2ceil(s->mem_size));
    memory_region_set_enabled(&s->mem_gone, false);
    memory_region_add_subregion_overlap(&s->mem_bar, 0, &s->mem_gone, 1);

    memory_region_init_io(&s->regs, obj, &npu_mmio_ops, s, "gmem-npu-regs",
                          NPU_BAR_REGS_SIZE);
    pci_register_bar(pdev, NPU_BAR_REGS, PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->regs);
    pci_register_bar(pdev, NPU_BAR_MEM, PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64 |
                     PCI_BASE_ADDRESS_MEM_PREFETCH, &s->mem_bar);
    return true;
}

/* A region in another holds a reference to the device that owns both. */
static void npu_exit_memory(GmemNpu *s)
{
    memory_region_del_subregion(&s->mem_bar, &s->mem_gone);
    memory_region_del_subregion(&s->mem_bar, &s->mem_ram);
}

static bool npu_init_pci(GmemNpu *s, Error **errp)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    unsigned vectors = NPU_VEC_QUEUE(s->nr_queues);

    if (msix_init_exclusive_bar(pdev, vectors, NPU_BAR_MSIX, errp)) {
        return false;
    }
    for (unsigned i = 0; i < vectors; i++) {
        msix_vector_use(pdev, i);
    }
    if (pcie_endpoint_cap_init(pdev, 0) < 0) {
        msix_uninit_exclusive_bar(pdev);
        error_setg(errp, "no room for the PCI Express capability");
        return false;
    }
    pcie_cap_flr_init(pdev);
    return true;
}

static void npu_exit(PCIDevice *pdev)
{
    GmemNpu *s = GMEM_NPU(pdev);

    for (unsigned i = 0; i < s->nr_queues; i++) {
        npu_queue_exit(&s->queue[i]);
    }
    npu_mmu_exit(s);
    timer_free(s->irq_timer);
    timer_free(s->reset_timer);
    msix_uninit_exclusive_bar(pdev);
    npu_exit_memory(s);
}

static void npu_realize(PCIDevice *pdev, Error **errp)
{
    GmemNpu *s = GMEM_NPU(pdev);

    if (!npu_check_properties(s, errp) || !npu_init_memory(s, errp)) {
        return;
    }
    s->nr_queues = s->nr_compute + s->nr_copy;
    if (!npu_init_pci(s, errp)) {
        npu_exit_memory(s);
        return;
    }
    s->irq_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, npu_irq_timer, s);
    s->reset_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, npu_reset_timer, s);
    npu_mmu_init(s);
    for (unsigned i = 0; i < s->nr_queues; i++) {
        npu_queue_init(s, i);
    }
    npu_reset(s);
}

static void npu_pci_reset(DeviceState *dev)
{
    npu_reset(GMEM_NPU(dev));
}

static void npu_write_config(PCIDevice *pdev, uint32_t addr, uint32_t val,
                             int len)
{
    pci_default_write_config(pdev, addr, val, len);
    pcie_cap_flr_write_config(pdev, addr, val, len);
}

static Property npu_properties[] = {
    DEFINE_PROP_SIZE("mem-size", GmemNpu, mem_size, 256 * MiB),
    DEFINE_PROP_UINT32("compute-queues", GmemNpu, nr_compute, 4),
    DEFINE_PROP_UINT32("copy-queues", GmemNpu, nr_copy, 2),
    DEFINE_PROP_UINT32("contexts", GmemNpu, nr_contexts, 64),
    DEFINE_PROP_UINT32("tlb-entries", GmemNpu, tlb_entries, 1024),
    DEFINE_PROP_UINT64("link-bandwidth", GmemNpu, link_bandwidth,
                       16000000000ULL),
    DEFINE_PROP_UINT64("mem-bandwidth", GmemNpu, mem_bandwidth,
                       1000000000000ULL),
    DEFINE_PROP_UINT64("alu-rate", GmemNpu, alu_rate, 1000000000000ULL),
    DEFINE_PROP_UINT32("dma-desc-ns", GmemNpu, dma_desc_ns, 1000),
    DEFINE_PROP_UINT32("walk-ns", GmemNpu, walk_ns, 100),
    DEFINE_PROP_UINT32("mem-latency-ns", GmemNpu, mem_latency_ns, 100),
    DEFINE_PROP_UINT32("tlbi-ns", GmemNpu, tlbi_ns, 500),
    DEFINE_PROP_UINT32("cmd-ns", GmemNpu, cmd_ns, 200),
    DEFINE_PROP_UINT32("fault-ns", GmemNpu, fault_ns, 500),
    DEFINE_PROP_UINT32("replay-ns", GmemNpu, replay_ns, 200),
    DEFINE_PROP_UINT32("irq-ns", GmemNpu, irq_ns, 500),
    DEFINE_PROP_UINT32("reset-ns", GmemNpu, reset_ns, 10000),
    DEFINE_PROP_END_OF_LIST(),
};

static const VMStateDescription npu_vmstate = {
    .name = TYPE_GMEM_NPU,
    .unmigratable = 1,
};

static void npu_class_init(ObjectClass *class, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(class);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(class);

    k->realize = npu_realize;
    k->exit = npu_exit;
    k->config_write = npu_write_config;
    k->vendor_id = NPU_PCI_VENDOR;
    k->device_id = NPU_PCI_DEVICE;
    k->revision = NPU_VERSION;
    k->class_id = NPU_PCI_CLASS;
    dc->desc = "accelerator with its own memory and page tables";
    dc->reset = npu_pci_reset;
    dc->vmsd = &npu_vmstate;
    device_class_set_props(dc, npu_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo npu_info = {
    .name = TYPE_GMEM_NPU,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(GmemNpu),
    .class_init = npu_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { },
    },
};

static void npu_register_types(void)
{
    type_register_static(&npu_info);
}
type_init(npu_register_types)
