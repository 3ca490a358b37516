#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# deps.sh GROUP...: make sure that the Debian packages of each group are
# there.  As root the missing ones are installed, otherwise the command that
# installs them is printed and the step fails.
set -eu
. "$(dirname "$0")/lib.sh"

packages()
{
	case $1 in
	kernel)
		echo gcc libc6-dev make flex bison bc libelf-dev libssl-dev \
			cpio kmod rsync quilt xz-utils perl python3
		[ -n "${KSRC:-}" ] || echo linux-source-6.12
		;;
	qemu)
		echo seabios qemu-system-data
		[ -n "${QEMU:-}" ] || echo gcc libc6-dev dpkg-dev meson \
			ninja-build pkg-config python3 flex bison \
			libglib2.0-dev libpixman-1-dev libfdt-dev zlib1g-dev
		;;
	guest)
		echo busybox-static cpio gzip
		;;
	upstream)
		echo gcc libc6-dev libnuma-dev libcap-dev liburing-dev
		;;
	model)
		echo spin gcc libc6-dev
		;;
	check)
		echo sparse shellcheck codespell perl python3 \
			python3-docutils mandoc groff-base
		[ -n "${QEMU:-}" ] || echo dpkg-dev
		;;
	*)
		die "unknown package group $1"
		;;
	esac
}

command -v dpkg-query > /dev/null ||
	die "no dpkg: this build is made for Debian 12"

declare -A wanted=()
for group in "$@"; do
	for package in $(packages "$group"); do
		wanted[$package]=1
	done
done

# ccache is used when it is there, never asked for.
have=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${!wanted[@]}" \
	2>/dev/null | sed -n 's/^ii *//p')
missing=()
for package in "${!wanted[@]}"; do
	grep -qxF "$package" <<< "$have" || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort)

if [ "$(id -u)" != 0 ]; then
	{
		echo "These packages are missing; install them with"
		echo "  apt-get install -y --no-install-recommends ${missing[*]}"
	} >&2
	exit 1
fi

lock deps
say INSTALL "${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$LOG/deps.log
get=(apt-get -y --no-install-recommends -o DPkg::Lock::Timeout=300 install)
# The package lists may be absent or older than the archive.
"${get[@]}" "${missing[@]}" > "$log" 2>&1 || {
	say UPDATE "the package lists"
	apt-get update >> "$log" 2>&1 || true
	"${get[@]}" "${missing[@]}" >> "$log" 2>&1 || {
		show_failure "$log"
		die "cannot install: ${missing[*]}"
	}
}
