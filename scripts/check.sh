#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run each scripts/check-*.sh in turn; each is one result in the TAP of
# build/log/check.out.  Exit status 4 of a check means that it was skipped.
#
# They look at nothing but the sources, so what has passed is not looked at
# again before a source or a tool changes; removing build/check/passed asks for
# it all the same.
set -eu
. "$(dirname "$0")/lib.sh"

OUT=$LOG/check.out
PASSED=$BUILD/check/passed
status=0
number=0

cd "$ROOT"
inputs=$(
	hash_tree .ci .gitignore ./*.md LICENSE Makefile Documentation bench \
		configs drivers include kunit mm model mutations patches qemu \
		scripts tools
	cat "$BUILD/linux/.gmem/origin" /var/lib/dpkg/status | sha256sum
	echo "${QEMU:-}"
)
if stamp_ok "$PASSED" "$inputs" && [ -f "$PASSED.out" ]; then
	cp "$PASSED.out" "$OUT"
	say KEPT "no source and no tool has changed since all checks passed"
	exit 0
fi
rm -f "$PASSED"
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
if [ "$status" = 0 ]; then
	cp "$OUT" "$PASSED.out"
	echo "$inputs" > "$PASSED"
fi
exit $status
