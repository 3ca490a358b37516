// SPDX-License-Identifier: GPL-2.0
/*
 * No byte of one owner of device memory is seen by the next.
 */
#include "gmem_test.h"

#include <signal.h>

#define RW			(PROT_READ | PROT_WRITE)
#define SECRET			0x5ec2e75ec2e75ec2ULL

FIXTURE(isolation)
{
	struct npu npu;
	size_t len;
};

FIXTURE_VARIANT(isolation)
{
	size_t block;
};

FIXTURE_VARIANT_ADD(isolation, 4k) { .block = SZ_4K };
FIXTURE_VARIANT_ADD(isolation, 64k) { .block = SZ_64K };
FIXTURE_VARIANT_ADD(isolation, 2m) { .block = SZ_2M };

FIXTURE_SETUP(isolation)
{
	npu_open(&self->npu, 0);
	self->len = gmem_scaled(8) * SZ_2M;
	if (self->len > self->npu.mem_size / 2)
		self->len = self->npu.mem_size / 2;
	if (variant->block == SZ_4K)
		self->len /= 8;
}

FIXTURE_TEARDOWN_PARENT(isolation)
{
	EXPECT_NO_DEVICE_PAGES();
}

/*
 * Map @len bytes such that device memory comes in pieces of @block: every
 * second one is mapped, in its own VMA.
 */
static char *map_pieces(size_t len, size_t block)
{
	struct gmem_buf buf;
	size_t at;

	if (_gmem_map(&buf, 2 * len, SZ_2M, 0, RW, MAP_PEER_SHARED))
		return NULL;
	for (at = 0; at < 2 * len; at += 2 * block) {
		if (munmap(buf.p + at, block))
			return NULL;
	}
	return buf.p + block;
}

/* Fill a lot of device memory with the secret, and exit. */
static int leave_secret(size_t len)
{
	struct gmem_buf buf;
	struct npu npu;
	struct npu_result res;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0))
		return 1;
	if (_gmem_map(&buf, len, SZ_2M, 0, RW, MAP_PEER_SHARED))
		return 2;
	if (_npu_fill(&npu, buf.p, len, SECRET, NULL))
		return 3;
	if (gmem_pages_on(buf.p, len, npu.hnid) != len / SZ_4K)
		return 4;
	if (_npu_reduce(&npu, buf.p, len, &res) ||
	    res.value != SECRET * (len / 8))
		return 5;
	return 0;
}

TEST_F(isolation, next_process_reads_zero)
{
	size_t block = variant->block, at;
	struct npu_result res;
	pid_t pid;
	char *p;

	pid = gmem_fork();
	if (!pid)
		_exit(leave_secret(self->len));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_TRUE(gmem_hnodes_idle());

	npu_attach(&self->npu, 0);
	p = map_pieces(self->len, block);
	ASSERT_NE(NULL, p);
	for (at = 0; at < 2 * self->len; at += 2 * block) {
		npu_reduce(&self->npu, p + at, block, &res);
		ASSERT_EQ(0, res.value);
	}
	ASSERT_EQ(gmem_hnode_get(self->npu.hnid, "size") -
		  (long long)self->len,
		  gmem_hnode_get(self->npu.hnid, "free"));
	for (at = 0; at < 2 * self->len; at += 2 * block)
		ASSERT_ZERO(p + at, block);
}

/* One page has data, the rest of its block has never been touched. */
TEST_F(isolation, rest_of_a_block_is_zero)
{
	size_t block = variant->block, at;
	pid_t pid;
	char *p;

	pid = gmem_fork();
	if (!pid)
		_exit(leave_secret(self->len));
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_TRUE(gmem_hnodes_idle());

	npu_attach(&self->npu, 0);
	p = map_pieces(self->len, block);
	ASSERT_NE(NULL, p);
	for (at = 0; at < 2 * self->len; at += 2 * block) {
		struct npu_result res;

		p[at] = 1;
		npu_reduce(&self->npu, p + at, block, &res);
		ASSERT_EQ(1, res.value);
		p[at] = 0;
		ASSERT_ZERO(p + at, block);
	}
}

