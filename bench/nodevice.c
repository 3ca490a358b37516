// SPDX-License-Identifier: GPL-2.0
/*
 * What GMEM costs a process that has nothing to do with devices: instructions
 * of the system calls and faults that the hooks are in.  Runs the same on the
 * unpatched kernel, which the harness compares with.
 *
 * Each operation is counted by itself, many times over, and the least is the
 * figure: timer ticks, refills of per-CPU lists and the like are in some of the
 * samples, and in which ones depends on all that went before.  Before each the
 * processor is idle for a while, so that RCU frees what the last one left behind
 * and each finds the same.  In a second pass the driver is loaded, that is the
 * static key is on.  The unpatched kernel, which has no driver, does both passes
 * as well, for its caches and lists to have seen the same.
 *
 * The two reads of the counter are in each figure.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "gmem_util.h"

#define SAMPLES		101
#define SETTLE_MS	50
#define NOTHING		"/tmp/nothing"

#define SMALL		(16 * SZ_4K)
#define LARGE		(512 * SZ_4K)

/* Fixed and far from everything else, so that no mapping joins another. */
#define AREA		((char *)0x100000000000UL)
#define OTHER		((char *)0x110000000000UL)

static pid_t child;

static void map(char *p, size_t len)
{
	if (mmap(p, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
		bench_die("mmap: %m");
}

static void unmap(char *p, size_t len)
{
	if (munmap(p, len))
		bench_die("munmap: %m");
}

static void touch(char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += SZ_4K)
		((volatile char *)p)[i] = 1;
}

static void reap(void)
{
	int status;

	if (waitpid(child, &status, 0) != child || status)
		bench_die("the child ended with %#x", status);
}

/* --- the operations ---------------------------------------------------------- */

static void getppid_run(void)
{
	syscall(SYS_getppid);
}

static void mmap_run(void)
{
	map(AREA, SMALL);
}

static void mmap_end(void)
{
	unmap(AREA, SMALL);
}

static void munmap_run(void)
{
	unmap(AREA, SMALL);
}

static void small_begin(void)
{
	map(AREA, SMALL);
	touch(AREA, SMALL);
}

static void large_begin(void)
{
	map(AREA, LARGE);
	if (madvise(AREA, LARGE, MADV_NOHUGEPAGE))
		bench_die("madvise: %m");
	touch(AREA, LARGE);
}

static void large_end(void)
{
	unmap(AREA, LARGE);
}

static void large_run(void)
{
	unmap(AREA, LARGE);
}

static void huge_begin(void)
{
	map(AREA, SZ_2M);
	if (madvise(AREA, SZ_2M, MADV_HUGEPAGE))
		bench_die("madvise: %m");
}

static void huge_end(void)
{
	unmap(AREA, SZ_2M);
}

static void huge_touched(void)
{
	huge_begin();
	touch(AREA, 1);
}

static void mprotect_run(void)
{
	if (mprotect(AREA, SMALL, PROT_READ))
		bench_die("mprotect: %m");
}

static void mremap_run(void)
{
	if (mremap(AREA, SMALL, SMALL, MREMAP_MAYMOVE | MREMAP_FIXED, OTHER) !=
	    OTHER)
		bench_die("mremap: %m");
}

static void mremap_end(void)
{
	unmap(OTHER, SMALL);
}

/* The page table is there, only the second page is missing. */
static void fault_begin(void)
{
	map(AREA, SMALL);
	touch(AREA, 1);
}

static void fault_write(void)
{
	touch(AREA + SZ_4K, 1);
}

static void fault_read(void)
{
	(void)*(volatile char *)(AREA + SZ_4K);
}

static void fault_huge(void)
{
	touch(AREA, 1);
}

/* The child waits for its turn, which comes when we sleep: we are SCHED_FIFO. */
static void fork_run(void)
{
	child = syscall(SYS_fork);
	if (!child)
		syscall(SYS_exit_group, 0);
	if (child < 0)
		bench_die("fork: %m");
}

static void fork_wait_run(void)
{
	fork_run();
	reap();
}

static void exec_run(void)
{
	static char *const argv[] = { NOTHING, NULL };

	child = vfork();
	if (!child) {
		execve(NOTHING, argv, argv + 1);
		_exit(127);
	}
	if (child < 0)
		bench_die("vfork: %m");
	reap();
}

static void large_reap(void)
{
	reap();
	large_end();
}

static const struct op {
	const char *name;
	void (*begin)(void);
	void (*run)(void);	/* what is counted */
	void (*end)(void);
} ops[] = {
	{ "getppid", NULL, getppid_run, NULL },
	{ "mmap", NULL, mmap_run, mmap_end },
	{ "munmap-16", small_begin, munmap_run, NULL },
	{ "munmap-512", large_begin, large_run, NULL },
	{ "munmap-huge", huge_touched, huge_end, NULL },
	{ "mprotect-16", small_begin, mprotect_run, mmap_end },
	{ "mremap-16", small_begin, mremap_run, mremap_end },
	{ "fault-write", fault_begin, fault_write, mmap_end },
	{ "fault-read", fault_begin, fault_read, mmap_end },
	{ "fault-huge", huge_begin, fault_huge, huge_end },
	{ "fork", NULL, fork_run, reap },
	{ "fork-512", large_begin, fork_run, large_reap },
	{ "fork-exit-wait", NULL, fork_wait_run, NULL },
	{ "fork-exit-wait-512", large_begin, fork_wait_run, large_end },
	{ "exec", NULL, exec_run, NULL },
};

static uint64_t measure(const struct op *op)
{
	uint64_t start, insn, least = ~0ULL;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		gmem_sleep_ms(SETTLE_MS);
		if (op->begin)
			op->begin();
		start = bench_insn();
		op->run();
		insn = bench_insn() - start;
		if (insn < least)
			least = insn;
		if (op->end)
			op->end();
	}
	return least;
}

