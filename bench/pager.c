// SPDX-License-Identifier: GPL-2.0
/*
 * A peer: a pager in user space, on userfaultfd.  It moves pages between an
 * application's memory and a staging area from which it could have a device copy
 * them, and back when the CPU touches them.  What is uffd.NAME here is GMEM's
 * NAME.
 *
 * It is let off lightly.  No byte is copied, by a device or by the CPU; a pager
 * with a real device would also have to pin and map the staging area for it, to
 * send the commands and to wait.  Its staging area keeps the pages, whereas GMEM
 * gives those of the host back and gets new ones.  And a "fault" is a move alone:
 * there is no way for a device to tell the pager that it wants a page.
 *
 * What makes it fast: UFFDIO_MOVE takes pages from one place to the other without
 * touching their data, a huge page as one, atomically for all who use it, and
 * without a second fault for write protection; one ioctl for everything that
 * moves; one event for each 2 MiB; and a thread that waits in read() and does
 * nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define PIECES	16
#define LEN	(PIECES * SZ_2M)
#define SAMPLES	21

static struct gmem_buf app, staging;
static int fd;

static void move(char *to, char *from, size_t len)
{
	struct uffdio_move arg = {
		.dst = (uintptr_t)to,
		.src = (uintptr_t)from,
		.len = len,
	};

	/* A page that somebody looks at does not move at once. */
	while (ioctl(fd, UFFDIO_MOVE, &arg)) {
		if (errno != EAGAIN)
			bench_die("UFFDIO_MOVE: %m");
		if (arg.move > 0) {
			arg.dst += arg.move;
			arg.src += arg.move;
			arg.len -= arg.move;
		}
		arg.move = 0;
	}
}

static uint64_t move_insn(char *to, char *from, size_t len)
{
	uint64_t start = bench_insn();

	move(to, from, len);
	return bench_insn() - start;
}

static void watch(struct gmem_buf *buf)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)buf->p, .len = buf->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	bench_check(ioctl(fd, UFFDIO_REGISTER, &reg) ? errno : 0,
		    "UFFDIO_REGISTER");
}

static void begin(size_t len, int advice)
{
	struct uffdio_api api = { .api = UFFD_API };

	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		bench_die("userfaultfd: %m");
	bench_map(&app, len, advice, 0);
	bench_check(_gmem_map(&staging, len, SZ_2M, 0, PROT_READ | PROT_WRITE,
			      0), "mmap");
	bench_check(madvise(staging.p, len, advice) ? errno : 0, "madvise");
	watch(&app);
	watch(&staging);
}

static void end(void)
{
	bench_expect_data(&app);
	gmem_unmap(&app);
	gmem_unmap(&staging);
	close(fd);
}

/* --- events ------------------------------------------------------------------ */

/**
 * struct server - brings home what the application touches
 * @events: how many times
 * @len: how much at a time
 */
struct server {
	unsigned int events;
	size_t len;
	pthread_t thread;
};

static void *serve(void *arg)
{
	const struct server *s = arg;
	struct uffd_msg msg;
	unsigned int i;
	size_t at;

	for (i = 0; i < s->events; i++) {
		if (read(fd, &msg, sizeof(msg)) != sizeof(msg))
			bench_die("userfaultfd: %m");
		at = msg.arg.pagefault.address - (uintptr_t)app.p;
		at -= at % s->len;
		move(app.p + at, staging.p + at, s->len);
	}
	return NULL;
}

static void serve_start(struct server *s)
{
	bench_check(pthread_create(&s->thread, NULL, serve, s), "thread");
	/* For it to be waiting when the first one comes. */
	gmem_sleep_ms(1);
}

static void serve_end(struct server *s)
{
	bench_check(pthread_join(s->thread, NULL), "thread");
}

/* --- P3 ---------------------------------------------------------------------- */

static void figure(uint64_t insn, const char *what, const char *pages)
{
	bench_figure((double)insn / PIECES, "instructions/2MiB",
		     "uffd.p3.%s%s", what, pages);
}

static void measure_large(int advice, const char *pages)
{
	struct server s = { .events = PIECES, .len = SZ_2M };
	uint64_t start;
	size_t i;

	begin(LEN, advice);
	figure(move_insn(staging.p, app.p, LEN), "prefetch-to-dev", pages);
	figure(move_insn(app.p, staging.p, LEN), "prefetch-to-host", pages);
	bench_expect_data(&app);

	move(staging.p, app.p, LEN);
	serve_start(&s);
	start = bench_insn();
	for (i = 0; i < LEN; i += SZ_4K)
		(void)*(volatile char *)(app.p + i);
	start = bench_insn() - start;
	serve_end(&s);
	figure(start, "fault-to-host", pages);
	end();
}

/* --- P4, P5 ------------------------------------------------------------------ */

static void measure_piece(size_t len, const char *size)
{
	struct server s = { .events = SAMPLES, .len = len };
	uint64_t fault[SAMPLES], recall[SAMPLES];
	int i;

	begin(len, len == SZ_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	serve_start(&s);
	for (i = 0; i < SAMPLES; i++) {
		fault[i] = move_insn(staging.p, app.p, len);
		recall[i] = bench_insn();
		(void)*(volatile char *)app.p;
		recall[i] = bench_insn() - recall[i];
	}
	serve_end(&s);
	end();
	bench_piece("uffd", size, len, bench_least(fault, SAMPLES),
		    bench_least(recall, SAMPLES));
}

int main(void)
{
	bench_counter_open();
	measure_large(MADV_HUGEPAGE, "");
	measure_large(MADV_NOHUGEPAGE, "-4k");
	measure_piece(SZ_4K, "4k");
	measure_piece(SZ_64K, "64k");
	measure_piece(SZ_2M, "2m");
	bench_print();
	return 0;
}
