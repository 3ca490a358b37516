#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# help.sh MAKEFILE: print the targets that carry a "## text", by group.
set -eu

echo 'GMEM for Linux: one address space for CPUs and accelerators'
awk -F ':.*## ' '
/^##@ / {
	printf "\n%s\n", substr($0, 5)
	next
}
/^[a-z][a-z-]*:.*## / {
	printf "  %-14s %s\n", $1, $2
}' "$1"
cat <<'END'

Variables
  KSRC=PATH      kernel source, a 6.12.y directory or tarball, only read
  QEMU=PATH      a QEMU binary that has the gmem-npu device
  ACCEL=kvm      boot with KVM; the default is tcg, which works everywhere
  TESTS=PATTERN  only the guest programs whose name matches, as in TESTS=abi
  MUT=PATTERN    only the mutations whose name matches, as in MUT='recall-*'
  JOBS=N         parallel jobs, all processors by default
  SECONDS=N      how long make soak runs, 600 by default
  SEED=N         what make soak begins with, by default the time
  KERNEL=debug   make soak on the kernel with all checkers
END
