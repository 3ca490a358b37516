#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# total.sh STAGE...: add up the results of the stages and end with the line
# "N passed, N failed, N skipped".  A stage without a result did not run to its
# end, which is a failure.
set -eu
. "$(dirname "$0")/lib.sh"

total=(0 0 0)
echo
for stage in "$@"; do
	if [ -f "$BUILD/results/$stage" ]; then
		read -r passed failed skipped < "$BUILD/results/$stage"
	else
		passed=0 failed=1 skipped=0
		echo "$stage did not come to its end" >&2
	fi
	printf '  %-10s %4d passed %4d failed %4d skipped\n' "$stage" \
		"$passed" "$failed" "$skipped"
	total=($((total[0] + passed)) $((total[1] + failed))
		$((total[2] + skipped)))
done
printf '%d passed, %d failed, %d skipped\n' "${total[@]}"
[ "${total[1]}" = 0 ] && [ "${total[0]}" != 0 ]
