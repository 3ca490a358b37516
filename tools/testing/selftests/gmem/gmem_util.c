// SPDX-License-Identifier: GPL-2.0
/*
 * What the GMEM selftests and demos share.
 */
#include "gmem_util.h"

#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef NPU_DEV
#define NPU_DEV		"/dev/gmem-npu"
#endif

/* Where devices are looked for; a device that comes back has a new number. */
#define NPU_NUMBERS	256
#define NPU_MAX		8

/* --- amount of work ------------------------------------------------------ */

unsigned long gmem_scaled(unsigned long n)
{
	const char *s = getenv("GMEM_TEST_SCALE");
	unsigned long percent, scaled;

	if (s)
		percent = strtoul(s, NULL, 0);
	else
		percent = access("/proc/lockdep_stats", F_OK) ? 100 : 15;
	scaled = n * percent / 100;
	return scaled ? scaled : 1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint64_t gmem_now_ms(void)
{
	return now_ns() / 1000000;
}

void gmem_sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

uint64_t gmem_seed(void)
{
	const char *s = getenv("GMEM_TEST_SEED");
	uint64_t seed = s ? strtoull(s, NULL, 0) : now_ns();

	return seed ? seed : 1;
}

uint64_t gmem_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

/* --- the device ---------------------------------------------------------- */

static void npu_path(char *path, size_t len, unsigned int number)
{
	snprintf(path, len, NPU_DEV "%u", number);
}

/* The numbers of all devices, ascending, and how many there are. */
static unsigned int npu_numbers(unsigned int *numbers)
{
	char path[32];
	unsigned int i, count = 0;

	for (i = 0; i < NPU_NUMBERS && count < NPU_MAX; i++) {
		npu_path(path, sizeof(path), i);
		if (!access(path, F_OK))
			numbers[count++] = i;
	}
	return count;
}

unsigned int npu_count(void)
{
	unsigned int numbers[NPU_MAX];

	return npu_numbers(numbers);
}

bool npu_wait_count(unsigned int count)
{
	uint64_t end = gmem_now_ms() + 10000;

	while (npu_count() != count && gmem_now_ms() < end)
		gmem_sleep_ms(5);
	return npu_count() == count;
}

static unsigned int npu_number(unsigned int nth)
{
	const char *s = getenv("GMEM_NPU");
	unsigned int first = s ? strtoul(s, NULL, 0) : 0;
	unsigned int numbers[NPU_MAX], count = npu_numbers(numbers);

	return count ? numbers[(first + nth) % count] : 0;
}

int _npu_open(struct npu *npu, unsigned int nth)
{
	struct gmem_npu_info info = { .size = sizeof(info) };
	char path[32];

	npu->number = npu_number(nth);
	npu_path(path, sizeof(path), npu->number);
	npu->fd = open(path, O_RDWR | O_CLOEXEC);
	if (npu->fd < 0)
		return errno;
	if (ioctl(npu->fd, GMEM_NPU_INFO, &info)) {
		int err = errno;

		close(npu->fd);
		npu->fd = -1;
		return err;
	}
	npu->hnid = info.hnid;
	npu->mem_size = info.mem_size;
	return 0;
}

int _npu_attach(struct npu *npu, uint32_t flags)
{
	struct gmem_npu_attach attach = {
		.size = sizeof(attach),
		.flags = flags,
	};

	return ioctl(npu->fd, GMEM_NPU_ATTACH, &attach) ? errno : 0;
}

int _npu_detach(struct npu *npu)
{
	return ioctl(npu->fd, GMEM_NPU_DETACH) ? errno : 0;
}

void npu_close(struct npu *npu)
{
	if (npu->fd >= 0)
		close(npu->fd);
	npu->fd = -1;
}

int _npu_stats(const struct npu *npu, struct npu_stats *stats)
{
	struct gmem_npu_stats s = {
		.size = sizeof(s),
		.nr = NPU_STAT_NR,
		.counters = (uintptr_t)stats->c,
	};

	if (ioctl(npu->fd, GMEM_NPU_STATS, &s))
		return errno;
	stats->insn = s.insn;
	stats->time_ns = s.time_ns;
	stats->ctx_faults = s.ctx_faults;
	stats->ctx_jobs = s.ctx_jobs;
	return 0;
}

int _npu_inject(const struct npu *npu, uint32_t what, uint64_t arg)
{
	struct gmem_npu_inject inject = {
		.size = sizeof(inject),
		.what = what,
		.arg = arg,
	};

	return ioctl(npu->fd, GMEM_NPU_INJECT, &inject) ? errno : 0;
}

int _npu_touch(const struct npu *npu, const void *p, size_t len, bool write,
	       uint64_t *done)
{
	struct gmem_npu_touch touch = {
		.size = sizeof(touch),
		.write = write,
		.start = (uintptr_t)p,
		.len = len,
	};
	int err = ioctl(npu->fd, GMEM_NPU_TOUCH, &touch) ? errno : 0;

	if (done)
		*done = touch.done;
	return err;
}

int _npu_submit(const struct npu *npu, uint32_t op, uint64_t a0, uint64_t a1,
		uint64_t a2, uint64_t a3, uint64_t a4, uint64_t *seqno)
{
	struct gmem_npu_submit submit = {
		.size = sizeof(submit),
		.op = op,
		.queue = ~0U,
		.args = { a0, a1, a2, a3, a4 },
	};

	int err = ioctl(npu->fd, GMEM_NPU_SUBMIT, &submit) ? errno : 0;

	*seqno = submit.seqno;
	return err;
}

int _npu_wait(const struct npu *npu, uint64_t seqno, struct npu_result *res)
{
	struct gmem_npu_wait wait = {
		.size = sizeof(wait),
		.seqno = seqno,
		.timeout_ns = GMEM_WAIT_NS,
	};

	while (ioctl(npu->fd, GMEM_NPU_WAIT, &wait)) {
		if (errno != EINTR)
			return errno;
	}
	if (res) {
		res->value = wait.result;
		res->faults = wait.faults;
	}
	return wait.status;
}

static int npu_job(const struct npu *npu, uint32_t op, uint64_t a0,
		   uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
		   struct npu_result *res)
{
	uint64_t seqno;
	int err;

	err = _npu_submit(npu, op, a0, a1, a2, a3, a4, &seqno);
	return err ? err : _npu_wait(npu, seqno, res);
}

int _npu_fill(const struct npu *npu, void *dst, size_t len, uint64_t pattern,
	      struct npu_result *res)
{
	return npu_job(npu, NPU_OP_FILL, (uintptr_t)dst, len, pattern, 0, 0,
		       res);
}

int _npu_memcpy(const struct npu *npu, void *dst, const void *src, size_t len,
		struct npu_result *res)
{
	return npu_job(npu, NPU_OP_MEMCPY, (uintptr_t)dst, (uintptr_t)src,
		       len, 0, 0, res);
}

int _npu_reduce(const struct npu *npu, const void *src, size_t len,
		struct npu_result *res)
{
	return npu_job(npu, NPU_OP_REDUCE, (uintptr_t)src,
		       len / sizeof(uint64_t), 0, 0, 0, res);
}

int _npu_histogram(const struct npu *npu, uint64_t *bins, const void *src,
		   size_t len, struct npu_result *res)
{
	return npu_job(npu, NPU_OP_HISTOGRAM, (uintptr_t)bins, (uintptr_t)src,
		       len, 0, 0, res);
}

int _npu_axpy(const struct npu *npu, float *y, const float *x, size_t n,
	      float a, struct npu_result *res)
{
	uint32_t bits;

	memcpy(&bits, &a, sizeof(bits));
	return npu_job(npu, NPU_OP_AXPY, (uintptr_t)y, (uintptr_t)x, n, bits,
		       0, res);
}

int _npu_matmul(const struct npu *npu, float *c, const float *a,
		const float *b, uint32_t m, uint32_t n, uint32_t k,
		struct npu_result *res)
{
	return npu_job(npu, NPU_OP_MATMUL, (uintptr_t)c, (uintptr_t)a,
		       (uintptr_t)b, NPU_DIM(m, n, k), 0, res);
}

int _npu_chase(const struct npu *npu, const void *node, size_t next,
	       size_t value, uint64_t max, struct npu_result *res)
{
	return npu_job(npu, NPU_OP_CHASE, (uintptr_t)node, next, value, max,
		       0, res);
}

int _npu_gather(const struct npu *npu, uint64_t *dst, const uint64_t *src,
		const uint64_t *index, size_t n, struct npu_result *res)
{
	return npu_job(npu, NPU_OP_GATHER, (uintptr_t)dst, (uintptr_t)src,
		       (uintptr_t)index, n, 0, res);
}

int _npu_scatter(const struct npu *npu, uint64_t *dst, const uint64_t *src,
		 const uint64_t *index, size_t n, struct npu_result *res)
{
	return npu_job(npu, NPU_OP_SCATTER, (uintptr_t)dst, (uintptr_t)src,
		       (uintptr_t)index, n, 0, res);
}

int _npu_atomic_add(const struct npu *npu, uint64_t *p, uint64_t addend,
		    uint64_t times, struct npu_result *res)
{
	return npu_job(npu, NPU_OP_ATOMIC_ADD, (uintptr_t)p, addend, times, 0,
		       0, res);
}

int _npu_dirty(const struct npu *npu, void *p, void *shadow, size_t len)
{
	size_t step = (len / 16 + SZ_4K - 1) / SZ_4K * SZ_4K, at;
	struct npu_result res;
	int err;

	err = _npu_reduce(npu, p, len, &res);
	if (err)
		return err;
	if (res.value != gmem_sum(shadow, len))
		return EBADMSG;
	for (at = 0; at < len && !err; at += step) {
		err = _npu_atomic_add(npu, (void *)((char *)p + at), 5, 3,
				      NULL);
		*(uint64_t *)((char *)shadow + at) += 15;
	}
	return err;
}

int npu_driver(unsigned int number, char *dir, size_t dir_len, char *addr,
	       size_t addr_len)
{
	char dev[32], link[96], path[512];
	struct stat st;

	npu_path(dev, sizeof(dev), number);
	if (stat(dev, &st))
		return errno;
	snprintf(link, sizeof(link), "/sys/dev/char/%u:%u/device",
		 major(st.st_rdev), minor(st.st_rdev));
	if (!realpath(link, path))
		return errno;
	snprintf(addr, addr_len, "%s", strrchr(path, '/') + 1);
	strncat(path, "/driver", sizeof(path) - strlen(path) - 1);
	if (dir_len < sizeof(path) || !realpath(path, dir))
		return EINVAL;
	return 0;
}

int _npu_unbind(const char *dir, const char *addr)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/unbind", dir);
	return _gmem_write_file(path, addr);
}

