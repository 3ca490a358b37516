/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_GMEM_TESTS_FAKE_H
#define _MM_GMEM_TESTS_FAKE_H

#include <linux/gmem.h>

/* Maps everything, copies nothing. */
extern const struct gm_mmu gm_fake_mmu;

#endif /* _MM_GMEM_TESTS_FAKE_H */
