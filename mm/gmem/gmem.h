/* SPDX-License-Identifier: GPL-2.0 */
/*
 * GMEM internals: vocabulary, state, lock ladder.
 *
 * Names used alike in every file here:
 *   @vpn    virtual page number; @dpfn a page number within an hnode
 *   @order  binary logarithm of a number of pages: 0, 4 or 9
 *   @loc    where a run is: hnode, dpfn and order in one word, see gm_loc()
 *   @start, @end  range of bytes, @end exclusive
 *
 * State of a page of a shared VMA
 *   host    core MM has it; GMEM keeps nothing about it
 *   device  the PTE is a GMEM marker and the vm_object has the page: either as
 *           an xarray value (one 4K page) or as a set bit in a gm_block
 *   moving  as device, and the block is BUSY: its data is on the way
 * "Marker present" and "vm_object has the page" change together under the page
 * table lock of the address.  A BUSY block is the property of one thread; only
 * that thread moves its data, changes its device translations on purpose, or
 * frees its run.  A zap does not wait for it: it clears the page's bit, and the
 * owner finds out when it looks again under the page table lock.
 *
 * Lock ladder, outermost first
 *   mmap_lock or VMA lock, for reading
 *     block BUSY (sleep for the first; further ones only by trying)
 *       folio lock (tried only), i_mmap_rwsem, anon_vma lock
 *         gm_as::ctx_sem
 *           gm_context::map_lock (taken in MMU notifiers; nothing that enters
 *           reclaim may be allocated under it)
 *             gm_context::inval_lock
 *         pmd lock, page table lock
 *           xa_lock of the vm_object
 *             gm_hnode::lock
 *               gm_dev::dead_lock
 * A BUSY owner never takes the mmap lock.  Everything it needs is allocated
 * before the block becomes BUSY.  MMU notifier callbacks take map_lock and
 * below, and nothing else.
 */
#ifndef _MM_GMEM_H
#define _MM_GMEM_H

#include <linux/bitmap.h>
#include <linux/dma-direction.h>
#include <linux/gmem.h>
#include <linux/gmem_hooks.h>
#include <linux/kobject.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/rwsem.h>

#define GM_ORDER_64K	(16 - PAGE_SHIFT)
#define GM_ORDER_2M	(21 - PAGE_SHIFT)
#define GM_CHUNK_PAGES	(1UL << GM_ORDER_2M)

/* User-visible ids start above any NUMA node number. */
#define GM_HNID_BASE	1024
#define GM_MAX_HNODES	1024
static_assert(GM_HNID_BASE >= MAX_NUMNODES);

/* --- loc: a run of device memory in one word, fit for an xarray value ----- */

#define GM_LOC_VALID		BIT_ULL(60)
#define GM_LOC_DPFN_BITS	40
#define GM_LOC_NONE		0UL

/* Of struct gm_run: enough for any address, and for many processes. */
#define GM_PGOFF_BITS		45
#define GM_VIEWS_BITS		18
#define GM_MAX_VIEWS		(BIT_ULL(GM_VIEWS_BITS) - 1)

/**
 * gm_loc() - name a run of device memory
 * @hnode: index of the hnode, id minus GM_HNID_BASE
 * @dpfn: first page, aligned to the order
 * @order: size in pages
 *
 * Return: the name; never GM_LOC_NONE.
 */
static inline unsigned long gm_loc(unsigned int hnode, unsigned long dpfn,
				   unsigned int order)
{
	return GM_LOC_VALID | (unsigned long)hnode << (4 + GM_LOC_DPFN_BITS) |
	       dpfn << 4 | order;
}

static inline unsigned int gm_loc_order(unsigned long loc)
{
	return loc & 15;
}

static inline unsigned long gm_loc_dpfn(unsigned long loc)
{
	return loc >> 4 & (BIT_ULL(GM_LOC_DPFN_BITS) - 1);
}

static inline unsigned int gm_loc_hnode(unsigned long loc)
{
	return loc >> (4 + GM_LOC_DPFN_BITS) & 0xffff;
}

/* --- device memory --------------------------------------------------------- */

