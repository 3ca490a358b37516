#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-shell.sh: shellcheck on every shell script, found by name or by its
# first line.
set -eu
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
mapfile -t scripts < <(
	find . \( -path ./build -o -path ./.git \) -prune -o -type f \
		-size -200k -print | sort | while IFS= read -r file; do
		case $file in
		*.sh)
			echo "$file"
			;;
		*)
			read -r line 2> /dev/null < "$file" || continue
			[[ $line =~ ^#!.*[/\ ](busybox\ )?(ba|da|k)?sh([[:space:]]|$) ]] &&
				echo "$file"
			;;
		esac
	done
)

rc=0
shellcheck -x -P "$ROOT/scripts" -f gcc "${scripts[@]}" || rc=$?
for script in "${scripts[@]}"; do
	# A library is sourced, the others go on after an error on purpose.
	case $script in
	*/lib.sh | */lib-*.sh | */guest/init | */.ci/run) continue ;;
	esac
	grep -q '^set -eu' "$script" || {
		echo "$script: there is no 'set -eu'"
		rc=1
	}
done
say SHELL "${#scripts[@]} scripts"
exit "$rc"
