#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# queue-check.sh: push the patch queue onto a fresh source tree one by one.
# Each patch must apply without fuzz, please checkpatch, say what it is for,
# and leave every file that the queue touches compiling without CONFIG_GMEM.
# With all of them in, the same files must compile with it.
set -eu
. "$(dirname "$0")/lib.sh"

DIR=$BUILD/queue
TREE=$DIR/linux
PATCHES=$ROOT/patches
SELFTESTS=$ROOT/tools/testing/selftests/gmem
export QUILT_PATCHES=$PATCHES QUILT_PC=.pc
export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 +0000'
quilt=(quilt --quiltrc -)
cc=(CC=gcc HOSTCC=gcc)
if command -v ccache > /dev/null; then
	cc=("CC=ccache gcc" "HOSTCC=ccache gcc")
fi
errors=0

complain()
{
	printf '%s: %s\n' "$1" "$2" >&2
	errors=$((errors + 1))
}

run_make()
{
	local out=$1

	shift
	nice make -s -C "$TREE" "O=$out" "${cc[@]}" -j"$JOBS" "$@" \
		< /dev/null >> "$LOG/queue.log" 2>&1 || {
		show_failure "$LOG/queue.log"
		return 1
	}
}

# configure OUT FRAGMENT...
configure()
{
	local out=$1

	shift
	run_make "$out" allnoconfig
	"$TREE/scripts/kconfig/merge_config.sh" -m -Q -O "$out" \
		"$out/.config" "$@" >> "$LOG/queue.log"
	run_make "$out" olddefconfig
	"$ROOT/scripts/kernel-config-verify.sh" "$out/.config" "$@"
}

# What a header owes its reader; the named tests must exist.
check_header()
{
	local patch=$1 text=$PATCHES/$1 field name

	for field in 'Subject: ' 'Why: ' 'Status: ' 'Test: '; do
		grep -q "^$field" "$text" || complain "$patch" "no ${field% }"
	done
	while read -r name; do
		grep -qE "^TEST_F[A-Z_]*\(${name/./, *}[,)]|^NTH_TEST\(${name#failnth.}," \
			"$SELFTESTS"/*.c ||
			complain "$patch" "there is no test $name"
		grep -qwF "$name" "$ROOT/Documentation/gmem/hooks.rst" ||
			complain "$patch" "hooks.rst does not have $name"
	done < <(sed -n 's/^Test: \([a-z]*\.[a-z0-9_]*\)$/\1/p' "$text")
	(cd "$TREE" && scripts/checkpatch.pl --strict --quiet --no-summary \
		"$text") >&2 || complain "$patch" "checkpatch is not content"
}

lock queue
: > "$LOG/queue.log"
"$ROOT/scripts/kernel-source.sh" "$TREE"

cd "$TREE"
[ ! -s .pc/applied-patches ] || "${quilt[@]}" pop -a -f -q > /dev/null
rm -rf .pc
mkdir -p mm/gmem drivers/gmem-sample-npu
rsync -rlpt --checksum "$ROOT/include/" include/
rsync -rlpt --checksum --delete "$ROOT/mm/gmem/" mm/gmem/
rsync -rlpt --checksum --delete "$ROOT/drivers/gmem-sample-npu/" \
	drivers/gmem-sample-npu/

mapfile -t series < <(grep -vE '^[[:space:]]*(#|$)' "$PATCHES/series")
for patch in "$PATCHES"/*.patch; do
	patch=${patch##*/}
	printf '%s\n' "${series[@]}" | grep -qxF "$patch" ||
		complain "$patch" "is not in the series"
done

# The files of the queue, and two that include what is no .c file of it.
mapfile -t objects < <(
	{
		sed -n 's/^+++ b\/\(.*\)\.c$/\1.o/p' "${series[@]/#/$PATCHES/}"
		echo arch/x86/entry/syscall_64.o
		echo mm/debug.o
	} | sort -u
)

say COMPILE "${#objects[@]} files without the queue"
rm -rf "$DIR/n" "$DIR/y"
mkdir -p "$DIR/n" "$DIR/y"
configure "$DIR/n" "$ROOT/configs/base.config"
run_make "$DIR/n" "${objects[@]}"
mkdir "$DIR/n/before"
(cd "$DIR/n" && cp --parents "${objects[@]}" before)

number=0
for patch in "${series[@]}"; do
	number=$((number + 1))
	say PATCH "$number of ${#series[@]}: ${patch%.patch}"
	check_header "$patch"
	"${quilt[@]}" push --fuzz=0 >> "$LOG/queue.log" 2>&1 || {
		tail -n 20 "$LOG/queue.log" >&2
		die "$patch does not apply"
	}
	run_make "$DIR/n" olddefconfig
	run_make "$DIR/n" "${objects[@]}" || die "$patch does not compile"
done

# Not a failure: a compiler may reorder what means the same.
for object in "${objects[@]}"; do
	code=()
	for file in "$DIR/n/before/$object" "$DIR/n/$object"; do
		code+=("$(objdump -d "$file" | tail -n +4 | sha256sum)")
	done
	[ "${code[0]}" = "${code[1]}" ] ||
		say DIFFERS "$object without CONFIG_GMEM ($(size \
			"$DIR/n/before/$object" "$DIR/n/$object" |
			awk 'NR > 1 { print $1 }' | paste -sd' ' |
			sed 's/ / -> /') bytes of text)"
done

say COMPILE "the same files with CONFIG_GMEM=y"
configure "$DIR/y" "$ROOT/configs/base.config" "$ROOT/configs/gmem.config"
run_make "$DIR/y" "${objects[@]}" || die "the queue does not compile"

[ "$errors" = 0 ] || die "$errors complaints about the queue (above)"
say OK "${#series[@]} patches"
"$ROOT/scripts/count-hooks.sh" | tail -n 1
