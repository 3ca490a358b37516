#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run the programs of bench/ where one instruction takes one nanosecond: twice
# on the patched kernel, where both runs must print the same figures, and once
# on the unpatched one, the peer of the figures that bench/bars says so of.  A
# figure is a line "NAME VALUE UNIT".  A figure that is short of its bar is
# reported, it is not an error.
#
# With the argument "quick", only the programs that need no unpatched kernel, in
# one boot.  The peer of a figure gmem.NAME is hmm.NAME of the same boot.
set -eu
. "$(dirname "$0")/lib.sh"

export ACCEL=icount TIMEOUT=${TIMEOUT:-900} SHOW='^# (SKIP|exit)'

# boot NAME VARIANT [WORD...]: leaves the figures in build/log/NAME.figures.
boot()
{
	"$ROOT/scripts/guest-boot.sh" "$1" "$2" bench "${@:3}" ||
		die "$1: see ${LOG#"$ROOT"/}/$1.out"
	"$ROOT/scripts/bench-figures.sh" "$LOG/$1.out" > "$LOG/$1.figures"
	[ -s "$LOG/$1.figures" ] || die "$1: the programs printed no figure"
}

if [ "${1:-}" = quick ]; then
	boot bench-1 bench guest.only=move,versus
	: > "$LOG/bench-plain.figures"
else
	boot bench-1 bench
	boot bench-2 bench
	boot bench-plain plain
	diff -u "$LOG/bench-1.figures" "$LOG/bench-2.figures" >&2 ||
		die "two runs gave different figures"
fi

# table BARS PLAIN PATCHED
table()
{
	awk '
	what == "bars" {
		if ($0 !~ /^#/ && NF >= 3) {
			# A pattern of the shell as a regular expression.
			gsub(/\./, "\\.", $1)
			gsub(/\*/, ".*", $1)
			pattern[++bars] = "^" $1 "$"
			kind[bars] = $2
			bar[bars] = $3
			least_insns[bars] = $4
		}
		next
	}
	what == "plain" {
		plain[$1] = $2
		next
	}
	# The figures of npu-hmm are the peers of those of the sample driver.
	what == "patched" {
		if (sub(/^hmm\./, "gmem.", $1))
			plain[$1] = $2
		next
	}
	/^hmm\./ {
		next
	}
	{
		peer = $1 in plain ? plain[$1] : ""
		ratio = limit = verdict = "-"
		for (i = 1; i <= bars; i++) {
			if ($1 !~ pattern[i])
				continue
			if (kind[i] == "least") {
				limit = ">= " bar[i] " " $3
				good = $2 >= bar[i]
			} else if (peer == "") {
				limit = "no peer"
				good = 0
			} else if (kind[i] == "peer") {
				limit = "<= " bar[i]
				split(bar[i], part, "/")
				good = $2 * part[2] <= peer * part[1]
			} else {
				limit = "<= " bar[i] " % or " least_insns[i]
				good = $2 - peer <= least_insns[i] ||
				       $2 - peer <= peer * bar[i] / 100
			}
			verdict = good ? "pass" : "SHORT"
			met += good
			judged++
		}
		if ($1 ~ /^gmem\./ && $2 > 0 && $2 < peer)
			ratio = sprintf("1/%.1f", peer / $2)
		else if ($1 ~ /^gmem\./ && peer > 0)
			ratio = sprintf("%.2f", $2 / peer)
		else if (peer != "" && peer > 0)
			ratio = sprintf("%+d (%+.2f %%)", $2 - peer,
					100 * ($2 - peer) / peer)
		printf "%-30s %10s %-17s %10s %-18s %-14s %s\n", $1, $2, $3,
			peer == "" ? "-" : peer, ratio, limit, verdict
	}
	END {
		printf "%d of %d bars met\n", met, judged
	}' what=bars "$1" what=plain "$2" what=patched "$3" what=table "$3"
}

echo
printf '%-30s %10s %-17s %10s %-18s %-14s %s\n' figure value unit against \
	ratio bar verdict
table "$ROOT/bench/bars" "$LOG/bench-plain.figures" "$LOG/bench-1.figures" |
	tee "$LOG/bench.table"
[ "${1:-}" = quick ] ||
	say SAME "$(wc -l < "$LOG/bench-1.figures") figures in both runs"