static void measure_all(const char *prefix)
{
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		bench_figure(measure(&ops[i]), "instructions", "%s%s", prefix,
			     ops[i].name);
}

/* --- the machine --------------------------------------------------------------- */

/* A program that does nothing but end: what is left of exec is the kernel's. */
static void write_nothing(void)
{
	static const unsigned char code[] = {
		0x31, 0xff,			/* xor %edi, %edi */
		0xb8, SYS_exit, 0, 0, 0,	/* mov $SYS_exit, %eax */
		0x0f, 0x05,			/* syscall */
	};
	struct {
		Elf64_Ehdr file;
		Elf64_Phdr load;
		unsigned char code[sizeof(code)];
	} elf = {
		.file = {
			.e_ident = {
				ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
				ELFDATA2LSB, EV_CURRENT,
			},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = SZ_2M + offsetof(typeof(elf), code),
			.e_phoff = offsetof(typeof(elf), load),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 1,
		},
		.load = {
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_X,
			.p_vaddr = SZ_2M,
			.p_filesz = sizeof(elf),
			.p_memsz = sizeof(elf),
			.p_align = SZ_4K,
		},
	};
	int fd;

	memcpy(elf.code, code, sizeof(code));
	fd = open(NOTHING, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0 || write(fd, &elf, sizeof(elf)) != sizeof(elf) || close(fd))
		bench_die(NOTHING ": %m");
}

/* The same addresses each time, and nobody else on the processor. */
static void settle(char **argv)
{
	int old = personality(0xffffffff);

	if (!(old & ADDR_NO_RANDOMIZE)) {
		personality(old | ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
		bench_die("exec: %m");
	}
	/* Without the limit on real-time tasks, which would let others in. */
	bench_check(_gmem_write_file("/proc/sys/kernel/sched_rt_runtime_us",
				     "-1"), "sched_rt_runtime_us");
	bench_go_first(true);
}

int main(int argc, char **argv)
{
	(void)argc;
	settle(argv);
	bench_counter_open();
	write_nothing();
	measure_all("p10.");
	bench_load_driver();
	measure_all("p10.loaded.");
	bench_print();
	unlink(NOTHING);
	return 0;
}
