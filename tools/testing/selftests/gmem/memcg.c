// SPDX-License-Identifier: GPL-2.0
/*
 * Memory cgroups: pages that come home are charged to their process, and that
 * may be more than its limit allows.
 */
#include "gmem_test.h"

#include <sys/mount.h>
#include <sys/stat.h>

#define RW			(PROT_READ | PROT_WRITE)
#define NR_BLOCKS		2

FIXTURE(memcg)
{
	struct npu npu;
	struct gmem_buf buf;
	char *shadow;
	size_t len;
};

static char group[64];		/* the cgroup's directory */

static int group_write(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return _gmem_write_file(path, text);
}

static long long group_read(const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return gmem_read_number(path);
}

static long long group_oom_kills(void)
{
	char path[128], text[512], *at;

	snprintf(path, sizeof(path), "%s/memory.events", group);
	if (gmem_read_file(path, text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, "oom_kill ");
	return at ? atoll(at + strlen("oom_kill ")) : -1;
}

/* A limit that leaves room for @room bytes more, and no way to swap. */
static int group_limit(size_t room)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld",
		 group_read("memory.current") + (long long)room);
	return group_write("memory.swap.max", "0") ?:
	       group_write("memory.max", text);
}

FIXTURE_SETUP(memcg)
{
	const char *root = access("/cgroup/cgroup.procs", F_OK) ?
			   "/sys/fs/cgroup" : "/cgroup";
	char path[64];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
	gmem_write_file(path, "+memory");
	snprintf(group, sizeof(group), "%s/gmem-test", root);
	ASSERT_TRUE(!mkdir(group, 0755) || errno == EEXIST);
	npu_open(&self->npu, 0);
	self->len = NR_BLOCKS * SZ_2M;
	self->shadow = malloc(self->len);
	ASSERT_NE(NULL, self->shadow);
	gmem_pattern(self->shadow, self->len, 41);
}

FIXTURE_TEARDOWN_PARENT(memcg)
{
	struct npu npu;

	EXPECT_EQ(0, _npu_open(&npu, 0));
	EXPECT_EQ(0, _gmem_hnode_set(npu.hnid, "limit",
				     gmem_hnode_get(npu.hnid, "size")));
	npu_close(&npu);
	EXPECT_NO_DEVICE_PAGES();
	rmdir("/cgroup/gmem-test");
	rmdir("/sys/fs/cgroup/gmem-test");
}

typedef FIXTURE_DATA(memcg) memcg_t;

/* In the cgroup, with all data on the device; returns where that is. */
static char *enter(struct __test_metadata *_metadata, const memcg_t *self,
		   int advice)
{
	/* The fixture is shared with the parent. */
	struct gmem_buf buf;
	struct npu npu;

	OK(group_write("cgroup.procs", "0"));
	npu_open(&npu, 0);
	npu_attach(&npu, 0);
	gmem_map(&buf, self->len, SZ_2M, 0, RW, MAP_PEER_SHARED);
	ASSERT_EQ(0, madvise(buf.p, self->len, advice));
	memcpy(buf.p, self->shadow, self->len);
	hmadvise(npu.hnid, buf.p, self->len, HMADV_PREFETCH);
	ASSERT_ON(npu.hnid, buf.p, self->len);
	return buf.p;
}

/* Who takes more home than fits is killed, not lied to, and does not hang. */
TEST_F(memcg, recall_without_room)
{
	size_t at;
	char *p;
	pid_t pid = gmem_fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		p = enter(_metadata, self, MADV_NOHUGEPAGE);
		OK(group_limit(SZ_1M));
		for (at = 0; at < self->len; at += SZ_4K)
			if (gmem_diff(self->shadow + at, p + at, SZ_4K) !=
			    SZ_4K)
				_exit(1);
		_exit(2);
	}
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	ASSERT_EQ(1, group_oom_kills());
}

/*
 * There is room for the page that is wanted, though not for the block around
 * it: that is no reason to kill.
 */
TEST_F(memcg, page_without_its_block)
{
	size_t at;
	char *p;
	pid_t pid = gmem_fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		p = enter(_metadata, self, MADV_HUGEPAGE);
		OK(group_limit(SZ_1M));
		for (at = 0; at < self->len; at += SZ_2M / 8)
			if (gmem_diff(self->shadow + at, p + at, SZ_4K) !=
			    SZ_4K)
				_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, gmem_child(pid));
	ASSERT_EQ(0, group_oom_kills());
}

/*
 * Somebody else wants the device's memory: who has no room to take his pages
 * home keeps them there.
 */
TEST_F(memcg, eviction_kills_nobody)
{
	int ready[2], go[2];
	struct npu_result res;
	char c = 0, *p;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		p = enter(_metadata, self, MADV_NOHUGEPAGE);
		OK(group_limit(SZ_64K));
		ASSERT_EQ(1, write(ready[1], &c, 1));
		ASSERT_EQ(1, read(go[0], &c, 1));
		_exit(gmem_diff(self->shadow, p, self->len) != self->len);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	gmem_hnode_set(self->npu.hnid, "limit", self->len);
	npu_attach(&self->npu, 0);
	gmem_map(&self->buf, SZ_64K, SZ_2M, 0, RW, MAP_PEER_SHARED);
	memcpy(self->buf.p, self->shadow, SZ_64K);
	npu_reduce(&self->npu, self->buf.p, SZ_64K, &res);
	ASSERT_EQ(gmem_sum(self->shadow, SZ_64K), res.value);
	ASSERT_SAME(self->shadow, self->buf.p, SZ_64K);
	ASSERT_EQ(0, group_oom_kills());

	OK(group_write("memory.max", "max"));
	ASSERT_EQ(1, write(go[1], &c, 1));
	ASSERT_EQ(0, gmem_child(pid));
}

