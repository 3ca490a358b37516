#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# matrix-doc.sh [LOG]: put the operation matrix that a run of the selftests
# printed into the documentation; the last run if no LOG is given.
set -eu
. "$(dirname "$0")/lib.sh"

FROM=${1:-$LOG/selftest.out}
TO=$ROOT/Documentation/gmem/matrix.txt

[ -r "$FROM" ] || die "no $FROM; run make selftest TESTS=matrix"
table=$(sed -n '/^# matrix: begin/,/^# matrix: end/{
	/^# matrix: /d
	s/^# \{0,1\}//
	s/ *$//
	p
}' "$FROM")
[ -n "$table" ] || die "$FROM has no matrix"
! grep -q '!' <(sed -n '/^operation/,/^$/p' <<< "$table") ||
	die "$FROM has cells that are wrong"
printf '%s\n' "$table" > "$TO"
say WRITE "${TO#"$ROOT"/}"
