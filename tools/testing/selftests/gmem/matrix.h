/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operation matrix: what can be done to a range of memory, crossed with
 * where its pages are, with their size and with who else uses them.
 *
 * A cell of it is a buffer of its own that is brought into a state, one
 * operation on the buffer or on a part of it, and a look at every byte.  The
 * cell's shadow is what the CPU knows each page to contain; the operation does
 * to the shadow what it should do to the memory.
 *
 * In a cell with a race a worker, a CPU or a job of the device, increments one
 * word of each page while the operation runs, and counts.  Nobody else writes
 * that word, so its value is known, too; the shadow gets it in the end.
 */
#ifndef GMEM_MATRIX_H
#define GMEM_MATRIX_H

#include "gmem_util.h"

enum cell_state {
	CELL_HOST,		/* on the host, the device has not seen it */
	CELL_DEVICE,		/* on the device */
	CELL_REMOTE,		/* on the host, and the device has it mapped */
	CELL_PINNED,		/* the same, and pinned for DMA of others */
	CELL_MIXED,		/* every other stretch on the device */
	CELL_MOVING,		/* a thread moves it back and forth */
	NR_STATES
};

enum cell_race {
	CELL_ALONE,
	CELL_CPU,		/* a CPU reads and writes meanwhile */
	CELL_JOBS,		/* jobs of the device do */
	NR_RACES
};

#define CELL_GROWTH	16	/* pages that an operation may add */
#define CELL_PAGES	(SZ_2M / SZ_4K + CELL_GROWTH)
#define CELL_WORD	2048	/* where in a page the worker has its word */

/* What processes share. */
struct cell_shared {
	uint32_t started[CELL_PAGES];	/* increments, by page */
	uint32_t done[CELL_PAGES];
	uint64_t accesses;
	uint64_t moves;
	bool failed;
	char why[160];
};

/*
 * struct cell - one cell at work
 *
 * Offsets (at) are from the start of the buffer, which is not where the page
 * must be after the operation: @page knows.
 */
struct cell {
	const struct matrix_op *op;
	const struct gmem_shape *shape;
	enum cell_state state;
	enum cell_race race;
	bool part;

	struct npu npu[2];
	unsigned int nr_npu;
	int disk;		/* a block device, if the operation wants one */
	int disk_id;

	struct gmem_buf buf;
	struct gmem_buf away;	/* another place, if the operation wants one */
	struct gmem_buf out;	/* where the device copies to */
	size_t len;		/* of the buffer */
	size_t at;		/* the range of the operation */
	size_t n;
	char *p;		/* its address, at first */
	char *page[CELL_PAGES];	/* address of each page, NULL: not mapped */
	uint64_t *twin[CELL_PAGES]; /* where its word counts on as well */
	char *hole;		/* addresses that must not be mapped */
	size_t hole_len;
	int pin;

	char *data;		/* what the buffer contains at first */
	char *fresh;		/* what operations write */
	char *shadow;
	char *scratch;
	uint32_t before[CELL_PAGES];	/* done when a child was forked */
	struct cell_shared *shared;
	uint64_t rnd;
	bool stop;
};

/* Flags of an operation: what it does to the pages in its range. */
#define OP_LOSES	0x01	/* their contents go */
#define OP_WRITES	0x02	/* it overwrites them, the worker's word, too */
#define OP_CHANGES	0x04	/* it changes some, but not that word */
#define OP_FAULTS	0x08	/* accesses may fail meanwhile */
#define OP_AGAIN	0x10	/* in a race it is repeated */
#define OP_HEAP		0x20	/* the buffer is heap, the range goes to its end */

/**
 * struct matrix_op - one operation
 * @name: as in the table
 * @flags: OP_*
 * @arg: for @run
 * @pages: of its range it takes that many at most, 0 for no limit
 * @setup: before there is a buffer; 0 or an errno; optional
 * @skip: why the cell makes no sense, NULL if it does; optional
 * @expect: is this, 0 or an errno, what @run should return; 0 if there is none
 * @run: does it and returns 0, an errno, or -1 after cell_fail()
 * @after: ends it, when nobody else is at work any more; optional
 */
