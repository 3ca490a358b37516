// SPDX-License-Identifier: GPL-2.0
/*
 * npu-hmm: /dev/hmm-npuN-move, for what hmadvise() does with GMEM.
 *
 * It is a device file of its own, so that the sample driver's is as it is.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/uaccess.h>

#include "hmm.h"
#include "npu_hmm_uapi.h"

static struct svm *door_find(struct gm_dev *gdev)
{
	struct svm *svm;

	lockdep_assert_held(&gdev->door_sem);
	list_for_each_entry(svm, &gdev->contexts, link)
		if (svm->mm == current->mm)
			return svm;
	return NULL;
}

static int door_move(struct gm_dev *gdev, const struct npu_hmm_move *arg,
		     bool to_dev)
{
	unsigned long end;
	struct svm *svm;
	int ret = -ENXIO;

	if (!PAGE_ALIGNED(arg->start | arg->len) ||
	    check_add_overflow(arg->start, arg->len, &end))
		return -EINVAL;
	down_read(&gdev->door_sem);
	svm = door_find(gdev);
	if (svm) {
		mmap_read_lock(svm->mm);
		if (to_dev)
			ret = in_prefetch(svm, arg->start, end);
		else
			ret = out_prefetch(svm, arg->start, end);
		mmap_read_unlock(svm->mm);
	}
	up_read(&gdev->door_sem);
	return ret;
}

/* A page-aligned piece of memory to a page of the device, as a fault does it. */
static int door_measure(struct move *m, struct page *page, unsigned int nr,
			u64 *insn)
{
	struct npu *npu = m->gdev->npu;
	unsigned int i;
	int ret;

	m->nr = nr;
	ret = dmem_reserve(m, 0);
	if (ret)
		return ret;
	move_begin(m, GM_COPY_TO_DEV, nr);
	*insn = npu_read(npu, NPU_REG_INSN);
	for (i = 0; i < nr; i++)
		move_add(m, page + i, dmem_reserved_addr(m, i));
	move_start(m);
	ret = move_wait(m);
	*insn = npu_read(npu, NPU_REG_INSN) - *insn;
	for (i = 0; i < nr; i++)
		dmem_unreserve(m, i);
	return ret;
}

static u64 door_measure_tlb(struct gm_dev *gdev, struct svm *svm)
{
	u64 insn = npu_read(gdev->npu, NPU_REG_INSN);

	npu_mmu.tlb_invl(&svm->gm, 0, PAGE_SIZE);
	return npu_read(gdev->npu, NPU_REG_INSN) - insn;
}

static int door_copy(struct gm_dev *gdev, struct npu_hmm_copy *arg)
{
	unsigned int nr = arg->bytes >> PAGE_SHIFT;
	struct svm *svm = door_find(gdev);
	unsigned int order;
	struct page *page;
	struct move *m;
	int ret;

	if (!svm)
		return -ENXIO;

	if (!nr || arg->bytes > CHUNK_SIZE || !PAGE_ALIGNED(arg->bytes))
		return -EINVAL;
	order = get_order(arg->bytes);
	page = alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_COMP, order);
	if (!page)
		return -ENOMEM;
	m = move_get(gdev);
	ret = m ? door_measure(m, page, nr, &arg->insn) : -ENOMEM;
	if (m)
		move_put(m);
	__free_pages(page, order);
	arg->tlb_insn = door_measure_tlb(gdev, svm);
	return ret;
}

static long door_ioctl(struct file *filp, unsigned int cmd, unsigned long user)
{
	struct gm_dev *gdev = filp->private_data;
	void __user *uarg = (void __user *)user;
	struct npu_hmm_move move;
	struct npu_hmm_copy copy;
	int ret;

	switch (cmd) {
	case NPU_HMM_TO_DEV:
	case NPU_HMM_TO_HOST:
		if (copy_from_user(&move, uarg, sizeof(move)))
			return -EFAULT;
		return door_move(gdev, &move, cmd == NPU_HMM_TO_DEV);
	case NPU_HMM_COPY:
		if (copy_from_user(&copy, uarg, sizeof(copy)))
			return -EFAULT;
		down_read(&gdev->door_sem);
		ret = door_copy(gdev, &copy);
		up_read(&gdev->door_sem);
		if (!ret && copy_to_user(uarg, &copy, sizeof(copy)))
			return -EFAULT;
		return ret;
	default:
		return -ENOTTY;
	}
}

static int door_fop_open(struct inode *inode, struct file *filp)
{
	struct gm_dev *gdev = container_of(filp->private_data, struct gm_dev,
					   door);

	/* misc_open() keeps the device registered during this call. */
	kref_get(&gdev->ref);
	filp->private_data = gdev;
	return nonseekable_open(inode, filp);
}

static int door_fop_release(struct inode *inode, struct file *filp)
{
	gdev_put(filp->private_data);
	return 0;
}

static const struct file_operations door_fops = {
	.owner		= THIS_MODULE,
	.open		= door_fop_open,
	.release	= door_fop_release,
	.unlocked_ioctl	= door_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/**
 * door_open() - make /dev/hmm-npuN-move
 * @gdev: device
 *
 * Context: Process context, from probe.
 * Return: 0 or a negative errno.
 */
int door_open(struct gm_dev *gdev)
{
	init_rwsem(&gdev->door_sem);
	INIT_LIST_HEAD(&gdev->contexts);
	snprintf(gdev->door_name, sizeof(gdev->door_name), "%s-move",
		 gdev->npu->name);
	gdev->door.minor = MISC_DYNAMIC_MINOR;
	gdev->door.name = gdev->door_name;
	gdev->door.fops = &door_fops;
	gdev->door.parent = gdev->dev;
	gdev->door.mode = 0666;
	return misc_register(&gdev->door);
}

/**
 * door_close() - the reverse of door_open()
 * @gdev: device without contexts, so that nobody finds one any more
 *
 * Context: Process context.
 */
void door_close(struct gm_dev *gdev)
{
	misc_deregister(&gdev->door);
}
