// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/mm/gmem/hnodeN: what an administrator sees of device memory.
 *
 * Documentation/ABI/testing/sysfs-kernel-mm-gmem says what each file means.
 */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "gmem.h"

static struct kobject *gm_kobj;

static struct gm_hnode *to_hnode(struct kobject *kobj)
{
	return container_of(kobj, struct gm_hnode, kobj);
}

static ssize_t gm_emit_pages(char *buf, unsigned long nr_pages)
{
	return sysfs_emit(buf, "%llu\n", (u64)nr_pages << PAGE_SHIFT);
}

/* --- how much, and how much of it is free ------------------------------------ */

static ssize_t size_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return gm_emit_pages(buf, to_hnode(kobj)->nr_pages);
}

static struct kobj_attribute size_attr = __ATTR_RO(size);

static ssize_t used_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return gm_emit_pages(buf, READ_ONCE(to_hnode(kobj)->used));
}

static struct kobj_attribute used_attr = __ATTR_RO(used);

static ssize_t gm_emit_free(struct kobject *kobj, char *buf,
			    unsigned int order)
{
	struct gm_hnode *hnode = to_hnode(kobj);
	unsigned long nr;

	spin_lock(&hnode->lock);
	nr = gm_buddy_nr_free(&hnode->buddy, order);
	spin_unlock(&hnode->lock);
	return gm_emit_pages(buf, nr << order);
}

static ssize_t free_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return gm_emit_free(kobj, buf, 0);
}

static struct kobj_attribute free_attr = __ATTR_RO(free);

static ssize_t free_4k_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return gm_emit_free(kobj, buf, 0);
}

static struct kobj_attribute free_4k_attr = __ATTR_RO(free_4k);

static ssize_t free_64k_show(struct kobject *kobj, struct kobj_attribute *attr,
			     char *buf)
{
	return gm_emit_free(kobj, buf, GM_ORDER_64K);
}

static struct kobj_attribute free_64k_attr = __ATTR_RO(free_64k);

static ssize_t free_2m_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return gm_emit_free(kobj, buf, GM_ORDER_2M);
}

static struct kobj_attribute free_2m_attr = __ATTR_RO(free_2m);

static ssize_t limit_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return gm_emit_pages(buf, READ_ONCE(to_hnode(kobj)->limit));
}

static ssize_t limit_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t count)
{
	struct gm_hnode *hnode = to_hnode(kobj);
	u64 bytes;
	int ret;

	ret = kstrtou64(buf, 0, &bytes);
	if (ret)
		return ret;
	if (bytes >> PAGE_SHIFT > hnode->nr_pages)
		return -EINVAL;

	spin_lock(&hnode->lock);
	hnode->limit = bytes >> PAGE_SHIFT;
	spin_unlock(&hnode->lock);
	gm_evict_ask(hnode, 0);
	return count;
}

static struct kobj_attribute limit_attr = __ATTR_RW(limit);

/* --- what happened -------------------------------------------------------------- */

static unsigned long gm_stat(struct kobject *kobj, enum gm_hnode_stat stat)
{
	return atomic_long_read(&to_hnode(kobj)->stats[stat]);
}

static ssize_t to_dev_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_TO_DEV));
}

static struct kobj_attribute to_dev_attr = __ATTR_RO(to_dev);

static ssize_t to_host_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_TO_HOST));
}

static struct kobj_attribute to_host_attr = __ATTR_RO(to_host);

static ssize_t first_touch_show(struct kobject *kobj,
				struct kobj_attribute *attr, char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_FIRST_TOUCH));
}

static struct kobj_attribute first_touch_attr = __ATTR_RO(first_touch);

static ssize_t evicted_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_EVICTED));
}

static struct kobj_attribute evicted_attr = __ATTR_RO(evicted);

static ssize_t remote_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_REMOTE));
}

static struct kobj_attribute remote_attr = __ATTR_RO(remote);

static ssize_t lost_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return gm_emit_pages(buf, gm_stat(kobj, GM_STAT_LOST));
}

static struct kobj_attribute lost_attr = __ATTR_RO(lost);

static ssize_t faults_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%lu\n", gm_stat(kobj, GM_STAT_FAULTS));
}

static struct kobj_attribute faults_attr = __ATTR_RO(faults);

static struct attribute *gm_hnode_attrs[] = {
	&size_attr.attr,
	&free_attr.attr,
	&limit_attr.attr,
	&used_attr.attr,
	&free_4k_attr.attr,
	&free_64k_attr.attr,
	&free_2m_attr.attr,
	&to_dev_attr.attr,
	&to_host_attr.attr,
	&first_touch_attr.attr,
	&evicted_attr.attr,
	&faults_attr.attr,
	&remote_attr.attr,
	&lost_attr.attr,
	NULL
};

static const struct attribute_group gm_hnode_group = {
	.attrs = gm_hnode_attrs,
};

const struct attribute_group *gm_hnode_groups[] = {
	&gm_hnode_group,
	NULL
};

/* --- directories -------------------------------------------------------------------- */

/**
 * gm_sysfs_add() - show an hnode
 * @hnode: hnode with its id and an initialized kobject
 *
 * Context: Process context. May sleep.
 * Return: 0 or -ENOMEM.
 */
int gm_sysfs_add(struct gm_hnode *hnode)
{
	int ret;

	/* Without its directory nobody could bound the memory. */
	if (!gm_kobj)
		return -ENOMEM;
	ret = kobject_add(&hnode->kobj, gm_kobj, "hnode%d", hnode->id);
	if (ret)
		return ret;
	ret = sysfs_create_link(&hnode->kobj, &hnode->gdev->dev->kobj,
				"device");
	if (ret)
		kobject_del(&hnode->kobj);
	return ret;
}

/**
 * gm_sysfs_remove() - the reverse of gm_sysfs_add()
 * @hnode: hnode
 *
 * On return nobody is in one of the files.
 *
 * Context: Process context. Sleeps.
 */
void gm_sysfs_remove(struct gm_hnode *hnode)
{
	sysfs_remove_link(&hnode->kobj, "device");
	kobject_del(&hnode->kobj);
}

/**
 * gm_sysfs_init() - make /sys/kernel/mm/gmem
 *
 * Context: Once, after mm_kobj exists.
 * Return: 0 or -ENOMEM.
 */
int __init gm_sysfs_init(void)
{
	gm_kobj = kobject_create_and_add("gmem", mm_kobj);
	return gm_kobj ? 0 : -ENOMEM;
}
