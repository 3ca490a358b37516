#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# upstream.sh [PATTERN,...]: run the kernel's own selftests of mm, those of HMM
# among them, on the patched kernel with our driver loaded and on the unpatched
# one in the same configuration.  Each program is one result in the KTAP of
# build/log/upstream.out: whether all that it tests came out the same on both.
# What it tests may fail, or be skipped for want of something, on both.
#
# scripts/guest/upstream.list has the programs.  They are compiled from the
# unpatched source.
set -eu
. "$(dirname "$0")/lib.sh"

ONLY=${1:-*}
PLAIN=$BUILD/linux-plain
WORK=$BUILD/upstream
LIST=$ROOT/scripts/guest/upstream.list
OUT=$LOG/upstream.out

# The programs go to $WORK/bin.  They are compiled in a tree of links, as their
# Makefile writes beside the source.
compile()
{
	local stamp src=$WORK/src make

	stamp=$(cat "$PLAIN/.gmem/origin" "$0" | sha256sum)
	stamp_ok "$WORK/stamp" "$stamp" && return
	say BUILD "the kernel's selftests of mm"
	rm -rf "$WORK"
	mkdir -p "$src"/{include/vdso,lib,mm} "$WORK/bin"
	cp -as "$PLAIN/tools" "$src/"
	cp -s "$PLAIN"/include/vdso/*.h "$src/include/vdso/"
	cp -s "$PLAIN/lib/test_hmm_uapi.h" "$src/lib/"
	cp -s "$PLAIN/mm/gup_test.h" "$src/mm/"
	# khugepaged.c does without the header that defines KSFT_SKIP, and the
	# rule for protection_keys.c without LDFLAGS.
	make=(make -k -s -j"$JOBS" -C "$src/tools/testing/selftests/mm"
		"OUTPUT=$WORK/bin" ARCH=x86_64 LDFLAGS=-static
		"KHDR_INCLUDES=-isystem $WORK/usr/include"
		"EXTRA_CFLAGS=-DKSFT_SKIP=4 -static")
	{
		make -s -C "$PLAIN" "O=$WORK/headers" \
			"INSTALL_HDR_PATH=$WORK/usr" headers_install &&
		"${make[@]}"
	} > "$LOG/upstream-build.log" 2>&1 || {
		show_failure "$LOG/upstream-build.log"
		die "cannot compile the kernel's selftests"
	}
	echo "$stamp" > "$WORK/stamp"
}

# pack VARIANT: more for the guest, in $WORK/VARIANT.cpio.gz.
pack()
{
	local root=$WORK/$1.root name

	rm -rf "$root"
	mkdir -p "$root"/{modules,upstream}
	cp "$LIST" "$root/upstream/list"
	while read -r name _; do
		cp "$WORK/bin/$name" "$root/upstream/"
	done < "$LIST"
	cp "$BUILD/kernel/$1/lib/test_hmm.ko" "$root/modules/"
	(
		cd "$root"
		find . | sort | cpio -o -H newc -R 0:0 --quiet
	) | gzip -n -1 > "$WORK/$1.cpio.gz"
	rm -rf "$root"
}

# boot VARIANT: what the programs say is in $LOG/upstream-VARIANT.out.
boot()
{
	local out=$LOG/upstream-$1.out rc=0

	MORE=$WORK/$1.cpio.gz SHOW='^# FAILED|^# PASSED|^Bail out' TIMEOUT=3000 \
		"$ROOT/scripts/guest-boot.sh" "upstream-$1" "$1" upstream \
		guest.timeout=300 guest.only="$ONLY" > "$LOG/upstream-boot.log" \
		2>&1 || rc=$?
	grep -q '^# guest: end' "$out" ||
		die "the guest did not end, see ${out#"$ROOT"/}"
	grep -vE ' ended with status [0-9]+$' "$LOG/upstream-boot.log"
}

# results FILE: "PROGRAM, TAB, RESULT, TAB, WHAT" for whatever was tested.
results()
{
	awk '
	{ sub(/\r$/, "") }
	/^# program: / {
		program = $3
		if (times[program]++)
			program = program "-" times[program]
		next
	}
	/^# exit: / { print program "\texit\t" $NF; next }
	match($0, /^ *(not ok|ok) [0-9]+ */) {
		result = $1 == "ok" ? "ok" : "not ok"
		what = substr($0, RSTART + RLENGTH)
		if (result == "ok" && what ~ /# *SKIP/)
			result = "skip"
	}
	# Some speak another language.
	match($0, /\.\.\. *(done|skipped|failed|OK|FAIL|ok|fail)/) &&
	!/^ *(not )?ok / {
		what = substr($0, 1, RSTART - 1)
		result = substr($0, RSTART)
		gsub(/[. ]/, "", result)
		sub(/\[.*/, "", result)
	}
	what {
		# Addresses, times and counts are of no interest.
		gsub(/0x[0-9a-f]+|[0-9]+/, "N", what)
		print program "\t" result "\t" what
		what = ""
	}' "$1" | sort
}

# compare PLAIN PATCHED: the KTAP.
compare()
{
	local number=0 program status=0 differences counts

	echo "TAP version 13"
	echo "1..$(cut -f1 "$1" | sort -u | wc -l)"
	while read -r program; do
		number=$((number + 1))
		differences=$(diff <(awk -F'\t' -v p="$program" '$1 == p' "$1") \
			<(awk -F'\t' -v p="$program" '$1 == p' "$2") |
			sed -n 's/^\([<>]\)/#   \1/p') || true
		counts=$(awk -F'\t' -v p="$program" '
			$1 == p { n[$2]++ }
			$1 == p && $2 == "exit" { code = $3 }
			END {
				delete n["exit"]
				for (i in n)
					printf "%d %s, ", n[i], i
				print "exit " code
			}' "$2")
		if [ -n "$differences" ]; then
			status=1
			echo "$differences"
			echo "not ok $number - $program: not as without the patches"
		else
			echo "ok $number - $program: $counts, as without the patches"
		fi
	done < <(cut -f1 "$1" | uniq)
	return "$status"
}

lock upstream
compile
: > "$OUT"
for variant in plain bench; do
	pack "$variant"
	boot "$variant"
	results "$LOG/upstream-$variant.out" > "$LOG/upstream-$variant.results"
done
compare "$LOG/upstream-plain.results" "$LOG/upstream-bench.results" | tee "$OUT"
