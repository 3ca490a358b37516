#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate.sh [PATTERN...]: break the tree in each way that mutations.py lists and
# whose name matches one of the shell patterns, one at a time, and see whether a
# test notices.  Results are kept in build/mutate/state with a hash of what
# they depend on, so that only what changed is done again.  Ends with the score;
# fails when something survived.  With NO_CONTROL=1 in the environment the tests
# are not tried with nothing broken first.
set -eu
. "$(dirname "$0")/lib.sh"

DIR=$BUILD/mutate
STATE=$DIR/state
RESULTS=$DIR/results
# Mutations that one guest tries, if all goes well.
BATCH=12

setup()
{
	local pair from to

	mkdir -p "$STATE" "$DIR"/{guest,log,kernel}
	if [ ! -f "$DIR/linux/.gmem/origin" ]; then
		say COPY "the kernel tree, to break it"
		rm -rf "$DIR"/linux{,.tmp}
		cp -a "$BUILD/linux" "$DIR/linux.tmp"
		mv "$DIR/linux.tmp" "$DIR/linux"
	fi
	# Most of a kernel is there; what is not, its first user builds.
	for pair in base:mutate debug:debug; do
		from=$BUILD/kernel/${pair%:*}
		to=$DIR/kernel/${pair#*:}
		if [ ! -d "$to" ] && [ -d "$from" ]; then
			rm -rf "$to.tmp"
			cp -a "$from" "$to.tmp"
			mv "$to.tmp" "$to"
		fi
	done
	"$ROOT/scripts/mutations.py" list > "$DIR/list"
	cd "$ROOT"
	# All but the reasons.
	hash_tree mm kunit drivers include patches mutations/*-* configs \
		scripts/mutations.py > "$DIR/id"
}

# wanted NAME PATTERN...
wanted()
{
	local name=$1 pattern

	shift
	for pattern; do
		# shellcheck disable=SC2254
		case $name in
		$pattern) return 0 ;;
		esac
	done
	return 1
}

known()
{
	[ -f "$STATE/$1" ] && [ "$(cut -f1 "$STATE/$1")" = "$2" ]
}

# Those to do, with what the guest shall run for them: name, kind, number, hash,
# on the plain kernel, on the debug kernel; each a list of tests or "-".
todo()
{
	local name kind tests debug number hash

	while IFS=$'\t' read -r name kind _ tests debug number hash _; do
		case $kind in
		hunk | breakage) ;;
		*) continue ;;
		esac
		wanted "$name" "$@" || continue
		! known "$name" "$hash" || continue
		awk -v name="$name" -v kind="$kind" -v number="$number" \
			-v hash="$hash" -v debug="$debug" -v OFS='\t' '{
			n = split($0, test, ",")
			plain = checked = ""
			for (i = 1; i <= n; i++) {
				# A leak that no test can see, kmemleak does.
				if (number && (debug == "debug" ||
				    kind == "hunk" || test[i] ~ /^failnth/))
					checked = checked "," test[i]
				if (debug != "debug" && test[i] !~ /^failnth/)
					plain = plain "," test[i]
			}
			print name, kind, number, hash,
			      plain == "" ? "-" : substr(plain, 2),
			      checked == "" ? "-" : substr(checked, 2)
		}' <<< "$tests"
	done < "$DIR/list"
}

# settle NAME SECONDS VERDICT BY: the result of a mutation.
settle()
{
	local hash

	hash=$(awk -F'\t' -v name="$1" '$1 == name { print $4 }' "$DIR/todo")
	printf '%s\t%s\t%s\t%s\n' "$hash" "$2" "$3" "$4" > "$STATE/$1.tmp"
	mv "$STATE/$1.tmp" "$STATE/$1"
	say "${3^^}" "$1, $2 s: $4"
}

# batch COLUMN < LINES: for init, with the tests of that column.
batch()
{
	awk -F'\t' -v column="$1" '{
		units = list = ""
		n = split($column, test, ",")
		for (i = 1; i <= n; i++)
			if (sub(/^kunit:/, "", test[i]))
				units = units "," test[i]
			else
				list = list "," test[i]
		print $1, $3, $2 == "hunk" ? 1 : 0,
		      units == "" ? "-" : substr(units, 2),
		      list == "" ? "-" : substr(list, 2)
	}'
}

# guest VARIANT KIND [NAME]: try $DIR/batch.
guest()
{
	local namespace=(unshare -m)

	[ "$(id -u)" = 0 ] || namespace=(unshare -r -m)
	rm -f "$DIR/verdicts"
	"${namespace[@]}" "$ROOT/scripts/mutate-guest.sh" "$1" "$2" \
		"$DIR/batch" "$DIR/verdicts" "${@:3}" > "$DIR/guest.log" 2>&1 || {
		show_failure "$DIR/guest.log"
		die "no guest to try mutations in"
	}
}

# try VARIANT COLUMN KIND: those of $DIR/pending; what survives is done unless
# there is more to run on the debug kernel.
try()
{
	local variant=$1 column=$2 kind=$3 name seconds verdict by more

	while [ -s "$DIR/pending" ]; do
		head -n "$BATCH" "$DIR/pending" | batch "$column" > "$DIR/batch"
		if [ "$kind" = alone ]; then
			head -n 1 "$DIR/pending" | batch "$column" > "$DIR/batch"
			guest "$variant" hunk "$(cut -d' ' -f1 "$DIR/batch")"
		else
			guest "$variant" "$kind"
		fi
		[ -s "$DIR/verdicts" ] || {
			tail -n 5 "$DIR/guest.log" "$DIR/log/mutate.boot.log" >&2
			die "the guest tried nothing"
		}
		while IFS=$'\t' read -r name seconds verdict by; do
			more=$(awk -F'\t' -v name="$name" -v column="$column" \
				'$1 == name && column == 5 && $6 != "-"' \
				"$DIR/pending")
			if [ "$verdict" = survived ] && [ -n "$more" ]; then
				echo "$more" >> "$DIR/later"
			else
				settle "$name" "$seconds" "$verdict" "$by"
			fi
			awk -F'\t' -v name="$name" '$1 != name' \
				"$DIR/pending" > "$DIR/pending.new"
			mv "$DIR/pending.new" "$DIR/pending"
		done < "$DIR/verdicts"
	done
}

# control VARIANT COLUMN FILE: a test that fails by itself tells nothing when it
# does so again, so those of FILE must pass with nothing broken.
control()
{
	local variant=$1 column=$2 file=$3 id

	[ -z "${NO_CONTROL:-}" ] && [ -s "$file" ] || return 0
	id="$(hash_tree tools/testing/selftests scripts/guest) $(cut \
		-f"$column" "$file" | sort -u | cat "$DIR/id" - | sha256sum)"
	! stamp_ok "$DIR/control.$variant" "$id" || return 0
	cut -f"$column" "$file" | tr , '\n' | grep -vx - | sort -u |
		awk -v OFS='\t' '
		{ line[int((NR - 1) / 16)] = line[int((NR - 1) / 16)] "," $0 }
		END {
			for (i in line)
				print "none" i, "hunk", 0, 0,
				      substr(line[i], 2), substr(line[i], 2)
		}' > "$DIR/pending"
	[ -s "$DIR/pending" ] || return 0
	batch 5 < "$DIR/pending" > "$DIR/batch"
	say CONTROL "the tests with nothing broken, $variant kernel"
	guest "$variant" hunk
	if [ "$(grep -c $'\tsurvived\t' "$DIR/verdicts")" != \
	     "$(wc -l < "$DIR/pending")" ]; then
		cat "$DIR/verdicts" >&2
		die "tests fail though nothing is broken"
	fi
	echo "$id" > "$DIR/control.$variant"
}

# pending FILE CONDITION: lines of FILE, and of awk on its fields.
pending()
{
	awk -F'\t' "$2" "$1" > "$DIR/pending"
}

run()
{
	local kind

	: > "$DIR/later"
	control mutate 5 "$DIR/todo"
	for kind in hunk breakage; do
		pending "$DIR/todo" "\$3 && \$2 == \"$kind\" && \$5 != \"-\""
		try mutate 5 "$kind"
	done
	awk -F'\t' '$3 && $5 == "-"' "$DIR/todo" >> "$DIR/later"
	control debug 6 "$DIR/later"
	for kind in hunk breakage; do
		pending "$DIR/later" "\$2 == \"$kind\""
		try debug 6 "$kind"
	done
	pending "$DIR/todo" "! \$3"
	try mutate 5 alone
}

report()
{
	local name kind file hash what seconds verdict by

	while IFS=$'\t' read -r name kind file _ _ _ hash what; do
		seconds=- verdict=$kind by=-
		case $kind in
		hunk | breakage)
			verdict="not run"
			[ ! -f "$STATE/$name" ] ||
				IFS=$'\t' read -r _ seconds verdict by \
					< "$STATE/$name"
			# Its file or its tests have changed since.
			if ! known "$name" "$hash"; then
				[ "$verdict" = killed ] && verdict=before ||
					verdict="not run"
			fi
			;;
		esac
		printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$kind" "$file" \
			"$verdict" "$seconds" "$what" "$by"
	done < "$DIR/list" > "$RESULTS"
	awk -F'\t' '{
		count[$4]++
	}
	$4 == "survived" || $4 == "error" {
		printf "  %-8s %s: %s: %s\n", toupper($4), $1, $3, $6
	}
	END {
		printf "  %-8s %d of %d noticed, %d survived, %d do not build, %d not run, %d noticed before a change\n",
			"SCORE", count["killed"],
			count["killed"] + count["survived"],
			count["survived"], count["unbuilt"], count["not run"],
			count["before"]
		exit count["survived"] + count["error"] > 0
	}' "$RESULTS"
}

[ $# -gt 0 ] || set -- '*'
lock mutate
setup
todo "$@" > "$DIR/todo"
say MUTATE "$(wc -l < "$DIR/todo") to try"
run
report
