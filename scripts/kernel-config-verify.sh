#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel-config-verify.sh CONFIG FRAGMENT...: fail, naming each, when a symbol
# that a fragment asks for (or asks to be off) came out differently; Kconfig
# drops a symbol with an unmet dependency without a word.  A later fragment
# overrides an earlier one.
set -eu

awk -v config="$1" '
function off(line) {
	return line ~ /^# CONFIG_[A-Za-z0-9_]+ is not set$/
}
FILENAME == config {
	if ($0 ~ /^CONFIG_/) {
		i = index($0, "=")
		got[substr($0, 1, i - 1)] = substr($0, i + 1)
	}
	next
}
off($0) {
	want[$2] = "n"
	from[$2] = FILENAME
	next
}
/^CONFIG_/ {
	i = index($0, "=")
	name = substr($0, 1, i - 1)
	want[name] = substr($0, i + 1)
	from[name] = FILENAME
}
END {
	for (name in want) {
		value = name in got ? got[name] : "n"
		if (value == want[name])
			continue
		printf "%s: %s=%s was asked for, the kernel has %s\n",
			from[name], name, want[name], value | "sort >&2"
		bad = 1
	}
	close("sort >&2")
	exit bad
}' "$@"
