/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gmem-npu: page-table walker, TLB and its invalidation.
 *
 * The TLB keeps what it has until software invalidates it: a hit is used even
 * when the page table has changed since.  Each hit is compared with a walk
 * that costs no time and changes nothing; disagreement is counted, so that a
 * missing invalidation shows both in the data and in the statistics.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qemu/atomic.h"
#include "gmem-npu.h"

typedef struct NpuWalk {
    uint64_t *slot;             /* the leaf entry in the local memory */
    uint64_t pte;
    uint64_t bad;               /* local address of what cannot be walked */
    unsigned levels;            /* entries read */
    unsigned shift;             /* log2 of the page size */
    bool ecc;
} NpuWalk;

static const unsigned npu_page_shifts[] = { 12, 16, 21 };

/* Find the leaf of @va; reads only. */
static NpuXlate npu_walk(GmemNpu *s, unsigned ctx, uint64_t va, NpuWalk *w)
{
    uint64_t table = s->ctx_root[ctx] & NPU_PTE_FRAME;
    int level;

    w->levels = 0;
    w->ecc = false;
    if (!(s->ctx_root[ctx] & NPU_CTX_VALID)) {
        return NPU_XLATE_MISS;
    }
    for (level = NPU_PT_LEVELS - 1; level >= 0; level--) {
        uint64_t index = (va >> NPU_PT_SHIFT(level)) % NPU_PT_ENTRIES;

        w->bad = table;
        if (!npu_local_ok(s, table, NPU_PAGE)) {
            return NPU_XLATE_FAILED;
        }
        if (npu_ecc_hit(s, table, NPU_PAGE)) {
            w->ecc = true;
            return NPU_XLATE_FAILED;
        }
        w->slot = (uint64_t *)(s->mem + table) + index;
        w->pte = qatomic_read(w->slot);
        w->levels++;
        if (!(w->pte & NPU_PTE_V)) {
            return NPU_XLATE_MISS;
        }
        w->shift = NPU_PT_SHIFT(level);
        if (level == 0 && (w->pte & NPU_PTE_64K)) {
            w->shift = 16;
        }
        if (level > 0 && (w->pte & NPU_PTE_LEAF)) {
            w->bad = table + index * sizeof(uint64_t);
            return level == 1 ? NPU_XLATE_OK : NPU_XLATE_FAILED;
        }
        table = w->pte & NPU_PTE_FRAME;
    }
    return NPU_XLATE_OK;
}

static uint64_t npu_pte_frame(const NpuWalk *w)
{
    return w->pte & NPU_PTE_FRAME & ~((1ULL << w->shift) - 1);
}

/* Whether a walk for @va would still let the access use @e. */
static bool npu_tlb_current(GmemNpu *s, const NpuTlbEntry *e, uint64_t va,
                            bool write)
{
    uint64_t offset = va & ((1ULL << e->shift) - 1);
    NpuWalk w;

    if (npu_walk(s, e->ctx, va, &w) != NPU_XLATE_OK) {
        return false;
    }
    return npu_pte_frame(&w) + (va & ((1ULL << w.shift) - 1)) ==
           e->frame + offset &&
           !!(w.pte & NPU_PTE_SYS) == e->sys &&
           (!write || (w.pte & NPU_PTE_W));
}

static NpuTlbEntry *npu_tlb_set(GmemNpu *s, unsigned ctx, unsigned shift,
                                uint64_t vpn, unsigned *set)
{
    uint64_t hash = vpn + ctx * 31 + shift * 7;

    *set = hash % (s->tlb_entries / NPU_TLB_WAYS);
    return s->tlb + *set * NPU_TLB_WAYS;
}

static NpuTlbEntry *npu_tlb_find(GmemNpu *s, unsigned ctx, uint64_t va)
{
    unsigned set;

    for (int i = 0; i < ARRAY_SIZE(npu_page_shifts); i++) {
        unsigned shift = npu_page_shifts[i];
        NpuTlbEntry *e = npu_tlb_set(s, ctx, shift, va >> shift, &set);

        for (int way = 0; way < NPU_TLB_WAYS; way++, e++) {
            if (e->valid && e->ctx == ctx && e->shift == shift &&
                e->vpn == va >> shift) {
                return e;
            }
        }
    }
    return NULL;
}

