// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: start, stop and reset of the hardware, contexts, TLB
 * invalidation, the error interrupt.
 *
 * Every wait for the hardware is bounded by the module parameter timeout_ms.
 * What does not answer in time is reset, and what does not come out of reset
 * is cut off the bus and treated as dead: nothing waits for ever, and after
 * either nothing accesses memory any more.
 */
#include <linux/delay.h>

#include "npu.h"

#define NPU_POLL_SPINS	100	/* polls before the first sleep */

/**
 * npu_hw_present() - does the device still answer?
 * @npu: device
 *
 * Context: Any context.
 * Return: false when it was removed or died.
 */
bool npu_hw_present(struct npu *npu)
{
	/* A device that is gone reads as ones. */
	return !(npu_read(npu, NPU_REG_STATUS) & NPU_STATUS_DEAD);
}

/**
 * npu_poll() - wait until bits of a register are zero
 * @npu: device
 * @reg: register
 * @mask: bits
 *
 * Context: May sleep. Allocates nothing.
 * Return: false when they are not zero within the time-out.
 */
bool npu_poll(struct npu *npu, unsigned int reg, u64 mask)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(npu_timeout_ms);
	unsigned int spins = 0;
	bool late;

	for (;;) {
		late = time_after(jiffies, deadline);
		if (!(npu_read(npu, reg) & mask))
			return true;
		if (late)
			return false;
		if (++spins < NPU_POLL_SPINS)
			cpu_relax();
		else
			usleep_range(10, 50);
	}
}

/* Give the hardware its rings and contexts; after any reset. */
static void npu_hw_program(struct npu *npu)
{
	unsigned int i;

	npu_faults_start(npu);
	for (i = 0; i < npu->nr_contexts; i++)
		npu_write(npu, NPU_CTX(i) + NPU_CTX_ROOT, npu->root[i]);
	npu_write(npu, NPU_REG_CTRL, NPU_CTRL_ENABLE);
}

/* Of the hardware only; false when it does not come out of it. */
static bool npu_hw_reset(struct npu *npu)
{
	npu_write(npu, NPU_REG_CTRL, NPU_CTRL_RESET);
	return npu_poll(npu, NPU_REG_CTRL, NPU_CTRL_RESET);
}

/*
 * Give the device up: from here on it accesses no memory, and whatever it was
 * asked fails.
 */
static void npu_die(struct npu *npu)
{
	lockdep_assert_held(&npu->reset_lock);
	if (npu->dead)
		return;
	dev_err(&npu->pdev->dev, "device does not answer, giving it up\n");
	pci_clear_master(npu->pdev);
	WRITE_ONCE(npu->dead, true);
}

/*
 * Around a reset.  Before it, invalidations stop going to the hardware; after
 * it, and before any queue starts, all that were asked for have been done.
 */
static void npu_tlbi_stop(struct npu *npu)
{
	spin_lock(&npu->tlbi_lock);
	npu->tlbi_off = true;
	spin_unlock(&npu->tlbi_lock);
}

static void npu_tlbi_start(struct npu *npu)
{
	spin_lock(&npu->tlbi_lock);
	WRITE_ONCE(npu->tlbi_base, npu->tlbi_queued);
	npu->tlbi_known = npu->tlbi_queued;
	npu->tlbi_off = npu->dead;
	spin_unlock(&npu->tlbi_lock);
}

/* Let copies that still move end well: a reset would fail them all. */
static void npu_drain_engines(struct npu *npu)
{
	struct npu_queue *q;
	unsigned int i;

	for (i = 0; i < npu->nr_engines; i++) {
		q = &npu->engine[i].q;
		wait_event_timeout(npu->engine[i].room,
				   READ_ONCE(q->head) == READ_ONCE(q->tail) ||
				   npu_queue_hung(q),
				   msecs_to_jiffies(npu_timeout_ms));
	}
}

/**
 * npu_reset() - bring the hardware back to a state that can be relied upon
 * @npu: device
 * @resets: @npu->resets as it was when the caller began to wait; a reset since
 *          then is as good as one more
 *
 * Running jobs and copies that are stuck fail with -EIO, translations are
 * forgotten, page tables stay.
 *
 * Context: Process context; may be called under GMEM's map lock. Sleeps for a
 * bounded time, allocates nothing.
 */
