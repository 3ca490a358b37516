#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# stage.sh NAME LOG COMMAND...: run one stage of the tests.  Its results are
# those of the KTAP in LOG, after COMMAND, and go to build/results/NAME as
# "passed failed skipped"; a COMMAND that fails though no result did is one
# failure more.  Fails if anything did, or if there was no result at all.
set -eu
. "$(dirname "$0")/lib.sh"

NAME=$1
OUT=$2
shift 2

mkdir -p "$BUILD/results"
rm -f "$OUT" "$BUILD/results/$NAME"

rc=0
"$@" || rc=$?
[ -f "$OUT" ] || : > "$OUT"
read -r passed failed skipped < <("$ROOT/scripts/ktap.sh" "$OUT")
if [ "$rc" != 0 ] && [ "$failed" = 0 ]; then
	failed=1
elif [ $((passed + failed + skipped)) = 0 ]; then
	echo "$NAME: no test ran" >&2
	failed=1
fi
echo "$passed $failed $skipped" > "$BUILD/results/$NAME"
say RESULT "$NAME: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