struct matrix_op {
	const char *name;
	unsigned int flags;
	int arg;
	size_t pages;
	int (*setup)(struct cell *c);
	const char *(*skip)(const struct cell *c);
	bool (*expect)(const struct cell *c, int err);
	int (*run)(struct cell *c);
	int (*after)(struct cell *c);
};

/* The rows of the table, in its order. */
#define MATRIX_OPS(X) \
	X(cpu_read) X(cpu_write) X(device_read) X(device_write) \
	X(device_atomics) X(second_device) \
	X(munmap) X(mmap_fixed) X(brk) \
	X(mremap_grow) X(mremap_shrink) X(mremap_move) X(mremap_unaligned) \
	X(mremap_dontunmap) \
	X(mprotect_ro) X(mprotect_none) X(mprotect_back) X(vma_split_merge) \
	X(dontneed) X(madv_free) X(cold) X(pageout) X(willneed) \
	X(populate_read) X(populate_write) X(collapse) X(hugepage) \
	X(nohugepage) X(mergeable) X(madv_remove) X(process_madvise) \
	X(dontfork) X(wipeonfork) \
	X(fork_read) X(fork_write) X(fork_parent_writes) X(fork_device) \
	X(fork_grandchild) X(fork_exits_last) X(fork_exec) X(coredump) \
	X(mlock) X(munlock) \
	X(uffd_wp) X(uffd_missing) X(uffd_copy) X(uffd_move) \
	X(soft_dirty) X(pagemap) X(move_pages) \
	X(write_from) X(read_into) X(direct_write) X(direct_read) X(vmsplice) \
	X(vm_readv) X(vm_writev) X(proc_mem) X(ptrace) X(longterm_pin) \
	X(compaction) X(swapoff) X(memcg_reclaim) X(evict) \
	X(share) X(unshare) X(prefetch) X(prefetch_other) X(prefetch_host) \
	X(discard)

#define MATRIX_DECLARE(op)	extern const struct matrix_op op_##op;
MATRIX_OPS(MATRIX_DECLARE)

/* --- matrix_cell.c ------------------------------------------------------- */

/* What all cells of a page size use; 0 or an errno. */
int cell_init(struct cell *c, const struct gmem_shape *shape);
void cell_exit(struct cell *c);

/*
 * Do one cell: its op, state, race and part are set.  Returns 0 or an errno,
 * what the operation did, if that was right, or -1 and why.
 */
int cell_run(struct cell *c);

/* Note what is wrong; the first one counts.  Returns -1. */
int __attribute__((format(printf, 2, 3)))
cell_fail(struct cell *c, const char *fmt, ...);

/* For operations.  0, or -1 after cell_fail(). */

/* @view has what the shadow has at @at, but for the worker's words. */
int cell_same(struct cell *c, const char *view, size_t at, size_t n);
/* The memory is zero, but for the worker's words. */
int cell_zero(struct cell *c, const char *p, size_t n);
/* The device sees what the shadow has at @at; copies it to c->out. */
int cell_device_same(struct cell *c, const struct npu *npu, const char *p,
		     size_t at, size_t n);
/* The device adds to some words, but none of the worker's; so does the shadow. */
int cell_device_adds(struct cell *c, const struct npu *npu, char *p, size_t at,
		     size_t n);
/* The CPU writes @from, but to no word of the worker's. */
void cell_put(struct cell *c, char *to, const char *from, size_t n);

/* Operations on the shadow. */
void cell_moved(struct cell *c, size_t at, size_t n, char *to);
void cell_unmapped(struct cell *c, size_t at, size_t n);

/* Have @child run in a child, which sees the buffer as it is, and its code. */
int cell_child(struct cell *c, int (*child)(struct cell *c));
/* In a child: give the shadow the worker's words; then all can be compared. */
int cell_child_settle(struct cell *c);
/* The two halves of cell_child(). */
pid_t cell_fork(struct cell *c, int (*child)(struct cell *c));
int cell_wait(struct cell *c, pid_t pid);

/* Map c->away: as @offset bytes after a multiple of 2 MiB. */
int cell_away(struct cell *c, size_t len, size_t offset, int prot, int flags);

struct io_uring_params;

/*
 * Pin for DMA, for long, as buffer 0 of an io_uring; its descriptor, or -errno.
 */
int cell_pin(void *p, size_t len, struct io_uring_params *params);
void cell_unpin(int ring);

#endif /* GMEM_MATRIX_H */
