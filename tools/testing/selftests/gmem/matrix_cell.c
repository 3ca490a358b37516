// SPDX-License-Identifier: GPL-2.0
/*
 * One cell of the operation matrix: its buffer, the state of that, who works
 * on it meanwhile, and the check of every byte.
 */
#include "matrix.h"

#include <linux/io_uring.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RW		(PROT_READ | PROT_WRITE)
/* What a worker does before and after the operation. */
#define CELL_ACCESSES	3
/* How often an operation is repeated in a race. */
#define CELL_ROUNDS	3
#define CELL_WAIT_MS	20000

int cell_fail(struct cell *c, const char *fmt, ...)
{
	va_list ap;

	if (__atomic_exchange_n(&c->shared->failed, true, __ATOMIC_SEQ_CST))
		return -1;
	va_start(ap, fmt);
	vsnprintf(c->shared->why, sizeof(c->shared->why), fmt, ap);
	va_end(ap);
	return -1;
}

static bool in_range(const struct cell *c, size_t at)
{
	return at >= c->at && at < c->at + c->n;
}

/* --- contents ------------------------------------------------------------ */

static uint64_t *word_at(const char *page)
{
	return (uint64_t *)(page + CELL_WORD);
}

int cell_same(struct cell *c, const char *view, size_t at, size_t n)
{
	size_t i = 0, diff;

	if (c->race == CELL_ALONE)
		i = gmem_diff(c->shadow + at, view, n);
	for (; i < n; i += SZ_4K) {
		const char *want = c->shadow + at + i, *seen = view + i;

		diff = gmem_diff(want, seen, CELL_WORD);
		if (diff == CELL_WORD) {
			diff += sizeof(uint64_t);
			diff += gmem_diff(want + diff, seen + diff,
					  SZ_4K - diff);
		}
		if (diff != SZ_4K)
			return cell_fail(c, "page %zu byte %zu: want %02x, seen %02x",
					 (at + i) / SZ_4K, diff,
					 (unsigned char)want[diff],
					 (unsigned char)seen[diff]);
	}
	return 0;
}

int cell_zero(struct cell *c, const char *p, size_t n)
{
	size_t i, tail = SZ_4K - CELL_WORD - sizeof(uint64_t);

	for (i = 0; i < n; i += SZ_4K) {
		if (gmem_nonzero(p + i, CELL_WORD) != CELL_WORD ||
		    gmem_nonzero(p + i + SZ_4K - tail, tail) != tail ||
		    (c->race == CELL_ALONE && *word_at(p + i)))
			return cell_fail(c, "page %zu is not zero", i / SZ_4K);
	}
	return 0;
}

void cell_put(struct cell *c, char *to, const char *from, size_t n)
{
	const size_t rest = CELL_WORD + sizeof(uint64_t);
	size_t i;

	if (c->race == CELL_ALONE) {
		memcpy(to, from, n);
		return;
	}
	for (i = 0; i < n; i += SZ_4K) {
		memcpy(to + i, from + i, CELL_WORD);
		memcpy(to + i + rest, from + i + rest, SZ_4K - rest);
	}
}

int cell_device_same(struct cell *c, const struct npu *npu, const char *p,
		     size_t at, size_t n)
{
	int err = _npu_memcpy(npu, c->out.p, p, n, NULL);

	if (err)
		return cell_fail(c, "device read: %s", strerror(err));
	return cell_same(c, c->out.p, at, n);
}

int cell_device_adds(struct cell *c, const struct npu *npu, char *p, size_t at,
		     size_t n)
{
	size_t i, step = (n / 4 + SZ_4K - 1) / SZ_4K * SZ_4K;
	int err;

	for (i = 0; i < n; i += step) {
		err = _npu_atomic_add(npu, (uint64_t *)(p + i) + 1, 3, 1, NULL);
		if (err)
			return cell_fail(c, "device write: %s", strerror(err));
		((uint64_t *)(c->shadow + at + i))[1] += 3;
	}
	return 0;
}

void cell_moved(struct cell *c, size_t at, size_t n, char *to)
{
	size_t i;

	for (i = 0; i < n; i += SZ_4K)
		c->page[(at + i) / SZ_4K] = to + i;
}

void cell_unmapped(struct cell *c, size_t at, size_t n)
{
	size_t i;

	for (i = 0; i < n; i += SZ_4K)
		c->page[(at + i) / SZ_4K] = NULL;
}

