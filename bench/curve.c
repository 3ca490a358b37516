// SPDX-License-Identifier: GPL-2.0
/*
 * How cost grows: instructions of an operation while one thing becomes more.
 * The figures are named curve.SERIES.X.  What each series should grow like is in
 * bench/curves.
 *
 * "-t NAME" runs one of the groups at the end of this file, all of them by
 * default.  Points that the machine has not the memory or the devices for are
 * left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define SAMPLES		11
#define SZ_1G		(1024 * SZ_1M)

static struct npu npu;

static void point(uint64_t insn, size_t x, const char *series)
{
	bench_figure(insn, "instructions", "curve.%s.%zu", series, x);
}

/* --- memory ------------------------------------------------------------------ */

static void expect_data(const struct gmem_buf *buf)
{
	size_t i;

	for (i = 0; i < buf->len; i += SZ_4K)
		bench_expect("word", *(volatile uint64_t *)(buf->p + i), i + 1);
}

/* Of a range that may be large, in a process with few VMAs. */
static void expect_on_dev(const struct gmem_buf *buf, size_t bytes)
{
	struct gmem_smaps smaps;

	bench_check(_gmem_smaps(0, buf->p, buf->len, &smaps), "smaps");
	bench_expect("bytes on the device", smaps.device, bytes);
}

/* The same the other way round. */
static void expect_pages_on_dev(const struct gmem_buf *buf, size_t pages)
{
	bench_expect("pages on the device",
		     gmem_pages_on(buf->p, buf->len, npu.hnid), pages);
}

/*
 * RCU frees what processes have left behind.  New pages wait in a batch of the
 * CPU for the LRU lists; a huge one is not made to wait, and takes those before
 * it along.
 */
static void settle(void)
{
	struct gmem_buf buf;

	gmem_sleep_ms(100);
	bench_check(_gmem_map(&buf, SZ_2M, SZ_2M, 0, PROT_READ | PROT_WRITE, 0),
		    "mmap");
	bench_check(madvise(buf.p, buf.len, MADV_HUGEPAGE) ? errno : 0,
		    "madvise");
	*(volatile char *)buf.p = 1;
	gmem_unmap(&buf);
}

static bool fits(size_t len)
{
	struct sysinfo info;

	if (sysinfo(&info))
		bench_die("sysinfo: %m");
	return len <= npu.mem_size && len + SZ_1G / 4 <= info.freeram;
}

/* --- a page that comes and goes ---------------------------------------------- */

static struct gmem_buf probe;

static void probe_open(void)
{
	bench_map_shared(&probe, SZ_4K, MADV_NOHUGEPAGE);
}

/* The fault of the device on a page of its own, and that of the CPU. */
static void probe_points(const char *what, size_t x)
{
	uint64_t fault[SAMPLES], recall[SAMPLES];
	char series[40];
	int i;

	for (i = 0; i < SAMPLES; i++) {
		fault[i] = bench_insn();
		bench_check(_npu_touch(&npu, probe.p, SZ_4K, true, NULL),
			    "GMEM_NPU_TOUCH");
		fault[i] = bench_insn() - fault[i];
		expect_pages_on_dev(&probe, 1);
		recall[i] = bench_insn();
		(void)*(volatile char *)probe.p;
		recall[i] = bench_insn() - recall[i];
		expect_pages_on_dev(&probe, 0);
	}
	expect_data(&probe);
	snprintf(series, sizeof(series), "%s-fault", what);
	point(bench_least(fault, SAMPLES), x, series);
	snprintf(series, sizeof(series), "%s-recall", what);
	point(bench_least(recall, SAMPLES), x, series);
}

/* --- bytes ------------------------------------------------------------------- */

enum bytes_op { TO_DEV, TO_HOST, FAULT, RECALL, UNMAP, BYTES_OPS };

static const char * const bytes_series[BYTES_OPS] = {
	"bytes-to-dev", "bytes-to-host", "bytes-fault", "bytes-recall",
	"bytes-munmap",
};