int _npu_bind(const char *dir, const char *addr)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/bind", dir);
	return _gmem_write_file(path, addr);
}

/* --- memory -------------------------------------------------------------- */

int _hmadvise(int hnid, const void *start, size_t len, int behavior)
{
	return syscall(__NR_hmadvise, hnid, start, len, behavior) ? errno : 0;
}

int _gmem_map(struct gmem_buf *buf, size_t len, size_t align, size_t offset,
	      int prot, int flags)
{
	size_t reserved = len + offset + 2 * align;
	uintptr_t start;
	char *base, *p;

	base = mmap(NULL, reserved, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return errno;
	/* At least one page stays inaccessible on each side. */
	start = ((uintptr_t)base + align) / align * align + offset;
	p = mmap((void *)start, len, prot,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
	if (p == MAP_FAILED) {
		int err = errno;

		munmap(base, reserved);
		return err;
	}
	buf->p = p;
	buf->len = len;
	buf->base = base;
	buf->reserved = reserved;
	return 0;
}

void gmem_unmap(struct gmem_buf *buf)
{
	if (buf->base)
		munmap(buf->base, buf->reserved);
	memset(buf, 0, sizeof(*buf));
}

int _gmem_map_shape(struct gmem_buf *buf, const struct gmem_shape *shape)
{
	size_t len = shape->block * shape->nr;
	size_t offset = shape->block == SZ_2M ? 0 : shape->block;
	int err;

	/* One block after the next larger boundary, nothing larger fits. */
	err = _gmem_map(buf, len, SZ_2M, offset, PROT_READ | PROT_WRITE,
			MAP_PEER_SHARED);
	if (err)
		return err;
	return madvise(buf->p, len, shape->thp ? MADV_HUGEPAGE :
					       MADV_NOHUGEPAGE) ? errno : 0;
}

void gmem_pattern(void *p, size_t len, uint64_t seed)
{
	/* What another test left on a device must not pass for this one's data. */
	static uint64_t salt;
	uint64_t *w = p;
	size_t i;

	if (!salt)
		salt = (uint64_t)getpid() << 32;
	seed += salt;
	for (i = 0; i < len / sizeof(*w); i++)
		w[i] = (seed + i + 1) * 0x9e3779b97f4a7c15ULL;
}

void gmem_fill(void *p, size_t len, uint64_t v)
{
	uint64_t *w = p;
	size_t i;

	for (i = 0; i < len / sizeof(*w); i++)
		w[i] = v;
}

uint64_t gmem_sum(const void *p, size_t len)
{
	const uint64_t *w = p;
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < len / sizeof(*w); i++)
		sum += w[i];
	return sum;
}

size_t gmem_diff(const void *a, const void *b, size_t len)
{
	const unsigned char *x = a, *y = b;
	size_t i;

	if (!memcmp(a, b, len))
		return len;
	for (i = 0; i < len && x[i] == y[i]; i++)
		;
	return i;
}

size_t gmem_nonzero(const void *p, size_t len)
{
	const unsigned char *x = p;
	size_t i = 0;

	/* Words as long as they are aligned and zero. */
	if (!((uintptr_t)x % sizeof(uint64_t))) {
		while (len - i >= sizeof(uint64_t) &&
		       !*(const uint64_t *)(x + i))
			i += sizeof(uint64_t);
	}
	while (i < len && !x[i])
		i++;
	return i;
}

static sigjmp_buf access_env;

static void access_failed(int sig)
{
	siglongjmp(access_env, sig);
}

static bool access_byte(char *p, const char *value)
{
	struct sigaction sa = { .sa_handler = access_failed };
	struct sigaction old_bus, old_segv;
	volatile bool ok = false;

	sigaction(SIGBUS, &sa, &old_bus);
	sigaction(SIGSEGV, &sa, &old_segv);
	if (!sigsetjmp(access_env, 1)) {
		if (value)
			*(volatile char *)p = *value;
		else
			(void)*(volatile char *)p;
		ok = true;
	}
	sigaction(SIGBUS, &old_bus, NULL);
	sigaction(SIGSEGV, &old_segv, NULL);
	return ok;
}

bool gmem_peek(const void *p)
{
	return access_byte((char *)p, NULL);
}

bool gmem_poke(void *p, char value)
{
	return access_byte(p, &value);
}

/* --- where pages are ----------------------------------------------------- */

#define BATCH		512

static void page_nodes(const char *p, size_t nr, int *status)
{
	void *pages[BATCH];
	size_t i;

	for (i = 0; i < nr; i++)
		pages[i] = (void *)(p + i * SZ_4K);
	if (syscall(SYS_move_pages, 0, nr, pages, NULL, status, 0)) {
		for (i = 0; i < nr; i++)
			status[i] = -errno;
	}
}

int gmem_node(const void *p)
{
	int status;

	page_nodes(p, 1, &status);
	return status;
}

size_t gmem_pages_on(const void *p, size_t len, int node)
{
	size_t left = len / SZ_4K, found = 0;
	const char *at = p;
	int status[BATCH];

	while (left) {
		size_t i, nr = left < BATCH ? left : BATCH;

		page_nodes(at, nr, status);
		for (i = 0; i < nr; i++) {
			if (node == GMEM_ANY_NODE)
				found += status[i] >= 0 &&
					 status[i] < GMEM_FIRST_HNID;
			else
				found += status[i] == node;
		}
		at += nr * SZ_4K;
		left -= nr;
	}
	return found;
}

int _gmem_smaps(pid_t pid, const void *p, size_t len, struct gmem_smaps *out)
{
	uintptr_t start = (uintptr_t)p, end = start + len;
	char path[64], line[512];
	bool inside = false;
	FILE *f;

	memset(out, 0, sizeof(*out));
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid ? pid : getpid());
	f = fopen(path, "r");
	if (!f)
		return errno;
	while (fgets(line, sizeof(line), f)) {
		uintptr_t from, to;
		size_t kb;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from,
			   &to) == 2) {
			inside = from < end && to > start;
			out->vmas += inside;
			continue;
		}
		if (!inside)
			continue;
		if (sscanf(line, "Rss: %zu kB", &kb) == 1)
			out->rss += kb * 1024;
		else if (sscanf(line, "Swap: %zu kB", &kb) == 1)
			out->swap += kb * 1024;
		else if (sscanf(line, "GmemDevice: %zu kB", &kb) == 1)
			out->device += kb * 1024;
		else if (sscanf(line, "AnonHugePages: %zu kB", &kb) == 1)
			out->huge += kb * 1024;
		else if (!strncmp(line, "VmFlags:", 8))
			out->peer_shared += !!strstr(line, " ps");
	}
	fclose(f);
	return 0;
}

