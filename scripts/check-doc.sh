#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-doc.sh: kernel-doc comments are complete; documents and manual pages
# are well formed; the files and functions that they name exist.
set -eu
. "$(dirname "$0")/lib.sh"

TREE=$BUILD/linux
FOUND=$LOG/check-doc.found

"$ROOT/scripts/kernel-tree.sh"
lock tree -s
cd "$ROOT"
: > "$FOUND"

mapfile -t sources < <(find include mm drivers bench/npu-hmm -name '*.[ch]' | sort)
mapfile -t texts < <(find Documentation/gmem -name '*.rst' | sort)
mapfile -t pages < <(find Documentation -name '*.[1-9]' | sort)
mapfile -t all < <(printf '%s\n' "${texts[@]}" "${pages[@]}"
	find . -maxdepth 2 -name '*.md' ! -path './build/*'
	find Documentation/ABI -type f 2> /dev/null)

perl "$TREE/scripts/kernel-doc" -none -Wall "${sources[@]}" >> "$FOUND" 2>&1 ||
	true
/usr/bin/python3 scripts/rst-check.py "${texts[@]}" >> "$FOUND" 2>&1 || true
for page in "${pages[@]}"; do
	mandoc -T lint -W warning "$page" >> "$FOUND" 2>&1 || true
	groff -man -ww -z -T utf8 "$page" >> "$FOUND" 2>&1 || true
done

# named PATTERN: "FILE:NAME" for all that the documents name.
named()
{
	grep -oHE "$1" "${all[@]}" | sort -u
}

# Below our root, in the kernel, or where QEMU has it; a program has a source.
path_exists()
{
	local root

	for root in "$ROOT" "$TREE" "$ROOT/qemu" "$BUILD/qemu-src"; do
		! compgen -G "$root/$1" > /dev/null || return 0
		[ ! -f "$root/$1.c" ] || return 0
	done
	return 1
}

tops='mm|include|drivers|tools|Documentation|scripts|patches|qemu|bench'
tops="$tops|configs|kunit|model|arch|fs|kernel|lib"
# Where QEMU is somebody's binary, there is nothing to look for its files in.
if [ -z "${QEMU:-}" ] || [ -f "$BUILD/qemu-src/.complete" ]; then
	"$ROOT/scripts/qemu-source.sh"
	tops="$tops|hw|tests"
fi
count=0
while IFS=: read -r file name; do
	count=$((count + 1))
	# What is before the path, and the full stop of a sentence.
	name=${name#[^A-Za-z]}
	name=${name%[.-]}
	path_exists "$name" || echo "$file: there is no $name" >> "$FOUND"
done < <(named "(^|[^A-Za-z0-9_/.-])($tops)/[A-Za-z0-9_./*-]+")

# Functions: ours, the kernel's or the C library's.
named '\b[a-z_][a-z0-9_]+\(\)' | sed 's/()$//' > "$LOG/check-doc.functions"
cut -d: -f2 "$LOG/check-doc.functions" | sort -u > "$LOG/check-doc.names"
{
	grep -rhowFf "$LOG/check-doc.names" mm include drivers kunit tools \
		bench qemu patches scripts model
	cd "$TREE"
	grep -rhowFf "$LOG/check-doc.names" --include='*.[ch]' include mm \
		kernel lib fs arch/x86/include arch/x86/mm virt
	cd /usr/include
	grep -rhowFf "$LOG/check-doc.names" --include='*.h' .
} 2> /dev/null | sort -u > "$LOG/check-doc.known"
while IFS=: read -r file name; do
	count=$((count + 1))
	grep -qxF "$name" "$LOG/check-doc.known" ||
		echo "$file: there is no $name()" >> "$FOUND"
done < "$LOG/check-doc.functions"

sed -e "s,$ROOT/,," -e 's,^\./,,' "$FOUND"
found=$(wc -l < "$FOUND")
say DOC "${#sources[@]} sources, ${#all[@]} texts that name $count things, $found findings"
[ "$found" = 0 ]
