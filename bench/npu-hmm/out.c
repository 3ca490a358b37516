// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: device to host.
 *
 * What makes it fast: a fault of the CPU brings 64 KiB home, or 2 MiB where the
 * program asked for huge pages.  When all pages of a range that is a power of
 * two come, their host memory is one allocation, split: one call of the
 * allocator and one piece for the DMA API.  (A huge page it cannot become:
 * migrate_vma in 6.12 knows single pages only.)  The engine copies while
 * migrate_vma_pages() runs and while a prefetch sets up the next batch.
 * Eviction takes a chunk of 2 MiB at a time, by migrate_device_range(), which
 * needs neither the process nor its addresses, and runs ahead of need in a
 * worker.
 */
#include <linux/gfp.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "hmm.h"

/* A hole is marked to be migrated as well, so that it could be filled. */
static bool out_moves(const struct move *m, unsigned int i)
{
	const unsigned long both = MIGRATE_PFN_VALID | MIGRATE_PFN_MIGRATE;

	return (m->src[i] & both) == both;
}

static unsigned int out_count(const struct move *m)
{
	unsigned int i, count = 0;

	for (i = 0; i < m->nr; i++)
		count += out_moves(m, i);
	return count;
}

static void out_set_dst(struct move *m, unsigned int i, struct page *page)
{
	lock_page(page);
	m->dst[i] = migrate_pfn(page_to_pfn(page));
}

static bool out_alloc_together(struct move *m)
{
	unsigned int order = ilog2(m->nr), i;
	struct page *page;

	/* What there is of it; who wants more can have single pages. */
	page = alloc_pages((GFP_HIGHUSER_MOVABLE | __GFP_NOWARN |
			    __GFP_NOMEMALLOC) & ~__GFP_RECLAIM, order);
	if (!page)
		return false;
	split_page(page, order);
	for (i = 0; i < m->nr; i++)
		out_set_dst(m, i, page + i);
	return true;
}

/* Host pages for all that comes; where there is none, the page stays. */
static void out_alloc(struct move *m)
{
	struct page *page;
	unsigned int i;

	if (m->nr > 1 && is_power_of_2(m->nr) && out_count(m) == m->nr &&
	    out_alloc_together(m))
		return;
	for (i = 0; i < m->nr; i++) {
		m->dst[i] = 0;
		if (!out_moves(m, i))
			continue;
		page = alloc_page(GFP_HIGHUSER_MOVABLE);
		if (page)
			out_set_dst(m, i, page);
	}
}

/* The pages of m->src are locked and unmapped: copy them. */
static void out_start(struct move *m)
{
	struct page *from, *to;
	unsigned int i;

	out_alloc(m);
	move_begin(m, GM_COPY_FROM_DEV, m->nr);
	for (i = 0; i < m->nr; i++) {
		from = migrate_pfn_to_page(m->src[i]);
		to = migrate_pfn_to_page(m->dst[i]);
		if (to)
			move_add(m, to, dmem_addr(m->gdev, from));
	}
	move_start(m);
	if (m->args.vma)
		migrate_vma_pages(&m->args);
	else
		migrate_device_pages(m->src, m->dst, m->nr);
}

/* HMM has no way to say of pages that they are lost. */
static void out_lost(struct move *m)
{
	struct page *page;
	unsigned int i;

	dev_err_ratelimited(m->gdev->dev, "the device died, data is lost\n");
	for (i = 0; i < m->nr; i++) {
		page = migrate_pfn_to_page(m->dst[i]);
		if (page)
			clear_highpage(page);
	}
}

static int out_finish(struct move *m)
{
	unsigned int i;
	int ret;

	ret = move_wait(m);
	if (ret == -ENODEV && !m->args.vma)
		out_lost(m);
	else if (ret)
		for (i = 0; i < m->nr; i++)
			m->src[i] &= ~MIGRATE_PFN_MIGRATE;
	if (m->args.vma)
		migrate_vma_finalize(&m->args);
	else
		migrate_device_finalize(m->src, m->dst, m->nr);
	return ret;
}

static int out_setup(struct move *m, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end,
		     struct page *fault_page)
{
	int ret;

	m->nr = (end - start) >> PAGE_SHIFT;
	m->args = (struct migrate_vma) {
		.vma = vma,
		.start = start,
		.end = end,
		.src = m->src,
		.dst = m->dst,
		.pgmap_owner = m->gdev,
		.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = fault_page,
	};
	ret = migrate_vma_setup(&m->args);
	if (ret)
		return ret;
	return out_count(m) ? 0 : -ENODATA;
}

/* --- faults of the CPU ------------------------------------------------------------ */

