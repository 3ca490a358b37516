#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench-guard.sh [write]: boot the plain kernel where one instruction takes one
# nanosecond, run the programs that need no other driver, and set their figures
# against bench/baseline: a result in the TAP of build/log/bench-guard.out for
# each, which failed when it is more than 2 % worse.  A figure that is in one of
# the two only has failed as well.  Another compiler or another kernel makes
# other code, so nothing can be said then, and all is skipped.
#
# With the argument "write", make the baseline of what was measured.
set -eu
. "$(dirname "$0")/lib.sh"

TOLERANCE=2
PROGRAMS=nodevice,move,size
BASELINE=$ROOT/bench/baseline
OUT=$LOG/bench-guard.out
FIGURES=$LOG/bench-guard.figures

# What the figures depend on besides this tree.
made_with()
{
	local kernel=$BUILD/kernel/base

	printf 'Linux %s, %s\n' \
		"$(cat "$kernel/include/config/kernel.release")" \
		"$(sed -nE 's/^CONFIG_CC_VERSION_TEXT="(.*)"$/\1/p' \
			"$kernel/.config")"
}

measure()
{
	ACCEL=icount TIMEOUT=${TIMEOUT:-900} SHOW='^# (SKIP|exit)' \
		"$ROOT/scripts/guest-boot.sh" bench-guard-run base bench \
		guest.only=$PROGRAMS
	"$ROOT/scripts/bench-figures.sh" "$LOG/bench-guard-run.out" > "$FIGURES"
	[ -s "$FIGURES" ] || die "the programs printed no figure"
}

write_baseline()
{
	{
		echo "# What make bench-guard measured, see Documentation/gmem/"
		echo "# performance.rst.  Written by make bench-baseline with"
		echo "# $1"
		cat "$FIGURES"
	} > "$BASELINE"
	say BASELINE "$(wc -l < "$FIGURES") figures in ${BASELINE#"$ROOT"/}"
}

# A percentage is a share, of which more is better; of all else less is.
compare()
{
	awk -v tolerance="$TOLERANCE" '
	function result(good, name, text) {
		printf "%sok %d - %s %s\n", good ? "" : "not ", ++results,
			name, text
	}
	FNR == NR {
		if (!/^#/)
			base[$1] = $2
		next
	}
	!($1 in base) {
		result(0, $1, $2 " " $3 ", not in the baseline")
		next
	}
	{
		change = base[$1] ? 100 * ($2 - base[$1]) / base[$1] : 0
		worse = $3 == "%" ? -change : change
		how = worse > 0 ? "worse" : worse < 0 ? "better" : "same"
		text = $2 " " $3 ", baseline " base[$1] ", " how
		if (worse)
			text = text sprintf(" by %.2f %%",
					    worse < 0 ? -worse : worse)
		result(worse <= tolerance, $1, text)
		delete base[$1]
	}
	END {
		for (name in base)
			result(0, name, "in the baseline only")
		printf "1..%d\n", results
	}' "$BASELINE" "$FIGURES"
}

with=$(made_with)
if [ "${1:-}" = write ]; then
	measure
	write_baseline "$with"
	exit
fi
[ -f "$BASELINE" ] || die "there is no ${BASELINE#"$ROOT"/}"
if ! grep -qxF "# $with" "$BASELINE"; then
	echo "ok 1 - bench-guard # SKIP the baseline was not made with $with" |
		tee "$OUT"
	exit
fi
measure
compare > "$OUT"
# What has not changed need not be shown.
grep -v ', same$' "$OUT" || true
! grep -q '^not ok' "$OUT"
