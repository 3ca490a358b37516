// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: page faults of the device.
 *
 * A queue whose job misses writes one or more records and stalls until it is
 * answered: REPLAY translates again, ABORT ends the job.  The interrupt
 * collects all records there are, those of one job in the slot that its context
 * has for the queue and the slots of one context in a batch, and a worker serves
 * each batch: the workers of different batches run in parallel.  Then every
 * queue of the batch is answered on its own.
 *
 * Serving a fault may take as long as the owner's memory makes it: a file
 * system may be frozen.  When the job was killed meanwhile the queue has another
 * one, of another context, whose slot is its own.
 *
 * A record names its job by the fence value.  As a compute queue has only one
 * job at a time, an answer sent while that job is still the queue's, under the
 * queue lock, cannot reach another job.  REPLAY never harms: at worst the job
 * faults again.  That also makes up for everything that could not be kept:
 * records that came while the slot was busy, or more than fit.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/log2.h>
#include <linux/moduleparam.h>

#include "npu.h"

#define NPU_FAULT_RECORD	(NPU_FAULT_WORDS * sizeof(__le64))
#define NPU_RECORD_WRITE	BIT_ULL(0)

static unsigned int faultq_records = 256;
module_param(faultq_records, uint, 0444);
MODULE_PARM_DESC(faultq_records,
		 "Size of the fault queue, a power of two (default 256)");

/* --- the worker --------------------------------------------------------------- */

/*
 * What the faults of one slot came to.  The batch was sorted: look for each of
 * the slot's own addresses.
 */
static int npu_slot_error(const struct npu_fault_slot *lead,
			  const struct npu_fault_slot *slot)
{
	const struct gm_fault *fault;
	unsigned int i, j;
	u64 record;

	for (i = 0; i < lead->nr_faults; i++) {
		fault = &lead->fault[i];
		if (!fault->error)
			continue;
		record = fault->addr;
		if (fault->flags & GM_FAULT_WRITE)
			record |= NPU_RECORD_WRITE;
		for (j = 0; j < slot->nr; j++)
			if (slot->record[j] == record)
				return fault->error;
	}
	return 0;
}

/* Answer the queue, if the job that faulted is still there. */
static void npu_slot_answer(struct npu *npu, struct npu_fault_slot *slot,
			    int error)
{
	struct npu_compute *c = slot->c;
	u64 resp = NPU_RESP_QUEUE(c->q.nr) | NPU_RESP_REPLAY;

	spin_lock_irq(&c->q.lock);
	if (c->job && c->job->fence == slot->fence) {
		if (error)
			resp |= NPU_RESP_ABORT | NPU_RESP_ERRNO(-error);
		npu_write(npu, NPU_REG_FAULT_RESP, resp);
	} else if (slot->missed) {
		/* For the next job, which must fault again to be seen. */
		npu_write(npu, NPU_REG_FAULT_RESP, resp);
	}
	slot->busy = false;
	slot->missed = false;
	spin_unlock_irq(&c->q.lock);
}

/**
 * npu_fault_answer() - answer the queues of a batch
 * @gm: GMEM's context
 * @faults: the batch
 * @nr: how many
 *
 * Context: Worker, no locks.
 */
void npu_fault_answer(struct gm_context *gm, struct gm_fault *faults,
		      unsigned int nr)
{
	struct npu_fault_slot *lead =
		container_of(faults, struct npu_fault_slot, fault[0]);
	struct npu_fault_slot *slot, *next;
	struct npu_ctx *ctx = gm->drvdata;
	LIST_HEAD(batch);

	atomic64_add(nr, &ctx->faults);

	/* An answered slot may be used anew at once; the leader goes last. */
	list_splice_init(&lead->batch, &batch);
	list_for_each_entry_safe(slot, next, &batch, link) {
		list_del(&slot->link);
		npu_slot_answer(ctx->npu, slot, npu_slot_error(lead, slot));
	}
}

