// SPDX-License-Identifier: GPL-2.0
/*
 * A process whose memory the OOM reaper takes while its device goes on.
 */
#include "gmem_test.h"
#include "reaper.h"

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(reaper)
{
	struct npu npu;
	struct npu taken;	/* the file of the process, for its counters */
	int ready[2];
	pid_t pid;
};

FIXTURE_SETUP(reaper)
{
	npu_open(&self->npu, 0);
	OK(pipe(self->ready));
}

FIXTURE_TEARDOWN_PARENT(reaper)
{
	EXPECT_NO_DEVICE_PAGES();
}

typedef FIXTURE_DATA(reaper) reaper_t;

/* In the child, whose job runs. */
static int wait_to_be_killed(const struct npu *npu, int ready)
{
	if (write(ready, &npu->fd, sizeof(npu->fd)) == sizeof(npu->fd))
		pause();
	return 10;
}

static void wait_for(struct __test_metadata *_metadata, reaper_t *self,
		     pid_t pid)
{
	int fd, pidfd;

	self->pid = pid;
	ASSERT_EQ(sizeof(fd), read(self->ready[0], &fd, sizeof(fd)));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	self->taken = self->npu;
	self->taken.fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	ASSERT_LE(0, self->taken.fd);
	close(pidfd);
}

static uint64_t jobs_ended(struct __test_metadata *_metadata, reaper_t *self)
{
	struct npu_stats stats;

	npu_stats(&self->taken, &stats);
	return stats.ctx_jobs;
}

/* Reap while a job runs, which ends when it misses its memory. */
static void reap(struct __test_metadata *_metadata, reaper_t *self)
{
	uint64_t jobs = jobs_ended(_metadata, self);
	uint64_t end = gmem_now_ms() + 20000;

	/* A fault of the device has the mmap lock now and then. */
	OK(mrelease(_metadata, self->pid, 1000));
	while (jobs_ended(_metadata, self) == jobs && gmem_now_ms() < end)
		gmem_sleep_ms(1);
	ASSERT_EQ(jobs + 1, jobs_ended(_metadata, self));
}

static void let_go(struct __test_metadata *_metadata, reaper_t *self)
{
	ASSERT_EQ(0, ptrace(PTRACE_CONT, self->pid, NULL, NULL));
	npu_close(&self->taken);
	ASSERT_EQ(128 + SIGKILL, gmem_child(self->pid));
}

/* --- what the device reads ---------------------------------------------------- */

#define COPY_LEN		(32 * SZ_1M)
#define COPY_WORD		0x600dULL
#define LEFT_WORD		0x1ef7ULL

/* Copy from the device to memory that others see as well, and that stays. */
static int copy_out(char *seen, int ready)
{
	struct gmem_buf buf;
	struct npu npu;
	uint64_t seqno;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map(&buf, COPY_LEN, SZ_2M, 0, RW, MAP_PEER_SHARED) ||
	    _npu_fill(&npu, buf.p, COPY_LEN, COPY_WORD, NULL))
		return 1;
	if (_npu_submit(&npu, NPU_OP_MEMCPY, (uintptr_t)seen, (uintptr_t)buf.p,
			COPY_LEN, 0, 0, &seqno))
		return 2;
	return wait_to_be_killed(&npu, ready);
}

/* What was reaped is lost; a device that read zeros would not know. */
TEST_F(reaper, what_is_gone_is_not_read_as_zeros)
{
	volatile uint64_t *first;
	uint64_t *seen;
	size_t i, n = COPY_LEN / sizeof(*seen), copied = 0;
	pid_t pid;

	seen = mmap(NULL, COPY_LEN, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, seen);
	gmem_fill(seen, COPY_LEN, LEFT_WORD);
	first = seen;
	pid = gmem_fork();
	if (!pid)
		_exit(copy_out((char *)seen, self->ready[1]));
	wait_for(_metadata, self, pid);
	while (*first == LEFT_WORD)
		;
	reap(_metadata, self);
	for (i = 0; i < n; i++) {
		if (seen[i] == COPY_WORD)
			copied++;
		else
			ASSERT_EQ(LEFT_WORD, seen[i]);
	}
	/* Or else it was not interrupted. */
	ASSERT_LT(0, copied);
	ASSERT_GT(n, copied);
	let_go(_metadata, self);
}

/* --- what the device writes ----------------------------------------------------- */

#define PIECES			64
#define PIECE			SZ_64K

/*
 * Add to a word in the last of many VMAs, more than have an invalidation of their
 * own when that may not sleep, for longer than the test takes.
 */
static int add_for_ever(int ready)
{
	struct gmem_buf buf;
	struct npu npu;
	uint64_t seqno;
	size_t at;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map(&buf, 2 * PIECES * PIECE, SZ_2M, 0, RW, MAP_PEER_SHARED))
		return 1;
	for (at = 0; at < buf.len; at += 2 * PIECE)
		if (munmap(buf.p + at, PIECE))
			return 2;
	for (at = PIECE; at < buf.len; at += 2 * PIECE)
		if (_npu_fill(&npu, buf.p + at, PIECE, 1, NULL))
			return 3;
	if (_npu_submit(&npu, NPU_OP_ATOMIC_ADD,
			(uintptr_t)(buf.p + buf.len - 8), 1, 1ULL << 40, 0, 0,
			&seqno))
		return 4;
	return wait_to_be_killed(&npu, ready);
}

/* The next owner of the device's memory has it for itself. */
TEST_F(reaper, what_is_gone_is_not_written)
{
	struct npu_result res;
	struct gmem_buf buf;
	long long room;
	unsigned int i;
	pid_t pid;

	pid = gmem_fork();
	if (!pid)
		_exit(add_for_ever(self->ready[1]));
	wait_for(_metadata, self, pid);
	gmem_sleep_ms(20);
	reap(_metadata, self);

	npu_attach(&self->npu, 0);
	room = gmem_hnode_get(self->npu.hnid, "free") / SZ_2M * SZ_2M;
	ASSERT_LT(0, room);
	gmem_map(&buf, room, SZ_2M, 0, RW, MAP_PEER_SHARED);
	hmadvise(self->npu.hnid, buf.p, room, HMADV_PREFETCH);
	for (i = 0; i < 3; i++) {
		npu_reduce(&self->npu, buf.p, room, &res);
		ASSERT_EQ(0, res.value);
	}
	gmem_unmap(&buf);
	let_go(_metadata, self);
}

GMEM_TEST_MAIN("Devices that go on while the OOM reaper takes their memory.")