static void prefetch(const struct gmem_buf *buf, int node)
{
	bench_check(_hmadvise(node, buf->p, buf->len, HMADV_PREFETCH),
		    "prefetch");
}

static void run_bytes(struct gmem_buf *buf, enum bytes_op op)
{
	uint64_t done;
	size_t i;

	switch (op) {
	case TO_DEV:
		prefetch(buf, npu.hnid);
		break;
	case TO_HOST:
		prefetch(buf, GMEM_ANY_NODE);
		break;
	case FAULT:
		bench_check(_npu_touch(&npu, buf->p, buf->len, true, &done),
			    "GMEM_NPU_TOUCH");
		break;
	case RECALL:
		for (i = 0; i < buf->len; i += SZ_4K)
			(void)*(volatile char *)(buf->p + i);
		break;
	default:
		munmap(buf->p, buf->len);
		break;
	}
}

static void measure_bytes(size_t len, uint64_t *insn)
{
	struct gmem_buf buf;
	enum bytes_op op;
	uint64_t start;

	bench_map_shared(&buf, len, MADV_HUGEPAGE);
	for (op = 0; op < BYTES_OPS; op++) {
		if (op == UNMAP)
			prefetch(&buf, npu.hnid);
		start = bench_insn();
		run_bytes(&buf, op);
		start = bench_insn() - start;
		if (start < insn[op])
			insn[op] = start;
		if (op == UNMAP)
			break;
		expect_on_dev(&buf, op == TO_DEV || op == FAULT ? len : 0);
		if (op == RECALL)
			expect_data(&buf);
	}
	gmem_unmap(&buf);
}

static void curve_bytes(void)
{
	static const size_t sizes[] = {
		SZ_4K, SZ_64K, SZ_2M, 4 * SZ_2M, 16 * SZ_2M, 64 * SZ_2M,
		256 * SZ_2M, 2 * SZ_1G, 4 * SZ_1G,
	};
	uint64_t insn[BYTES_OPS];
	size_t i, samples;
	enum bytes_op op;

	for (i = 0; i < ARRAY_SIZE(sizes) && fits(sizes[i]); i++) {
		memset(insn, 0xff, sizeof(insn));
		samples = sizes[i] > 16 * SZ_2M ? 1 : SAMPLES;
		while (samples--)
			measure_bytes(sizes[i], insn);
		for (op = 0; op < BYTES_OPS; op++)
			point(insn[op], sizes[i], bytes_series[op]);
	}
}

/* --- VMAs -------------------------------------------------------------------- */

static void map_vmas(struct gmem_buf *buf, size_t n)
{
	size_t at;

	bench_map_shared(buf, 2 * n * SZ_4K, MADV_NOHUGEPAGE);
	for (at = SZ_4K; at < buf->len; at += 2 * SZ_4K)
		bench_check(munmap(buf->p + at, SZ_4K) ? errno : 0, "munmap");
}

static uint64_t munmap_insn(struct gmem_buf *buf)
{
	uint64_t start = bench_insn();

	bench_check(munmap(buf->p, buf->len) ? errno : 0, "munmap");
	start = bench_insn() - start;
	gmem_unmap(buf);
	return start;
}

/*
 * VMAs of one page each, with holes between them, in one call; and, to tell what
 * is the VMAs' own, the way out of those whose pages are on the host.
 */
static void measure_vmas(size_t n)
{
	uint64_t to_dev[SAMPLES], out[SAMPLES], out_of_host[SAMPLES];
	size_t samples = n > 1000 ? 1 : SAMPLES, i;
	struct gmem_buf buf;
	int err;

	for (i = 0; i < samples; i++) {
		map_vmas(&buf, n);
		out_of_host[i] = munmap_insn(&buf);

		map_vmas(&buf, n);
		if (!i)
			probe_points("vmas", n);
		to_dev[i] = bench_insn();
		err = _hmadvise(npu.hnid, buf.p, buf.len, HMADV_PREFETCH);
		to_dev[i] = bench_insn() - to_dev[i];
		/* The holes are reported, and the rest is done. */
		bench_expect("errno", err, ENOMEM);
		expect_pages_on_dev(&buf, n);
		out[i] = munmap_insn(&buf);
	}
	point(bench_least(to_dev, samples), n, "vmas-to-dev");
	point(bench_least(out, samples), n, "vmas-munmap");
	point(bench_least(out_of_host, samples), n, "vmas-munmap-of-host");
}

