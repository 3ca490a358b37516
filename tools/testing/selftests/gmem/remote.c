// SPDX-License-Identifier: GPL-2.0
/*
 * A device works on host memory in place: file pages, shmem, private memory
 * that is not shared, locked and pinned pages.  What the kernel does to such a
 * page it does without asking the device, whose TLB has the page's translation
 * all the time: whoever forgets to tell it makes a wrong byte here.
 */
#include "gmem_test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define RW			(PROT_READ | PROT_WRITE)
#define PAGES			16
#define LEN			(PAGES * SZ_4K)
#define HALF			(LEN / 2)
/* The pages that a test takes from the device; both sides of HALF. */
#define PART			(5 * SZ_4K)
#define PART_LEN		(6 * SZ_4K)

enum backing { ANON, SHARED_ANON, LOCKED, MEMFD, TMPFS, EXT4 };

FIXTURE(remote)
{
	struct npu npu[2];
	struct gmem_buf buf;
	int fd;			/* of the file, or -1 */
	char *p;
	char *shadow;		/* what the mapping must read as */
	char *file;		/* what the file must read as */
};

FIXTURE_VARIANT(remote)
{
	enum backing backing;
	bool private;		/* writes do not go to the file */
};

FIXTURE_VARIANT_ADD(remote, anon)
{
	.backing = ANON, .private = true,
};

FIXTURE_VARIANT_ADD(remote, shared_anon)
{
	.backing = SHARED_ANON,
};

FIXTURE_VARIANT_ADD(remote, locked)
{
	.backing = LOCKED, .private = true,
};

FIXTURE_VARIANT_ADD(remote, memfd)
{
	.backing = MEMFD,
};

FIXTURE_VARIANT_ADD(remote, memfd_private)
{
	.backing = MEMFD, .private = true,
};

FIXTURE_VARIANT_ADD(remote, tmpfs)
{
	.backing = TMPFS,
};

FIXTURE_VARIANT_ADD(remote, ext4)
{
	.backing = EXT4,
};

FIXTURE_VARIANT_ADD(remote, ext4_private)
{
	.backing = EXT4, .private = true,
};

typedef FIXTURE_DATA(remote) remote_t;

static int open_backing(enum backing backing)
{
	switch (backing) {
	case MEMFD:
		return memfd_create("remote", MFD_CLOEXEC);
	case TMPFS:
		return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	case EXT4:
		if (_gmem_fs_mount())
			return -1;
		return open(GMEM_FS, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	default:
		return -1;
	}
}

static int map_flags(enum backing backing, bool private)
{
	int flags = MAP_FIXED | (private ? MAP_PRIVATE : MAP_SHARED);

	if (backing == LOCKED)
		flags |= MAP_PEER_SHARED;
	return backing < MEMFD ? flags | MAP_ANONYMOUS : flags;
}

/* The mapping has pages of two windows of the device's host mappings. */
FIXTURE_SETUP(remote)
{
	int i;

	for (i = 0; i < 2; i++) {
		npu_open(&self->npu[i], i);
		npu_attach(&self->npu[i], 0);
	}
	self->shadow = malloc(LEN);
	self->file = malloc(LEN);
	ASSERT_NE(NULL, self->shadow);
	ASSERT_NE(NULL, self->file);
	gmem_pattern(self->shadow, LEN, 71);
	memcpy(self->file, self->shadow, LEN);
	self->fd = open_backing(variant->backing);
	if (variant->backing >= MEMFD) {
		ASSERT_LE(0, self->fd);
		ASSERT_EQ(LEN, pwrite(self->fd, self->file, LEN, 0));
	}
	gmem_map(&self->buf, LEN, SZ_2M, SZ_2M - HALF, RW, 0);
	self->p = mmap(self->buf.p, LEN, RW,
		       map_flags(variant->backing, variant->private), self->fd,
		       0);
	ASSERT_EQ(self->buf.p, self->p);
	if (variant->backing == LOCKED)
		OK(mlock(self->p, LEN));
	if (variant->backing < MEMFD)
		memcpy(self->p, self->shadow, LEN);
}

FIXTURE_TEARDOWN_PARENT(remote)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* Both processors read what they must, and no page has moved to the device. */
static void check(struct __test_metadata *_metadata, remote_t *self)
{
	struct npu_result res;

	npu_reduce(&self->npu[0], self->p, LEN, &res);
	ASSERT_EQ(gmem_sum(self->shadow, LEN), res.value);
	ASSERT_SAME(self->shadow, self->p, LEN);
	ASSERT_EQ(0, gmem_pages_on(self->p, LEN, self->npu[0].hnid));
}

/* The file has what was written through the mapping, unless it is private. */
static void check_file(struct __test_metadata *_metadata, remote_t *self,
		       bool private)
{
	char *data = malloc(LEN);

	if (self->fd < 0)
		return;
	if (!private)
		memcpy(self->file, self->shadow, LEN);
	ASSERT_EQ(LEN, pread(self->fd, data, LEN, 0));
	ASSERT_SAME(self->file, data, LEN);
	free(data);
}

/*
 * The device reads and writes every page.  From then on it has translations
 * cached that permit both.
 */
static void use(struct __test_metadata *_metadata, remote_t *self)
{
	struct npu_result res;

	npu_dirty(&self->npu[0], self->p, self->shadow, LEN);
	npu_reduce(&self->npu[0], self->p, LEN, &res);
	ASSERT_EQ(gmem_sum(self->shadow, LEN), res.value);
	ASSERT_EQ(0, res.faults);
}

TEST_F(remote, read_then_write)
{
	struct npu_stats before, after;
	unsigned int i;

	npu_stats(&self->npu[0], &before);
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	for (i = 0; i < PAGES; i++) {
		uint64_t v = 0x0101010101010101ULL * (i + 1);

		npu_fill(&self->npu[0], self->p + i * SZ_4K, SZ_4K, v, NULL);
		memset(self->shadow + i * SZ_4K, i + 1, SZ_4K);
	}
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
	npu_stats(&self->npu[0], &after);
	ASSERT_EQ(before.c[NPU_STAT_STALE_HITS], after.c[NPU_STAT_STALE_HITS]);
}

/* The CPU writes where the device has read, and the reverse. */
TEST_F(remote, taking_turns)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		use(_metadata, self);
		gmem_pattern(self->p, LEN, i + 1);
		gmem_pattern(self->shadow, LEN, i + 1);
		check(_metadata, self);
	}
	check_file(_metadata, self, variant->private);
}

