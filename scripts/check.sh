#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run each scripts/check-*.sh in turn; each is one result in the TAP of
# build/log/check.out.  Exit status 4 of a check means that it was skipped.
set -eu
. "$(dirname "$0")/lib.sh"

OUT=$LOG/check.out
status=0
number=0

: > "$OUT"
for check in "$ROOT"/scripts/check-*.sh; do
	[ -x "$check" ] || continue
	name=$(basename "$check" .sh)
	number=$((number + 1))
	say CHECK "${name#check-}"
	rc=0
	"$check" || rc=$?
	case $rc in
	0) echo "ok $number - $name" ;;
	4) echo "ok $number - $name # SKIP" ;;
	*)
		echo "not ok $number - $name"
		status=1
		;;
	esac >> "$OUT"
	[ "$rc" = 0 ] || [ "$rc" = 4 ] || say FAILED "${name#check-}"
done
exit $status
