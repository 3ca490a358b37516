#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# count-hooks.sh: how many lines the patch queue adds to and takes from the
# kernel's own files, file by file.
set -eu
. "$(dirname "$0")/lib.sh"

cd "$ROOT/patches"
mapfile -t queue < <(grep -vE '^[[:space:]]*(#|$)' series)

# A hunk's header says how many lines of it to expect, so that a removed line
# that begins with "-- " is not taken for the next file.
awk '
old <= 0 && new <= 0 && /^\+\+\+ / {
	file = $2
	sub(/^[^\/]*\//, "", file)
	next
}
/^@@ / && old <= 0 && new <= 0 {
	old = $2 ~ /,/ ? substr($2, index($2, ",") + 1) : 1
	new = $3 ~ /,/ ? substr($3, index($3, ",") + 1) : 1
	next
}
old > 0 || new > 0 {
	sign = substr($0, 1, 1)
	if (sign == "+") {
		added[file]++
		new--
	} else if (sign == "-") {
		removed[file]++
		old--
	} else if (sign != "\\") {
		old--
		new--
	}
	seen[file] = 1
}
function kind(file) {
	if (file ~ /^Documentation\//)
		return "documentation"
	if (file ~ /(Kconfig|Makefile)$/)
		return "build"
	return "code"
}
END {
	sort = "sort -k3"
	for (file in seen) {
		line = sprintf("%5d %5d  %s", added[file], removed[file], file)
		print line | sort
		k = kind(file)
		plus[k] += added[file]
		minus[k] += removed[file]
		files[k]++
		plus["all"] += added[file]
		minus["all"] += removed[file]
		files["all"]++
	}
	close(sort)
	split("code build documentation all", order, " ")
	for (i = 1; i <= 4; i++) {
		k = order[i]
		printf "%5d %5d  %s, %d files\n", plus[k], minus[k], k,
			files[k]
	}
}' "${queue[@]}"