/* Within one process, too: what was dropped does not come back. */
TEST_F(isolation, dropped_data_stays_away)
{
	struct gmem_buf buf;
	unsigned int how;

	npu_attach(&self->npu, 0);
	for (how = 0; how < 4; how++) {
		struct npu_result res;

		gmem_map(&buf, self->len, SZ_2M, 0, RW, MAP_PEER_SHARED);
		npu_fill(&self->npu, buf.p, buf.len, SECRET, NULL);
		switch (how) {
		case 0:
			hmadvise(-1, buf.p, buf.len, HMADV_DISCARD);
			break;
		case 1:
			ASSERT_EQ(0, madvise(buf.p, buf.len, MADV_DONTNEED));
			break;
		case 2:
			ASSERT_EQ(0, munmap(buf.p, buf.len));
			ASSERT_EQ(buf.p, mmap(buf.p, buf.len, RW, MAP_PRIVATE |
					      MAP_ANONYMOUS | MAP_PEER_SHARED |
					      MAP_FIXED, -1, 0));
			break;
		case 3:
			ASSERT_EQ(buf.p, mmap(buf.p, buf.len, RW, MAP_PRIVATE |
					      MAP_ANONYMOUS | MAP_PEER_SHARED |
					      MAP_FIXED, -1, 0));
			break;
		}
		npu_reduce(&self->npu, buf.p, buf.len, &res);
		ASSERT_EQ(0, res.value);
		ASSERT_ZERO(buf.p, buf.len);
		gmem_unmap(&buf);
	}
}

/* --- page tables of the device ------------------------------------------------- */

FIXTURE(tables)
{
	struct npu npu;
	struct gmem_buf buf;
};

FIXTURE_SETUP(tables)
{
	npu_open(&self->npu, 0);
	gmem_map(&self->buf, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
}

FIXTURE_TEARDOWN_PARENT(tables)
{
	EXPECT_NO_DEVICE_PAGES();
}

/*
 * Have the device read one page in each 2 MiB, each of which takes a table, as
 * long as it goes; then say so, and stay.
 */
static int take_tables(size_t max, int ready)
{
	struct gmem_buf buf;
	struct npu npu;
	size_t i;
	int err;

	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
	    _gmem_map(&buf, max * SZ_2M, SZ_2M, 0, RW, MAP_NORESERVE))
		return 1;
	for (i = 0, err = 0; i < max && !err; i++)
		err = _npu_touch(&npu, buf.p + i * SZ_2M, SZ_4K, false, NULL);
	if (write(ready, &err, sizeof(err)) != sizeof(err))
		return 2;
	pause();
	return 3;
}

#define HOGS	3

TEST_F(tables, who_comes_last_has_some)
{
	/* The device's memory is 63 of 64 parts, its tables are the rest. */
	size_t max = self->npu.mem_size / 63 / SZ_4K;
	struct npu_result res;
	int ready[2], err, i;
	pid_t pid[HOGS];

	OK(pipe(ready));
	for (i = 0; i < HOGS; i++) {
		pid[i] = gmem_fork();
		if (!pid[i])
			_exit(take_tables(max, ready[1]));
		ASSERT_EQ(sizeof(err), read(ready[0], &err, sizeof(err)));
		ASSERT_EQ(ENOMEM, err);
	}

	npu_attach(&self->npu, 0);
	npu_fill(&self->npu, self->buf.p, SZ_2M, 7, NULL);
	npu_reduce(&self->npu, self->buf.p, SZ_2M, &res);
	ASSERT_EQ(7 * (SZ_2M / 8), res.value);
	for (i = 0; i < HOGS; i++) {
		kill(pid[i], SIGKILL);
		ASSERT_EQ(128 + SIGKILL, gmem_child(pid[i]));
	}

	/* The tables are there again. */
	pid[0] = gmem_fork();
	if (!pid[0])
		_exit(take_tables(max / 3, ready[1]));
	ASSERT_EQ(sizeof(err), read(ready[0], &err, sizeof(err)));
	OK(err);
	kill(pid[0], SIGKILL);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid[0]));
}

GMEM_TEST_MAIN("Device memory is zero for its next owner.")