/**
 * struct gm_run - one physical run of device memory
 * @anon_vma: where the VMAs are that may have pages of it, or NULL while it
 * backs nothing
 * @next: loc of the next run that waits to be freed, when there are no views
 * @pgoff: page offset of its first page in the VMAs of @anon_vma
 * @views: entries of vm_objects that point to it or into it
 * @stale: a view went while an invalidation was put off
 *
 * There is one for each page of a 2 MiB chunk that is handed out in parts, of
 * which a run of 64K uses the first, or one for the chunk when it is handed
 * out whole.  hnode, dpfn and order are what it was looked up by, so 16 bytes
 * do.  Protected by gm_hnode::lock; @next by gm_dev::dead_lock.
 *
 * A run has one view when it was made.  Fork adds one for the child, and an
 * entry that mremap() moves out of alignment becomes a view for each page.
 * More than one view means that nobody may write, and so does @stale: a device
 * may still see the run through a view that is gone.
 *
 * The reverse map is that of anonymous folios: fork and mremap() keep the
 * offset of a page in its VMA, and link new VMAs to the anon_vma.  A run needs
 * no reference to it: a view goes before its VMA does, or belongs to a BUSY
 * block whose owner has locked a VMA that is linked to the anon_vma.
 */
struct gm_run {
	union {
		struct anon_vma *anon_vma;
		unsigned long next;
	};
	u64 pgoff : 45;
	u64 views : 18;
	u64 stale : 1;
};

/**
 * struct gm_chunk - 2 MiB of device memory of which some is in use
 * @lru: in gm_hnode::lru
 * @partial: in gm_buddy::partial[] while some of it is free
 * @index: dpfn divided by GM_CHUNK_PAGES
 * @used: pages in use
 * @free_groups: aligned 64K of which nothing is in use
 * @whole: in use as one run
 * @run: that run
 * @parts: the runs of the pages otherwise, GM_CHUNK_PAGES of them
 * @head: bit set at the first page of each run in use
 * @large: bit set, beside @head, when that run is 64K
 * @map: bit set for each page in use
 */
struct gm_chunk {
	struct list_head lru;
	struct list_head partial;
	unsigned long index;
	unsigned int used;
	unsigned int free_groups;
	bool whole;
	struct gm_run run;
	struct gm_run *parts;
	DECLARE_BITMAP(head, GM_CHUNK_PAGES);
	DECLARE_BITMAP(large, GM_CHUNK_PAGES);
	DECLARE_BITMAP(map, GM_CHUNK_PAGES);
};

/**
 * struct gm_buddy - which pages of an hnode are in use
 * @nr_chunks: size in chunks
 * @chunks: descriptor of each chunk that is at least partly in use, or NULL
 * @busy: bit set for each chunk with a descriptor
 * @hint: no chunk before this one is wholly free
 * @partial: chunks in use with room, by the largest order that fits: 0 or 64K
 * @free_chunks: chunks of which nothing is in use
 * @free_groups: aligned 64K of which nothing is in use
 * @free_pages: pages not in use
 *
 * Aligned runs of 1, 16 or 512 pages.  Pure bookkeeping: it takes no lock and
 * allocates nothing; descriptors are handed in and out.
 */
struct gm_buddy {
	unsigned long nr_chunks;
	struct gm_chunk **chunks;
	unsigned long *busy;
	unsigned long hint;
	struct list_head partial[GM_ORDER_64K + 1];
	unsigned long free_chunks;
	unsigned long free_groups;
	unsigned long free_pages;
};

int gm_buddy_init(struct gm_buddy *buddy, unsigned long nr_pages);
void gm_buddy_destroy(struct gm_buddy *buddy);
long gm_buddy_alloc(struct gm_buddy *buddy, unsigned int order,
		    struct gm_chunk **fresh);
struct gm_chunk *gm_buddy_free(struct gm_buddy *buddy, unsigned long dpfn,
			       unsigned int order);
unsigned long gm_buddy_nr_free(const struct gm_buddy *buddy,
			       unsigned int order);
struct gm_chunk *gm_chunk_alloc(unsigned int order, gfp_t gfp);
void gm_chunk_free(struct gm_chunk *chunk);

enum gm_hnode_stat {
	GM_STAT_TO_DEV,		/* pages copied host to device */
	GM_STAT_TO_HOST,	/* pages copied device to host */
	GM_STAT_FIRST_TOUCH,	/* pages that began on the device */
	GM_STAT_EVICTED,	/* pages of TO_HOST due to eviction */
	GM_STAT_FAULTS,		/* device faults served */
	GM_STAT_REMOTE,		/* host pages mapped for the device */
	GM_STAT_LOST,		/* pages whose data the device lost */
	GM_NR_STATS
};

struct gm_victim;

