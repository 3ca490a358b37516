// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: faults of the device.
 *
 * What makes it fast: a fault moves and maps all of the 2 MiB around it that
 * the VMA has, and the other faults of a batch that this has served are not
 * looked at again.  Only when the page could not move, or was on the device
 * already and merely lost its translation, hmm_range_fault() is asked: once for
 * the 2 MiB, with a fault requested for the one page, so that everything on the
 * device in the neighbourhood is mapped again with the same walk.
 */
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>

#include "hmm.h"

/* Attempts to move a page before it is mapped where it is, and in all. */
#define FAULT_MOVES	2
#define FAULT_TRIES	64

/**
 * struct svm_serving - a batch of faults
 * @svm: context
 * @faults: the batch
 * @nr: how many
 * @at: which one is being served
 * @answer: jobs wait for it
 * @start: first byte of what the last fault that was served has mapped
 * @end: end of it
 * @write: mapped for writing too
 */
struct svm_serving {
	struct svm *svm;
	struct gm_fault *faults;
	unsigned int nr;
	unsigned int at;
	bool answer;
	unsigned long start;
	unsigned long end;
	bool write;
};

static int svm_check(const struct vm_area_struct *vma, bool write)
{
	if (!vma || !(vma->vm_flags & VM_READ))
		return -EFAULT;
	if (write && !(vma->vm_flags & VM_WRITE))
		return -EPERM;
	return 0;
}

/* --- pages where they are ------------------------------------------------------- */

static void svm_dma_unmap(struct svm *svm, dma_addr_t dma)
{
	dma_unmap_page_attrs(svm->gdev->dev, dma, PAGE_SIZE, DMA_BIDIRECTIONAL,
			     DMA_ATTR_SKIP_CPU_SYNC);
}

/* Install what hmm_range_fault() found, unless it has changed since. */
static int svm_commit(struct svm *svm, struct move *m, unsigned long addr,
		      bool write, unsigned long seq)
{
	int ret;

	lockdep_assert_held(&svm->gm.map_lock[0]);
	if (mmu_interval_read_retry(&svm->notifier, seq))
		return -EAGAIN;
	ret = svm_map(svm, m->args.start, m->map, m->nr);
	/* It may be cached as it was before, read-only. */
	if (!ret && write)
		npu_mmu.tlb_invl(&svm->gm, addr, addr + PAGE_SIZE);
	return ret;
}

static int svm_commit_dev(struct svm *svm, struct move *m, unsigned long addr,
			  bool write, unsigned long seq)
{
	int ret;

	ret = svm_map_prepare(svm, m->args.start, m->map, m->nr);
	if (ret)
		return ret;
	mutex_lock(&svm->gm.map_lock[0]);
	ret = svm_commit(svm, m, addr, write, seq);
	mutex_unlock(&svm->gm.map_lock[0]);
	return ret;
}

/* The page is in host memory and stays there. */
static int svm_commit_host(struct svm *svm, struct move *m, unsigned long addr,
			   struct page *page, bool write, unsigned long seq)
{
	unsigned long vpn = addr >> PAGE_SHIFT;
	void *old = NULL;
	dma_addr_t dma;
	int ret;