int _gmem_page_out(void *p, size_t len)
{
	uint64_t end = gmem_now_ms() + 5000;
	struct gmem_smaps maps;
	int err;

	do {
		/* This puts the batches of all CPUs on the LRU lists. */
		err = _gmem_write_file("/proc/sys/vm/compact_memory", "1");
		if (!err && madvise(p, len, MADV_PAGEOUT))
			err = errno;
		err = err ?: _gmem_smaps(0, p, len, &maps);
		if (err || maps.swap == len)
			return err;
	} while (gmem_now_ms() < end);
	return EBUSY;
}

uint64_t gmem_pagemap(const void *p)
{
	uint64_t word = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (pread(fd, &word, sizeof(word),
		  (uintptr_t)p / SZ_4K * sizeof(word)) != sizeof(word))
		word = 0;
	close(fd);
	return word;
}

#define HNODE_DIR	"/sys/kernel/mm/gmem/hnode"

long long gmem_hnode_get(int hnid, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), HNODE_DIR "%d/%s", hnid, file);
	return gmem_read_number(path);
}

int _gmem_hnode_set(int hnid, const char *file, unsigned long long value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), HNODE_DIR "%d/%s", hnid, file);
	snprintf(text, sizeof(text), "%llu", value);
	return _gmem_write_file(path, text);
}

