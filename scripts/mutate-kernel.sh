#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate-kernel.sh VARIANT [NAME]: build the kernel VARIANT with all mutations
# that lie within functions and compile, to be chosen from by gm_mutation=, or
# with the mutation NAME alone in its place; and an image to boot it with.  Fails
# with status 3 when NAME does not compile.
#
# To be called in the mount namespace of mutate-guest.sh.
set -eu
. "$(dirname "$0")/lib.sh"

VARIANT=$1
NAME=${2:-}
# What uses each header that the queue changes.
USERS=(mm/gmem/ mm/memory.o mm/mmap.o mm/debug.o kernel/fork.o
	fs/proc/task_mmu.o)
# Numbers of those that do not compile, with the hashes they have then.
WITHOUT=$BUILD/mutate/without

compile()
{
	rm -f "$BUILD/kernel/$VARIANT/.gmem-built"
	"$ROOT/scripts/kernel-build.sh" "$VARIANT" "$@" \
		> "$LOG/mutate.build.log" 2>&1
}

# In place again whatever the last one changed, by content.
restore()
{
	rm -f "$BUILD"/linux/.gmem/{tree,queue}
	"$ROOT/scripts/kernel-tree.sh" > "$LOG/mutate.tree.log"
}

identity()
{
	echo "$(cat "$BUILD/mutate/id") $(sha256sum < "$WITHOUT")"
}

weave()
{
	local bad

	touch "$WITHOUT"
	awk -F'\t' 'FILENAME != ARGV[1] {
		if ($0 in now)
			print
		next
	}
	{ now[$6 " " $7] }' "$BUILD/mutate/list" "$WITHOUT" > "$WITHOUT.new"
	mv "$WITHOUT.new" "$WITHOUT"
	stamp_ok "$BUILD/kernel/$VARIANT/.mutate" "$(identity)" && return
	rm -f "$BUILD/kernel/$VARIANT/.mutate"
	while :; do
		restore
		"$ROOT/scripts/mutations.py" weave "$BUILD/linux" "$WITHOUT"
		compile && break
		bad=$(awk '/: In function / {
				number = ""
				if (match($0, /_mut[0-9]+/))
					number = substr($0, RSTART + 4,
							RLENGTH - 4)
			}
			/ error: / && number { print number }' \
			"$LOG/kernel-$VARIANT.log" | sort -u)
		[ -n "$bad" ] || {
			show_failure "$LOG/kernel-$VARIANT.log"
			die "the kernel with all mutations does not compile"
		}
		awk -F'\t' 'NR == FNR { bad[$1]; next }
			$6 in bad { print $6, $7 }' - "$BUILD/mutate/list" \
			<<< "$bad" >> "$WITHOUT"
	done
	identity > "$BUILD/kernel/$VARIANT/.mutate"
}

if [ -z "$NAME" ]; then
	weave
else
	rm -f "$BUILD/kernel/$VARIANT/.mutate"
	restore
	"$ROOT/scripts/mutations.py" apply "$NAME" "$BUILD/linux"
	# What does not compile shows it soon, and not in half the kernel.
	compile "${USERS[@]}" || exit 3
	compile || exit 3
fi
"$ROOT/scripts/guest-image.sh" "$VARIANT" tests > "$LOG/mutate.image.log" 2>&1
