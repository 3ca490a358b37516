// SPDX-License-Identifier: GPL-2.0
/*
 * Making room in device memory.
 *
 * Only the hnode's own thread evicts, so that a fault never touches another
 * process while it holds locks of its own.  Who finds no room drops every
 * lock, asks for a pass of the thread, and waits for its end or for room.  A
 * pass looks at each chunk that is in use at most once, oldest first, so it
 * ends whatever happens.  The first round takes what it can get without
 * waiting.  Only when that frees nothing, or leaves more in use than allowed,
 * does a second one wait for mmap locks, for a while, and for BUSY blocks, since
 * one process that is stuck must not keep the memory from all others.
 *
 * Evacuation is the same without end: rounds until nothing is left.
 */
#include <kunit/static_stub.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "gmem.h"

/* How often one run is tried before the next one has its turn. */
#define GM_EVICT_TRIES	3

/*
 * Jiffies of a round that go into waiting for mmap locks.  A process can keep its
 * own for as long as it likes, for example in mmap() of a file whose file system
 * does not answer.
 */
#define GM_EVICT_PATIENCE	(HZ / 5)

/*
 * One pass makes room for at most this part of the memory, however many wait:
 * what came in last must have a chance to be used before it goes.
 */
#define GM_EVICT_PART	4

/* Processes that share a run, looked up at a time. */
#define GM_SHARERS	8

/* --- one run --------------------------------------------------------------- */

/* Is there hope that @ret is different next time? */
static bool gm_evict_again(int ret, unsigned int flags)
{
	return (ret == -EAGAIN && !(flags & GM_RECALL_NOWAIT)) ||
	       (ret == -EIO && flags & GM_RECALL_POISON);
}

/* Recall what @vma has of the run at @vpn.  The last attempt may lose it. */
static int gm_evict_vma(struct vm_area_struct *vma, unsigned long vpn,
			unsigned int flags)
{
	unsigned long addr = vpn << PAGE_SHIFT;
	int tries = GM_EVICT_TRIES, ret;

	do {
		ret = gm_recall(vma, addr, flags & ~GM_RECALL_POISON,
				NUMA_NO_NODE);
	} while (--tries && gm_evict_again(ret, flags));
	if (ret == -EIO && flags & GM_RECALL_POISON)
		ret = gm_recall(vma, addr, flags, NUMA_NO_NODE);
	return ret == -ENOENT || ret == -EHWPOISON ? 0 : ret;
}

/* Is @loc a view of @run? */
static bool gm_loc_within(unsigned long loc, unsigned long run)
{
	return gm_loc_hnode(loc) == gm_loc_hnode(run) &&
	       gm_loc_dpfn(loc) - gm_loc_dpfn(run) < 1UL << gm_loc_order(run);
}

/**
 * struct gm_sharer - a range of an address space that may have pages of a run
 * @mm: address space, with a reference to the struct
 * @start: first byte
 * @end: end
 */
struct gm_sharer {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
};

/*
 * A range may lie over addresses that were unmapped since, and whose PTEs are
 * on their way out; those disappear by themselves.
 */
static int gm_evict_pages(const struct gm_sharer *s, unsigned long run,
			  unsigned int flags)
{
	unsigned long vpn = s->start >> PAGE_SHIFT;
	unsigned long last = (s->end >> PAGE_SHIFT) - 1;
	struct gm_as *as = READ_ONCE(s->mm->gm_as);
	struct vm_area_struct *vma;
	unsigned long first;
	int ret = 0, err;

	mmap_assert_locked(s->mm);
	if (!as)
		return 0;
	while (vpn <= last) {
		vpn = vm_object_next(&as->vmo, vpn, last);
		if (vpn > last)
			break;
		/* Not of this run, or not any more. */
		if (!gm_loc_within(vm_object_find(&as->vmo, vpn, &first),
				   run)) {
			vpn++;
			continue;
		}
		vma = find_vma(s->mm, vpn << PAGE_SHIFT);
		if (!vma)
			return -EAGAIN;
		if (vma->vm_start > vpn << PAGE_SHIFT) {
			vpn = vma->vm_start >> PAGE_SHIFT;
			ret = -EAGAIN;
			continue;
		}
		err = gm_evict_vma(vma, vpn, flags);
		if (err)
			return err;
		/* A whole block, or one page of several. */
		vpn++;
	}
	return ret;
}

