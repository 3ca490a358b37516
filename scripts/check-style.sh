#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-style.sh: checkpatch --strict on every C file and on the patch queue,
# QEMU's own checkpatch on what goes into QEMU, codespell on everything.
set -eu
. "$(dirname "$0")/lib.sh"

TREE=$BUILD/linux
QEMU_SRC=$BUILD/qemu-src
FOUND=$LOG/check-style.found

"$ROOT/scripts/kernel-tree.sh"
lock tree -s

# Where a file of the overlay is in the kernel tree, whose checkpatch has rules
# for places; what is in none of them is looked at where it is.
in_tree()
{
	sed -e 's,^kunit/,mm/gmem/tests/,' -e "s,^bench/,$ROOT/bench/,"
}

from_tree()
{
	sed -e 's,^mm/gmem/tests/,kunit/,' -e "s,^$ROOT/,,"
}

# allowed FILE TYPE LINE: what checkpatch says and is not to be mended, each
# with the reason.
allowed()
{
	local file=$1 type=$2 line=$3

	case $type in
	BIT_MACRO)
		# QEMU and user space read it, and have no linux/bits.h.
		[[ $file = */gmem_npu_regs.h ]] && return
		# A number of pages is not a bit.
		[[ $line =~ _PAGES[[:space:]]+\(1UL\ \<\<\ GM_ORDER ]] && return
		;;
	UNCOMMENTED_DEFINITION)
		# A page table lock that belongs to core MM, by its address.
		[[ $line =~ ^[[:space:]]+spinlock_t\ \*[a-z_]+[,\;] ]] && return
		# The structure's kernel-doc says what it protects.
		[[ $line =~ ([a-z_]+)\;$ ]] &&
			grep -q "^ \* @${BASH_REMATCH[1]}: protects " \
				"$ROOT/$file" && return
		;;
	LINE_SPACING)
		# A declaration, though it does not look like one.
		[[ $line =~ ^[[:space:]]+VMA_ITERATOR\( ]] && return
		;;
	esac
	case $file in
	bench/npu-hmm/*) return 1 ;;
	bench/* | tools/testing/*) ;;
	*) return 1 ;;
	esac

	# User space.
	case $type in
	# It has none of the kernel's types and macros,
	ARRAY_SIZE | BIT_MACRO | PREFER_KERNEL_TYPES) ;;
	PREFER_DEFINED_ATTRIBUTE_MACRO) ;;
	# nor READ_ONCE() for a word that a signal handler or a device writes,
	VOLATILE) ;;
	# and names in libc's headers are what they are.
	CAMELCASE) [[ $line =~ (Elf64_|SCN|PRI|_Static_assert) ]] ;;
	# Helpers return errno as it is, for ASSERT_EQ(EFAULT, ...).
	USE_NEGATIVE_ERRNO) ;;
	# That a system call is not there is what is tested.
	ENOSYS) [[ $line =~ (ASSERT|EXPECT)_EQ\(ENOSYS ]] ;;
	# The harness gives the type of a fixture no other name.
	NEW_TYPEDEFS) [[ $line =~ ^typedef\ FIXTURE_DATA\( ]] ;;
	SPACING) [[ $line =~ FIXTURE_DATA\([a-z_]+\)\ \*self ]] ;;
	# Assertions have to be macros, so that a failure names its line.
	MACRO_ARG_REUSE) [[ $line =~ ^#define\ (ASSERT_|EXPECT_|TEST_|MATRIX_OPS) ]] ;;
	# One list of names makes declarations, a table and tests; one macro a test.
	COMPLEX_MACRO | TRAILING_SEMICOLON)
		[[ $line =~ ^#define\ (MATRIX_|NTH_TEST\() ]]
		;;
	MACRO_WITH_FLOW_CONTROL) [[ $line =~ ^#define\ GMEM_TEST_MAIN\( ]] ;;
	# A word of a message for people that is also a function's name.
	EMBEDDED_FUNCTION_NAME) ;;
	# Takes it for an array of characters; it is an argument vector.
	STATIC_CONST_CHAR_ARRAY) [[ $line =~ char\ \*[a-z]+\[\]\ =\ \{ ]] ;;
	*) return 1 ;;
	esac
}

# Terse output "FILE:LINE: LEVEL:TYPE: TEXT" without what is allowed.
judge()
{
	local report file number rest type

	while IFS= read -r report; do
		file=${report%%:*}
		rest=${report#*:}
		number=${rest%%:*}
		type=${rest#*: *:}
		type=${type%%:*}
		[[ $number =~ ^[0-9]+$ ]] &&
			allowed "$file" "$type" \
				"$(sed -n "${number}p" "$ROOT/$file")" ||
			echo "$report"
	done
}

cd "$ROOT"
mapfile -t files < <(find mm include drivers kunit bench \
	tools/testing/selftests/gmem -name '*.[ch]' 2> /dev/null | sort)
mapfile -t patches < <(find patches -name '*.patch' | sort)
mapfile -t qemu < <(find qemu -name '*.[ch]' | sort)

checkpatch=(scripts/checkpatch.pl --strict --terse --show-types --no-summary)

# Not inside of a git tree, which checkpatch would take for the kernel's.
cd "$TREE"
{
	printf '%s\n' "${files[@]}" | in_tree |
		xargs -P "$JOBS" -n 6 "${checkpatch[@]}" -f || true
	printf '%s\n' "${patches[@]/#/$ROOT/}" |
		xargs -P "$JOBS" -n 4 "${checkpatch[@]}" || true
} 2>&1 | from_tree | judge > "$FOUND"

# QEMU=... is somebody's binary, whose source we may not have.
if [ ! -f "$QEMU_SRC/.complete" ] && [ -z "${QEMU:-}" ]; then
	"$ROOT/scripts/qemu-source.sh"
fi
if [ -f "$QEMU_SRC/.complete" ]; then
	# By the names that they have in QEMU's tree.  That a compiler is asked
	# for by its macro is no matter of architecture.
	cd "$ROOT/qemu"
	printf '%s\n' "${qemu[@]#qemu/}" |
		xargs -P "$JOBS" -n 4 "$QEMU_SRC/scripts/checkpatch.pl" \
			--no-tree --terse --no-summary -f 2>&1 |
		sed 's,^,qemu/,' | while IFS=: read -r file number text; do
		[ "${text# WARNING: architecture specific}" = "$text" ] ||
			! sed -n "${number}p" "$ROOT/$file" |
			grep -qwE '__(clang|GNUC)__' || continue
		echo "$file:$number:$text"
	done >> "$FOUND"
else
	say SKIP "qemu/, there is no source of QEMU"
	qemu=()
fi

# By itself, as it takes checkpatch five times as long to look for them.  The
# words that are none are the kernel's; one is cut off by a hunk's header.
cd "$ROOT"
codespell -L damon,filp,hte,struc,vas mm include drivers kunit bench tools \
	qemu patches scripts configs model Documentation ./*.md Makefile \
	>> "$FOUND" 2>&1 || true

sort -t: -k1,1 -k2,2n "$FOUND"
count=$(wc -l < "$FOUND")
say STYLE "$((${#files[@]} + ${#qemu[@]})) files, ${#patches[@]} patches, $count findings"
[ "$count" = 0 ]
