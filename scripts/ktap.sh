#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# ktap.sh FILE: count the results of a KTAP or TAP log and print "passed failed
# skipped".  A result that sums up indented results before it is not counted
# again.  A plan that was not fulfilled, a program that ended badly without a
# failed result and one that gave no result at all count as one failure each,
# and are named on stderr.
set -eu

exec awk '
function fail(text) {
	failed++
	print "not ok: " text > "/dev/stderr"
}
# The results of level and deeper are over: see whether they were complete.
function close_plans(level,	i) {
	for (i in plan) {
		if (i + 0 < level)
			continue
		if (plan[i] != seen[i])
			fail(sprintf("%s: planned %d results, got %d",
				     program, plan[i], seen[i]))
		delete plan[i]
		delete seen[i]
	}
}
function end_program(rc) {
	close_plans(0)
	for (i in children) {
		delete children[i]
		delete bad_children[i]
	}
	if (program == "")
		return
	if (results == 0 && rc != 4)
		fail(program ": printed no result")
	else if (rc != 0 && rc != 4 && failed == failed_before)
		fail(program ": ended with status " rc)
	else if (rc == 4 && results == 0)
		skipped++
	program = ""
}

{ sub(/\r$/, "") }
/^# program: / {
	end_program("none")
	program = $3
	results = 0
	failed_before = failed
	next
}
/^# exit: / {
	end_program($4)
	next
}
# glib and kselftest name a plan before or after the results.
match($0, /^ *1\.\.[0-9]+/) {
	level = match($0, /[^ ]/) - 1
	if (level in plan)
		close_plans(level)
	sub(/^ *1\.\./, "")
	plan[level] = $1 + 0
	if (!(level in seen))
		seen[level] = 0
	next
}
/^ *(not )?ok [0-9]+/ {
	level = match($0, /[^ ]/) - 1
	bad = $0 ~ /^ *not ok/
	close_plans(level + 1)
	seen[level]++
	results++
	# Does it sum up deeper results?
	deeper = deeper_bad = 0
	for (i in children)
		if (i + 0 > level) {
			deeper += children[i]
			deeper_bad += bad_children[i]
			delete children[i]
			delete bad_children[i]
		}
	children[level]++
	bad_children[level] += bad
	if (deeper) {
		if (bad && !deeper_bad)
			fail($0)
		next
	}
	if (bad) {
		failed++
	} else if ($0 ~ /# *SKIP/) {
		skipped++
	} else {
		passed++
	}
	next
}
END {
	end_program("none")
	printf "%d %d %d\n", passed, failed, skipped
}' "$1"
