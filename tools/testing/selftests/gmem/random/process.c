// SPDX-License-Identifier: GPL-2.0
/*
 * The random test: processes, which fork others, and their actors.
 */
#include "random.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_DEPTH	3
/* Of a thread from the beginning: a round is more than that, however slow. */
#define MIN_OPS		10

struct round *shared;

static const struct range none;
/* For a signal handler. */
static __thread struct actor *me;

static const struct operation * const tables[] = {
	memory_ops, device_ops, process_ops,
};

bool stopped(void)
{
	return __atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST) ||
	       (shared->end && gmem_now_ms() >= shared->end);
}

static bool goes_on(const struct actor *a)
{
	if (a->op >= a->last || !plots_of(a->nr, true))
		return false;
	if (!stopped())
		return true;
	return !__atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST) &&
	       !process.depth && a->op < MIN_OPS;
}

/* --- slots --------------------------------------------------------------------------- */

static void slot_take(struct actor *a)
{
	static struct slot spare[MAX_ACTORS];
	unsigned int i;

	a->slot = &spare[a->nr];
	for (i = 0; i < MAX_SLOTS; i++) {
		pid_t nobody = 0;

		if (__atomic_compare_exchange_n(&shared->slot[i].pid, &nobody,
						getpid(), false,
						__ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST)) {
			a->slot = &shared->slot[i];
			break;
		}
	}
	a->slot->since = gmem_now_ms();
	a->slot->actor = a->nr;
	snprintf(a->slot->path, sizeof(a->slot->path), "%s", process.path);
}

static void slots_give(void)
{
	unsigned int i;

	for (i = 0; i < MAX_SLOTS; i++) {
		if (shared->slot[i].pid == getpid()) {
			shared->slot[i].since = 0;
			__atomic_store_n(&shared->slot[i].pid, 0,
					 __ATOMIC_SEQ_CST);
		}
	}
}

/* --- operations ------------------------------------------------------------------------ */

static const struct operation *pick_operation(struct actor *a,
					      unsigned int *index)
{
	const struct operation *op;
	unsigned int i, total = 0, n;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (op = tables[i]; op->name; op++)
			total += op->weight;
	n = below(a, total);
	*index = 0;
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (op = tables[i]; op->name; op++, ++*index) {
			if (n < op->weight)
				return op;
			n -= op->weight;
		}
	}
	return NULL;
}

static void step(struct actor *a)
{
	const struct operation *op;
	unsigned int index;
	int ret;

	a->rnd = mix(mix(shared->seed, process.id), mix(a->nr, a->op));
	op = pick_operation(a, &index);
	a->name = op->name;
	a->slot->op = a->op;
	a->slot->name = op->name;
	a->slot->range = none;
	a->slot->since = gmem_now_ms();
	pthread_rwlock_rdlock(&process.world);
	ret = op->fn(a);
	pthread_rwlock_unlock(&process.world);
	__atomic_add_fetch(&shared->ms[index], gmem_now_ms() - a->slot->since,
			   __ATOMIC_SEQ_CST);
	__atomic_add_fetch(ret ? &shared->skipped[index] :
				 &shared->count[index], 1, __ATOMIC_SEQ_CST);
	a->op++;
}

static void *actor_main(void *arg)
{
	struct actor *a = arg;

	me = a;
	a->name = "begin";
	if (!a->slot)
		slot_take(a);
	a->rnd = mix(mix(shared->seed, process.id), mix(a->nr, ~a->op));
	pthread_rwlock_rdlock(&process.world);
	if (!process.depth || chance(a, 70))
		devices_open(a);
	if (!process.depth)
		map_plots(a);
	pthread_rwlock_unlock(&process.world);
	while (goes_on(a))
		step(a);
	return NULL;
}

static void failed_access(int sig, siginfo_t *info, void *context)
{
	size_t at = (uintptr_t)info->si_addr - ARENA_BASE;
	struct range r = { at / SZ_4K < process.pages ? at / SZ_4K : 0, 1 };

	(void)context;
	if (!me)
		_exit(128 + sig);
	fail(me, r, "signal %d at %p", sig, info->si_addr);
}

void process_end(int code)
{
	static int ending;

	/* Another thread ends it, or the process of whom we are a copy did. */
	if (__atomic_exchange_n(&ending, getpid(), __ATOMIC_SEQ_CST) ==
	    getpid())
		pause();
	slots_give();
	__atomic_add_fetch(&shared->finished, 1, __ATOMIC_SEQ_CST);
	if (code < 0)
		raise(SIGKILL);
	_exit(code);
}