/* read() and write() of the file see the mapping, and the mapping sees them. */
TEST_F(remote, file_io)
{
	if (self->fd < 0)
		SKIP(return, "no file");
	check(_metadata, self);
	gmem_pattern(self->file, LEN, 5);
	ASSERT_EQ(LEN, pwrite(self->fd, self->file, LEN, 0));
	memcpy(self->shadow, self->file, LEN);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
	gmem_pattern(self->file + PART, PART_LEN, 6);
	ASSERT_EQ(PART_LEN, pwrite(self->fd, self->file + PART, PART_LEN,
				   PART));
	if (!variant->private)
		memcpy(self->shadow + PART, self->file + PART, PART_LEN);
	check(_metadata, self);
}

/* O_DIRECT goes around the page cache, which must follow. */
TEST_F(remote, direct_io)
{
	char *data, path[32];
	int fd;

	if (variant->backing != EXT4)
		SKIP(return, "no disk");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	data = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(_metadata, self);

	gmem_pattern(data, LEN, 8);
	ASSERT_EQ(LEN, pwrite(fd, data, LEN, 0));
	memcpy(self->shadow, data, LEN);
	memcpy(self->file, data, LEN);
	check(_metadata, self);
	use(_metadata, self);
	if (!variant->private)
		memcpy(self->file, self->shadow, LEN);
	ASSERT_EQ(LEN, pread(fd, data, LEN, 0));
	ASSERT_SAME(self->file, data, LEN);

	/* Pages that are dirty are written before they are dropped. */
	use(_metadata, self);
	gmem_pattern(data, SZ_4K, 9);
	ASSERT_EQ(SZ_4K, pwrite(fd, data, SZ_4K, PART));
	if (!variant->private)
		memcpy(self->shadow + PART, data, SZ_4K);
	check(_metadata, self);
}

/* --- write-back --------------------------------------------------------------- */

static int writeback_msync(remote_t *self)
{
	return msync(self->p, LEN, MS_SYNC);
}

static int writeback_fsync(remote_t *self)
{
	return fsync(self->fd);
}

static int writeback_fdatasync(remote_t *self)
{
	return fdatasync(self->fd);
}

static int writeback_range(remote_t *self)
{
	return sync_file_range(self->fd, 0, LEN, SYNC_FILE_RANGE_WAIT_BEFORE |
			       SYNC_FILE_RANGE_WRITE |
			       SYNC_FILE_RANGE_WAIT_AFTER);
}