static void npu_tlb_fill(GmemNpu *s, unsigned ctx, uint64_t va,
                         const NpuWalk *w, NpuTlbEntry *old)
{
    NpuTlbEntry *e;
    unsigned set, way;

    /* A walk for a wider permission replaces what did not permit it. */
    if (old) {
        old->valid = false;
    }
    e = npu_tlb_set(s, ctx, w->shift, va >> w->shift, &set);
    for (way = 0; way < NPU_TLB_WAYS && e[way].valid; way++) {
        continue;
    }
    if (way == NPU_TLB_WAYS) {
        way = s->tlb_victim[set]++ % NPU_TLB_WAYS;
    }
    e[way] = (NpuTlbEntry) {
        .valid = true,
        .sys = w->pte & NPU_PTE_SYS,
        .write = w->pte & NPU_PTE_W,
        .dirty = w->pte & NPU_PTE_D,
        .shift = w->shift,
        .ctx = ctx,
        .vpn = va >> w->shift,
        .frame = npu_pte_frame(w),
    };
}

static void npu_tlb_use(const NpuTlbEntry *e, uint64_t va, NpuMapping *map)
{
    uint64_t size = 1ULL << e->shift;

    map->addr = e->frame + (va & (size - 1));
    map->run = size - (va & (size - 1));
    map->sys = e->sys;
}

/*
 * Set the accessed and dirty bits as hardware does: in one transaction that
 * fails when the entry has changed since it was read.
 */
static bool npu_pte_mark(NpuWalk *w, bool write)
{
    uint64_t marked = w->pte | NPU_PTE_A | (write ? NPU_PTE_D : 0);

    if (marked != w->pte &&
        qatomic_cmpxchg(w->slot, w->pte, marked) != w->pte) {
        return false;
    }
    w->pte = marked;
    return true;
}

static NpuXlate npu_walk_failed(GmemNpu *s, const NpuWalk *w, unsigned *status)
{
    npu_error(s, w->ecc ? NPU_ERROR_ECC : NPU_ERROR_DESC, w->bad);
    *status = w->ecc ? NPU_EIO : NPU_EFAULT;
    return NPU_XLATE_FAILED;
}

/* Walk for an access, mark the leaf and remember the translation. */
static NpuXlate npu_walk_fill(GmemNpu *s, unsigned ctx, uint64_t va, bool write,
                              NpuTlbEntry *old, NpuMapping *map, uint64_t *ns,
                              unsigned *status)
{
    uint64_t size;
    NpuXlate ret;
    NpuWalk w;

    do {
        ret = npu_walk(s, ctx, va, &w);
        s->stat[NPU_STAT_WALKS]++;
        *ns += w.levels * s->walk_ns;
        if (ret == NPU_XLATE_FAILED) {
            return npu_walk_failed(s, &w, status);
        }
        if (ret == NPU_XLATE_MISS) {
            return ret;
        }
        if (write && !(w.pte & NPU_PTE_W)) {
            return NPU_XLATE_PROT;
        }
        size = 1ULL << w.shift;
        if (!(w.pte & NPU_PTE_SYS) &&
            !npu_local_ok(s, npu_pte_frame(&w), size)) {
            w.bad = (uint8_t *)w.slot - s->mem;
            return npu_walk_failed(s, &w, status);
        }
    } while (!npu_pte_mark(&w, write));

    npu_tlb_fill(s, ctx, va, &w, old);
    map->addr = npu_pte_frame(&w) + (va & (size - 1));
    map->run = size - (va & (size - 1));
    map->sys = w.pte & NPU_PTE_SYS;
    return NPU_XLATE_OK;
}

/*
 * The first write through an entry walks again to set the dirty bit.  An entry
 * that no longer agrees with the page table is used as it is, and the page
 * table is left alone: that dirty bit would belong to another page.
 */
static void npu_tlb_first_write(GmemNpu *s, NpuTlbEntry *e, uint64_t va,
                                uint64_t *ns)
{
    NpuWalk w;

    do {
        s->stat[NPU_STAT_WALKS]++;
        npu_walk(s, e->ctx, va, &w);
        *ns += w.levels * s->walk_ns;
        if (!npu_tlb_current(s, e, va, true)) {
            return;
        }
    } while (!npu_pte_mark(&w, true));
    e->dirty = true;
}

