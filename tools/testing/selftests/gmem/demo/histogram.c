// SPDX-License-Identifier: GPL-2.0
/*
 * The byte histogram of a real file: read() puts it into shared memory, the
 * device counts.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "demo.h"

static int read_all(int fd, char *p, size_t len)
{
	while (len) {
		ssize_t n = read(fd, p, len);

		if (n <= 0)
			return n ? errno : EIO;
		p += n;
		len -= n;
	}
	return 0;
}

/* Count the bytes of the file and compare them with those in memory. */
static int check(int fd, const char *p, size_t len, uint64_t *want)
{
	static unsigned char chunk[SZ_1M];
	size_t at, i;

	if (lseek(fd, 0, SEEK_SET))
		return demo_fail("seek", errno);
	for (at = 0; at < len; at += i) {
		size_t n = len - at < sizeof(chunk) ? len - at : sizeof(chunk);
		int err = read_all(fd, (char *)chunk, n);

		if (err)
			return demo_fail("read", err);
		if (memcmp(chunk, p + at, n))
			return demo_fail("the data changed", 0);
		for (i = 0; i < n; i++)
			want[chunk[i]]++;
	}
	return 0;
}

int demo_histogram(struct demo *demo)
{
	uint64_t want[256] = {}, got[256];
	int fd = open(demo->file, O_RDONLY | O_CLOEXEC), err;
	uint64_t *bins;
	struct stat st;
	char *p;

	if (fd < 0 || fstat(fd, &st))
		return demo_fail(demo->file, errno);
	if (!st.st_size)
		return demo_fail("the file is empty", 0);
	bins = demo_map(demo, sizeof(want));
	p = demo_map(demo, st.st_size);
	if (!bins || !p)
		return 1;
	err = read_all(fd, p, st.st_size);
	if (err)
		return demo_fail(demo->file, err);

	if (demo_start(demo))
		return 1;
	err = _npu_histogram(&demo->npu, bins, p, st.st_size, NULL);
	if (err)
		return demo_fail("histogram job", err);
	memcpy(got, bins, sizeof(got));
	if (demo_stop(demo))
		return 1;

	if (check(fd, p, st.st_size, want))
		return 1;
	close(fd);
	demo->bytes = st.st_size;
	return memcmp(want, got, sizeof(want)) ?
	       demo_fail("the histogram is wrong", 0) : 0;
}
