// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: rings of descriptors, and the watchdog over them.
 *
 * Each descriptor has a completion record in host memory.  The device writes
 * its fence value last, so a record with the expected value is complete.  Fence
 * values are never used twice, not even after a reset: what is left in memory
 * from before can never be taken for a completion.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>

#include "npu.h"

#define NPU_WATCH_PERIOD	(HZ / 2)

/**
 * npu_queue_init() - allocate a ring
 * @npu: device
 * @q: queue, zeroed; its @end is set
 * @nr: hardware queue
 * @size: descriptors, a power of two
 *
 * Context: Process context, from probe.
 * Return: 0 or -ENOMEM.
 */
int npu_queue_init(struct npu *npu, struct npu_queue *q, unsigned int nr,
		   unsigned int size)
{
	size_t ring = size * NPU_DESC_SIZE;
	size_t done = size * NPU_DONE_WORDS * sizeof(__le64);

	q->npu = npu;
	q->nr = nr;
	q->size = size;
	q->stopped = true;
	spin_lock_init(&q->lock);
	q->ring = dmam_alloc_coherent(&npu->pdev->dev, ring + done, &q->dma,
				      GFP_KERNEL);
	if (!q->ring)
		return -ENOMEM;
	q->done = q->ring + ring / sizeof(*q->ring);
	return 0;
}

/**
 * npu_queue_push() - put a descriptor into a ring
 * @q: queue with room, not stopped
 * @desc: words up to the fence address; the completion is filled in here
 *
 * The hardware sees it with the next npu_queue_kick().
 *
 * Context: Any context, queue lock held.
 * Return: the fence value.
 */
u64 npu_queue_push(struct npu_queue *q, const u64 *desc)
{
	unsigned int slot = q->tail & (q->size - 1);
	__le64 *words = q->ring + slot * NPU_DESC_WORDS;
	dma_addr_t done = q->dma + q->size * NPU_DESC_SIZE +
			  slot * NPU_DONE_WORDS * sizeof(__le64);
	u64 fence;
	int i;

	lockdep_assert_held(&q->lock);
	if (q->head == q->tail)
		q->progress = jiffies;
	WRITE_ONCE(q->tail, q->tail + 1);
	fence = q->base + q->tail;
	for (i = 0; i < NPU_DESC_W_FENCE_ADDR; i++)
		words[i] = cpu_to_le64(desc[i]);
	words[NPU_DESC_W_FENCE_ADDR] = cpu_to_le64(done);
	words[NPU_DESC_W_FENCE] = cpu_to_le64(fence);
	return fence;
}

/**
 * npu_queue_kick() - tell the hardware about new descriptors
 * @q: queue
 *
 * Context: Any context, queue lock held.
 */
void npu_queue_kick(struct npu_queue *q)
{
	lockdep_assert_held(&q->lock);
	/* writeq() orders the descriptors before the doorbell. */
	npu_write(q->npu, NPU_QUEUE(q->nr) + NPU_Q_TAIL, q->tail);
	npu_watch(q->npu);
}

/**
 * npu_queue_reap() - end what has completed
 * @q: queue
 *
 * Context: Any context, queue lock held.
 */
void npu_queue_reap(struct npu_queue *q)
{
	unsigned int slot;
	__le64 *done;

	lockdep_assert_held(&q->lock);
	while (q->head != q->tail) {
		slot = q->head & (q->size - 1);
		done = q->done + slot * NPU_DONE_WORDS;
		if (le64_to_cpu(READ_ONCE(done[NPU_DONE_W_FENCE])) !=
		    q->base + q->head + 1)
			break;
		/* The fence value was written last. */
		dma_rmb();
		WRITE_ONCE(q->head, q->head + 1);
		q->progress = jiffies;
		q->end(q, slot, le64_to_cpu(done[NPU_DONE_W_STATUS]),
		       le64_to_cpu(done[NPU_DONE_W_RESULT]),
		       le64_to_cpu(done[NPU_DONE_W_FAULTS]));
	}
}

/**
 * npu_queue_irq() - handler of a queue's vector
 * @irq: interrupt
 * @data: the queue
 *
 * Context: Interrupt.
 * Return: IRQ_HANDLED.
 */
irqreturn_t npu_queue_irq(int irq, void *data)
{
	struct npu_queue *q = data;

	spin_lock(&q->lock);
	npu_queue_reap(q);
	spin_unlock(&q->lock);
	return IRQ_HANDLED;
}

/**
 * npu_queue_stop() - accept nothing new
 * @q: queue
 *
 * What is in the ring goes on.
 *
 * Context: Process context.
 */
