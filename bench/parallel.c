// SPDX-License-Identifier: GPL-2.0
/*
 * P11: threads that bring single pages home, each from a range of its own, with
 * VMA and page tables of its own.
 *
 * Where one instruction takes one nanosecond the processors take turns, so this
 * runs where each of them has a thread of the host, and by the host's clock.
 * Other work on the host is in such times.  One thread and two have their turns
 * alternately, many times over, and the best time of each counts.  So do two
 * processes, to tell what of it are locks of the address space, and a loop, to tell
 * what the host is good for.
 *
 * On a kernel that can trace, nothing is timed: it is counted how often one of
 * the two found a lock taken, and whose lock it was.  That does not depend on how
 * fast anything is.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define THREADS		2
#define ROUNDS		7
#define PAGES		(BENCH_SINGLES * 50)	/* of each thread */
#define LOOPS		20000000

#define TRACING		"/sys/kernel/tracing/"
#define EVENT		TRACING "events/lock/contention_begin/"

static struct npu npu;
static struct gmem_buf range[THREADS];

/* What threads and processes have in common. */
static struct course {
	pthread_barrier_t start;
	uint64_t begun[THREADS];
	uint64_t ended[THREADS];
} *course;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bench_die("sched_setaffinity: %m");
}

static void course_open(unsigned int n)
{
	pthread_barrierattr_t attr;

	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	bench_check(pthread_barrier_init(&course->start, &attr, n), "barrier");
}

/* Nanoseconds from when the first of @n began until the last had ended. */
static uint64_t course_close(unsigned int n)
{
	uint64_t first = UINT64_MAX, last = 0;
	unsigned int i;

	pthread_barrier_destroy(&course->start);
	for (i = 0; i < n; i++) {
		if (course->begun[i] < first)
			first = course->begun[i];
		if (course->ended[i] > last)
			last = course->ended[i];
	}
	return last - first;
}

/* --- what is done ------------------------------------------------------------ */

static void expect_on_dev(const struct npu *dev, unsigned int me, size_t pages)
{
	bench_expect("pages on the device",
		     gmem_pages_on(range[me].p, range[me].len, dev->hnid),
		     pages);
}

static void to_dev(const struct npu *dev, unsigned int me)
{
	bench_expect("errno", _hmadvise(dev->hnid, range[me].p, range[me].len,
					HMADV_PREFETCH), ENOMEM);
	expect_on_dev(dev, me, PAGES);
}

static void *recall(void *arg)
{
	unsigned int me = (uintptr_t)arg;
	size_t i;

	pin(me);
	pthread_barrier_wait(&course->start);
	course->begun[me] = now_ns();
	for (i = 0; i < PAGES; i++)
		bench_expect("word", *(volatile uint64_t *)
			     bench_single(&range[me], i), i + 1);
	course->ended[me] = now_ns();
	return NULL;
}

/* Nothing but instructions: what two processors of this host are good for. */
static void *loop(void *arg)
{
	unsigned int me = (uintptr_t)arg;
	volatile unsigned int i;

	pin(me);
	pthread_barrier_wait(&course->start);
	course->begun[me] = now_ns();
	for (i = 0; i < LOOPS; i++)
		;
	course->ended[me] = now_ns();
	return NULL;
}

static uint64_t run_threads(unsigned int n, void *(*fn)(void *arg))
{
	pthread_t threads[THREADS];
	uintptr_t i;

	course_open(n);
	for (i = 0; i < n; i++)
		bench_check(pthread_create(&threads[i], NULL, fn, (void *)i),
			    "thread");
	for (i = 0; i < n; i++)
		bench_check(pthread_join(threads[i], NULL), "thread");
	return course_close(n);
}

static uint64_t run_recalls(unsigned int n)
{
	unsigned int i;
	uint64_t ns;

	for (i = 0; i < n; i++)
		to_dev(&npu, i);
	ns = run_threads(n, recall);
	for (i = 0; i < n; i++)
		expect_on_dev(&npu, i, 0);
	return ns;
}

static uint64_t run_loops(unsigned int n)
{
	return run_threads(n, loop);
}

/* The same recalls by processes of one thread each: they share the device only. */
static void recall_alone(uintptr_t me)
{
	struct npu mine;

	bench_check(_npu_open(&mine, 0), "open");
	bench_check(_npu_attach(&mine, 0), "attach");
	to_dev(&mine, me);
	recall((void *)me);
	expect_on_dev(&mine, me, 0);
	_exit(0);
}

static uint64_t run_processes(unsigned int n)
{
	pid_t child[THREADS];
	unsigned int i;

	course_open(n);
	for (i = 0; i < n; i++) {
		child[i] = gmem_fork();
		if (!child[i])
			recall_alone(i);
		if (child[i] < 0)
			bench_die("fork: %m");
	}
	for (i = 0; i < n; i++)
		bench_expect("status of a child", gmem_child(child[i]), 0);
	return course_close(n);
}

/* --- by the clock ------------------------------------------------------------ */