/*
 * Translate one address.  Adds the time that it took to @ns; sets @status when
 * the answer is NPU_XLATE_FAILED.
 */
NpuXlate npu_mmu_translate(GmemNpu *s, unsigned ctx, uint64_t va, bool write,
                           NpuMapping *map, uint64_t *ns, unsigned *status)
{
    NpuTlbEntry *e;

    s->stat[NPU_STAT_TRANSLATIONS]++;
    if (va >> NPU_VA_BITS) {
        npu_error(s, NPU_ERROR_DESC, va);
        *status = NPU_EFAULT;
        return NPU_XLATE_FAILED;
    }
    e = npu_tlb_find(s, ctx, va);
    if (e && (e->write || !write)) {
        s->stat[NPU_STAT_TLB_HITS]++;
        if (!npu_tlb_current(s, e, va, write)) {
            s->stat[NPU_STAT_STALE_HITS]++;
        }
        if (write && !e->dirty) {
            npu_tlb_first_write(s, e, va, ns);
        }
        npu_tlb_use(e, va, map);
        return NPU_XLATE_OK;
    }
    if (!(s->ctx_root[ctx] & NPU_CTX_VALID)) {
        npu_error(s, NPU_ERROR_DESC, va);
        *status = NPU_EFAULT;
        return NPU_XLATE_FAILED;
    }
    return npu_walk_fill(s, ctx, va, write, e, map, ns, status);
}

/* Drop every translation of @ctx that touches [@start, @end). */
void npu_tlb_drop(GmemNpu *s, unsigned ctx, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < s->tlb_entries; i++) {
        NpuTlbEntry *e = &s->tlb[i];
        uint64_t va = e->vpn << e->shift;

        if (e->valid && e->ctx == ctx && va < end &&
            start < va + (1ULL << e->shift)) {
            e->valid = false;
        }
    }
    s->stat[NPU_STAT_TLBI]++;
}

bool npu_tlbi_valid(const GmemNpu *s, uint64_t ctx, uint64_t start,
                    uint64_t end)
{
    return ctx < s->nr_contexts && start < end;
}

void npu_tlbi_queue(GmemNpu *s, uint64_t ctx)
{
    NpuTlbi *t = &s->tlbi[s->tlbi_queued % NPU_TLBI_DEPTH];

    if (!npu_tlbi_valid(s, ctx, s->tlbi_start, s->tlbi_end) ||
        s->tlbi_queued - s->tlbi_done >= NPU_TLBI_DEPTH) {
        npu_error(s, NPU_ERROR_DESC, NPU_REG_TLBI_GO);
        return;
    }
    *t = (NpuTlbi) { ctx, s->tlbi_start, s->tlbi_end };
    if (s->tlbi_queued++ == s->tlbi_done) {
        timer_mod(s->tlbi_timer, npu_now() + s->tlbi_ns);
    }
}

static void npu_tlbi_timer(void *opaque)
{
    GmemNpu *s = opaque;
    NpuTlbi *t = &s->tlbi[s->tlbi_done % NPU_TLBI_DEPTH];

    npu_tlb_drop(s, t->ctx, t->start, t->end);
    if (++s->tlbi_done != s->tlbi_queued) {
        timer_mod(s->tlbi_timer, npu_now() + s->tlbi_ns);
    }
}

void npu_mmu_reset(GmemNpu *s)
{
    timer_del(s->tlbi_timer);
    s->tlbi_start = s->tlbi_end = s->tlbi_queued = s->tlbi_done = 0;
    memset(s->tlb, 0, s->tlb_entries * sizeof(*s->tlb));
    memset(s->tlb_victim, 0, s->tlb_entries / NPU_TLB_WAYS);
    memset(s->ctx_root, 0, sizeof(s->ctx_root));
}

void npu_mmu_init(GmemNpu *s)
{
    s->tlbi_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, npu_tlbi_timer, s);
    s->tlb = g_new0(NpuTlbEntry, s->tlb_entries);
    s->tlb_victim = g_malloc0(s->tlb_entries / NPU_TLB_WAYS);
}

void npu_mmu_exit(GmemNpu *s)
{
    timer_free(s->tlbi_timer);
    g_free(s->tlb);
    g_free(s->tlb_victim);
}