/*
 * Wait for the mmap lock of a process, until the time of the round is over.  Who
 * has it for writing mostly gives it up in less time than a jiffy takes.
 */
static bool gm_evict_mmap_lock(const struct gm_hnode *hnode,
			       struct mm_struct *mm, unsigned int flags)
{
	unsigned long us = 10;

	while (!mmap_read_trylock(mm)) {
		if (flags & GM_RECALL_NOWAIT ||
		    time_after(jiffies, hnode->evict_until))
			return false;
		usleep_idle_range(us, 2 * us);
		us = min(2 * us, 2000UL);
	}
	return true;
}

static int gm_evict_sharer(const struct gm_sharer *s, unsigned long run,
			   unsigned int flags)
{
	int ret = -EAGAIN;

	if (!mmget_not_zero(s->mm))
		return -ESRCH;
	if (!gm_evict_mmap_lock(gm_loc_to_hnode(run), s->mm, flags))
		goto put;
	ret = gm_evict_pages(s, run, flags);
	mmap_read_unlock(s->mm);
put:
	/* The last user's exit_mmap() is not for this thread. */
	mmput_async(s->mm);
	return ret;
}

/*
 * Find the ranges that may have pages of a run, leaving out the first @skip.
 *
 * Return: how many, or -EAGAIN.
 */
static int gm_run_sharers(const struct gm_victim *victim, unsigned int flags,
			  struct gm_sharer *sharers, unsigned int skip)
{
	unsigned long pgoff = victim->pgoff;
	unsigned long last = pgoff + (1UL << gm_loc_order(victim->loc)) - 1;
	struct anon_vma_chain *avc;
	int nr = 0;

	if (!(flags & GM_RECALL_NOWAIT))
		anon_vma_lock_read(victim->anon_vma);
	else if (!anon_vma_trylock_read(victim->anon_vma))
		return -EAGAIN;
	anon_vma_interval_tree_foreach(avc, &victim->anon_vma->rb_root, pgoff,
				       last) {
		struct vm_area_struct *vma = avc->vma;
		unsigned long from = max(pgoff, vma->vm_pgoff);
		unsigned long end = min(last + 1,
					vma->vm_pgoff + vma_pages(vma));

		if (!READ_ONCE(vma->vm_mm->gm_as))
			continue;
		if (skip) {
			skip--;
			continue;
		}
		mmgrab(vma->vm_mm);
		sharers[nr].mm = vma->vm_mm;
		sharers[nr].start = vma->vm_start +
				    ((from - vma->vm_pgoff) << PAGE_SHIFT);
		sharers[nr].end = vma->vm_start +
				  ((end - vma->vm_pgoff) << PAGE_SHIFT);
		if (++nr == GM_SHARERS)
			break;
	}
	anon_vma_unlock_read(victim->anon_vma);
	return nr;
}

/**
 * gm_evict_run() - bring a run home, in whatever processes it is
 * @victim: from gm_hnode_victims(); its reference is dropped
 * @flags: GM_RECALL_*; without %GM_RECALL_NOWAIT it waits for locks and for
 * BUSY blocks; with %GM_RECALL_POISON what still cannot be read after several
 * attempts is lost
 *
 * Context: Process context without locks. Sleeps.
 * Return: 0 when the run is gone or about to go; -ESRCH when a process is
 * exiting; -EAGAIN; or an error of gm_recall().
 */
int gm_evict_run(struct gm_victim *victim, unsigned int flags)
{
	struct gm_sharer sharers[GM_SHARERS];
	unsigned int skip = 0;
	int ret = 0, err, nr, i;

	do {
		nr = gm_run_sharers(victim, flags, sharers, skip);
		if (nr < 0) {
			ret = nr;
			break;
		}
		for (i = 0; i < nr; i++) {
			err = gm_evict_sharer(&sharers[i], victim->loc, flags);
			ret = ret ?: err;
			mmdrop(sharers[i].mm);
		}
		skip += nr;
	} while (nr == GM_SHARERS);
	put_anon_vma(victim->anon_vma);
	return ret;
}