static void curve_vmas(void)
{
	static const size_t counts[] = { 1, 10, 100, 1000, 10000, 100000 };
	size_t i;

	bench_check(_gmem_write_file("/proc/sys/vm/max_map_count", "300000"),
		    "max_map_count");
	for (i = 0; i < ARRAY_SIZE(counts) && fits(2 * counts[i] * SZ_4K); i++)
		measure_vmas(counts[i]);
}

/* --- blocks ------------------------------------------------------------------ */

static void to_dev_singles(const struct gmem_buf *buf)
{
	bench_expect("errno",
		     _hmadvise(npu.hnid, buf->p, buf->len, HMADV_PREFETCH),
		     ENOMEM);
}

/* Single pages that the process has on the device. */
static void curve_pages(void)
{
	static const size_t counts[] = { 1, 10, 100, 1000, 10000, 100000 };
	struct gmem_buf buf;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts) && fits(counts[i] * SZ_4K); i++) {
		bench_map_singles(&buf, counts[i], MAP_PEER_SHARED);
		to_dev_singles(&buf);
		expect_pages_on_dev(&buf, counts[i]);
		probe_points("pages", counts[i]);
		gmem_unmap(&buf);
	}
}

/* The same with blocks of 2 MiB. */
static void curve_blocks(void)
{
	static const size_t counts[] = { 1, 4, 16, 64, 256, 1024, 2048 };
	struct gmem_buf buf;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts) && fits(counts[i] * SZ_2M); i++) {
		bench_map_shared(&buf, counts[i] * SZ_2M, MADV_HUGEPAGE);
		prefetch(&buf, npu.hnid);
		expect_on_dev(&buf, buf.len);
		probe_points("blocks", counts[i]);
		gmem_unmap(&buf);
	}
}

/* --- contexts ---------------------------------------------------------------- */

/*
 * What they all see goes: host memory that is locked, and so mapped where it is.
 */
static void measure_munmap(struct npu *more, size_t n, const char *series)
{
	uint64_t insn[SAMPLES];
	struct gmem_buf buf;
	size_t i, sample;

	for (sample = 0; sample < SAMPLES; sample++) {
		bench_map_shared(&buf, SZ_2M, MADV_HUGEPAGE);
		bench_check(mlock(buf.p, buf.len) ? errno : 0, "mlock");
		for (i = 0; i < n; i++)
			bench_check(_npu_touch(&more[i], buf.p, buf.len, true,
					       NULL), "GMEM_NPU_TOUCH");
		expect_on_dev(&buf, 0);
		insn[sample] = bench_insn();
		bench_check(munmap(buf.p, buf.len) ? errno : 0, "munmap");
		insn[sample] = bench_insn() - insn[sample];
		gmem_unmap(&buf);
	}
	point(bench_least(insn, SAMPLES), n, series);
}

/* Contexts of the process besides npu's, of that device or of one each. */
static void measure_contexts(struct npu *more, size_t n, const char *what)
{
	char series[40];
	size_t i;

	for (i = 1; i < n; i++)
		bench_check(_npu_attach(&more[i], 0), "attach");
	more[0] = npu;
	probe_points(what, n);
	snprintf(series, sizeof(series), "%s-munmap", what);
	measure_munmap(more, n, series);
	for (i = 1; i < n; i++)
		_npu_detach(&more[i]);
}

#define MAX_CONTEXTS	32

static void curve_contexts(void)
{
	struct npu more[MAX_CONTEXTS];
	size_t i, n;

	for (i = 1; i < MAX_CONTEXTS; i++)
		bench_check(_npu_open(&more[i], 0), "open");
	for (n = 1; n <= MAX_CONTEXTS; n *= 2)
		measure_contexts(more, n, "contexts");
	for (i = 1; i < MAX_CONTEXTS; i++)
		npu_close(&more[i]);
}

