/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the OOM killer does, done to a child: shared by hooks.c and reaper.c.
 */
#ifndef GMEM_REAPER_H
#define GMEM_REAPER_H

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "gmem_test.h"

#ifndef __NR_process_mrelease
#define __NR_process_mrelease	448
#endif

/*
 * Kill @pid and reap its memory, while its debugger keeps it from exiting: until
 * PTRACE_CONT its files are open and its jobs go on.
 *
 * Returns 0, or EAGAIN when something cannot be reaped yet after @tries.
 */
static inline int mrelease(struct __test_metadata *_metadata, pid_t pid,
			   unsigned int tries)
{
	int status, pidfd, err = 0;

	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT));
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, __WALL));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(PTRACE_EVENT_EXIT, status >> 16);
	for (; tries; tries--) {
		err = syscall(__NR_process_mrelease, pidfd, 0) ? errno : 0;
		if (err != EAGAIN)
			break;
		gmem_sleep_ms(5);
	}
	close(pidfd);
	return err;
}

#endif /* GMEM_REAPER_H */