/* Where the file is on the disk; asking writes it there. */
static int find_blocks(remote_t *self, int *blocks)
{
	int i;

	for (i = 0; i < PAGES; i++) {
		blocks[i] = i;
		if (ioctl(self->fd, FIBMAP, &blocks[i]) || !blocks[i])
			return 1;
	}
	return 0;
}

/* What the disk has, read around the file system. */
static int read_disk(const int *blocks, char *data)
{
	int disk = open(GMEM_FS_DISK, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int i, err = disk < 0;

	for (i = 0; i < PAGES && !err; i++)
		err = pread(disk, data + i * SZ_4K, SZ_4K,
			    (off_t)blocks[i] * SZ_4K) != SZ_4K;
	close(disk);
	return err;
}

/*
 * Write-back makes a page clean, and whoever writes to it then must ask the
 * file system again, or nobody knows that it has to be written once more.
 */
TEST_F(remote, written_back_again)
{
	static int (*const writeback[])(remote_t *self) = {
		writeback_msync, writeback_fsync, writeback_fdatasync,
		writeback_range, writeback_msync,
	};
	struct npu_result res;
	int blocks[PAGES];
	unsigned int i;
	char *data;

	if (variant->backing != EXT4 || variant->private)
		SKIP(return, "nothing to write back");
	OK(find_blocks(self, blocks));
	data = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < sizeof(writeback) / sizeof(writeback[0]); i++) {
		use(_metadata, self);
		OK(writeback[i](self));
		OK(read_disk(blocks, data));
		ASSERT_SAME(self->shadow, data, LEN);
		npu_fill(&self->npu[0], self->p, LEN, i, &res);
		ASSERT_LE(PAGES, res.faults);
		gmem_fill(self->shadow, LEN, i);
		/* It is dirty and not written. */
		OK(read_disk(blocks, data));
		ASSERT_NE(LEN, gmem_diff(self->shadow, data, LEN));
		OK(writeback[i](self));
		OK(read_disk(blocks, data));
		ASSERT_SAME(self->shadow, data, LEN);
	}
	check(_metadata, self);
}

/* The device writes all the time while the file is written back. */
TEST_F(remote, write_back_under_writes)
{
	unsigned long i, rounds = gmem_scaled(60);
	uint64_t seqno, *word;
	int k, blocks[PAGES];
	char *data;

	if (variant->backing != EXT4 || variant->private)
		SKIP(return, "nothing to write back");
	OK(find_blocks(self, blocks));
	data = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < rounds; i++) {
		k = i % PAGES;
		word = (uint64_t *)(self->p + k * SZ_4K);
		npu_submit(&self->npu[0], NPU_OP_ATOMIC_ADD, (uintptr_t)word,
			   3, 2000, 0, 0, &seqno);
		OK(fsync(self->fd));
		OK(msync(self->p, LEN, MS_SYNC));
		npu_wait(&self->npu[0], seqno, NULL);
		*(uint64_t *)(self->shadow + k * SZ_4K) += 6000;
	}
	check(_metadata, self);
	OK(fsync(self->fd));
	OK(read_disk(blocks, data));
	ASSERT_SAME(self->shadow, data, LEN);
}

/* --- the file shrinks --------------------------------------------------------- */

TEST_F(remote, truncate)
{
	if (self->fd < 0)
		SKIP(return, "no file");
	use(_metadata, self);
	OK(ftruncate(self->fd, HALF));
	npu_fill_err(EFAULT, &self->npu[0], self->p + HALF, 8, 1, NULL);
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + HALF, 8, NULL));
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + LEN - SZ_4K, 8,
				  NULL));
	ASSERT_FALSE(gmem_peek(self->p + HALF));
	npu_dirty(&self->npu[0], self->p, self->shadow, HALF);
	ASSERT_SAME(self->shadow, self->p, HALF);

	OK(ftruncate(self->fd, LEN));
	memset(self->shadow + HALF, 0, HALF);
	memset(self->file + HALF, 0, HALF);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* The rest of the last page becomes zero in place. */