static void curve_devices(void)
{
	size_t count = npu_count(), i, n;
	struct npu more[MAX_CONTEXTS];

	for (i = 1; i < count; i++)
		bench_check(_npu_open(&more[i], i), "open");
	for (n = 1; n <= count; n++)
		measure_contexts(more, n, "devices");
	for (i = 1; i < count; i++)
		npu_close(&more[i]);
}

static void kill_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void attach_and_wait(int ready)
{
	struct npu mine;

	bench_check(_npu_open(&mine, 0), "open");
	bench_check(_npu_attach(&mine, 0), "attach");
	if (write(ready, "", 1) != 1)
		bench_die("write: %m");
	for (;;)
		pause();
}

/* Other processes that are attached to the device. */
static void curve_processes(void)
{
	pid_t child[MAX_CONTEXTS];
	size_t have = 0, n;
	int ready[2];
	char byte;

	bench_check(pipe(ready) ? errno : 0, "pipe");
	for (n = 1; n <= MAX_CONTEXTS; n *= 2) {
		for (; have < n; have++) {
			child[have] = gmem_fork();
			if (!child[have])
				attach_and_wait(ready[1]);
			if (child[have] < 0 || read(ready[0], &byte, 1) != 1)
				bench_die("fork: %m");
		}
		probe_points("processes", n);
	}
	while (have--)
		kill_child(child[have]);
}

/* --- threads ----------------------------------------------------------------- */

#define MAX_THREADS	4
#define EACH_2M		8
#define EACH_4K		(15 * 16)

static struct gmem_buf range[MAX_THREADS];

static void *thread_fault(void *arg)
{
	struct gmem_buf *mine = arg;

	bench_check(_npu_touch(&npu, mine->p, mine->len, true, NULL),
		    "GMEM_NPU_TOUCH");
	return NULL;
}

static void *thread_recall(void *arg)
{
	struct gmem_buf *mine = arg;
	size_t i;

	for (i = 0; i < EACH_4K; i++)
		(void)*(volatile char *)bench_single(mine, i);
	return NULL;
}

static uint64_t run_threads(size_t n, void *(*fn)(void *))
{
	pthread_t threads[MAX_THREADS];
	uint64_t start = bench_insn();
	size_t i;

	for (i = 0; i < n; i++)
		bench_check(pthread_create(&threads[i], NULL, fn, &range[i]),
			    "thread");
	for (i = 0; i < n; i++)
		bench_check(pthread_join(threads[i], NULL), "thread");
	return bench_insn() - start;
}

/* Each in a range of its own. */
static void measure_threads(size_t n, uint64_t *fault, uint64_t *recall)
{
	size_t i;

	for (i = 0; i < n; i++)
		bench_map_shared(&range[i], EACH_2M * SZ_2M, MADV_HUGEPAGE);
	*fault = run_threads(n, thread_fault);
	for (i = 0; i < n; i++) {
		expect_on_dev(&range[i], range[i].len);
		gmem_unmap(&range[i]);
		bench_map_singles(&range[i], EACH_4K, MAP_PEER_SHARED);
		to_dev_singles(&range[i]);
	}
	*recall = run_threads(n, thread_recall);
	for (i = 0; i < n; i++) {
		expect_pages_on_dev(&range[i], 0);
		gmem_unmap(&range[i]);
	}
}

/* Threads at work at a time. */
static void curve_threads(void)
{
	uint64_t fault[SAMPLES], recall[SAMPLES];
	size_t i, n;

	for (n = 1; n <= MAX_THREADS; n *= 2) {
		for (i = 0; i < SAMPLES; i++)
			measure_threads(n, &fault[i], &recall[i]);
		point(bench_least(fault, SAMPLES), n, "threads-fault");
		point(bench_least(recall, SAMPLES), n, "threads-recall");
	}
}

/* --- forks ------------------------------------------------------------------- */

#define MAX_FORKS	32
#define MAX_GENERATIONS	64

