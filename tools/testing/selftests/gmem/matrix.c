// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation on memory, wherever the memory is: see matrix.h.
 *
 * One test is one operation for one page size, with a cell for each state and
 * race, on the whole buffer and on a part of it; with a race, which takes
 * longer, on one of the two.  In the end the matrix is printed, with one mark
 * for both.
 */
#include "gmem_test.h"

#include "matrix.h"

/* Percent of the cells that a run does which is not told how many. */
#define SHARE			10

enum { SIZE_4K, SIZE_64K, SIZE_2M, SIZE_THP, NR_SIZES };

/* Worst last: a mark of two cells is the greater one. */
enum mark {
	MARK_NONE,		/* did not run */
	MARK_SKIPPED,		/* makes no sense */
	MARK_OK,
	MARK_REFUSED,		/* as it should be; + errno */
	MARK_FAILED = 0x1000,
	MARK_RUNNING,		/* and did not come to an end */
};

static const struct matrix_op *const rows[] = {
#define MATRIX_ROW(op) &op_##op,
	MATRIX_OPS(MATRIX_ROW)
};

#define NR_ROWS		ARRAY_SIZE(rows)

/* Shared by the tests, which are processes. */
struct matrix {
	uint16_t mark[NR_ROWS][NR_STATES][NR_RACES][NR_SIZES];
	char reason[NR_ROWS][64];	/* for what makes no sense */
	uint32_t cells;
	uint32_t failed;
	uint64_t start_ms;
};

static struct matrix *matrix;
static pid_t matrix_pid;

static const char *const state_names[] = {
	"host", "device", "remote", "pinned", "mixed", "moving",
};

static const char *const race_names[] = { "alone", "CPU", "jobs" };

FIXTURE(matrix)
{
	struct cell *cell;
};

FIXTURE_VARIANT(matrix)
{
	struct gmem_shape shape;
	unsigned int size;
};

FIXTURE_VARIANT_ADD(matrix, 4k) {
	.shape = GMEM_SHAPE_4K, .size = SIZE_4K,
};

FIXTURE_VARIANT_ADD(matrix, 64k) {
	.shape = GMEM_SHAPE_64K, .size = SIZE_64K,
};

/* One block of 2 MiB is enough, there are thousands of cells. */
FIXTURE_VARIANT_ADD(matrix, 2m) {
	.shape = { .block = SZ_2M, .nr = 1 }, .size = SIZE_2M,
};

FIXTURE_VARIANT_ADD(matrix, 2m_thp) {
	.shape = { .block = SZ_2M, .nr = 1, .thp = true }, .size = SIZE_THP,
};

typedef FIXTURE_DATA(matrix) matrix_t;

FIXTURE_SETUP(matrix)
{
	self->cell = calloc(1, sizeof(*self->cell));
	ASSERT_NE(NULL, self->cell);
	OK(cell_init(self->cell, &variant->shape));
}

/* Whatever happened to the test, the next one finds the device as it was. */
FIXTURE_TEARDOWN_PARENT(matrix)
{
	struct npu npu;

	EXPECT_NO_DEVICE_PAGES();
	if (!_npu_open(&npu, 0)) {
		EXPECT_EQ(0, _gmem_hnode_set(npu.hnid, "limit",
					     gmem_hnode_get(npu.hnid,
							    "size")));
		npu_close(&npu);
	}
}

/* A share of the cells, another one in each row; all of them if asked to. */
static bool chosen(size_t row, unsigned int nr)
{
	unsigned long percent =
		gmem_scaled(getenv("GMEM_TEST_SCALE") ? 100 : SHARE);

	return (row * 37 + nr) * percent / 100 !=
	       (row * 37 + nr + 1) * percent / 100 || percent >= 100;
}

static void mark_cell(uint16_t *mark, uint16_t new)
{
	if (new > *mark)
		*mark = new;
}

static void one_cell(struct __test_metadata *_metadata, struct cell *c,
		     size_t row, uint16_t *mark)
{
	const char *why = c->op->skip ? c->op->skip(c) : NULL;
	uint16_t old = *mark;
	int ret;

	if (why) {
		snprintf(matrix->reason[row], sizeof(matrix->reason[row]),
			 "%s", why);
		mark_cell(mark, MARK_SKIPPED);
		return;
	}
	*mark = MARK_RUNNING;
	ret = cell_run(c);
	*mark = old;
	matrix->cells++;
	if (ret >= 0) {
		mark_cell(mark, ret ? MARK_REFUSED + ret : MARK_OK);
		return;
	}
	mark_cell(mark, MARK_FAILED);
	matrix->failed++;
	EXPECT_GE(ret, 0)
		TH_LOG("%s, %s, %s, %s: %s", c->op->name,
		       state_names[c->state], race_names[c->race],
		       c->part ? "part" : "whole", c->shared->why);
}