/**
 * struct gm_hnode - a device's memory as a node
 * @id: what user space calls it
 * @index: @id minus GM_HNID_BASE, the index in gm_hnodes[]
 * @gdev: the device
 * @base: device address of dpfn 0
 * @nr_pages: size
 * @lock: protects everything below it up to @freed
 * @buddy: allocator
 * @lru: chunks in use, the one that a run was taken from longest ago first
 * @spare: descriptor of a chunk for small runs that nobody uses, or NULL
 * @limit: pages that may be in use
 * @used: pages in use
 * @closing: nothing is handed out any more
 * @evict_asked: the next pass of the evictor has something to do
 * @evict_want: pages that the next pass shall make room for
 * @evict_max: the most that one of those who asked wants
 * @evict_seq: passes begun and passes ended; odd while one is under way
 * @evict_until: jiffies after which this round waits for no mmap lock; @evictor's
 * @freed: pages given back since registration
 * @evictor: thread that makes room
 * @victims: its working space
 * @evict_wait: @evictor sleeps here
 * @space_wait: faults that wait for room, and evacuation, sleep here
 * @stats: events since registration
 * @kobj: /sys/kernel/mm/gmem/hnodeN
 */
struct gm_hnode {
	int id;
	unsigned int index;
	struct gm_dev *gdev;
	u64 base;
	unsigned long nr_pages;

	spinlock_t lock;
	struct gm_buddy buddy;
	struct list_head lru;
	struct gm_chunk *spare;
	unsigned long limit;
	unsigned long used;
	bool closing;
	bool evict_asked;
	unsigned long evict_want;
	unsigned long evict_max;
	unsigned long evict_seq;
	unsigned long evict_until;
	unsigned long freed;

	struct task_struct *evictor;
	struct gm_victim *victims;
	wait_queue_head_t evict_wait;
	wait_queue_head_t space_wait;

	atomic_long_t stats[GM_NR_STATS];
	struct kobject kobj;
};

struct gm_hnode *gm_hnode_create(struct gm_dev *gdev, u64 base, u64 size);
void gm_hnode_destroy(struct gm_hnode *hnode);
struct gm_hnode *gm_hnode_get(int hnid);
void gm_hnode_put(struct gm_hnode *hnode);
struct gm_hnode *gm_loc_to_hnode(unsigned long loc);
int gm_run_alloc(struct gm_hnode *hnode, unsigned int order,
		 unsigned long *loc, gfp_t gfp);
void gm_run_set_rmap(unsigned long loc, struct anon_vma *anon_vma,
		     unsigned long pgoff);
void gm_run_copy_rmap(unsigned long loc, unsigned long from);
bool gm_run_takes(unsigned long loc, const struct anon_vma *anon_vma,
		  unsigned long pgoff);
bool gm_run_get(unsigned long loc, unsigned int views);
void gm_run_put(unsigned long loc);
void gm_run_free(unsigned long loc);
void gm_run_free_list(unsigned long loc);
bool gm_run_shared(unsigned long loc);
struct gm_run *gm_run_of(unsigned long loc);
unsigned long gm_run_loc(unsigned long loc);

/**
 * gm_loc_addr() - device address of a page of a run
 * @loc: run
 * @page: page within it
 *
 * Return: the address that the driver and its device use.
 */
static inline u64 gm_loc_addr(unsigned long loc, unsigned long page)
{
	return gm_loc_to_hnode(loc)->base +
	       ((u64)(gm_loc_dpfn(loc) + page) << PAGE_SHIFT);
}

/* The most that a fault asks for at once. */
static inline unsigned long gm_hnode_unit(const struct gm_hnode *hnode)
{
	return clamp(READ_ONCE(hnode->limit), 1UL, GM_CHUNK_PAGES);
}

static inline void gm_stat_add(struct gm_hnode *hnode, enum gm_hnode_stat stat,
			       unsigned long nr)
{
	atomic_long_add(nr, &hnode->stats[stat]);
}

/* --- eviction --------------------------------------------------------------- */

/**
 * struct gm_victim - a run that eviction picked
 * @anon_vma: where to look for it, with a reference
 * @pgoff: page offset of the run there
 * @loc: the run
 */
struct gm_victim {
	struct anon_vma *anon_vma;
	unsigned long pgoff;
	unsigned long loc;
};

int gm_hnode_victims(struct gm_hnode *hnode, struct gm_victim *victims,
		     int max);
