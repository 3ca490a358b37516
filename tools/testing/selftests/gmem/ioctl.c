// SPDX-License-Identifier: GPL-2.0
/*
 * Every ioctl of /dev/gmem-npuN with every wrong argument and in every wrong
 * state, and what each does when all is right.
 */
#include "gmem_test.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define RW			(PROT_READ | PROT_WRITE)

FIXTURE(ioctl)
{
	struct npu npu;
	struct gmem_buf buf;
};

FIXTURE_SETUP(ioctl)
{
	npu_open(&self->npu, 0);
	gmem_map(&self->buf, SZ_64K, SZ_64K, 0, RW, MAP_PEER_SHARED);
}

FIXTURE_TEARDOWN_PARENT(ioctl)
{
	EXPECT_NO_DEVICE_PAGES();
}

static int _ioctl(const struct npu *npu, unsigned long cmd, void *arg)
{
	return ioctl(npu->fd, cmd, arg) ? errno : 0;
}

#define ioctl_err(err, ...)	FAILS(err, _ioctl(__VA_ARGS__))
#define ioctl_ok(...)		OK(_ioctl(__VA_ARGS__))

/*
 * Structures begin with their size: too small is refused, and so is larger
 * than what the kernel knows when there is anything in the rest.
 */
#define TEST_LENGTH(npu, cmd, type, ...) do { \
	struct { \
		struct type arg; \
		uint8_t extra[16]; \
	} x = { .arg = { __VA_ARGS__ } }; \
	unsigned int bad[] = { \
		0, 1, sizeof(uint32_t), sizeof(x.arg) - 1, ~0U, \
	}; \
	unsigned int i; \
	for (i = 0; i < ARRAY_SIZE(bad); i++) { \
		x.arg.size = bad[i]; \
		ioctl_err(EINVAL, npu, cmd, &x); \
	} \
	x.arg.size = sizeof(x.arg) + sizeof(x.extra); \
	x.extra[15] = 1; \
	ioctl_err(EINVAL, npu, cmd, &x); \
	ioctl_err(EFAULT, npu, cmd, NULL); \
	ioctl_err(EFAULT, npu, cmd, (void *)0x10UL); \
	ioctl_err(EFAULT, npu, cmd, (void *)-SZ_4K); \
} while (0)

TEST_F(ioctl, lengths)
{
	npu_attach(&self->npu, 0);
	TEST_LENGTH(&self->npu, GMEM_NPU_INFO, gmem_npu_info, 0);
	TEST_LENGTH(&self->npu, GMEM_NPU_SUBMIT, gmem_npu_submit,
		    .op = NPU_OP_REDUCE, .queue = ~0U,
		    .args = { (uintptr_t)self->buf.p, 8 });
	TEST_LENGTH(&self->npu, GMEM_NPU_WAIT, gmem_npu_wait, .seqno = 1);
	TEST_LENGTH(&self->npu, GMEM_NPU_STATS, gmem_npu_stats, 0);
	TEST_LENGTH(&self->npu, GMEM_NPU_INJECT, gmem_npu_inject, 0);
	TEST_LENGTH(&self->npu, GMEM_NPU_TOUCH, gmem_npu_touch,
		    .start = (uintptr_t)self->buf.p, .len = SZ_4K);
	ASSERT_EQ(-ENOENT, gmem_node(self->buf.p));
}

TEST_F(ioctl, attach_length)
{
	TEST_LENGTH(&self->npu, GMEM_NPU_ATTACH, gmem_npu_attach, 0);
	npu_attach(&self->npu, 0);
}

/* The structure straddles the end of what is mapped. */
TEST_F(ioctl, half_mapped_argument)
{
	char *end = self->buf.p + SZ_64K;
	struct gmem_npu_info *info = (void *)(end - sizeof(*info) + 8);

	info->size = sizeof(*info);
	ioctl_err(EFAULT, &self->npu, GMEM_NPU_INFO, info);
	info = (void *)(end - sizeof(*info));
	info->size = sizeof(*info);
	ioctl_ok(&self->npu, GMEM_NPU_INFO, info);
}

