// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs and devices work on the same pages while something else happens to the
 * pages, for a while.
 *
 * Each worker has a word of its own in every page, which it increments, on the
 * CPU or by a job, and which nobody else writes: it knows what the word must
 * be.  A disturber moves, protects, forks, drops or remaps the pages meanwhile.
 */
#include "gmem_test.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define RW			(PROT_READ | PROT_WRITE)
#define LEN			(2 * SZ_2M)
/* More blocks than one thread has under way at a time. */
#define STREAM_LEN		(6 * SZ_2M)
#define MAX_PAGES		(STREAM_LEN / SZ_4K)
#define WORKERS			4

/* Seen by children, too, as it is now. */
struct counts {
	uint32_t started[WORKERS][MAX_PAGES];
	uint32_t done[WORKERS][MAX_PAGES];
};

struct race;

struct worker {
	struct race *race;
	unsigned int nr;
	struct npu *npu;	/* NULL: works on the CPU */
	uint64_t rnd;
	uint64_t worked;	/* accesses that succeeded */
};

struct race {
	struct npu npu[2];
	struct gmem_buf buf;
	struct gmem_buf away;	/* where mremap() moves to */
	struct counts *counts;
	unsigned int pages;
	struct worker worker[WORKERS];
	uint64_t seed;
	uint64_t rnd;		/* of the disturber */
	bool stream;		/* someone moves all of it back and forth */
	uint64_t streamed;	/* how often */
	bool lossy;		/* pages may become zero */
	bool faults;		/* accesses may fail */
	bool stop;
	/* What went wrong first. */
	const char *failed;
	unsigned int page;
	uint64_t want;
	uint64_t seen;
	int err;
};

FIXTURE(race)
{
	struct race race;
	long long limit;
};

FIXTURE_VARIANT(race)
{
	bool thp;
};

FIXTURE_VARIANT_ADD(race, 4k) { .thp = false };
FIXTURE_VARIANT_ADD(race, thp) { .thp = true };

static void setup(struct __test_metadata *_metadata, struct race *race,
		  size_t len, bool thp)
{
	unsigned int i, nr = npu_count() < 2 ? 1 : 2;

	for (i = 0; i < nr; i++) {
		npu_open(&race->npu[i], i);
		npu_attach(&race->npu[i], 0);
	}
	gmem_map(&race->buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED);
	race->pages = len / SZ_4K;
	ASSERT_EQ(0, madvise(race->buf.p, len, thp ? MADV_HUGEPAGE :
						     MADV_NOHUGEPAGE));
	race->counts = mmap(NULL, sizeof(*race->counts), RW,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, race->counts);
	race->seed = gmem_seed();
	race->rnd = race->seed;
	for (i = 0; i < WORKERS; i++) {
		struct worker *w = &race->worker[i];

		w->race = race;
		w->nr = i;
		w->rnd = race->seed * (2 * i + 3) | 1;
		if (i < 2)
			w->npu = &race->npu[i % nr];
	}
	TH_LOG("seed %llu", (unsigned long long)race->seed);
}

FIXTURE_SETUP(race)
{
	setup(_metadata, &self->race, LEN, variant->thp);
	self->limit = gmem_hnode_get(self->race.npu[0].hnid, "limit");
}

FIXTURE_TEARDOWN_PARENT(race)
{
	EXPECT_NO_DEVICE_PAGES();
	EXPECT_EQ(0, _gmem_hnode_set(self->race.npu[0].hnid, "limit",
				     self->limit));
}

/* The same while a thread prefetches everything, several blocks at a time. */
FIXTURE(stream)
{
	struct race race;
	long long limit;
};

FIXTURE_VARIANT(stream)
{
	bool thp;
};

FIXTURE_VARIANT_ADD(stream, 4k) { .thp = false };
FIXTURE_VARIANT_ADD(stream, thp) { .thp = true };

FIXTURE_SETUP(stream)
{
	setup(_metadata, &self->race, STREAM_LEN, variant->thp);
	self->race.stream = true;
	self->limit = gmem_hnode_get(self->race.npu[0].hnid, "limit");
}

FIXTURE_TEARDOWN_PARENT(stream)
{
	EXPECT_NO_DEVICE_PAGES();
	EXPECT_EQ(0, _gmem_hnode_set(self->race.npu[0].hnid, "limit",
				     self->limit));
}

static uint64_t *word_of(struct race *race, unsigned int page, unsigned int nr)
{
	return (uint64_t *)(race->buf.p + page * SZ_4K) + nr * 100 + page % 64;
}

