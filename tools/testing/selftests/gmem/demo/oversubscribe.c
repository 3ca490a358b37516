// SPDX-License-Identifier: GPL-2.0
/*
 * Y += a * X, three times, piece by piece, where X and Y together are 1.5 times
 * the memory of the device.  The program does not know or care: what does not
 * fit goes back to the host and comes again.
 */
#include "demo.h"

#define PIECE	(512 * SZ_4K)

static float x_of(size_t i)
{
	return (float)(i % 8191);
}

static float y_of(size_t i)
{
	return (float)(i % 127);
}

int demo_oversubscribe(struct demo *demo)
{
	size_t len = demo->npu.mem_size / 4 * 3 / PIECE * PIECE;
	size_t n = len / sizeof(float), at, i;
	const size_t piece = PIECE / sizeof(float);
	float *x = demo_map(demo, len), *y = demo_map(demo, len);
	unsigned int pass;
	int err;

	if (!x || !y)
		return 1;
	for (i = 0; i < n; i++) {
		x[i] = x_of(i);
		y[i] = y_of(i);
	}

	if (demo_start(demo))
		return 1;
	for (pass = 0; pass < 3; pass++) {
		for (at = 0; at < n; at += piece) {
			err = _npu_axpy(&demo->npu, y + at, x + at, piece,
					2.0f, NULL);
			if (err)
				return demo_fail("axpy job", err);
		}
	}
	/* The results come home; the CPU looks at them in its own time. */
	err = _hmadvise(GMEM_ANY_NODE, y, len, HMADV_PREFETCH);
	if (err)
		return demo_fail("hmadvise", err);
	if (demo_stop(demo))
		return 1;
	for (i = 0; i < n; i++) {
		if (y[i] != y_of(i) + 6.0f * x_of(i))
			return demo_fail("y is wrong", 0);
	}
	for (i = 0; i < n; i++) {
		if (x[i] != x_of(i))
			return demo_fail("x changed", 0);
	}
	return 0;
}
