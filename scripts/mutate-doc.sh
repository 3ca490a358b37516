#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutate-doc.sh: put the results of `make mutate` into the documentation.  What
# survived has its reason from mutations/reasons.
set -eu
. "$(dirname "$0")/lib.sh"

FROM=$BUILD/mutate/results
TO=$ROOT/Documentation/gmem/mutations.txt
REASONS=$ROOT/mutations/reasons

[ -r "$FROM" ] || die "no $FROM; run make mutate"
awk -F'\t' -v reasons="$REASONS" '
BEGIN {
	while ((getline line < reasons) > 0) {
		at = index(line, ": ")
		if (line !~ /^#/ && at)
			reason[substr(line, 1, at - 1)] = substr(line, at + 2)
	}
}
function section(title) {
	if (title != last)
		printf "%s%s\n\n", (last ? "\n" : ""), title
	last = title
}
{
	name = $1; kind = $2; file = $3; verdict = $4; what = $6; by = $7
	count[verdict]++
	rows++
	if (kind == "breakage")
		section("What is wrong")
	else
		section("Hunk of the patch queue, left out")
	sub(/^kernel: /, "kernel log: ", by)
	gsub(/ +/, " ", by)
	if (verdict == "unbuilt")
		by = "does not build"
	else if (verdict == "declares")
		by = "only declares or includes"
	else if (verdict == "build")
		by = "builds GMEM"
	else if (verdict == "text")
		by = "documentation"
	else if (verdict == "before")
		by = by "\n    (before the last change of the file or of these tests)"
	else if (verdict != "killed")
		by = toupper(verdict) (name in reason ? ": " reason[name] : "")
	if (kind == "breakage")
		printf "%s: %s\n", name, what
	else
		printf "%s: %s: %s\n", name, file, what
	printf "    %s\n", by
}
END {
	tested = count["killed"] + count["survived"]
	printf "\n%d of %d noticed, %d survived, %d do not build, %d say or build something, %d not run, %d noticed before a change\n",
		count["killed"], tested, count["survived"], count["unbuilt"],
		count["declares"] + count["build"] + count["text"],
		count["not run"], count["before"]
}' "$FROM" > "$TO.tmp"
mv "$TO.tmp" "$TO"
say WRITE "${TO#"$ROOT"/}"