/* --- whom to evict ------------------------------------------------------------ */

static bool gm_victim_set(struct gm_victim *victim, struct gm_hnode *hnode,
			  const struct gm_chunk *chunk, unsigned long page,
			  unsigned int order)
{
	const struct gm_run *run = chunk->whole ? &chunk->run :
						  &chunk->parts[page];

	/* Dead, or not yet anybody's. */
	if (!run->views || !run->anon_vma)
		return false;

	/* A view is in a VMA, so the anon_vma is there. */
	get_anon_vma(run->anon_vma);
	victim->anon_vma = run->anon_vma;
	victim->pgoff = run->pgoff;
	victim->loc = gm_loc(hnode->index,
			     chunk->index * GM_CHUNK_PAGES + page, order);
	return true;
}

/**
 * gm_hnode_victims() - the runs of the oldest chunk
 * @hnode: hnode
 * @victims: out: runs, each with a reference to its anon_vma for
 * gm_evict_run()
 * @max: room in @victims; %GM_CHUNK_PAGES is always enough
 *
 * The chunk becomes the youngest, so that the next call picks another one.
 *
 * Context: Any context that may take spinlocks.
 * Return: how many, maybe 0; -ENOENT when nothing is in use.
 */
int gm_hnode_victims(struct gm_hnode *hnode, struct gm_victim *victims,
		     int max)
{
	struct gm_chunk *chunk;
	unsigned long page;
	int nr = 0;

	spin_lock(&hnode->lock);
	chunk = list_first_entry_or_null(&hnode->lru, struct gm_chunk, lru);
	if (!chunk) {
		nr = -ENOENT;
		goto unlock;
	}
	list_move_tail(&chunk->lru, &hnode->lru);
	if (chunk->whole) {
		nr = gm_victim_set(victims, hnode, chunk, 0, GM_ORDER_2M);
		goto unlock;
	}
	for_each_set_bit(page, chunk->head, GM_CHUNK_PAGES) {
		if (nr == max)
			break;
		nr += gm_victim_set(victims + nr, hnode, chunk, page,
				    test_bit(page, chunk->large) ?
				    GM_ORDER_64K : 0);
	}
unlock:
	spin_unlock(&hnode->lock);
	return nr;
}

/* --- passes --------------------------------------------------------------------- */

/* The largest run that somebody who wants @nr_pages will try to take. */
static unsigned int gm_want_order(unsigned long nr_pages)
{
	if (nr_pages >= GM_CHUNK_PAGES)
		return GM_ORDER_2M;
	return nr_pages >= 1UL << GM_ORDER_64K ? GM_ORDER_64K : 0;
}

/* Is there room for @nr_pages, in pieces that suit someone who wants @unit? */
static bool gm_hnode_fits(struct gm_hnode *hnode, unsigned long nr_pages,
			  unsigned long unit)
{
	unsigned int order = gm_want_order(unit);

	lockdep_assert_held(&hnode->lock);
	if (hnode->closing)
		return !hnode->used;
	return hnode->used + nr_pages <= hnode->limit &&
	       gm_buddy_nr_free(&hnode->buddy, order) << order >= nr_pages;
}

/*
 * Evict until there is room, or every chunk that was in use had its turn.
 *
 * Return: true when anything was freed meanwhile, by whomever.
 */
static bool gm_evict_round(struct gm_hnode *hnode, unsigned long nr_pages,
			   unsigned long unit, unsigned int flags)
{
	struct gm_victim *victims = hnode->victims;
	unsigned long chunks, freed;
	bool enough, progress;
	int i, nr;

	spin_lock(&hnode->lock);
	chunks = hnode->buddy.nr_chunks - hnode->buddy.free_chunks;
	freed = hnode->freed;
	enough = gm_hnode_fits(hnode, nr_pages, unit);
	spin_unlock(&hnode->lock);
	hnode->evict_until = jiffies + GM_EVICT_PATIENCE;

	for (; chunks && !enough; chunks--) {
		nr = gm_hnode_victims(hnode, victims, GM_CHUNK_PAGES);
		if (nr < 0)
			break;
		for (i = 0; i < nr; i++) {
			gm_evict_run(&victims[i], flags);
			cond_resched();
		}
		spin_lock(&hnode->lock);
		enough = gm_hnode_fits(hnode, nr_pages, unit);
		spin_unlock(&hnode->lock);
	}

	spin_lock(&hnode->lock);
	progress = enough || hnode->freed != freed;
	spin_unlock(&hnode->lock);
	return progress;
}

