#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Check the protocol model, model/gmem.pml, exhaustively with spin.
#
# model.sh             all configurations, and the broken variants, each of
#                      which must be found; KTAP goes to build/log/model.out
# model.sh deep        larger configurations: minutes, and up to 12 GiB
# model.sh row TABLE NAME    one row of a table; for this script's own use
# model.sh trace NAME  print the events of the shortest counterexample of a
#                      broken variant, or of a configuration that fails
#
# Documentation/gmem/model.rst explains the names.
set -eu
. "$(dirname "$0")/lib.sh"

PML=$ROOT/model/gmem.pml
OUT=$LOG/model.out
WORK=$BUILD/model

# Configurations: name, mode, switches (-DWITH_ is put before each).  Mode
# safety checks the assertions and looks for deadlocks, progress looks for
# cycles in which nobody gets anywhere although all are scheduled fairly.
CONFIGS="
zap		safety		CPU DEV1 ZAP
evict		safety		CPU DEV1 EVICT COPY_ERRORS
evict-zap	safety		CPU EVICT ZAP COPY_ERRORS
oom-zap		safety		CPU OOM ZAP
oom-evict	safety		CPU OOM EVICT COPY_ERRORS
oom-two		safety		CPU OOM DEV1 IDLE1
fork		safety		FORK CHILD_DEV EXIT COPY_ERRORS
fork-cpu	safety		FORK CPU COPY_ERRORS
fork-child	safety		FORK CHILD_CPU COPY_ERRORS
fork-evict	safety		FORK EVICT
fork-zap	safety		FORK CHILD_DEV ZAP ONCE
fork-child-zap	safety		FORK CHILD_DEV CHILD_ZAP ONCE
fork-oom	safety		FORK CHILD_DEV CHILD_OOM ONCE
fork-fill	safety		FORK CHILD_DEV CHILD_ZAP SIB ONCE
fork-remote	safety		FORK REMOTE CPU ONCE
fork-unbind	safety		FORK UNBIND
gup		safety		CPU GUP REMOTE ZAP
gup-errors	safety		CPU GUP REMOTE COPY_ERRORS
remote		safety		DEV1 REMOTE ZAP
remote-compact	safety		CPU REMOTE COMPACT ZAP
remote-oom	safety		CPU REMOTE OOM COMPACT
unbind		safety		CPU DEV1 UNBIND
live-two	progress	CPU DEV1
live-remote	progress	CPU ZAP REMOTE
live-fork	progress	FORK CHILD_DEV ONCE
"

DEEP="
zap-errors	safety		CPU DEV1 ZAP COPY_ERRORS
evict-two	safety		CPU DEV1 EVICT ZAP
oom-both	safety		DEV1 OOM
fork-evict-two	safety		FORK CHILD_DEV EVICT ONCE
fork-cpus	safety		FORK CPU CHILD_CPU CHILD_DEV COPY_ERRORS
fork-zaps	safety		FORK CHILD_DEV ZAP CHILD_ZAP COPY_ERRORS
fork-reaped	safety		FORK CHILD_DEV CHILD_OOM EXIT
gup-two		safety		CPU DEV1 GUP COPY_ERRORS
live-evict	progress	CPU DEV1 EVICT
"

# Broken variants: switch (-DBUG_ is put before it), the property whose
# violation must be found, switches of the configuration that shows it.
BUGS="
MARKER_WITHOUT_ENTRY	broken_I1	CPU ZAP
FORK_NO_PROTECT		broken_I2	FORK CHILD_DEV
UNSHARE_NOT_LAST_TWO	broken_I2	FORK CHILD_DEV
OOM_NO_SKIP		broken_I2	CPU OOM REMOTE
NO_FREEZE		broken_I3	CPU GUP
RECALL_NO_TLB_INVL	broken_I4	CPU ZAP
INVAL_NO_TLB_INVL	broken_I4	CPU ZAP
NO_CPU_FLUSH		broken_I4	CPU ZAP
NO_INVAL_CHECK		broken_I4	CPU ZAP
COMMIT_NO_VALID		broken_I4	CPU ZAP
COMMIT_NO_LOCK		broken_I4	CPU ZAP
MAP_WITHOUT_BUSY	broken_I4	CPU
WINDOW_IGNORES_OWN	broken_I4	CPU REMOTE DEV1
PUT_IGNORES_DEFERRED	broken_I4	CPU OOM
OWNER_IGNORES_DEFERRED	broken_I4	CPU OOM
FREE_BEFORE_FLUSH	broken_I4	CPU OOM
WORKER_FREES_ALL	broken_I4	FORK CHILD_DEV CHILD_OOM OOM ONCE
FORK_NO_VIEW		broken_I4	FORK CHILD_DEV
UNSHARE_NO_TLB_INVL	broken_I4	FORK CHILD_DEV
UNSHARE_PUT_FIRST	broken_I4	FORK CHILD_DEV
DEAD_PER_PROCESS	broken_I4	FORK CHILD_DEV CHILD_OOM ONCE
UNBIND_NOT_CLOSING	broken_I4	DEV1 UNBIND
DEAD_CONTEXT_MAPS	broken_I4	DEV1 UNBIND
DEAD_BEFORE_FLUSH	broken_I4	CPU OOM UNBIND
NO_ZERO			broken_I5	CPU ZAP
NO_SEQ_CHECK		broken_I5	CPU REMOTE COMPACT
READ_BEGIN_NO_WAIT	broken_I4	CPU REMOTE COMPACT
THAW_NO_RECHECK		broken_I5	CPU ZAP COPY_ERRORS
RECALL_NO_RECHECK	broken_I5	CPU ZAP
RECALL_ERROR_FREES	broken_I5	CPU COPY_ERRORS
NO_STALE		broken_I5	FORK CHILD_DEV CHILD_OOM ONCE
FILL_SHARED		broken_I5	FORK CHILD_DEV CHILD_ZAP SIB
NO_UNSTABLE_CHECK	broken_I5	CPU OOM
NO_DOOM_CHECK		leaked		CPU ZAP
FORK_FAILED_KEEPS	leaked		FORK CHILD_DEV
ERROR_KEEPS_BUSY	deadlock	CPU COPY_ERRORS
BUSY_TAKES_MMAP		broken_I1	CPU FORK
ZAP_WAITS_BUSY		deadlock	CPU ZAP
EVICT_ONE_VIEW		deadlock	FORK UNBIND
MAP_LATER		livelock	DEV1
"