	ret = xa_reserve(&svm->host, vpn, GFP_KERNEL);
	if (ret)
		return ret;
	dma = dma_map_page_attrs(svm->gdev->dev, page, 0, PAGE_SIZE,
				 DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
	if (dma_mapping_error(svm->gdev->dev, dma))
		return -EIO;
	m->map[vpn - (m->args.start >> PAGE_SHIFT)] =
		dma | MOVE_MAP | GM_MAP_HOST | (write ? GM_MAP_WRITE : 0);
	ret = svm_map_prepare(svm, m->args.start, m->map, m->nr);
	mutex_lock(&svm->gm.map_lock[0]);
	if (!ret)
		ret = svm_commit(svm, m, addr, write, seq);
	if (!ret) {
		/* The page is safe: who takes it away waits for the lock. */
		if (write)
			set_page_dirty(page);
		old = xa_store(&svm->host, vpn,
			       xa_mk_value(dma >> PAGE_SHIFT), 0);
	}
	mutex_unlock(&svm->gm.map_lock[0]);
	if (ret)
		svm_dma_unmap(svm, dma);
	else if (old)
		/* The same page, mapped read-only before. */
		svm_dma_unmap(svm, (dma_addr_t)xa_to_value(old) << PAGE_SHIFT);
	return ret;
}

/*
 * A page of the device that several processes have, or that is read-only for
 * another reason: core MM makes it writable, in host memory.
 */
static int svm_unshare(struct svm *svm, unsigned long addr)
{
	unsigned long pfn;
	struct hmm_range range = {
		.notifier = &svm->notifier,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
	};
	unsigned int tries = FAULT_TRIES;
	int ret;

	do {
		pfn = 0;
		range.notifier_seq = mmu_interval_read_begin(&svm->notifier);
		ret = hmm_range_fault(&range);
	} while (ret == -EBUSY && tries--);
	return ret && ret != -EBUSY ? ret : -EAGAIN;
}

/* Translations of what is on the device, from m->src to m->map. */
static void svm_translate(struct svm *svm, struct move *m)
{
	struct page *page;
	unsigned int i;

	for (i = 0; i < m->nr; i++) {
		m->map[i] = 0;
		if (!(m->src[i] & HMM_PFN_VALID))
			continue;
		page = hmm_pfn_to_page(m->src[i]);
		/* Those of other devices were not reported. */
		if (!is_device_private_page(page))
			continue;
		m->map[i] = dmem_addr(svm->gdev, page) | MOVE_MAP;
		if (m->src[i] & HMM_PFN_WRITE)
			m->map[i] |= GM_MAP_WRITE;
	}
}

/*
 * Have the page at @addr brought in if it is nowhere, and map what there is.
 * With @move, a page in host memory is worth another attempt to move it.
 */
static int svm_map_range(struct svm *svm, struct move *m, unsigned long addr,
			 bool write, bool move)
{
	unsigned long at = (addr - m->args.start) >> PAGE_SHIFT;
	struct hmm_range range = {
		.notifier = &svm->notifier,
		.start = m->args.start,
		.end = m->args.end,
		.hmm_pfns = m->src,
		.pfn_flags_mask = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
		.dev_private_owner = svm->gdev,
	};
	int ret;

	memset(m->src, 0, m->nr * sizeof(*m->src));
	m->src[at] = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0);
	range.notifier_seq = mmu_interval_read_begin(&svm->notifier);
	ret = hmm_range_fault(&range);
	if (ret)
		return ret == -EBUSY ? -EAGAIN : ret;
	if (write && !(m->src[at] & HMM_PFN_WRITE))
		return svm_unshare(svm, addr);
	svm_translate(svm, m);
	if (m->map[at])
		return svm_commit_dev(svm, m, addr, write, range.notifier_seq);
	if (move)
		return -EAGAIN;
	return svm_commit_host(svm, m, addr, hmm_pfn_to_page(m->src[at]),
			       write, range.notifier_seq);
}

/* --- faults ---------------------------------------------------------------------- */

/* Let the jobs go on.  Afterwards the faults may be those of another batch. */
static void svm_answer(struct svm_serving *s)
{
	if (s->answer)
		npu_fault_answer(&s->svm->gm, s->faults, s->nr);
	s->answer = false;
}

/* The device has the page.  Is it the last one that somebody waits for? */
static void svm_moved(struct svm_serving *s, struct move *m, bool write)
{
	/* All alike, or the next fault must look for itself. */
	if (svm_run(m->map, m->nr) == m->nr) {
		s->start = m->args.start;
		s->end = m->args.end;
		s->write = write;
	}
	if (s->at == s->nr - 1)
		svm_answer(s);
}

/* Move what is around the page: -ENODATA when the page itself stayed. */
static int svm_move_range(struct svm_serving *s, struct move *m,
			  struct vm_area_struct *vma, unsigned long addr,
			  bool write)
{
	u64 *at = &m->map[(addr - m->args.start) >> PAGE_SHIFT];
	int ret;

	ret = in_start(m, s->svm, vma, m->args.start, m->args.end);
	if (ret)
		return ret;
	ret = in_show(m);
	if (!ret && (!*at || (write && !(*at & GM_MAP_WRITE))))
		ret = -ENODATA;
	if (!ret)
		svm_moved(s, m, *at & GM_MAP_WRITE);
	in_drop(m);
	return ret;
}