/* An argument that cannot be written to. */
TEST_F(ioctl, read_only_argument)
{
	struct gmem_npu_info *info = (void *)self->buf.p;

	info->size = sizeof(*info);
	ASSERT_EQ(0, mprotect(self->buf.p, SZ_4K, PROT_READ));
	ioctl_err(EFAULT, &self->npu, GMEM_NPU_INFO, info);
}

TEST_F(ioctl, unknown)
{
	struct gmem_npu_info info = { .size = sizeof(info) };

	ioctl_err(ENOTTY, &self->npu, 0, &info);
	ioctl_err(ENOTTY, &self->npu, ~0UL, &info);
	ioctl_err(ENOTTY, &self->npu, _IO(GMEM_NPU_IOC, 0x7f), &info);
	ioctl_err(ENOTTY, &self->npu, _IO(GMEM_NPU_IOC, 0x88), &info);
	ioctl_err(ENOTTY, &self->npu, _IO('Z', 0x80), &info);
	ASSERT_EQ(-1, read(self->npu.fd, &info, sizeof(info)));
	ASSERT_EQ(-1, write(self->npu.fd, &info, sizeof(info)));
	ASSERT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, RW, MAP_SHARED, self->npu.fd,
				   0));
}

TEST_F(ioctl, info)
{
	struct gmem_npu_info info;

	memset(&info, 0xff, sizeof(info));
	info.size = sizeof(info);
	ioctl_ok(&self->npu, GMEM_NPU_INFO, &info);
	ASSERT_EQ(sizeof(info), info.size);
	ASSERT_LE(GMEM_FIRST_HNID, info.hnid);
	ASSERT_EQ(gmem_hnode_get(info.hnid, "size"), info.mem_size);
	ASSERT_NE(0, info.nr_queues);
	ASSERT_GE(NPU_MAX_QUEUES, info.nr_queues);
	ASSERT_EQ(0, info.flags);
}

/* prior art: whichever device was asked, it named the node of the first */
TEST_F(ioctl, each_device_has_its_node)
{
	struct npu other;

	if (npu_count() < 2)
		SKIP(return, "only one device");
	npu_open(&other, 1);
	ASSERT_NE(self->npu.hnid, other.hnid);
	npu_attach(&self->npu, 0);
	npu_attach(&other, 0);
	npu_touch(&self->npu, self->buf.p, SZ_4K, true, NULL);
	npu_touch(&other, self->buf.p + SZ_4K, SZ_4K, true, NULL);
	ASSERT_ON(other.hnid, self->buf.p + SZ_4K, SZ_4K);
	npu_touch(&self->npu, self->buf.p, SZ_4K, true, NULL);
	ASSERT_ON(self->npu.hnid, self->buf.p, SZ_4K);
	npu_close(&other);
}

TEST_F(ioctl, attach_flags)
{
	unsigned int bit;

	for (bit = 1; bit < 32; bit++)
		npu_attach_err(EINVAL, &self->npu, 1U << bit);
	npu_attach_err(EINVAL, &self->npu, ~0U);
	npu_attach(&self->npu, GMEM_NPU_ATTACH_STRICT);
}

TEST_F(ioctl, not_attached)
{
	struct gmem_npu_wait wait = { .size = sizeof(wait), .seqno = 1 };
	struct npu_stats stats;
	uint64_t seqno;

	npu_submit_err(ENXIO, &self->npu, NPU_OP_REDUCE,
		       (uintptr_t)self->buf.p, 8, 0, 0, 0, &seqno);
	ioctl_err(ENXIO, &self->npu, GMEM_NPU_WAIT, &wait);
	npu_touch_err(ENXIO, &self->npu, self->buf.p, SZ_4K, true, NULL);
	npu_detach_err(ENXIO, &self->npu);
	npu_stats(&self->npu, &stats);
	ASSERT_EQ(0, stats.ctx_faults);
	ASSERT_EQ(0, stats.ctx_jobs);
}