/* All cells of a row for one size. */
static void one_row(struct __test_metadata *_metadata, matrix_t *self,
		    unsigned int size, const struct matrix_op *op)
{
	struct cell *c = self->cell;
	unsigned int nr = 0, part;
	size_t row;

	for (row = 0; rows[row] != op; row++)
		;
	c->op = op;
	for (c->state = 0; c->state < NR_STATES; c->state++) {
		for (c->race = 0; c->race < NR_RACES; c->race++) {
			uint16_t *mark = matrix->mark[row][c->state][c->race];

			for (part = 0; part < 2; part++) {
				/* In one race the whole, in the other a part. */
				if (c->race != CELL_ALONE &&
				    (row + c->state + c->race + size) % 2 ==
				    part)
					continue;
				c->part = part;
				if (chosen(row, nr++))
					one_cell(_metadata, c, row,
						 &mark[size]);
			}
		}
	}
	cell_exit(c);
}

#define MATRIX_TEST(op) \
	TEST_F(matrix, op) \
	{ \
		one_row(_metadata, self, variant->size, &op_##op); \
	}

MATRIX_OPS(MATRIX_TEST)

/* --- the table ----------------------------------------------------------- */

static const struct {
	int err;
	char letter;
	const char *name;
} errors[] = {
	{ EINVAL, 'I', "EINVAL" }, { EFAULT, 'F', "EFAULT" },
	{ EEXIST, 'X', "EEXIST" }, { EBUSY, 'B', "EBUSY" },
	{ EAGAIN, 'A', "EAGAIN" }, { EPERM, 'P', "EPERM" },
};

static char letter(uint16_t mark)
{
	unsigned int i;

	switch (mark) {
	case MARK_NONE:
		return '.';
	case MARK_SKIPPED:
		return '-';
	case MARK_OK:
		return '+';
	case MARK_FAILED:
	case MARK_RUNNING:
		return '!';
	}
	for (i = 0; i < ARRAY_SIZE(errors); i++)
		if (errors[i].err == mark - MARK_REFUSED)
			return errors[i].letter;
	return '?';
}

static void print_row(size_t row)
{
	unsigned int state, race, size;

	printf("# %-27s", rows[row]->name);
	for (state = 0; state < NR_STATES; state++) {
		printf(" ");
		for (race = 0; race < NR_RACES; race++) {
			printf(" ");
			for (size = 0; size < NR_SIZES; size++)
				printf("%c", letter(matrix->mark[row][state]
							    [race][size]));
		}
	}
	printf("\n");
}

static void print_matrix(void)
{
	unsigned int state, i;
	size_t row;

	if (getpid() != matrix_pid || !matrix->cells)
		return;
	printf("#\n# matrix: begin\n# %-27s", "");
	for (state = 0; state < NR_STATES; state++)
		printf("  %-14s", state_names[state]);
	printf("\n# %-27s", "operation");
	for (state = 0; state < NR_STATES; state++)
		printf("  one  cpu  jobs");
	printf("\n");
	for (row = 0; row < NR_ROWS; row++)
		print_row(row);
	printf("#\n# The four marks are for 4K, 64K, 2M and huge pages.\n");
	printf("# + right  - makes no sense  . did not run  ! wrong; refused with");
	for (i = 0; i < ARRAY_SIZE(errors); i++)
		printf(" %c %s", errors[i].letter, errors[i].name);
	printf("\n");
	for (row = 0; row < NR_ROWS; row++) {
		if (matrix->reason[row][0])
			printf("# %s: -, because %s\n", rows[row]->name,
			       matrix->reason[row]);
	}
	printf("# matrix: end\n# %u cells, %u wrong, %llu s\n", matrix->cells,
	       matrix->failed, (unsigned long long)
	       (gmem_now_ms() - matrix->start_ms) / 1000);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	matrix = mmap(NULL, sizeof(*matrix), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (matrix == MAP_FAILED)
		return KSFT_FAIL;
	matrix->start_ms = gmem_now_ms();
	matrix_pid = getpid();
	atexit(print_matrix);
	return gmem_test_main(argc, argv,
			      "Every operation on memory, wherever it is.");
}
