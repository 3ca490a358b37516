// SPDX-License-Identifier: GPL-2.0
/*
 * The clock that all other figures stand on: with one nanosecond for each
 * instruction the same loop takes the same time, whatever the host is doing.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS	10000

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

int main(void)
{
	volatile unsigned int sink = 0;
	uint64_t start;
	unsigned int i;

	start = now_ns();
	for (i = 0; i < ROUNDS; i++)
		sink += i;
	printf("clock.loop %llu ns/%d\n",
	       (unsigned long long)(now_ns() - start), ROUNDS);

	start = now_ns();
	for (i = 0; i < ROUNDS; i++)
		syscall(SYS_getppid);
	printf("clock.syscall %llu ns/%d\n",
	       (unsigned long long)(now_ns() - start), ROUNDS);
	return 0;
}