static bool hnode_idle(const char *dir)
{
	char path[256];
	long long size, unused;

	snprintf(path, sizeof(path), "%s/size", dir);
	size = gmem_read_number(path);
	snprintf(path, sizeof(path), "%s/free", dir);
	unused = gmem_read_number(path);
	return size > 0 && size == unused;
}

bool gmem_hnodes_idle(void)
{
	uint64_t end = gmem_now_ms() + 20000;
	glob_t g;
	size_t i;

	if (glob(HNODE_DIR "*", 0, NULL, &g))
		return false;
	for (i = 0; i < g.gl_pathc; i++) {
		while (!hnode_idle(g.gl_pathv[i]) && gmem_now_ms() < end)
			gmem_sleep_ms(10);
		if (!hnode_idle(g.gl_pathv[i]))
			break;
	}
	globfree(&g);
	return i && i == g.gl_pathc;
}

/* --- userfaultfd --------------------------------------------------------- */

int gmem_uffd_open_with(void *p, size_t len, uint64_t mode, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, len },
		.mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) ||
			ioctl(fd, UFFDIO_REGISTER, &reg))) {
		int err = errno;

		close(fd);
		errno = err;
		fd = -1;
	}
	return fd;
}

int gmem_uffd_open(void *p, size_t len, uint64_t mode)
{
	return gmem_uffd_open_with(p, len, mode, 0);
}

