// SPDX-License-Identifier: GPL-2.0
/*
 * C = A * B, then Y += a * X, in memory that was mapped to be shared.  The CPU
 * fills the inputs; the device is given the same pointers.
 */
#include <stdlib.h>
#include <string.h>

#include "demo.h"

/* Small whole numbers: every product and sum is exact. */
static void fill(float *p, size_t n, unsigned int step)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (float)((int)(i * step % 17) - 8);
}

static int product(struct demo *demo, size_t n)
{
	size_t len = n * n * sizeof(float), i, j, k;
	float *a = demo_map(demo, len), *b = demo_map(demo, len);
	float *c = demo_map(demo, len), *got = calloc(1, len);
	float *want = calloc(1, len);
	int err;

	if (!a || !b || !c || !want || !got)
		return demo_fail("no memory", 0);
	fill(a, n * n, 5);
	fill(b, n * n, 7);

	if (demo_start(demo))
		return 1;
	err = _npu_matmul(&demo->npu, c, a, b, n, n, n, NULL);
	if (err)
		return demo_fail("matmul job", err);
	memcpy(got, c, len);
	if (demo_stop(demo))
		return 1;

	for (i = 0; i < n; i++) {
		for (k = 0; k < n; k++) {
			for (j = 0; j < n; j++)
				want[i * n + j] += a[i * n + k] * b[k * n + j];
		}
	}
	if (memcmp(want, got, len))
		return demo_fail("the product is wrong", 0);
	fill(want, n * n, 5);
	if (memcmp(want, a, len))
		return demo_fail("A changed", 0);
	fill(want, n * n, 7);
	if (memcmp(want, b, len))
		return demo_fail("B changed", 0);
	free(want);
	free(got);
	return 0;
}

static int axpy(struct demo *demo, size_t n)
{
	size_t len = n * sizeof(float), i;
	float *x = demo_map(demo, len), *y = demo_map(demo, len);
	float *got = calloc(1, len), *want = calloc(1, len);
	int err;

	if (!x || !y || !got || !want)
		return demo_fail("no memory", 0);
	fill(x, n, 3);
	fill(y, n, 11);

	if (demo_start(demo))
		return 1;
	err = _npu_axpy(&demo->npu, y, x, n, 2.0f, NULL);
	if (err)
		return demo_fail("axpy job", err);
	memcpy(got, y, len);
	if (demo_stop(demo))
		return 1;

	fill(want, n, 11);
	for (i = 0; i < n; i++)
		want[i] += 2.0f * x[i];
	if (memcmp(want, got, len))
		return demo_fail("the sum is wrong", 0);
	fill(want, n, 3);
	if (memcmp(want, x, len))
		return demo_fail("x changed", 0);
	free(want);
	free(got);
	return 0;
}

int demo_matmul(struct demo *demo)
{
	size_t n = gmem_scaled(256);

	if (n < 16)
		n = 16;
	return product(demo, n) ?: axpy(demo, n * n * 16);
}
