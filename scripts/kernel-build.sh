#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel-build.sh VARIANT [TARGET...]: configure and build a kernel in
# build/kernel/VARIANT, out of the source tree, or no more of it than TARGETs.
#
#   base   what `make run` and `make test` boot
#   debug  base with the checkers on
#   kcsan  base with the checker for data races
#   bench  what the benchmarks measure
#   plain  the unpatched kernel in the configuration of bench
#   mutate what `make mutate` breaks: base with the unit tests
set -eu
. "$(dirname "$0")/lib.sh"

VARIANT=$1
shift
part=$#
[ $# != 0 ] || set -- bzImage modules
OUT=$BUILD/kernel/$VARIANT
TREE=$BUILD/linux
STAMP=$OUT/.gmem-built

case $VARIANT in
base)	fragments=(base gmem) steps=1500 ;;
debug)	fragments=(base gmem debug) steps=1600 ;;
kcsan)	fragments=(base gmem kcsan) steps=1500 ;;
mutate)	fragments=(base gmem mutate) steps=1500 ;;
bench)	fragments=(base gmem bench) steps=1400 ;;
plain)	fragments=(base bench) steps=1400 TREE=$BUILD/linux-plain ;;
*)	die "unknown variant $VARIANT" ;;
esac

if [ "$VARIANT" = plain ]; then
	lock plain
	"$ROOT/scripts/kernel-source.sh" "$TREE"
	id=$(cat "$TREE/.gmem/origin")
else
	"$ROOT/scripts/kernel-tree.sh"
	id=$(cat "$TREE/.gmem/tree")
fi

files=()
for name in "${fragments[@]}"; do
	[ "$name" != gmem ] || grep -q gmem/Kconfig "$TREE/mm/Kconfig" ||
		continue
	files+=("$ROOT/configs/$name.config")
done
want="$id $(cat "$0" "${files[@]}" | sha256sum | cut -d' ' -f1)"
stamp_ok "$STAMP" "$want" && [ -f "$OUT/arch/x86/boot/bzImage" ] && exit 0

lock "kernel-$VARIANT"
mkdir -p "$OUT"

# The same input gives the same bytes, which ccache and the benchmarks need.
export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 +0000'
export KBUILD_BUILD_USER=gmem KBUILD_BUILD_HOST=gmem KBUILD_BUILD_VERSION=1
make=(make -C "$TREE" "O=$OUT")
if command -v ccache > /dev/null; then
	make+=("CC=ccache gcc" "HOSTCC=ccache gcc")
fi

configure()
{
	cd "$OUT"
	# Links the source for merge_config.sh, which runs a make of its own.
	"${make[@]}" allnoconfig
	# -n keeps off whatever no fragment names, defaults included.
	"$TREE/scripts/kconfig/merge_config.sh" -n -Q -O "$OUT" "${files[@]}"
	"${make[@]}" olddefconfig
}

# The configuration is made anew when a fragment or a Kconfig file may have
# changed, but replaces the old one only if it differs, for its time's sake.
config=$({
	cat "$TREE/.gmem/origin" "${files[@]}"
	[ "$VARIANT" = plain ] || cat "$TREE/.gmem/queue"
	find "$ROOT/mm" "$ROOT/drivers" -name Kconfig -exec cat {} +
} | sha256sum | cut -d' ' -f1)
if [ ! -f "$OUT/.config" ] || ! stamp_ok "$OUT/.gmem-config" "$config"; then
	say CONFIG "$VARIANT kernel"
	rm -f "$OUT/.gmem-config"
	[ ! -f "$OUT/.config" ] || cp -p "$OUT/.config" "$OUT/.config.last"
	configure > "$LOG/config-$VARIANT.log" 2>&1 || {
		show_failure "$LOG/config-$VARIANT.log"
		die "cannot configure the $VARIANT kernel"
	}
	if cmp -s "$OUT/.config" "$OUT/.config.last"; then
		mv "$OUT/.config.last" "$OUT/.config"
	fi
	echo "$config" > "$OUT/.gmem-config"
fi
"$ROOT/scripts/kernel-config-verify.sh" "$OUT/.config" "${files[@]}" ||
	die "the $VARIANT kernel lacks requested symbols (listed above)"

say BUILD "$VARIANT kernel, -j$JOBS"
run_logged "$VARIANT" "kernel-$VARIANT" '^  [A-Z]+ ' "$steps" \
	"${make[@]}" -j"$JOBS" "$@"
[ "$part" != 0 ] || echo "$want" > "$STAMP"