# lines TABLE: without the empty ones.
lines()
{
	grep . <<< "$1"
}

# build DIR MODE OPTIMIZE SWITCH...: make the verifier DIR/pan.
build()
{
	local dir=$1 mode=$2 opt=$3 cflags=(-w -DVECTORSZ=256)

	shift 3
	case $mode in
	safety)		cflags+=(-DSAFETY -DMEMLIM=3500) ;;
	progress)	cflags+=(-DNP -DNFAIR=3 -DMEMLIM=3500)
			set -- -DPROGRESS "$@" ;;
	deep-safety)	cflags+=(-DSAFETY -DCOLLAPSE -DMEMLIM=12000) ;;
	deep-progress)	cflags+=(-DNP -DNFAIR=3 -DCOLLAPSE -DMEMLIM=12000)
			set -- -DPROGRESS "$@" ;;
	shortest)	cflags+=(-DSAFETY -DBFS -DMEMLIM=3500) ;;
	esac
	rm -rf "$dir"
	mkdir -p "$dir"
	cp "$PML" "$dir"
	(
		cd "$dir"
		spin -a "$@" gmem.pml
		gcc "$opt" "${cflags[@]}" -o pan pan.c
	) > "$dir/build.log" 2>&1 || {
		show_failure "$dir/build.log"
		die "cannot build the verifier in $dir"
	}
}

# search DIR MODE DEPTH: run the verifier; its report is DIR/pan.out.
search()
{
	local args=(-m"$3" -w24)

	case $2 in
	*progress) args+=(-l -f -A) ;;
	esac
	# The report tells the outcome, not the status.
	(cd "$1" && ./pan "${args[@]}") > "$1/pan.out" 2>&1 || true
}

# verdict FILE: what a report says, in one word: ok, the property whose
# violation was found, or incomplete.
verdict()
{
	if grep -q 'assertion violated' "$1"; then
		grep -oE -m1 'broken_I[1-5]|leaked' "$1" || echo assertion
	elif grep -q '^pan:1: invalid end state' "$1"; then
		echo deadlock
	elif grep -q '^pan:1: non-progress cycle' "$1"; then
		echo livelock
	elif grep -q '^Full statespace search for' "$1" &&
	     grep -q 'errors: 0$' "$1" &&
	     ! grep -qE 'search depth too small|search not completed|reached -DMEMLIM|Search not completed|out of memory|Interrupted' "$1"
	then
		echo ok
	else
		echo incomplete
	fi
}

# states FILE: how many states the search stored.
states()
{
	sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$1" | head -n 1
}

with()
{
	local switch

	for switch; do
		printf -- '-DWITH_%s\n' "$switch"
	done
}

# configs_row PREFIX DEPTH NAME MODE SWITCHES
configs_row()
{
	local dir=$WORK/$3 switches=${*:5}

	# shellcheck disable=SC2086,SC2046
	build "$dir" "$1$4" -O1 $(with $switches)
	search "$dir" "$4" "$2"
	report "$dir" ok "$3 ($switches): $(states "$dir/pan.out") states"
}

