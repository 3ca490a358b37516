/* SPDX-License-Identifier: GPL-2.0 */
/*
 * npu-hmm: a driver for the gmem-npu without GMEM, on what Linux 6.12 has for
 * the purpose: MEMORY_DEVICE_PRIVATE pages, migrate_vma and hmm_range_fault().
 * It is what GMEM is measured against, so it is made to be fast; the comment
 * at the top of each file says by what.
 *
 *   dmem.c   device memory: struct pages, their allocator, the eviction list
 *   move.c   a batch of up to 512 pages in flight: DMA mapping, copy engines
 *   in.c     host to device
 *   out.c    device to host: faults of the CPU, prefetch, eviction
 *   svm.c    contexts: notifier, translations of the device
 *   fault.c  faults of the device, host pages mapped in place
 *   door.c   /dev/hmm-npuN-move: prefetch, and what the benchmarks ask
 *
 * All that touches the hardware is the sample driver's, compiled from the same
 * source: rings, copy engines, jobs, the fault queue, page tables, the TLB and
 * the character device.  These files take the place of gmem.c alone.  Of GMEM
 * they use the types in linux/gmem.h, which are how the hardware's files are
 * called, and nothing else: struct gm_dev, gm_dev_drvdata() and
 * gm_fence_signal() are this driver's own.
 *
 * Locks, outermost first:
 *
 *   gdev->door_sem            contexts that a prefetch can find
 *     the mmap lock
 *       folio locks           of all pages of a move, trylock only
 *         gm_context.map_lock translations; taken in notifiers
 *         gdev->lock          allocator and lists; innermost
 */
#ifndef NPU_HMM_H
#define NPU_HMM_H

#include <linux/bitmap.h>
#include <linux/gmem.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/rwsem.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "npu.h"

#define CHUNK_PAGES	512U
#define CHUNK_SIZE	SZ_2M

/* In move.map, beside GM_MAP_*: there is a translation. */
#define MOVE_MAP	BIT(2)

/* From how many pages on a range gets a chunk of its own. */
#define CHUNK_WORTH	16U

/**
 * struct dmem_chunk - 2 MiB of device memory
 * @link: in gdev->free or gdev->lru
 * @room: in gdev->room while only a part is used
 * @nr_used: pages that are used
 * @evicting: no page is to be taken from it
 * @used: which ones
 */
struct dmem_chunk {
	struct list_head link;
	struct list_head room;
	unsigned int nr_used;
	bool evicting;
	DECLARE_BITMAP(used, CHUNK_PAGES);
};

/**
 * struct gm_dev - this driver's part of a device
 * @ref: one for the binding, one for each open file of @door
 * @npu: the device
 * @dev: that does the DMA
 * @pgmap: struct pages of the device memory
 * @first_pfn: of the first of them
 * @lock: protects everything up to @chunks
 * @free: chunks of which nothing is used
 * @lru: the others, those that came first at the head
 * @room: those of @lru that have pages left
 * @nr_free: length of @free
 * @moves: moves that nobody uses
 * @nr_chunks: number of @chunks
 * @chunks: all chunks
 * @evict: keeps some chunks free
 * @door_sem: protects @contexts; held for reading while one is used
 * @contexts: attached contexts
 * @door: the device file of door.c
 * @door_name: its name
 */
struct gm_dev {
	struct kref ref;
	struct npu *npu;
	struct device *dev;
	struct dev_pagemap pgmap;
	unsigned long first_pfn;

	spinlock_t lock;	/* allocator and lists */
	struct list_head free;
	struct list_head lru;
	struct list_head room;
	unsigned int nr_free;
	struct list_head moves;
	unsigned int nr_chunks;
	struct dmem_chunk *chunks;
	struct work_struct evict;

	struct rw_semaphore door_sem;
	struct list_head contexts;
	struct miscdevice door;
	char door_name[32];
};

/**
 * struct svm - a process that uses the device
 * @gm: what the page-table operations know; its map_lock protects the rest
 * @mm: the process; kept by struct npu_ctx
 * @gdev: the device
 * @link: in gdev->contexts
 * @notifier: over the whole address space
 * @windows: by address / 2 MiB, those of which something may be mapped
 * @host: by address / 4 KiB, DMA addresses of host pages mapped in place
 * @moves: to the device, on their way
 */
struct svm {
	struct gm_context gm;
	struct mm_struct *mm;
	struct gm_dev *gdev;
	struct list_head link;
	struct mmu_interval_notifier notifier;
	struct xarray windows;
	struct xarray host;
	struct list_head moves;
};

