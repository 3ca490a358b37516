#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetch Debian's source package of QEMU through a private apt root and unpack
# it to build/qemu-src.  The machine's own sources are read, with deb turned
# into deb-src, and nothing of the system's apt configuration is changed.
set -eu
. "$(dirname "$0")/lib.sh"

DEST=$BUILD/qemu-src
APT=$BUILD/apt

[ ! -f "$DEST/.complete" ] || exit 0
lock qemu
[ ! -f "$DEST/.complete" ] || exit 0

# Entries of a .sources file (deb822 stanzas, blank line between) or of a
# .list file that have "deb" in them, as deb-src; options and keys stay.
to_source()
{
	case $1 in
	*.sources)
		awk 'BEGIN { RS = ""; FS = "\n" }
		     /(^|\n)Enabled:[ \t]*(no|false|0)/ { next }
		     /(^|\n)Types:/ {
			sub(/Types:[^\n]*/, "Types: deb-src")
			print $0 "\n"
		     }' "$1"
		;;
	*)
		sed -nE 's/^[[:space:]]*deb(-src)?([[:space:]])/deb-src\2/p' \
			"$1" | sort -u
		;;
	esac
}

rm -rf "$APT" "$BUILD/qemu-src.tmp"
mkdir -p "$APT/parts" "$APT/lists/partial" "$APT/cache/archives/partial"
mkdir -p "$BUILD/qemu-src.tmp"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
	case $file in
	*.list | *.sources)
		[ -f "$file" ] || continue
		to_source "$file" > "$APT/parts/$(basename "$file")"
		;;
	esac
done
[ -n "$(cat "$APT"/parts/* 2>/dev/null)" ] ||
	die "no package source in /etc/apt; set QEMU= to a QEMU with gmem-npu"

cat > "$APT/apt.conf" <<-CONF
	Dir::Etc::sourcelist "/dev/null";
	Dir::Etc::sourceparts "$APT/parts";
	Dir::State::lists "$APT/lists";
	Dir::Cache "$APT/cache";
	APT::Sandbox::User "root";
	Acquire::Retries "3";
	Acquire::Languages "none";
CONF
export APT_CONFIG=$APT/apt.conf

say FETCH "the source package of qemu"
{
	# A third-party entry without sources must not stop Debian's own.
	apt-get update || true
	cd "$BUILD/qemu-src.tmp" && apt-get source --only-source qemu
} > "$LOG/qemu-source.log" 2>&1 || {
	show_failure "$LOG/qemu-source.log"
	die "cannot fetch the source package of qemu"
}

tree=$(find "$BUILD/qemu-src.tmp" -mindepth 1 -maxdepth 1 -type d -name 'qemu-*')
[ -n "$tree" ] || die "the source package of qemu did not unpack"
rm -rf "$DEST"
touch "$tree/.complete"
mv "$tree" "$DEST"
rm -rf "$BUILD/qemu-src.tmp" "$APT"