int gmem_uffd_protect(int fd, void *p, size_t len, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)p, len },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? errno : 0;
}

static void uffd_fill(struct gmem_uffd *uffd, uintptr_t page)
{
	struct uffdio_copy copy = {
		.dst = page,
		.src = (uintptr_t)uffd->fill + page - (uintptr_t)uffd->p,
		.len = SZ_4K,
	};

	ioctl(uffd->fd, UFFDIO_COPY, &copy);
}

static void *uffd_serve(void *arg)
{
	struct gmem_uffd *uffd = arg;

	while (!__atomic_load_n(&uffd->stop, __ATOMIC_SEQ_CST)) {
		struct pollfd pollfd = { .fd = uffd->fd, .events = POLLIN };
		struct uffd_msg msg;
		uintptr_t page;

		if (poll(&pollfd, 1, 10) <= 0 ||
		    read(uffd->fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		uffd->seen++;
		page = msg.arg.pagefault.address / SZ_4K * SZ_4K;
		if (uffd->fill)
			uffd_fill(uffd, page);
		else
			gmem_uffd_protect(uffd->fd, (void *)page, SZ_4K,
					  false);
	}
	return NULL;
}

int gmem_uffd_start(struct gmem_uffd *uffd)
{
	uffd->seen = 0;
	uffd->stop = false;
	return pthread_create(&uffd->thread, NULL, uffd_serve, uffd);
}

void gmem_uffd_stop(struct gmem_uffd *uffd)
{
	__atomic_store_n(&uffd->stop, true, __ATOMIC_SEQ_CST);
	pthread_join(uffd->thread, NULL);
}

/* --- processes ----------------------------------------------------------- */

pid_t gmem_fork(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

int gmem_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

int _gmem_core_read(int fd, const void *p, void *buf, size_t len)
{
	uintptr_t start = (uintptr_t)p;
	unsigned int i;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		return EIO;
	for (i = 0; i < eh.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) !=
		    sizeof(ph))
			return EIO;
		if (ph.p_type == PT_LOAD && ph.p_vaddr <= start &&
		    ph.p_vaddr + ph.p_filesz >= start + len)
			break;
	}
	if (i == eh.e_phnum ||
	    pread(fd, buf, len, ph.p_offset + start - ph.p_vaddr) !=
	    (ssize_t)len)
		return EIO;
	return 0;
}

/* --- the machine --------------------------------------------------------- */

int gmem_read_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	else
		buf[n] = '\0';
	close(fd);
	return n;
}

