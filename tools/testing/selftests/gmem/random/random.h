/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The random test: what its parts share.
 *
 * A process works on an arena at a fixed address and keeps a model of it: for
 * each page what it may do, and for each byte what it must be.  The arena is
 * divided into plots.  Each plot belongs to one actor, a thread that works on
 * no other plot, so that the model is exact although neighbouring plots share
 * VMAs, blocks and page tables.  A forked child goes on with the copy of the
 * model that it has.
 *
 * Every decision of an actor comes from a generator that is seeded anew for
 * each operation, by the seed of the round, the process, the actor and the
 * number of the operation.
 */
#ifndef GMEM_RANDOM_H
#define GMEM_RANDOM_H

#include <pthread.h>

#include "../gmem_util.h"

/* Where the kernel puts nothing by itself. */
#define ARENA_BASE		0x100000000000UL

#define BLOCK_PAGES		(SZ_2M / SZ_4K)
#define MAX_ACTORS		4
#define MAX_PLOTS		512
#define MAX_SLOTS		128
/* Pages whose data one operation looks at. */
#define MAX_DATA		BLOCK_PAGES
#define MAX_RECORDS		1024
#define NR_NPUS			2
#define MAX_OPS			64

/* What the model knows of a page. */
#define PAGE_MAPPED		0x01
#define PAGE_READ		0x02
#define PAGE_WRITE		0x04
#define PAGE_SHARED		0x08
#define PAGE_LOCKED		0x10
#define PAGE_WIPE		0x20	/* a child reads zeros */
#define PAGE_NOFORK		0x40	/* a child does not have it */
#define PAGE_LAZY		0x80	/* MADV_FREE: as it was, or zeros */

#define PAGE_RW			(PAGE_MAPPED | PAGE_READ | PAGE_WRITE)
#define PAGE_RO			(PAGE_MAPPED | PAGE_READ)

/* Pages of the arena. */
struct range {
	unsigned int first;
	unsigned int nr;
};

struct plot {
	struct range range;
	unsigned int owner;	/* MAX_ACTORS: of nobody */
};

/* An operation as the report of a mismatch shows it. */
struct record {
	uint64_t order;		/* in the process */
	uint64_t op;
	const char *name;
	struct range range;
	struct range other;	/* a source, or where pages came from */
	uint64_t arg;
	int err;
	unsigned int actor;
};

/* What an actor does right now, for who looks for hangs. */
struct slot {
	pid_t pid;
	uint64_t since;		/* ms */
	uint64_t op;
	const char *name;
	struct range range;
	char path[64];
	unsigned int actor;
};

struct actor {
	unsigned int nr;
	uint64_t op;
	uint64_t rnd;
	const char *name;	/* of the operation */
	struct npu npu[NR_NPUS];
	bool attached[NR_NPUS];
	bool strict[NR_NPUS];
	bool shares;		/* devices may share the bounce buffer */
	char *bounce;		/* MAX_DATA pages, and as many again */
	struct slot *slot;
	pthread_t thread;
	pid_t child;
	uint64_t last;		/* operation that this process ends with */
	struct record record[MAX_RECORDS];
	uint64_t records;
};

struct process {
	uint64_t id;
	char path[64];
	unsigned int depth;
	uint64_t root_op;	/* of the process that has no parent */
	unsigned int actors;
	unsigned int pages;
	unsigned int plots;
	struct plot plot[MAX_PLOTS];
	unsigned char *page;	/* PAGE_* */
	char *shadow;
	struct actor *actor;
	/* An operation holds it for reading, a fork of the whole for writing. */
	pthread_rwlock_t world;
	int mem;		/* /proc/self/mem */
	uint64_t records;
	bool stop;		/* of the noise */
};

/* What all processes of a round share. */
struct round {
	uint64_t seed;
	uint64_t end;		/* ms */
	uint64_t max_ops;	/* of an actor that is no child's, 0: no limit */
	unsigned int procs;
	unsigned int threads;
	bool noise;
	bool verbose;
	unsigned int npus;
	int hnid[NR_NPUS];
	int failed;		/* somebody said why */
	unsigned int started;
	unsigned int finished;
	/* Of each operation. */
	uint64_t count[MAX_OPS];
	uint64_t skipped[MAX_OPS];
	uint64_t ms[MAX_OPS];
	struct slot slot[MAX_SLOTS];
};

