#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate-guest.sh VARIANT KIND BATCH VERDICTS [NAME]: boot the kernel VARIANT,
# one that has all mutations or NAME alone, and try those in the file BATCH, see
# scripts/guest/init.  VERDICTS gets what mutations.py judge says; those that
# the guest did not come to are not in it.
#
# To be called in a mount namespace of its own: copies take the places of the
# directories that the other scripts use, so that nothing that is broken here is
# ever found there.
set -eu
. "$(dirname "$0")/lib.sh"

VARIANT=$1
KIND=$2
BATCH=$3
VERDICTS=$4
NAME=${5:-}

for dir in linux kernel guest log; do
	mount --bind "$BUILD/mutate/$dir" "$BUILD/$dir"
done

rc=0
"$ROOT/scripts/mutate-kernel.sh" "$VARIANT" ${NAME:+"$NAME"} || rc=$?
if [ "$rc" = 3 ]; then
	error=$(grep -ohE -m1 \
		'error: .*|undefined reference to .*|lacks requested symbols' \
		"$LOG/mutate.build.log" "$LOG/kernel-$VARIANT.log" | head -n 1)
	printf '%s\t-\tunbuilt\t%s\n' "$NAME" "$error" > "$VERDICTS"
	exit 0
fi
[ "$rc" = 0 ] || exit "$rc"

# Those that turned out not to compile are not in the kernel.
: > "$VERDICTS.unbuilt"
[ -n "$NAME" ] || awk 'FILENAME == ARGV[1] { bad[$1]; next } $2 in bad {
	print $1 "\t-\tunbuilt\tits function does not compile"
}' "$BUILD/mutate/without" "$BATCH" > "$VERDICTS.unbuilt"

dir=$BUILD/guest/batch
mkdir -p "$dir"
awk -F'[\t ]' 'FILENAME == ARGV[1] { bad[$1]; next } !($1 in bad)' \
	"$VERDICTS.unbuilt" "$BATCH" > "$dir/batch"
(cd "$dir" && echo batch | cpio -o -H newc --quiet | gzip -n -1) \
	> "$dir.cpio.gz"

# A program that gets no processor must not be taken for one that hangs.
limit=300
[ "$VARIANT" != debug ] || limit=900
words=("guest.timeout=$limit"
	"sysctl.kernel.hung_task_timeout_secs=$((limit / 5))"
	sysctl.kernel.hung_task_panic=1 softlockup_panic=1 oops=panic)
# A claim that a test is about a hook is looked at in full.
[ "$KIND" = hunk ] || words+=(panic_on_warn=1)
# A suite can run again when it ran at boot, which takes its time.
suites=$(cut -d' ' -f4 "$BATCH" | tr , '\n' | sed -n 's/^gmem_\(.\).*/\1/p' |
	sort -u | tr -d '\n')
if [ -n "$suites" ]; then
	words+=("kunit.filter_glob=gmem_[$suites]*")
else
	words+=(kunit.enable=0)
fi
tests=$(tr ' ' ',' < "$BATCH" | tr -cd , | wc -c)
rm -f "$LOG/mutate.kernel.log.bad"
MORE=$dir.cpio.gz TIMEOUT=$((60 + limit + tests * limit / 16)) \
	"$ROOT/scripts/guest-boot.sh" mutate "$VARIANT" mutate "${words[@]}" \
	> "$LOG/mutate.boot.log" 2>&1 || true
"$ROOT/scripts/mutations.py" judge "$LOG/mutate.out" \
	"$LOG/mutate.kernel.log" | cat "$VERDICTS.unbuilt" - > "$VERDICTS"
