// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: operations that fail on request, for tests.
 *
 * Each directory of /sys/kernel/debug/gmem-npu is a fault attribute, as
 * Documentation/fault-injection/fault-injection.rst has them, and applies to
 * all devices.  The calls also count for /proc/PID/fail-nth.
 */
#include <linux/debugfs.h>

#include "npu.h"

static struct fault_attr npu_fail_attrs[NPU_NR_FAILS] = {
	[0 ... NPU_NR_FAILS - 1] = FAULT_ATTR_INITIALIZER,
};

static const char * const npu_fail_names[NPU_NR_FAILS] = {
	[NPU_FAIL_PMAP_CREATE]	= "fail_pmap_create",
	[NPU_FAIL_PMAP_PREPARE]	= "fail_pmap_prepare",
	[NPU_FAIL_PEER_MAP]	= "fail_peer_map",
	[NPU_FAIL_COPY]		= "fail_copy",
};

static struct dentry *npu_fail_dir;

/**
 * npu_fail() - shall this call fail?
 * @what: operation
 *
 * Context: Any context.
 * Return: true when it shall.
 */
bool npu_fail(enum npu_fail what)
{
	return should_fail(&npu_fail_attrs[what], 1);
}

/**
 * npu_fail_init() - make the attributes
 *
 * Context: Process context, from the module's init.
 */
void npu_fail_init(void)
{
	unsigned int i;

	npu_fail_dir = debugfs_create_dir("gmem-npu", NULL);
	for (i = 0; i < NPU_NR_FAILS; i++)
		fault_create_debugfs_attr(npu_fail_names[i], npu_fail_dir,
					  &npu_fail_attrs[i]);
}

/**
 * npu_fail_exit() - the reverse of npu_fail_init()
 *
 * Context: Process context.
 */
void npu_fail_exit(void)
{
	debugfs_remove(npu_fail_dir);
}
