// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: /dev/gmem-npuN.
 *
 * An open file is at most one context.  file->sem keeps the context and the
 * device in place while an ioctl uses them; who takes the device away sets
 * npu->gone and then takes each file's sem for writing, so that afterwards no
 * ioctl is in progress and later ones see npu->gone.  GMEM_NPU_WAIT and poll()
 * touch neither, and every job ends, so they hold nothing while they sleep.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "npu.h"

#define NPU_MAX_JOBS	64	/* of a file, until collected */

/**
 * struct npu_file - an open file
 * @npu: device; holds a reference
 * @link: in npu->files
 * @sem: see above
 * @ctx: context, or NULL when not attached; @sem
 * @job_lock: protects the members below; nests in a queue lock
 * @jobs: jobs that were not collected
 * @nr_jobs: how many
 * @seqno: of the last job
 * @wait: woken when a job ended
 */
struct npu_file {
	struct npu *npu;
	struct list_head link;
	struct rw_semaphore sem;
	struct npu_ctx *ctx;
	spinlock_t job_lock;	/* everything below */
	struct list_head jobs;
	unsigned int nr_jobs;
	u64 seqno;
	wait_queue_head_t wait;
};

union npu_arg {
	u32 size;
	struct gmem_npu_info info;
	struct gmem_npu_attach attach;
	struct gmem_npu_submit submit;
	struct gmem_npu_wait wait;
	struct gmem_npu_stats stats;
	struct gmem_npu_inject inject;
	struct gmem_npu_touch touch;
};

/* --- jobs ----------------------------------------------------------------------- */

/**
 * npu_job_end() - a job has ended
 * @job: job; belongs to its file from now on
 * @status: positive errno, or 0
 * @result: what the operation returned
 * @faults: page faults that it took
 *
 * Context: Any context, lock of the job's queue held. That lock is also what
 * keeps the file: it goes away only after npu_ctx_stop(), which takes all of
 * them.
 */
void npu_job_end(struct npu_job *job, int status, u64 result, u64 faults)
{
	struct npu_file *file = job->file;
	unsigned long flags;

	spin_lock_irqsave(&file->job_lock, flags);
	job->status = status;
	job->result = result;
	job->faults = faults;
	job->ctx = NULL;
	job->ended = true;
	spin_unlock_irqrestore(&file->job_lock, flags);
	wake_up(&file->wait);
}

static struct npu_job *npu_job_find(struct npu_file *file, u64 seqno)
{
	struct npu_job *job;

	lockdep_assert_held(&file->job_lock);
	list_for_each_entry(job, &file->jobs, link)
		if (job->seqno == seqno)
			return job;
	return NULL;
}

/* Take a job out of the file: -EAGAIN while it runs, -EINVAL for none. */
static int npu_job_collect(struct npu_file *file, u64 seqno,
			   struct npu_job **ended)
{
	struct npu_job *job;
	int ret = 0;

	spin_lock_irq(&file->job_lock);
	job = npu_job_find(file, seqno);
	if (!job) {
		ret = -EINVAL;
	} else if (!job->ended) {
		ret = -EAGAIN;
	} else {
		list_del(&job->link);
		file->nr_jobs--;
		*ended = job;
	}
	spin_unlock_irq(&file->job_lock);
	return ret;
}

/* Whether there is anything to collect, or nothing to wait for. */
static bool npu_job_ended(struct npu_file *file, u64 seqno)
{
	struct npu_job *job;
	bool ended;

	spin_lock_irq(&file->job_lock);
	job = npu_job_find(file, seqno);
	ended = !job || job->ended;
	spin_unlock_irq(&file->job_lock);
	return ended;
}

static bool npu_job_any_ended(struct npu_file *file)
{
	struct npu_job *job;
	bool ended = false;

	spin_lock_irq(&file->job_lock);
	list_for_each_entry(job, &file->jobs, link)
		ended |= job->ended;
	spin_unlock_irq(&file->job_lock);
	return ended;
}

/* --- ioctls ----------------------------------------------------------------------- */

static int npu_ioctl_info(struct npu_file *file, union npu_arg *arg)
{
	arg->info.hnid = file->npu->hnid;
	arg->info.mem_size = file->npu->mem_size;
	arg->info.nr_queues = file->npu->nr_compute;
	arg->info.flags = 0;
	return 0;
}