int _gmem_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		err = errno;
	close(fd);
	return err;
}

long long gmem_read_number(const char *path)
{
	char text[64];
	int n = gmem_read_file(path, text, sizeof(text));

	return n < 0 ? n : strtoll(text, NULL, 0);
}

/* Add a zram disk; -errno or its number. */
static int zram_add(size_t size)
{
	char path[64], text[32];
	int id, err;

	id = gmem_read_number("/sys/class/zram-control/hot_add");
	if (id < 0)
		return id;
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", id);
	snprintf(text, sizeof(text), "%zu", size);
	err = _gmem_write_file(path, text);
	return err ? -err : id;
}

static void zram_remove(int id)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", id);
	_gmem_write_file(path, "1");
	snprintf(text, sizeof(text), "%d", id);
	_gmem_write_file("/sys/class/zram-control/hot_remove", text);
}

/* Write what mkswap would write. */
static int swap_header(const char *path, size_t size)
{
	static char page[SZ_4K];
	uint32_t *info = (uint32_t *)(page + 1024);
	int fd, err = 0;

	memset(page, 0, sizeof(page));
	info[0] = 1;
	info[1] = size / SZ_4K - 1;
	memcpy(page + SZ_4K - 10, "SWAPSPACE2", 10);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, page, sizeof(page)) != sizeof(page))
		err = EIO;
	close(fd);
	return err;
}

int _gmem_swap_on(void)
{
	const size_t size = 64 * SZ_1M;
	char text[512], path[32];
	int id, err;

	/* One line is the heading. */
	if (gmem_read_file("/proc/swaps", text, sizeof(text)) > 0 &&
	    strchr(text, '\n') && strchr(text, '\n')[1])
		return 0;
	id = zram_add(size);
	if (id < 0)
		return -id;
	snprintf(path, sizeof(path), "/dev/zram%d", id);
	err = swap_header(path, size);
	if (!err && swapon(path, 0))
		err = errno;
	return err;
}

int gmem_disk_open(size_t size, int *id)
{
	char path[32];
	int fd;

	*id = zram_add(size);
	if (*id < 0)
		return *id;
	snprintf(path, sizeof(path), "/dev/zram%d", *id);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		fd = -errno;
		zram_remove(*id);
	}
	return fd;
}

void gmem_disk_close(int fd, int id)
{
	close(fd);
	zram_remove(id);
}

int _gmem_fs_mount(void)
{
	char disk[32], command[80];
	int id;

	if (!access(GMEM_FS_DISK, F_OK))
		return 0;
	id = zram_add(64 * SZ_1M);
	if (id < 0)
		return -id;
	snprintf(disk, sizeof(disk), "/dev/zram%d", id);
	snprintf(command, sizeof(command), "mke2fs -F -b 4096 %s > /dev/null",
		 disk);
	if (mkdir(GMEM_FS, 0700) || system(command) ||
	    mount(disk, GMEM_FS, "ext4", 0, NULL) ||
	    symlink(disk, GMEM_FS_DISK)) {
		zram_remove(id);
		return errno ? errno : EIO;
	}
	return 0;
}

int gmem_log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

unsigned int gmem_log_read(int fd, char *text, size_t len)
{
	char record[8192];
	unsigned int nr = 0;

	for (;;) {
		ssize_t n = read(fd, record, sizeof(record) - 1);

		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return nr;
		record[n] = '\0';
		/* The facility is in the upper bits; 0 is the kernel. */
		if (strtoul(record, NULL, 10) >> 3)
			continue;
		if (!nr++)
			snprintf(text, len, "%.*s",
				 (int)strcspn(record, "\n"), record);
	}
}
