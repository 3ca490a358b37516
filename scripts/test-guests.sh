#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-guests.sh DEBUG-TESTS STAGE...: run the STAGEs one after the other, and
# the stage "debug" with DEBUG-TESTS beside them, since no guest uses all of two
# processors.  What that one prints comes at the end.
set -eu
. "$(dirname "$0")/lib.sh"

tests=$1
shift

# A job in the background does not hear of Ctrl-C by itself.
trap 'trap - INT TERM; kill 0' INT TERM
make debug TESTS="$tests" > "$LOG/debug.stage" 2>&1 &
for stage; do
	make "$stage" || true
done
wait
cat "$LOG/debug.stage"
