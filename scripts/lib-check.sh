# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by the checks that compile single files: object trees of their own in
# build/check, so that no kernel that boots is built anew because of them.

CHECK=$BUILD/check
cc=gcc
! command -v ccache > /dev/null || cc="ccache gcc"

# check_make DIR TREE ARGUMENT...: says what the tools say, and nothing else.
check_make()
{
	local dir=$CHECK/$1 tree=$2

	shift 2
	make -s --no-print-directory -C "$tree" "O=$dir" "CC=$cc" \
		"HOSTCC=$cc" -j"$JOBS" "$@" < /dev/null 2>&1
}

# check_configure DIR TREE [FRAGMENT...]: what no fragment names is off.
check_configure()
{
	local name=$1 dir=$CHECK/$1 tree=$2 log=$LOG/check-config-$1.log want

	shift 2
	want=$(cat "$@" <(find "$tree" -name 'Kconfig*' -print0 | sort -z |
		xargs -0 sha256sum) | sha256sum)
	stamp_ok "$dir/.gmem-config" "$want" && return
	say CONFIG "$name"
	mkdir -p "$dir"
	{
		check_make "$name" "$tree" allnoconfig
		if [ $# -gt 0 ]; then
			(cd "$dir" && "$tree/scripts/kconfig/merge_config.sh" \
				-n -Q -O "$dir" "$@")
			check_make "$name" "$tree" olddefconfig
		fi
	} > "$log" 2>&1 || {
		show_failure "$log"
		die "cannot configure $name"
	}
	[ $# = 0 ] ||
		"$ROOT/scripts/kernel-config-verify.sh" "$dir/.config" "$@" ||
		die "$name lacks requested symbols (listed above)"
	# What single files need of the tree, hosttools above all.
	check_make "$name" "$tree" prepare > "$log" || {
		show_failure "$log"
		die "cannot prepare $name"
	}
	echo "$want" > "$dir/.gmem-config"
}

# check_fragments: sets fragments to the configuration with everything of ours.
check_fragments()
{
	mkdir -p "$CHECK"
	echo CONFIG_GMEM_KUNIT_TEST=y > "$CHECK/tests.config"
	# shellcheck disable=SC2034 # for the caller
	fragments=("$ROOT/configs/base.config" "$ROOT/configs/gmem.config"
		"$CHECK/tests.config")
}
