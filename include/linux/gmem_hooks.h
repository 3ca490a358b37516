/* SPDX-License-Identifier: GPL-2.0 */
/*
 * GMEM hooks: everything that core MM calls.
 *
 * Each hook is an inline that a static key turns into a no-op until the first
 * device registers, then a test of the process's own state, then a call.
 * Without CONFIG_GMEM each is an empty inline, so callers need no #ifdef.
 */
#ifndef _LINUX_GMEM_HOOKS_H
#define _LINUX_GMEM_HOOKS_H

#include <linux/jump_label.h>
#include <linux/mm_types.h>

struct vm_fault;

#ifdef CONFIG_GMEM

DECLARE_STATIC_KEY_FALSE(gm_key);

vm_fault_t __gm_host_fault(struct vm_fault *vmf);
int __gm_zap_ptes(struct mm_struct *mm, unsigned long addr, pte_t *pte,
		  int max);
int __gm_fork(struct vm_area_struct *child, struct vm_area_struct *vma);
void __gm_fork_failed(struct mm_struct *mm);
int __gm_mremap_begin(struct vm_area_struct *vma, unsigned long start,
		      unsigned long to, unsigned long len);
void __gm_mremap_end(struct mm_struct *mm, unsigned long start,
		     unsigned long to, unsigned long len, bool moved);
void __gm_exit(struct mm_struct *mm);
int __gm_query(struct mm_struct *mm, unsigned long addr);
int __gm_bring_home(struct vm_area_struct *vma, unsigned long addr);

/**
 * gm_active() - does a process have pages that GMEM must be told about?
 * @mm: address space
 *
 * Context: Any context.
 * Return: true when @mm has a gm_as.
 */
static inline bool gm_active(const struct mm_struct *mm)
{
	return static_branch_unlikely(&gm_key) && READ_ONCE(mm->gm_as);
}

/**
 * gm_host_fault() - CPU access to a page that a device owns
 * @vmf: fault on a GMEM marker, page table not mapped or locked
 *
 * Context: mmap lock or VMA lock held for reading. Sleeps.
 * Return: as do_swap_page().
 */
static inline vm_fault_t gm_host_fault(struct vm_fault *vmf)
{
	return __gm_host_fault(vmf);
}

/**
 * gm_zap_ptes() - GMEM markers are being cleared for good
 * @mm: address space
 * @addr: address of the first page, which has a marker
 * @pte: its entry of the page table
 * @max: entries from there that are to be cleared
 *
 * The device's copies of the pages are given up with the markers.
 *
 * Context: Page table lock of @addr held, between the start and the end of an
 * MMU notifier range over the pages. Never sleeps or allocates.
 * Return: how many entries from @pte the caller is to clear: all of them markers,
 * and at least one.
 */
static inline int gm_zap_ptes(struct mm_struct *mm, unsigned long addr,
			      pte_t *pte, int max)
{
	return gm_active(mm) ? __gm_zap_ptes(mm, addr, pte, max) : 1;
}

/**
 * gm_fork() - the page tables of a VMA are about to be copied to a child
 * @child: VMA of the child
 * @vma: VMA of the parent
 *
 * The child shares what devices hold of @vma, copy-on-write.
 *
 * Context: mmap locks of both, and VMA lock of the parent, held for writing.
 * An MMU notifier range over @vma, which takes the right to write from
 * devices, follows before the locks are dropped. Sleeps.
 * Return: 0, or a negative errno that fails the fork.
 */
static inline int gm_fork(struct vm_area_struct *child,
			  struct vm_area_struct *vma)
{
	return gm_active(vma->vm_mm) ? __gm_fork(child, vma) : 0;
}

/**
 * gm_fork_failed() - a child is given up half way
 * @mm: the child
 *
 * Context: mmap lock of @mm held for writing, its VMAs are still there.
 */
static inline void gm_fork_failed(struct mm_struct *mm)
{
	if (gm_active(mm))
		__gm_fork_failed(mm);
}

