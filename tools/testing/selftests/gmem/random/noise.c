// SPDX-License-Identifier: GPL-2.0
/*
 * The random test: a thread without pages of its own, which does to those of
 * the others what must not change their contents.
 */
#include "random.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define BUFFER		(64 * SZ_4K)

struct noise {
	struct actor actor;	/* for its device and generator only */
	char *buffer;
};

static struct range some_range(struct noise *n)
{
	struct range r = { below(&n->actor, process.pages), 0 };

	r.nr = 1 + below(&n->actor, chance(&n->actor, 50) ? 16 : BLOCK_PAGES);
	if (r.nr > process.pages - r.first)
		r.nr = process.pages - r.first;
	return r;
}

static void hint(struct noise *n)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT, MADV_COLLAPSE,
		MADV_COLLAPSE, MADV_POPULATE_READ,
	};
	struct range r = some_range(n);

	madvise(page_at(r.first), r.nr * SZ_4K, advice[below(&n->actor, 6)]);
}

static void prefetch(struct noise *n)
{
	struct range r = some_range(n);
	unsigned int d = below(&n->actor, shared->npus + 1);

	_hmadvise(d < shared->npus ? shared->hnid[d] : -1, page_at(r.first),
		  r.nr * SZ_4K, HMADV_PREFETCH);
}

/* As many pages as can be had, in one piece each. */
static void access_pages(struct noise *n, bool write)
{
	struct range r = some_range(n);
	unsigned int i, end = r.first + r.nr;

	for (i = r.first; i < end && i < r.first + BUFFER / SZ_4K; i++) {
		struct iovec local = { n->buffer, SZ_4K };
		struct iovec remote = { page_at(i), SZ_4K };

		if (write)
			process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
		else
			process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	}
}

static void device_read(struct noise *n)
{
	struct range r = some_range(n);
	struct npu *npu = &n->actor.npu[below(&n->actor, shared->npus)];

	if (npu->fd >= 0)
		_npu_reduce(npu, page_at(r.first), r.nr * SZ_4K, NULL);
}

/* Pinned for a while by a pipe. */
static void pin(struct noise *n)
{
	struct range r = some_range(n);
	struct iovec iov = { page_at(r.first), 4 * SZ_4K };
	int fd[2];

	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC))
		return;
	vmsplice(fd[1], &iov, 1, SPLICE_F_NONBLOCK);
	gmem_sleep_ms(below(&n->actor, 10));
	close(fd[0]);
	close(fd[1]);
}

/* A copy of all, in the middle of everything, in which nothing is spared. */
static void child(struct noise *n)
{
	struct npu npu;
	unsigned int i;

	signal(SIGBUS, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	for (i = 0; i < 4; i++)
		access_pages(n, chance(&n->actor, 70));
	if (chance(&n->actor, 50) &&
	    !_npu_open(&npu, below(&n->actor, shared->npus)) &&
	    !_npu_attach(&npu, 0)) {
		for (i = 0; i < 4; i++) {
			struct range r = some_range(n);

			_npu_fill(&npu, page_at(r.first), r.nr * SZ_4K,
				  0xbadbadbadbadbadbULL, NULL);
		}
	}
	access_pages(n, true);
	_exit(0);
}

static void scribbling_child(struct noise *n)
{
	pid_t pid = fork();

	if (!pid)
		child(n);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void make_noise(struct noise *n)
{
	switch (below(&n->actor, 16)) {
	case 0:
		_gmem_write_file("/proc/sys/vm/compact_memory", "1");
		break;
	case 1:
		_gmem_write_file("/proc/self/clear_refs", "4");
		break;
	case 2:
		scribbling_child(n);
		break;
	case 3:
		pin(n);
		break;
	case 4 ... 6:
		hint(n);
		break;
	case 7 ... 9:
		device_read(n);
		break;
	case 10 ... 11:
		access_pages(n, false);
		break;
	default:
		prefetch(n);
	}
}

void *noise_main(void *arg)
{
	struct noise *n = calloc(1, sizeof(*n));
	unsigned int d;

	(void)arg;
	if (!n)
		return NULL;
	n->buffer = calloc(1, BUFFER);
	n->actor.rnd = mix(process.id, 77);
	for (d = 0; d < NR_NPUS; d++) {
		n->actor.npu[d].fd = -1;
		if (d < shared->npus && !_npu_open(&n->actor.npu[d], d) &&
		    _npu_attach(&n->actor.npu[d], 0))
			npu_close(&n->actor.npu[d]);
	}
	while (n->buffer && !stopped() &&
	       !__atomic_load_n(&process.stop, __ATOMIC_SEQ_CST)) {
		make_noise(n);
		gmem_sleep_ms(below(&n->actor, 40));
	}
	for (d = 0; d < NR_NPUS; d++)
		npu_close(&n->actor.npu[d]);
	free(n->buffer);
	free(n);
	return NULL;
}
