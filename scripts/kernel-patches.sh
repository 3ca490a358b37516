#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel-patches.sh DIR: bring the files that the patch queue touches in DIR to
# the state of patches/.  The queue is pushed onto copies of the pristine files
# and the result copied over: DIR never sees a queue half applied, and a file
# that comes out as it was keeps its time, so that only what really changed is
# compiled again.
set -eu
. "$(dirname "$0")/lib.sh"

DIR=$1
STATE=$DIR/.gmem
STAGE=$STATE/stage
PRISTINE=$STATE/pristine
export QUILT_PATCHES=$ROOT/patches QUILT_PC=.pc
SERIES=$QUILT_PATCHES/series

queue=$(hash_tree "$QUILT_PATCHES")
stamp_ok "$STATE/queue" "$queue" && exit 0

if [ -f "$SERIES" ]; then
	count=$(grep -cvE '^[[:space:]]*(#|$)' "$SERIES" || true)
else
	count=0
fi

# Save each file before the queue touches it for the first time.
mkdir -p "$PRISTINE"
touch "$STATE/created"
if [ "$count" -gt 0 ]; then
	find "$QUILT_PATCHES" -name '*.patch' -exec sed -nE \
		's,^(---|\+\+\+) [^/]+/([^[:space:]]+).*,\2,p' {} + | sort -u
fi | while IFS= read -r name; do
	[ -f "$DIR/$name" ] || continue
	[ ! -e "$PRISTINE/$name" ] || continue
	! grep -qxF "$name" "$STATE/created" || continue
	mkdir -p "$PRISTINE/$(dirname "$name")"
	cp -p "$DIR/$name" "$PRISTINE/$name.tmp"
	mv "$PRISTINE/$name.tmp" "$PRISTINE/$name"
done

rm -rf "$STAGE"
cp -a "$PRISTINE" "$STAGE"
if [ "$count" -gt 0 ]; then
	say PATCH "$count patches"
	cd "$STAGE"
	quilt --quiltrc - push -a --fuzz=0 > "$LOG/patches.log" 2>&1 || {
		{
			echo "The patch queue does not apply to this source:"
			awk '/^Applying patch / { patch = $3 }
			     /^patching file / { file = $3 }
			     /FAILED|malformed|find file|does not exist/ {
				print "  " patch ": " file ": " $0
			     }' "$LOG/patches.log"
			echo "(full log: $LOG/patches.log)"
		} >&2
		exit 1
	}
	cd "$DIR"
	rm -rf "$STAGE/.pc"
fi

# Files that the last queue created and this one does not go, and those that
# this one deletes; the others come.
{
	cat "$STATE/created"
	(cd "$PRISTINE" && find . -type f -printf '%P\n')
} | while IFS= read -r name; do
	[ -e "$STAGE/$name" ] || rm -f "$DIR/$name"
done
(cd "$STAGE" && find . -type f -printf '%P\n') | while IFS= read -r name; do
	[ -e "$PRISTINE/$name" ] || echo "$name"
done > "$STATE/created.new"
mv "$STATE/created.new" "$STATE/created"
rsync -rlp --checksum "$STAGE/" "$DIR/"
rm -rf "$STAGE"
echo "$queue" > "$STATE/queue"