void npu_reset(struct npu *npu, unsigned int resets)
{
	unsigned int i;

	mutex_lock(&npu->reset_lock);
	if (npu->resets != resets || npu->dead)
		goto out;

	npu_count(npu, NPU_COUNT_DEVICE_RESETS);
	dev_warn_ratelimited(&npu->pdev->dev, "resetting the device\n");
	for (i = 0; i < npu_nr_queues(npu); i++)
		npu_queue_stop(npu_queue(npu, i));
	if (npu_hw_present(npu))
		npu_drain_engines(npu);
	npu_tlbi_stop(npu);
	/* Reset would revive a device whose memory is lost; do not let it. */
	if (!npu_hw_present(npu) || !npu_hw_reset(npu))
		npu_die(npu);

	/* The hardware has stopped: what it was working on can be ended. */
	npu_tlbi_start(npu);
	if (!npu->dead)
		npu_hw_program(npu);
	WRITE_ONCE(npu->resets, resets + 1);
	for (i = 0; i < npu_nr_queues(npu); i++) {
		npu_queue_flush(npu_queue(npu, i));
		npu_queue_start(npu_queue(npu, i));
	}
out:
	mutex_unlock(&npu->reset_lock);
}

/**
 * npu_hw_probe() - reset the hardware and find out what it is
 * @npu: device with its registers mapped
 *
 * Context: Process context, from probe.
 * Return: 0, or -ENODEV for hardware this driver does not know.
 */
int npu_hw_probe(struct npu *npu)
{
	u64 id, caps;

	/* Whoever had it before may have left it in any state, even dead. */
	if (!npu_hw_reset(npu))
		return -ENODEV;
	id = npu_read(npu, NPU_REG_ID);
	caps = npu_read(npu, NPU_REG_CAPS);
	if ((u32)id != NPU_ID_MAGIC || NPU_ID_VERSION(id) != NPU_VERSION)
		return -ENODEV;
	if (NPU_CAPS_VA_BITS(caps) != NPU_VA_BITS)
		return -ENODEV;
	npu->nr_compute = NPU_CAPS_COMPUTE(caps);
	npu->nr_engines = NPU_CAPS_COPY(caps);
	npu->nr_contexts = NPU_CAPS_CONTEXTS(caps);
	if (!npu->nr_compute || !npu->nr_engines || !npu->nr_contexts ||
	    npu_nr_queues(npu) > NPU_MAX_QUEUES ||
	    npu->nr_contexts > NPU_MAX_CONTEXTS)
		return -ENODEV;
	npu->mem_size = npu_read(npu, NPU_REG_MEM_SIZE);
	if (npu->mem_size > pci_resource_len(npu->pdev, NPU_BAR_MEM))
		return -ENODEV;
	return 0;
}

/**
 * npu_hw_start() - bring the hardware up
 * @npu: device, fresh out of reset, with rings, interrupts and bus mastering
 *
 * Context: Process context, from probe.
 */
void npu_hw_start(struct npu *npu)
{
	unsigned int i;

	npu_hw_program(npu);
	for (i = 0; i < npu_nr_queues(npu); i++)
		npu_queue_start(npu_queue(npu, i));
}

/**
 * npu_hw_stop() - the reverse of npu_hw_start()
 * @npu: device without jobs and copies
 *
 * Context: Process context. Sleeps until the watchdog has ended.
 */
void npu_hw_stop(struct npu *npu)
{
	unsigned int i;

	cancel_delayed_work_sync(&npu->watchdog);
	mutex_lock(&npu->reset_lock);
	for (i = 0; i < npu_nr_queues(npu); i++)
		npu_queue_stop(npu_queue(npu, i));
	if (!npu->dead)
		npu_hw_reset(npu);
	pci_clear_master(npu->pdev);
	mutex_unlock(&npu->reset_lock);
}

/**
 * npu_ctx_set_root() - give a hardware context its page table
 * @npu: device
 * @id: context
 * @root: value of NPU_CTX_ROOT, 0 for none
 *
 * Context: Process context. May sleep.
 */
void npu_ctx_set_root(struct npu *npu, unsigned int id, u64 root)
{
	mutex_lock(&npu->reset_lock);
	npu->root[id] = root;
	npu_write(npu, NPU_CTX(id) + NPU_CTX_ROOT, root);
	mutex_unlock(&npu->reset_lock);
}

/* --- TLB invalidation ------------------------------------------------------- */

/*
 * An invalidation has a number, its ticket.  The hardware completes them in
 * order and counts from its last reset, which completes all earlier ones.
 */
static bool npu_tlbi_done(struct npu *npu, u64 ticket)
{
	/* A reset moves the base on after it set the count back. */
	u64 base = READ_ONCE(npu->tlbi_base);
	u64 done = npu_read(npu, NPU_REG_TLBI_DONE);

	/* A device that is gone, or in its grave, accesses nothing. */
	return (s64)(base + done - ticket) >= 0 || done == ~0ULL ||
	       READ_ONCE(npu->dead);
}

static void npu_tlbi_wait(struct npu *npu, u64 ticket)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(npu_timeout_ms);
	unsigned int resets = READ_ONCE(npu->resets);
	unsigned int spins = 0;
	bool late;

	for (;;) {
		late = time_after(jiffies, deadline);
		if (npu_tlbi_done(npu, ticket))
			return;
		if (late) {
			npu_reset(npu, resets);
			return;
		}
		if (++spins < NPU_POLL_SPINS)
			cpu_relax();
		else
			usleep_range(10, 50);
	}
}