static void npu_fault_work(struct work_struct *work)
{
	struct npu_fault_slot *lead =
		container_of(work, struct npu_fault_slot, work);
	int slots = list_count_nodes(&lead->batch);
	struct npu_ctx *ctx = lead->ctx;
	struct npu *npu = ctx->npu;

	npu_gmem_serve(ctx, lead->fault, lead->nr_faults);
	/* With the last one, the context may be freed. */
	if (atomic_sub_and_test(slots, &ctx->faulting))
		wake_up(&npu->fault_wait);
}

/* --- the fault queue ------------------------------------------------------------ */

static void npu_slot_add(struct npu_fault_slot *slot, u64 addr, u64 info)
{
	if (slot->nr == NPU_MAX_FAULTS) {
		slot->missed = true;
		return;
	}
	slot->record[slot->nr++] = (addr & PAGE_MASK) |
		(info & NPU_FAULT_WRITE ? NPU_RECORD_WRITE : 0);
}

/* Put one record into the slot of its job; a slot in use anew joins @fresh. */
static void npu_fault_take(struct npu *npu, const __le64 *words, u64 info,
			   struct list_head *fresh)
{
	u64 addr = le64_to_cpu(words[NPU_FAULT_W_ADDR]);
	u64 fence = le64_to_cpu(words[NPU_FAULT_W_FENCE]);
	unsigned int nr = NPU_FAULT_QUEUE(info);
	struct npu_fault_slot *slot;
	struct npu_compute *c;

	if (nr >= npu->nr_compute)
		return;
	c = &npu->compute[nr];
	spin_lock(&c->q.lock);
	/* The job was ended in the meantime, which was its answer. */
	if (!c->job || c->job->fence != fence)
		goto unlock;
	slot = &c->job->ctx->slots[nr];
	if (!slot->busy) {
		slot->busy = true;
		slot->open = true;
		slot->fence = fence;
		slot->nr = 0;
		atomic_inc(&slot->ctx->faulting);
		npu_slot_add(slot, addr, info);
		list_add_tail(&slot->link, fresh);
	} else if (slot->open && slot->fence == fence) {
		npu_slot_add(slot, addr, info);
	} else {
		slot->missed = true;
	}
unlock:
	spin_unlock(&c->q.lock);
}

static void npu_batch_add(struct npu_fault_slot *lead,
			  struct npu_fault_slot *slot)
{
	struct npu_compute *c = slot->c;
	struct gm_fault *fault = &lead->fault[lead->nr_faults];
	unsigned int i;

	spin_lock(&c->q.lock);
	slot->open = false;
	spin_unlock(&c->q.lock);

	for (i = 0; i < slot->nr; i++, fault++) {
		fault->addr = slot->record[i] & PAGE_MASK;
		fault->flags = slot->record[i] & NPU_RECORD_WRITE ?
			       GM_FAULT_WRITE : 0;
		fault->error = 0;
	}
	lead->nr_faults += slot->nr;
	list_move(&slot->link, &lead->batch);
}

/* Make batches of the slots in @fresh and hand them to workers. */
static void npu_fault_dispatch(struct npu *npu, struct list_head *fresh)
{
	struct npu_fault_slot *lead, *slot, *next;

	while (!list_empty(fresh)) {
		lead = list_first_entry(fresh, struct npu_fault_slot, link);
		lead->nr_faults = 0;
		npu_batch_add(lead, lead);
		list_for_each_entry_safe(slot, next, fresh, link)
			if (slot->ctx == lead->ctx &&
			    lead->nr_faults + slot->nr <= NPU_MAX_FAULTS)
				npu_batch_add(lead, slot);
		queue_work(npu->wq, &lead->work);
	}
}

static void npu_fault_drain(struct npu *npu)
{
	u64 head, info, phase;
	unsigned long flags;
	LIST_HEAD(fresh);
	__le64 *words;

	spin_lock_irqsave(&npu->faultq_lock, flags);
	for (head = npu->faultq_head;; head++) {
		words = npu->faultq + (head & (npu->faultq_size - 1)) *
			NPU_FAULT_WORDS;
		phase = head & npu->faultq_size ? 0 : NPU_FAULT_PHASE;
		info = le64_to_cpu(READ_ONCE(words[NPU_FAULT_W_INFO]));
		if ((info & NPU_FAULT_PHASE) != phase)
			break;
		/* The word with the phase was written last. */
		dma_rmb();
		npu_fault_take(npu, words, info, &fresh);
	}
	if (head != npu->faultq_head) {
		npu->faultq_head = head;
		npu_write(npu, NPU_REG_FAULTQ_HEAD, head);
	}
	npu_fault_dispatch(npu, &fresh);
	spin_unlock_irqrestore(&npu->faultq_lock, flags);
}