TEST_F(remote, truncate_in_a_page)
{
	size_t at = HALF + 1000;

	if (self->fd < 0)
		SKIP(return, "no file");
	use(_metadata, self);
	OK(ftruncate(self->fd, at));
	OK(ftruncate(self->fd, LEN));
	/* A private copy that was made is no page of the file. */
	if (!variant->private)
		memset(self->shadow + at, 0, HALF + SZ_4K - at);
	memset(self->shadow + HALF + SZ_4K, 0, HALF - SZ_4K);
	memset(self->file + at, 0, LEN - at);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

TEST_F(remote, punch_hole)
{
	if (self->fd < 0)
		SKIP(return, "no file");
	use(_metadata, self);
	OK(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		     PART, PART_LEN));
	if (!variant->private)
		memset(self->shadow + PART, 0, PART_LEN);
	memset(self->file + PART, 0, PART_LEN);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* The same with pages that the device has only read, so no copy was made. */
TEST_F(remote, punch_hole_in_clean_pages)
{
	if (self->fd < 0)
		SKIP(return, "no file");
	check(_metadata, self);
	OK(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		     PART, PART_LEN));
	memset(self->shadow + PART, 0, PART_LEN);
	check(_metadata, self);
}

TEST_F(remote, beyond_the_end)
{
	struct npu_result res;

	if (self->fd < 0)
		SKIP(return, "no file");
	OK(ftruncate(self->fd, HALF + 8));
	memset(self->shadow + HALF + 8, 0, SZ_4K - 8);
	npu_reduce(&self->npu[0], self->p + HALF, SZ_4K, &res);
	ASSERT_EQ(gmem_sum(self->shadow + HALF, SZ_4K), res.value);
	npu_fill_err(EFAULT, &self->npu[0], self->p + HALF + SZ_4K, 8, 1,
		     NULL);
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p, LEN, NULL));
}

/* --- the mapping changes ------------------------------------------------------ */

TEST_F(remote, mprotect)
{
	struct npu_result res;

	use(_metadata, self);
	OK(mprotect(self->p + PART, PART_LEN, PROT_READ));
	npu_fill_err(EPERM, &self->npu[0], self->p + PART, SZ_4K, 1, NULL);
	npu_fill_err(EPERM, &self->npu[0], self->p + HALF, SZ_4K, 1, NULL);
	check(_metadata, self);
	OK(mprotect(self->p + PART, PART_LEN, PROT_NONE));
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + PART, SZ_4K, NULL));
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + HALF, SZ_4K, NULL));
	npu_reduce(&self->npu[0], self->p, PART, &res);
	ASSERT_EQ(gmem_sum(self->shadow, PART), res.value);
	OK(mprotect(self->p + PART, PART_LEN, RW));
	use(_metadata, self);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* What may be written may be read, as on the CPU. */
TEST_F(remote, write_only)
{
	OK(mprotect(self->p, LEN, PROT_WRITE));
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
}

TEST_F(remote, munmap)
{
	const size_t after = PART + PART_LEN;

	use(_metadata, self);
	OK(munmap(self->p + PART, PART_LEN));
	npu_fill_err(EFAULT, &self->npu[0], self->p + PART, 8, 1, NULL);
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + HALF, 8, NULL));
	npu_dirty(&self->npu[0], self->p, self->shadow, PART);
	check_file(_metadata, self, variant->private);

	/* Something else comes to the addresses. */
	ASSERT_EQ(self->p + PART, mmap(self->p + PART, PART_LEN, RW,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				       -1, 0));
	if (!variant->private)
		memcpy(self->file, self->shadow, LEN);
	memset(self->shadow + PART, 0, PART_LEN);
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	if (!variant->private) {
		memcpy(self->file, self->shadow, PART);
		memcpy(self->file + after, self->shadow + after, LEN - after);
	}
	check_file(_metadata, self, true);
}

