/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The GMEM selftests' side of the kselftest harness.
 *
 * Helpers come in threes: _x() returns 0 or a positive errno, x() asserts that
 * it succeeds, x_err(errno, ...) asserts that it fails with that errno.
 */
#ifndef GMEM_TEST_H
#define GMEM_TEST_H

#include <kselftest_harness.h>

#include "gmem_util.h"

/* The debug kernel is thirty times slower than the plain one. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240

#define OK(expr)		ASSERT_EQ(0, (expr))
#define FAILS(err, expr)	ASSERT_EQ((err), (expr))

#define hmadvise(...)		OK(_hmadvise(__VA_ARGS__))
#define hmadvise_err(err, ...)	FAILS(err, _hmadvise(__VA_ARGS__))

#define npu_open(...)		OK(_npu_open(__VA_ARGS__))
#define npu_attach(...)		OK(_npu_attach(__VA_ARGS__))
#define npu_attach_err(err, ...)	FAILS(err, _npu_attach(__VA_ARGS__))
#define npu_detach(...)		OK(_npu_detach(__VA_ARGS__))
#define npu_detach_err(err, ...)	FAILS(err, _npu_detach(__VA_ARGS__))
#define npu_stats(...)		OK(_npu_stats(__VA_ARGS__))
#define npu_inject(...)		OK(_npu_inject(__VA_ARGS__))
#define npu_inject_err(err, ...)	FAILS(err, _npu_inject(__VA_ARGS__))
#define npu_touch(...)		OK(_npu_touch(__VA_ARGS__))
#define npu_touch_err(err, ...)	FAILS(err, _npu_touch(__VA_ARGS__))
#define npu_submit(...)		OK(_npu_submit(__VA_ARGS__))
#define npu_submit_err(err, ...)	FAILS(err, _npu_submit(__VA_ARGS__))
#define npu_wait(...)		OK(_npu_wait(__VA_ARGS__))
#define npu_wait_err(err, ...)	FAILS(err, _npu_wait(__VA_ARGS__))
#define npu_fill(...)		OK(_npu_fill(__VA_ARGS__))
#define npu_fill_err(err, ...)	FAILS(err, _npu_fill(__VA_ARGS__))
#define npu_memcpy(...)		OK(_npu_memcpy(__VA_ARGS__))
#define npu_memcpy_err(err, ...)	FAILS(err, _npu_memcpy(__VA_ARGS__))
#define npu_reduce(...)		OK(_npu_reduce(__VA_ARGS__))
#define npu_reduce_err(err, ...)	FAILS(err, _npu_reduce(__VA_ARGS__))
#define npu_histogram(...)	OK(_npu_histogram(__VA_ARGS__))
#define npu_axpy(...)		OK(_npu_axpy(__VA_ARGS__))
#define npu_matmul(...)		OK(_npu_matmul(__VA_ARGS__))
#define npu_chase(...)		OK(_npu_chase(__VA_ARGS__))
#define npu_gather(...)		OK(_npu_gather(__VA_ARGS__))
#define npu_scatter(...)	OK(_npu_scatter(__VA_ARGS__))
#define npu_atomic_add(...)	OK(_npu_atomic_add(__VA_ARGS__))
#define npu_dirty(...)		OK(_npu_dirty(__VA_ARGS__))
#define npu_unbind(...)		OK(_npu_unbind(__VA_ARGS__))
#define npu_bind(...)		OK(_npu_bind(__VA_ARGS__))

#define gmem_map(...)		OK(_gmem_map(__VA_ARGS__))
#define gmem_map_err(err, ...)	FAILS(err, _gmem_map(__VA_ARGS__))
#define gmem_map_shape(...)	OK(_gmem_map_shape(__VA_ARGS__))
#define gmem_smaps(...)		OK(_gmem_smaps(__VA_ARGS__))
#define gmem_page_out(...)	OK(_gmem_page_out(__VA_ARGS__))
#define gmem_hnode_set(...)	OK(_gmem_hnode_set(__VA_ARGS__))
#define gmem_write_file(...)	OK(_gmem_write_file(__VA_ARGS__))

/* Every byte of @p equals @shadow; says where the first difference is. */
#define ASSERT_SAME(shadow, p, len) \
	ASSERT_EQ((size_t)(len), gmem_diff(shadow, p, len))
#define ASSERT_ZERO(p, len) \
	ASSERT_EQ((size_t)(len), gmem_nonzero(p, len))

/* All pages of a range are on @node; GMEM_ANY_NODE means the host. */
#define ASSERT_ON(node, p, len) \
	ASSERT_EQ((len) / SZ_4K, gmem_pages_on(p, len, node))

/* For FIXTURE_TEARDOWN_PARENT: the process is gone, so are its pages. */
#define EXPECT_NO_DEVICE_PAGES() \
	EXPECT_TRUE(gmem_hnodes_idle())

static int gmem_test_main(int argc, char **argv, const char *about)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help")) {
			char *help[] = { argv[0], (char *)"-h", NULL };

			fprintf(stderr, "%s\n\n", about);
			test_harness_run(2, help);
			fprintf(stderr,
				"\nEnvironment:\n"
				"\tGMEM_NPU         which device comes first, 0\n"
				"\tGMEM_TEST_SCALE  percent of the work: 100, or 15\n"
				"\t                 on a kernel with lockdep\n"
				"\tGMEM_TEST_SEED   seed of the random tests\n");
			return KSFT_PASS;
		}
		if (!strcmp(argv[i], "-l") || !strcmp(argv[i], "-h"))
			return test_harness_run(argc, argv);
	}
	if (!npu_count()) {
		printf("1..0 # SKIP no /dev/gmem-npu*\n");
		return KSFT_SKIP;
	}
	return test_harness_run(argc, argv);
}

/* @about: what the program tests, for --help. */
#define GMEM_TEST_MAIN(about) \
	int main(int argc, char **argv) \
	{ \
		return gmem_test_main(argc, argv, about); \
	}

#endif /* GMEM_TEST_H */
