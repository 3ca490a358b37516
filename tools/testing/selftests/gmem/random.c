// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on shared memory, by several processes and threads, against
 * a model of what every byte must be.  See random/random.h.
 *
 * This part divides the work into rounds, each with a seed of its own, and does
 * to the machine what concerns all processes: it takes device memory away and
 * gives it back, compacts and reclaims.
 */
#include <getopt.h>
#include <inttypes.h>
#include <kselftest.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random/random.h"

#define ROUND_MS	60000	/* of a long run */
#define SHORT_ROUND_MS	10000
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

struct options {
	uint64_t seed;
	uint64_t ops;
	uint64_t seconds;
	unsigned int procs;
	unsigned int threads;
	bool quiet;
	bool verbose;
};

/* --- the machine ---------------------------------------------------------------------- */

struct machine {
	uint64_t rnd;
	long long limit[NR_NPUS];
	bool limited[NR_NPUS];
	char scan[32];
	char alloc[32];
};

static void machine_begin(struct machine *m, uint64_t seed)
{
	unsigned int i;

	m->rnd = mix(seed, 99);
	for (i = 0; i < shared->npus; i++)
		m->limit[i] = gmem_hnode_get(shared->hnid[i], "limit");
	_gmem_swap_on();
	gmem_read_file(KHUGEPAGED "scan_sleep_millisecs", m->scan,
		       sizeof(m->scan));
	gmem_read_file(KHUGEPAGED "alloc_sleep_millisecs", m->alloc,
		       sizeof(m->alloc));
	_gmem_write_file(KHUGEPAGED "scan_sleep_millisecs", "20");
	_gmem_write_file(KHUGEPAGED "alloc_sleep_millisecs", "20");
}

static int machine_end(struct machine *m)
{
	unsigned int i;
	int err = 0;

	_gmem_write_file(KHUGEPAGED "scan_sleep_millisecs", m->scan);
	_gmem_write_file(KHUGEPAGED "alloc_sleep_millisecs", m->alloc);
	for (i = 0; i < shared->npus; i++)
		err |= _gmem_hnode_set(shared->hnid[i], "limit", m->limit[i]);
	return err;
}

/* Less memory for a device, or all of it again. */
static void change_limit(struct machine *m)
{
	static const size_t sizes[] = {
		0, SZ_1M, SZ_2M, 4 * SZ_1M, 8 * SZ_1M, 16 * SZ_1M,
	};
	unsigned int i = gmem_random(&m->rnd) % shared->npus;
	size_t size = sizes[gmem_random(&m->rnd) % 6];

	_gmem_hnode_set(shared->hnid[i], "limit", m->limited[i] ?
			(unsigned long long)m->limit[i] : size);
	m->limited[i] = !m->limited[i];
}

static void disturb(struct machine *m)
{
	switch (gmem_random(&m->rnd) % 64) {
	case 0 ... 3:
		change_limit(m);
		break;
	case 4:
		_gmem_write_file("/proc/sys/vm/compact_memory", "1");
		break;
	case 5:
		_gmem_write_file("/cgroup/memory.reclaim", "4M");
		break;
	}
}

/* --- a round ---------------------------------------------------------------------------- */

static int round_init(const struct options *o, uint64_t seed, uint64_t ms)
{
	uint64_t rnd = mix(seed, 1);
	struct npu npu;
	unsigned int i;

	memset(shared, 0, sizeof(*shared));
	shared->seed = seed;
	shared->end = ms ? gmem_now_ms() + ms : 0;
	shared->max_ops = o->ops;
	shared->procs = o->procs ? o->procs : 1 + gmem_random(&rnd) % 2;
	shared->threads = o->threads ? o->threads :
				       1 + gmem_random(&rnd) % 3;
	shared->noise = !o->quiet;
	shared->verbose = o->verbose;
	shared->npus = npu_count() < NR_NPUS ? npu_count() : NR_NPUS;
	for (i = 0; i < shared->npus; i++) {
		int err = _npu_open(&npu, i);

		if (err)
			return err;
		shared->hnid[i] = npu.hnid;
		npu_close(&npu);
	}
	return 0;
}

/* Longer than anything takes, here or on the debug kernel. */
static uint64_t hang_ms(void)
{
	return gmem_scaled(100) < 100 ? 200000 : 120000;
}

static bool slot_hangs(const struct slot *slot)
{
	uint64_t since = slot->since, now = gmem_now_ms();

	return slot->pid && since && now > since && now - since > hang_ms();
}

/* Somebody is stuck in an operation: say where all are, and give up. */
static bool hangs(void)
{
	const struct slot *slot;
	bool found = false;
	unsigned int i;

	for (i = 0; i < MAX_SLOTS; i++)
		found |= slot_hangs(&shared->slot[i]);
	if (!found)
		return false;
	for (i = 0; i < MAX_SLOTS; i++) {
		slot = &shared->slot[i];
		if (!slot->pid)
			continue;
		ksft_print_msg("%s %s/%u #%" PRIu64
			       " %s, pages %u+%u, process %d\n",
			       slot_hangs(slot) ? "HANGS:" : "there is",
			       slot->path, slot->actor, slot->op,
			       slot->name ? slot->name : "?",
			       slot->range.first, slot->range.nr, slot->pid);
	}
	_gmem_write_file("/proc/sysrq-trigger", "w");
	for (i = 0; i < MAX_SLOTS; i++)
		if (shared->slot[i].pid > 0)
			kill(shared->slot[i].pid, SIGKILL);
	return true;
}

