// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: the operations that GMEM calls, but for the copy.
 *
 * Page tables are 4 KiB pages at the top of the local memory, written through
 * the BAR.  The CPU never reads them back: what it must know about a table is
 * in a struct npu_table, found by level and address in an xarray, so that a
 * walk touches only tables that exist.
 *
 * Who writes what, and in which order
 *
 *   Entries of levels 3 and 2 belong to pmap_prepare, under prepare_lock.  An
 *   entry goes once from zero to a table, and stays.
 *   Entries of levels 1 and 0 belong to the holder of GMEM's map lock.  An
 *   entry of level 1 is zero, a link to a level 0 table, or a 2 MiB page.
 *
 * pmap_prepare runs beside everything else.  It zeroes a table, makes sure
 * with wmb() that the zeros left the write-combining buffers, links it (levels
 * 2 and 1) and then stores it in the xarray.  xa_store() releases and
 * xa_load() acquires, so whoever finds a table finds it zeroed and everything
 * above it linked.  A level 0 table is linked by peer_map when the first small
 * page goes into it; that takes no memory.  A 2 MiB page over a level 0 table
 * replaces the link only: the table is emptied and waits in the xarray, which
 * is how pmap_prepare's promise holds until pmap_destroy.
 *
 * Different 2 MiB are changed at the same time (map_concurrent): each has its
 * table of level 0 and its entry in that of level 1, and of the latter's
 * count, which is atomic, what is its own does not change.
 *
 * Nothing under the map lock, and nothing in tlb_invl, allocates, takes
 * prepare_lock or waits for more than the hardware.
 */
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "npu.h"

#define NPU_PT_SIZE	4096
#define NPU_PTE_FLAGS	0xff		/* what npu_table.flags keeps */
#define NPU_VA_END	BIT(NPU_VA_BITS)
#define NPU_ORDER_64K	(16 - PAGE_SHIFT)
#define NPU_ORDER_2M	(21 - PAGE_SHIFT)
#define NPU_64K_ENTRIES	16U

static_assert(NPU_PT_SHIFT(0) == PAGE_SHIFT);

/**
 * struct npu_table - the CPU's side of one page table
 * @addr: local address
 * @pte: entries; only written
 * @nr: entries that are pages; a table of level 1 is of several locks
 * @flags: low byte of each entry without the device's own bits; map lock for
 *         levels 0 and 1, unused above
 */
struct npu_table {
	u64 addr;
	void __iomem *pte;
	atomic_t nr;
	u8 flags[NPU_PT_ENTRIES];
};

/**
 * struct npu_pmap - the device page table of a context
 * @npu: the device
 * @prepare_lock: held while tables are added
 * @root: table of level 3
 * @tables: tables of levels 0 to 2, by VA shifted right by what one maps
 * @nr: tables in all; tables_lock of the device
 */
struct npu_pmap {
	struct npu *npu;
	struct mutex prepare_lock;	/* while tables are added */
	struct npu_table *root;
	struct xarray tables[NPU_PT_LEVELS - 1];
	unsigned int nr;
};

/* Whether a level 1 or 0 entry with these flags is a page. */
static bool npu_flags_leaf(unsigned int level, u8 flags)
{
	return (flags & NPU_PTE_V) && (level == 0 || (flags & NPU_PTE_LEAF));
}

static unsigned int npu_pt_index(unsigned int level, unsigned long va)
{
	return (va >> NPU_PT_SHIFT(level)) % NPU_PT_ENTRIES;
}

static unsigned long npu_pt_key(unsigned int level, unsigned long va)
{
	return va >> NPU_PT_SHIFT(level + 1);
}

/* --- memory for tables ------------------------------------------------------ */

/**
 * npu_tables_init() - set local memory aside for page tables
 * @npu: device whose local memory has @npu->mem_size bytes in all
 *
 * Takes 1/64: enough for eight times the memory in 4 KiB pages, because the
 * device also maps host memory.  Half of them are divided among the contexts
 * that there can be, the others are for who comes first.
 *
 * Context: Process context, from probe.
 * Return: 0 or a negative errno.
 */