/* Come home for a fault: the outcome for the page itself. */
static vm_fault_t out_fault_move(struct move *m, struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long size = vma->vm_flags & VM_HUGEPAGE ? SZ_2M : SZ_64K;
	unsigned long start, end, i;
	int ret;

	start = max(ALIGN_DOWN(vmf->address, size), vma->vm_start);
	end = min(ALIGN_DOWN(vmf->address, size) + size, vma->vm_end);
	ret = out_setup(m, vma, start, end, vmf->page);
	if (ret)
		return ret == -ENODATA ? 0 : VM_FAULT_SIGBUS;
	i = ((vmf->address & PAGE_MASK) - start) >> PAGE_SHIFT;
	out_start(m);
	ret = out_finish(m);
	if (ret)
		return VM_FAULT_SIGBUS;
	return m->src[i] & MIGRATE_PFN_VALID && !m->dst[i] ? VM_FAULT_OOM : 0;
}

/**
 * out_fault() - &dev_pagemap_ops.migrate_to_ram
 * @vmf: fault of the CPU on a page of the device
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0, also when the access is to be tried again; VM_FAULT_OOM; or
 * VM_FAULT_SIGBUS when the device failed.
 */
vm_fault_t out_fault(struct vm_fault *vmf)
{
	struct gm_dev *gdev = vmf->page->pgmap->owner;
	struct move *m = move_get(gdev);
	vm_fault_t ret;

	if (!m)
		return VM_FAULT_OOM;
	ret = out_fault_move(m, vmf);
	move_put(m);
	return ret;
}

/* --- prefetch ------------------------------------------------------------------ */

static int out_land(struct move *m)
{
	int ret = 0;

	if (m) {
		ret = out_finish(m);
		move_put(m);
	}
	return ret;
}

/**
 * out_prefetch() - bring a range home
 * @svm: whose
 * @start: first byte, page aligned
 * @end: end, page aligned
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0; -ENOMEM when a part of the range is not mapped or memory is short;
 * -EINTR; or a negative errno.
 */
int out_prefetch(struct svm *svm, unsigned long start, unsigned long end)
{
	struct move *m, *flight = NULL;
	struct vm_area_struct *vma;
	unsigned long next;
	int ret, error = 0;

	for (; start < end && !error; start = next) {
		vma = vma_lookup(svm->mm, start);
		if (!vma || fatal_signal_pending(current)) {
			error = vma ? -EINTR : -ENOMEM;
			break;
		}
		next = min3(end, vma->vm_end,
			    ALIGN_DOWN(start, CHUNK_SIZE) + CHUNK_SIZE);
		if (!in_wanted(vma))
			continue;
		m = move_get(svm->gdev);
		ret = m ? out_setup(m, vma, start, next, NULL) : -ENOMEM;
		if (!ret)
			out_start(m);
		error = out_land(flight);
		flight = ret ? NULL : m;
		if (ret && m)
			move_put(m);
		if (!error && ret != -ENODATA)
			error = ret;
		cond_resched();
	}
	ret = out_land(flight);
	return error ? error : ret;
}

/* --- eviction ---------------------------------------------------------------------- */

static int out_evict_chunk(struct move *m, struct dmem_chunk *chunk)
{
	struct gm_dev *gdev = m->gdev;
	unsigned long pfn = gdev->first_pfn +
			    (chunk - gdev->chunks) * CHUNK_PAGES;

	m->args.vma = NULL;
	m->nr = CHUNK_PAGES;
	migrate_device_range(m->src, pfn, CHUNK_PAGES);
	out_start(m);
	return out_finish(m);
}

/**
 * out_evict() - make room on the device
 * @gdev: device
 *
 * Context: Process context, no folio lock. Sleeps.
 * Return: 0 when it is worth to try again, or a negative errno.
 */
int out_evict(struct gm_dev *gdev)
{
	struct dmem_chunk *chunk;
	struct move *m;
	int ret;

	m = move_get(gdev);
	if (!m)
		return -ENOMEM;
	chunk = dmem_oldest(gdev);
	if (!chunk) {
		/* All are being evicted: theirs is room soon. */
		move_put(m);
		cond_resched();
		return 0;
	}
	ret = out_evict_chunk(m, chunk);
	dmem_evicted(gdev, chunk);
	move_put(m);
	return ret;
}

/**
 * out_evict_work() - keep some of the device's memory free
 * @work: &gm_dev.evict
 *
 * Context: Worker.
 */
void out_evict_work(struct work_struct *work)
{
	struct gm_dev *gdev = container_of(work, struct gm_dev, evict);
	unsigned int tries = gdev->nr_chunks;

	while (dmem_scarce(gdev) && tries-- && !out_evict(gdev))
		cond_resched();
}

/**
 * out_evict_all() - bring everything home
 * @gdev: device without contexts
 *
 * Context: Process context. Sleeps as long as host memory is short or somebody
 * holds a page.
 */
void out_evict_all(struct gm_dev *gdev)
{
	while (READ_ONCE(gdev->nr_free) < gdev->nr_chunks)
		if (out_evict(gdev))
			schedule_timeout_uninterruptible(1);
}