static int npu_ioctl_attach(struct npu_file *file, union npu_arg *arg)
{
	struct npu_ctx *ctx;
	int ret;

	if (arg->attach.flags & ~GMEM_NPU_ATTACH_STRICT)
		return -EINVAL;
	if (file->ctx)
		return -EBUSY;
	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return -ENOMEM;
	ctx->npu = file->npu;
	ctx->mm = current->mm;
	ret = npu_fault_slots_alloc(ctx);
	if (ret)
		goto err_free;
	ret = npu_gmem_attach(ctx, arg->attach.flags & GMEM_NPU_ATTACH_STRICT ?
			      GM_ATTACH_STRICT : 0);
	if (ret)
		goto err_slots;
	/* As long as it is compared with, no other process may be at @mm. */
	mmgrab(ctx->mm);
	file->ctx = ctx;
	return 0;

err_slots:
	npu_fault_slots_free(ctx);
err_free:
	kfree(ctx);
	return ret;
}

static void npu_file_detach(struct npu_file *file)
{
	struct npu_ctx *ctx = file->ctx;

	npu_ctx_stop(ctx);
	npu_gmem_detach(ctx);
	mmdrop(ctx->mm);
	npu_fault_slots_free(ctx);
	kfree(ctx);
	file->ctx = NULL;
}

static int npu_ioctl_detach(struct npu_file *file, union npu_arg *arg)
{
	npu_file_detach(file);
	return 0;
}

static int npu_ioctl_submit(struct npu_file *file, union npu_arg *arg)
{
	struct gmem_npu_submit *submit = &arg->submit;
	struct npu *npu = file->npu;
	struct npu_job *job;
	bool full;

	if (submit->flags || submit->op < NPU_OP_FILL ||
	    submit->op > NPU_OP_ATOMIC_ADD)
		return -EINVAL;
	if (submit->queue != ~0U) {
		if (submit->queue >= npu->nr_compute)
			return -EINVAL;
		submit->queue = array_index_nospec(submit->queue,
						   npu->nr_compute);
	}
	job = kzalloc(sizeof(*job), GFP_KERNEL_ACCOUNT);
	if (!job)
		return -ENOMEM;
	job->file = file;
	job->ctx = file->ctx;
	job->op = submit->op;
	memcpy(job->args, submit->args, sizeof(job->args));

	spin_lock_irq(&file->job_lock);
	full = file->nr_jobs == NPU_MAX_JOBS;
	if (!full) {
		file->nr_jobs++;
		job->seqno = ++file->seqno;
		submit->seqno = job->seqno;
		list_add_tail(&job->link, &file->jobs);
	}
	spin_unlock_irq(&file->job_lock);
	if (full) {
		kfree(job);
		return -EAGAIN;
	}
	npu_job_submit(npu, job, submit->queue);
	return 0;
}

/* Sleep until the job ended; it is looked up anew whenever one did. */
static int npu_job_wait(struct npu_file *file, u64 seqno, u64 timeout_ns,
			struct npu_job **job)
{
	long left = MAX_SCHEDULE_TIMEOUT;
	int ret;

	if (!timeout_ns)
		return npu_job_collect(file, seqno, job);
	if (timeout_ns != ~0ULL)
		left = min_t(u64, nsecs_to_jiffies64(timeout_ns) + 1,
			     MAX_SCHEDULE_TIMEOUT - 1);
	left = wait_event_interruptible_timeout(file->wait,
						npu_job_ended(file, seqno),
						left);
	ret = npu_job_collect(file, seqno, job);
	if (ret != -EAGAIN)
		return ret;
	if (left < 0)
		return timeout_ns == ~0ULL ? -ERESTARTSYS : -EINTR;
	return -ETIMEDOUT;
}

static int npu_ioctl_wait(struct npu_file *file, union npu_arg *arg)
{
	struct gmem_npu_wait *wait = &arg->wait;
	struct npu_job *job = NULL;
	int ret;

	ret = npu_job_wait(file, wait->seqno, wait->timeout_ns, &job);
	if (ret)
		return ret;
	wait->status = job->status;
	wait->result = job->result;
	wait->faults = job->faults;
	kfree(job);
	return 0;
}

