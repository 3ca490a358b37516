#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-config.sh: every file that the patch queue touches compiles without a
# warning with CONFIG_GMEM on and off and in allnoconfig (32 bit).  How the
# objects without CONFIG_GMEM differ in size from those of the unpatched source
# is printed.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-check.sh"

TREE=$BUILD/linux
PLAIN=$BUILD/linux-plain
FOUND=$LOG/check-config.found

"$ROOT/scripts/kernel-tree.sh"
lock plain
"$ROOT/scripts/kernel-source.sh" "$PLAIN"
lock tree -s
lock check
check_fragments

# Two more have no line of the queue, but a header or a table that has.
mapfile -t objects < <(
	{
		sed -n 's,^+++ b/\(.*\)\.c$,\1.o,p' "$ROOT"/patches/*.patch
		echo arch/x86/entry/syscall_64.o
		echo mm/debug.o
	} | sort -u
)

# configured DIR: those of the objects that the configuration in DIR has.
configured()
{
	local object name makefile symbol

	for object in "${objects[@]}"; do
		name=${object##*/}
		makefile=$TREE/${object%/*}/Makefile
		symbol=$(sed -nE "s/^obj-\\\$\((CONFIG_[A-Z0-9_]+)\).*[ \t]${name}( .*)?\$/\1/p" \
			"$makefile" | head -n 1)
		[ -z "$symbol" ] ||
			grep -q "^$symbol=y" "$CHECK/$1/.config" || continue
		case $name in
		*_64.o)
			grep -q '^CONFIG_64BIT=y' "$CHECK/$1/.config" ||
				name=${name/_64/_32}
			;;
		esac
		echo "${object%/*}/$name"
	done
}

status=0
# compile DIR TREE [FRAGMENT...]
compile()
{
	local name=$1 tree=$2 list

	check_configure "$@"
	mapfile -t list < <(configured "$name")
	check_make "$name" "$tree" "${list[@]}" > "$FOUND" || status=1
	if [ -s "$FOUND" ]; then
		status=1
		cat "$FOUND"
	fi
	say COMPILE "$name: ${#list[@]} objects, $(grep -cE '(error|warning): ' \
		"$FOUND" || true) findings"
}

compile y "$TREE" "${fragments[@]}"
compile n "$TREE" "$ROOT/configs/base.config"
compile allno "$TREE"
compile plain "$PLAIN" "$ROOT/configs/base.config"
[ "$status" = 0 ] || exit 1

# Text and data in bytes, unpatched and patched.
for object in "${objects[@]}"; do
	read -r text data _ < <(size "$CHECK/plain/$object" | tail -n 1)
	read -r text_n data_n _ < <(size "$CHECK/n/$object" | tail -n 1)
	echo "$object $text $text_n $data $data_n"
done | awk '
{
	for (i = 2; i <= 5; i++)
		sum[i] += $i
	if ($2 != $3 || $4 != $5)
		printf "           %-24s text %d -> %d, data %d -> %d\n",
			$1, $2, $3, $4, $5
}
END {
	printf "  SIZE     %d objects without CONFIG_GMEM: ", NR
	printf "text %d -> %d, data %d -> %d\n", sum[2], sum[3], sum[4], sum[5]
}'
