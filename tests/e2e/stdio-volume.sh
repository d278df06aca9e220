#!/bin/bash
# Much data through `cat`, in by stdin and out by stdout, compares equal: 1 GB, and in the testbed a fifth of it.
# limit: 1200
. "${0%/*}/lib.sh"

bytes=$((1000 * 1000 * 1000))
[ ! -d /run/testbed ] || [ "${HUSK_LONG:-0}" = 1 ] || bytes=$((bytes / 5))
in_guest cat < <(python3 "$here/stream.py" write $bytes) | python3 "$here/stream.py" check $bytes ||
  fail "what came out is not what went in"