static int npu_ioctl_stats(struct npu_file *file, union npu_arg *arg)
{
	struct gmem_npu_stats *stats = &arg->stats;
	struct npu *npu = file->npu;
	u64 counters[NPU_STAT_NR];
	u32 i, nr = min_t(u32, stats->nr, NPU_STAT_NR);

	for (i = 0; i < nr; i++)
		counters[i] = npu_read(npu, NPU_REG_STAT(i));
	stats->nr = NPU_STAT_NR;
	stats->time_ns = npu_read(npu, NPU_REG_TIME);
	stats->insn = npu_read(npu, NPU_REG_INSN);
	stats->ctx_faults = 0;
	stats->ctx_jobs = 0;
	if (file->ctx) {
		stats->ctx_faults = atomic64_read(&file->ctx->faults);
		stats->ctx_jobs = atomic64_read(&file->ctx->jobs);
	}
	if (copy_to_user(u64_to_user_ptr(stats->counters), counters,
			 nr * sizeof(*counters)))
		return -EFAULT;
	return 0;
}

static int npu_ioctl_inject(struct npu_file *file, union npu_arg *arg)
{
	struct gmem_npu_inject *inject = &arg->inject;
	struct npu *npu = file->npu;
	u64 hw_arg = inject->arg;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (inject->what) {
	case NPU_INJECT_COPY_FAIL:
	case NPU_INJECT_JOB_FAIL:
		if (!hw_arg)
			return -EINVAL;
		break;
	case NPU_INJECT_ECC:
		if (!file->ctx)
			return -ENXIO;
		npu_pmap_find(file->ctx, inject->arg, &hw_arg);
		if (hw_arg == ~0ULL)
			return -EINVAL;
		break;
	case NPU_INJECT_HANG:
		if (hw_arg >= npu_nr_queues(npu))
			return -EINVAL;
		break;
	case NPU_INJECT_NONE:
	case NPU_INJECT_REMOVE:
		break;
	default:
		return -EINVAL;
	}
	mutex_lock(&npu->inject_lock);
	npu_write(npu, NPU_REG_INJECT_ARG, hw_arg);
	npu_write(npu, NPU_REG_INJECT, inject->what);
	mutex_unlock(&npu->inject_lock);
	return 0;
}

static int npu_ioctl_touch(struct npu_file *file, union npu_arg *arg)
{
	struct gmem_npu_touch *touch = &arg->touch;
	u64 addr = touch->start;
	unsigned long next;
	u64 end;
	int ret = 0;

	if (touch->write > 1 || check_add_overflow(addr, touch->len, &end))
		return -EINVAL;
	while (addr < end && !ret) {
		if (fatal_signal_pending(current))
			ret = -EINTR;
		else if (READ_ONCE(file->npu->gone))
			ret = -ENODEV;
		else if (addr >> NPU_VA_BITS)
			ret = -EFAULT;
		else
			ret = npu_gmem_touch(file->ctx, addr, touch->write);
		if (ret)
			break;
		next = PAGE_SIZE - offset_in_page(addr);
		/* One fault may have mapped more than a page. */
		if (next < end - addr)
			next = max(next, npu_pmap_find(file->ctx, addr, NULL));
		addr = min(addr + next, end);
		cond_resched();
	}
	touch->done = addr - touch->start;
	return ret;
}

#define NPU_IOCTL_ATTACHED	BIT(0)	/* needs a context */
#define NPU_IOCTL_OWNER		BIT(1)	/* not for others than who attached */
#define NPU_IOCTL_EXCLUSIVE	BIT(2)	/* file->sem for writing */
#define NPU_IOCTL_UNLOCKED	BIT(3)	/* without file->sem, it sleeps */
#define NPU_IOCTL_OUT_ON_ERROR	BIT(4)	/* says how far it came */

struct npu_ioctl {
	unsigned int cmd;
	unsigned int flags;
	size_t size;
	int (*fn)(struct npu_file *file, union npu_arg *arg);
};

#define NPU_IOCTL_INDEX(cmd)	(_IOC_NR(cmd) - _IOC_NR(GMEM_NPU_INFO))