static bool gm_hnode_over(struct gm_hnode *hnode)
{
	bool over;

	spin_lock(&hnode->lock);
	over = hnode->used > hnode->limit;
	spin_unlock(&hnode->lock);
	return over;
}

/* Serve everybody who asked until now. */
static void gm_evict_pass(struct gm_hnode *hnode)
{
	const unsigned int flags = GM_RECALL_WHOLE | GM_RECALL_EVICT |
				   GM_RECALL_OPTIONAL;
	unsigned long want, unit;

	spin_lock(&hnode->lock);
	unit = min(hnode->evict_max, hnode->limit);
	want = min(hnode->evict_want, max(unit, hnode->limit / GM_EVICT_PART));
	hnode->evict_asked = false;
	hnode->evict_want = 0;
	hnode->evict_max = 0;
	hnode->evict_seq++;
	spin_unlock(&hnode->lock);

	/* A limit that was lowered has nobody who would ask again. */
	if (!gm_evict_round(hnode, want, unit, flags | GM_RECALL_NOWAIT) ||
	    gm_hnode_over(hnode))
		gm_evict_round(hnode, want, unit, flags);

	spin_lock(&hnode->lock);
	hnode->evict_seq++;
	wake_up(&hnode->space_wait);
	spin_unlock(&hnode->lock);
}

static bool gm_hnode_unused(struct gm_hnode *hnode)
{
	bool unused;

	spin_lock(&hnode->lock);
	unused = !hnode->used;
	spin_unlock(&hnode->lock);
	return unused;
}

/*
 * Rounds until nothing is left.  Whoever holds something up, a short host
 * memory or a process that is exiting, gets time in between.
 */
static void gm_evict_all(struct gm_hnode *hnode)
{
	while (!gm_hnode_unused(hnode)) {
		if (!gm_evict_round(hnode, 0, 0, GM_RECALL_WHOLE |
				    GM_RECALL_EVICT | GM_RECALL_POISON))
			schedule_timeout_idle(HZ / 50);
	}
}

/* --- the thread -------------------------------------------------------------------- */

static bool gm_evict_asked(struct gm_hnode *hnode)
{
	bool asked;

	spin_lock(&hnode->lock);
	asked = hnode->evict_asked;
	spin_unlock(&hnode->lock);
	return asked;
}

static int gm_evictor(void *data)
{
	struct gm_hnode *hnode = data;

	for (;;) {
		wait_event_idle(hnode->evict_wait, gm_evict_asked(hnode) ||
				kthread_should_stop());
		if (kthread_should_stop())
			break;
		gm_evict_pass(hnode);
		if (READ_ONCE(hnode->closing))
			gm_evict_all(hnode);
	}
	return 0;
}

/**
 * gm_evictor_start() - start the thread that makes room
 * @hnode: hnode with its id
 *
 * Context: Process context. Sleeps.
 * Return: 0, -ENOMEM or -EINTR.
 */
int gm_evictor_start(struct gm_hnode *hnode)
{
	struct task_struct *task;

	KUNIT_STATIC_STUB_REDIRECT(gm_evictor_start, hnode);

	hnode->victims = kvmalloc_array(GM_CHUNK_PAGES,
					sizeof(*hnode->victims), GFP_KERNEL);
	if (!hnode->victims)
		return -ENOMEM;
	task = kthread_run(gm_evictor, hnode, "gm_evict/%d", hnode->id);
	if (IS_ERR(task)) {
		kvfree(hnode->victims);
		return PTR_ERR(task);
	}
	hnode->evictor = task;
	return 0;
}

