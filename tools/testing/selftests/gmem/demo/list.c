// SPDX-License-Identifier: GPL-2.0
/*
 * A search tree as any program would build it, node by node with malloc().
 * HMADV_SHARE makes the heap it lies in shared; nothing is copied or moved to
 * other addresses by the program.  The device follows the thread through the
 * nodes in the order of their keys, and then changes some of them.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

#define CHANGE	77	/* what the device adds to some values */

struct node {
	struct node *left, *right;
	struct node *next;	/* in the order of the keys */
	uint64_t key;
	uint64_t value;
	char *name;		/* another object of the heap */
};

static struct node *new_node(uint64_t key)
{
	struct node *node = malloc(sizeof(*node));

	if (!node)
		return NULL;
	node->left = NULL;
	node->right = NULL;
	node->next = NULL;
	node->key = key;
	node->value = key * key + 1;
	/* Objects of other sizes lie in between, as in any heap. */
	node->name = malloc(key % 200 + 1);
	if (node->name)
		memset(node->name, (int)(key & 0x7f), key % 200 + 1);
	return node->name ? node : NULL;
}

static struct node *insert(struct node *root, struct node *node)
{
	struct node **at = &root;

	while (*at)
		at = node->key < (*at)->key ? &(*at)->left : &(*at)->right;
	*at = node;
	return root;
}

/* Thread the tree; returns the first node. */
static struct node *thread(struct node *node, struct node *after)
{
	if (!node)
		return after;
	node->next = thread(node->right, after);
	return thread(node->left, node);
}

/* The pages of the heap that have nodes. */
static void *heap_of(struct node *first, size_t *len)
{
	uintptr_t start = ~0UL, end = 0;
	struct node *node;

	for (node = first; node; node = node->next) {
		uintptr_t p = (uintptr_t)node;

		start = p < start ? p : start;
		end = p + sizeof(*node) > end ? p + sizeof(*node) : end;
	}
	start = start / SZ_4K * SZ_4K;
	end = (end + SZ_4K - 1) / SZ_4K * SZ_4K;
	*len = end - start;
	return (void *)start;
}

/* Every field of every node, against what it was made of. */
static int check(struct node *first, uint64_t nr)
{
	struct node *node;
	uint64_t key = 0, i;

	for (node = first; node; node = node->next, key++) {
		uint64_t value = key * key + 1;

		if (key % 1000 == 0)
			value += CHANGE;
		if (node->key != key || node->value != value)
			return demo_fail("a node is wrong", 0);
		for (i = 0; i < key % 200 + 1; i++) {
			if (node->name[i] != (char)(key & 0x7f))
				return demo_fail("a name is wrong", 0);
		}
	}
	return key == nr ? 0 : demo_fail("a node is missing", 0);
}

static int walk(struct demo *demo, struct node *first, uint64_t nr,
		uint64_t want)
{
	struct npu_result res;
	int err;

	err = _npu_chase(&demo->npu, first, offsetof(struct node, next),
			 offsetof(struct node, value), nr + 1, &res);
	if (err)
		return demo_fail("chase job", err);
	return res.value == want ? 0 : demo_fail("the sum is wrong", 0);
}

/* The device changes every thousandth node in place. */
static int change(struct demo *demo, uint64_t **values, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		int err = _npu_atomic_add(&demo->npu, values[i], CHANGE, 1,
					  NULL);

		if (err)
			return demo_fail("add job", err);
	}
	return 0;
}

int demo_list(struct demo *demo)
{
	uint64_t nr = gmem_scaled(40000), i, sum = 0, rnd = 88172645463325252ULL;
	uint64_t *keys = malloc(nr * sizeof(*keys));
	uint64_t **values = malloc((nr / 1000 + 1) * sizeof(*values));
	struct node *root = NULL, *first, *node;
	size_t nr_values = 0, len;
	void *heap;
	int err;

	/* One heap, not a mapping for each large object. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	if (!keys || !values)
		return demo_fail("no memory", 0);
	for (i = 0; i < nr; i++) {
		uint64_t j = gmem_random(&rnd) % (i + 1);

		keys[i] = keys[j];
		keys[j] = i;
	}
	for (i = 0; i < nr; i++) {
		node = new_node(keys[i]);
		if (!node)
			return demo_fail("no memory", 0);
		root = insert(root, node);
		if (node->key % 1000 == 0)
			values[nr_values++] = &node->value;
		sum += keys[i] * keys[i] + 1;
	}
	free(keys);
	first = thread(root, NULL);

	heap = heap_of(first, &len);
	demo->bytes = len;
	err = _hmadvise(GMEM_ANY_NODE, heap, len, HMADV_SHARE);
	if (err)
		return demo_fail("hmadvise", err);
	if (demo_start(demo) || walk(demo, first, nr, sum))
		return 1;
	/* What the device changes it sees itself, and then the CPU does. */
	sum += nr_values * CHANGE;
	if (change(demo, values, nr_values) || walk(demo, first, nr, sum))
		return 1;
	err = _hmadvise(GMEM_ANY_NODE, heap, len, HMADV_PREFETCH);
	if (err)
		return demo_fail("hmadvise", err);
	free(values);
	return demo_stop(demo) || check(first, nr);
}