/**
 * npu_fault_irq() - handler of the fault vector
 * @irq: interrupt
 * @data: the device
 *
 * Context: Interrupt.
 * Return: IRQ_HANDLED.
 */
irqreturn_t npu_fault_irq(int irq, void *data)
{
	npu_fault_drain(data);
	return IRQ_HANDLED;
}

/**
 * npu_faults_overflowed() - records were lost
 * @npu: device
 *
 * Makes room, then lets every stalled queue fault again.
 *
 * Context: Interrupt.
 */
void npu_faults_overflowed(struct npu *npu)
{
	npu_fault_drain(npu);
	npu_write(npu, NPU_REG_FAULT_RESP, NPU_RESP_REPLAY | NPU_RESP_ALL);
}

/**
 * npu_faults_start() - give the hardware an empty fault queue
 * @npu: device, fresh out of reset
 *
 * Context: Process context.
 */
void npu_faults_start(struct npu *npu)
{
	spin_lock_irq(&npu->faultq_lock);
	memset(npu->faultq, 0, npu->faultq_size * NPU_FAULT_RECORD);
	npu->faultq_head = 0;
	npu_write(npu, NPU_REG_FAULTQ_BASE, npu->faultq_dma);
	npu_write(npu, NPU_REG_FAULTQ_SIZE, npu->faultq_size);
	spin_unlock_irq(&npu->faultq_lock);
}

/**
 * npu_fault_slots_alloc() - make a context able to take faults
 * @ctx: new context
 *
 * Context: Process context.
 * Return: 0 or -ENOMEM.
 */
int npu_fault_slots_alloc(struct npu_ctx *ctx)
{
	struct npu *npu = ctx->npu;
	unsigned int i;

	ctx->slots = kvcalloc(npu->nr_compute, sizeof(*ctx->slots),
			      GFP_KERNEL_ACCOUNT);
	if (!ctx->slots)
		return -ENOMEM;
	for (i = 0; i < npu->nr_compute; i++) {
		ctx->slots[i].c = &npu->compute[i];
		ctx->slots[i].ctx = ctx;
		INIT_WORK(&ctx->slots[i].work, npu_fault_work);
		INIT_LIST_HEAD(&ctx->slots[i].batch);
	}
	return 0;
}

/**
 * npu_fault_slots_free() - the reverse of npu_fault_slots_alloc()
 * @ctx: context that was never attached or is stopped
 *
 * Context: Process context.
 */
void npu_fault_slots_free(struct npu_ctx *ctx)
{
	kvfree(ctx->slots);
}

static void npu_destroy_wq(void *wq)
{
	destroy_workqueue(wq);
}

/**
 * npu_faults_init() - allocate the fault queue and its workers
 * @npu: device
 *
 * Context: Process context, from probe.
 * Return: 0, -EINVAL for a bad module parameter, or -ENOMEM.
 */
int npu_faults_init(struct npu *npu)
{
	struct device *dev = &npu->pdev->dev;

	if (!is_power_of_2(faultq_records) || faultq_records > 65536)
		return -EINVAL;
	npu->faultq_size = faultq_records;
	npu->faultq = dmam_alloc_coherent(dev, PAGE_ALIGN(faultq_records *
							  NPU_FAULT_RECORD),
					  &npu->faultq_dma, GFP_KERNEL);
	if (!npu->faultq)
		return -ENOMEM;
	/* Unbound: serving a fault takes long and must not hold up a CPU. */
	npu->wq = alloc_workqueue("%s", WQ_UNBOUND, 0, npu->name);
	if (!npu->wq)
		return -ENOMEM;
	return devm_add_action_or_reset(dev, npu_destroy_wq, npu->wq);
}
