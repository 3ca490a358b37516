#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Check the protocol model, model/gmem.pml, exhaustively with spin.
#
# model.sh             all configurations, and the broken variants, each of
#                      which must be found; KTAP goes to build/log/model.out
# model.sh deep        larger configurations: minutes, and up to 12 GiB
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
NO_ZERO			broken_I5	CPU ZAP
NO_SEQ_CHECK		broken_I5	CPU REMOTE COMPACT
READ_BEGIN_NO_WAIT	broken_I5	CPU REMOTE COMPACT
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

# result N EXPECTED GOT TEXT: one line of KTAP.
result()
{
	local line="ok $1 - $4"

	if [ "$2" != "$3" ]; then
		line="not ok $1 - $4: $3 instead of $2"
		status=1
	fi
	echo "$line" | tee -a "$OUT"
}

# run_configs TABLE PREFIX DEPTH
run_configs()
{
	local name mode switches got

	while read -r name mode switches; do
		n=$((n + 1))
		# shellcheck disable=SC2086,SC2046
		build "$WORK/$name" "$2$mode" -O1 $(with $switches)
		search "$WORK/$name" "$mode" "$3"
		got=$(verdict "$WORK/$name/pan.out")
		result "$n" ok "$got" \
			"$name ($switches): $(states "$WORK/$name/pan.out") states"
	done < <(lines "$1")
}

run_bugs()
{
	local name property switches got

	while read -r name property switches; do
		n=$((n + 1))
		mode=safety
		[ "$property" != livelock ] || mode=progress
		# shellcheck disable=SC2086,SC2046
		build "$WORK/bug" "$mode" -O0 "-DBUG_$name" $(with $switches)
		search "$WORK/bug" "$mode" 1000000
		got=$(verdict "$WORK/bug/pan.out")
		result "$n" "$property" "$got" "finds BUG_$name: $property"
	done < <(lines "$BUGS")
}

run_all()
{
	: > "$OUT"
	echo "TAP version 13" | tee -a "$OUT"
	echo "1..$(lines "$CONFIGS$BUGS" | wc -l)" | tee -a "$OUT"
	run_configs "$CONFIGS" "" 3000000
	run_bugs
}

run_deep()
{
	OUT=$LOG/model-deep.out
	: > "$OUT"
	echo "TAP version 13" | tee -a "$OUT"
	echo "1..$(lines "$DEEP" | wc -l)" | tee -a "$OUT"
	run_configs "$DEEP" deep- 20000000
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
n=0
case ${1:-} in
"")
	lock model
	run_all
	;;
deep)
	lock model
	run_deep
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
