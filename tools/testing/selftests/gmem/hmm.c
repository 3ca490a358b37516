// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel's own tests of HMM, selftests/mm/hmm-tests.c, demand of a
 * driver that is written on HMM, demanded of the NPU.  A test has the name that
 * it has there.  Those about huge pages are in hmm_huge.c; hmm.h says what
 * stands for what.
 */
#include "hmm.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define NTIMES			gmem_scaled(10)

/* Sizes: the whole range is what a test works on. */
FIXTURE(hmm)
{
	struct hmm hmm;
};

FIXTURE_VARIANT(hmm)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(hmm, 4k) { .shape = GMEM_SHAPE_4K };
FIXTURE_VARIANT_ADD(hmm, 64k) { .shape = GMEM_SHAPE_64K };
FIXTURE_VARIANT_ADD(hmm, 2m) { .shape = GMEM_SHAPE_2M };
FIXTURE_VARIANT_ADD(hmm, 2m_thp) { .shape = GMEM_SHAPE_2M_THP };

FIXTURE_SETUP(hmm)
{
	setup(_metadata, &self->hmm, &variant->shape);
}

FIXTURE_TEARDOWN_PARENT(hmm)
{
	clean_up(_metadata);
}

/* Several pages that differ in where they are and what they permit. */
#define UNITS			7

FIXTURE(hmm2)
{
	struct hmm hmm;
};

FIXTURE_VARIANT(hmm2)
{
	struct gmem_shape shape;
};

FIXTURE_VARIANT_ADD(hmm2, 4k) { .shape = { .block = SZ_4K, .nr = UNITS } };
FIXTURE_VARIANT_ADD(hmm2, 64k) { .shape = { .block = SZ_64K, .nr = UNITS } };
FIXTURE_VARIANT_ADD(hmm2, 2m_thp) {
	.shape = { .block = SZ_2M, .nr = UNITS, .thp = true }
};

FIXTURE_SETUP(hmm2)
{
	setup(_metadata, &self->hmm, &variant->shape);
}

FIXTURE_TEARDOWN_PARENT(hmm2)
{
	clean_up(_metadata);
}

static char *unit(struct hmm *h, unsigned int i)
{
	return h->p + i * h->unit;
}

/* Memory that stays on the host. */
FIXTURE(hmm_host)
{
	struct hmm hmm;
};

FIXTURE_SETUP(hmm_host)
{
	const struct gmem_shape shape = GMEM_SHAPE_64K;

	setup(_metadata, &self->hmm, &shape);
}

FIXTURE_TEARDOWN_PARENT(hmm_host)
{
	EXPECT_EQ(0, _gmem_write_file("/proc/sys/vm/nr_hugepages", "0"));
	clean_up(_metadata);
}

/* Files. */
FIXTURE(hmm_file)
{
	struct hmm hmm;
	int fd;
};

FIXTURE_VARIANT(hmm_file)
{
	enum { MEMFD, TMPFS, EXT4 } backing;
};

FIXTURE_VARIANT_ADD(hmm_file, memfd) { .backing = MEMFD };
FIXTURE_VARIANT_ADD(hmm_file, tmpfs) { .backing = TMPFS };
FIXTURE_VARIANT_ADD(hmm_file, ext4) { .backing = EXT4 };

FIXTURE_SETUP(hmm_file)
{
	const struct gmem_shape shape = GMEM_SHAPE_64K;
	struct hmm *h = &self->hmm;
	const char *dir = "/tmp";

	setup(_metadata, h, &shape);
	if (variant->backing == EXT4) {
		OK(_gmem_fs_mount());
		dir = GMEM_FS;
	}
	self->fd = variant->backing == MEMFD ?
		   memfd_create("hmm", MFD_CLOEXEC) :
		   open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->fd);
	gmem_pattern(h->shadow, h->len, 1);
	ASSERT_EQ(h->len, pwrite(self->fd, h->shadow, h->len, 0));
}

FIXTURE_TEARDOWN_PARENT(hmm_file)
{
	clean_up(_metadata);
}

/* --- access in place ------------------------------------------------------------- */

/* More often than the hardware has contexts: none is lost. */
TEST_F(hmm_host, open_close)
{
	struct hmm *h = &self->hmm;
	unsigned int i;
	struct npu npu;

	for (i = 0; i < 80; i++) {
		npu_open(&npu, 0);
		npu_attach(&npu, 0);
		npu_close(&npu);
		npu_open(&npu, 0);
		npu_close(&npu);
	}
	cpu_fills(h, 2);
	device_reads(_metadata, h, 0);
}

