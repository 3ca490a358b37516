// SPDX-License-Identifier: GPL-2.0
/*
 * What system calls on 2 MiB cost while a device has them: what a process pays
 * for what it has given away.  Used by the drivers and by the node alike.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define SAMPLES	11

static void call_munmap(struct gmem_buf *buf)
{
	bench_check(munmap(buf->p, buf->len) ? errno : 0, "munmap");
}

static void call_mprotect(struct gmem_buf *buf)
{
	bench_check(mprotect(buf->p, buf->len, PROT_READ) ? errno : 0,
		    "mprotect");
}

/* To a place that is aligned as well. */
static void call_mremap(struct gmem_buf *buf)
{
	char *to = buf->p + SZ_2M;

	if (mremap(buf->p, buf->len, buf->len, MREMAP_MAYMOVE | MREMAP_FIXED,
		   to) != to)
		bench_die("mremap: %m");
}

static pid_t child;

/* As the parent sees it: the child gets no turn before it sleeps. */
static void call_fork(struct gmem_buf *buf)
{
	(void)buf;
	child = gmem_fork();
	if (!child)
		_exit(0);
	if (child < 0)
		bench_die("fork: %m");
}

static const struct call {
	const char *name;
	void (*fn)(struct gmem_buf *buf);
	bool forks;
} calls[] = {
	{ "munmap", call_munmap, false },
	{ "mprotect", call_mprotect, false },
	{ "mremap", call_mremap, false },
	{ "fork", call_fork, true },
};

static uint64_t insn_of(const struct call *call, struct gmem_buf *buf)
{
	uint64_t start = bench_insn();

	call->fn(buf);
	start = bench_insn() - start;
	if (call->forks)
		bench_expect("status of a child", gmem_child(child), 0);
	return start;
}

/* The fork of a process without the memory is taken off. */
static uint64_t sample(const struct call *call, int flags,
		       void (*to_dev)(const struct gmem_buf *buf, void *arg),
		       void *arg)
{
	uint64_t without = call->forks ? insn_of(call, NULL) : 0;
	struct gmem_buf buf;

	/* Twice the room, for mremap() to move into. */
	bench_map(&buf, 2 * SZ_2M, MADV_HUGEPAGE, flags);
	bench_check(munmap(buf.p + SZ_2M, SZ_2M) ? errno : 0, "munmap");
	buf.len = SZ_2M;
	to_dev(&buf, arg);
	without = insn_of(call, &buf) - without;
	gmem_unmap(&buf);
	return without;
}

void bench_held(const char *who, int flags,
		void (*to_dev)(const struct gmem_buf *buf, void *arg),
		void *arg)
{
	uint64_t insn[SAMPLES];
	size_t i, k;

	bench_go_first(true);
	for (k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
		for (i = 0; i < SAMPLES; i++)
			insn[i] = sample(&calls[k], flags, to_dev, arg);
		bench_figure(bench_least(insn, SAMPLES), "instructions",
			     "%s.held.%s", who, calls[k].name);
	}
	bench_go_first(false);
}