# bugs_row NAME PROPERTY SWITCHES
bugs_row()
{
	local dir=$WORK/$1 mode=safety switches=${*:3}

	[ "$2" != livelock ] || mode=progress
	# shellcheck disable=SC2086,SC2046
	build "$dir" "$mode" -O0 "-DBUG_$1" $(with $switches)
	search "$dir" "$mode" 1000000
	report "$dir" "$2" "finds BUG_$1: $2"
}

# report DIR EXPECTED TEXT: leaves DIR/result.
report()
{
	local got

	got=$(verdict "$1/pan.out")
	if [ "$got" = "$2" ]; then
		echo "ok $3"
	else
		echo "failed $3: $got instead of $2"
	fi > "$1/result"
	rm -f "$1"/pan "$1"/pan.[bchmptr] "$1"/pan.pre
}

# row TABLE NAME: check one row, unless that was done of the same model by the
# same tools: what an exhaustive search finds does not change.
row()
{
	local stamp line

	read -r -a line < <(lines "${!1}" | awk -v name="$2" '$1 == name')
	stamp=$(cat "$PML" "$0" <(spin -V; gcc --version) - <<< "${line[*]}" |
		sha256sum)
	if stamp_ok "$WORK/$2/stamp" "$stamp" && [ -f "$WORK/$2/result" ]; then
		touch "$WORK/$2/kept"
	else
		case $1 in
		CONFIGS)	configs_row "" 3000000 "${line[@]}" ;;
		DEEP)		configs_row deep- 20000000 "${line[@]}" ;;
		BUGS)		bugs_row "${line[@]}" ;;
		esac
		grep -q ^failed "$WORK/$2/result" ||
			echo "$stamp" > "$WORK/$2/stamp"
	fi
	touch "$WORK/$2/done"
}

# run_tables AT-A-TIME TABLE...: KTAP in the order of the tables, whichever row
# ends first.
run_tables()
{
	local jobs=$1 table name n=0 kept=0 rows=() pool line mark

	shift
	for table; do
		while read -r name _; do
			rows+=("$table $name")
			rm -f "$WORK/$name"/{done,kept}
		done < <(lines "${!table}")
	done
	{
		echo "TAP version 13"
		echo "1..${#rows[@]}"
	} | tee "$OUT"
	printf '%s\n' "${rows[@]}" | xargs -P "$jobs" -L 1 "$0" row &
	pool=$!
	for line in "${rows[@]}"; do
		name=${line#* }
		n=$((n + 1))
		while [ ! -f "$WORK/$name/done" ] && kill -0 "$pool" 2>/dev/null
		do
			sleep 0.1
		done
		[ ! -f "$WORK/$name/kept" ] || kept=$((kept + 1))
		read -r mark line < <(cat "$WORK/$name/result" 2>/dev/null ||
			echo "failed $name: no result")
		[ "$mark" = ok ] || { mark="not ok"; status=1; }
		echo "$mark $n - $line" | tee -a "$OUT"
	done
	wait "$pool" || status=1
	[ "$kept" = 0 ] ||
		say KEPT "$kept results of the same model and the same tools"
}

# trace NAME: a counterexample as the sequence of statements that leads to it,
# then the final state.
trace()
{
	local name=${1#BUG_} property switches mode=shortest args=()

	read -r _ property switches < <(lines "$BUGS" |
		awk -v name="$name" '$1 == name') || true
	if [ -n "${property:-}" ]; then
		args=("-DBUG_$name")
	else
		read -r _ property switches < <(lines "$CONFIGS$DEEP" |
			awk -v name="$name" '$1 == name') ||
			die "no configuration or broken variant is called $1"
	fi
	case $property in
	livelock | progress)
		mode=progress
		;;
	esac
	# shellcheck disable=SC2086
	mapfile -t -O "${#args[@]}" args < <(with $switches)
	build "$WORK/trace" "$mode" -O1 "${args[@]}"
	search "$WORK/trace" "$mode" 1000000
	[ -f "$WORK/trace/gmem.pml.trail" ] ||
		die "no counterexample: $(verdict "$WORK/trace/pan.out")"
	[ "$mode" = shortest ] || args+=(-DPROGRESS)
	(cd "$WORK/trace" && spin -t -p "${args[@]}" gmem.pml) |
		grep -v '^ *$'
}

mkdir -p "$WORK"
status=0
case ${1:-} in
"")
	lock model
	# A search has 3.5 GB at most.
	memory=$(awk '/^MemAvailable/ { print int($2 / 3700000) }' /proc/meminfo)
	[ "$memory" -gt 0 ] || memory=1
	run_tables $((memory < JOBS ? memory : JOBS)) CONFIGS BUGS
	;;
deep)
	lock model
	OUT=$LOG/model-deep.out
	run_tables 1 DEEP
	;;
row)
	row "$2" "$3"
	;;
trace)
	[ $# = 2 ] || die "usage: model.sh trace NAME"
	trace "$2"
	;;
*)
	die "usage: model.sh [deep | trace NAME]"
	;;
esac
exit "$status"
