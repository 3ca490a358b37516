/* SPDX-License-Identifier: GPL-2.0 */
/*
 * GMEM: one memory-management framework for CPUs and accelerators.
 *
 * This header is what a device driver needs.  A driver fills in a
 * &struct gm_mmu, creates a device, registers the device's memory, attaches
 * processes and answers device page faults with gm_dev_fault().  Placement,
 * migration, coherence with the CPU, eviction and lifetime are GMEM's work.
 * Documentation/gmem/driver-guide.rst goes through a driver line by line.
 *
 * Vocabulary: a range is [@start, @end) with @end exclusive, in bytes unless a
 * name ends in pfn or vpn.  A page is PAGE_SIZE bytes; an @order is the binary
 * logarithm of a number of pages.  A device address counts bytes from the
 * start of the device's own memory as the device itself addresses it.
 */
#ifndef _LINUX_GMEM_H
#define _LINUX_GMEM_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct device;
struct gm_as;
struct gm_context;
struct gm_dev;

/**
 * struct gm_fence - completion of one asynchronous device operation
 * @done: completed by gm_fence_signal()
 * @error: what gm_fence_signal() was given; valid once @done completed
 *
 * Belongs to the caller of the operation, mostly on its stack.
 */
struct gm_fence {
	struct completion done;
	int error;
};

/**
 * gm_fence_signal() - report that a device operation ended
 * @fence: fence handed to the operation
 * @error: 0, or the negative errno with which the operation failed
 *
 * The driver must not touch @fence afterwards.
 *
 * Context: Any context.
 */
void gm_fence_signal(struct gm_fence *fence, int error);

#define GM_MAP_WRITE	BIT(0)	/* the device may write */
#define GM_MAP_HOST	BIT(1)	/* @addr is a DMA address, not device memory */

/**
 * struct gm_map - one translation to install
 * @va: virtual address, aligned to the size
 * @addr: device address, or DMA address with %GM_MAP_HOST; aligned to the size
 * @order: size in pages, one of the sizes in &gm_mmu.pgsize_bitmap
 * @flags: GM_MAP_*
 */
struct gm_map {
	unsigned long va;
	u64 addr;
	unsigned int order;
	unsigned int flags;
};

/**
 * struct gm_range - a range of virtual addresses
 * @start: first byte
 * @end: first byte after the range
 */
struct gm_range {
	unsigned long start;
	unsigned long end;
};

/**
 * enum gm_copy_op - what a copy engine does
 * @GM_COPY_TO_DEV: read host memory, write device memory
 * @GM_COPY_FROM_DEV: read device memory, write host memory
 * @GM_COPY_ZERO: write zeros to device memory; &gm_copy.host is unused
 * @GM_COPY_LOCAL: read and write device memory
 */
enum gm_copy_op {
	GM_COPY_TO_DEV,
	GM_COPY_FROM_DEV,
	GM_COPY_ZERO,
	GM_COPY_LOCAL,
};

/**
 * struct gm_copy - one contiguous piece of a copy
 * @host: DMA address; of %GM_COPY_LOCAL the device address to read
 * @dev: device address; of %GM_COPY_LOCAL the one to write
 * @len: bytes, a multiple of PAGE_SIZE
 */
struct gm_copy {
	dma_addr_t host;
	u64 dev;
	size_t len;
};

/**
 * struct gm_mmu - what a device driver implements
 *
 * One constant instance a driver; gm_dev_create() checks that the required
 * members are there.  "Map lock" is the lock of the context's device page
 * table: the core holds it, so that the calls under it never overlap for one
 * context, unless the driver allows that (@map_concurrent).  It is taken inside
 * MMU notifiers, where @tlb_invl is called as well.  That and the members under
 * the map lock must therefore not allocate memory that can enter reclaim, nor
 * take a lock that is held while somebody does, and must not wait for a page
 * fault or for a job of the device.
 */
struct gm_mmu {
	/**
	 * @pgsize_bitmap: Page sizes that @peer_map takes, in bytes.  Required;
	 * must contain PAGE_SIZE.  The core uses PAGE_SIZE, 64 KiB and 2 MiB
	 * and ignores other bits.
	 */
	unsigned long pgsize_bitmap;

	/**
	 * @map_concurrent: The members under the map lock may be called at the
	 * same time for one context, for different 2 MiB of addresses.
	 *
	 * Optional.  A call is then either for a range within 2 MiB, aligned,
	 * of which no other is, or has the device page table for itself.  For
	 * drivers whose tables of 2 MiB can be changed independently; threads
	 * of one process then need not wait for each other.
	 */
	bool map_concurrent;

