// SPDX-License-Identifier: GPL-2.0
/*
 * The name of a run: what goes in comes out, at every boundary.
 */
#include <kunit/test.h>

#include "../gmem.h"

static const unsigned int orders[] = { 0, GM_ORDER_64K, GM_ORDER_2M };
static const unsigned int hnodes[] = {
	0, 1, 2, 255, 256, GM_MAX_HNODES / 2, GM_MAX_HNODES - 1,
};

static void check_loc(struct kunit *test, unsigned int hnode,
		      unsigned long dpfn, unsigned int order)
{
	unsigned long loc = gm_loc(hnode, dpfn, order);

	KUNIT_ASSERT_EQ(test, gm_loc_hnode(loc), hnode);
	KUNIT_ASSERT_EQ(test, gm_loc_dpfn(loc), dpfn);
	KUNIT_ASSERT_EQ(test, gm_loc_order(loc), order);
	KUNIT_ASSERT_NE(test, loc, GM_LOC_NONE);
	KUNIT_ASSERT_EQ(test, xa_to_value(xa_mk_value(loc)), loc);
}

/* Around every power of two, at both ends and for every hnode and order. */
static void loc_round_trip(struct kunit *test)
{
	unsigned int h, o, bit;

	for (h = 0; h < ARRAY_SIZE(hnodes); h++) {
		for (o = 0; o < ARRAY_SIZE(orders); o++) {
			unsigned long step = 1UL << orders[o];
			unsigned long last = BIT(GM_LOC_DPFN_BITS) - step;

			check_loc(test, hnodes[h], 0, orders[o]);
			check_loc(test, hnodes[h], last, orders[o]);
			for (bit = orders[o]; bit < GM_LOC_DPFN_BITS; bit++) {
				check_loc(test, hnodes[h], BIT(bit), orders[o]);
				check_loc(test, hnodes[h], BIT(bit) - step,
					  orders[o]);
			}
		}
	}
}

/* No part of the name reaches into another part. */
static void loc_parts_are_apart(struct kunit *test)
{
	unsigned long zero = gm_loc(0, 0, 0);
	unsigned long hnode = gm_loc(GM_MAX_HNODES - 1, 0, 0) ^ zero;
	unsigned long dpfn = gm_loc(0, BIT(GM_LOC_DPFN_BITS) - 1, 0) ^ zero;
	unsigned long order = gm_loc(0, 0, GM_ORDER_2M) ^ zero;

	KUNIT_EXPECT_EQ(test, hnode & dpfn, 0);
	KUNIT_EXPECT_EQ(test, hnode & order, 0);
	KUNIT_EXPECT_EQ(test, dpfn & order, 0);
	KUNIT_EXPECT_EQ(test, (hnode | dpfn | order) & zero, 0);
	/* An xarray value has a bit less than a word. */
	KUNIT_EXPECT_LE(test, hnode | dpfn | order | zero, (unsigned long)LONG_MAX);
}

static struct kunit_case loc_cases[] = {
	KUNIT_CASE(loc_round_trip),
	KUNIT_CASE(loc_parts_are_apart),
	{}
};

static struct kunit_suite loc_suite = {
	.name = "gmem_loc",
	.test_cases = loc_cases,
};

kunit_test_suite(loc_suite);
