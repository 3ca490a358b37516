// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: host to device.
 *
 * What makes it fast: one migrate_vma for up to 2 MiB.  While the engine
 * copies, migrate_vma_pages() runs, and a prefetch already sets up the next
 * batch.  The translations of the device are installed between
 * migrate_vma_pages() and migrate_vma_finalize(), from what this file knows
 * anyway, instead of by hmm_range_fault() afterwards, which would be one more
 * walk; a job that waits for them goes on before the host's pages are freed.
 * Device memory is taken before the pages are unmapped, so that an eviction
 * never makes them wait.
 *
 * Between the two the pages are locked, but MADV_DONTNEED can still zap the
 * migration entries; the page would be freed by migrate_vma_finalize() and the
 * device be left with a translation.  So svm.c marks moves whose range somebody
 * else invalidates, and what was marked is not mapped: the device faults again.
 */
#include <linux/sched/signal.h>

#include "hmm.h"

static void in_watch(struct move *m)
{
	m->task = current;
	m->zapped = false;
	mutex_lock(&m->svm->gm.map_lock[0]);
	list_add(&m->link, &m->svm->moves);
	mutex_unlock(&m->svm->gm.map_lock[0]);
}

/* Choose what goes where; a page that does not move gives its place back. */
static void in_gather(struct move *m)
{
	struct migrate_vma *args = &m->args;
	struct page *from;
	unsigned int i;

	move_begin(m, GM_COPY_TO_DEV, m->nr);
	for (i = 0; i < m->nr; i++) {
		if (!(args->src[i] & MIGRATE_PFN_MIGRATE)) {
			dmem_unreserve(m, i);
			continue;
		}
		args->dst[i] = migrate_pfn(dmem_take(m, i));
		from = migrate_pfn_to_page(args->src[i]);
		if (from)
			move_add(m, from, dmem_reserved_addr(m, i));
		else
			move_add_zero(m, dmem_reserved_addr(m, i));
	}
}

/* A page that was not there may only come to be with zeros in it. */
static void in_drop_holes(struct move *m)
{
	unsigned int i;

	for (i = 0; i < m->nr; i++)
		if (!migrate_pfn_to_page(m->src[i]))
			m->src[i] &= ~MIGRATE_PFN_MIGRATE;
}

/**
 * in_start() - begin to move a range to the device
 * @m: move
 * @svm: whose
 * @vma: VMA of private anonymous memory
 * @start: first byte
 * @end: end; the range lies in @vma and in 2 MiB
 *
 * Context: mmap lock held for reading until in_drop(). Sleeps.
 * Return: 0, and in_show() must be called; -ENODATA when nothing can move;
 * -ENOSPC; or a negative errno.
 */
int in_start(struct move *m, struct svm *svm, struct vm_area_struct *vma,
	     unsigned long start, unsigned long end)
{
	struct migrate_vma *args = &m->args;
	unsigned int i;
	int ret;

	m->svm = svm;
	m->nr = (end - start) >> PAGE_SHIFT;
	ret = dmem_reserve(m, (start >> PAGE_SHIFT) % CHUNK_PAGES);
	if (ret)
		return ret;
	*args = (struct migrate_vma) {
		.vma = vma,
		.start = start,
		.end = end,
		.src = m->src,
		.dst = m->dst,
		.pgmap_owner = svm->gdev,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	in_watch(m);
	ret = migrate_vma_setup(args);
	if (ret || !args->cpages) {
		for (i = 0; i < m->nr; i++)
			dmem_unreserve(m, i);
		mutex_lock(&svm->gm.map_lock[0]);
		list_del(&m->link);
		mutex_unlock(&svm->gm.map_lock[0]);
		return ret ? ret : -ENODATA;
	}
	in_gather(m);
	move_start(m);
	if (move_zero(m))
		in_drop_holes(m);
	migrate_vma_pages(args);
	return 0;
}

/* What the device is to see: pages that moved, as writable as they were. */
static void in_translate(struct move *m)
{
	bool write = m->args.vma->vm_flags & VM_WRITE;
	unsigned int i;

	for (i = 0; i < m->nr; i++) {
		unsigned long src = m->src[i];
		u64 map = 0;

		if (src & MIGRATE_PFN_MIGRATE) {
			map = dmem_reserved_addr(m, i) | MOVE_MAP;
			if (src & MIGRATE_PFN_VALID ? src & MIGRATE_PFN_WRITE :
						      write)
				map |= GM_MAP_WRITE;
		}
		m->map[i] = map;
	}
}

static int in_map(struct move *m)
{
	struct svm *svm = m->svm;
	int ret;

	in_translate(m);
	ret = svm_map_prepare(svm, m->args.start, m->map, m->nr);
	mutex_lock(&svm->gm.map_lock[0]);
	list_del(&m->link);
	if (!ret && m->zapped)
		ret = -EAGAIN;
	if (!ret)
		ret = svm_map(svm, m->args.start, m->map, m->nr);
	mutex_unlock(&svm->gm.map_lock[0]);
	return ret;
}

/**
 * in_show() - wait for the data and let the device see it
 * @m: from in_start(); in_drop() must follow
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0 when all that moved is mapped for the device, see m->map; -EAGAIN
 * when it must fault again; or a negative errno.
 */
int in_show(struct move *m)
{
	unsigned int i;
	int ret, error;

	error = move_wait(m);
	/* The source is still there; migrate_vma_finalize() puts it back. */
	if (error)
		for (i = 0; i < m->nr; i++)
			if (m->src[i] & MIGRATE_PFN_VALID)
				m->src[i] &= ~MIGRATE_PFN_MIGRATE;
	ret = in_map(m);
	return error ? error : ret;
}

/**
 * in_drop() - give up what moved in host memory
 * @m: after in_show()
 *
 * Context: mmap lock held for reading. Sleeps.
 */
void in_drop(struct move *m)
{
	migrate_vma_finalize(&m->args);
}

/* --- prefetch ------------------------------------------------------------------ */

/* What was not mapped in the end the device can still fault for. */
static int in_land(struct move *m)
{
	int ret = 0;

	if (m) {
		ret = in_show(m);
		in_drop(m);
		move_put(m);
	}
	return ret == -EAGAIN ? 0 : ret;
}

/**
 * in_wanted() - can pages of a VMA move to the device?
 * @vma: VMA
 *
 * Context: mmap lock held for reading.
 * Return: true if its pages are anonymous.
 */
bool in_wanted(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma) &&
	       !(vma->vm_flags & (VM_SPECIAL | VM_HUGETLB));
}

/**
 * in_prefetch() - move a range to the device
 * @svm: whose
 * @start: first byte, page aligned
 * @end: end, page aligned
 *
 * Context: mmap lock held for reading. Sleeps.
 * Return: 0; -ENOMEM when a part of the range is not mapped or memory is short;
 * -EINTR; or a negative errno.
 */
int in_prefetch(struct svm *svm, unsigned long start, unsigned long end)
{
	struct move *m, *flight = NULL;
	struct vm_area_struct *vma;
	unsigned long next;
	int ret = 0, error = 0;

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
		ret = m ? in_start(m, svm, vma, start, next) : -ENOMEM;
		error = in_land(flight);
		flight = ret ? NULL : m;
		if (ret && m)
			move_put(m);
		if (ret == -ENOSPC) {
			ret = out_evict(svm->gdev);
			next = start;
		}
		if (!error && ret != -ENODATA)
			error = ret;
		cond_resched();
	}
	ret = in_land(flight);
	return error ? error : ret;
}
