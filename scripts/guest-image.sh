#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guest-image.sh VARIANT [tests]: compile the programs of the guest and pack
# them with busybox, the modules of the kernel VARIANT and the init script into
# build/guest/VARIANT.cpio.gz.  The same input gives the same bytes.  With tests
# nothing but the selftests is in it, for a guest that boots often.
set -eu
. "$(dirname "$0")/lib.sh"

VARIANT=$1
WHAT=${2:-all}
KERNEL=$BUILD/kernel/$VARIANT
OUT=$BUILD/guest
IMAGE=$OUT/$VARIANT.cpio.gz
STAMP=$OUT/$VARIANT.stamp
SELFTEST=tools/testing/selftests/gmem
# The programs need a kernel tree for the harness; the unpatched one differs in
# nothing that they use.
TREE=$BUILD/linux

mkdir -p "$OUT"
lock "guest-$VARIANT"

mapfile -t modules < <(find "$KERNEL/drivers/gmem-sample-npu" -name '*.ko' \
	2>/dev/null)
# Programs load it themselves.
mapfile -t peers < <(find "$BUILD/peer/$VARIANT" -name 'npu_hmm.ko' 2>/dev/null)
cd "$ROOT"
want="$WHAT $(hash_tree "$SELFTEST" bench include/uapi \
	drivers/gmem-sample-npu scripts/guest scripts/guest-image.sh \
	"${modules[@]}" "${peers[@]}")"
stamp_ok "$STAMP" "$want" && [ -f "$IMAGE" ] && exit 0

# compile DIR OUTPUT: by the Makefile there, which leaves the names of its
# programs in the order in which they should run in OUTPUT/list.
compile()
{
	local log

	log=$LOG/$(basename "$2").log
	[ -f "$1/Makefile" ] || return 0
	make -C "$1" -j"$JOBS" OUTPUT="$2" KSRC="$TREE" > "$log" 2>&1 || {
		show_failure "$log"
		die "cannot compile $1"
	}
}

say BUILD "programs of the guest"
(
	# Two variants share the programs.
	lock programs
	compile "$SELFTEST" "$OUT/selftest"
	compile bench "$OUT/bench"
)

# install_programs DIR FROM [LIST]: the programs that FROM/LIST names, with
# arguments after them, go to /DIR.
install_programs()
{
	local names list=$2/${3:-list}

	[ -f "$list" ] || return 0
	mapfile -t names < <(cut -d' ' -f1 "$list")
	cp "${names[@]/#/$2/}" "$root/$1/"
	cp "$list" "$root/$1/list"
}

say PACK "${IMAGE#"$ROOT"/}"
root=$OUT/$VARIANT.root
rm -rf "$root"
mkdir -p "$root"/{bin,dev,tests,demos,bench,peer,modules,data}
cp /bin/busybox "$root/bin/"
cp scripts/guest/init "$root/init"
install_programs tests "$OUT/selftest"
if [ "$WHAT" = all ]; then
	install_programs bench "$OUT/bench"
	install_programs peer "$OUT/bench" peer-list
fi
if [ "$WHAT" = all ] && [ -x "$OUT/selftest/gmem-demo" ]; then
	cp "$OUT/selftest/gmem-demo" "$root/demos/"
	echo gmem-demo > "$root/demos/list"
	# The demo's real file: text in the tens of megabytes, none of it ours.
	find "$TREE/mm" "$TREE/fs" "$TREE/kernel" -name gmem -prune -o \
		-name '*.[ch]' -print | sort |
		xargs cat > "$root/data/source.txt"
fi
for module in "${modules[@]}"; do
	cp "$module" "$root/modules/"
	basename "$module" .ko >> "$root/modules/list"
done
[ ${#peers[@]} = 0 ] || cp "${peers[@]}" "$root/modules/"
chmod -R u=rwX,go=rX "$root"
find "$root" -exec touch -h -d @0 {} +
(
	cd "$root"
	find . | sort | cpio -o -H newc --reproducible -R 0:0 --quiet
) | gzip -n -1 > "$IMAGE.tmp"
rm -rf "$root"
mv "$IMAGE.tmp" "$IMAGE"
echo "$want" > "$STAMP"
