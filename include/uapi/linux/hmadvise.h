/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_HMADVISE_H
#define _UAPI_LINUX_HMADVISE_H

/*
 * long hmadvise(int hnid, unsigned long start, size_t len, int behavior);
 *
 * @hnid is a device memory node (an hnode id, 1024 or more), a CPU NUMA node,
 * or -1 for any CPU node.  See hmadvise(2).  The values start where no
 * madvise() advice does, so that one given for the other is EINVAL.
 */
#define HMADV_SHARE	0x100	/* devices may share the range */
#define HMADV_UNSHARE	0x101	/* bring it home, devices may not share it */
#define HMADV_PREFETCH	0x102	/* move the range to hnid now */
#define HMADV_DISCARD	0x103	/* drop the contents, wherever they are */

#endif /* _UAPI_LINUX_HMADVISE_H */