/* In reset nothing is cached, and the end of the reset counts it. */
static u64 npu_tlbi_go(struct npu *npu, unsigned int id,
		       const struct gm_range *range)
{
	lockdep_assert_held(&npu->tlbi_lock);

	if (!npu->tlbi_off) {
		npu_write(npu, NPU_REG_TLBI_START, range->start);
		npu_write(npu, NPU_REG_TLBI_END, range->end);
		npu_write(npu, NPU_REG_TLBI_GO, id);
	}
	return ++npu->tlbi_queued;
}

static u64 npu_tlbi_queue(struct npu *npu, unsigned int id,
			  const struct gm_range *range)
{
	u64 ticket;

	spin_lock(&npu->tlbi_lock);
	while (npu->tlbi_queued - npu->tlbi_known >= NPU_TLBI_DEPTH) {
		ticket = npu->tlbi_queued - NPU_TLBI_DEPTH / 2;
		spin_unlock(&npu->tlbi_lock);
		npu_tlbi_wait(npu, ticket);
		spin_lock(&npu->tlbi_lock);
		if ((s64)(ticket - npu->tlbi_known) > 0)
			npu->tlbi_known = ticket;
	}
	ticket = npu_tlbi_go(npu, id, range);
	spin_unlock(&npu->tlbi_lock);
	return ticket;
}

/**
 * npu_tlb_invalidate() - make the device forget translations
 * @npu: device
 * @id: hardware context
 * @ranges: what to forget
 * @nr: how many ranges
 *
 * On return no access through a forgotten translation is in progress.  A
 * device that does not answer is reset, which forgets everything.
 *
 * Context: May be called under GMEM's map lock. May sleep for a bounded time,
 * allocates nothing.
 */
void npu_tlb_invalidate(struct npu *npu, unsigned int id,
			const struct gm_range *ranges, unsigned int nr)
{
	u64 ticket = 0;
	unsigned int i;

	if (READ_ONCE(npu->dead))
		return;
	for (i = 0; i < nr; i++)
		if (ranges[i].start < ranges[i].end)
			ticket = npu_tlbi_queue(npu, id, &ranges[i]);
	/* They complete in order: the last one stands for all. */
	if (ticket)
		npu_tlbi_wait(npu, ticket);
}

/**
 * npu_tlb_forget() - have translations forgotten at some time soon
 * @npu: device
 * @id: hardware context
 * @range: what to forget
 *
 * For what may be cached but had better not be.  When the device is behind with
 * invalidations nothing happens.
 *
 * Context: Any but interrupts. Does not sleep.
 */
void npu_tlb_forget(struct npu *npu, unsigned int id,
		    const struct gm_range *range)
{
	u64 half;

	spin_lock(&npu->tlbi_lock);
	half = npu->tlbi_queued - NPU_TLBI_DEPTH / 2;
	if ((s64)(half - npu->tlbi_known) > 0 && npu_tlbi_done(npu, half))
		npu->tlbi_known = half;
	if (npu->tlbi_queued - npu->tlbi_known < NPU_TLBI_DEPTH)
		npu_tlbi_go(npu, id, range);
	spin_unlock(&npu->tlbi_lock);
}

/* --- errors ------------------------------------------------------------------ */

/**
 * npu_error_irq() - handler of the error vector
 * @irq: interrupt
 * @data: the device
 *
 * Malformed descriptors and addresses come from the arguments of jobs, so they
 * are counted but not logged.
 *
 * Context: Interrupt.
 * Return: IRQ_HANDLED.
 */
irqreturn_t npu_error_irq(int irq, void *data)
{
	struct npu *npu = data;
	u64 addr = npu_read(npu, NPU_REG_ERROR_ADDR);
	u64 error = npu_read(npu, NPU_REG_ERROR);

	npu_write(npu, NPU_REG_ERROR, error);
	if (!npu_hw_present(npu))
		return IRQ_HANDLED;
	if (error & NPU_ERROR_DESC)
		npu_count(npu, NPU_COUNT_DESC_ERRORS);
	if (error & NPU_ERROR_BUS) {
		npu_count(npu, NPU_COUNT_BUS_ERRORS);
		dev_err_ratelimited(&npu->pdev->dev,
				    "DMA refused at %#llx\n", addr);
	}
	if (error & NPU_ERROR_ECC) {
		npu_count(npu, NPU_COUNT_ECC_ERRORS);
		dev_err_ratelimited(&npu->pdev->dev,
				    "bad local memory at %#llx\n", addr);
	}
	if (error & NPU_ERROR_FAULTQ) {
		npu_count(npu, NPU_COUNT_FAULTQ_OVERFLOWS);
		npu_faults_overflowed(npu);
	}
	return IRQ_HANDLED;
}