/* A fork as the parent sees it, and the child, which does nothing. */
static uint64_t fork_insn(pid_t *child)
{
	uint64_t start = bench_insn();

	*child = gmem_fork();
	while (!*child)
		pause();
	start = bench_insn() - start;
	if (*child < 0)
		bench_die("fork: %m");
	return start;
}

/*
 * Children share two huge pages on the device: one more fork, a write of the CPU
 * to the one, and one of the device to the other.
 */
static void fork_and_write(size_t n, uint64_t *forked, uint64_t *recall,
			   uint64_t *unshare)
{
	pid_t child[MAX_FORKS], extra;
	struct gmem_buf buf;
	size_t i;

	bench_map_shared(&buf, 2 * SZ_2M, MADV_HUGEPAGE);
	prefetch(&buf, npu.hnid);
	for (i = 0; i < n; i++)
		fork_insn(&child[i]);
	*forked = fork_insn(&extra);
	kill_child(extra);
	expect_on_dev(&buf, buf.len);

	settle();
	*recall = bench_insn();
	*(uint64_t *)buf.p = 1;
	*recall = bench_insn() - *recall;
	*unshare = bench_insn();
	bench_check(_npu_touch(&npu, buf.p + SZ_2M, SZ_4K, true, NULL),
		    "GMEM_NPU_TOUCH");
	*unshare = bench_insn() - *unshare;
	expect_on_dev(&buf, SZ_2M);
	expect_data(&buf);
	for (i = 0; i < n; i++)
		kill_child(child[i]);
	gmem_unmap(&buf);
}

static void measure_forks(size_t n)
{
	uint64_t forked[SAMPLES], recall[SAMPLES], unshare[SAMPLES];
	size_t i;

	for (i = 0; i < SAMPLES; i++)
		fork_and_write(n, &forked[i], &recall[i], &unshare[i]);
	point(bench_least(forked, SAMPLES), n, "forks-fork");
	point(bench_least(recall, SAMPLES), n, "forks-recall");
	point(bench_least(unshare, SAMPLES), n, "forks-unshare");
}

static void curve_forks(void)
{
	size_t n;

	bench_go_first(true);
	for (n = 1; n <= MAX_FORKS; n *= 2)
		measure_forks(n);
	bench_go_first(false);
}

/*
 * Prefetch of single pages that a child sees, too, or has seen; and of huge pages
 * with a page that a pipe has in each, so that they stay.
 */
static uint64_t forked_insn(size_t len, bool alive)
{
	struct gmem_buf buf;
	uint64_t insn;
	pid_t child;

	bench_map_shared(&buf, len, MADV_NOHUGEPAGE);
	fork_insn(&child);
	if (!alive)
		kill_child(child);
	insn = bench_insn();
	prefetch(&buf, npu.hnid);
	insn = bench_insn() - insn;
	expect_on_dev(&buf, len);
	expect_data(&buf);
	if (alive)
		kill_child(child);
	gmem_unmap(&buf);
	return insn;
}

static uint64_t pinned_insn(size_t len)
{
	struct iovec iov = { .iov_len = SZ_4K };
	struct gmem_smaps smaps;
	struct gmem_buf buf;
	uint64_t insn;
	int p[2];
	size_t i;

	bench_map_shared(&buf, len, MADV_HUGEPAGE);
	bench_check(_gmem_smaps(0, buf.p, len, &smaps), "smaps");
	bench_expect("bytes on huge pages", smaps.huge, len);
	if (pipe(p) || fcntl(p[1], F_SETPIPE_SZ, len / SZ_2M * SZ_4K) < 0)
		bench_die("pipe: %m");
	for (i = 0; i < len; i += SZ_2M) {
		iov.iov_base = buf.p + i;
		bench_expect("vmsplice", vmsplice(p[1], &iov, 1, 0), SZ_4K);
	}
	insn = bench_insn();
	prefetch(&buf, npu.hnid);
	insn = bench_insn() - insn;
	expect_on_dev(&buf, 0);
	expect_data(&buf);
	close(p[0]);
	close(p[1]);
	gmem_unmap(&buf);
	return insn;
}

