#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# peer-build.sh VARIANT [ARGUMENT...]: build bench/npu-hmm as a module for the
# kernel VARIANT, in build/peer/VARIANT; ARGUMENTs go to make.  Outside of the
# kernel tree, so that nothing in it refers to a driver that is there to be
# compared with.
set -eu
. "$(dirname "$0")/lib.sh"

VARIANT=$1
shift
KERNEL=$BUILD/kernel/$VARIANT
OUT=$BUILD/peer/$VARIANT
TREE=$BUILD/linux

[ -f "$KERNEL/Module.symvers" ] || die "there is no $VARIANT kernel"
mkdir -p "$OUT"
lock tree -s
lock "peer-$VARIANT"
rsync -rlp --checksum "$ROOT/bench/npu-hmm/" "$OUT/"

cc=gcc
! command -v ccache > /dev/null || cc="ccache gcc"
log=$LOG/peer-$VARIANT.log
make -C "$TREE" "O=$KERNEL" "M=$OUT" "CC=$cc" -j"$JOBS" "$@" modules \
	> "$log" 2>&1 || {
	show_failure "$log"
	die "cannot build bench/npu-hmm"
}