/* The worker's words, whose values it counted, become the shadow's. */
static int settle(struct cell *c)
{
	size_t i;

	for (i = 0; i < c->len / SZ_4K; i++) {
		uint64_t *want = word_at(c->shadow + i * SZ_4K);
		uint64_t done = c->shared->done[i], more, seen;
		unsigned int flags = 0;

		if (!c->page[i])
			continue;
		if (in_range(c, i * SZ_4K))
			flags = c->op->flags;
		seen = *word_at(c->page[i]);
		more = seen - *want + (c->twin[i] ? *c->twin[i] : 0);
		if (!(flags & OP_WRITES) &&
		    (flags & OP_LOSES ? more > done : more != done))
			return cell_fail(c, "page %zu: %llu increments, %llu there",
					 i, (unsigned long long)done,
					 (unsigned long long)more);
		*want = seen;
	}
	return 0;
}

int cell_child_settle(struct cell *c)
{
	size_t i;

	for (i = 0; i < c->len / SZ_4K && c->race != CELL_ALONE; i++) {
		uint64_t *want = word_at(c->shadow + i * SZ_4K);
		uint64_t more = *word_at(c->page[i]) - *want;

		if (more < c->before[i] || more > c->shared->started[i])
			return cell_fail(c, "child, page %zu: %u to %u increments, %llu there",
					 i, c->before[i],
					 c->shared->started[i],
					 (unsigned long long)more);
		*want += more;
	}
	return 0;
}

/* --- children ------------------------------------------------------------ */

pid_t cell_fork(struct cell *c, int (*child)(struct cell *c))
{
	pid_t pid;

	memcpy(c->before, c->shared->done, sizeof(c->before));
	pid = gmem_fork();
	if (!pid)
		_exit(child(c) ? 1 : 0);
	if (pid < 0)
		cell_fail(c, "fork: %s", strerror(errno));
	return pid;
}

int cell_wait(struct cell *c, pid_t pid)
{
	int code = pid < 0 ? -1 : gmem_child(pid);

	return code ? cell_fail(c, "the child ended with %d", code) : 0;
}

int cell_child(struct cell *c, int (*child)(struct cell *c))
{
	return cell_wait(c, cell_fork(c, child));
}

/* --- workers ------------------------------------------------------------- */

static __thread sigjmp_buf access_env;
static __thread volatile sig_atomic_t access_armed;

static void access_failed(int sig)
{
	if (!access_armed) {
		signal(sig, SIG_DFL);
		return;
	}
	access_armed = 0;
	siglongjmp(access_env, 1);
}

/* Increment on the CPU.  What cannot be accessed is EFAULT. */
static int cpu_adds(uint64_t *word, uint64_t *old)
{
	if (sigsetjmp(access_env, 0))
		return EFAULT;
	access_armed = 1;
	*old = __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	access_armed = 0;
	return 0;
}

static int job_adds(struct cell *c, uint64_t *word, uint64_t *old)
{
	struct npu_result res = {};
	int err = _npu_atomic_add(&c->npu[0], word, 1, 1, &res);

	*old = res.value;
	return err;
}

static bool stopped(struct cell *c)
{
	return __atomic_load_n(&c->stop, __ATOMIC_SEQ_CST) ||
	       __atomic_load_n(&c->shared->failed, __ATOMIC_SEQ_CST);
}

/* Was @old what the worker has to find? */
static void judge(struct cell *c, size_t page, uint64_t old)
{
	uint64_t base = *word_at(c->data + page * SZ_4K);
	uint64_t done = c->shared->done[page];
	unsigned int flags = in_range(c, page * SZ_4K) ? c->op->flags : 0;
	bool ok = old - base == done;

	if (flags & OP_WRITES)
		return;
	if (flags & OP_LOSES)
		ok = old - base <= done || old <= done;
	if (!ok)
		cell_fail(c, "%s finds %llx in page %zu, want %llx + %llu",
			  c->race == CELL_CPU ? "CPU" : "job",
			  (unsigned long long)old, page,
			  (unsigned long long)base, (unsigned long long)done);
}