/* Never touched, zero pages, data; the mapping is read-only by then. */
TEST_F(hmm, anon_read)
{
	struct hmm *h = &self->hmm;
	size_t zero = h->len / SZ_4K / 4 * SZ_4K, at;

	gmem_pattern(h->shadow, h->len, 3);
	memset(h->shadow, 0, 2 * zero);
	memcpy(h->p + 2 * zero, h->shadow + 2 * zero, h->len - 2 * zero);
	OK(mprotect(h->p, h->len, PROT_READ));
	for (at = zero; at < 2 * zero; at += SZ_4K)
		ASSERT_EQ(0, h->p[at]);
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/* PROT_NONE: EFAULT, and nothing is copied. */
TEST_F(hmm, anon_read_prot)
{
	struct hmm *h = &self->hmm;
	char *mine = malloc(h->len);

	ASSERT_NE(NULL, mine);
	cpu_fills(h, 4);
	gmem_pattern(mine, h->len, 5);
	memcpy(h->out.p, mine, h->len);
	OK(mprotect(h->p, h->len, PROT_NONE));
	npu_memcpy_err(EFAULT, &h->npu[0], h->out.p, h->p, h->len, NULL);
	ASSERT_SAME(mine, h->out.p, h->len);
	OK(mprotect(h->p, h->len, PROT_READ));
	ASSERT_SAME(h->shadow, h->p, h->len);
	device_reads(_metadata, h, 0);
}

/*
 * Never touched: no host page is made, and a job has a fault for each block,
 * where a dmirror has one for each ioctl.
 */
TEST_F(hmm, anon_write)
{
	struct hmm *h = &self->hmm;
	struct gmem_smaps maps;
	struct npu_result res;

	gmem_pattern(h->shadow, h->len, 6);
	memcpy(h->out.p, h->shadow, h->len);
	npu_touch(&h->npu[0], h->out.p, h->len, false, NULL);
	npu_memcpy(&h->npu[0], h->p, h->out.p, h->len, &res);
	ASSERT_NE(0, res.faults);
	ASSERT_GE(variant->shape.nr, res.faults);
	gmem_smaps(0, h->p, h->len, &maps);
	ASSERT_EQ(0, maps.rss);
	ASSERT_EQ(h->len, maps.device);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/* Read-only: EPERM, and zeros stay zeros until mprotect() says otherwise. */
TEST_F(hmm, anon_write_prot)
{
	struct hmm *h = &self->hmm;

	OK(mprotect(h->p, h->len, PROT_READ));
	device_reads_at(_metadata, h, 0, 0, SZ_4K);
	gmem_pattern(h->out.p, h->len, 7);
	npu_memcpy_err(EPERM, &h->npu[0], h->p, h->out.p, h->len, NULL);
	ASSERT_ZERO(h->p, h->len);
	npu_memcpy_err(EPERM, &h->npu[0], h->p, h->out.p, h->len, NULL);
	OK(mprotect(h->p, h->len, RW));
	device_writes(_metadata, h, 0, 7);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

#define CHILD_SEED		8

/* In a child, with a device of its own; returns the step that was wrong. */
static int child_writes(struct hmm *h)
{
	uint64_t seqno;
	struct npu npu;

	if (gmem_diff(h->shadow, h->p, h->len) != h->len)
		return 1;
	/* The parent's device has the parent's memory. */
	if (_npu_submit(&h->npu[0], NPU_OP_FILL, (uintptr_t)h->p, h->len, 0, 0,
			0, &seqno) != EPERM)
		return 2;
	if (_npu_open(&npu, 0) || _npu_attach(&npu, 0))
		return 3;
	gmem_pattern(h->shadow, h->len, CHILD_SEED);
	memcpy(h->out.p, h->shadow, h->len);
	if (_npu_memcpy(&npu, h->p, h->out.p, h->len, NULL))
		return 4;
	return gmem_diff(h->shadow, h->p, h->len) == h->len ? 0 : 5;
}

/* Copy-on-write, of pages on the host and of pages on the device. */
TEST_F(hmm, anon_write_child)
{
	struct hmm *h = &self->hmm;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		pid_t pid;

		cpu_fills(h, 9 + i);
		if (i)
			to_device(_metadata, h, 0);
		pid = gmem_fork();
		if (!pid)
			_exit(child_writes(h));
		OK(gmem_child(pid));
		device_reads(_metadata, h, 0);
		ASSERT_SAME(h->shadow, h->p, h->len);
	}
}

/* What the child's device writes is the parent's as well. */
TEST_F(hmm_host, anon_write_child_shared)
{
	struct hmm *h = &self->hmm;
	pid_t pid;

	ASSERT_EQ(h->p, mmap(h->p, h->len, RW, MAP_SHARED | MAP_ANONYMOUS |
			     MAP_FIXED, -1, 0));
	cpu_fills(h, 11);
	device_reads(_metadata, h, 0);
	pid = gmem_fork();
	if (!pid)
		_exit(child_writes(h));
	OK(gmem_child(pid));
	gmem_pattern(h->shadow, h->len, CHILD_SEED);
	ASSERT_SAME(h->shadow, h->p, h->len);
	device_reads(_metadata, h, 0);
}

/* A huge page of hugetlbfs, or NULL. */
static char *hugetlb_map(void)
{
	char *p;

	_gmem_write_file("/proc/sys/vm/compact_memory", "1");
	_gmem_write_file("/proc/sys/vm/nr_hugepages", "1");
	p = mmap(NULL, SZ_2M, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Such pages are not to be moved: the device writes them where they are. */
TEST_F(hmm_host, anon_write_hugetlbfs)
{
	char *p = hugetlb_map(), *shadow = malloc(SZ_2M);
	struct hmm *h = &self->hmm;
	struct gmem_buf src;

	if (!p)
		SKIP(return, "no huge page to be had");
	gmem_map(&src, SZ_2M, SZ_2M, 0, RW, MAP_PEER_SHARED);
	gmem_pattern(shadow, SZ_2M, 13);
	memcpy(src.p, shadow, SZ_2M);
	npu_memcpy(&h->npu[0], p, src.p, SZ_2M, NULL);
	ASSERT_SAME(shadow, p, SZ_2M);
	ASSERT_ON(GMEM_ANY_NODE, p, SZ_2M);
	hmadvise_err(EOPNOTSUPP, -1, p, SZ_2M, HMADV_SHARE);
	hmadvise_err(EOPNOTSUPP, h->npu[0].hnid, p, SZ_2M, HMADV_PREFETCH);
	ASSERT_SAME(shadow, p, SZ_2M);
	OK(munmap(p, SZ_2M));
}

/* Map the file in the place of the buffer. */
#define map_file(prot, flags) \
	ASSERT_EQ(h->p, mmap(h->p, h->len, prot, (flags) | MAP_FIXED, \
			     self->fd, 0))

/* The file has what the shadow has. */
static void check_file(struct __test_metadata *_metadata, struct hmm *h, int fd)
{
	char *data = malloc(h->len);

	ASSERT_NE(NULL, data);
	ASSERT_EQ(h->len, pread(fd, data, h->len, 0));
	ASSERT_SAME(h->shadow, data, h->len);
	free(data);
}

TEST_F(hmm_file, file_read)
{
	struct hmm *h = &self->hmm;

	map_file(PROT_READ, MAP_SHARED);
	device_reads(_metadata, h, 0);
	npu_fill_err(EPERM, &h->npu[0], h->p, h->len, 1, NULL);
	check_file(_metadata, h, self->fd);
}

/* In the mapping, and by read(). */
TEST_F(hmm_file, file_write)
{
	struct hmm *h = &self->hmm;

	map_file(RW, MAP_SHARED);
	device_writes(_metadata, h, 0, 14);
	check_file(_metadata, h, self->fd);
	ASSERT_SAME(h->shadow, h->p, h->len);
	OK(msync(h->p, h->len, MS_SYNC));
	device_writes(_metadata, h, 0, 15);
	check_file(_metadata, h, self->fd);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/* --- migration --------------------------------------------------------------------- */

/* Every byte is copied once, and then the device has it. */
TEST_F(hmm, migrate)
{
	struct hmm *h = &self->hmm;
	uint64_t copied;

	cpu_fills(h, 16);
	copied = stat_of(_metadata, h, NPU_STAT_COPY_TO_DEV);
	to_device(_metadata, h, 0);
	copied = stat_of(_metadata, h, NPU_STAT_COPY_TO_DEV) - copied;
	ASSERT_EQ(h->len, copied);
	device_reads(_metadata, h, 0);
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/*
 * Pages of a private file mapping, copied on write, move there.  GMEM moves
 * anonymous mappings only, says so, and lets the device use these in place.
 */
TEST_F(hmm_file, migrate_file_private)
{
	struct hmm *h = &self->hmm;
	char *file = malloc(h->len);

	ASSERT_NE(NULL, file);
	memcpy(file, h->shadow, h->len);
	map_file(RW, MAP_PRIVATE);
	gmem_pattern(h->p, h->len / 2, 17);
	gmem_pattern(h->shadow, h->len / 2, 17);
	hmadvise_err(EOPNOTSUPP, -1, h->p, h->len, HMADV_SHARE);
	hmadvise_err(EOPNOTSUPP, h->npu[0].hnid, h->p, h->len, HMADV_PREFETCH);
	device_reads(_metadata, h, 0);
	device_writes(_metadata, h, 0, 18);
	ASSERT_SAME(h->shadow, h->p, h->len);
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
	/* The copies were private. */
	memcpy(h->shadow, file, h->len);
	check_file(_metadata, h, self->fd);
}

/* The CPU takes a half back, and the mix of both goes again. */
TEST_F(hmm, migrate_fault)
{
	struct hmm *h = &self->hmm;
	size_t half = h->len / SZ_4K / 2 * SZ_4K;

	cpu_fills(h, 19);
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->p, half);
	ASSERT_ON(GMEM_ANY_NODE, h->p, half);
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/* RELEASE, all of the device's memory, is a limit of nothing. */
TEST_F(hmm, migrate_release)
{
	uint64_t end = gmem_now_ms() + 30000;
	struct hmm *h = &self->hmm;
	int hnid = h->npu[0].hnid;

	cpu_fills(h, 20);
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
	gmem_hnode_set(hnid, "limit", 0);
	while (gmem_hnode_get(hnid, "used") && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	ASSERT_EQ(0, gmem_hnode_get(hnid, "used"));
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);
	gmem_hnode_set(hnid, "limit", gmem_hnode_get(hnid, "size"));
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
}

/*
 * ENOENT there, and here EOPNOTSUPP, for the same reason: the page cache has
 * these pages.  But the device can use them.
 */
TEST_F(hmm_host, migrate_shared)
{
	struct hmm *h = &self->hmm;

	ASSERT_EQ(h->p, mmap(h->p, h->len, RW, MAP_SHARED | MAP_ANONYMOUS |
			     MAP_FIXED, -1, 0));
	hmadvise_err(EOPNOTSUPP, -1, h->p, h->len, HMADV_SHARE);
	hmadvise_err(EOPNOTSUPP, h->npu[0].hnid, h->p, h->len, HMADV_PREFETCH);
	device_reads(_metadata, h, 0);
	device_writes(_metadata, h, 0, 21);
	ASSERT_SAME(h->shadow, h->p, h->len);
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
}

/*
 * Make unit 0 inaccessible, 1 a hole, 2 zero pages, 3 data, both read-only, and
 * the rest writable.
 */
static void arrange_mixed(struct __test_metadata *_metadata, struct hmm *h)
{
	size_t at;

	OK(mprotect(h->p, 2 * h->unit, PROT_NONE));
	OK(munmap(unit(h, 1), h->unit));
	gmem_pattern(h->shadow, h->len, 22);
	memset(h->shadow, 0, 3 * h->unit);
	OK(mprotect(unit(h, 2), h->unit, PROT_READ));
	for (at = 0; at < h->unit; at += SZ_4K)
		ASSERT_EQ(0, unit(h, 2)[at]);
	memcpy(unit(h, 3), h->shadow + 3 * h->unit, h->unit);
	OK(mprotect(unit(h, 3), h->unit, PROT_READ));
	memcpy(unit(h, 4), h->shadow + 4 * h->unit, 3 * h->unit);
}

/*
 * PROT_NONE is EINVAL there; a hint for what nobody may access moves nothing.
 * A hole is EINVAL there; here what is around it moves.  A page that another
 * device has is ENOENT there; here it goes from one to the other.
 */
TEST_F(hmm2, migrate_mixed)
{
	struct hmm *h = &self->hmm;
	int hnid0 = h->npu[0].hnid, hnid1 = h->npu[1].hnid;

	arrange_mixed(_metadata, h);
	hmadvise(hnid1, h->p, h->unit, HMADV_PREFETCH);
	ASSERT_ON(-ENOENT, h->p, h->unit);
	hmadvise_err(ENOMEM, hnid1, h->p, h->len, HMADV_PREFETCH);
	ASSERT_ON(-ENOENT, h->p, h->unit);
	ASSERT_ON(hnid1, unit(h, 2), 5 * h->unit);
	device_reads_at(_metadata, h, 1, 2 * h->unit, 5 * h->unit);

	hmadvise(hnid0, unit(h, 5), h->unit, HMADV_PREFETCH);
	ASSERT_ON(hnid1, unit(h, 2), 3 * h->unit);
	ASSERT_ON(hnid0, unit(h, 5), h->unit);
	ASSERT_ON(hnid1, unit(h, 6), h->unit);
	device_reads_at(_metadata, h, 0, 5 * h->unit, h->unit);

	/* It did not become writable on the way. */
	npu_fill_err(EPERM, &h->npu[1], unit(h, 2), 8, 1, NULL);
	npu_fill_err(EPERM, &h->npu[1], unit(h, 3), 8, 1, NULL);
	ASSERT_SAME(h->shadow + 2 * h->unit, unit(h, 2), 5 * h->unit);
	OK(mprotect(h->p, h->unit, PROT_READ));
	ASSERT_ZERO(h->p, h->unit);
}

/* Home by faults, as from private memory there, and asked, as from coherent. */
TEST_F(hmm, migrate_multiple)
{
	struct hmm *h = &self->hmm;
	unsigned int i;

	for (i = 0; i < NTIMES; i++) {
		gmem_unmap(&h->buf);
		gmem_map_shape(&h->buf, &variant->shape);
		h->p = h->buf.p;
		cpu_fills(h, 100 + i);
		to_device(_metadata, h, 0);
		device_reads(_metadata, h, 0);
		if (i & 1) {
			hmadvise(-1, h->p, h->len, HMADV_PREFETCH);
			ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
		}
		ASSERT_SAME(h->shadow, h->p, h->len);
	}
}

/* The same addresses each time: nothing is left of the last. */
TEST_F(hmm, anon_read_multiple)
{
	struct hmm *h = &self->hmm;
	uint64_t stale = stat_of(_metadata, h, NPU_STAT_STALE_HITS);
	unsigned int i;

	for (i = 0; i < NTIMES; i++) {
		OK(munmap(h->p, h->len));
		npu_reduce_err(EFAULT, &h->npu[0], h->p, h->len, NULL);
		ASSERT_EQ(h->p, mmap(h->p, h->len, RW, MAP_PRIVATE |
				     MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
				     MAP_PEER_SHARED, -1, 0));
		OK(madvise(h->p, h->len, variant->shape.thp ?
			   MADV_HUGEPAGE : MADV_NOHUGEPAGE));
		cpu_fills(h, 200 + i);
		device_reads(_metadata, h, 0);
	}
	ASSERT_EQ(stale, stat_of(_metadata, h, NPU_STAT_STALE_HITS));
}

struct teardown {
	char *p;
	size_t len;
	unsigned int ns;
};

static void *unmap_soon(void *arg)
{
	struct teardown *t = arg;
	struct timespec ts = { .tv_nsec = t->ns };

	nanosleep(&ts, NULL);
	return (void *)(long)munmap(t->p, t->len);
}

/* Half of it goes while a job reads: all is right, or EFAULT. */
TEST_F(hmm, anon_teardown)
{
	uint64_t rnd = gmem_seed(), old = 0x5555aaaa5555aaaaULL;
	struct hmm *h = &self->hmm;
	size_t half = h->len / SZ_4K / 2 * SZ_4K, at;
	unsigned int i;

	for (i = 0; i < NTIMES; i++) {
		struct teardown t;
		pthread_t thread;
		void *ret;
		int err;

		gmem_unmap(&h->buf);
		gmem_map_shape(&h->buf, &variant->shape);
		h->p = h->buf.p;
		cpu_fills(h, 300 + i);
		gmem_fill(h->out.p, h->len, old);
		t.p = h->p + half;
		t.len = h->len - half;
		t.ns = gmem_random(&rnd) % 5000000;
		OK(pthread_create(&thread, NULL, unmap_soon, &t));
		err = _npu_memcpy(&h->npu[0], h->out.p, h->p, h->len, NULL);
		OK(pthread_join(thread, &ret));
		ASSERT_EQ(NULL, ret);
		ASSERT_TRUE(!err || err == EFAULT);
		if (!err)
			ASSERT_SAME(h->shadow, h->out.p, h->len);
		/* Whatever was copied is right. */
		for (at = 0; at < h->len; at += 8) {
			uint64_t v = *(uint64_t *)(h->out.p + at);

			if (v != old)
				ASSERT_EQ(*(uint64_t *)(h->shadow + at), v);
		}
		ASSERT_SAME(h->shadow, h->p, half);
	}
}

/* Does the VMA at @p have a flag in smaps? */
static bool vma_has_flag(const void *p, const char *flag)
{
	uintptr_t addr = (uintptr_t)p, from, to;
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false, found = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= addr && addr < to;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag);
	}
	if (f)
		fclose(f);
	return found;
}

/*
 * There the device itself can be mapped; here it cannot.  What a driver put
 * into a mapping page by page, such as a ring of io_uring, is used in place.
 */
TEST_F(hmm_host, mixedmap)
{
	struct io_uring_params params = { 0 };
	struct hmm *h = &self->hmm;
	char *p;
	int fd;

	ASSERT_EQ(MAP_FAILED, mmap(NULL, SZ_4K, RW, MAP_PRIVATE, h->npu[0].fd,
				   0));
	ASSERT_EQ(ENODEV, errno);
	fd = syscall(SYS_io_uring_setup, 4, &params);
	ASSERT_LE(0, fd);
	p = mmap(NULL, SZ_4K, RW, MAP_SHARED, fd, IORING_OFF_SQES);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_TRUE(vma_has_flag(p, " mm"));
	h->p = p;
	h->len = SZ_4K;
	cpu_fills(h, 23);
	device_reads(_metadata, h, 0);
	device_writes(_metadata, h, 0, 24);
	ASSERT_SAME(h->shadow, p, SZ_4K);
	hmadvise_err(EOPNOTSUPP, -1, p, SZ_4K, HMADV_SHARE);
	OK(mprotect(p, SZ_4K, PROT_READ));
	npu_fill_err(EPERM, &h->npu[0], p, SZ_4K, 1, NULL);
	ASSERT_SAME(h->shadow, p, SZ_4K);
	OK(munmap(p, SZ_4K));
	npu_reduce_err(EFAULT, &h->npu[0], p, SZ_4K, NULL);
	close(fd);
}

/*
 * Looking moves nothing and faults nothing in.  A page of another device is a
 * hole there; here everyone sees which device has it.
 */
TEST_F(hmm2, snapshot)
{
	const struct {
		int node;
		uint64_t pagemap;
	} want[UNITS] = {
		{ -ENOENT, 0 }, { -EFAULT, 0 }, { -EFAULT, PM_PRESENT },
		{ GMEM_ANY_NODE, PM_PRESENT }, { GMEM_ANY_NODE, PM_PRESENT },
		{ self->hmm.npu[0].hnid, PM_SWAP },
		{ self->hmm.npu[1].hnid, PM_SWAP },
	};
	struct hmm *h = &self->hmm;
	uint64_t copies, faults;
	struct gmem_smaps maps;
	unsigned int i;
	size_t at;

	arrange_mixed(_metadata, h);
	hmadvise(h->npu[0].hnid, unit(h, 5), h->unit, HMADV_PREFETCH);
	hmadvise(h->npu[1].hnid, unit(h, 6), h->unit, HMADV_PREFETCH);
	copies = stat_of(_metadata, h, NPU_STAT_COPIES);
	faults = stat_of(_metadata, h, NPU_STAT_FAULTS);
	for (i = 0; i < UNITS; i++) {
		ASSERT_ON(want[i].node, unit(h, i), h->unit)
			TH_LOG("unit %u", i);
		for (at = 0; at < h->unit; at += SZ_4K)
			ASSERT_EQ(want[i].pagemap, (PM_SWAP | PM_PRESENT) &
				  gmem_pagemap(unit(h, i) + at))
				TH_LOG("unit %u", i);
	}
	gmem_smaps(0, h->p, h->len, &maps);
	ASSERT_EQ(2 * h->unit, maps.device);
	ASSERT_EQ(2 * h->unit, maps.rss);
	ASSERT_EQ(copies, stat_of(_metadata, h, NPU_STAT_COPIES));
	ASSERT_EQ(faults, stat_of(_metadata, h, NPU_STAT_FAULTS));

	/* And the rights: none, none, to read, to read, and both. */
	for (i = 0; i < UNITS; i++) {
		FAILS(i < 2 ? EFAULT : 0,
		      _npu_touch(&h->npu[0], unit(h, i), h->unit, false, NULL));
		FAILS(i < 2 ? EFAULT : i < 4 ? EPERM : 0,
		      _npu_touch(&h->npu[0], unit(h, i), h->unit, true, NULL));
	}
	ASSERT_SAME(h->shadow + 2 * h->unit, unit(h, 2), 5 * h->unit);
}

/*
 * Every page of a huge one has the same state and the same rights, though the
 * device has them mapped one by one.
 */
TEST_F(hmm_host, compound)
{
	char *p = hugetlb_map(), *shadow = malloc(SZ_2M);
	struct hmm *h = &self->hmm;
	struct npu_result res;
	size_t at;

	if (!p)
		SKIP(return, "no huge page to be had");
	gmem_pattern(p, SZ_2M, 25);
	gmem_pattern(shadow, SZ_2M, 25);
	ASSERT_ON(gmem_node(p), p, SZ_2M);
	npu_touch(&h->npu[0], p, SZ_2M, true, NULL);
	npu_reduce(&h->npu[0], p, SZ_2M, &res);
	ASSERT_EQ(gmem_sum(shadow, SZ_2M), res.value);
	ASSERT_EQ(0, res.faults);
	OK(mprotect(p, SZ_2M, PROT_READ));
	for (at = 0; at < SZ_2M; at += SZ_64K)
		npu_fill_err(EPERM, &h->npu[0], p + at, SZ_4K, 1, NULL);
	npu_reduce(&h->npu[0], p, SZ_2M, &res);
	ASSERT_EQ(gmem_sum(shadow, SZ_2M), res.value);
	ASSERT_SAME(shadow, p, SZ_2M);
	OK(munmap(p, SZ_2M));
}

/*
 * Two devices read the same pages.  Those that move have one owner at a time,
 * so the second reader takes them over; those on the host both have mapped.
 */
TEST_F(hmm2, double_map)
{
	struct hmm *h = &self->hmm;
	struct npu_result res;
	unsigned int i;

	cpu_fills(h, 26);
	OK(mprotect(h->p, h->len, PROT_READ));
	device_reads(_metadata, h, 0);
	device_reads(_metadata, h, 1);
	to_device(_metadata, h, 1);
	device_reads(_metadata, h, 0);
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);

	hmadvise(-1, h->p, h->len, HMADV_UNSHARE);
	h->len = h->unit < SZ_64K ? h->len : SZ_64K;
	for (i = 0; i < 4; i++) {
		npu_reduce(&h->npu[i % 2], h->p, h->len, &res);
		ASSERT_EQ(gmem_sum(h->shadow, h->len), res.value);
		ASSERT_EQ(i < 2, res.faults != 0);
	}
}

/* --- exclusive access ---------------------------------------------------------------- */

struct adder {
	uint64_t *word;
	uint64_t done;
	bool stop;
};

static void *cpu_adds(void *arg)
{
	struct adder *a = arg;

	while (!__atomic_load_n(&a->stop, __ATOMIC_SEQ_CST)) {
		__atomic_add_fetch(a->word, 1, __ATOMIC_SEQ_CST);
		a->done++;
	}
	return NULL;
}

/* The CPU increments every word. */
static void cpu_increments(struct hmm *h)
{
	size_t i;

	for (i = 0; i < h->len / 8; i++) {
		((uint64_t *)h->p)[i]++;
		((uint64_t *)h->shadow)[i]++;
	}
}

/*
 * EXCLUSIVE gives a dmirror a page of the host alone, for atomic operations.
 * Here a page that a device works on is its own until the CPU touches it, and
 * the device has to ask again then.
 */
TEST_F(hmm, exclusive)
{
	struct hmm *h = &self->hmm;
	struct adder a = { .word = (uint64_t *)h->p };
	unsigned int i, rounds = gmem_scaled(100);
	struct npu_result res;
	pthread_t thread;

	cpu_fills(h, 27);
	npu_dirty(&h->npu[0], h->p, h->shadow, h->len);
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	cpu_increments(h);
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);
	npu_reduce(&h->npu[0], h->p, h->len, &res);
	ASSERT_NE(0, res.faults);
	ASSERT_EQ(gmem_sum(h->shadow, h->len), res.value);

	/* Both at the same word, at the same time. */
	OK(pthread_create(&thread, NULL, cpu_adds, &a));
	for (i = 0; i < rounds; i++)
		npu_atomic_add(&h->npu[i % 2], a.word, 1, 3, NULL);
	__atomic_store_n(&a.stop, true, __ATOMIC_SEQ_CST);
	OK(pthread_join(thread, NULL));
	*(uint64_t *)h->shadow += a.done + 3 * rounds;
	ASSERT_SAME(h->shadow, h->p, h->len);
}

TEST_F(hmm, exclusive_mprotect)
{
	struct hmm *h = &self->hmm;

	cpu_fills(h, 28);
	npu_dirty(&h->npu[0], h->p, h->shadow, h->len);
	OK(mprotect(h->p, h->len, PROT_READ));
	npu_fill_err(EPERM, &h->npu[0], h->p, h->len, 1, NULL);
	FAILS(EPERM, _npu_atomic_add(&h->npu[0], (uint64_t *)h->p, 1, 1, NULL));
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

TEST_F(hmm, exclusive_cow)
{
	struct hmm *h = &self->hmm;
	pid_t pid;

	cpu_fills(h, 29);
	npu_dirty(&h->npu[0], h->p, h->shadow, h->len);
	ASSERT_ON(h->npu[0].hnid, h->p, h->len);
	pid = gmem_fork();
	cpu_increments(h);
	if (!pid)
		_exit(gmem_diff(h->shadow, h->p, h->len) != h->len);
	ASSERT_SAME(h->shadow, h->p, h->len);
	OK(gmem_child(pid));
	device_reads(_metadata, h, 0);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

/* --- references, and copies of what a device has --------------------------------------- */

/*
 * Four ways to take references, by what user space has for them instead of the
 * ioctls of gup_test: each brings its pages home, and no others.
 */
TEST_F(hmm2, hmm_gup_test)
{
	struct hmm *h = &self->hmm;
	struct io_uring_params params = { 0 };
	struct iovec page = { unit(h, 1), SZ_4K };
	struct iovec pinned = { unit(h, 3), h->unit };
	int mem, pipe_fd[2], disk, disk_id, ring, hnid = h->npu[0].hnid;
	char *data = malloc(h->unit);

	cpu_fills(h, 30);
	to_device(_metadata, h, 0);
	/* get_user_pages() */
	mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(h->unit, pread(mem, data, h->unit, (uintptr_t)h->p));
	ASSERT_SAME(h->shadow, data, h->unit);
	/* get_user_pages_fast() */
	OK(pipe(pipe_fd));
	ASSERT_EQ(SZ_4K, vmsplice(pipe_fd[1], &page, 1, 0));
	/* pin_user_pages_fast() */
	disk = gmem_disk_open(2 * SZ_2M, &disk_id);
	ASSERT_LE(0, disk);
	ASSERT_EQ(h->unit, pwrite(disk, unit(h, 2), h->unit, 0));
	/* with FOLL_LONGTERM */
	ring = syscall(SYS_io_uring_setup, 4, &params);
	ASSERT_LE(0, ring);
	OK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS,
		   &pinned, 1));
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->unit);
	ASSERT_ON(GMEM_ANY_NODE, unit(h, 1), SZ_4K);
	ASSERT_ON(GMEM_ANY_NODE, unit(h, 2), 2 * h->unit);
	ASSERT_ON(hnid, unit(h, 4), 3 * h->unit);

	/* What is held now stays, and the device works on it there. */
	hmadvise(hnid, h->p, h->len, HMADV_PREFETCH);
	ASSERT_ON(hnid, h->p, h->unit);
	ASSERT_ON(GMEM_ANY_NODE, unit(h, 1), SZ_4K);
	ASSERT_ON(hnid, unit(h, 2), h->unit);
	ASSERT_ON(GMEM_ANY_NODE, unit(h, 3), h->unit);
	device_writes(_metadata, h, 0, 31);
	ASSERT_EQ(SZ_4K, read(pipe_fd[0], data, SZ_4K));
	ASSERT_SAME(h->shadow + h->unit, data, SZ_4K);
	ASSERT_SAME(h->shadow, h->p, h->len);

	OK(syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS,
		   NULL, 0));
	to_device(_metadata, h, 0);
	device_reads(_metadata, h, 0);
	gmem_disk_close(disk, disk_id);
}

/* The parent's writes make pages of the host; the child's stay on the device. */
TEST_F(hmm, hmm_cow_in_device)
{
	struct hmm *h = &self->hmm;
	int go[2];
	pid_t pid;
	char c;

	cpu_fills(h, 32);
	to_device(_metadata, h, 0);
	OK(pipe(go));
	pid = gmem_fork();
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1))
			_exit(1);
		if (gmem_pages_on(h->p, h->len, h->npu[0].hnid) !=
		    h->len / SZ_4K)
			_exit(2);
		_exit(gmem_diff(h->shadow, h->p, h->len) != h->len);
	}
	cpu_fills(h, 33);
	ASSERT_ON(GMEM_ANY_NODE, h->p, h->len);
	close(go[1]);
	OK(gmem_child(pid));
	ASSERT_SAME(h->shadow, h->p, h->len);
	device_writes(_metadata, h, 0, 34);
	ASSERT_SAME(h->shadow, h->p, h->len);
}

GMEM_TEST_MAIN("What HMM's own tests demand, of GMEM.")