TEST_F(remote, mremap)
{
	struct gmem_buf to;
	char *old = self->p;

	use(_metadata, self);
	gmem_map(&to, LEN, SZ_2M, SZ_64K + SZ_4K, PROT_NONE, 0);
	self->p = mremap(old, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to.p);
	ASSERT_EQ(to.p, self->p);
	npu_fill_err(EFAULT, &self->npu[0], old, 8, 1, NULL);
	FAILS(EFAULT, _npu_reduce(&self->npu[0], old + HALF, 8, NULL));
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

TEST_F(remote, dontneed)
{
	use(_metadata, self);
	if (variant->backing == LOCKED) {
		FAILS(-1, madvise(self->p, LEN, MADV_DONTNEED));
		OK(munlock(self->p, LEN));
	}
	OK(madvise(self->p + PART, PART_LEN, MADV_DONTNEED));
	if (variant->private && self->fd >= 0)
		memcpy(self->shadow + PART, self->file + PART, PART_LEN);
	else if (variant->private)
		memset(self->shadow + PART, 0, PART_LEN);
	/* Unlocked, what comes back goes to the device. */
	if (variant->backing == LOCKED) {
		npu_dirty(&self->npu[0], self->p, self->shadow, LEN);
		ASSERT_SAME(self->shadow, self->p, LEN);
		return;
	}
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* --- other users of the page -------------------------------------------------- */

/* Writes of the device after fork() are seen in the child if it is shared. */
TEST_F(remote, fork)
{
	char *before = malloc(LEN);
	int go[2];
	pid_t pid;
	char c;

	use(_metadata, self);
	memcpy(before, self->shadow, LEN);
	OK(pipe(go));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(2);
		if (variant->private)
			_exit(gmem_diff(before, self->p, LEN) != LEN);
		memset(self->p + PART, 7, PART_LEN);
		_exit(0);
	}
	use(_metadata, self);
	check(_metadata, self);
	ASSERT_EQ(1, write(go[1], "", 1));
	OK(gmem_child(pid));
	if (!variant->private)
		memset(self->shadow + PART, 7, PART_LEN);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* The child writes, and the parent's device must not see it. */
TEST_F(remote, fork_child_writes)
{
	pid_t pid;

	use(_metadata, self);
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		memset(self->p, 9, HALF);
		_exit(0);
	}
	OK(gmem_child(pid));
	if (!variant->private)
		memset(self->shadow, 9, HALF);
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
}

TEST_F(remote, two_devices)
{
	unsigned int i;

	for (i = 0; i < 6; i++)
		npu_dirty(&self->npu[i % 2], self->p, self->shadow, LEN);
	check(_metadata, self);
	OK(mprotect(self->p, LEN, PROT_READ));
	for (i = 0; i < 2; i++)
		npu_fill_err(EPERM, &self->npu[i], self->p + PART, 8, 1, NULL);
	check(_metadata, self);
	OK(munmap(self->p, LEN));
	for (i = 0; i < 2; i++)
		FAILS(EFAULT, _npu_reduce(&self->npu[i], self->p, 8, NULL));
	check_file(_metadata, self, variant->private);
}

TEST_F(remote, two_contexts)
{
	struct npu other;

	npu_open(&other, 0);
	npu_attach(&other, 0);
	use(_metadata, self);
	npu_dirty(&other, self->p, self->shadow, LEN);
	check(_metadata, self);
	OK(munmap(self->p + PART, PART_LEN));
	FAILS(EFAULT, _npu_reduce(&other, self->p + PART, 8, NULL));
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p + PART, 8, NULL));
	npu_close(&other);
	npu_dirty(&self->npu[0], self->p, self->shadow, PART);
}

