#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build and run the qtests of the gmem-npu model, which drive its registers
# without a kernel.  Their TAP goes to build/log/npu-test.out.
set -eu
. "$(dirname "$0")/lib.sh"

QEMU_OUT=$BUILD/qemu
OUT=$LOG/npu-test.out
status=0

mapfile -t tests < <(find "$ROOT/qemu/tests" -name '*-test.c' -printf '%f\n' \
	2>/dev/null | sed 's/\.c$//' | sort)
[ "${#tests[@]}" -gt 0 ] || die "there is no qtest in qemu/tests"

"$ROOT/scripts/qemu-build.sh"
say BUILD "${tests[*]}"
ninja -C "$QEMU_OUT" -j"$JOBS" "${tests[@]/#/tests/qtest/}" \
	> "$LOG/npu-test-build.log" 2>&1 || {
	show_failure "$LOG/npu-test-build.log"
	die "cannot build the qtests"
}

: > "$OUT"
for test in "${tests[@]}"; do
	echo "# program: $test" >> "$OUT"
	rc=0
	(
		cd "$QEMU_OUT"
		QTEST_QEMU_BINARY=./qemu-system-x86_64 \
			timeout -k 10 600 "tests/qtest/$test" --tap -k
	) 2> "$LOG/$test.log" | tee -a "$OUT" | grep -E '^(not )?ok ' ||
		rc=${PIPESTATUS[0]}
	echo "# exit: $test $rc" >> "$OUT"
	if [ "$rc" != 0 ]; then
		tail -n 20 "$LOG/$test.log" >&2
		status=1
	fi
done
exit $status
