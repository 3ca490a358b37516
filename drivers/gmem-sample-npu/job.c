// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: jobs on compute queues.
 *
 * A compute queue gets one job at a time; the others wait here.  So the job of
 * one process never sits in the hardware behind that of another: a process can
 * be killed without waiting for its neighbours, and the answer to a fault can
 * only reach the job that took it.
 */
#include <linux/delay.h>
#include <linux/slab.h>

#include "npu.h"

#define NPU_COMPUTE_RING	64	/* one page of descriptors */

/**
 * npu_compute_start() - give the hardware the next job if it has none
 * @c: compute queue
 *
 * Context: Any context, queue lock held.
 */
void npu_compute_start(struct npu_compute *c)
{
	u64 desc[NPU_DESC_W_FENCE_ADDR];
	struct npu_job *job;

	lockdep_assert_held(&c->q.lock);
	if (c->job || c->q.stopped)
		return;
	job = list_first_entry_or_null(&c->waiting, struct npu_job, queued);
	if (!job)
		return;
	list_del(&job->queued);
	c->job = job;
	desc[NPU_DESC_W_OP] = NPU_DESC(job->op, NPU_F_IRQ, job->ctx->id);
	memcpy(&desc[NPU_DESC_W_ARG(0)], job->args, sizeof(job->args));
	job->fence = npu_queue_push(&c->q, desc);
	npu_queue_kick(&c->q);
}

static void npu_compute_finish(struct npu_compute *c, struct npu_job *job,
			       int status, u64 result, u64 faults)
{
	WRITE_ONCE(c->load, c->load - 1);
	atomic64_inc(&job->ctx->jobs);
	npu_job_end(job, status, result, faults);
}

static void npu_compute_end(struct npu_queue *q, unsigned int slot,
			    int status, u64 result, u64 faults)
{
	struct npu_compute *c = npu_to_compute(q);
	struct npu_job *job = c->job;

	c->job = NULL;
	npu_compute_finish(c, job, status, result, faults);
	npu_compute_start(c);
}

/**
 * npu_compute_drop() - end jobs that wait
 * @c: compute queue
 * @ctx: whose jobs, or NULL for all
 * @status: what they end with, a positive errno
 *
 * Context: Any context, queue lock held.
 */
void npu_compute_drop(struct npu_compute *c, const struct npu_ctx *ctx,
		      int status)
{
	struct npu_job *job, *next;

	lockdep_assert_held(&c->q.lock);
	list_for_each_entry_safe(job, next, &c->waiting, queued) {
		if (ctx && job->ctx != ctx)
			continue;
		list_del(&job->queued);
		npu_compute_finish(c, job, status, 0, 0);
	}
}

static struct npu_compute *npu_compute_pick(struct npu *npu)
{
	struct npu_compute *best = &npu->compute[0];
	unsigned int i;

	for (i = 1; i < npu->nr_compute; i++)
		if (READ_ONCE(npu->compute[i].load) < READ_ONCE(best->load))
			best = &npu->compute[i];
	return best;
}

/**
 * npu_job_submit() - hand a job over
 * @npu: device
 * @job: job of an attached context
 * @queue: compute queue, or ~0 for the one with the least to do
 *
 * npu_job_end() is called for it, maybe before this returns.
 *
 * Context: Process context, file->sem held.
 */
void npu_job_submit(struct npu *npu, struct npu_job *job, unsigned int queue)
{
	struct npu_compute *c = queue == ~0U ? npu_compute_pick(npu) :
				&npu->compute[queue];

	spin_lock_irq(&c->q.lock);
	WRITE_ONCE(c->load, c->load + 1);
	list_add_tail(&job->queued, &c->waiting);
	if (READ_ONCE(npu->dead))
		npu_compute_drop(c, NULL, ENODEV);
	else
		npu_compute_start(c);
	spin_unlock_irq(&c->q.lock);
}

/*
 * Whether the hardware has a job of @ctx, after collecting what has ended; and
 * whether on a queue that will never end it.
 */
static bool npu_ctx_running(struct npu_ctx *ctx, bool *hung)
{
	struct npu *npu = ctx->npu;
	bool running = false;
	struct npu_compute *c;
	unsigned int i;

	for (i = 0; i < npu->nr_compute; i++) {
		c = &npu->compute[i];
		spin_lock_irq(&c->q.lock);
		npu_queue_reap(&c->q);
		if (c->job && c->job->ctx == ctx) {
			running = true;
			*hung |= npu_queue_hung(&c->q);
		}
		spin_unlock_irq(&c->q.lock);
	}
	return running;
}

/**
 * npu_ctx_stop() - end all jobs of a context, and the serving of its faults
 * @ctx: attached context
 *
 * On return the device does nothing for @ctx any more, and no thread is in
 * gm_dev_fault_batch() for it.
 *
 * Context: Process context, file->sem held for writing, so that no new job
 * can come. Sleeps for a bounded time, plus what gm_dev_fault_batch() takes.
 */
void npu_ctx_stop(struct npu_ctx *ctx)
{
	struct npu *npu = ctx->npu;
	unsigned long deadline = jiffies + msecs_to_jiffies(npu_timeout_ms);
	unsigned int i, resets;
	bool hung = false;

	for (i = 0; i < npu->nr_compute; i++) {
		spin_lock_irq(&npu->compute[i].q.lock);
		npu_compute_drop(&npu->compute[i], ctx, ECANCELED);
		spin_unlock_irq(&npu->compute[i].q.lock);
	}

	/* No job of @ctx starts any more, so any reset from now on ends all. */
	resets = READ_ONCE(npu->resets);
	npu_write(npu, NPU_CTX(ctx->id) + NPU_CTX_KILL, 1);
	while (npu_ctx_running(ctx, &hung)) {
		if (hung || time_after(jiffies, deadline)) {
			npu_reset(npu, resets);
			break;
		}
		usleep_range(10, 50);
	}
	wait_event(npu->fault_wait, !atomic_read(&ctx->faulting));
}

/**
 * npu_compute_init() - allocate the compute queues
 * @npu: device
 *
 * Context: Process context, from probe.
 * Return: 0 or -ENOMEM.
 */
int npu_compute_init(struct npu *npu)
{
	struct npu_compute *c;
	unsigned int i;
	int ret;

	npu->compute = devm_kcalloc(&npu->pdev->dev, npu->nr_compute,
				    sizeof(*npu->compute), GFP_KERNEL);
	if (!npu->compute)
		return -ENOMEM;
	for (i = 0; i < npu->nr_compute; i++) {
		c = &npu->compute[i];
		c->q.end = npu_compute_end;
		INIT_LIST_HEAD(&c->waiting);
		ret = npu_queue_init(npu, &c->q, i, NPU_COMPUTE_RING);
		if (ret)
			return ret;
	}
	return 0;
}