int gm_evict_run(struct gm_victim *victim, unsigned int flags);
int gm_evictor_start(struct gm_hnode *hnode);
void gm_evictor_stop(struct gm_hnode *hnode);
void gm_evict_ask(struct gm_hnode *hnode, unsigned long nr_pages);
int gm_wait_for_space(struct gm_hnode *hnode, unsigned long nr_pages);
void gm_hnode_evacuate(struct gm_hnode *hnode);

/* --- sysfs -------------------------------------------------------------------- */

extern const struct attribute_group *gm_hnode_groups[];

int gm_sysfs_init(void);
int gm_sysfs_add(struct gm_hnode *hnode);
void gm_sysfs_remove(struct gm_hnode *hnode);

/* --- the logical page table ----------------------------------------------------- */

/**
 * struct gm_block - an aligned run of virtual pages that a device holds
 * @refs: one for the vm_object, one for each thread that looks at it
 * @vpn: first virtual page, aligned to the order
 * @loc: the run that backs it; page i of the block is page i of the run
 * @busy: BUSY, see the top of this file
 * @valid: bit i set when page i is on the device
 *
 * @busy is protected by the xa_lock, @valid by the page table lock of the page
 * and the xa_lock together.  An order 0 block exists only while it is BUSY.
 */
struct gm_block {
	refcount_t refs;
	unsigned long vpn;
	unsigned long loc;
	bool busy;
	unsigned long valid[];
};

static inline unsigned int gm_block_order(const struct gm_block *block)
{
	return gm_loc_order(block->loc);
}

static inline unsigned long gm_block_pages(const struct gm_block *block)
{
	return 1UL << gm_block_order(block);
}

static inline unsigned long gm_block_start(const struct gm_block *block)
{
	return block->vpn << PAGE_SHIFT;
}

static inline unsigned long gm_block_end(const struct gm_block *block)
{
	return (block->vpn + gm_block_pages(block)) << PAGE_SHIFT;
}

/**
 * struct vm_object - logical page table: which pages a device holds, and where
 * @pages: by vpn: nothing, a value (the loc of a 4K page), or a gm_block
 * @anchor: vpn of a slot that is kept, page or no page, or %ULONG_MAX
 * @node: the xarray's, that has the slot
 *
 * Auxiliary data for pages that are on a device, not a shadow of the address
 * space: a process without such pages has an empty one, but for the nodes on the
 * way to @anchor.
 */
struct vm_object {
	struct xarray pages;
	unsigned long anchor;
	struct xa_node *node;
};

void vm_object_init(struct vm_object *vmo);
void vm_object_trim(struct vm_object *vmo);
struct gm_block *gm_block_alloc(unsigned int order, gfp_t gfp);
void gm_block_put(struct gm_block *block);
int vm_object_insert(struct vm_object *vmo, struct gm_block *block, gfp_t gfp);
struct gm_block *vm_object_claim(struct vm_object *vmo, unsigned long vpn,
				 struct gm_block **spare,
				 struct gm_block **owned);
struct gm_block *vm_object_claim_around(struct vm_object *vmo,
					unsigned long vpn, unsigned long nr,
					const struct gm_hnode *hnode,
					struct vm_area_struct *vma,
					struct gm_block **owned);
unsigned long vm_object_release(struct vm_object *vmo, struct gm_block *block);
unsigned long vm_object_zap(struct vm_object *vmo, unsigned long vpn,
			    unsigned int *nr);
unsigned long vm_object_find(struct vm_object *vmo, unsigned long vpn,
			     unsigned long *first);
unsigned long vm_object_next(struct vm_object *vmo, unsigned long vpn,
			     unsigned long last);
unsigned long vm_object_extent(struct vm_object *vmo, unsigned long vpn);
void vm_object_set_valid(struct vm_object *vmo, struct gm_block *block,
			 unsigned long from, unsigned long nr);
void vm_object_clear_valid(struct vm_object *vmo, struct gm_block *block,
			   unsigned long from, unsigned long nr);
void vm_object_set_loc(struct vm_object *vmo, struct gm_block *block,
		       unsigned long loc);
bool vm_object_shared(struct vm_object *vmo, unsigned long vpn);
int vm_object_share(struct vm_object *vmo, struct vm_object *child,
		    unsigned long vpn, unsigned long last);
void vm_object_destroy(struct vm_object *vmo);
int vm_object_rekey_begin(struct vm_object *vmo, unsigned long vpn,
			  unsigned long to, unsigned long nr);
