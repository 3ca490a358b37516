/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the GMEM selftests and demos share: the device, the system call, where
 * pages are, patterns.  Functions whose name starts with an underscore are the
 * plain form of a helper that gmem_test.h wraps in an assertion.  They return
 * 0 or a positive errno unless they say otherwise.
 */
#ifndef GMEM_UTIL_H
#define GMEM_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../../../include/uapi/linux/hmadvise.h"
#include "../../../../drivers/gmem-sample-npu/gmem_npu_uapi.h"
#include "../../../../drivers/gmem-sample-npu/gmem_npu_regs.h"

#include <linux/userfaultfd.h>

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif
#ifndef MAP_PEER_SHARED
#define MAP_PEER_SHARED		0x01000000
#endif
#ifndef __NR_hmadvise
#define __NR_hmadvise		500
#endif

#define SZ_4K			0x1000UL
#define SZ_64K			0x10000UL
#define SZ_1M			0x100000UL
#define SZ_2M			0x200000UL

#define GMEM_FIRST_HNID		1024	/* device nodes start here */
#define GMEM_ANY_NODE		(-1)
#define GMEM_WAIT_NS		(120ULL * 1000000000ULL)

/* --- amount of work ------------------------------------------------------ */

/*
 * @n, scaled by the percentage in GMEM_TEST_SCALE; at least 1.  Without that,
 * 100 %, or 15 % on a kernel with lockdep, which is many times slower.
 */
unsigned long gmem_scaled(unsigned long n);

/* Milliseconds of a monotonic clock. */
uint64_t gmem_now_ms(void);

void gmem_sleep_ms(unsigned int ms);

/* A seed: GMEM_TEST_SEED if it is set, the time otherwise. */
uint64_t gmem_seed(void);

/* The next value of a xorshift generator; @state must not be 0. */
uint64_t gmem_random(uint64_t *state);

/* --- the device ---------------------------------------------------------- */

/* How many devices the machine has now. */
unsigned int npu_count(void);
/* Wait until it has that many, at most 10 seconds. */
bool npu_wait_count(unsigned int count);

struct npu {
	int fd;
	unsigned int number;	/* /dev/gmem-npu<number> */
	int hnid;
	uint64_t mem_size;
};

struct npu_stats {
	uint64_t insn;
	uint64_t time_ns;
	uint64_t ctx_faults;
	uint64_t ctx_jobs;
	uint64_t c[NPU_STAT_NR];
};

/* What a job returned. */
struct npu_result {
	uint64_t value;
	uint64_t faults;
};

/* The @nth device, counted from the one that GMEM_NPU says, or the first. */
int _npu_open(struct npu *npu, unsigned int nth);
int _npu_attach(struct npu *npu, uint32_t flags);
int _npu_detach(struct npu *npu);
void npu_close(struct npu *npu);
int _npu_stats(const struct npu *npu, struct npu_stats *stats);
int _npu_inject(const struct npu *npu, uint32_t what, uint64_t arg);
int _npu_touch(const struct npu *npu, const void *p, size_t len, bool write,
	       uint64_t *done);

int _npu_submit(const struct npu *npu, uint32_t op, uint64_t a0, uint64_t a1,
		uint64_t a2, uint64_t a3, uint64_t a4, uint64_t *seqno);
/* Wait for a job: the errno of the ioctl, or that of the job. */
int _npu_wait(const struct npu *npu, uint64_t seqno, struct npu_result *res);

/* Run one job and wait for it; @res may be NULL. */
int _npu_fill(const struct npu *npu, void *dst, size_t len, uint64_t pattern,
	      struct npu_result *res);
int _npu_memcpy(const struct npu *npu, void *dst, const void *src, size_t len,
		struct npu_result *res);
int _npu_reduce(const struct npu *npu, const void *src, size_t len,
		struct npu_result *res);
int _npu_histogram(const struct npu *npu, uint64_t *bins, const void *src,
		   size_t len, struct npu_result *res);
int _npu_axpy(const struct npu *npu, float *y, const float *x, size_t n,
	      float a, struct npu_result *res);
int _npu_matmul(const struct npu *npu, float *c, const float *a,
		const float *b, uint32_t m, uint32_t n, uint32_t k,
		struct npu_result *res);
int _npu_chase(const struct npu *npu, const void *node, size_t next,
	       size_t value, uint64_t max, struct npu_result *res);
int _npu_gather(const struct npu *npu, uint64_t *dst, const uint64_t *src,
		const uint64_t *index, size_t n, struct npu_result *res);
int _npu_scatter(const struct npu *npu, uint64_t *dst, const uint64_t *src,
		 const uint64_t *index, size_t n, struct npu_result *res);
int _npu_atomic_add(const struct npu *npu, uint64_t *p, uint64_t addend,
		    uint64_t times, struct npu_result *res);

/*
 * Have the device read all of a range and then add to a word in each of
 * sixteen places of it, and do the same to @shadow.  @len is a multiple of
 * the page size; EBADMSG means that the device read something else.
 */
int _npu_dirty(const struct npu *npu, void *p, void *shadow, size_t len);

/* The driver of a device: its sysfs directory and the device's PCI address. */
int npu_driver(unsigned int number, char *dir, size_t dir_len, char *addr,
	       size_t addr_len);
int _npu_unbind(const char *dir, const char *addr);
int _npu_bind(const char *dir, const char *addr);

/* --- memory -------------------------------------------------------------- */

