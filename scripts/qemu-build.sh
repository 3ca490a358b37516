#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# qemu-build.sh [TARGET...]: lay the gmem-npu model into the QEMU source and
# build it in build/qemu, with nothing in it that the guest does not use.
set -eu
. "$(dirname "$0")/lib.sh"

SRC=$BUILD/qemu-src
OUT=$BUILD/qemu
STAMP=$OUT/.gmem-built
REGS=$ROOT/drivers/gmem-sample-npu/gmem_npu_regs.h
DEVICES=$ROOT/configs/qemu-devices.mak
BEGIN='# gmem-npu: begin'
END='# gmem-npu: end'

[ $# -gt 0 ] || set -- qemu-system-x86_64

"$ROOT/scripts/qemu-source.sh"

want="$* $(hash_tree "$ROOT/qemu" "$REGS" "$DEVICES" "$0")"
[ ! -x "$OUT/qemu-system-x86_64" ] || ! stamp_ok "$STAMP" "$want" || exit 0
lock qemu

# replace_block FILE: the text on stdin becomes FILE's gmem-npu block, which is
# appended if FILE has none; an unchanged file keeps its time.
replace_block()
{
	{
		sed "/^$BEGIN\$/,/^$END\$/d" "$1"
		printf '%s\n' "$BEGIN"
		cat
		printf '%s\n' "$END"
	} > "$1.new"
	if cmp -s "$1" "$1.new"; then
		rm "$1.new"
	else
		mv "$1.new" "$1"
	fi
}

# names DIR PATTERN: the quoted names of DIR's files for meson.
names()
{
	find "$1" -name "$2" -printf "'%f'\n" 2>/dev/null | sort | paste -sd,
}

# copy FROM TO: bring our files below FROM to the QEMU directory TO, and remove
# those there that are gone here.  Ours are known by their names.
copy()
{
	local file

	mkdir -p "$OUT.lay"
	find "$1" -name '*.[ch]' -exec cp -pt "$OUT.lay" {} + 2>/dev/null ||
		true
	# The model and its test read the registers of the driver's header.
	cp -p "$REGS" "$OUT.lay/"
	rsync -rp --checksum "$OUT.lay/" "$2/"
	for file in "$2"/gmem[-_]npu*; do
		[ -f "$OUT.lay/${file##*/}" ] || rm "$file"
	done
	rm -r "$OUT.lay"
}

lay()
{
	local model tests

	copy "$ROOT/qemu/hw" "$SRC/hw/misc"
	copy "$ROOT/qemu/tests" "$SRC/tests/qtest"
	model=$(names "$ROOT/qemu/hw" '*.c')
	tests=$(names "$ROOT/qemu/tests" '*-test.c')

	replace_block "$SRC/hw/misc/meson.build" <<-MESON
		softmmu_ss.add(when: 'CONFIG_GMEM_NPU', if_true: files($model))
	MESON
	replace_block "$SRC/hw/misc/Kconfig" <<-KCONFIG
		config GMEM_NPU
		    bool
		    depends on PCI && MSI_NONBROKEN
	KCONFIG

	# Tests are declared in the middle of a file: before the loop that makes
	# the programs, in a block of its own.
	sed "/^$BEGIN\$/,/^$END\$/d" "$SRC/tests/qtest/meson.build" |
		awk -v begin="$BEGIN" -v end="$END" -v tests="${tests//-test.c/-test}" '
		/^qtest_executables = / {
			print begin
			print "qtests_x86_64 += [" tests "]"
			print end
		}
		{ print }' > "$SRC/tests/qtest/meson.build.new"
	if cmp -s "$SRC/tests/qtest/meson.build"{,.new}; then
		rm "$SRC/tests/qtest/meson.build.new"
	else
		mv "$SRC/tests/qtest/meson.build"{.new,}
	fi

	rsync --checksum "$DEVICES" \
		"$SRC/configs/devices/x86_64-softmmu/gmem.mak"
}

options=(
	--target-list=x86_64-softmmu
	--without-default-features --without-default-devices
	--with-devices-x86_64=gmem
	--enable-tcg --enable-kvm --enable-fdt=system
	--disable-docs --disable-tools --disable-guest-agent --disable-werror
	--with-git-submodules=ignore --meson=/usr/bin/meson
)

configure()
{
	rm -rf "$OUT"
	mkdir -p "$OUT"
	cd "$OUT"
	"$SRC/configure" "${options[@]}"
	echo "${options[*]}" > "$OUT/.gmem-options"
}

lay
if [ ! -f "$OUT/build.ninja" ] ||
	! stamp_ok "$OUT/.gmem-options" "${options[*]}"
then
	say CONFIG "qemu"
	(configure) > "$LOG/qemu-config.log" 2>&1 || {
		show_failure "$LOG/qemu-config.log"
		die "cannot configure qemu"
	}
fi

say BUILD "qemu, -j$JOBS"
run_logged qemu qemu '^\[[0-9]+/[0-9]+\]' 1230 \
	ninja -C "$OUT" -j"$JOBS" "$@"
echo "$want" > "$STAMP"