void vm_object_rekey_end(struct vm_object *vmo, unsigned long vpn,
			 unsigned long to, unsigned long nr, bool moved);
void gm_block_wait(struct gm_block *block);

/* --- address spaces and devices ---------------------------------------------------- */

/**
 * struct gm_as - an address space that devices attach to
 * @ref: one for the mm, one for each user
 * @mm: the process; its struct stays, whether alive or not
 * @vmo: where its pages are
 * @ctx_sem: protects @contexts; held for reading over work on one of them
 * @contexts: attached devices
 * @births: contexts ever attached; changes with @contexts
 */
struct gm_as {
	struct kref ref;
	struct mm_struct *mm;
	struct vm_object vmo;
	struct rw_semaphore ctx_sem;
	struct list_head contexts;
	unsigned long births;
};

/**
 * struct gm_dev - a device
 * @ref: one for the driver, one for its hnode
 * @dev: does the DMA
 * @mmu: what the driver implements
 * @drvdata: the driver's
 * @lock: protects @contexts and @hnode's coming and going
 * @contexts: address spaces it is attached to
 * @hnode: its memory, or NULL
 * @pgsizes: orders that both the device and GMEM have, as a bitmap
 * @broken: its memory no longer answers
 * @dead_lock: protects @dead and @deferred
 * @dead: loc of the first run that waits for a deferred invalidation
 * @deferred: contexts whose invalidation was put off
 */
struct gm_dev {
	struct kref ref;
	struct device *dev;
	const struct gm_mmu *mmu;
	void *drvdata;
	struct mutex lock;
	struct list_head contexts;
	struct gm_hnode *hnode;
	unsigned long pgsizes;
	bool broken;
	spinlock_t dead_lock;
	unsigned long dead;
	unsigned int deferred;
};

void gm_dev_put(struct gm_dev *gdev);
void gm_as_get(struct gm_as *as);
void gm_as_put(struct gm_as *as);
bool gm_as_attached(struct gm_as *as, const struct gm_dev *gdev);
void gm_block_done(struct gm_as *as, struct gm_block *block);
void gm_fence_init(struct gm_fence *fence);
int gm_fence_wait(struct gm_fence *fence);

/* --- moving data ------------------------------------------------------------------- */

/* Zeroing and copying are one operation each. */
#define GM_MOVE_OPS	2

/**
 * struct gm_move - what one move of a block needs, allocated ahead of it
 * @next: in a list of moves whose leftovers wait to be freed
 * @gdev: the device
 * @fence: of each operation that was started
 * @started: how many
 * @error: of the first that failed
 * @dir: direction of the copy
 * @mapped: entries of @sg that are mapped for DMA
 * @nr: folios in use
 * @max: room
 * @sg: host memory for the DMA API, adjacent folios as one
 * @seg: pieces for the copy engine
 * @folio: host folios, each within the block, ascending
 * @orig: host PTE of each page that had one
 * @first: page of the block where the folio starts
 */
struct gm_move {
	struct gm_move *next;
	struct gm_dev *gdev;
	struct gm_fence fence[GM_MOVE_OPS];
	unsigned int started;
	int error;
	enum dma_data_direction dir;
	unsigned int mapped;
	unsigned int nr;
	unsigned int max;
	struct scatterlist *sg;
	struct gm_copy *seg;
	struct folio **folio;
	pte_t *orig;
	unsigned short *first;
};

/*
 * Moves of one thread that are under way at once: two engines with one more for
 * each to go on with.  Blocks that one thread owns at a time are at most 16.
 */
#define GM_STREAM_DEPTH		4

/* A thread that owns a block allocates without reclaim, or not at all. */
#define GM_STREAM_GFP		(GFP_NOWAIT | __GFP_NOWARN)

struct gm_move *gm_move_alloc(unsigned int max, gfp_t gfp);
void gm_move_free(struct gm_move *move);
void gm_move_copy(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, enum gm_copy_op op);
void gm_move_zero(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, unsigned long from, unsigned long nr);
int gm_move_local(struct gm_dev *gdev, struct gm_move *move,
		  struct gm_block *block, unsigned long to);
int gm_move_wait(struct gm_move *move);
void gm_move_dma_unmap(struct gm_move *move);

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS
bool gm_fail_dma(void);
#else
static inline bool gm_fail_dma(void)
{
	return false;
}
#endif