static void curve_refused(void)
{
	uint64_t left[SAMPLES], shared[SAMPLES], pinned[SAMPLES];
	size_t len, i;

	for (len = SZ_2M; len <= 64 * SZ_2M; len *= 2) {
		for (i = 0; i < SAMPLES; i++) {
			left[i] = forked_insn(len, false);
			shared[i] = forked_insn(len, true);
			pinned[i] = pinned_insn(len);
		}
		point(bench_least(left, SAMPLES), len, "refused-left");
		point(bench_least(shared, SAMPLES), len, "refused-shared");
		point(bench_least(pinned, SAMPLES), len, "refused-pinned");
	}
}

/* What the generations found out, for the first one to print. */
struct generation {
	uint64_t fork;
	uint64_t recall;
};

static struct generation *generations;

static void note(uint64_t *least, uint64_t insn)
{
	if (!*least || insn < *least)
		*least = insn;
}

/* A child of generation @n writes to what all of them share. */
static void live_recall(const struct gmem_buf *buf, size_t n)
{
	uint64_t start;
	pid_t child;

	child = gmem_fork();
	if (child < 0)
		bench_die("fork: %m");
	if (!child) {
		settle();
		start = bench_insn();
		*(uint64_t *)buf->p = 2;
		note(&generations[n].recall, bench_insn() - start);
		_exit(0);
	}
	bench_expect("status of a child", gmem_child(child), 0);
}

static void live(const struct gmem_buf *buf, size_t n)
{
	uint64_t start;
	pid_t child;

	if (!(n & (n - 1)))
		live_recall(buf, n);
	if (n == MAX_GENERATIONS)
		return;
	start = bench_insn();
	child = gmem_fork();
	if (child < 0)
		bench_die("fork: %m");
	if (!child) {
		live(buf, n + 1);
		_exit(0);
	}
	note(&generations[n].fork, bench_insn() - start);
	bench_expect("status of a generation", gmem_child(child), 0);
}

/* With a huge page on the device or, for comparison, on the host. */
static void measure_generations(bool on_dev)
{
	const char *suffix = on_dev ? "" : "-of-host";
	struct gmem_buf buf;
	char series[40];
	size_t n;

	memset(generations, 0, SZ_4K);
	bench_map_shared(&buf, SZ_2M, MADV_HUGEPAGE);
	for (n = 0; n < SAMPLES; n++) {
		prefetch(&buf, on_dev ? npu.hnid : GMEM_ANY_NODE);
		live(&buf, 1);
		expect_on_dev(&buf, on_dev ? buf.len : 0);
		expect_data(&buf);
	}
	gmem_unmap(&buf);
	for (n = 1; n < MAX_GENERATIONS; n *= 2) {
		snprintf(series, sizeof(series), "generations-fork%s", suffix);
		point(generations[n].fork, n, series);
		snprintf(series, sizeof(series), "generations-write%s", suffix);
		point(generations[n].recall, n, series);
	}
}

/* Children of children, each of which shares what the one before it has. */
static void curve_generations(void)
{
	generations = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (generations == MAP_FAILED)
		bench_die("mmap: %m");
	bench_go_first(true);
	measure_generations(true);
	measure_generations(false);
	bench_go_first(false);
	munmap(generations, SZ_4K);
}

/* --- all of them ------------------------------------------------------------- */

static const struct group {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "bytes", curve_bytes },
	{ "vmas", curve_vmas },
	{ "pages", curve_pages },
	{ "blocks", curve_blocks },
	{ "contexts", curve_contexts },
	{ "processes", curve_processes },
	{ "threads", curve_threads },
	{ "forks", curve_forks },
	{ "refused", curve_refused },
	{ "generations", curve_generations },
	{ "devices", curve_devices },
};

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], "-t") && !strcmp(argv[i + 1], name))
			return true;
	return argc == 1;
}

int main(int argc, char **argv)
{
	size_t i;

	bench_attach(&npu);
	probe_open();
	for (i = 0; i < ARRAY_SIZE(groups); i++)
		if (wanted(groups[i].name, argc, argv))
			groups[i].run();
	npu_close(&npu);
	bench_print();
	return 0;
}
