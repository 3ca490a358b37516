#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench-figures.sh FILE: the figures among what the benchmarks printed, lines
# "NAME VALUE UNIT".
set -eu

exec sed -nE \
	's/^([A-Za-z][A-Za-z0-9_.-]*)[ \t]+(-?[0-9.]+)[ \t]+([^ ]+)$/\1 \2 \3/p' \
	"$1"