TEST_F(ioctl, attach_twice)
{
	struct npu_result res;

	npu_attach(&self->npu, 0);
	npu_attach_err(EBUSY, &self->npu, 0);
	npu_attach_err(EBUSY, &self->npu, GMEM_NPU_ATTACH_STRICT);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	npu_detach(&self->npu);
	npu_detach_err(ENXIO, &self->npu);
	npu_reduce_err(ENXIO, &self->npu, self->buf.p, SZ_64K, &res);
	npu_attach(&self->npu, 0);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	ASSERT_EQ(0, res.value);
}

/* Two files are two contexts, in one process too. */
TEST_F(ioctl, two_files)
{
	struct npu other;
	struct npu_result res;

	npu_open(&other, 0);
	npu_attach(&self->npu, 0);
	npu_attach(&other, 0);
	gmem_pattern(self->buf.p, SZ_64K, 1);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	npu_reduce(&other, self->buf.p, SZ_64K, &res);
	npu_fill(&other, self->buf.p, SZ_64K, 3, NULL);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	ASSERT_EQ(3 * SZ_64K / 8, res.value);
	npu_detach(&other);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	ASSERT_EQ(3 * SZ_64K / 8, res.value);
	npu_close(&other);
	ASSERT_EQ(3 * SZ_64K / 8, gmem_sum(self->buf.p, SZ_64K));
}

/* A child has another address space: the file is not for it. */
TEST_F(ioctl, file_of_the_parent)
{
	pid_t pid;

	npu_attach(&self->npu, 0);
	gmem_pattern(self->buf.p, SZ_64K, 2);
	pid = gmem_fork();
	if (!pid) {
		uint64_t seqno;

		if (_npu_submit(&self->npu, NPU_OP_FILL,
				(uintptr_t)self->buf.p, SZ_64K, 0, 0, 0,
				&seqno) != EPERM)
			_exit(1);
		if (_npu_touch(&self->npu, self->buf.p, SZ_4K, true, NULL) !=
		    EPERM)
			_exit(2);
		if (_npu_attach(&self->npu, 0) != EBUSY)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(0, gmem_child(pid));
	npu_fill(&self->npu, self->buf.p, SZ_64K, 9, NULL);
	ASSERT_EQ(9 * SZ_64K / 8, gmem_sum(self->buf.p, SZ_64K));
}

TEST_F(ioctl, submit_arguments)
{
	struct gmem_npu_info info = { .size = sizeof(info) };
	const struct gmem_npu_submit good = {
		.size = sizeof(good),
		.op = NPU_OP_FILL,
		.queue = ~0U,
		.args = { (uintptr_t)self->buf.p, SZ_4K, 1 },
	};
	/* No other queue's operation gets in here. */
	const uint32_t bad_op[] = {
		NPU_OP_NOP + 1, NPU_OP_COPY, NPU_OP_COPY_SG, NPU_OP_ZERO,
		NPU_OP_PTE_WRITE, NPU_OP_TLB_INVL, NPU_OP_REPLAY,
		NPU_OP_FILL - 1, NPU_OP_ATOMIC_ADD + 1, 0xff,
		NPU_OP_FILL | 0x100, NPU_OP_FILL | 0x10000, ~0U,
	};
	struct gmem_npu_submit s;
	unsigned int i;

	npu_attach(&self->npu, 0);
	ioctl_ok(&self->npu, GMEM_NPU_INFO, &info);
	for (i = 0; i < ARRAY_SIZE(bad_op); i++) {
		s = good;
		s.op = bad_op[i];
		ioctl_err(EINVAL, &self->npu, GMEM_NPU_SUBMIT, &s);
	}
	for (i = 0; i < 32; i++) {
		s = good;
		s.flags = 1U << i;
		ioctl_err(EINVAL, &self->npu, GMEM_NPU_SUBMIT, &s);
	}
	s = good;
	s.queue = info.nr_queues;
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_SUBMIT, &s);
	s.queue = ~0U - 1;
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_SUBMIT, &s);
	ASSERT_ON(-ENOENT, self->buf.p, SZ_64K);

	/* Each queue there is takes the job. */
	for (i = 0; i < info.nr_queues; i++) {
		s = good;
		s.queue = i;
		s.args[2] = i + 5;
		ioctl_ok(&self->npu, GMEM_NPU_SUBMIT, &s);
		npu_wait(&self->npu, s.seqno, NULL);
		ASSERT_EQ((i + 5) * (SZ_4K / 8), gmem_sum(self->buf.p, SZ_4K));
	}
}

