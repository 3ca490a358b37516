# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by the steps that make calls: paths, messages, locks and the
# progress line.  A step prints one short line for each thing it does; the
# full output of a tool goes to $LOG and its tail is shown when the tool fails.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$ROOT/build}
LOG=$BUILD/log
JOBS=${JOBS:-$(nproc)}
export ROOT BUILD LOG JOBS

# What is set for a make that calls a step is not for those that the step calls.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES

# Tools are compared and parsed by their English output.
export LC_ALL=C

mkdir -p "$LOG"

say()
{
	printf '  %-8s %s\n' "$1" "$2"
}

die()
{
	printf '%s: %s\n' "$(basename "$0")" "$1" >&2
	exit 1
}

# lock NAME [-s]: hold $BUILD/.lock-NAME until the script ends, so that two
# makes in one tree take turns; -s shares it with other readers.  The
# descriptor stays in the variable lock_fd for an early unlock.
lock()
{
	local name=$1 mode=${2:--x}

	exec {lock_fd}>"$BUILD/.lock-$name"
	flock -n "$mode" "$lock_fd" && return
	say WAIT "for another make that holds $name"
	flock "$mode" "$lock_fd"
}

# stamp_ok FILE VALUE: the step that wrote FILE was made from VALUE.
stamp_ok()
{
	[ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

# hash_tree PATH...: one hash of the names and contents of everything below.
hash_tree()
{
	find "$@" -type f -print0 2>/dev/null | sort -z |
		xargs -0 -r sha256sum | sha256sum | cut -d' ' -f1
}

# show_failure LOGFILE: the first compiler or tool error with its context,
# or else the tail.
show_failure()
{
	local log=$1 line

	line=$(grep -nE -m1 \
		'(: |^)(fatal )?error: |undefined reference|No rule to make|^FAILED: |^ERROR: ' \
		"$log" | cut -d: -f1)
	{
		if [ -n "$line" ]; then
			tail -n "+$((line > 3 ? line - 3 : 1))" "$log" |
				head -n 25
		else
			tail -n 25 "$log"
		fi
		printf '(full log: %s)\n' "$log"
	} >&2
}

# progress LABEL TOTAL PATTERN: reads a tool's output, counts the lines that
# match the extended regular expression PATTERN and shows count, TOTAL and the
# time used; on a terminal in one line, else every 20 seconds.  The count is
# left in progress.LABEL for the estimate of the next run.
progress()
{
	local label=$1 total=$2 pattern=$3 count=0 line last=-1 every=20 pct
	local start=$SECONDS tty=0

	if [ -t 1 ]; then
		tty=1
		every=1
	fi
	while IFS= read -r line; do
		[[ $line =~ $pattern ]] || continue
		count=$((count + 1))
		[ $((SECONDS - start)) -ge $((last + every)) ] || continue
		last=$((SECONDS - start))
		pct=$((total > count ? 100 * count / total : 99))
		if [ "$tty" = 1 ]; then
			printf '\r  %-8s %d of about %d steps (%d %%), %d s ' \
				"$label" "$count" "$total" "$pct" "$last"
		else
			printf '  %-8s %d of about %d steps (%d %%), %d s\n' \
				"$label" "$count" "$total" "$pct" "$last"
		fi
	done
	[ "$tty" = 0 ] || printf '\r\033[K'
	printf '  %-8s %d steps, %d s\n' "$label" "$count" \
		$((SECONDS - start))
	echo "$count" > "$BUILD/.progress"
}

# run_logged LABEL LOGNAME PATTERN DEFAULT_TOTAL COMMAND...: run a long
# command with its output in $LOG/LOGNAME.log and a progress line on stdout.
run_logged()
{
	local label=$1 log=$LOG/$2.log memo=$BUILD/.total-$2 pattern=$3
	local total=$4 rc=0 count

	shift 4
	[ ! -f "$memo" ] || total=$(cat "$memo")
	{
		set +e
		"$@" 2>&1 | tee "$log" | progress "$label" "$total" "$pattern"
		rc=${PIPESTATUS[0]}
		set -e
	}
	if [ "$rc" != 0 ]; then
		show_failure "$log"
		return "$rc"
	fi
	# Only a build from nothing tells how many steps there are.
	count=$(cat "$BUILD/.progress")
	if [ ! -f "$memo" ] || [ "$count" -gt "$total" ]; then
		[ "$count" -lt 200 ] || echo "$count" > "$memo"
	fi
}
