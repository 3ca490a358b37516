#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Make build/linux: the kernel source with the overlay and the patch queue
# laid over it.  The identity of the result is left in build/linux/.gmem/tree.
set -eu
. "$(dirname "$0")/lib.sh"

TREE=$BUILD/linux
# Below the source tree these directories belong to the overlay alone: what
# vanishes here vanishes there.  "from:to"
DIRS=(
	mm/gmem:mm/gmem
	kunit:mm/gmem/tests
	drivers/gmem-sample-npu:drivers/gmem-sample-npu
	tools/testing/selftests/gmem:tools/testing/selftests/gmem
	Documentation/gmem:Documentation/gmem
)

overlay_hash()
{
	cd "$ROOT" && hash_tree mm kunit drivers include patches \
		tools/testing/selftests Documentation/gmem
}

lay()
{
	local pair from to exclude

	for pair in "${DIRS[@]}"; do
		from=$ROOT/${pair%%:*}
		to=$TREE/${pair##*:}
		exclude=()
		[ "${pair%%:*}" != mm/gmem ] || exclude=(--exclude /tests)
		if [ -d "$from" ]; then
			mkdir -p "$to"
			rsync -rlp --checksum --delete "${exclude[@]}" \
				"$from/" "$to/"
		elif [ -d "$to" ]; then
			rm -rf "$to"
		fi
	done

	# Single files among the kernel's own: remember them to remove them.
	(cd "$ROOT" && find include -type f 2>/dev/null | sort) \
		> "$TREE/.gmem/files.new"
	if [ -f "$TREE/.gmem/files" ]; then
		comm -23 "$TREE/.gmem/files" "$TREE/.gmem/files.new" |
			(cd "$TREE" && xargs -r rm -f)
	fi
	rsync -rlp --checksum --files-from="$TREE/.gmem/files.new" \
		"$ROOT/" "$TREE/"
	mv "$TREE/.gmem/files.new" "$TREE/.gmem/files"
}

# settled: the tree is what the sources make of it now.
settled()
{
	[ -f "$TREE/.gmem/origin" ] || return 1
	want="$(cat "$TREE/.gmem/origin") $(overlay_hash)"
	stamp_ok "$TREE/.gmem/tree" "$want"
}

"$ROOT/scripts/kernel-source.sh" -n "$TREE" && settled && exit 0
lock tree
"$ROOT/scripts/kernel-source.sh" "$TREE"
settled && exit 0

rm -f "$TREE/.gmem/tree"
lay
"$ROOT/scripts/kernel-patches.sh" "$TREE"
echo "$want" > "$TREE/.gmem/tree"