/* Increments words at the addresses that the buffer had at first. */
static void *work(void *arg)
{
	struct cell *c = arg;
	struct cell_shared *s = c->shared;
	uint64_t rnd = c->rnd | 1;

	while (!stopped(c)) {
		size_t page = gmem_random(&rnd) % (c->buf.len / SZ_4K);
		uint64_t *word = word_at(c->buf.p + page * SZ_4K), old = 0;
		int err;

		__atomic_add_fetch(&s->started[page], 1, __ATOMIC_SEQ_CST);
		err = c->race == CELL_CPU ? cpu_adds(word, &old) :
					    job_adds(c, word, &old);
		if (!err) {
			judge(c, page, old);
			__atomic_add_fetch(&s->done[page], 1,
					   __ATOMIC_SEQ_CST);
		} else {
			__atomic_sub_fetch(&s->started[page], 1,
					   __ATOMIC_SEQ_CST);
			if (!in_range(c, page * SZ_4K) ||
			    !(c->op->flags & OP_FAULTS) ||
			    (err != EFAULT && err != EPERM))
				cell_fail(c, "access to page %zu: %s", page,
					  strerror(err));
		}
		__atomic_add_fetch(&s->accesses, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void *move(void *arg)
{
	struct cell *c = arg;
	unsigned int i;

	for (i = 0; !stopped(c); i++) {
		int err = _hmadvise(i & 1 ? c->npu[0].hnid : -1, c->buf.p,
				    c->buf.len, HMADV_PREFETCH);

		/* A hole, or a mapping that is not shared (any more). */
		if (err && err != ENOMEM && err != EOPNOTSUPP)
			cell_fail(c, "prefetch: %s", strerror(err));
		__atomic_add_fetch(&c->shared->moves, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* Wait until @count has grown by @n. */
static void progress(struct cell *c, uint64_t *count, unsigned int n)
{
	uint64_t end = gmem_now_ms() + CELL_WAIT_MS;
	uint64_t want = __atomic_load_n(count, __ATOMIC_SEQ_CST) + n;

	while (__atomic_load_n(count, __ATOMIC_SEQ_CST) < want) {
		if (stopped(c))
			return;
		if (gmem_now_ms() > end) {
			cell_fail(c, "no progress");
			return;
		}
		usleep(50);
	}
}

static void operate(struct cell *c, int *err)
{
	unsigned int rounds = 1;

	if (c->op->flags & OP_AGAIN &&
	    (c->race != CELL_ALONE || c->state == CELL_MOVING))
		rounds = gmem_scaled(CELL_ROUNDS);
	do {
		*err = c->op->run(c);
	} while (!*err && --rounds);
}

/* The operation, in company if the cell has one. */
static int perform(struct cell *c)
{
	bool moves = c->state == CELL_MOVING, works = c->race != CELL_ALONE;
	struct sigaction sa = { .sa_handler = access_failed,
				.sa_flags = SA_NODEFER };
	pthread_t mover, worker;
	struct sigaction old;
	int err = 0;

	sigaction(SIGSEGV, &sa, &old);
	c->stop = false;
	if (moves && pthread_create(&mover, NULL, move, c))
		return cell_fail(c, "no thread");
	if (works && pthread_create(&worker, NULL, work, c)) {
		works = false;
		cell_fail(c, "no thread");
	}
	if (works)
		progress(c, &c->shared->accesses, CELL_ACCESSES);
	if (moves)
		progress(c, &c->shared->moves, 1);
	if (!c->shared->failed)
		operate(c, &err);
	if (works && err >= 0)
		progress(c, &c->shared->accesses, CELL_ACCESSES);
	__atomic_store_n(&c->stop, true, __ATOMIC_SEQ_CST);
	if (works)
		pthread_join(worker, NULL);
	if (moves)
		pthread_join(mover, NULL);
	sigaction(SIGSEGV, &old, NULL);
	return c->shared->failed ? -1 : err;
}

/* --- pins ---------------------------------------------------------------- */

int cell_pin(void *p, size_t len, struct io_uring_params *params)
{
	struct iovec iov = { p, len };
	int ring;

	memset(params, 0, sizeof(*params));
	ring = syscall(__NR_io_uring_setup, 4, params);

	if (ring < 0)
		return -errno;
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
		    &iov, 1)) {
		int err = errno;

		close(ring);
		return -err;
	}
	return ring;
}

void cell_unpin(int ring)
{
	if (ring < 0)
		return;
	/* At once; closing would do it some time. */
	syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL,
		0);
	close(ring);
}

/* --- states -------------------------------------------------------------- */

/* A heap that is aligned and advised as the other buffers are. */
static int map_heap(struct cell *c)
{
	size_t len = c->shape->block * c->shape->nr;
	uintptr_t base = (uintptr_t)sbrk(0), start;

	start = (base + SZ_2M) / SZ_2M * SZ_2M;
	start += c->shape->block % SZ_2M;
	if (sbrk(start + len - base) == (void *)-1)
		return errno;
	c->buf.p = (char *)start;
	c->buf.len = len;
	if (madvise(c->buf.p, len, c->shape->thp ? MADV_HUGEPAGE :
						   MADV_NOHUGEPAGE))
		return errno;
	return _hmadvise(-1, c->buf.p, len, HMADV_SHARE);
}

/* Have the device map what stays on the host. */
static int enter_remote(struct cell *c)
{
	struct io_uring_params params;
	int err;

	err = _hmadvise(-1, c->buf.p, c->len, HMADV_UNSHARE);
	if (!err && c->state == CELL_PINNED) {
		c->pin = cell_pin(c->buf.p, c->len, &params);
		err = c->pin < 0 ? -c->pin : 0;
	}
	if (!err)
		err = _npu_touch(&c->npu[0], c->buf.p, c->len, true, NULL);
	if (!err)
		err = _hmadvise(-1, c->buf.p, c->len, HMADV_SHARE);
	if (err)
		return err;
	return _npu_dirty(&c->npu[0], c->buf.p, c->shadow, c->len);
}

/*
 * Every other stretch comes home, because the CPU reads there.  What comes with
 * one page is its block, but no more than 64K of one that may not be a huge
 * page.
 */
static int enter_mixed(struct cell *c)
{
	size_t step = c->shape->block < SZ_64K ? SZ_4K : SZ_64K, at;

	if (c->shape->thp && madvise(c->buf.p, c->len, MADV_NOHUGEPAGE))
		return errno;
	for (at = 0; at < c->len; at += 2 * step)
		gmem_peek(c->buf.p + at);
	if (c->shape->thp && madvise(c->buf.p, c->len, MADV_HUGEPAGE))
		return errno;
	return 0;
}

static int enter(struct cell *c)
{
	size_t device, host, pages = c->len / SZ_4K;
	int err = 0;

	if (c->state == CELL_HOST)
		return 0;
	if (c->state == CELL_REMOTE || c->state == CELL_PINNED)
		err = enter_remote(c);
	else
		err = _npu_dirty(&c->npu[0], c->buf.p, c->shadow, c->len);
	if (!err && c->state == CELL_MIXED)
		err = enter_mixed(c);
	if (err)
		return cell_fail(c, "cannot prepare: %s", strerror(err));

	device = gmem_pages_on(c->buf.p, c->len, c->npu[0].hnid);
	host = gmem_pages_on(c->buf.p, c->len, GMEM_ANY_NODE);
	if (device + host != pages ||
	    (!device != (c->state == CELL_REMOTE ||
			 c->state == CELL_PINNED)) ||
	    (!host != (c->state == CELL_DEVICE ||
		       c->state == CELL_MOVING)))
		return cell_fail(c, "cannot prepare: %zu pages on the device, %zu on the host",
				 device, host);
	return 0;
}

/* A part begins and ends within blocks, and crosses from one to another. */
static void set_range(struct cell *c)
{
	size_t nr = c->len / SZ_4K;

	c->at = 0;
	c->n = c->len;
	if (c->part) {
		c->at = (nr / 4 + 3) * SZ_4K;
		c->n = (nr / 2 - 2) * SZ_4K;
	}
	if (c->op->flags & OP_HEAP)
		c->n = c->len - c->at;
	if (c->op->pages && c->n > c->op->pages * SZ_4K)
		c->n = c->op->pages * SZ_4K;
	c->p = c->buf.p + c->at;
}

static int begin(struct cell *c)
{
	int err;

	memset(c->shared, 0, sizeof(*c->shared));
	memset(c->twin, 0, sizeof(c->twin));
	c->hole = NULL;
	c->hole_len = 0;
	c->pin = -1;
	c->rnd = c->rnd * 6364136223846793005ULL + 1442695040888963407ULL;
	c->len = c->shape->block * c->shape->nr;
	err = c->op->setup ? c->op->setup(c) : 0;
	if (!err)
		err = c->op->flags & OP_HEAP ?
			      map_heap(c) :
			      _gmem_map_shape(&c->buf, c->shape);
	if (!err)
		err = _gmem_map_shape(&c->out, c->shape);
	if (err)
		return cell_fail(c, "cannot map: %s", strerror(err));
	cell_moved(c, 0, c->len, c->buf.p);
	set_range(c);
	memcpy(c->shadow, c->data, c->len);
	memset(c->shadow + c->len, 0, CELL_GROWTH * SZ_4K);
	memcpy(c->buf.p, c->data, c->len);
	return enter(c);
}

int cell_away(struct cell *c, size_t len, size_t offset, int prot, int flags)
{
	return _gmem_map(&c->away, len, SZ_2M, offset % SZ_2M, prot, flags);
}

/* --- check --------------------------------------------------------------- */

/*
 * A run of adjacent pages: the device reads it and writes to it, as long as
 * what the operation left is untouched, and the CPU has every byte.
 */
static int check_run(struct cell *c, size_t at, size_t n)
{
	char *p = c->page[at / SZ_4K];
	struct npu_result res;
	int err;

	err = _npu_reduce(&c->npu[0], p, n, &res);
	if (err)
		return cell_fail(c, "device read of page %zu on: %s",
				 at / SZ_4K, strerror(err));
	if (res.value != gmem_sum(c->shadow + at, n)) {
		if (!cell_same(c, p, at, n))
			cell_fail(c, "the device sees other bytes than the CPU");
		return -1;
	}
	if (cell_device_adds(c, &c->npu[0], p, at, n))
		return -1;
	return cell_same(c, p, at, n);
}

static int check(struct cell *c)
{
	size_t i = 0, k, nr = c->len / SZ_4K;

	if (c->race != CELL_ALONE && settle(c))
		return -1;
	for (; i < nr; i = k) {
		for (k = i + 1; k < nr && c->page[i] &&
		     c->page[k] == c->page[i] + (k - i) * SZ_4K; k++)
			;
		if (c->page[i] &&
		    check_run(c, i * SZ_4K, (k - i) * SZ_4K))
			return -1;
	}
	if (!c->hole_len)
		return 0;
	if (gmem_peek(c->hole) || gmem_peek(c->hole + c->hole_len - SZ_4K) ||
	    _npu_touch(&c->npu[0], c->hole, SZ_4K, false, NULL) != EFAULT ||
	    _npu_touch(&c->npu[0], c->hole + c->hole_len - SZ_4K, SZ_4K,
		       false, NULL) != EFAULT)
		return cell_fail(c, "what is unmapped can be read");
	return 0;
}

static void end(struct cell *c, void *heap)
{
	cell_unpin(c->pin);
	c->pin = -1;
	gmem_unmap(&c->buf);
	gmem_unmap(&c->away);
	gmem_unmap(&c->out);
	if (c->op->flags & OP_HEAP)
		sbrk((char *)heap - (char *)sbrk(0));
	if (!gmem_hnodes_idle())
		cell_fail(c, "device memory leaks");
}

int cell_run(struct cell *c)
{
	void *heap = sbrk(0);
	int ret, err = 0;

	ret = begin(c);
	if (!ret) {
		err = perform(c);
		ret = err < 0 ? -1 : 0;
		cell_unpin(c->pin);
		c->pin = -1;
		if (c->op->after && c->op->after(c))
			ret = -1;
	}
	if (!ret && !(c->op->expect ? c->op->expect(c, err) : !err))
		ret = cell_fail(c, "%s", err ? strerror(err) : "not refused");
	if (!ret)
		ret = check(c);
	end(c, heap);
	return ret || c->shared->failed ? -1 : err;
}

/* --- for all cells ------------------------------------------------------- */

/* Not for the core files of children. */
static char *working_memory(size_t len)
{
	char *p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, len, MADV_DONTDUMP);
	return p;
}

int cell_init(struct cell *c, const struct gmem_shape *shape)
{
	size_t len = shape->block * shape->nr;
	size_t room = len + CELL_GROWTH * SZ_4K;
	unsigned int i;
	int err;

	c->shape = shape;
	c->rnd = gmem_seed();
	c->nr_npu = npu_count() < 2 ? 1 : 2;
	for (i = 0; i < c->nr_npu; i++) {
		err = _npu_open(&c->npu[i], i);
		if (!err)
			err = _npu_attach(&c->npu[i], 0);
		if (err)
			return err;
	}
	c->data = working_memory(room);
	c->fresh = working_memory(room);
	c->shadow = working_memory(room);
	c->scratch = working_memory(room);
	c->shared = mmap(NULL, sizeof(*c->shared), RW,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!c->data || !c->fresh || !c->shadow || !c->scratch ||
	    c->shared == MAP_FAILED)
		return ENOMEM;
	gmem_pattern(c->data, len, 51);
	gmem_pattern(c->fresh, len, 73);
	c->disk = -1;
	return _gmem_swap_on();
}

void cell_exit(struct cell *c)
{
	if (c->disk >= 0)
		gmem_disk_close(c->disk, c->disk_id);
	npu_close(&c->npu[0]);
	if (c->nr_npu > 1)
		npu_close(&c->npu[1]);
}