	/**
	 * @pmap_create: Make an empty device page table for @ctx, to be kept
	 * in &gm_context.pmap.
	 *
	 * Required.  Called once from gm_as_attach(), without locks.  May
	 * sleep and allocate.
	 *
	 * Return: 0, or a negative errno that gm_as_attach() passes on.
	 */
	int (*pmap_create)(struct gm_context *ctx);

	/**
	 * @pmap_destroy: Free the device page table of @ctx.
	 *
	 * Required.  Called once from gm_as_detach(), without locks, after the
	 * last @peer_unmap and @tlb_invl of @ctx.  May sleep.
	 */
	void (*pmap_destroy)(struct gm_context *ctx);

	/**
	 * @pmap_prepare: Make sure that @peer_map of any page of at least
	 * 1 << @order pages within [@start, @end) will need no memory, until
	 * @pmap_destroy.
	 *
	 * Required.  Called before a fault or a migration makes a block busy,
	 * with the mmap lock or a VMA lock held for reading; concurrent with
	 * itself and with every other member of the same context, so a driver
	 * needs a lock of its own here.  May sleep and allocate.  Idempotent.
	 *
	 * Return: 0, or -ENOMEM: the fault then fails with -ENOMEM.
	 */
	int (*pmap_prepare)(struct gm_context *ctx, unsigned long start,
			    unsigned long end, unsigned int order);

	/**
	 * @peer_map: Make @nr translations valid, replacing what was there at
	 * the same addresses; several smaller pages may be replaced by a
	 * larger one and never the reverse without @peer_unmap and @tlb_invl.
	 *
	 * Required.  Called under the map lock, after @pmap_prepare of the
	 * ranges.  May sleep, must not allocate.  Idempotent.
	 *
	 * Return: 0, or a negative errno after which none of @maps translates
	 * (the core has the range unmapped and invalidated and the fault fails
	 * with that errno; no data is lost).
	 */
	int (*peer_map)(struct gm_context *ctx, const struct gm_map *maps,
			unsigned int nr);

	/**
	 * @peer_unmap: Remove every translation that overlaps [@start, @end).
	 * A page that only partly lies in the range is removed whole.
	 *
	 * Required.  Called under the map lock.  May sleep, must not
	 * allocate, cannot fail.  Idempotent; the range may be
	 * empty of translations and as large as the address space.  The device
	 * may go on using cached translations until @tlb_invl.
	 */
	void (*peer_unmap)(struct gm_context *ctx, unsigned long start,
			   unsigned long end);

	/**
	 * @pmap_protect: Make every translation that overlaps [@start, @end)
	 * read-only.
	 *
	 * Required.  As @peer_unmap.
	 */
	void (*pmap_protect)(struct gm_context *ctx, unsigned long start,
			     unsigned long end);

	/**
	 * @tlb_invl: Forget cached translations for [@start, @end).  On return
	 * no access through a forgotten translation is in progress or will
	 * happen.
	 *
	 * Required.  Called after @peer_unmap and @pmap_protect, and after a
	 * @peer_map that gives the right to write, with or without the map
	 * lock.  Concurrent with itself and with every other member of the
	 * same context but @pmap_create and @pmap_destroy, so a driver needs a
	 * lock of its own here.  May sleep, must not allocate, and completes
	 * even when every queue of the device is stalled on a page fault.
	 * Cannot fail: a driver whose device does not answer in time resets
	 * the context, which forgets everything too.
	 */
	void (*tlb_invl)(struct gm_context *ctx, unsigned long start,
			 unsigned long end);

	/**
	 * @tlb_invl_coalesced: As @tlb_invl, for @nr ranges in one command.
	 *
	 * Optional; @tlb_invl is called for each range when it is absent.
	 */
	void (*tlb_invl_coalesced)(struct gm_context *ctx,
				   const struct gm_range *ranges,
				   unsigned int nr);

	/**
	 * @harvest_accessed: Has the device used a page of [@start, @end)
	 * since this was last asked with @clear?
	 *
	 * Optional.  Reclaim asks it about host pages that are mapped for the
	 * device; without it, or when the answer is no, a page that the CPU
	 * does not use either is taken away and the device faults.  Called
	 * under the map lock and, other than all the rest, a page table lock:
	 * must not sleep, allocate or wait for the device.  With @clear a later
	 * use must be found again: when cached translations hide it, the
	 * driver starts an invalidation that nobody waits for.  A use that is
	 * not found costs time, never data.
	 *
	 * Return: true when it has.  For what is not mapped, false.
	 */
	bool (*harvest_accessed)(struct gm_context *ctx, unsigned long start,
				 unsigned long end, bool clear);