/* Wait for all processes, those whose parent is gone too. */
static bool wait_for_all(struct machine *m)
{
	bool ok = true;
	int status;

	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0)
			break;
		if (pid > 0) {
			/* A child that was killed did so itself, or is missed. */
			ok &= WIFSIGNALED(status) || !WEXITSTATUS(status);
			continue;
		}
		if (hangs())
			return false;
		disturb(m);
		gmem_sleep_ms(5);
	}
	if (shared->started != shared->finished) {
		ksft_print_msg("%u processes began, %u came to their end\n",
			       shared->started, shared->finished);
		ok = false;
	}
	return ok && !shared->failed;
}

static void print_counts(void)
{
	static const struct operation * const tables[] = {
		memory_ops, device_ops, process_ops,
	};
	const struct operation *op;
	unsigned int i, index = 0;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (op = tables[i]; op->name; op++, index++)
			ksft_print_msg("%8" PRIu64 " %s in %" PRIu64
				       " ms, %" PRIu64 " left out\n",
				       shared->count[index], op->name,
				       shared->ms[index],
				       shared->skipped[index]);
}

static uint64_t operations(void)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < MAX_OPS; i++)
		sum += shared->count[i];
	return sum;
}

static bool run_round(const struct options *o, uint64_t seed, uint64_t ms)
{
	struct machine machine = { 0 };
	unsigned int i;
	bool ok;

	if (round_init(o, seed, ms)) {
		ksft_print_msg("cannot use the devices\n");
		return false;
	}
	machine_begin(&machine, seed);
	fflush(stdout);
	for (i = 0; i < shared->procs; i++) {
		pid_t pid;

		shared->started++;
		pid = fork();
		if (!pid)
			process_main(i);
		if (pid < 0)
			shared->finished++;
	}
	ok = wait_for_all(&machine);
	if (machine_end(&machine)) {
		ksft_print_msg("cannot restore the limits\n");
		ok = false;
	}
	if (ok && !gmem_hnodes_idle()) {
		ksft_print_msg("device pages are in use that nobody has\n");
		ok = false;
	}
	if (o->verbose || !ok)
		print_counts();
	ksft_test_result(ok && operations(),
			 "seed %" PRIu64 ": %" PRIu64
			 " operations, %u processes, %u threads in each of %u\n",
			 seed, operations(), shared->started, shared->threads,
			 shared->procs);
	return ok;
}

/* --- options ---------------------------------------------------------------------------- */

static void usage(void)
{
	printf("Usage: random [OPTION...]\n\n"
	       "Random operations on shared memory by several processes and\n"
	       "threads, on CPUs and devices, against a model of what every byte\n"
	       "must be.  Without --seed, --ops and --seconds: three rounds with\n"
	       "fixed seeds, and one with another.\n\n"
	       "  --seed N      of the first round; the next one has N + 1\n"
	       "  --ops N       one round, of N operations of each thread\n"
	       "  --seconds N   rounds of a minute, for so long\n"
	       "  --procs N     processes to begin with, up to 16\n"
	       "  --threads N   threads in each, up to %u\n"
	       "  --quiet       no thread that disturbs the others\n"
	       "  --verbose     print every operation before it is done\n"
	       "  --help        this\n\n"
	       "After a mismatch it prints how to run the same again.  The\n"
	       "operations are the same then, but not how they meet in time.\n\n"
	       "Environment:\n"
	       "\tGMEM_NPU         which device comes first, 0\n"
	       "\tGMEM_TEST_SCALE  percent of the work: 100, or 15\n"
	       "\t                 on a kernel with lockdep\n"
	       "\tGMEM_TEST_SEED   seed of the last round\n", MAX_ACTORS);
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 't' },
		{ "procs", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 'n' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	uint64_t value;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		value = optarg ? strtoull(optarg, &end, 0) : 0;
		if (optarg && (*end || !*optarg))
			return false;
		switch (c) {
		case 's':
			o->seed = value;
			break;
		case 'o':
			o->ops = value;
			break;
		case 't':
			o->seconds = value;
			break;
		case 'p':
			o->procs = value;
			break;
		case 'n':
			o->threads = value;
			break;
		case 'q':
			o->quiet = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'h':
			usage();
			exit(KSFT_PASS);
		default:
			return false;
		}
	}
	return optind == argc && o->procs <= 16 && o->threads <= MAX_ACTORS;
}

static void run_default(const struct options *o)
{
	const uint64_t ms = gmem_scaled(SHORT_ROUND_MS);
	const uint64_t seeds[] = { 1, 2, 3, gmem_seed() };
	const unsigned int nr = sizeof(seeds) / sizeof(seeds[0]);
	unsigned int i;

	ksft_set_plan(nr);
	for (i = 0; i < nr; i++)
		run_round(o, seeds[i], ms);
}

/* By time or by number; a mismatch ends it, as the state is there to look at. */
static void run_long(const struct options *o)
{
	uint64_t seed = o->seed ? o->seed : gmem_seed();
	uint64_t left = o->seconds * 1000, ms;
	unsigned int i, nr = (left + ROUND_MS - 1) / ROUND_MS;

	if (o->ops || !nr)
		nr = 1;
	ksft_set_plan(nr);
	for (i = 0; i < nr; i++) {
		ms = left < ROUND_MS || o->ops ? left : ROUND_MS;
		left -= ms;
		if (!ms && !o->ops)
			ms = SHORT_ROUND_MS;
		if (!run_round(o, seed + i, ms))
			break;
	}
}

int main(int argc, char **argv)
{
	struct options o = { 0 };

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "random: wrong option, see --help\n");
		return KSFT_FAIL;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	if (!npu_count())
		ksft_exit_skip("no /dev/gmem-npu*\n");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	/* Children whose parent has gone are ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (o.seed || o.ops || o.seconds)
		run_long(&o);
	else
		run_default(&o);
	ksft_finished();
}
