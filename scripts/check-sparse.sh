#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-sparse.sh: compile what is ours, the unit tests and bench/npu-hmm
# included, with the compiler's further warnings (W=1) and sparse (C=2).
# Neither may say anything, but for what sparse cannot know of pte_offset_map().
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib-check.sh"

TREE=$BUILD/linux
FOUND=$LOG/check-sparse.found
DIRS=(mm/gmem drivers/gmem-sample-npu)

# Reads what is said and leaves out the "context imbalance" of functions that
# call pte_offset_map() or one of its kind: those take a lock only if they
# succeed, which sparse does not see; it says the same of core MM.
judge()
{
	local report file function

	while IFS= read -r report; do
		report=${report#"$TREE"/}
		if [[ $report =~ context\ imbalance\ in\ \'([a-z_0-9]+)\' ]]; then
			function=${BASH_REMATCH[1]}
			file=$TREE/${report%%:*}
			awk -v name="$function" '
			/^[a-z]/ && $0 ~ "[ *]" name "\\(" { inside = 1 }
			inside && /pte_offset_map[a-z_]*\(/ { found = 1 }
			/^}/ { inside = 0 }
			END { exit !found }' "$file" && continue
		fi
		printf '%s\n' "$report"
	done
}

"$ROOT/scripts/kernel-tree.sh"
lock tree -s
lock check
check_fragments
check_configure y "$TREE" "${fragments[@]}"

rc=0
check_make y "$TREE" W=1 C=2 "${DIRS[@]/%//}" > "$FOUND.all" || rc=$?
# A module of its own, which no kernel has to be linked for to look at it.
rsync -rlp --checksum "$ROOT/bench/npu-hmm/" "$CHECK/npu-hmm/"
check_make y "$TREE" "M=$CHECK/npu-hmm" W=1 C=2 npu_hmm.o >> "$FOUND.all" ||
	rc=$?
judge < "$FOUND.all" > "$FOUND"
cat "$FOUND"
cd "$CHECK/y"
count=$(find "${DIRS[@]}" ../npu-hmm -name '*.o' | wc -l)
found=$(grep -cE '(error|warning): ' "$FOUND" || true)
say SPARSE "$count objects, $found findings"
[ "$rc" = 0 ] && [ ! -s "$FOUND" ]
