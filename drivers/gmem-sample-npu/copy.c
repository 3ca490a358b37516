// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: the copy operation, on the device's copy engines.
 *
 * A batch goes to one engine, in as few commands as possible: pieces that are
 * adjacent in device memory are one command, with a list of the host side when
 * that is in several parts.  The lists are allocated with the ring.  Only the
 * last command of a batch interrupts.
 *
 * An engine never waits for a compute queue, so copies make progress whatever
 * jobs and faults do.  One that makes none is found by the watchdog, and the
 * reset that follows ends what is in its ring with -EIO once the hardware has
 * stopped touching memory.  Of a device that is gone for good, every copy fails
 * with -ENODEV, from which GMEM knows that its memory is lost.
 */
#include <linux/dma-mapping.h>

#include "npu.h"

#define NPU_LIST_WORDS	2	/* DMA address, bytes */
#define NPU_LIST_SIZE	(NPU_COPY_SEGS * NPU_LIST_WORDS * sizeof(__le64))

/**
 * struct npu_piece - what goes into one command
 * @segs: how many segments of the batch it takes
 * @parts: how many entries of the list it fills
 * @host: DMA address of the first part
 * @dev: local address
 * @bytes: how much
 */
struct npu_piece {
	unsigned int segs;
	unsigned int parts;
	dma_addr_t host;
	u64 dev;
	u64 bytes;
};

static bool npu_op_has_list(enum gm_copy_op op)
{
	return op == GM_COPY_TO_DEV || op == GM_COPY_FROM_DEV;
}

/*
 * Take as many of @segs as one command can do, and fill @list with the parts
 * of their host side.
 */
static void npu_copy_gather(struct npu_piece *piece, enum gm_copy_op op,
			    const struct gm_copy *segs, unsigned int nr,
			    __le64 *list)
{
	dma_addr_t part = 0;
	u64 part_len = 0;
	unsigned int i;

	piece->parts = 0;
	piece->host = segs->host;
	piece->dev = segs->dev;
	piece->bytes = 0;
	for (i = 0; i < nr; i++) {
		if (segs[i].dev != piece->dev + piece->bytes)
			break;
		if (op == GM_COPY_LOCAL &&
		    segs[i].host != piece->host + piece->bytes)
			break;
		if (npu_op_has_list(op) &&
		    (!i || segs[i].host != part + part_len)) {
			if (piece->parts == NPU_COPY_SEGS)
				break;
			part = segs[i].host;
			part_len = 0;
			*list++ = cpu_to_le64(part);
			list++;
			piece->parts++;
		}
		part_len += segs[i].len;
		if (npu_op_has_list(op))
			list[-1] = cpu_to_le64(part_len);
		piece->bytes += segs[i].len;
	}
	piece->segs = i;
}

static void npu_copy_desc(u64 *desc, enum gm_copy_op op,
			  const struct npu_piece *piece, dma_addr_t list,
			  unsigned int flags)
{
	u64 *arg = &desc[NPU_DESC_W_ARG(0)];

	memset(desc, 0, NPU_DESC_W_FENCE_ADDR * sizeof(*desc));
	if (op == GM_COPY_FROM_DEV || op == GM_COPY_LOCAL)
		flags |= NPU_F_SRC_LOCAL;
	if (op != GM_COPY_FROM_DEV)
		flags |= NPU_F_DST_LOCAL;
	if (op == GM_COPY_ZERO) {
		desc[NPU_DESC_W_OP] = NPU_DESC(NPU_OP_ZERO, flags, 0);
		arg[0] = piece->dev;
		arg[1] = piece->bytes;
	} else if (piece->parts > 1) {
		desc[NPU_DESC_W_OP] = NPU_DESC(NPU_OP_COPY_SG, flags, 0);
		arg[0] = list;
		arg[1] = piece->dev;
		arg[2] = piece->parts;
	} else {
		desc[NPU_DESC_W_OP] = NPU_DESC(NPU_OP_COPY, flags, 0);
		arg[0] = op == GM_COPY_FROM_DEV ? piece->dev : piece->host;
		arg[1] = op == GM_COPY_FROM_DEV ? piece->host : piece->dev;
		arg[2] = piece->bytes;
	}
}

static void npu_engine_end(struct npu_queue *q, unsigned int slot, int status,
			   u64 result, u64 faults)
{
	struct npu_engine *e = npu_to_engine(q);
	struct npu_copy_cmd *cmd = &e->cmd[slot];

	WRITE_ONCE(e->load, e->load - cmd->bytes);
	if (status) {
		npu_count(q->npu, NPU_COUNT_COPY_ERRORS);
		e->error = status == ENODEV || status == EHWPOISON ?
			   -status : -EIO;
	}
	if (cmd->fence) {
		gm_fence_signal(cmd->fence, e->error);
		e->error = 0;
	}
	wake_up(&e->room);
}

static struct npu_engine *npu_engine_pick(struct npu *npu)
{
	struct npu_engine *best = &npu->engine[0];
	unsigned int i;