static const struct npu_ioctl npu_ioctls[] = {
	[NPU_IOCTL_INDEX(GMEM_NPU_INFO)] = {
		GMEM_NPU_INFO, 0,
		sizeof(struct gmem_npu_info), npu_ioctl_info },
	[NPU_IOCTL_INDEX(GMEM_NPU_ATTACH)] = {
		GMEM_NPU_ATTACH, NPU_IOCTL_EXCLUSIVE,
		sizeof(struct gmem_npu_attach), npu_ioctl_attach },
	[NPU_IOCTL_INDEX(GMEM_NPU_DETACH)] = {
		GMEM_NPU_DETACH, NPU_IOCTL_EXCLUSIVE |
		NPU_IOCTL_ATTACHED | NPU_IOCTL_OWNER,
		0, npu_ioctl_detach },
	[NPU_IOCTL_INDEX(GMEM_NPU_SUBMIT)] = {
		GMEM_NPU_SUBMIT, NPU_IOCTL_ATTACHED | NPU_IOCTL_OWNER,
		sizeof(struct gmem_npu_submit), npu_ioctl_submit },
	[NPU_IOCTL_INDEX(GMEM_NPU_WAIT)] = {
		GMEM_NPU_WAIT, NPU_IOCTL_ATTACHED | NPU_IOCTL_OWNER |
		NPU_IOCTL_UNLOCKED,
		sizeof(struct gmem_npu_wait), npu_ioctl_wait },
	[NPU_IOCTL_INDEX(GMEM_NPU_STATS)] = {
		GMEM_NPU_STATS, 0,
		sizeof(struct gmem_npu_stats), npu_ioctl_stats },
	[NPU_IOCTL_INDEX(GMEM_NPU_INJECT)] = {
		GMEM_NPU_INJECT, NPU_IOCTL_OWNER,
		sizeof(struct gmem_npu_inject), npu_ioctl_inject },
	[NPU_IOCTL_INDEX(GMEM_NPU_TOUCH)] = {
		GMEM_NPU_TOUCH, NPU_IOCTL_ATTACHED | NPU_IOCTL_OWNER |
		NPU_IOCTL_OUT_ON_ERROR,
		sizeof(struct gmem_npu_touch), npu_ioctl_touch },
};

/* May this caller do this now?  With file->sem held. */
static int npu_ioctl_check(struct npu_file *file, const struct npu_ioctl *ioctl)
{
	lockdep_assert_held(&file->sem);
	if (READ_ONCE(file->npu->gone) || READ_ONCE(file->npu->dead))
		return -ENODEV;
	if (!file->ctx)
		return ioctl->flags & NPU_IOCTL_ATTACHED ? -ENXIO : 0;
	if ((ioctl->flags & NPU_IOCTL_OWNER) && file->ctx->mm != current->mm)
		return -EPERM;
	return 0;
}

static int npu_ioctl_run(struct npu_file *file, const struct npu_ioctl *ioctl,
			 union npu_arg *arg)
{
	bool exclusive = ioctl->flags & NPU_IOCTL_EXCLUSIVE;
	int ret;

	if (exclusive)
		ret = down_write_killable(&file->sem);
	else
		ret = down_read_killable(&file->sem);
	if (ret)
		return ret;
	ret = npu_ioctl_check(file, ioctl);
	if (!ret && !(ioctl->flags & NPU_IOCTL_UNLOCKED))
		ret = ioctl->fn(file, arg);
	if (exclusive)
		up_write(&file->sem);
	else
		up_read(&file->sem);
	if (!ret && (ioctl->flags & NPU_IOCTL_UNLOCKED))
		ret = ioctl->fn(file, arg);
	return ret;
}

/* The size is what the structure says, not what is encoded in the number. */
static const struct npu_ioctl *npu_ioctl_find(unsigned int cmd)
{
	unsigned int i = NPU_IOCTL_INDEX(cmd);

	if (_IOC_TYPE(cmd) != GMEM_NPU_IOC || i >= ARRAY_SIZE(npu_ioctls) ||
	    _IOC_DIR(cmd) != _IOC_DIR(npu_ioctls[i].cmd))
		return NULL;
	return &npu_ioctls[array_index_nospec(i, ARRAY_SIZE(npu_ioctls))];
}

/* Every structure starts with its size, as the caller knows it. */
static int npu_arg_get(union npu_arg *arg, size_t size,
		       void __user *user)
{
	u32 user_size;
	int ret;

	if (get_user(user_size, (u32 __user *)user))
		return -EFAULT;
	if (user_size < size || user_size > PAGE_SIZE)
		return -EINVAL;
	ret = copy_struct_from_user(arg, size, user, user_size);
	/* A member that this driver does not know, with something in it. */
	return ret == -E2BIG ? -EINVAL : ret;
}