/* What a file may have uncollected has an end. */
TEST_F(ioctl, too_many_jobs)
{
	uint64_t seqno[64], more;
	unsigned int i;

	npu_attach(&self->npu, 0);
	for (i = 0; i < ARRAY_SIZE(seqno); i++)
		npu_submit(&self->npu, NPU_OP_FILL, (uintptr_t)self->buf.p,
			   SZ_4K, i, 0, 0, &seqno[i]);
	npu_submit_err(EAGAIN, &self->npu, NPU_OP_FILL,
		       (uintptr_t)self->buf.p, SZ_4K, 0, 0, 0, &more);
	npu_wait(&self->npu, seqno[5], NULL);
	npu_submit(&self->npu, NPU_OP_FILL, (uintptr_t)self->buf.p, SZ_4K, 0,
		   0, 0, &more);
	npu_submit_err(EAGAIN, &self->npu, NPU_OP_FILL,
		       (uintptr_t)self->buf.p, SZ_4K, 0, 0, 0, &more);
}

/* Addresses are the job's business, not the ioctl's. */
TEST_F(ioctl, submit_bad_addresses)
{
	const uint64_t bad[] = {
		0, 0x10, 1UL << 47, 1UL << 48, 1UL << 63, -SZ_4K, ~0ULL - 7,
	};
	uint64_t seqno;
	unsigned int i;

	npu_attach(&self->npu, 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		npu_submit(&self->npu, NPU_OP_REDUCE, bad[i], 1, 0, 0, 0,
			   &seqno);
		npu_wait_err(EFAULT, &self->npu, seqno, NULL);
		npu_submit(&self->npu, NPU_OP_FILL, bad[i], 8, 1, 0, 0,
			   &seqno);
		npu_wait_err(EFAULT, &self->npu, seqno, NULL);
	}
}

/* The hardware calls a job of nothing malformed. */
TEST_F(ioctl, submit_nothing)
{
	npu_attach(&self->npu, 0);
	npu_fill_err(EINVAL, &self->npu, self->buf.p, 0, 1, NULL);
	npu_reduce_err(EINVAL, &self->npu, self->buf.p, 0, NULL);
	npu_memcpy_err(EINVAL, &self->npu, self->buf.p, self->buf.p, 0, NULL);
	ASSERT_ON(-ENOENT, self->buf.p, SZ_64K);
}

TEST_F(ioctl, wait)
{
	struct gmem_npu_wait wait = { .size = sizeof(wait), .timeout_ns = 0 };
	uint64_t seqno;

	npu_attach(&self->npu, 0);
	wait.seqno = 12345678;
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_WAIT, &wait);
	wait.timeout_ns = ~0ULL;
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_WAIT, &wait);

	/* Collected once. */
	npu_submit(&self->npu, NPU_OP_ATOMIC_ADD, (uintptr_t)self->buf.p, 1,
		   1, 0, 0, &seqno);
	wait.seqno = seqno;
	ioctl_ok(&self->npu, GMEM_NPU_WAIT, &wait);
	ASSERT_EQ(0, wait.status);
	ASSERT_EQ(0, wait.result);
	ASSERT_NE(0, wait.faults);
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_WAIT, &wait);
	wait.timeout_ns = 0;
	ioctl_err(EINVAL, &self->npu, GMEM_NPU_WAIT, &wait);
	ASSERT_EQ(1, *(uint64_t *)self->buf.p);
}