static void fail(struct race *race, const char *what, unsigned int page,
		 uint64_t want, uint64_t seen, int err)
{
	const char *none = NULL;

	if (__atomic_compare_exchange_n(&race->failed, &none, what, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		race->page = page;
		race->want = want;
		race->seen = seen;
		race->err = err;
	}
	__atomic_store_n(&race->stop, true, __ATOMIC_SEQ_CST);
}

static bool stopped(struct race *race)
{
	return __atomic_load_n(&race->stop, __ATOMIC_SEQ_CST);
}

/* Increment on the CPU, through the kernel where a fault would be a signal. */
static int cpu_add(struct worker *w, uint64_t *word, uint64_t *old)
{
	struct iovec local = { old, sizeof(*old) };
	struct iovec remote = { word, sizeof(*word) };
	uint64_t new;

	if (!w->race->faults) {
		*old = *(volatile uint64_t *)word;
		*(volatile uint64_t *)word = *old + 1;
		return 0;
	}
	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
		return errno;
	new = *old + 1;
	local.iov_base = &new;
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) < 0)
		return errno;
	return 0;
}

static int device_add(struct worker *w, uint64_t *word, uint64_t *old)
{
	struct npu_result res;
	int err;

	err = _npu_atomic_add(w->npu, word, 1, 1, &res);
	*old = res.value;
	return err;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct race *race = w->race;
	uint32_t *started = race->counts->started[w->nr];
	uint32_t *done = race->counts->done[w->nr];

	while (!stopped(race)) {
		unsigned int page = gmem_random(&w->rnd) % race->pages;
		uint64_t *word = word_of(race, page, w->nr), old = 0;
		int err;

		__atomic_add_fetch(&started[page], 1, __ATOMIC_SEQ_CST);
		err = w->npu ? device_add(w, word, &old) :
			       cpu_add(w, word, &old);
		if (err) {
			__atomic_sub_fetch(&started[page], 1,
					   __ATOMIC_SEQ_CST);
			if (!race->faults || (err != EFAULT && err != EPERM))
				fail(race, "access", page, 0, 0, err);
			continue;
		}
		if (race->lossy ? old > done[page] : old != done[page])
			fail(race, w->npu ? "device value" : "cpu value", page,
			     done[page], old, 0);
		__atomic_add_fetch(&done[page], 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&w->worked, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static int some_node(struct race *race, uint64_t *rnd)
{
	const int node[] = { -1, 0, race->npu[0].hnid, race->npu[1].hnid };

	return node[gmem_random(rnd) % (race->npu[1].hnid ? 4 : 3)];
}

static void *stream(void *arg)
{
	struct race *race = arg;
	uint64_t rnd = race->seed * 11 | 1;
	int err;

	while (!stopped(race)) {
		err = _hmadvise(some_node(race, &rnd), race->buf.p,
				race->buf.len, HMADV_PREFETCH);
		if (err && !(race->faults && err == ENOMEM))
			fail(race, "stream", 0, 0, 0, err);
		__atomic_add_fetch(&race->streamed, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* However slow the machine is, nobody starves. */
static bool all_worked(struct race *race)
{
	unsigned int i;

	if (race->stream &&
	    !__atomic_load_n(&race->streamed, __ATOMIC_SEQ_CST))
		return false;
	for (i = 0; i < WORKERS; i++)
		if (!__atomic_load_n(&race->worker[i].worked, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

/* Let them work, and disturb them, for a while; then check each word. */
static void run(struct __test_metadata *_metadata, struct race *race,
		void (*disturb)(struct race *race))
{
	uint64_t end = gmem_now_ms() + gmem_scaled(1500);
	pthread_t thread[WORKERS], streamer;
	unsigned int i, page;

	for (i = 0; i < WORKERS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, work,
					    &race->worker[i]));
	if (race->stream)
		ASSERT_EQ(0, pthread_create(&streamer, NULL, stream, race));
	do {
		disturb(race);
	} while (!stopped(race) && (gmem_now_ms() < end || !all_worked(race)));
	__atomic_store_n(&race->stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < WORKERS; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	if (race->stream)
		ASSERT_EQ(0, pthread_join(streamer, NULL));

	ASSERT_EQ(NULL, race->failed)
		TH_LOG("%s: page %u, want %llu, seen %llu, errno %d",
		       race->failed, race->page,
		       (unsigned long long)race->want,
		       (unsigned long long)race->seen, race->err);
	for (i = 0; i < WORKERS; i++) {
		for (page = 0; page < race->pages; page++) {
			uint64_t seen = *word_of(race, page, i);
			uint64_t want = race->counts->done[i][page];

			ASSERT_TRUE(race->lossy ? seen <= want : seen == want)
				TH_LOG("worker %u page %u: want %llu, seen %llu",
				       i, page, (unsigned long long)want,
				       (unsigned long long)seen);
		}
	}
}

/* After it all, the range is as usable as a new one. */
static void usable(struct __test_metadata *_metadata, struct race *race)
{
	size_t len = race->buf.len;
	char *shadow = malloc(len);
	unsigned int i;

	ASSERT_NE(NULL, shadow);
	gmem_pattern(race->buf.p, len, race->seed);
	gmem_pattern(shadow, len, race->seed);
	for (i = 0; i < 2 && race->npu[i].hnid; i++)
		npu_dirty(&race->npu[i], race->buf.p, shadow, len);
	ASSERT_SAME(shadow, race->buf.p, len);
	free(shadow);
}

/* A random range of at most 1 MiB. */
static char *some_range(struct race *race, size_t *len)
{
	size_t first = gmem_random(&race->rnd) % race->pages;
	size_t nr = gmem_random(&race->rnd) % 256 + 1;

	if (nr > race->pages - first)
		nr = race->pages - first;
	*len = nr * SZ_4K;
	return race->buf.p + first * SZ_4K;
}

static void disturb_not(struct race *race)
{
	(void)race;
	gmem_sleep_ms(1);
}

TEST_F(race, cpu_and_device_faults)
{
	run(_metadata, &self->race, disturb_not);
	usable(_metadata, &self->race);
}

TEST_F(stream, cpu_and_device_faults)
{
	run(_metadata, &self->race, disturb_not);
	usable(_metadata, &self->race);
}

static void disturb_prefetch(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);
	int err;

	err = _hmadvise(some_node(race, &race->rnd), p, len, HMADV_PREFETCH);
	if (err)
		fail(race, "prefetch", 0, 0, 0, err);
}

TEST_F(race, prefetch)
{
	run(_metadata, &self->race, disturb_prefetch);
	usable(_metadata, &self->race);
}

static int check_child(struct race *race, const struct counts *before)
{
	unsigned int i, page;

	for (i = 0; i < WORKERS; i++) {
		for (page = 0; page < race->pages; page += 5) {
			uint64_t v = *word_of(race, page, i);

			if (v < before->done[i][page] ||
			    v > race->counts->started[i][page])
				return 1;
		}
	}
	/* What the child writes is the child's. */
	memset(race->buf.p, 0xee, race->buf.len / 8);
	return 0;
}

static void disturb_fork(struct race *race)
{
	static struct counts before;
	pid_t pid;
	int code;

	memcpy(&before, race->counts, sizeof(before));
	pid = gmem_fork();
	if (!pid)
		_exit(check_child(race, &before));
	code = pid < 0 ? errno : gmem_child(pid);
	if (code)
		fail(race, "child", 0, 0, 0, code);
}

TEST_F(race, fork)
{
	run(_metadata, &self->race, disturb_fork);
	usable(_metadata, &self->race);
}

TEST_F(stream, fork)
{
	run(_metadata, &self->race, disturb_fork);
	usable(_metadata, &self->race);
}

static void disturb_mprotect(struct race *race)
{
	const int prot[] = { PROT_READ, PROT_NONE };
	size_t len;
	char *p = some_range(race, &len);

	if (mprotect(p, len, prot[gmem_random(&race->rnd) & 1]) ||
	    mprotect(p, len, RW))
		fail(race, "mprotect", 0, 0, 0, errno);
}

TEST_F(race, mprotect)
{
	self->race.faults = true;
	run(_metadata, &self->race, disturb_mprotect);
	usable(_metadata, &self->race);
}

static void disturb_dontneed(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);

	if (madvise(p, len, MADV_DONTNEED))
		fail(race, "madvise", 0, 0, 0, errno);
}

TEST_F(race, dontneed)
{
	self->race.lossy = true;
	run(_metadata, &self->race, disturb_dontneed);
	usable(_metadata, &self->race);
}

TEST_F(stream, dontneed)
{
	self->race.lossy = true;
	run(_metadata, &self->race, disturb_dontneed);
	usable(_metadata, &self->race);
}

static void disturb_discard(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);
	int err = _hmadvise(-1, p, len, HMADV_DISCARD);

	if (err)
		fail(race, "discard", 0, 0, 0, err);
}

TEST_F(race, discard)
{
	self->race.lossy = true;
	run(_metadata, &self->race, disturb_discard);
	usable(_metadata, &self->race);
}

static void disturb_munmap(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_PEER_SHARED;

	/* Half of the time without a hole in between. */
	if (gmem_random(&race->rnd) & 1 && munmap(p, len))
		fail(race, "munmap", 0, 0, 0, errno);
	if (mmap(p, len, RW, flags, -1, 0) != p)
		fail(race, "mmap", 0, 0, 0, errno);
}

TEST_F(race, munmap)
{
	self->race.lossy = true;
	self->race.faults = true;
	run(_metadata, &self->race, disturb_munmap);
	usable(_metadata, &self->race);
}

TEST_F(stream, munmap)
{
	self->race.lossy = true;
	self->race.faults = true;
	run(_metadata, &self->race, disturb_munmap);
	usable(_metadata, &self->race);
}

/* Away and back: the device works at the old address only. */
static void disturb_mremap(struct race *race)
{
	size_t len = race->buf.len / 2;
	char *p = race->buf.p + (gmem_random(&race->rnd) & 1 ? len : 0);

	if (mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
		   race->away.p) != race->away.p ||
	    mremap(race->away.p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
		   p) != p)
		fail(race, "mremap", 0, 0, 0, errno);
}

TEST_F(race, mremap)
{
	struct race *race = &self->race;

	/* Not aligned as the buffer is, so that tables cannot be moved. */
	gmem_map(&race->away, LEN / 2, SZ_2M, 3 * SZ_4K, RW, MAP_PEER_SHARED);
	race->faults = true;
	run(_metadata, race, disturb_mremap);
	usable(_metadata, race);
}

static void *read_one(void *arg)
{
	struct race *race = arg;
	volatile char *p = race->buf.p;

	return (void *)(uintptr_t)p[SZ_1M];
}

/*
 * UFFDIO_MOVE takes pages away while a CPU fault brings them home, as a huge
 * page that replaces the table that it works on.
 */
TEST_F(race, uffd_move)
{
	struct race *race = &self->race;
	unsigned int i, rounds = gmem_scaled(60);
	struct gmem_buf to;
	pthread_t thread;
	char *shadow = malloc(SZ_2M);
	int fd;

	ASSERT_NE(NULL, shadow);
	gmem_map(&to, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	fd = gmem_uffd_open(to.p, to.len, UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, fd);
	for (i = 0; i < rounds; i++) {
		struct uffdio_move move = {};
		size_t done = 0;

		gmem_pattern(shadow, SZ_2M, race->seed + i);
		memcpy(race->buf.p, shadow, SZ_2M);
		hmadvise(race->npu[0].hnid, race->buf.p, SZ_2M,
			 HMADV_PREFETCH);
		ASSERT_EQ(0, pthread_create(&thread, NULL, read_one, race));
		while (done < SZ_2M) {
			move.dst = (uintptr_t)to.p + done;
			move.src = (uintptr_t)race->buf.p + done;
			move.len = SZ_2M - done;
			if (ioctl(fd, UFFDIO_MOVE, &move))
				ASSERT_EQ(EAGAIN, errno);
			if (move.move > 0)
				done += move.move;
		}
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_SAME(shadow, to.p, SZ_2M);
		ASSERT_EQ(0, madvise(to.p, SZ_2M, MADV_DONTNEED));
		ASSERT_EQ(0, madvise(race->buf.p, SZ_2M, MADV_DONTNEED));
	}
	close(fd);
}

static void *prefetch_one(void *arg)
{
	struct race *race = arg;

	_hmadvise(race->npu[0].hnid, race->buf.p, SZ_2M, HMADV_PREFETCH);
	return NULL;
}

/*
 * MADV_DONTNEED comes while the range moves, home or away.  What it drops is
 * gone: it must not take the range for a hole and leave the data in it.
 */
TEST_F(race, dontneed_is_final)
{
	struct race *race = &self->race;
	unsigned int i, rounds = gmem_scaled(150);
	pthread_t thread;

	for (i = 0; i < rounds; i++) {
		gmem_pattern(race->buf.p, SZ_2M, race->seed + i);
		if (i % 2)
			hmadvise(race->npu[0].hnid, race->buf.p, SZ_2M,
				 HMADV_PREFETCH);
		ASSERT_EQ(0, pthread_create(&thread, NULL, i % 2 ? read_one :
					    prefetch_one, race));
		usleep(gmem_random(&race->rnd) % 1000);
		ASSERT_EQ(0, madvise(race->buf.p, SZ_2M, MADV_DONTNEED));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_ZERO(race->buf.p, SZ_2M);
		ASSERT_EQ(0, madvise(race->buf.p, SZ_2M, MADV_DONTNEED));
	}
}

static void disturb_unshare(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);
	int err = _hmadvise(-1, p, len, HMADV_UNSHARE);

	if (!err)
		err = _hmadvise(-1, p, len, HMADV_SHARE);
	if (err)
		fail(race, "share", 0, 0, 0, err);
}

TEST_F(race, unshare)
{
	run(_metadata, &self->race, disturb_unshare);
	usable(_metadata, &self->race);
}

/* The kernel moves, swaps, splits and collapses what is on the host. */
static void disturb_host(struct race *race)
{
	size_t len;
	char *p = some_range(race, &len);
	char *huge = race->buf.p +
		     (gmem_random(&race->rnd) & 1 ? SZ_2M : 0);

	switch (gmem_random(&race->rnd) % 4) {
	case 0:
		madvise(p, len, MADV_PAGEOUT);
		break;
	case 1:
		madvise(p, len, MADV_COLD);
		break;
	case 2:
		/* May well find something in its way. */
		madvise(huge, SZ_2M, MADV_COLLAPSE);
		break;
	case 3:
		_gmem_write_file("/proc/sys/vm/compact_memory", "1");
		break;
	}
}

TEST_F(race, reclaim_and_collapse)
{
	OK(_gmem_swap_on());
	run(_metadata, &self->race, disturb_host);
	usable(_metadata, &self->race);
}

/* Device memory for half of the data. */
TEST_F(race, evict)
{
	gmem_hnode_set(self->race.npu[0].hnid, "limit", LEN / 2);
	run(_metadata, &self->race, disturb_prefetch);
	usable(_metadata, &self->race);
}

struct copier {
	const struct npu *npu;
	char *from;
	char *to;
	unsigned long rounds;
	const char *failed;
};

#define COPY_LEN		(16 * SZ_4K)

/* New words in each page, and the device's copy of them. */
static void *copy_again(void *arg)
{
	struct copier *c = arg;
	unsigned long i;
	size_t at;

	for (i = 1; i <= c->rounds && !c->failed; i++) {
		for (at = 0; at < COPY_LEN; at += SZ_4K)
			*(volatile uint64_t *)(c->from + at) = i + at;
		if (_npu_memcpy(c->npu, c->to, c->from, COPY_LEN, NULL))
			c->failed = "copy";
		if (gmem_diff(c->from, c->to, COPY_LEN) != COPY_LEN)
			c->failed = "compare";
	}
	return NULL;
}

/*
 * Two devices that each read where the other writes, in the blocks that both
 * need at a time.  prior art: they waited for each other, and when they did so
 * no more, one of the copies was left out.
 */
TEST_F(race, copies_cross)
{
	struct race *race = &self->race;
	char *p = race->buf.p;
	struct copier copier[] = {
		{ .npu = &race->npu[0], .from = p, .to = p + SZ_2M },
		{ .npu = &race->npu[1], .from = p + SZ_2M + SZ_1M,
		  .to = p + SZ_1M },
	};
	pthread_t thread[2];
	unsigned int i;

	if (npu_count() < 2)
		SKIP(return, "only one device");
	gmem_pattern(p, LEN, 7);
	for (i = 0; i < 2; i++) {
		copier[i].rounds = gmem_scaled(10);
		OK(pthread_create(&thread[i], NULL, copy_again, &copier[i]));
	}
	for (i = 0; i < 2; i++)
		OK(pthread_join(thread[i], NULL));
	for (i = 0; i < 2; i++) {
		const char *failed = copier[i].failed;

		ASSERT_EQ(NULL, failed)
			TH_LOG("device %u: %s", i, failed);
	}
	usable(_metadata, race);
}

static void disturb_attach(struct race *race)
{
	struct npu npu;
	struct npu_result res;
	size_t len;
	char *p = some_range(race, &len);
	int err;

	err = _npu_open(&npu, gmem_random(&race->rnd) & 1);
	if (!err)
		err = _npu_attach(&npu, 0);
	if (!err)
		err = _npu_reduce(&npu, p, len, &res);
	if (err)
		fail(race, "attach", 0, 0, 0, err);
	npu_close(&npu);
}

TEST_F(stream, evict)
{
	gmem_hnode_set(self->race.npu[0].hnid, "limit", STREAM_LEN / 4);
	run(_metadata, &self->race, disturb_prefetch);
	usable(_metadata, &self->race);
}

/* Contexts come and go while others of the process work. */
TEST_F(race, attach_and_close)
{
	run(_metadata, &self->race, disturb_attach);
	usable(_metadata, &self->race);
}

GMEM_TEST_MAIN("CPUs and devices on the same pages, while the pages change.")