/**
 * gm_mremap_begin() - page tables are about to move to other addresses
 * @vma: VMA of the old range
 * @start: first byte of the old range
 * @to: first byte of the new range
 * @len: bytes
 *
 * Allocates what gm_mremap_end() needs, which must follow, whatever this
 * returns.
 *
 * Context: mmap lock held for writing, and VMA lock of both ranges. Sleeps.
 * Return: 0, or a negative errno with which the move must not happen.
 */
static inline int gm_mremap_begin(struct vm_area_struct *vma,
				  unsigned long start, unsigned long to,
				  unsigned long len)
{
	return gm_active(vma->vm_mm) ? __gm_mremap_begin(vma, start, to, len) :
				       0;
}

/**
 * gm_mremap_end() - page tables have moved to other addresses, or have not
 * @mm: address space
 * @start: as for gm_mremap_begin()
 * @to: as for gm_mremap_begin()
 * @len: as for gm_mremap_begin()
 * @moved: all of them, as opposed to none, or to some that will move back
 *
 * What devices hold of the old range belongs to the new one now.
 *
 * Context: As gm_mremap_begin(). Never allocates.
 */
static inline void gm_mremap_end(struct mm_struct *mm, unsigned long start,
				 unsigned long to, unsigned long len,
				 bool moved)
{
	if (gm_active(mm))
		__gm_mremap_end(mm, start, to, len, moved);
}

/**
 * gm_exit() - an address space has been torn down
 * @mm: address space, all of it unmapped
 *
 * Context: End of exit_mmap(). Sleeps.
 */
static inline void gm_exit(struct mm_struct *mm)
{
	if (mm->gm_as)
		__gm_exit(mm);
}

/**
 * gm_mm_init() - a new address space starts without GMEM state
 * @mm: address space, maybe a copy of another one
 *
 * Context: Any context, @mm not yet published.
 */
static inline void gm_mm_init(struct mm_struct *mm)
{
	mm->gm_as = NULL;
}

/**
 * gm_query() - which device memory holds a page?
 * @mm: address space
 * @addr: address
 *
 * Context: mmap lock held for reading.
 * Return: an hnode id, or -ENOENT when no device owns the page.
 */
static inline int gm_query(struct mm_struct *mm, unsigned long addr)
{
	return gm_active(mm) ? __gm_query(mm, addr) : -ENOENT;
}

/**
 * gm_bring_home() - have the host own a page
 * @vma: VMA
 * @addr: address at which a GMEM marker was seen
 *
 * Context: mmap lock or VMA lock held for reading, page table not mapped or
 * locked. Sleeps.
 * Return: 0 to look again, or a negative errno.
 */
static inline int gm_bring_home(struct vm_area_struct *vma, unsigned long addr)
{
	return gm_active(vma->vm_mm) ? __gm_bring_home(vma, addr) : -EFAULT;
}

#else /* !CONFIG_GMEM */

static inline bool gm_active(const struct mm_struct *mm)
{
	return false;
}

static inline int gm_bring_home(struct vm_area_struct *vma, unsigned long addr)
{
	return -EFAULT;
}

static inline vm_fault_t gm_host_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static inline int gm_zap_ptes(struct mm_struct *mm, unsigned long addr,
			      pte_t *pte, int max)
{
	return 1;
}

static inline int gm_fork(struct vm_area_struct *child,
			  struct vm_area_struct *vma)
{
	return 0;
}

static inline void gm_fork_failed(struct mm_struct *mm)
{
}

static inline int gm_mremap_begin(struct vm_area_struct *vma,
				  unsigned long start, unsigned long to,
				  unsigned long len)
{
	return 0;
}

static inline void gm_mremap_end(struct mm_struct *mm, unsigned long start,
				 unsigned long to, unsigned long len,
				 bool moved)
{
}

static inline void gm_exit(struct mm_struct *mm)
{
}

static inline void gm_mm_init(struct mm_struct *mm)
{
}

static inline int gm_query(struct mm_struct *mm, unsigned long addr)
{
	return -ENOENT;
}

#endif /* CONFIG_GMEM */

#endif /* _LINUX_GMEM_HOOKS_H */