/* A job of a queue that hangs is never done, until the context goes. */
TEST_F(ioctl, wait_timeout)
{
	struct gmem_npu_submit s = {
		.size = sizeof(s),
		.op = NPU_OP_ATOMIC_ADD,
		.queue = 0,
		.args = { (uintptr_t)self->buf.p, 1, 1 },
	};
	struct gmem_npu_wait wait = { .size = sizeof(wait) };
	struct pollfd pollfd = { .fd = self->npu.fd, .events = POLLIN };

	npu_attach(&self->npu, 0);
	npu_inject(&self->npu, NPU_INJECT_HANG, 0);
	ioctl_ok(&self->npu, GMEM_NPU_SUBMIT, &s);
	wait.seqno = s.seqno;
	wait.timeout_ns = 0;
	ioctl_err(EAGAIN, &self->npu, GMEM_NPU_WAIT, &wait);
	wait.timeout_ns = 20 * 1000 * 1000;
	ioctl_err(ETIMEDOUT, &self->npu, GMEM_NPU_WAIT, &wait);
	ASSERT_EQ(0, poll(&pollfd, 1, 10));
	npu_detach(&self->npu);
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);

	/* The queue works for whoever comes next. */
	npu_attach(&self->npu, 0);
	ioctl_ok(&self->npu, GMEM_NPU_SUBMIT, &s);
	npu_wait(&self->npu, s.seqno, NULL);
	ASSERT_EQ(1, *(uint64_t *)self->buf.p);
}

TEST_F(ioctl, poll)
{
	struct pollfd pollfd = { .fd = self->npu.fd, .events = POLLIN };
	uint64_t seqno[2];
	unsigned int i;

	npu_attach(&self->npu, 0);
	ASSERT_EQ(0, poll(&pollfd, 1, 0));
	for (i = 0; i < 2; i++)
		npu_submit(&self->npu, NPU_OP_ATOMIC_ADD,
			   (uintptr_t)self->buf.p, 1, 1, 0, 0, &seqno[i]);
	ASSERT_EQ(1, poll(&pollfd, 1, 60000));
	ASSERT_EQ(POLLIN, pollfd.revents & POLLIN);
	for (i = 0; i < 2; i++)
		npu_wait(&self->npu, seqno[i], NULL);
	/* All collected: nothing to read. */
	ASSERT_EQ(0, poll(&pollfd, 1, 0));
	ASSERT_EQ(2, *(uint64_t *)self->buf.p);
}

TEST_F(ioctl, stats)
{
	uint64_t counters[NPU_STAT_NR + 1];
	struct gmem_npu_stats s = { .size = sizeof(s) };
	struct npu_stats before, after;
	struct npu_result res;

	npu_attach(&self->npu, 0);
	/* How many there are, and nothing else. */
	ioctl_ok(&self->npu, GMEM_NPU_STATS, &s);
	ASSERT_EQ(NPU_STAT_NR, s.nr);

	memset(counters, 0xab, sizeof(counters));
	s.nr = 1;
	s.counters = (uintptr_t)counters;
	ioctl_ok(&self->npu, GMEM_NPU_STATS, &s);
	ASSERT_EQ(NPU_STAT_NR, s.nr);
	ASSERT_EQ(0xababababababababULL, counters[1]);

	s.nr = NPU_STAT_NR + 1;
	ioctl_ok(&self->npu, GMEM_NPU_STATS, &s);
	ASSERT_EQ(NPU_STAT_NR, s.nr);
	ASSERT_EQ(0xababababababababULL, counters[NPU_STAT_NR]);

	s.nr = NPU_STAT_NR;
	s.counters = 0x10;
	ioctl_err(EFAULT, &self->npu, GMEM_NPU_STATS, &s);

	npu_stats(&self->npu, &before);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	npu_stats(&self->npu, &after);
	ASSERT_EQ(before.ctx_jobs + 1, after.ctx_jobs);
	ASSERT_EQ(before.c[NPU_STAT_JOBS] + 1, after.c[NPU_STAT_JOBS]);
	ASSERT_EQ(before.ctx_faults + res.faults, after.ctx_faults);
	ASSERT_EQ(before.c[NPU_STAT_FAULTS] + res.faults,
		  after.c[NPU_STAT_FAULTS]);
	ASSERT_EQ(before.c[NPU_STAT_JOB_LOCAL_READ] + SZ_64K,
		  after.c[NPU_STAT_JOB_LOCAL_READ]);
	ASSERT_LT(before.time_ns, after.time_ns);
}