extern struct round *shared;
extern struct process process;

/* --- model.c: the arena, the model, what does not agree with it ----------- */

uint64_t mix(uint64_t a, uint64_t b);
/* A random number below @n. */
uint64_t below(struct actor *a, uint64_t n);
bool chance(struct actor *a, unsigned int percent);

void model_init(uint64_t seed, unsigned int actors);

static inline char *page_at(unsigned int page)
{
	return (char *)ARENA_BASE + page * SZ_4K;
}

static inline char *shadow_at(unsigned int page)
{
	return process.shadow + page * SZ_4K;
}

static inline uint64_t *word_in(char *p, size_t at)
{
	return (uint64_t *)(p + at);
}

/* How many plots of two blocks, or others, an actor has: some, or none at all. */
unsigned int plots_of(unsigned int owner, bool large);
/* A range of some length, somewhere in a plot of the actor. */
struct range pick(struct actor *a);
/* One whose pages all have of @mask the bits @bits; none: @nr is 0. */
struct range pick_run(struct actor *a, unsigned int mask, unsigned int bits);
/* Two such runs that do not overlap. */
bool pick_two(struct actor *a, unsigned int mask, unsigned int bits,
	      unsigned int mask2, unsigned int bits2, struct range *r,
	      struct range *r2);
bool overlap(struct range r, struct range r2);
/* Whether any page of a range has one of @bits, or lacks one. */
bool any(struct range r, unsigned int bits);
bool any_lacks(struct range r, unsigned int bits);

void set_bits(struct range r, unsigned int bits);
/* Of the pages that are mapped. */
void set_mapped(struct range r, unsigned int bits);
void clear_bits(struct range r, unsigned int bits);
void set_zero(struct range r);
void set_hole(struct range r);

/* Bytes of the arena: from a run of pages, some or all. */
struct bytes {
	size_t at;
	size_t len;
};

struct bytes pick_bytes(struct actor *a, struct range r, size_t align,
			size_t max);
struct range pages_of(struct bytes b);
/* Data that tells which operation wrote it and for where. */
void make_data(struct actor *a, struct bytes b, char *data);
/* The bytes were just written. */
void put(struct actor *a, struct bytes b, const char *data);
/*
 * Lazily freed pages of a range are there or are not, from now on; false when
 * there is one that cannot be written to.
 */
bool settle(struct range r);
/* Each word is what it was or @pattern: take what there is. */
void adopt(struct actor *a, struct range r, uint64_t pattern);

enum how {
	BY_CPU,
	BY_MEM,		/* /proc/self/mem */
	BY_KERNEL,	/* process_vm_readv() */
	BY_NPU0,
	BY_NPU1,
	NR_HOW,
};

void verify(struct actor *a, struct range r, enum how how);
void verify_some(struct actor *a, struct range r);
void verify_plots(struct actor *a, bool by_any);

/* Put an operation on record before it is done; verbose: say it. */
void record(struct actor *a, struct range r, struct range other, uint64_t arg);
/* It returned @err: must be @want. */
void expect(struct actor *a, int want, int err);
void fail(struct actor *a, struct range r, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
int mem_fd(void);

/* --- the operations -------------------------------------------------------- */

/* Nothing was there for the operation to work on. */
#define SKIPPED		1

struct operation {
	const char *name;
	unsigned int weight;
	int (*fn)(struct actor *a);
};

/* memory.c: map all plots of an actor, before the first operation */
void map_plots(struct actor *a);

extern const struct operation memory_ops[], device_ops[], process_ops[];

/* device.c */
void devices_open(struct actor *a);
void devices_close(struct actor *a);
/* Whether device @d is attached and may read the pages of @flags. */
bool device_reads(const struct actor *a, unsigned int d, unsigned int flags);
int device_fetch(struct actor *a, unsigned int d, struct range r);
int device_fill_begin(struct actor *a, struct range *r, uint64_t *pattern,
		      unsigned int *d, uint64_t *seqno);

/* process.c */
void process_main(unsigned int nr) __attribute__((noreturn));
/* End the process, all of it. */
void process_end(int code) __attribute__((noreturn));
bool stopped(void);

/* noise.c */
void *noise_main(void *arg);

#endif /* GMEM_RANDOM_H */
