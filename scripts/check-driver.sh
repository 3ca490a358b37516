#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-driver.sh: the GMEM-facing part of the sample driver is as short as
# promised, and every piece of C in the driver guide is in the driver word for
# word.
set -eu
. "$(dirname "$0")/lib.sh"

GUIDE=Documentation/gmem/driver-guide.rst

cd "$ROOT"
scripts/count-driver.sh > "$LOG/count-driver.log"

# The guide comes last.  A block ends at the first line that is not indented;
# blank lines within it belong to it, those around it do not.
awk -v guide="$GUIDE" '
function finish()
{
	if (block != "") {
		blocks++
		if (!index(source, "\n" block)) {
			printf "%s:%d: not in the driver:\n%s", guide, at,
				block > "/dev/stderr"
			wrong++
		}
	}
	block = blank = ""
	inside = 0
}
FILENAME != guide {
	source = source "\n" $0
	next
}
FNR == 1 {
	source = source "\n"
}
/^\.\. code-block:: c$/ {
	finish()
	inside = 1
	at = FNR
	next
}
inside && /^$/ {
	if (block != "")
		blank = blank "\n"
	next
}
inside && /^\t/ {
	block = block blank substr($0, 2) "\n"
	blank = ""
	next
}
inside {
	finish()
}
END {
	finish()
	if (!blocks) {
		print guide ": no code found" > "/dev/stderr"
		exit 1
	}
	exit wrong > 0
}' drivers/gmem-sample-npu/*.[ch] "$GUIDE"