int npu_tables_init(struct npu *npu)
{
	struct device *dev = &npu->pdev->dev;
	u64 size = ALIGN(npu->mem_size / 64, SZ_2M);

	if (npu->mem_size < size + SZ_2M)
		return -ENODEV;
	npu->mem_size -= size;
	npu->tables_base = npu->mem_size;
	npu->tables = devm_ioremap_wc(dev,
				      pci_resource_start(npu->pdev,
							 NPU_BAR_MEM) +
				      npu->tables_base, size);
	if (!npu->tables)
		return -ENOMEM;
	npu->nr_tables = size / NPU_PT_SIZE;
	npu->tables_own = npu->nr_tables / 2 / npu->nr_contexts;
	npu->tables_free = npu->nr_tables -
			   npu->tables_own * npu->nr_contexts;
	npu->tables_used = devm_bitmap_zalloc(dev, npu->nr_tables, GFP_KERNEL);
	return npu->tables_used ? 0 : -ENOMEM;
}

/*
 * Find room for a table.  Tables stay as long as their context, and an access to
 * each 2 MiB of an address space takes one, so each context has some that nobody
 * else can take.
 *
 * Return: the number of the table, or nr_tables of the device.
 */
static unsigned int npu_table_take(struct npu_pmap *pmap)
{
	struct npu *npu = pmap->npu;
	unsigned int i;

	lockdep_assert_held(&npu->tables_lock);
	if (pmap->nr >= npu->tables_own) {
		if (!npu->tables_free)
			return npu->nr_tables;
		npu->tables_free--;
	}
	i = find_next_zero_bit(npu->tables_used, npu->nr_tables,
			       npu->tables_hint);
	if (i == npu->nr_tables)
		i = find_first_zero_bit(npu->tables_used, npu->nr_tables);
	__set_bit(i, npu->tables_used);
	npu->tables_hint = i + 1;
	pmap->nr++;
	return i;
}

static struct npu_table *npu_table_alloc(struct npu_pmap *pmap)
{
	struct npu *npu = pmap->npu;
	struct npu_table *table;
	unsigned int i;

	table = kzalloc(sizeof(*table), GFP_KERNEL_ACCOUNT);
	if (!table)
		return NULL;

	spin_lock(&npu->tables_lock);
	i = npu_table_take(pmap);
	spin_unlock(&npu->tables_lock);

	if (i == npu->nr_tables) {
		kfree(table);
		return NULL;
	}
	table->addr = npu->tables_base + (u64)i * NPU_PT_SIZE;
	table->pte = npu->tables + (size_t)i * NPU_PT_SIZE;
	memset_io(table->pte, 0, NPU_PT_SIZE);
	/* The zeros are in the memory before anything can point there. */
	wmb();
	return table;
}

static void npu_table_free(struct npu_pmap *pmap, struct npu_table *table)
{
	struct npu *npu = pmap->npu;

	spin_lock(&npu->tables_lock);
	__clear_bit((table->addr - npu->tables_base) / NPU_PT_SIZE,
		    npu->tables_used);
	if (pmap->nr > npu->tables_own)
		npu->tables_free++;
	pmap->nr--;
	spin_unlock(&npu->tables_lock);
	kfree(table);
}

/* --- entries ---------------------------------------------------------------- */

static void npu_pte_set(struct npu_table *table, unsigned int level,
			unsigned int i, u64 pte)
{
	int leaf = npu_flags_leaf(level, pte & NPU_PTE_FLAGS);

	leaf -= npu_flags_leaf(level, table->flags[i]);
	if (leaf)
		atomic_add(leaf, &table->nr);
	table->flags[i] = pte & NPU_PTE_FLAGS;
	writeq(pte, table->pte + i * sizeof(pte));
}

/*
 * The low byte of an entry has nothing but flags, and all of them are known
 * here, so that neither the entry needs to be read back nor the address kept.
 * The device's accessed and dirty bits go with it; the device sets them with
 * compare and swap, so it cannot bring an old flag back.
 */
static void npu_pte_write_flags(struct npu_table *table, unsigned int i)
{
	writeb(table->flags[i], table->pte + i * sizeof(u64));
}

