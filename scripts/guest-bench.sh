#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guest-bench.sh [quick|curves]: run the programs of bench/ where one instruction
# takes one nanosecond and print their figures beside those of their peers, with
# the bars of bench/bars.  All of them run twice on the patched kernel, where both
# runs must print the same figures; nodevice on the unpatched one, too.  Some need
# a machine of their own, see the boots below.  The table also goes to
# build/bench/, as bench.json and bench.html.  A figure that is short of its bar
# is reported, it is not an error.
#
# With the argument "quick", only those of moves and faults in one boot.  With
# "curves", how cost grows, on machines with more memory and with more devices;
# the page has that beside what was measured before.
set -eu
. "$(dirname "$0")/lib.sh"

export TIMEOUT=${TIMEOUT:-900} SHOW='^# (SKIP|exit)'
OUT=$BUILD/bench
EXACT=nodevice,move,size,policy,latency,clock,versus,numa,pager
# All but that of the devices, on a machine with memory for 4 GiB on either side.
CURVES=curve/bytes,curve/vmas,curve/pages,curve/blocks,curve/contexts
CURVES=$CURVES,curve/processes,curve/threads,curve/forks,curve/refused,curve/generations

# Beside 2 GiB of its own the machine has coherent memory of a device, as the
# firmware would describe it: a node without CPUs.
NODES="-machine hmat=on
	-object memory-backend-ram,id=own,size=2G
	-object memory-backend-ram,id=coherent,size=512M
	-numa node,nodeid=0,cpus=0,memdev=own
	-numa node,nodeid=1,memdev=coherent,initiator=0
	-numa dist,src=0,dst=1,val=30"
lb="hmat-lb,initiator=0,hierarchy=memory"
NODES="$NODES
	-numa $lb,target=0,data-type=access-latency,latency=100
	-numa $lb,target=1,data-type=access-latency,latency=400
	-numa $lb,target=0,data-type=access-bandwidth,bandwidth=100G
	-numa $lb,target=1,data-type=access-bandwidth,bandwidth=16G"

# Hardware that takes no time.
INSTANT=,link-bandwidth=0,dma-desc-ns=0,walk-ns=0,mem-latency-ns=0
INSTANT=$INSTANT,tlbi-ns=0,cmd-ns=0,fault-ns=0,replay-ns=0,irq-ns=0

# boot NAME VARIANT PROGRAMS [ACCEL]: leaves the figures in build/bench/NAME.figures.
boot()
{
	local name=bench-$1 figures=$OUT/$1.figures

	ACCEL=${4:-icount} "$ROOT/scripts/guest-boot.sh" "$name" "$2" \
		bench "guest.only=$3" ||
		die "$1: see ${LOG#"$ROOT"/}/$name.out"
	"$ROOT/scripts/bench-figures.sh" "$LOG/$name.out" > "$figures"
	[ -s "$figures" ] || die "$1: the programs printed no figure"
}

# The same on the machine that peers have as well.
boot_nodes()
{
	MACHINE="${NODES//[$'\n\t']/ }" MEMORY=2560M boot "$@"
}

# Two processors at a time: by the clock of the host, and, on a kernel that can
# trace, by the locks that they wait for.
run_parallel()
{
	NPU_OPTS=$INSTANT boot parallel bench parallel tcg
	NPU_OPTS=$INSTANT boot locks base parallel tcg
}

run_curves()
{
	MEMORY=6G NPUS=1 NPU_OPTS=,mem-size=8G boot curves bench \
		"$CURVES,metadata"
	NPUS=8 boot curves-devices bench curve/devices
}

# QEMU logs each time that one of a few functions is entered.
count_walks()
{
	local map=$BUILD/kernel/bench/System.map trace=$LOG/bench-walks.trace
	local count=$ROOT/scripts/bench-walks.py

	MACHINE="-d exec,nochain -dfilter $("$count" filter "$map") -D $trace" \
		boot walks bench walks
	"$count" count "$map" "$trace" "$LOG/bench-walks.out" \
		>> "$OUT/walks.figures"
	rm "$trace"
}

# Lines of the driver, and what the patches and GMEM add to the kernel.
count_sizes()
{
	"$ROOT/scripts/count-driver.sh" > "$LOG/count-driver.log"
	sed -nE 's/^memory management: ([0-9]+) lines on GMEM, ([0-9]+) .*/p13.lines \1 lines\nhmm.p13.lines \2 lines/p
		s/^with the operations, .* ([0-9]+) and ([0-9]+): .*/p13.lines-with-operations \1 lines\nhmm.p13.lines-with-operations \2 lines/p' \
		"$LOG/count-driver.log"
}

sections()
{
	size "$BUILD/kernel/$1/vmlinux" | awk 'NR == 2 {
		print "p10.size-text", $1, "bytes"
		print "p10.size-data", $2 + $3, "bytes"
	}'
}

report()
{
	local plain=()

	[ ! -f "$OUT/unpatched" ] || plain=(--plain "$OUT/unpatched")
	echo
	"$ROOT/scripts/bench-report.py" --bars "$ROOT/bench/bars" \
		--curves "$ROOT/bench/curves" \
		--ours "$OUT"/*.figures "${plain[@]}" --json "$OUT/bench.json" \
		--html "$OUT/bench.html" | tee "$OUT/table"
}

mkdir -p "$OUT"
if [ "${1:-}" = curves ]; then
	run_curves
	report
	exit
fi
rm -f "$OUT"/*
if [ "${1:-}" = quick ]; then
	boot_nodes 1 bench move,size,versus,numa,pager
else
	boot_nodes 1 bench "$EXACT"
	boot_nodes 2 bench "$EXACT"
	diff -u "$OUT/1.figures" "$OUT/2.figures" >&2 ||
		die "two runs gave different figures"
	rm "$OUT/2.figures"
	boot_nodes plain plain nodevice
	sections bench >> "$OUT/1.figures"
	sections plain >> "$OUT/plain.figures"
	mv "$OUT/plain.figures" "$OUT/unpatched"
	count_walks
	run_parallel
fi
count_sizes > "$OUT/size.figures"
report