TEST_F(remote, detach)
{
	use(_metadata, self);
	npu_detach(&self->npu[0]);
	ASSERT_SAME(self->shadow, self->p, LEN);
	gmem_pattern(self->p, LEN, 19);
	gmem_pattern(self->shadow, LEN, 19);
	npu_attach(&self->npu[0], 0);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* A strict context works on shared memory in place, and on no other. */
TEST_F(remote, strict)
{
	npu_detach(&self->npu[0]);
	npu_attach(&self->npu[0], GMEM_NPU_ATTACH_STRICT);
	if (variant->backing == LOCKED) {
		use(_metadata, self);
		check(_metadata, self);
		return;
	}
	FAILS(EFAULT, _npu_reduce(&self->npu[0], self->p, LEN, NULL));
	npu_fill_err(EFAULT, &self->npu[0], self->p, LEN, 1, NULL);
	ASSERT_SAME(self->shadow, self->p, LEN);
}

/* A process dies while its device writes; the file has what it wrote. */
TEST_F(remote, killed)
{
	uint64_t v = 0x5a5a5a5a5a5a5a5aULL, seqno;
	struct npu npu;
	int ready[2];
	pid_t pid;
	char c;

	OK(pipe(ready));
	pid = gmem_fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (_npu_open(&npu, 0) || _npu_attach(&npu, 0) ||
		    _npu_fill(&npu, self->p, LEN, v, NULL) ||
		    _npu_submit(&npu, NPU_OP_ATOMIC_ADD, (uintptr_t)self->p,
				0, 1ULL << 40, 0, 0, &seqno) ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	OK(kill(pid, SIGKILL));
	ASSERT_EQ(128 + SIGKILL, gmem_child(pid));
	if (!variant->private)
		gmem_fill(self->shadow, LEN, v);
	check(_metadata, self);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* --- reclaim, compaction, KSM ------------------------------------------------- */

/* Take the pages away; the number of those that stay. */
static size_t pageout(remote_t *self)
{
	size_t left = PAGES;
	unsigned int i;

	/* One that another CPU has in a batch for the LRU, or writes, stays. */
	for (i = 0; left && i < 50; i++) {
		_gmem_write_file("/proc/sys/vm/compact_memory", "1");
		if (madvise(self->p, LEN, MADV_PAGEOUT))
			break;
		left = gmem_pages_on(self->p, LEN, GMEM_ANY_NODE);
	}
	return left;
}

/* Pages go to the swap space or the disk, with what the device wrote. */
TEST_F(remote, pageout)
{
	if (variant->backing == LOCKED)
		SKIP(return, "locked");
	OK(_gmem_swap_on());
	use(_metadata, self);
	ASSERT_GE(PAGES / 2, pageout(self));
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* Clean pages go without being written. */
TEST_F(remote, reclaim_of_clean_pages)
{
	struct npu_result res;

	if (variant->backing != EXT4)
		SKIP(return, "never clean");
	OK(fsync(self->fd));
	check(_metadata, self);
	ASSERT_GE(PAGES / 2, pageout(self));
	gmem_pattern(self->file, LEN, 23);
	memcpy(self->shadow, self->file, LEN);
	ASSERT_EQ(LEN, pwrite(self->fd, self->file, LEN, 0));
	npu_reduce(&self->npu[0], self->p, LEN, &res);
	ASSERT_EQ(gmem_sum(self->shadow, LEN), res.value);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

TEST_F(remote, compaction)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		use(_metadata, self);
		gmem_write_file("/proc/sys/vm/compact_memory", "1");
		check(_metadata, self);
	}
	check_file(_metadata, self, variant->private);
}

#define KSM "/sys/kernel/mm/ksm/"

TEST_F(remote, ksm)
{
	unsigned int i;

	if (variant->backing != ANON)
		SKIP(return, "KSM takes private memory that is not shared");
	npu_fill(&self->npu[0], self->p, LEN, 0x77, NULL);
	gmem_fill(self->shadow, LEN, 0x77);
	use(_metadata, self);
	OK(madvise(self->p, LEN, MADV_MERGEABLE));
	npu_fill(&self->npu[0], self->p, LEN, 0x78, NULL);
	gmem_fill(self->shadow, LEN, 0x78);
	gmem_write_file(KSM "pages_to_scan", "10000");
	gmem_write_file(KSM "sleep_millisecs", "1");
	gmem_write_file(KSM "run", "1");
	for (i = 0; i < 1000 && gmem_read_number(KSM "pages_sharing") <
	     PAGES / 2; i++)
		gmem_sleep_ms(5);
	gmem_write_file(KSM "run", "0");
	EXPECT_LE(PAGES / 2, gmem_read_number(KSM "pages_sharing"));
	/* One page for all: who writes gets one of his own. */
	npu_fill(&self->npu[0], self->p + PART, 8, 0x79, NULL);
	*(uint64_t *)(self->shadow + PART) = 0x79;
	check(_metadata, self);
	use(_metadata, self);
	check(_metadata, self);
	gmem_write_file(KSM "run", "2");
	gmem_write_file(KSM "run", "0");
	check(_metadata, self);
	use(_metadata, self);
}

/* --- pages that may not move -------------------------------------------------- */

/* Registered with io_uring: the kernel works on these very pages for long. */
TEST_F(remote, long_term_pin)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { self->p, LEN };
	int ring;

	use(_metadata, self);
	ring = syscall(SYS_io_uring_setup, 4, &params);
	ASSERT_LE(0, ring);
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov,
		    1)) {
		/* Not of a file that wants to know who writes. */
		ASSERT_EQ(EXT4, variant->backing);
		ASSERT_FALSE(variant->private);
		close(ring);
		return;
	}
	use(_metadata, self);
	check(_metadata, self);
	/* fork() copies what is pinned, and the parent keeps the pages. */
	if (variant->private) {
		pid_t pid = gmem_fork();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(gmem_diff(self->shadow, self->p, LEN) != LEN);
		OK(gmem_child(pid));
		use(_metadata, self);
	}
	check(_metadata, self);
	close(ring);
	use(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* The pipe has the page itself. */
TEST_F(remote, vmsplice)
{
	struct iovec iov = { self->p + PART, SZ_4K };
	int pipe_fd[2];
	char *data = malloc(SZ_4K);

	use(_metadata, self);
	OK(pipe(pipe_fd));
	ASSERT_EQ(SZ_4K, vmsplice(pipe_fd[1], &iov, 1, 0));
	npu_fill(&self->npu[0], self->p + PART, SZ_4K, 0x2468, NULL);
	gmem_fill(self->shadow + PART, SZ_4K, 0x2468);
	check(_metadata, self);
	ASSERT_EQ(SZ_4K, read(pipe_fd[0], data, SZ_4K));
	ASSERT_SAME(self->shadow + PART, data, SZ_4K);
	check_file(_metadata, self, variant->private);
}

struct direct_io {
	int disk;
	char *p;
	const char *shadow;
	unsigned long rounds;
	bool failed;
};

/* Half of the buffer to the disk, and back into it. */
static void *direct_io_thread(void *arg)
{
	struct direct_io *io = arg;
	unsigned long i;

	for (i = 0; i < io->rounds && !io->failed; i++) {
		io->failed = pwrite(io->disk, io->p, HALF, 0) != HALF;
		memset(io->p, 0, HALF);
		io->failed |= pread(io->disk, io->p, HALF, 0) != HALF ||
			      gmem_diff(io->shadow, io->p, HALF) != HALF;
	}
	return NULL;
}

/* The device works on the other half meanwhile, and reads all of it at last. */
TEST_F(remote, direct_io_in_flight)
{
	struct direct_io io = { .rounds = gmem_scaled(100) };
	pthread_t thread;
	unsigned int i;
	int id;

	use(_metadata, self);
	io.disk = gmem_disk_open(SZ_1M, &id);
	ASSERT_LE(0, io.disk);
	io.p = self->p;
	io.shadow = self->shadow;
	OK(pthread_create(&thread, NULL, direct_io_thread, &io));
	for (i = 0; i < 20; i++)
		npu_dirty(&self->npu[0], self->p + HALF, self->shadow + HALF,
			  HALF);
	OK(pthread_join(thread, NULL));
	gmem_disk_close(io.disk, id);
	ASSERT_FALSE(io.failed);
	check(_metadata, self);
	check_file(_metadata, self, variant->private);
}

/* --- memory that a device must not have, or not this way ---------------------- */

FIXTURE(special)
{
	struct npu npu;
	struct npu_result res;
};

FIXTURE_SETUP(special)
{
	npu_open(&self->npu, 0);
	npu_attach(&self->npu, 0);
}

FIXTURE_TEARDOWN_PARENT(special)
{
	EXPECT_NO_DEVICE_PAGES();
}

/* Nobody but the process itself reads it, not even the kernel. */
TEST_F(special, secret_memory)
{
	int fd = syscall(SYS_memfd_secret, 0);
	char *p;

	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	OK(ftruncate(fd, SZ_64K));
	p = mmap(NULL, SZ_64K, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	memset(p, 1, SZ_64K);
	FAILS(EFAULT, _npu_reduce(&self->npu, p, SZ_64K, NULL));
	npu_fill_err(EFAULT, &self->npu, p, SZ_64K, 2, NULL);
	ASSERT_EQ(1, p[0]);
	ASSERT_EQ(1, p[SZ_64K - 1]);
}

/* A page that the file has, but which a fault must ask for. */
TEST_F(special, userfaultfd_minor)
{
	int fd = memfd_create("special", MFD_CLOEXEC), uffd;
	struct uffdio_continue resolve;
	char *p, *fill;

	OK(ftruncate(fd, SZ_64K));
	fill = mmap(NULL, SZ_64K, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, fill);
	memset(fill, 3, SZ_64K);
	p = mmap(NULL, SZ_64K, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	uffd = gmem_uffd_open(p, SZ_64K, UFFDIO_REGISTER_MODE_MINOR);
	ASSERT_LE(0, uffd);
	FAILS(EFAULT, _npu_reduce(&self->npu, p, SZ_4K, NULL));
	npu_fill_err(EFAULT, &self->npu, p, SZ_4K, 2, NULL);
	resolve = (struct uffdio_continue) {
		.range = { (uintptr_t)p, SZ_64K },
	};
	OK(ioctl(uffd, UFFDIO_CONTINUE, &resolve));
	npu_reduce(&self->npu, p, SZ_64K, &self->res);
	ASSERT_EQ(0x0303030303030303ULL * (SZ_64K / 8), self->res.value);
	npu_fill(&self->npu, p, SZ_4K, 4, NULL);
	ASSERT_EQ(4, *(uint64_t *)fill);
	close(uffd);
}

/* A huge page that user space has to fill. */
TEST_F(special, userfaultfd_hugetlb)
{
	int uffd;
	char *p;

	gmem_write_file("/proc/sys/vm/nr_hugepages", "2");
	p = mmap(NULL, SZ_2M, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p == MAP_FAILED) {
		gmem_write_file("/proc/sys/vm/nr_hugepages", "0");
		SKIP(return, "no huge page");
	}
	uffd = gmem_uffd_open(p, SZ_2M, UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, uffd);
	FAILS(EFAULT, _npu_reduce(&self->npu, p, SZ_4K, NULL));
	npu_fill_err(EFAULT, &self->npu, p, SZ_4K, 2, NULL);
	close(uffd);
	npu_fill(&self->npu, p + SZ_1M, SZ_4K, 2, NULL);
	uffd = gmem_uffd_open(p, SZ_2M, UFFDIO_REGISTER_MODE_MISSING);
	ASSERT_LE(0, uffd);
	npu_reduce(&self->npu, p, SZ_2M, &self->res);
	ASSERT_EQ(2 * SZ_4K / 8, self->res.value);
	npu_fill(&self->npu, p, SZ_4K, 4, NULL);
	ASSERT_EQ(4, *(uint64_t *)p);
	OK(munmap(p, SZ_2M));
	gmem_write_file("/proc/sys/vm/nr_hugepages", "0");
}

/* Huge pages of hugetlbfs stay, whole or in holes. */
TEST_F(special, hugetlb)
{
	int fd = memfd_create("special", MFD_CLOEXEC | MFD_HUGETLB);
	char *p, *shadow = malloc(SZ_2M);

	gmem_write_file("/proc/sys/vm/nr_hugepages", "2");
	OK(ftruncate(fd, SZ_2M));
	p = mmap(NULL, SZ_2M, RW, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || !gmem_poke(p, 0)) {
		gmem_write_file("/proc/sys/vm/nr_hugepages", "0");
		SKIP(return, "no huge page");
	}
	gmem_pattern(p, SZ_2M, 51);
	gmem_pattern(shadow, SZ_2M, 51);
	npu_dirty(&self->npu, p, shadow, SZ_2M);
	ASSERT_SAME(shadow, p, SZ_2M);
	OK(mprotect(p, SZ_2M, PROT_READ));
	npu_fill_err(EPERM, &self->npu, p, 8, 1, NULL);
	OK(mprotect(p, SZ_2M, RW));
	npu_dirty(&self->npu, p, shadow, SZ_2M);
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		     SZ_2M));
	memset(shadow, 0, SZ_2M);
	npu_dirty(&self->npu, p, shadow, SZ_2M);
	ASSERT_SAME(shadow, p, SZ_2M);
	OK(munmap(p, SZ_2M));
	FAILS(EFAULT, _npu_reduce(&self->npu, p, 8, NULL));
	close(fd);
	gmem_write_file("/proc/sys/vm/nr_hugepages", "0");
}

/* A huge page is made of the small pages that the device has. */
TEST_F(special, collapse)
{
	char *shadow = malloc(SZ_2M);
	struct gmem_buf buf;
	int i, err = EAGAIN;

	gmem_map(&buf, SZ_2M, SZ_2M, 0, RW, 0);
	OK(madvise(buf.p, SZ_2M, MADV_NOHUGEPAGE));
	gmem_pattern(buf.p, SZ_2M, 61);
	gmem_pattern(shadow, SZ_2M, 61);
	npu_dirty(&self->npu, buf.p, shadow, SZ_2M);
	OK(madvise(buf.p, SZ_2M, MADV_HUGEPAGE));
	for (i = 0; i < 100 && (err == EAGAIN || err == EBUSY); i++) {
		err = madvise(buf.p, SZ_2M, MADV_COLLAPSE) ? errno : 0;
		gmem_sleep_ms(err ? 10 : 0);
	}
	OK(err);
	npu_dirty(&self->npu, buf.p, shadow, SZ_2M);
	ASSERT_SAME(shadow, buf.p, SZ_2M);
	/* And it is split under the device. */
	OK(munmap(buf.p + SZ_1M, SZ_4K));
	npu_dirty(&self->npu, buf.p, shadow, SZ_1M);
	ASSERT_SAME(shadow, buf.p, SZ_1M);
	FAILS(EFAULT, _npu_reduce(&self->npu, buf.p + SZ_1M, 8, NULL));
}

GMEM_TEST_MAIN("a device works on host memory in place")