static bool npu_pte_accessed(const struct npu_table *table, unsigned int i)
{
	return readb(table->pte + i * sizeof(u64)) & NPU_PTE_A;
}

/*
 * The entries of @table, within the VAs that it maps, which overlap
 * [@start, @end), widened to whole 64 KiB pages.
 */
static void npu_table_span(const struct npu_table *table, unsigned int level,
			   unsigned long key, unsigned long start,
			   unsigned long end, unsigned int *first,
			   unsigned int *last)
{
	unsigned long base = key << NPU_PT_SHIFT(level + 1);
	unsigned long size = 1UL << NPU_PT_SHIFT(level + 1);

	*first = start > base ? npu_pt_index(level, start) : 0;
	*last = end - base < size ? npu_pt_index(level, end - 1) :
		NPU_PT_ENTRIES - 1;
	if (level)
		return;
	if (table->flags[*first] & NPU_PTE_64K)
		*first = round_down(*first, NPU_64K_ENTRIES);
	if (table->flags[*last] & NPU_PTE_64K)
		*last |= NPU_64K_ENTRIES - 1;
}

static bool npu_table_clear(struct npu_table *table, unsigned int level,
			    unsigned int first, unsigned int last)
{
	bool found = false;
	unsigned int i;

	for (i = first; i <= last && atomic_read(&table->nr); i++) {
		if (!npu_flags_leaf(level, table->flags[i]))
			continue;
		npu_pte_set(table, level, i, 0);
		found = true;
	}
	return found;
}

static bool npu_table_protect(struct npu_table *table, unsigned int level,
			      unsigned int first, unsigned int last)
{
	bool writable = false;
	unsigned int i;

	for (i = first; i <= last; i++) {
		if (!npu_flags_leaf(level, table->flags[i]) ||
		    !(table->flags[i] & NPU_PTE_W))
			continue;
		table->flags[i] &= ~NPU_PTE_W;
		npu_pte_write_flags(table, i);
		writable = true;
	}
	return writable;
}

static bool npu_table_accessed(struct npu_table *table, unsigned int level,
			       unsigned int first, unsigned int last)
{
	unsigned int i;

	for (i = first; i <= last; i++)
		if (npu_flags_leaf(level, table->flags[i]) &&
		    npu_pte_accessed(table, i))
			return true;
	return false;
}

static bool npu_table_clear_accessed(struct npu_table *table,
				     unsigned int level, unsigned int first,
				     unsigned int last)
{
	bool accessed = false;
	unsigned int i;

	for (i = first; i <= last; i++) {
		if (!npu_flags_leaf(level, table->flags[i]) ||
		    !npu_pte_accessed(table, i))
			continue;
		npu_pte_write_flags(table, i);
		accessed = true;
	}
	return accessed;
}

typedef bool (*npu_table_fn)(struct npu_table *table, unsigned int level,
			     unsigned int first, unsigned int last);

static bool npu_table_for_range(struct npu_table *table, unsigned int level,
				unsigned long key, unsigned long start,
				unsigned long end, npu_table_fn fn)
{
	unsigned int first, last;

	if (!table || !atomic_read(&table->nr))
		return false;
	npu_table_span(table, level, key, start, end, &first, &last);
	return fn(table, level, first, last);
}

/*
 * Do one of the above for every page in a range; absent tables cost nothing.
 * True when one of the tables had what @fn looks for.
 */
static bool npu_pmap_for_range(struct npu_pmap *pmap, unsigned long start,
			       unsigned long end, npu_table_fn fn)
{
	unsigned long key, last;
	struct npu_table *table;
	unsigned int level;
	bool found = false;

	end = min(end, NPU_VA_END);
	if (start >= end)
		return false;
	for (level = 0; level <= 1; level++) {
		key = npu_pt_key(level, start);
		last = npu_pt_key(level, end - 1);
		/* Mostly it is one table, for which there is a shorter way. */
		if (key == last) {
			table = xa_load(&pmap->tables[level], key);
			found |= npu_table_for_range(table, level, key, start,
						     end, fn);
			continue;
		}
		xa_for_each_range(&pmap->tables[level], key, table, key, last)
			found |= npu_table_for_range(table, level, key, start,
						     end, fn);
	}
	/* Out of the write-combining buffers before the TLB is invalidated. */
	wmb();
	return found;
}