	for (i = 1; i < npu->nr_engines; i++)
		if (READ_ONCE(npu->engine[i].load) < READ_ONCE(best->load))
			best = &npu->engine[i];
	return best;
}

/*
 * Wait until the engine takes a command; the ring's base tells whether it was
 * reset in the meantime.
 */
static int npu_engine_wait(struct npu_engine *e, u64 *base, unsigned int *slot)
{
	struct npu_queue *q = &e->q;

	lockdep_assert_held(&e->submit);
	wait_event(e->room, READ_ONCE(q->npu->dead) ||
		   (!READ_ONCE(q->stopped) &&
		    READ_ONCE(q->tail) - READ_ONCE(q->head) < q->size));
	spin_lock_irq(&q->lock);
	*base = q->base;
	*slot = q->tail & (q->size - 1);
	spin_unlock_irq(&q->lock);
	return READ_ONCE(q->npu->dead) ? -ENODEV : 0;
}

/* Queue one command in @slot, unless the engine was reset since @base. */
static bool npu_engine_push(struct npu_engine *e, u64 base, unsigned int slot,
			    enum gm_copy_op op, const struct npu_piece *piece,
			    struct gm_fence *fence)
{
	bool irq = fence || slot % NPU_COPY_IRQ_EVERY == 0;
	u64 desc[NPU_DESC_W_FENCE_ADDR];
	struct npu_queue *q = &e->q;
	bool ok;

	npu_copy_desc(desc, op, piece, e->lists_dma + slot * NPU_LIST_SIZE,
		      irq ? NPU_F_IRQ : 0);
	spin_lock_irq(&q->lock);
	ok = !q->stopped && q->base == base;
	if (ok) {
		e->cmd[slot].fence = fence;
		e->cmd[slot].bytes = piece->bytes;
		WRITE_ONCE(e->load, e->load + piece->bytes);
		npu_queue_push(q, desc);
		/* What a full ring waits for must be under way. */
		if (irq)
			npu_queue_kick(q);
	}
	spin_unlock_irq(&q->lock);
	return ok;
}

static int npu_engine_batch(struct npu_engine *e, enum gm_copy_op op,
			    const struct gm_copy *segs, unsigned int nr,
			    struct gm_fence *fence)
{
	struct npu_piece piece;
	bool started = false;
	unsigned int slot;
	u64 base, first;
	int ret;

	while (nr) {
		ret = npu_engine_wait(e, &base, &slot);
		if (ret)
			return ret;
		/* The reset ended the part of the batch that was queued. */
		if (started && base != first)
			return -EIO;
		npu_copy_gather(&piece, op, segs, nr, e->lists +
				slot * NPU_COPY_SEGS * NPU_LIST_WORDS);
		if (!npu_engine_push(e, base, slot, op, &piece,
				     piece.segs == nr ? fence : NULL))
			continue;
		started = true;
		first = base;
		segs += piece.segs;
		nr -= piece.segs;
	}
	return 0;
}

/**
 * npu_copy() - &gm_mmu.copy
 * @gdev: GMEM's device
 * @op: direction
 * @segs: pieces
 * @nr: how many, at least one
 * @fence: signalled when all of them have been copied or one has failed
 *
 * Context: Process context, not under GMEM's map lock. Sleeps for room in the
 * ring, for a bounded time; allocates nothing.
 * Return: 0; -EIO when the device was reset while the batch was being queued;
 * or -ENODEV when it died. With an error nothing of the batch is in progress.
 */
int npu_copy(struct gm_dev *gdev, enum gm_copy_op op,
	     const struct gm_copy *segs, unsigned int nr,
	     struct gm_fence *fence)
{
	struct npu_engine *e = npu_engine_pick(gm_dev_drvdata(gdev));
	int ret;

	if (npu_fail(NPU_FAIL_COPY))
		return -EIO;
	mutex_lock(&e->submit);
	ret = npu_engine_batch(e, op, segs, nr, fence);
	mutex_unlock(&e->submit);
	return ret;
}

/**
 * npu_engines_init() - allocate the copy engines
 * @npu: device
 *
 * Context: Process context, from probe.
 * Return: 0 or -ENOMEM.
 */
int npu_engines_init(struct npu *npu)
{
	struct device *dev = &npu->pdev->dev;
	struct npu_engine *e;
	unsigned int i;
	int ret;

	npu->engine = devm_kcalloc(dev, npu->nr_engines, sizeof(*npu->engine),
				   GFP_KERNEL);
	if (!npu->engine)
		return -ENOMEM;
	for (i = 0; i < npu->nr_engines; i++) {
		e = &npu->engine[i];
		e->q.end = npu_engine_end;
		mutex_init(&e->submit);
		init_waitqueue_head(&e->room);
		e->lists = dmam_alloc_coherent(dev, NPU_COPY_RING *
					       NPU_LIST_SIZE, &e->lists_dma,
					       GFP_KERNEL);
		if (!e->lists)
			return -ENOMEM;
		ret = npu_queue_init(npu, &e->q, npu->nr_compute + i,
				     NPU_COPY_RING);
		if (ret)
			return ret;
	}
	return 0;
}