TEST_F(ioctl, inject_arguments)
{
	npu_attach(&self->npu, 0);
	npu_inject_err(EINVAL, &self->npu, NPU_INJECT_REMOVE + 1, 0);
	npu_inject_err(EINVAL, &self->npu, ~0U, 0);
	npu_inject_err(EINVAL, &self->npu, NPU_INJECT_HANG, ~0ULL);
	/* An address that is not on the device. */
	ASSERT_NE(0, _npu_inject(&self->npu, NPU_INJECT_ECC, 0));
	ASSERT_NE(0, _npu_inject(&self->npu, NPU_INJECT_ECC,
				 (uintptr_t)self->buf.p));
	self->buf.p[0] = 1;
	ASSERT_NE(0, _npu_inject(&self->npu, NPU_INJECT_ECC,
				 (uintptr_t)self->buf.p));
	npu_inject(&self->npu, NPU_INJECT_NONE, 0);
}

TEST_F(ioctl, inject_needs_privilege)
{
	pid_t pid = gmem_fork();

	if (!pid) {
		if (setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(_npu_inject(&self->npu, NPU_INJECT_NONE, 0) != EPERM);
	}
	ASSERT_EQ(0, gmem_child(pid));
}

TEST_F(ioctl, touch_arguments)
{
	uint64_t done = 4711;

	npu_attach(&self->npu, 0);
	npu_touch(&self->npu, self->buf.p, 0, false, &done);
	ASSERT_EQ(0, done);
	npu_touch_err(EFAULT, &self->npu, NULL, SZ_4K, false, &done);
	ASSERT_EQ(0, done);
	ASSERT_NE(0, _npu_touch(&self->npu, (void *)~0UL, ~0UL, false, &done));
	ASSERT_NE(0, _npu_touch(&self->npu, self->buf.p, ~0UL, false, &done));
	/* Stops at the hole, and says where. */
	npu_touch_err(EFAULT, &self->npu, self->buf.p, 2 * SZ_64K, true,
		      &done);
	ASSERT_EQ(SZ_64K, done);
	ASSERT_EQ(0, mprotect(self->buf.p + SZ_4K, SZ_4K, PROT_READ));
	npu_touch_err(EPERM, &self->npu, self->buf.p, SZ_64K, true, &done);
	ASSERT_EQ(SZ_4K, done);
	npu_touch(&self->npu, self->buf.p, SZ_64K, false, &done);
	ASSERT_EQ(SZ_64K, done);
	ASSERT_ZERO(self->buf.p, SZ_64K);
}

/* Strict: only memory that was shared on purpose. */
TEST_F(ioctl, attach_strict)
{
	static char plain[SZ_64K] __attribute__((aligned(SZ_64K)));
	struct npu_result res;

	npu_attach(&self->npu, GMEM_NPU_ATTACH_STRICT);
	gmem_pattern(plain, SZ_64K, 6);
	gmem_pattern(self->buf.p, SZ_64K, 6);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	ASSERT_EQ(gmem_sum(plain, SZ_64K), res.value);
	npu_reduce_err(EFAULT, &self->npu, plain, SZ_64K, NULL);
	npu_fill_err(EFAULT, &self->npu, plain, SZ_64K, 0, NULL);
	ASSERT_EQ(res.value, gmem_sum(plain, SZ_64K));
	/* And what is no longer shared. */
	hmadvise(-1, self->buf.p, SZ_64K, HMADV_UNSHARE);
	npu_reduce_err(EFAULT, &self->npu, self->buf.p, SZ_64K, NULL);
	ASSERT_SAME(plain, self->buf.p, SZ_64K);
}

GMEM_TEST_MAIN("The ioctls of the device file.")