/* --- operations: the page table --------------------------------------------- */

static void npu_pmap_free(struct npu_pmap *pmap)
{
	struct npu_table *table;
	unsigned long key;
	int level;

	for (level = 0; level < ARRAY_SIZE(pmap->tables); level++) {
		xa_for_each(&pmap->tables[level], key, table)
			npu_table_free(pmap, table);
		xa_destroy(&pmap->tables[level]);
	}
	if (pmap->root)
		npu_table_free(pmap, pmap->root);
	mutex_destroy(&pmap->prepare_lock);
	kfree(pmap);
}

static struct npu_pmap *npu_pmap_alloc(struct npu *npu)
{
	struct npu_pmap *pmap = kzalloc(sizeof(*pmap), GFP_KERNEL_ACCOUNT);
	int level;

	if (!pmap)
		return NULL;
	pmap->npu = npu;
	mutex_init(&pmap->prepare_lock);
	for (level = 0; level < ARRAY_SIZE(pmap->tables); level++)
		xa_init_flags(&pmap->tables[level], XA_FLAGS_ACCOUNT);
	pmap->root = npu_table_alloc(pmap);
	if (!pmap->root) {
		npu_pmap_free(pmap);
		return NULL;
	}
	return pmap;
}

static int npu_pmap_create(struct gm_context *gm)
{
	struct npu_ctx *ctx = gm->drvdata;
	struct npu *npu = ctx->npu;
	struct npu_pmap *pmap;
	int id;

	if (npu_fail(NPU_FAIL_PMAP_CREATE))
		return -ENOMEM;
	/* First: who has an id has tables of its own. */
	id = ida_alloc_max(&npu->ctx_ids, npu->nr_contexts - 1, GFP_KERNEL);
	if (id < 0)
		return id;
	pmap = npu_pmap_alloc(npu);
	if (!pmap) {
		ida_free(&npu->ctx_ids, id);
		return -ENOMEM;
	}
	ctx->id = id;
	gm->pmap = pmap;
	npu_ctx_set_root(npu, id, pmap->root->addr | NPU_CTX_VALID);
	return 0;
}

static void npu_pmap_destroy(struct gm_context *gm)
{
	const struct gm_range all = { 0, ULONG_MAX };
	struct npu_ctx *ctx = gm->drvdata;
	struct npu *npu = ctx->npu;

	/* The next owner of the id must not hit what this one cached. */
	npu_ctx_set_root(npu, ctx->id, 0);
	npu_tlb_invalidate(npu, ctx->id, &all, 1);
	npu_pmap_free(gm->pmap);
	ida_free(&npu->ctx_ids, ctx->id);
}

/* Add the table of @level for @va and those above it. */
static int npu_pmap_grow(struct npu_pmap *pmap, unsigned long va,
			 unsigned int level)
{
	struct xarray *tables = &pmap->tables[level];
	unsigned long key = npu_pt_key(level, va);
	struct npu_table *table, *parent = pmap->root;
	int ret;

	lockdep_assert_held(&pmap->prepare_lock);
	if (xa_load(tables, key))
		return 0;
	if (level + 1 < ARRAY_SIZE(pmap->tables)) {
		ret = npu_pmap_grow(pmap, va, level + 1);
		if (ret)
			return ret;
		parent = xa_load(&pmap->tables[level + 1],
				 npu_pt_key(level + 1, va));
	}

	ret = xa_reserve(tables, key, GFP_KERNEL);
	if (ret)
		return ret;
	table = npu_table_alloc(pmap);
	if (!table) {
		xa_release(tables, key);
		return -ENOMEM;
	}
	if (level > 0) {
		writeq(table->addr | NPU_PTE_V,
		       parent->pte + npu_pt_index(level + 1, va) *
		       sizeof(u64));
		/* Whoever finds the table in the xarray finds it linked. */
		wmb();
	}
	/* Cannot fail, the slot is reserved. */
	xa_store(tables, key, table, 0);
	return 0;
}