/**
 * struct move - a batch of pages on their way
 * @link: in gdev->moves or, to the device, in svm->moves
 * @gdev: the device
 * @svm: of a move to the device: who is to see the pages there
 * @task: who moves them
 * @zapped: somebody else changed the range meanwhile; map_lock
 * @args: for migrate_vma_*(); its vma is NULL in evictions
 * @nr: pages of the range
 * @chunk: to the device: first pfn when a chunk was taken for the range, or 0
 * @nr_single: pages taken one by one, when no chunk was
 * @single: their pfns
 * @op: direction
 * @nr_sg: entries of @sg
 * @next_pfn: the host page that would prolong the last entry
 * @host: DMA address, when there is one entry only
 * @nr_run: entries of @run
 * @nr_zero: entries of @zero
 * @copying: @copied will be signalled
 * @error: why not everything was copied, or 0
 * @copied: signalled when the copy has ended
 * @src: pages that are moved, as migrate_vma_*() have them
 * @dst: where to
 * @map: translation of each page: address, GM_MAP_* and MOVE_MAP; 0 for none
 * @sg: pieces of host memory
 * @run: pieces of device memory that @sg goes to or comes from
 * @zero: pieces of device memory to be zeroed
 * @seg: what the copy engine is told
 */
struct move {
	struct list_head link;
	struct gm_dev *gdev;
	struct svm *svm;
	struct task_struct *task;
	bool zapped;
	struct migrate_vma args;
	unsigned int nr;
	unsigned long chunk;
	unsigned int nr_single;
	unsigned long single[CHUNK_WORTH];
	enum gm_copy_op op;
	unsigned int nr_sg;
	unsigned long next_pfn;
	dma_addr_t host;
	unsigned int nr_run;
	unsigned int nr_zero;
	bool copying;
	int error;
	struct gm_fence copied;
	unsigned long src[CHUNK_PAGES];
	unsigned long dst[CHUNK_PAGES];
	u64 map[CHUNK_PAGES];
	struct scatterlist sg[CHUNK_PAGES];
	struct gm_copy run[CHUNK_PAGES];
	struct gm_copy zero[CHUNK_PAGES];
	struct gm_copy seg[CHUNK_PAGES];
};

static inline u64 dmem_addr(const struct gm_dev *gdev, const struct page *page)
{
	return (u64)(page_to_pfn(page) - gdev->first_pfn) << PAGE_SHIFT;
}

/* The pages that were reserved for a move: pfn and device address. */
static inline unsigned long dmem_pfn(const struct move *m, unsigned int i)
{
	return m->chunk ? m->chunk + i : m->single[i];
}

static inline u64 dmem_reserved_addr(const struct move *m, unsigned int i)
{
	return (u64)(dmem_pfn(m, i) - m->gdev->first_pfn) << PAGE_SHIFT;
}

static inline struct svm *to_svm(struct gm_context *gm)
{
	return container_of(gm, struct svm, gm);
}

/* dmem.c */
int dmem_init(struct gm_dev *gdev);
void dmem_exit(struct gm_dev *gdev);
int dmem_reserve(struct move *m, unsigned int offset);
unsigned long dmem_take(struct move *m, unsigned int i);
void dmem_unreserve(struct move *m, unsigned int i);
struct dmem_chunk *dmem_oldest(struct gm_dev *gdev);
void dmem_evicted(struct gm_dev *gdev, struct dmem_chunk *chunk);
bool dmem_scarce(struct gm_dev *gdev);

/* move.c */
struct move *move_get(struct gm_dev *gdev);
void move_put(struct move *m);
void move_free_all(struct gm_dev *gdev);
void move_begin(struct move *m, enum gm_copy_op op, unsigned int nr);
void move_add(struct move *m, struct page *host, u64 dev);
void move_add_zero(struct move *m, u64 dev);
int move_zero(struct move *m);
void move_start(struct move *m);
int move_wait(struct move *m);

/* in.c */
int in_start(struct move *m, struct svm *svm, struct vm_area_struct *vma,
	     unsigned long start, unsigned long end);
int in_show(struct move *m);
void in_drop(struct move *m);
bool in_wanted(struct vm_area_struct *vma);
int in_prefetch(struct svm *svm, unsigned long start, unsigned long end);

/* out.c */
vm_fault_t out_fault(struct vm_fault *vmf);
int out_prefetch(struct svm *svm, unsigned long start, unsigned long end);
int out_evict(struct gm_dev *gdev);
void out_evict_work(struct work_struct *work);
void out_evict_all(struct gm_dev *gdev);

/* svm.c */
unsigned int svm_run(const u64 *map, unsigned int nr);
int svm_map(struct svm *svm, unsigned long start, const u64 *map,
	    unsigned int nr);
int svm_map_prepare(struct svm *svm, unsigned long start, const u64 *map,
		    unsigned int nr);

/* door.c */
int door_open(struct gm_dev *gdev);
void door_close(struct gm_dev *gdev);

/* hmm.c */
void gdev_put(struct gm_dev *gdev);

#endif /* NPU_HMM_H */