static long npu_cdev_ioctl(struct file *filp, unsigned int cmd,
			   unsigned long user)
{
	const struct npu_ioctl *ioctl = npu_ioctl_find(cmd);
	struct npu_file *file = filp->private_data;
	void __user *uarg = (void __user *)user;
	union npu_arg arg = {};
	int ret;

	if (!ioctl)
		return -ENOTTY;
	if (ioctl->size) {
		ret = npu_arg_get(&arg, ioctl->size, uarg);
		if (ret)
			return ret;
	}
	ret = npu_ioctl_run(file, ioctl, &arg);
	if (ret && !(ioctl->flags & NPU_IOCTL_OUT_ON_ERROR))
		return ret;
	if (_IOC_DIR(cmd) & _IOC_READ) {
		arg.size = ioctl->size;
		if (copy_to_user(uarg, &arg, ioctl->size) && !ret)
			ret = -EFAULT;
	}
	return ret;
}

/* --- the file --------------------------------------------------------------------- */

static __poll_t npu_cdev_poll(struct file *filp, poll_table *table)
{
	struct npu_file *file = filp->private_data;
	__poll_t events = 0;

	poll_wait(filp, &file->wait, table);
	if (npu_job_any_ended(file))
		events |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(file->npu->gone))
		events |= EPOLLERR | EPOLLHUP;
	return events;
}

static int npu_cdev_open(struct inode *inode, struct file *filp)
{
	/* misc_open() keeps the device registered during this call. */
	struct npu *npu = container_of(filp->private_data, struct npu, misc);
	struct npu_file *file;
	bool gone;

	file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);
	if (!file)
		return -ENOMEM;
	file->npu = npu;
	init_rwsem(&file->sem);
	spin_lock_init(&file->job_lock);
	INIT_LIST_HEAD(&file->jobs);
	init_waitqueue_head(&file->wait);

	mutex_lock(&npu->files_lock);
	gone = npu->gone;
	if (!gone) {
		list_add(&file->link, &npu->files);
		kref_get(&npu->ref);
	}
	mutex_unlock(&npu->files_lock);
	if (gone) {
		kfree(file);
		return -ENODEV;
	}
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

static int npu_cdev_release(struct inode *inode, struct file *filp)
{
	struct npu_file *file = filp->private_data;
	struct npu *npu = file->npu;
	struct npu_job *job, *next;

	down_write(&file->sem);
	if (file->ctx)
		npu_file_detach(file);
	up_write(&file->sem);

	mutex_lock(&npu->files_lock);
	list_del(&file->link);
	mutex_unlock(&npu->files_lock);

	list_for_each_entry_safe(job, next, &file->jobs, link)
		kfree(job);
	kfree(file);
	npu_put(npu);
	return 0;
}

static const struct file_operations npu_cdev_fops = {
	.owner		= THIS_MODULE,
	.open		= npu_cdev_open,
	.release	= npu_cdev_release,
	.unlocked_ioctl	= npu_cdev_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.poll		= npu_cdev_poll,
};

/**
 * npu_cdev_add() - make /dev/gmem-npuN
 * @npu: device, ready for use
 *
 * Context: Process context, from probe.
 * Return: 0 or a negative errno.
 */
int npu_cdev_add(struct npu *npu)
{
	npu->misc.minor = MISC_DYNAMIC_MINOR;
	npu->misc.name = npu->name;
	npu->misc.fops = &npu_cdev_fops;
	npu->misc.parent = &npu->pdev->dev;
	npu->misc.mode = 0666;
	return misc_register(&npu->misc);
}

/**
 * npu_cdev_remove() - take the device away from its users
 * @npu: device
 *
 * On return no ioctl uses the device and no context is attached. Files that
 * are still open return -ENODEV.
 *
 * Context: Process context, from remove. Sleeps until all ioctls but
 * GMEM_NPU_WAIT have ended.
 */
void npu_cdev_remove(struct npu *npu)
{
	struct npu_file *file;

	misc_deregister(&npu->misc);
	mutex_lock(&npu->files_lock);
	WRITE_ONCE(npu->gone, true);
	list_for_each_entry(file, &npu->files, link) {
		down_write(&file->sem);
		if (file->ctx)
			npu_file_detach(file);
		up_write(&file->sem);
		wake_up_all(&file->wait);
	}
	mutex_unlock(&npu->files_lock);
}