static int npu_pmap_prepare(struct gm_context *gm, unsigned long start,
			    unsigned long end, unsigned int order)
{
	struct npu_pmap *pmap = gm->pmap;
	unsigned int level = order < NPU_ORDER_2M ? 0 : 1;
	unsigned long va, step = 1UL << NPU_PT_SHIFT(level + 1);
	int ret = 0;

	if (end > NPU_VA_END || npu_fail(NPU_FAIL_PMAP_PREPARE))
		return -ENOMEM;
	for (va = round_down(start, step); va < end && !ret; va += step) {
		/* Mostly it is there: look without the lock first. */
		if (xa_load(&pmap->tables[level], npu_pt_key(level, va)))
			continue;
		mutex_lock(&pmap->prepare_lock);
		ret = npu_pmap_grow(pmap, va, level);
		mutex_unlock(&pmap->prepare_lock);
	}
	return ret;
}

static void npu_map_2m(struct npu_pmap *pmap, struct npu_table *dir,
		       unsigned long va, u64 pte)
{
	struct npu_table *table;

	npu_pte_set(dir, 1, npu_pt_index(1, va), pte | NPU_PTE_LEAF);

	/* Small pages that it replaces must not come back with the table. */
	table = xa_load(&pmap->tables[0], npu_pt_key(0, va));
	if (table && atomic_read(&table->nr))
		npu_table_clear(table, 0, 0, NPU_PT_ENTRIES - 1);
}

static void npu_map_small(struct npu_table *dir, struct npu_table *table,
			  const struct gm_map *map, u64 pte)
{
	unsigned int i = npu_pt_index(0, map->va);
	unsigned int last = i;

	if (map->order == NPU_ORDER_64K) {
		last += NPU_64K_ENTRIES - 1;
		pte |= NPU_PTE_64K;
	} else {
		/* A larger page goes by peer_unmap first. */
		WARN_ON_ONCE(table->flags[i] & NPU_PTE_64K);
	}
	WARN_ON_ONCE(dir->flags[npu_pt_index(1, map->va)] & NPU_PTE_LEAF);
	for (; i <= last; i++)
		npu_pte_set(table, 0, i, pte);

	i = npu_pt_index(1, map->va);
	if (dir->flags[i] != NPU_PTE_V)
		npu_pte_set(dir, 1, i, table->addr | NPU_PTE_V);
}

static int npu_map_one(struct npu_pmap *pmap, const struct gm_map *map)
{
	struct npu_table *dir, *table;
	u64 pte = map->addr | NPU_PTE_V;

	if (map->flags & GM_MAP_WRITE)
		pte |= NPU_PTE_W;
	if (map->flags & GM_MAP_HOST)
		pte |= NPU_PTE_SYS;

	dir = xa_load(&pmap->tables[1], npu_pt_key(1, map->va));
	if (WARN_ON_ONCE(!dir))
		return -EINVAL;
	if (map->order == NPU_ORDER_2M) {
		npu_map_2m(pmap, dir, map->va, pte);
		return 0;
	}
	table = xa_load(&pmap->tables[0], npu_pt_key(0, map->va));
	if (WARN_ON_ONCE(!table))
		return -EINVAL;
	npu_map_small(dir, table, map, pte);
	return 0;
}

static void npu_peer_unmap(struct gm_context *gm, unsigned long start,
			   unsigned long end)
{
	npu_pmap_for_range(gm->pmap, start, end, npu_table_clear);
}

static int npu_peer_map(struct gm_context *gm, const struct gm_map *maps,
			unsigned int nr)
{
	struct npu_pmap *pmap = gm->pmap;
	unsigned int i;
	int ret = npu_fail(NPU_FAIL_PEER_MAP) ? -EIO : 0;

	for (i = 0; i < nr && !ret; i++)
		ret = npu_map_one(pmap, &maps[i]);
	if (ret) {
		for (i = 0; i < nr; i++)
			npu_peer_unmap(gm, maps[i].va, maps[i].va +
				       (PAGE_SIZE << maps[i].order));
		return ret;
	}
	/* In the memory before any CPU can ring the doorbell for a replay. */
	wmb();
	return 0;
}

