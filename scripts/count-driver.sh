#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# count-driver.sh: lines of the sample driver that are neither blank nor
# comment, by what they are for, and those of npu-hmm, which has the same files
# but for the part that talks to GMEM and does that part's work itself.  Fails
# when the part that talks to GMEM, the operations apart, has grown to 70 lines
# or more, or to more than a quarter of what takes its place in npu-hmm, and when
# a file belongs to no part.
set -eu
. "$(dirname "$0")/lib.sh"

BAR=70
SHARE=4
DRIVER=drivers/gmem-sample-npu
PEER=bench/npu-hmm
TESTS=tools/testing/selftests/gmem

# Which part of the driver a file is.
part()
{
	case ${1##*/} in
	gmem.c)			echo 'GMEM-facing' ;;
	mmu.c | copy.c)		echo 'MMU operations' ;;
	pci.c | hw.c | queue.c | job.c | fault.c | npu.h | gmem_npu_regs.h)
				echo 'hardware access' ;;
	cdev.c | gmem_npu_uapi.h)
				echo 'char device' ;;
	fail.c)			echo 'fault injection' ;;
	*)			return 1 ;;
	esac
}

# The same of npu-hmm.  What only the benchmarks need is left out.
peer_part()
{
	case ${1##*/} in
	door.c | npu_hmm_uapi.h)
		echo 'npu-hmm, prefetch device' ;;
	*)	echo 'npu-hmm, in the place of GMEM' ;;
	esac
}

# A line counts when something is left of it without comments.  Comment marks
# in string literals do not occur here.
code_lines()
{
	awk '
	{
		line = $0
		rest = ""
		while (line != "") {
			if (inside) {
				at = index(line, "*/")
				if (!at)
					break
				line = substr(line, at + 2)
				inside = 0
				continue
			}
			at = match(line, /\/\*|\/\//)
			if (!at) {
				rest = rest line
				break
			}
			rest = rest substr(line, 1, at - 1)
			if (substr(line, at, 2) == "//")
				break
			line = substr(line, at + 2)
			inside = 1
		}
		if (rest ~ /[^[:space:]]/)
			count++
	}
	END { print count + 0 }' "$1"
}

cd "$ROOT"
declare -A sum=()
for file in "$DRIVER"/*.[ch]; do
	name=$(part "$file") || die "$file belongs to no part"
	lines=$(code_lines "$file")
	sum[$name]=$((${sum[$name]:-0} + lines))
	printf '%6d  %-16s %s\n' "$lines" "$name" "$file"
done
for file in "$PEER"/*.[ch]; do
	name=$(peer_part "$file")
	lines=$(code_lines "$file")
	sum[$name]=$((${sum[$name]:-0} + lines))
	printf '%6d  %-16s %s\n' "$lines" 'npu-hmm' "$file"
done
for file in "$TESTS"/*.[ch]; do
	[ -e "$file" ] || continue
	lines=$(code_lines "$file")
	sum[tests]=$((${sum[tests]:-0} + lines))
done

for name in 'GMEM-facing' 'MMU operations' 'hardware access' 'char device' \
	    'fault injection' 'npu-hmm, in the place of GMEM' \
	    'npu-hmm, prefetch device' tests; do
	printf '%6d  %s\n' "${sum[$name]:-0}" "$name"
done
[ "${sum[GMEM-facing]:-0}" -gt 0 ] || die "no GMEM-facing part found"
[ "${sum[GMEM-facing]}" -lt "$BAR" ] ||
	die "the GMEM-facing part must stay under $BAR lines"

ours=${sum[GMEM-facing]}
theirs=${sum['npu-hmm, in the place of GMEM']}
both=${sum['MMU operations']}
awk -v a="$ours" -v b="$theirs" -v c="$both" 'BEGIN {
	printf "memory management: %d lines on GMEM, %d without: 1/%.1f\n",
		a, b, b / a
	printf "with the operations, which both have: %d and %d: 1/%.1f\n",
		a + c, b + c, (b + c) / (a + c)
}'
[ $((ours * SHARE)) -le "$theirs" ] ||
	die "on GMEM it must be at most 1/$SHARE of what it is without"