int _hmadvise(int hnid, const void *start, size_t len, int behavior);

/* A mapping with inaccessible address space on both sides. */
struct gmem_buf {
	char *p;
	size_t len;
	char *base;
	size_t reserved;
};

/* Map @len bytes, @offset bytes after a multiple of @align. */
int _gmem_map(struct gmem_buf *buf, size_t len, size_t align, size_t offset,
	      int prot, int flags);
void gmem_unmap(struct gmem_buf *buf);

/*
 * Device memory of one page size: a range whose alignment allows blocks of
 * @block bytes and none larger.
 */
struct gmem_shape {
	size_t block;
	unsigned int nr;
	bool thp;		/* host side: huge pages */
};

#define GMEM_SHAPE_4K		{ .block = SZ_4K, .nr = 15 }
#define GMEM_SHAPE_64K		{ .block = SZ_64K, .nr = 5 }
#define GMEM_SHAPE_2M		{ .block = SZ_2M, .nr = 2 }
#define GMEM_SHAPE_2M_THP	{ .block = SZ_2M, .nr = 2, .thp = true }

int _gmem_map_shape(struct gmem_buf *buf, const struct gmem_shape *shape);

/* Fill with 64-bit words that depend on @seed; @len is a multiple of 8. */
void gmem_pattern(void *p, size_t len, uint64_t seed);
/* Fill with one 64-bit word, as the device does. */
void gmem_fill(void *p, size_t len, uint64_t v);
uint64_t gmem_sum(const void *p, size_t len);
/* The first byte where two buffers differ, @len when there is none. */
size_t gmem_diff(const void *a, const void *b, size_t len);
/* The first byte that is not zero, @len when there is none. */
size_t gmem_nonzero(const void *p, size_t len);

/* Read one byte; false when that raises SIGBUS or SIGSEGV. */
bool gmem_peek(const void *p);
/* Write one byte; false when that raises SIGBUS or SIGSEGV. */
bool gmem_poke(void *p, char value);

/* --- where pages are ----------------------------------------------------- */

/* Which node has the page: a node id, or a negative errno. */
int gmem_node(const void *p);
/* Pages of a range that @node has; GMEM_ANY_NODE counts all CPU nodes. */
size_t gmem_pages_on(const void *p, size_t len, int node);

struct gmem_smaps {
	unsigned int vmas;
	unsigned int peer_shared;	/* of them have the flag "ps" */
	size_t rss;			/* bytes from here on */
	size_t swap;
	size_t device;
	size_t huge;
};

/* What /proc/PID/smaps says of the VMAs that overlap a range; 0 is us. */
int _gmem_smaps(pid_t pid, const void *p, size_t len, struct gmem_smaps *out);

/*
 * Have all of a VMA's range swapped out, at most 5 seconds; EBUSY when a page
 * stays.  One that another CPU still has in a batch for the LRU does at first.
 */
int _gmem_page_out(void *p, size_t len);

/* The word of a page in /proc/self/pagemap. */
uint64_t gmem_pagemap(const void *p);

/* A number in /sys/kernel/mm/gmem/hnode<hnid>/, or a negative errno. */
long long gmem_hnode_get(int hnid, const char *file);
int _gmem_hnode_set(int hnid, const char *file, unsigned long long value);
/* Wait until nothing is allocated on any node, at most 20 seconds. */
bool gmem_hnodes_idle(void);

/* --- userfaultfd --------------------------------------------------------- */

/* Watches a range; a descriptor, or -1 and errno. */
int gmem_uffd_open(void *p, size_t len, uint64_t mode);
/* The same, with UFFD_FEATURE_*. */
int gmem_uffd_open_with(void *p, size_t len, uint64_t mode, uint64_t features);
int gmem_uffd_protect(int fd, void *p, size_t len, bool protect);

/* Answers faults: lifts the protection of the page, or fills it. */
struct gmem_uffd {
	int fd;
	uint64_t seen;		/* faults */
	bool stop;
	const char *fill;	/* for missing pages: what to copy there */
	char *p;		/* the address that @fill is for */
	pthread_t thread;
};

int gmem_uffd_start(struct gmem_uffd *uffd);
void gmem_uffd_stop(struct gmem_uffd *uffd);

/* --- processes ----------------------------------------------------------- */

/* fork(), and a child that does not outlive its parent. */
pid_t gmem_fork(void);

/* Wait for a child; its exit status, or 128 and the signal. */
int gmem_child(pid_t pid);

/* What a core file has of a range; EIO when it has not all of it. */
int _gmem_core_read(int fd, const void *p, void *buf, size_t len);

/* --- the machine --------------------------------------------------------- */

int gmem_read_file(const char *path, char *buf, size_t len);
int _gmem_write_file(const char *path, const char *text);
long long gmem_read_number(const char *path);

/* Give the machine swap space, once. */
int _gmem_swap_on(void);

/* A block device of its own that takes O_DIRECT; -errno or a descriptor. */
int gmem_disk_open(size_t size, int *id);
void gmem_disk_close(int fd, int id);

/* Mount a file system that has a disk of its own, once. */
#define GMEM_FS			"/tmp/gmem-fs"
#define GMEM_FS_DISK		"/tmp/gmem-fs-disk"
int _gmem_fs_mount(void);

/* The kernel log from here on. */
int gmem_log_open(void);
/* Records that the kernel wrote since; the first is put into @text. */
unsigned int gmem_log_read(int fd, char *text, size_t len);

#endif /* GMEM_UTIL_H */