/* --- fork -------------------------------------------------------------------------------- */

/* A fill that was running when the process forked. */
struct running {
	bool is;
	struct range range;
	uint64_t pattern;
	uint64_t seqno;
	unsigned int npu;
};

static void world_init(void)
{
	pthread_rwlockattr_t attr;

	/* Those that fork wait for the others, and must not wait for ever. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&process.world, &attr);
}

/* For as long as it takes: it is not this process that hangs. */
static void wait_for(struct actor *a, pid_t pid)
{
	a->slot->since = ~0ULL;
	waitpid(pid, NULL, 0);
	a->slot->since = gmem_now_ms();
}

/* What fork() does to the pages of a child. */
static void inherit(void)
{
	struct range r = { 0, 1 };

	for (; r.first < process.pages; r.first++) {
		unsigned int flags = process.page[r.first];

		clear_bits(r, PAGE_LOCKED);
		if (flags & PAGE_WIPE)
			set_zero(r);
		if (flags & PAGE_NOFORK)
			set_hole(r);
	}
}

/* The others were in the middle of something: nobody knows how it ended. */
static void forget_others(struct actor *a)
{
	unsigned int i;

	for (i = 0; i < process.plots; i++) {
		struct plot *plot = &process.plot[i];

		if (plot->owner == a->nr)
			continue;
		plot->owner = MAX_ACTORS;
		set_hole(plot->range);
		if (chance(a, 50))
			munmap(page_at(plot->range.first),
			       plot->range.nr * SZ_4K);
	}
}

static void take_all_plots(struct actor *a)
{
	unsigned int i;

	for (i = 0; i < process.plots; i++)
		if (process.plot[i].owner < MAX_ACTORS)
			process.plot[i].owner = a->nr;
}

static void child_adopts(struct actor *a, const struct running *job)
{
	struct range r = { job->range.first, 1 };

	for (; r.first < job->range.first + job->range.nr; r.first++)
		if (!any(r, PAGE_WIPE | PAGE_NOFORK) && any(r, PAGE_MAPPED))
			adopt(a, r, job->pattern);
}

/* The device of a parent is of no use, even if that has detached meanwhile. */
static void child_leaves_devices(struct actor *a)
{
	unsigned int i, d;
	uint64_t seqno;
	int err;

	for (d = 0; d < shared->npus; d++) {
		if (!a->attached[d])
			continue;
		err = _npu_submit(&a->npu[d], NPU_OP_FILL, ARENA_BASE, SZ_2M,
				  1, 0, 0, &seqno);
		if (err != ENXIO)
			expect(a, EPERM, err);
	}
	for (i = 0; i < process.actors; i++) {
		/* Sometimes the parent's file outlives it in the child. */
		if (chance(a, 80))
			devices_close(&process.actor[i]);
		memset(process.actor[i].attached, 0,
		       sizeof(process.actor[i].attached));
	}
}

static void child_begin(struct actor *a, bool whole, const struct running *job)
{
	size_t len = strlen(process.path);
	unsigned int i;

	if (!process.depth++)
		process.root_op = a->op;
	process.id = mix(process.id, mix(a->nr, a->op));
	snprintf(process.path + len, sizeof(process.path) - len,
		 "/%u#%" PRIu64, a->nr, a->op);
	if (process.mem >= 0)
		close(process.mem);
	process.mem = -1;
	world_init();
	a->rnd = mix(process.id, shared->seed);
	for (i = 0; i < process.actors; i++) {
		process.actor[i].op = a->op + 1;
		process.actor[i].last = a->op + 5 + below(a, 30);
		process.actor[i].child = 0;
		process.actor[i].slot = NULL;
	}
	slot_take(a);
	inherit();
	if (!whole)
		forget_others(a);
	if (job->is)
		child_adopts(a, job);
	child_leaves_devices(a);
	if (chance(a, 30))
		verify_plots(a, chance(a, 70));
}

/* With jobs on the way, if there is a device. */
static void child_is_killed(struct actor *a)
{
	uint64_t pattern, seqno;
	struct range r;
	unsigned int d, i;

	for (i = 0; i < 4; i++)
		device_fill_begin(a, &r, &pattern, &d, &seqno);
	process_end(-1);
}

static void child_main(struct actor *a, bool whole, const struct running *job)
	__attribute__((noreturn));

static void child_main(struct actor *a, bool whole, const struct running *job)
{
	unsigned int i, how;
	bool threads;

	child_begin(a, whole, job);
	how = below(a, 4);
	threads = whole && process.actors > 1 && chance(a, 30);
	if (whole && !threads)
		take_all_plots(a);
	for (i = 0; threads && i < process.actors; i++) {
		struct actor *b = &process.actor[i];

		if (b != a && pthread_create(&b->thread, NULL, actor_main, b))
			fail(a, none, "pthread_create: errno %d", errno);
	}
	actor_main(a);
	a->name = "end";
	if (how == 0)
		process_end(0);
	if (how == 1)
		child_is_killed(a);
	for (i = 0; threads && i < process.actors; i++) {
		if (i != a->nr)
			pthread_join(process.actor[i].thread, NULL);
		verify_plots(&process.actor[i], true);
	}
	if (!threads)
		verify_plots(a, true);
	if (a->child && chance(a, 50))
		wait_for(a, a->child);
	process_end(0);
}

static void finish_fill(struct actor *a, const struct running *job)
{
	unsigned int i;

	expect(a, 0, _npu_wait(&a->npu[job->npu], job->seqno, NULL));
	for (i = 0; i < job->range.nr * SZ_4K / 8; i++)
		word_in(shadow_at(job->range.first), 0)[i] = job->pattern;
}

static int fork_child(struct actor *a)
{
	bool whole = chance(a, 50), waits = chance(a, 40);
	struct running job = { .is = chance(a, 40) };
	pid_t pid;

	if (process.depth == MAX_DEPTH)
		return SKIPPED;
	/* The others may work while this one waits; most do while it forks. */
	pthread_rwlock_unlock(&process.world);
	if (a->child)
		wait_for(a, a->child);
	a->child = 0;
	/* What a job has done so far is known to nobody's child but its own. */
	if (whole)
		pthread_rwlock_wrlock(&process.world);
	else
		pthread_rwlock_rdlock(&process.world);
	record(a, none, none, whole);
	if (job.is)
		job.is = !device_fill_begin(a, &job.range, &job.pattern,
					    &job.npu, &job.seqno);
	__atomic_add_fetch(&shared->started, 1, __ATOMIC_SEQ_CST);
	pid = fork();
	if (!pid)
		child_main(a, whole, &job);
	if (pid < 0)
		fail(a, none, "fork: errno %d", errno);
	if (job.is)
		finish_fill(a, &job);
	pthread_rwlock_unlock(&process.world);
	if (waits)
		wait_for(a, pid);
	else
		a->child = pid;
	pthread_rwlock_rdlock(&process.world);
	if (chance(a, 20))
		verify_plots(a, true);
	return 0;
}

const struct operation process_ops[] = {
	{ "fork", 30, fork_child },
	{ }
};

/* --- a process without a parent ----------------------------------------------------------- */

static void actor_init(struct actor *a, unsigned int nr)
{
	const size_t len = 2 * MAX_DATA * SZ_4K;

	a->nr = nr;
	a->name = "begin";
	a->last = shared->max_ops ? shared->max_ops : ~0ULL;
	a->shares = mix(process.id, nr) % 4;
	a->bounce = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS |
			 (a->shares ? MAP_PEER_SHARED : 0), -1, 0);
	if (a->bounce == MAP_FAILED) {
		perror("random: no memory for a buffer");
		_exit(1);
	}
	madvise(a->bounce, len, MADV_HUGEPAGE);
}

static void catch_signals(void)
{
	struct sigaction sa = {
		.sa_sigaction = failed_access,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGFPE, &sa, NULL);
}

void process_main(unsigned int nr)
{
	pthread_t noise;
	unsigned int i;

	catch_signals();
	process.id = mix(shared->seed, nr + 1);
	snprintf(process.path, sizeof(process.path), "%u", nr);
	model_init(mix(shared->seed, nr), shared->threads);
	world_init();
	for (i = 0; i < process.actors; i++)
		actor_init(&process.actor[i], i);
	for (i = 0; i < process.actors; i++)
		if (pthread_create(&process.actor[i].thread, NULL, actor_main,
				   &process.actor[i]))
			process_end(1);
	if (shared->noise && pthread_create(&noise, NULL, noise_main, NULL))
		process_end(1);
	for (i = 0; i < process.actors; i++)
		pthread_join(process.actor[i].thread, NULL);
	for (i = 0; i < process.actors; i++) {
		process.actor[i].name = "end";
		verify_plots(&process.actor[i], false);
	}
	__atomic_store_n(&process.stop, true, __ATOMIC_SEQ_CST);
	if (shared->noise)
		pthread_join(noise, NULL);
	process_end(0);
}