static void npu_pmap_protect(struct gm_context *gm, unsigned long start,
			     unsigned long end)
{
	npu_pmap_for_range(gm->pmap, start, end, npu_table_protect);
}

/* Called under a page table lock, see there. */
static bool npu_harvest_accessed(struct gm_context *gm, unsigned long start,
				 unsigned long end, bool clear)
{
	const struct gm_range range = { start, end };
	struct npu_ctx *ctx = gm->drvdata;

	/* A device that is gone reads as ones. */
	if (READ_ONCE(ctx->npu->dead))
		return false;
	if (!clear)
		return npu_pmap_for_range(gm->pmap, start, end,
					  npu_table_accessed);
	if (!npu_pmap_for_range(gm->pmap, start, end,
				npu_table_clear_accessed))
		return false;
	/* What is cached is not walked for, and only a walk marks the entry. */
	npu_tlb_forget(ctx->npu, ctx->id, &range);
	return true;
}

/* --- operations: the TLB ---------------------------------------------------- */

static void npu_tlb_invl(struct gm_context *gm, unsigned long start,
			 unsigned long end)
{
	const struct gm_range range = { start, end };
	struct npu_ctx *ctx = gm->drvdata;

	npu_tlb_invalidate(ctx->npu, ctx->id, &range, 1);
}

static void npu_tlb_invl_coalesced(struct gm_context *gm,
				   const struct gm_range *ranges,
				   unsigned int nr)
{
	struct npu_ctx *ctx = gm->drvdata;

	npu_tlb_invalidate(ctx->npu, ctx->id, ranges, nr);
}

const struct gm_mmu npu_mmu = {
	.pgsize_bitmap		= SZ_4K | SZ_64K | SZ_2M,
	.map_concurrent		= true,
	.pmap_create		= npu_pmap_create,
	.pmap_destroy		= npu_pmap_destroy,
	.pmap_prepare		= npu_pmap_prepare,
	.peer_map		= npu_peer_map,
	.peer_unmap		= npu_peer_unmap,
	.pmap_protect		= npu_pmap_protect,
	.tlb_invl		= npu_tlb_invl,
	.tlb_invl_coalesced	= npu_tlb_invl_coalesced,
	.harvest_accessed	= npu_harvest_accessed,
	.copy			= npu_copy,
};

/* --- for the device file ---------------------------------------------------- */

/**
 * npu_pmap_find() - what an address translates to at the moment
 * @ctx: attached context
 * @va: virtual address
 * @local: out: local address, or ~0 when it is in host memory or not mapped;
 *         may be NULL
 *
 * The answer may be out of date when it is returned.
 *
 * Context: Process context, file->sem held.
 * Return: bytes from @va to the end of the page that maps it, or 0.
 */
unsigned long npu_pmap_find(struct npu_ctx *ctx, unsigned long va, u64 *local)
{
	struct npu_pmap *pmap = ctx->gm->pmap;
	struct npu_table *table;
	unsigned int level, i = 0;
	unsigned long size;
	u64 pte;
	u8 flags = 0;

	if (local)
		*local = ~0ULL;
	if (va >= NPU_VA_END)
		return 0;
	for (level = 2; level-- > 0;) {
		table = xa_load(&pmap->tables[level], npu_pt_key(level, va));
		if (!table)
			return 0;
		i = npu_pt_index(level, va);
		flags = READ_ONCE(table->flags[i]);
		if (npu_flags_leaf(level, flags))
			break;
		if (!(flags & NPU_PTE_V))
			return 0;
	}

	if (level)
		size = SZ_2M;
	else
		size = flags & NPU_PTE_64K ? SZ_64K : SZ_4K;
	if (local && !(flags & NPU_PTE_SYS)) {
		pte = readq(table->pte + i * sizeof(pte));
		if ((pte & NPU_PTE_V) && !(pte & NPU_PTE_SYS))
			*local = (pte & NPU_PTE_FRAME & ~(u64)(size - 1)) |
				 (va & (size - 1));
	}
	return size - (va & (size - 1));
}