/**
 * gm_evictor_stop() - the reverse of gm_evictor_start()
 * @hnode: hnode of which nothing is in use
 *
 * Context: Process context. Sleeps.
 */
void gm_evictor_stop(struct gm_hnode *hnode)
{
	KUNIT_STATIC_STUB_REDIRECT(gm_evictor_stop, hnode);

	kthread_stop(hnode->evictor);
	kvfree(hnode->victims);
}

/* --- asking and waiting -------------------------------------------------------------- */

static void __gm_evict_ask(struct gm_hnode *hnode, unsigned long nr_pages)
{
	lockdep_assert_held(&hnode->lock);
	hnode->evict_want += nr_pages;
	hnode->evict_max = max(hnode->evict_max, nr_pages);
	hnode->evict_asked = true;
	wake_up(&hnode->evict_wait);
}

/**
 * gm_evict_ask() - have room made
 * @hnode: hnode
 * @nr_pages: for this many pages; 0 only to get below the limit
 *
 * Context: Any context that may take spinlocks; never sleeps.
 */
void gm_evict_ask(struct gm_hnode *hnode, unsigned long nr_pages)
{
	spin_lock(&hnode->lock);
	__gm_evict_ask(hnode, nr_pages);
	spin_unlock(&hnode->lock);
}

static bool gm_space_settled(struct gm_hnode *hnode, unsigned long nr_pages,
			     unsigned long seq)
{
	bool settled;

	spin_lock(&hnode->lock);
	settled = hnode->closing || (long)(hnode->evict_seq - seq) >= 0 ||
		  gm_hnode_fits(hnode, nr_pages, nr_pages);
	spin_unlock(&hnode->lock);
	return settled;
}

/**
 * gm_wait_for_space() - wait until a full device may have room again
 * @hnode: the caller has a reference, or a context of its device
 * @nr_pages: wanted
 *
 * Somebody else may take the room first, so a caller should not try for ever.
 *
 * Context: Process context, no locks at all. Sleeps.
 * Return: 0 when there may be room; -ENOSPC when all that could be evicted made
 * none, the limit allows none or the device is going away; -EINTR when the
 * caller is being killed.
 */
int gm_wait_for_space(struct gm_hnode *hnode, unsigned long nr_pages)
{
	unsigned long seq, freed;
	bool wait;
	int ret;

	might_sleep();
	spin_lock(&hnode->lock);
	if (hnode->closing || nr_pages > hnode->limit) {
		spin_unlock(&hnode->lock);
		return -ENOSPC;
	}
	/* The end of the first pass that has not begun yet. */
	seq = (hnode->evict_seq + 3) & ~1UL;
	freed = hnode->freed;
	wait = !gm_hnode_fits(hnode, nr_pages, nr_pages);
	if (wait)
		__gm_evict_ask(hnode, nr_pages);
	spin_unlock(&hnode->lock);
	if (!wait)
		return 0;

	ret = wait_event_killable(hnode->space_wait,
				  gm_space_settled(hnode, nr_pages, seq));
	if (ret)
		return -EINTR;

	spin_lock(&hnode->lock);
	if (hnode->closing || (hnode->freed == freed &&
			       !gm_hnode_fits(hnode, nr_pages, nr_pages)))
		ret = -ENOSPC;
	spin_unlock(&hnode->lock);
	return ret;
}

/**
 * gm_hnode_evacuate() - bring everything home, for good
 * @hnode: hnode, which hands out nothing from now on
 *
 * Waits for processes whose host memory is short.  What the device cannot give
 * back any more is lost and marked so.
 *
 * Context: Process context, no locks that a fault or an exit could need. Sleeps
 * until nothing is in use; cannot fail.
 */
void gm_hnode_evacuate(struct gm_hnode *hnode)
{
	spin_lock(&hnode->lock);
	hnode->closing = true;
	wake_up(&hnode->space_wait);
	__gm_evict_ask(hnode, 0);
	spin_unlock(&hnode->lock);

	wait_event_idle(hnode->space_wait, gm_hnode_unused(hnode));
}