static const struct event {
	const char *name;
	uint64_t (*run)(unsigned int n);
} events[] = {
	{ "", run_recalls },
	{ "-processes", run_processes },
	{ "-loop", run_loops },
};

#define EVENTS	(sizeof(events) / sizeof(events[0]))

static void measure(void)
{
	uint64_t best[EVENTS][THREADS + 1], ns;
	unsigned int round, e, n;

	memset(best, 0xff, sizeof(best));
	for (round = 0; round < ROUNDS * EVENTS; round++) {
		e = round % EVENTS;
		for (n = 1; n <= THREADS; n++) {
			ns = events[e].run(n);
			if (ns < best[e][n])
				best[e][n] = ns;
		}
	}
	for (e = 0; e < EVENTS; e++)
		bench_figure((double)THREADS * best[e][1] / best[e][THREADS],
			     "times,host-clock", "p11.speedup%s",
			     events[e].name);
	for (n = 1; n <= THREADS; n++)
		bench_figure(n * PAGES * 1e9 / best[0][n], "recalls/s",
			     "p11.recalls-%u", n);
}

/* --- by the locks ------------------------------------------------------------ */

#define MAX_LOCKS	64

/* Who waited for a lock: the first function of the stack that is no lock's. */
static struct waiter {
	char name[64];
	unsigned int times;
} waiters[MAX_LOCKS];

static void count_waiter(const char *name)
{
	struct waiter *w = waiters;

	while (w->times && strcmp(w->name, name))
		w++;
	if (w == &waiters[MAX_LOCKS - 1])
		bench_die("too many locks");
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->times++;
}

static bool is_lock(const char *function)
{
	static const char * const parts[] = {
		"spin_lock", "mutex", "rwsem", "down_read", "down_write",
		"trace_event", "contention", "rt_", "read_lock", "write_lock",
	};
	size_t i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(function, parts[i]))
			return true;
	return false;
}

static void write_trace_file(const char *path, const char *text)
{
	bench_check(_gmem_write_file(path, text), path);
}

/* The lines of a stack follow the event: " => function". */
static void read_trace(void)
{
	FILE *f = fopen(TRACING "trace", "r");
	char line[512], name[64];
	bool search = false;

	if (!f)
		bench_die(TRACING "trace: %m");
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "contention_begin:")) {
			search = true;
		} else if (search && sscanf(line, " => %63s", name) == 1 &&
			   !is_lock(name)) {
			count_waiter(name);
			search = false;
		}
	}
	fclose(f);
}

/*
 * In GMEM's functions and in others', as a share of the recalls.  What is waited
 * for in one recall of a hundred, or more often, has a line of its own.
 */
static void count_locks(void)
{
	unsigned int gmem = 0, others = 0;
	unsigned int round;
	const double recalls = ROUNDS * THREADS * PAGES;
	struct waiter *w;

	write_trace_file(TRACING "tracing_on", "0");
	write_trace_file(TRACING "trace", "");
	write_trace_file(TRACING "buffer_size_kb", "32768");
	write_trace_file(TRACING "options/stacktrace", "1");
	write_trace_file(EVENT "filter", "common_pid != 0");
	write_trace_file(EVENT "enable", "1");
	for (round = 0; round < ROUNDS; round++) {
		write_trace_file(TRACING "tracing_on", "1");
		run_recalls(THREADS);
		write_trace_file(TRACING "tracing_on", "0");
	}
	write_trace_file(EVENT "enable", "0");
	read_trace();
	for (w = waiters; w->times; w++) {
		if (100 * w->times >= recalls)
			bench_figure(100 * w->times / recalls, "%-of-recalls",
				     "p11.wait.%s", w->name);
		if (!strncmp(w->name, "gm_", 3) ||
		    !strncmp(w->name, "vm_object_", 10))
			gmem += w->times;
		else
			others += w->times;
	}
	bench_figure(100 * gmem / recalls, "%-of-recalls", "p11.contended");
	bench_figure(100 * others / recalls, "%-of-recalls",
		     "p11.contended-others");
}

int main(void)
{
	unsigned int i;

	if (!bench_load_driver() || !npu_count()) {
		printf("# SKIP there is no accelerator or no driver\n");
		return BENCH_SKIP;
	}
	if (sysconf(_SC_NPROCESSORS_ONLN) < THREADS) {
		printf("# SKIP the machine has one processor\n");
		return BENCH_SKIP;
	}
	bench_check(_npu_open(&npu, 0), "/dev/gmem-npu0");
	bench_check(_npu_attach(&npu, 0), "attach");
	course = mmap(NULL, sizeof(*course), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (course == MAP_FAILED)
		bench_die("mmap: %m");
	for (i = 0; i < THREADS; i++)
		bench_map_singles(&range[i], PAGES, MAP_PEER_SHARED);
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	if (access(EVENT "enable", W_OK))
		measure();
	else
		count_locks();
	npu_close(&npu);
	bench_print();
	return 0;
}
