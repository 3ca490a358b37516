// SPDX-License-Identifier: GPL-2.0
/*
 * Binding npu-hmm, and its ioctls.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "npu-hmm/npu_hmm_uapi.h"
#include "peer.h"

/* In /proc/PID/pagemap: not present, and of what type the entry is. */
#define PM_SWAP			(1ULL << 62)
#define PM_TYPE(word)		((word) & 0x1f)
/* Swap space has the types up to MAX_SWAPFILES, special entries the rest. */
#define PM_FIRST_SPECIAL	20

#define PEERS			8

bool peer_load(void)
{
	return bench_load("/modules/npu_hmm.ko");
}

/* Only npu-hmm may have it from now on. */
static void steer(const char *device)
{
	char path[320];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", device);
	if (_gmem_write_file(path, "hmm-npu"))
		bench_die("%s: %m", path);
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", device);
	/* It may have none. */
	_gmem_write_file(path, device);
}

bool peer_bind_last(void)
{
	char device[256];

	bench_find_npu(device, sizeof(device), true);
	steer(device);
	if (!peer_load())
		return false;
	/* Nothing happens when loading has bound it. */
	_gmem_write_file("/sys/bus/pci/drivers_probe", device);
	return true;
}

int _peer_open(struct npu *npu, unsigned int number)
{
	struct gmem_npu_info info = { .size = sizeof(info) };
	char path[32];
	int err = 0;

	snprintf(path, sizeof(path), "/dev/hmm-npu%u", number);
	npu->number = number;
	npu->fd = open(path, O_RDWR | O_CLOEXEC);
	if (npu->fd < 0)
		return errno;
	if (ioctl(npu->fd, GMEM_NPU_INFO, &info)) {
		err = errno;
		npu_close(npu);
	}
	npu->hnid = info.hnid;
	npu->mem_size = info.mem_size;
	return err;
}

/* Opened once: that is no part of what a move costs. */
static int door(unsigned int number)
{
	static int doors[PEERS];
	char path[32];

	if (number >= PEERS)
		return -1;
	if (!doors[number]) {
		snprintf(path, sizeof(path), "/dev/hmm-npu%u-move", number);
		doors[number] = open(path, O_RDWR | O_CLOEXEC);
	}
	return doors[number];
}

static int move_ioctl(const struct npu *npu, unsigned long cmd, void *arg)
{
	return ioctl(door(npu->number), cmd, arg) ? errno : 0;
}

int _peer_prefetch(const struct npu *npu, const void *p, size_t len,
		   bool to_dev)
{
	struct npu_hmm_move move = { .start = (uintptr_t)p, .len = len };

	return move_ioctl(npu, to_dev ? NPU_HMM_TO_DEV : NPU_HMM_TO_HOST,
			  &move);
}

int _peer_copy(const struct npu *npu, size_t len, uint64_t *insn,
	       uint64_t *tlb_insn)
{
	struct npu_hmm_copy copy = { .bytes = len };
	int err = move_ioctl(npu, NPU_HMM_COPY, &copy);

	*insn = copy.insn;
	*tlb_insn = copy.tlb_insn;
	return err;
}

size_t peer_pages_on_dev(const void *p, size_t len)
{
	size_t at, found = 0;
	uint64_t word;

	for (at = 0; at < len; at += SZ_4K) {
		word = gmem_pagemap((const char *)p + at);
		found += word & PM_SWAP && PM_TYPE(word) >= PM_FIRST_SPECIAL;
	}
	return found;
}