/* prior art: what an eviction brought home was charged to nobody */
TEST_F(memcg, evicted_pages_are_charged)
{
	pid_t pid = gmem_fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		char *p = enter(_metadata, self, MADV_NOHUGEPAGE);
		uint64_t end = gmem_now_ms() + 30000;
		long long charge = group_read("memory.current");

		gmem_hnode_set(self->npu.hnid, "limit", 0);
		while (gmem_pages_on(p, self->len, GMEM_ANY_NODE) !=
		       self->len / SZ_4K && gmem_now_ms() < end)
			gmem_sleep_ms(5);
		charge = group_read("memory.current") - charge;
		/* CPUs charge a little in advance. */
		if (charge < (long long)(self->len - SZ_1M))
			_exit(1);
		_exit(gmem_diff(self->shadow, p, self->len) != self->len);
	}
	OK(gmem_child(pid));
}

/* What a device's faults cost the kernel, the process pays that it faults for. */
TEST_F(memcg, windows_are_charged)
{
	const size_t len = 512UL << 20;
	pid_t pid = gmem_fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		struct npu npu;
		long long charge;
		size_t at;
		char *p;

		OK(group_write("cgroup.procs", "0"));
		npu_open(&npu, 0);
		npu_attach(&npu, 0);
		p = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_NORESERVE, -1, 0);
		ASSERT_NE(MAP_FAILED, p);
		ASSERT_EQ(0, madvise(p, len, MADV_NOHUGEPAGE));
		charge = group_read("memory.current");
		for (at = 0; at < len; at += SZ_2M)
			npu_reduce(&npu, p + at, SZ_4K, NULL);
		charge = group_read("memory.current") - charge;
		/* A window, and a page table. */
		_exit(charge < (long long)(len / SZ_2M * 2 * SZ_4K));
	}
	OK(gmem_child(pid));
}

/* But when the device goes away, he must take them, and ends if he cannot. */
TEST_F(memcg, evacuation_makes_room)
{
	unsigned int count = npu_count();
	char dir[512], addr[64], c = 0;
	int ready[2];
	pid_t pid;

	OK(npu_driver(self->npu.number, dir, sizeof(dir), addr, sizeof(addr)));
	ASSERT_EQ(0, pipe(ready));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		enter(_metadata, self, MADV_NOHUGEPAGE);
		OK(group_limit(SZ_64K));
		ASSERT_EQ(1, write(ready[1], &c, 1));
		pause();
		_exit(1);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	npu_close(&self->npu);
	npu_unbind(dir, addr);
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	ASSERT_EQ(1, group_oom_kills());
	npu_bind(dir, addr);
	ASSERT_TRUE(npu_wait_count(count));
}

/* Bytes of a range that are in memory. */
static size_t resident(const char *p, size_t len)
{
	return gmem_pages_on(p, len, GMEM_ANY_NODE) * SZ_4K;
}

/* Eight times @size; the device reads @hot every time before. */
static int reclaim(const struct npu *npu, const char *hot, const char *size,
		   uint64_t *faults)
{
	struct npu_result res = { 0 };
	unsigned int i;
	int err = 0;

	for (i = 0; i < 8 && !err; i++) {
		err = _npu_reduce(npu, hot, SZ_2M, &res);
		*faults += res.faults;
		/* EAGAIN says that less was found. */
		group_write("memory.reclaim", size);
	}
	return err;
}

/*
 * Host pages that only a device has used are as good as others to reclaim: those
 * in use stay, and those that it has done with go.
 */
TEST_F(memcg, reclaim_spares_what_a_device_uses)
{
	struct gmem_buf buf;
	struct npu npu;
	uint64_t faults = 0;
	char *hot, *cold;
	size_t i;

	OK(_gmem_swap_on());
	OK(group_write("cgroup.procs", "0"));
	npu_open(&npu, 0);
	npu_attach(&npu, 0);
	gmem_map(&buf, 2 * SZ_2M, SZ_2M, 0, RW, 0);
	hot = buf.p;
	cold = buf.p + SZ_2M;
	OK(madvise(buf.p, buf.len, MADV_NOHUGEPAGE));
	for (i = 0; i < SZ_2M; i += SZ_4K) {
		memcpy(hot + i, self->shadow + i, SZ_4K);
		memcpy(cold + i, self->shadow + SZ_2M + i, SZ_4K);
	}
	/* Both are mapped for the device, and the CPU uses neither. */
	npu_dirty(&npu, buf.p, self->shadow, buf.len);
	OK(madvise(buf.p, buf.len, MADV_COLD));

	OK(reclaim(&npu, hot, "192K", &faults));
	TH_LOG("in use: %zu KiB, after %llu faults; not in use: %zu KiB",
	       resident(hot, SZ_2M) / 1024, (unsigned long long)faults,
	       resident(cold, SZ_2M) / 1024);
	/*
	 * What was taken and came back counts as taken.  Half would be left of
	 * what is as good as the rest; on a slow machine the device is late for
	 * some of it.
	 */
	ASSERT_GE(SZ_2M / SZ_4K / 10, faults);
	ASSERT_LE(SZ_2M / 5 * 4, resident(hot, SZ_2M));
	ASSERT_GE(SZ_2M / 2, resident(cold, SZ_2M));
	ASSERT_SAME(self->shadow, buf.p, buf.len);
}

GMEM_TEST_MAIN("Memory cgroups.")
