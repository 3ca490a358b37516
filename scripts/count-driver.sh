#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# count-driver.sh: lines of the sample driver that are neither blank nor
# comment, by what they are for.  Fails when the part that talks to GMEM, the
# operations apart, has grown to 70 lines or more, and when a file belongs to
# no part.
set -eu
. "$(dirname "$0")/lib.sh"

BAR=70
DRIVER=drivers/gmem-sample-npu
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
for file in "$TESTS"/*.[ch]; do
	[ -e "$file" ] || continue
	lines=$(code_lines "$file")
	sum[tests]=$((${sum[tests]:-0} + lines))
done

for name in 'GMEM-facing' 'MMU operations' 'hardware access' 'char device' \
	    'fault injection' tests; do
	printf '%6d  %s\n' "${sum[$name]:-0}" "$name"
done
[ "${sum[GMEM-facing]:-0}" -gt 0 ] || die "no GMEM-facing part found"
[ "${sum[GMEM-facing]}" -lt "$BAR" ] ||
	die "the GMEM-facing part must stay under $BAR lines"
