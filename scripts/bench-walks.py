#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
bench-walks.py filter MAP: the argument of QEMU's -dfilter for it to log the
functions below, whose addresses are in the System.map.

bench-walks.py count MAP LOG OUT: figures from what QEMU logged with -d
exec,nochain and from what bench/walks printed.  Counts how often each function
was entered within a window, that is between two calls of
sched_get_priority_min().
"""
import re
import sys

MARK = "__x64_sys_sched_get_priority_min"
# What visits a page table of the CPU, and takes its lock: that of single pages
# and, for a huge one, the entry above it.
WALKS = ("__pte_offset_map_lock", "pte_offset_map_nolock", "pmdp_invalidate",
         "pmdp_huge_clear_flush", "page_vma_mapped_walk",
         "__pmd_trans_huge_lock")
# Everything that flushes a TLB of the CPU comes through here.
FLUSHES = ("flush_tlb_mm_range", "flush_tlb_all", "arch_tlbbatch_flush")
KINDS = {"walks": WALKS, "flushes": FLUSHES}

TRACE = re.compile(r"^(Trace|Stopped).*?\[(?:[0-9a-f]+/)?([0-9a-f]{16})")


def read_map(path):
    wanted = {MARK, *WALKS, *FLUSHES}
    found = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            address, _, name = line.split()
            if name in wanted:
                found[int(address, 16)] = name
    missing = wanted - set(found.values())
    if missing:
        raise SystemExit("not in the kernel: " + ", ".join(sorted(missing)))
    return found


def windows(functions, path):
    """Of each window, how often each function was entered."""
    done, window = [], None
    entered = []
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            match = TRACE.match(line)
            name = match and functions.get(int(match[2], 16))
            if not name:
                continue
            # Announced, but put off: it comes again.
            if match[1] == "Stopped":
                if entered and entered[-1] == name:
                    entered.pop()
            else:
                entered.append(name)
    for name in entered:
        if name == MARK and window is None:
            window = {}
        elif name == MARK:
            done.append(window)
            window = None
        elif window is not None:
            window[name] = window.get(name, 0) + 1
    return done


def main():
    functions = read_map(sys.argv[2])
    if sys.argv[1] == "filter":
        print(",".join("0x%x+1" % address for address in sorted(functions)))
        return
    counts = windows(functions, sys.argv[3])
    with open(sys.argv[4], encoding="ascii") as file:
        announced = re.findall(r"^# window (\S+) (\d+)$", file.read(), re.M)
    if len(announced) != len(counts):
        raise SystemExit("%d windows were announced, %d logged" %
                         (len(announced), len(counts)))
    for (name, faults), window in zip(announced, counts):
        for kind, names in KINDS.items():
            total = sum(window.get(function, 0) for function in names)
            print("%s %.2f per-fault" % (name % kind, total / int(faults)))


main()