/* One attempt: -EAGAIN, -ENOSPC and -EIO ask for another one. */
static int svm_fault_try(struct svm_serving *s, struct move *m,
			 unsigned long addr, bool write, bool move)
{
	struct vm_area_struct *vma = vma_lookup(s->svm->mm, addr);
	unsigned long start = ALIGN_DOWN(addr, CHUNK_SIZE);
	int ret;

	ret = svm_check(vma, write);
	if (ret)
		return ret;
	m->args.start = max(start, vma->vm_start);
	m->args.end = min(start + CHUNK_SIZE, vma->vm_end);
	m->nr = (m->args.end - m->args.start) >> PAGE_SHIFT;
	move = move && in_wanted(vma);
	if (move) {
		ret = svm_move_range(s, m, vma, addr, write);
		if (ret != -ENODATA)
			return ret;
	}
	return svm_map_range(s->svm, m, addr, write, move);
}

static int svm_fault(struct svm_serving *s, unsigned long addr, bool write)
{
	unsigned int tries, moves = FAULT_MOVES;
	struct svm *svm = s->svm;
	struct move *m;
	int ret = 0;

	m = move_get(svm->gdev);
	if (!m)
		return -ENOMEM;
	for (tries = 0; tries < FAULT_TRIES; tries++) {
		mmap_read_lock(svm->mm);
		ret = svm_fault_try(s, m, addr, write, moves > 0);
		mmap_read_unlock(svm->mm);
		if (ret == -ENOSPC) {
			ret = out_evict(svm->gdev);
		} else if (ret == -EIO) {
			moves = 0;
			ret = 0;
		} else if (ret == -EAGAIN) {
			moves -= moves > 0;
			ret = 0;
		} else {
			break;
		}
		if (fatal_signal_pending(current))
			ret = -EINTR;
		if (ret)
			break;
		cond_resched();
	}
	move_put(m);
	/* After too many attempts the device may ask again. */
	return ret;
}

static int svm_fault_cmp(const void *a, const void *b)
{
	const struct gm_fault *fa = a, *fb = b;

	return (fa->addr > fb->addr) - (fa->addr < fb->addr);
}

static void svm_serve(struct svm_serving *s)
{
	struct mm_struct *mm = s->svm->mm;
	bool alive = mmget_not_zero(mm);
	struct gm_fault *fault;
	unsigned long addr;
	bool write;
	int ret;

	if (s->nr > 1)
		sort(s->faults, s->nr, sizeof(*s->faults), svm_fault_cmp, NULL);
	for (s->at = 0; s->at < s->nr; s->at++) {
		fault = &s->faults[s->at];
		addr = fault->addr & PAGE_MASK;
		write = fault->flags & GM_FAULT_WRITE;
		fault->error = alive ? 0 : -ESRCH;
		ret = 0;
		if (alive && (addr < s->start || addr >= s->end ||
			      write > s->write))
			ret = svm_fault(s, addr, write);
		/* The answer may have been sent, with no error in it. */
		if (ret)
			fault->error = ret;
	}
	svm_answer(s);
	if (alive)
		mmput(mm);
}

/**
 * npu_gmem_serve() - serve faults that jobs of a context took
 * @ctx: context
 * @faults: faults; sorted in place, the outcome of each is in its error
 * @nr: how many
 *
 * The jobs are answered by npu_fault_answer().
 *
 * Context: Worker, no locks. Sleeps.
 */
void npu_gmem_serve(struct npu_ctx *ctx, struct gm_fault *faults,
		    unsigned int nr)
{
	struct svm_serving s = {
		.svm = to_svm(ctx->gm),
		.faults = faults,
		.nr = nr,
		.answer = true,
	};

	svm_serve(&s);
}

/**
 * npu_gmem_touch() - make one page accessible ahead of any job
 * @ctx: context
 * @addr: any byte of the page
 * @write: for writing too
 *
 * Context: Process context, file->sem held for reading. Sleeps.
 * Return: 0, or the errno with which a job would end.
 */
int npu_gmem_touch(struct npu_ctx *ctx, unsigned long addr, bool write)
{
	struct gm_fault fault = {
		.addr = addr,
		.flags = write ? GM_FAULT_WRITE : 0,
	};
	struct svm_serving s = {
		.svm = to_svm(ctx->gm),
		.faults = &fault,
		.nr = 1,
	};

	svm_serve(&s);
	return fault.error;
}
