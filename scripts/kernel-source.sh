#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel-source.sh [-n] DIR: unpack the kernel source into DIR.  The source is
# Debian's linux-source-6.12 or KSRC=, a directory or a tarball, which is only
# read.  DIR appears complete or not at all.  With -n only tell by the exit
# status whether DIR is there and from this source.
set -eu
. "$(dirname "$0")/lib.sh"

check=
if [ "$1" = -n ]; then
	check=1
	shift
fi
DIR=$1
SRC=${KSRC:-/usr/src/linux-source-6.12.tar.xz}

[ -e "$SRC" ] || die "no kernel source at $SRC"
SRC=$(realpath "$SRC")
if [ -d "$SRC" ]; then
	[ -f "$SRC/Kbuild" ] || die "$SRC is no kernel source tree"
	origin="$SRC $(sha256sum < "$SRC/Makefile")"
	head=$(git -C "$SRC" rev-parse -q --verify HEAD 2>/dev/null || true)
	origin="$origin $head"
else
	origin="$SRC $(stat -c '%s %Y' "$SRC")"
fi

stamp_ok "$DIR/.gmem/origin" "$origin" && exit 0
[ -z "$check" ] || exit 1

say UNPACK "$SRC to ${DIR#"$ROOT"/}"
rm -rf "$DIR.tmp" "$DIR.old"
mkdir -p "$DIR.tmp"
if [ -d "$SRC" ]; then
	rsync -a --exclude /.git "$SRC/" "$DIR.tmp/"
	# Builds with O= refuse a tree that was built in place.
	if [ -f "$DIR.tmp/.config" ] || [ -d "$DIR.tmp/include/config" ]; then
		make -C "$DIR.tmp" mrproper > "$LOG/mrproper.log" 2>&1
	fi
else
	tar -C "$DIR.tmp" --strip-components=1 -xf "$SRC"
fi
version=$(make -s -C "$DIR.tmp" kernelversion)
case $version in
6.12 | 6.12.*) ;;
*) die "$SRC is Linux $version; the patch queue is made for 6.12.y" ;;
esac
mkdir -p "$DIR.tmp/.gmem"
echo "$origin" > "$DIR.tmp/.gmem/origin"
[ ! -d "$DIR" ] || mv "$DIR" "$DIR.old"
mv "$DIR.tmp" "$DIR"
rm -rf "$DIR.old"