int gm_migrate(struct gm_as *as, struct gm_hnode *hnode,
	       struct gm_context *ctx, struct vm_area_struct *vma,
	       unsigned long addr, unsigned int order, struct gm_move **spent);
void gm_migrate_range(struct gm_as *as, struct gm_hnode *hnode,
		      struct vm_area_struct *vma, unsigned long *addr,
		      unsigned long end);
void gm_mark_soft_dirty(struct vm_area_struct *vma,
			const struct gm_block *block);
void gm_migrate_free(struct gm_move *spent);
int gm_populate(struct gm_as *as, struct gm_hnode *hnode,
		struct gm_context *ctx, struct vm_area_struct *vma,
		unsigned long addr, struct gm_move **spent);
unsigned int gm_fit_order(const struct gm_dev *gdev,
			  const struct vm_area_struct *vma,
			  unsigned long addr, unsigned int max);

#define GM_RECALL_WHOLE		BIT(0)	/* the block's part in the VMA */
#define GM_RECALL_NOWAIT	BIT(1)	/* -EAGAIN rather than sleep on BUSY */
#define GM_RECALL_EVICT		BIT(2)	/* counts as eviction */
#define GM_RECALL_POISON	BIT(3)	/* what cannot be read is lost */
#define GM_RECALL_OPTIONAL	BIT(4)	/* not worth an OOM kill, nor much time */

int gm_recall(struct vm_area_struct *vma, unsigned long addr,
	      unsigned int flags, int nid);
int gm_recall_range(struct vm_area_struct *vma, unsigned long start,
		    unsigned long end, int nid);

int gm_unshare(struct gm_as *as, struct gm_block *block, unsigned long fresh,
	       struct gm_move *move);

/* --- device translations --------------------------------------------------------------- */

/**
 * struct gm_prepared - what device page tables were prepared for
 * @order: the smallest pages they take
 * @all: in every context, not only in the one that must succeed
 * @births: value of &gm_as.births then; younger contexts are not prepared
 */
struct gm_prepared {
	unsigned int order;
	bool all;
	unsigned long births;
};

int gm_ctx_map_block(struct gm_context *ctx, struct vm_area_struct *vma,
		     struct gm_block *block, unsigned int order,
		     unsigned int flags);
int gm_as_map_block(struct gm_as *as, const struct gm_context *ctx,
		    struct vm_area_struct *vma, struct gm_block *block,
		    const struct gm_prepared *prepared);
int gm_as_prepare(struct gm_as *as, struct gm_context *ctx,
		  const struct gm_dev *gdev, unsigned long start,
		  unsigned long end, struct gm_prepared *prepared);
void gm_as_unmap(struct gm_as *as, const struct gm_dev *gdev,
		 unsigned long start, unsigned long end);
unsigned int gm_ctx_locks(const struct gm_context *ctx, unsigned long start,
			  unsigned long end, unsigned int *last);
bool gm_ctx_trylock(struct gm_context *ctx, unsigned long start,
		    unsigned long end);
void gm_ctx_lock(struct gm_context *ctx, unsigned long start,
		 unsigned long end);
void gm_ctx_unlock(struct gm_context *ctx, unsigned long start,
		   unsigned long end);
#ifdef CONFIG_LOCKDEP
void gm_ctx_assert_locked(struct gm_context *ctx, unsigned long start,
			  unsigned long end);
#else
static inline void gm_ctx_assert_locked(struct gm_context *ctx,
					unsigned long start, unsigned long end)
{
}
#endif
int gm_ctx_inval_register(struct gm_context *ctx);
void gm_ctx_inval_unregister(struct gm_context *ctx);
void gm_ctx_inval_wait(struct gm_context *ctx, unsigned long start,
		       unsigned long end);

int gm_remote_prepare(struct gm_context *ctx, unsigned long addr);
int gm_remote_map(struct gm_context *ctx, struct vm_area_struct *vma,
		  unsigned long addr, bool write);
void gm_remote_destroy(struct gm_context *ctx);

bool gm_vma_can_share(struct vm_area_struct *vma);
int gm_fault_in(struct vm_area_struct *vma, unsigned long addr);
int gm_make_resident(struct gm_as *as, struct gm_hnode *hnode,
		     struct gm_context *ctx, struct vm_area_struct *vma,
		     unsigned long addr, bool write, struct gm_move **spent);
int gm_advise_check(unsigned long start, size_t len, int behavior,
		    unsigned long *end);

#endif /* _MM_GMEM_H */
