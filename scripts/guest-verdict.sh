#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guest-verdict.sh KERNEL_LOG: fail, and show the lines, when a kernel log has
# anything in it that a healthy guest does not say: warnings, oopses, lockdep,
# KASAN and leak reports, hangs, IOMMU faults, or what the guest's init found.
# A data race counts when one of the innermost functions on either side is ours:
# the kernel has others.
set -eu

patterns=(
	'cut here' 'WARNING:' 'BUG:' 'BUG ' 'Oops' 'Kernel panic'
	'general protection fault' 'Unable to handle' 'unable to handle'
	'KASAN:' 'UBSAN:' 'KCSAN:' 'KFENCE:' 'double fault' 'stack segment'
	'possible (circular|recursive) locking' 'inconsistent .*lock state'
	'possible irq lock inversion' 'bad unlock balance' 'held lock freed'
	'suspicious RCU usage' 'lock held when returning to user space'
	'sleeping function called' 'scheduling while atomic'
	'voluntary context switch within RCU'
	'blocked for more than' 'soft lockup' 'hard LOCKUP' 'workqueue lockup'
	'detected (expedited )?stalls' 'self-detected stall'
	'list_(add|del).* corruption' 'refcount_t:' 'ODEBUG:' 'Bad page'
	'page_table_check' 'pagealloc: (memory corruption|single bit error)'
	'Bad rss-counter' 'non-zero pgtables_bytes' 'kobject_add_internal failed'
	'DMAR: DRHD: handling fault' 'DMAR: \[' 'DMAR:.*fault addr'
	'DMA-API: .*(device driver|leak|exceeded|mapping error)'
	'irq [0-9]+: nobody cared' 'Objects remaining' 'still has objects'
	'guest: (FAILED|LEAK|kmemleak)' 'unreferenced object'
	'kmemleak: .*new suspected' 'kmemleak: .*disabled'
)

[ -s "$1" ] || {
	echo "no kernel log" >&2
	exit 1
}
# The log with the headlines of other people's data races made harmless.
without_foreign_races()
{
	awk '
	FNR == NR {
		if (/BUG: KCSAN:/) {
			race = FNR
			frames = 0
		} else if (/==========/) {
			race = 0
		} else if (race && / by (task|interrupt)/) {
			frames = 0
		} else if (race && match($0, / [A-Za-z_][A-Za-z0-9_.]*\+0x/) &&
			   frames++ < 3 &&
			   substr($0, RSTART + 1) ~ /^(__)?(gm|npu|vm_object)_/) {
			ours[race] = 1
		}
		next
	}
	/BUG: KCSAN:/ && !(FNR in ours) {
		sub(/BUG: KCSAN:/, "elsewhere:")
	}
	{ print }' "$1" "$1"
}

expression=$(IFS='|'; echo "${patterns[*]}")
if without_foreign_races "$1" | grep -nE "$expression" > "$1.bad"; then
	head -n 20 "$1.bad" >&2
	exit 1
fi
rm -f "$1.bad"