void npu_queue_stop(struct npu_queue *q)
{
	spin_lock_irq(&q->lock);
	q->stopped = true;
	spin_unlock_irq(&q->lock);
}

/**
 * npu_queue_flush() - end everything in a ring that the hardware left
 * @q: stopped queue that the hardware no longer works on
 *
 * Context: Process context.
 */
void npu_queue_flush(struct npu_queue *q)
{
	unsigned int slot;

	spin_lock_irq(&q->lock);
	npu_queue_reap(q);
	while (q->head != q->tail) {
		slot = q->head & (q->size - 1);
		WRITE_ONCE(q->head, q->head + 1);
		q->end(q, slot, q->npu->dead ? ENODEV : EIO, 0, 0);
	}
	q->base += q->tail;
	q->tail = 0;
	WRITE_ONCE(q->head, 0);
	spin_unlock_irq(&q->lock);
}

/**
 * npu_queue_start() - let the hardware work on a ring, and go on with jobs
 * @q: queue, stopped and empty, disabled in the hardware
 *
 * Of a dead device, ends waiting jobs and lets waiting copies fail.
 *
 * Context: Process context.
 */
void npu_queue_start(struct npu_queue *q)
{
	struct npu *npu = q->npu;
	unsigned int reg = NPU_QUEUE(q->nr);
	bool compute = q->nr < npu->nr_compute;

	spin_lock_irq(&q->lock);
	if (!npu->dead) {
		npu_write(npu, reg + NPU_Q_BASE, q->dma);
		npu_write(npu, reg + NPU_Q_SIZE, q->size);
		npu_write(npu, reg + NPU_Q_CTRL, NPU_Q_ENABLE);
		WRITE_ONCE(q->stopped, false);
		if (compute)
			npu_compute_start(npu_to_compute(q));
	} else if (compute) {
		npu_compute_drop(npu_to_compute(q), NULL, ENODEV);
	}
	if (!compute)
		npu_to_engine(q)->error = 0;
	spin_unlock_irq(&q->lock);
	if (!compute)
		wake_up(&npu_to_engine(q)->room);
}

/* --- the watchdog ------------------------------------------------------------- */

/**
 * npu_watch() - make sure that the watchdog looks at the queues
 * @npu: device with something in a ring
 *
 * Context: Any context.
 */
void npu_watch(struct npu *npu)
{
	if (!delayed_work_pending(&npu->watchdog))
		queue_delayed_work(system_long_wq, &npu->watchdog,
				   NPU_WATCH_PERIOD);
}

/**
 * npu_queue_hung() - has the hardware stopped working on a queue for good?
 * @q: queue
 *
 * Context: Any context.
 * Return: true also when the device is gone.
 */
bool npu_queue_hung(struct npu_queue *q)
{
	return npu_read(q->npu, NPU_QUEUE(q->nr) + NPU_Q_STATUS) & NPU_Q_HUNG;
}

/*
 * A copy has a time limit, and is wanted sooner than that when its engine
 * admits that it hangs.  A job may take as long as it likes, in faults above
 * all: only when the queue says that it hangs is there a limit.
 */
static bool npu_queue_stuck(struct npu_queue *q)
{
	bool late = time_after(jiffies, q->progress +
			       msecs_to_jiffies(npu_timeout_ms));

	if (q->nr < q->npu->nr_compute)
		return late && npu_queue_hung(q);
	return late || npu_queue_hung(q);
}

/**
 * npu_watchdog() - find what does not complete
 * @work: &npu.watchdog
 *
 * Runs while anything is in a ring, so that a lost interrupt, a hung queue or
 * a device that vanished holds nobody up for long.
 *
 * Context: Worker.
 */
void npu_watchdog(struct work_struct *work)
{
	struct npu *npu = container_of(work, struct npu, watchdog.work);
	unsigned int resets = READ_ONCE(npu->resets);
	bool stuck = !npu_hw_present(npu);
	bool busy = false;
	struct npu_queue *q;
	unsigned int i;

	for (i = 0; i < npu_nr_queues(npu); i++) {
		q = npu_queue(npu, i);
		spin_lock_irq(&q->lock);
		npu_queue_reap(q);
		if (q->head != q->tail) {
			busy = true;
			if (npu_queue_stuck(q)) {
				stuck = true;
				npu_count(npu, NPU_COUNT_QUEUE_HANGS);
			}
		}
		spin_unlock_irq(&q->lock);
	}
	if (stuck)
		npu_reset(npu, resets);
	if (busy)
		npu_watch(npu);
}
