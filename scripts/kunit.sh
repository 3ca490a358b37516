#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run the KUnit suites with the kernel's own tooling in a kernel of their own.
# The KTAP goes to build/log/kunit.out.
set -eu
. "$(dirname "$0")/lib.sh"

OUT=$BUILD/kernel/kunit
KTAP=$LOG/kunit.out
SELF=$(sha256sum < "$0")
QEMU=${QEMU:-$BUILD/qemu/qemu-system-x86_64}

"$ROOT/scripts/kernel-tree.sh"
lock kernel-kunit
mkdir -p "$OUT" "$BUILD/kunit-bin"

export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 +0000'
export KBUILD_BUILD_USER=gmem KBUILD_BUILD_HOST=gmem KBUILD_BUILD_VERSION=1
cc=gcc
! command -v ccache > /dev/null || cc="ccache gcc"

# kunit.py wants its QEMU in the path, under this name.
ln -sf "$(realpath "$QEMU")" "$BUILD/kunit-bin/qemu-system-x86_64"
export PATH=$BUILD/kunit-bin:$PATH

common=(--arch=x86_64 --build_dir="$OUT" --make_options="CC=$cc")
config=(--kunitconfig="$ROOT/kunit/.kunitconfig")

cd "$BUILD/linux"
want="$(cat .gmem/tree) $SELF"
if ! stamp_ok "$OUT/.gmem-built" "$want"; then
	say CONFIG "kunit kernel"
	python3 tools/testing/kunit/kunit.py config "${common[@]}" \
		"${config[@]}" > "$LOG/config-kunit.log" 2>&1 || {
		show_failure "$LOG/config-kunit.log"
		die "cannot configure the kunit kernel"
	}
	say BUILD "kunit kernel, -j$JOBS"
	# What kunit.py would build, with a progress line.
	run_logged kunit kernel-kunit '^  [A-Z]+ ' 1500 \
		make ARCH=x86_64 "O=$OUT" "CC=$cc" -j"$JOBS"
	echo "$want" > "$OUT/.gmem-built"
fi

say KUNIT "kunit.py run"
start=$SECONDS
rc=0
python3 tools/testing/kunit/kunit.py run "${common[@]}" "${config[@]}" \
	--kernel_args=no_timer_check \
	--jobs="$JOBS" --timeout=600 --raw_output=kunit \
	--qemu_args="-machine q35 -accel tcg -smp 2 -m 1536 -L /usr/share/qemu -L /usr/share/seabios" \
	> "$KTAP.raw" 2> "$LOG/kunit.log" || rc=$?
{
	echo "# program: kunit"
	sed -n '/^KTAP version/,$p' "$KTAP.raw"
	echo "# exit: kunit $rc"
} > "$KTAP"
grep -E '^ *(not )?ok [0-9]' "$KTAP" || cat "$LOG/kunit.log" >&2
say TIME "$((SECONDS - start)) s"
"$ROOT/scripts/guest-verdict.sh" "$OUT/test.log" ||
	die "the kernel complained, see $OUT/test.log"
exit $rc