	/**
	 * @copy: Start copying @nr pieces on an engine of @gdev.  @segs is only
	 * valid during the call; the host side is mapped for DMA, both ways,
	 * until @fence is signalled.
	 *
	 * Required.  Called by several threads at once, while blocks are busy,
	 * never under the map lock.  May sleep, must not allocate memory that
	 * can enter reclaim.  Progresses even when every queue of the device
	 * is stalled on a page fault.
	 *
	 * Return: 0 when @fence will be signalled, in bounded time whatever
	 * the device does (a driver whose engine hangs resets it and signals
	 * -EIO); or a negative errno when nothing was started.  On any error
	 * the core keeps using the source; the destination is given up.
	 * -ENODEV, here or in @fence, says that the device is gone for good
	 * with all that its memory held.
	 */
	int (*copy)(struct gm_dev *gdev, enum gm_copy_op op,
		    const struct gm_copy *segs, unsigned int nr,
		    struct gm_fence *fence);
};

/* The device can replay an access after the fault was served. */
#define GM_DEV_CAP_REPLAYABLE	BIT(0)

/**
 * gm_dev_create() - make a device known to GMEM
 * @dev: the device that does the DMA; host memory is mapped for it
 * @mmu: operations, which must stay in place until gm_dev_destroy()
 * @caps: GM_DEV_CAP_*; %GM_DEV_CAP_REPLAYABLE is required
 * @drvdata: for the driver, see gm_dev_drvdata()
 *
 * Context: Process context, no locks. May sleep.
 * Return: the device, or an ERR_PTR(): -EINVAL when a required operation is
 * missing or pgsize_bitmap lacks PAGE_SIZE, -EOPNOTSUPP for capabilities GMEM
 * cannot work with, -ENOMEM.
 */
struct gm_dev *gm_dev_create(struct device *dev, const struct gm_mmu *mmu,
			     unsigned long caps, void *drvdata);

/**
 * gm_dev_destroy() - the reverse of gm_dev_create()
 * @gdev: device, without contexts; NULL does nothing
 *
 * Memory that is still registered is unregistered, see
 * gm_dev_unregister_physmem().
 *
 * Context: Process context, no locks. Sleeps, cannot fail.
 */
void gm_dev_destroy(struct gm_dev *gdev);

/**
 * gm_dev_drvdata() - the driver's pointer of a device
 * @gdev: device
 *
 * Context: Any context.
 * Return: @drvdata of gm_dev_create().
 */
void *gm_dev_drvdata(const struct gm_dev *gdev);

/**
 * gm_dev_register_physmem() - give device memory to GMEM
 * @gdev: device
 * @base: device address of the first byte, aligned to 2 MiB
 * @size: bytes, a multiple of 2 MiB
 *
 * The memory becomes an hnode: a node with an allocator, eviction and a
 * directory /sys/kernel/mm/gmem/hnodeN.  The CPU never accesses it; data goes
 * in and out by &gm_mmu.copy.  A device has one such memory.
 *
 * Context: Process context, no locks. May sleep.
 * Return: the hnode id (1024 or more), or -EINVAL, -EBUSY (registered already),
 * -ENOSPC (no id is free) or -ENOMEM.
 */
int gm_dev_register_physmem(struct gm_dev *gdev, u64 base, u64 size);

/**
 * gm_dev_unregister_physmem() - take device memory back
 * @gdev: device, with no gm_dev_fault() under way; without registered memory
 *        nothing happens
 *
 * Brings everything in the memory home first, into host memory, in every
 * process.  &gm_mmu.copy is needed until this returns.  When the copy engines
 * no longer work, the pages that only this device had are lost and marked:
 * who touches one gets SIGBUS.
 *
 * Context: Process context, no locks. Sleeps as long as host memory is short.
 */
void gm_dev_unregister_physmem(struct gm_dev *gdev);

/**
 * gm_as_create() - the address space object of a process
 * @mm: its mm; the caller keeps a reference
 *
 * Context: Process context, no locks. May sleep.
 * Return: a reference on the one gm_as of @mm, or an ERR_PTR(): -ENOMEM.
 */
struct gm_as *gm_as_create(struct mm_struct *mm);

/**
 * gm_as_destroy() - drop a reference that gm_as_create() returned
 * @as: address space; NULL does nothing
 *
 * Context: Process context. May sleep.
 */
void gm_as_destroy(struct gm_as *as);

/* Only memory that was shared on purpose; others fault with -EFAULT. */
#define GM_ATTACH_STRICT	BIT(0)

#define GM_DEFERRED_RANGES	8

/* Locks of a device page table; lockdep tells eight of a kind apart. */
#define GM_MAP_LOCKS		8

/**
 * struct gm_context - a device attached to an address space
 * @gdev: the device
 * @as: the address space
 * @pmap: the driver's device page table
 * @drvdata: for the driver
 *
 * Everything below is GMEM's.
 */
struct gm_context {
	struct gm_dev *gdev;
	struct gm_as *as;
	void *pmap;
	void *drvdata;

	/* private: */
	unsigned int flags;
	bool dead;			/* map_lock: no new translations */
	struct list_head as_link;	/* as->ctx_sem */
	unsigned long born;		/* count of contexts before it */
	struct list_head dev_link;	/* gdev->lock */

	struct mutex map_lock[GM_MAP_LOCKS];	/* see gm_ctx_lock() */
	unsigned long prepared;		/* see gm_ctx_prepare() */

	/* Range invalidation in progress, as KVM counts it. */
	struct mmu_notifier notifier;
	spinlock_t inval_lock;		/* the state of invalidations */
	unsigned int inval_active;	/* inval_lock */
	unsigned long inval_start;	/* inval_lock: union of all active */
	unsigned long inval_end;	/* inval_lock */
	wait_queue_head_t inval_wait;

	/* Invalidation put off because the notifier must not sleep. */
	struct work_struct inval_work;
	struct gm_range deferred[GM_DEFERRED_RANGES];	/* inval_lock */
	unsigned int nr_deferred;			/* inval_lock */

	struct xarray windows;		/* host pages mapped for the device */
	atomic_long_t faults;
};

/**
 * gm_as_attach() - attach a device to an address space
 * @as: address space
 * @gdev: device
 * @flags: GM_ATTACH_*
 * @drvdata: becomes &gm_context.drvdata before &gm_mmu.pmap_create is called
 *
 * Context: Process context, no locks, the mm of @as is alive. May sleep.
 * Return: the context, or an ERR_PTR(): -EINVAL, -ESRCH when the process is
 * exiting, -ENODEV when the device is going away, -ENOMEM, or the errno of
 * &gm_mmu.pmap_create.
 */
struct gm_context *gm_as_attach(struct gm_as *as, struct gm_dev *gdev,
				unsigned int flags, void *drvdata);

/**
 * gm_as_detach() - detach a device from an address space
 * @ctx: context; NULL does nothing
 *
 * The driver has made sure that no job of @ctx runs and that no
 * gm_dev_fault() is under way.  Pages stay where they are: data that lives on
 * the device comes home when the CPU touches it.
 *
 * Context: Process context, no locks. Sleeps, cannot fail.
 */
void gm_as_detach(struct gm_context *ctx);

#define GM_FAULT_WRITE		BIT(0)

/**
 * struct gm_fault - one device page fault
 * @addr: faulting virtual address, any byte of the page
 * @flags: GM_FAULT_*
 * @error: out: what gm_dev_fault() would have returned
 */
struct gm_fault {
	unsigned long addr;
	unsigned int flags;
	int error;
};

/**
 * gm_dev_fault() - serve a device page fault
 * @ctx: context of the faulting job
 * @addr: faulting virtual address, any byte of the page
 * @flags: GM_FAULT_*
 *
 * On success the page was mapped for the device, and the driver replays the
 * access.  The mapping may be gone again by then: the device faults again.
 *
 * Context: Process context, mostly a worker; no locks that a member of
 * &struct gm_mmu takes, no mmap lock. Sleeps.
 * Return: 0; -EFAULT for a hole, PROT_NONE or memory the context may not
 * share; -EPERM for a write to a read-only range; -ESRCH when the process
 * exited; -ENOMEM; -EHWPOISON when the data is lost; or what
 * &gm_mmu.peer_map returned.  With any error the driver ends the job.
 */
int gm_dev_fault(struct gm_context *ctx, unsigned long addr,
		 unsigned int flags);

/**
 * typedef gm_fault_done_t - faults were served, the jobs can go on
 * @ctx: as given to gm_dev_fault_batch()
 * @faults: all of them, with the outcome of each in its error
 * @nr: how many
 *
 * What remains to be done is freeing host memory, which no job needs to wait
 * for.  GMEM is done with @faults: they may be used for other faults at once.
 *
 * Context: That of gm_dev_fault_batch(), without locks. May sleep.
 */
typedef void (*gm_fault_done_t)(struct gm_context *ctx,
				struct gm_fault *faults, unsigned int nr);

/**
 * gm_dev_fault_batch() - serve several device page faults
 * @ctx: context of the faulting jobs
 * @faults: faults, which are sorted by address in place
 * @nr: how many
 * @done: called once, for the driver to replay or to end the jobs, or NULL when
 *	  it does so afterwards
 *
 * Takes the process's locks once and serves faults to the same piece of memory
 * together. The outcome of each is in its @error.  @ctx must stay until this
 * has returned.
 *
 * Context: As gm_dev_fault().
 */
void gm_dev_fault_batch(struct gm_context *ctx, struct gm_fault *faults,
			unsigned int nr, gm_fault_done_t done);

#endif /* _LINUX_GMEM_H */
