#!/bin/bash
# 1 GB through `cat`, in by stdin and out by stdout, compares equal.
# limit: 1200
. "${0%/*}/lib.sh"

readonly bytes=$((1000 * 1000 * 1000))
in_guest cat < <(python3 "$here/stream.py" write $bytes) | python3 "$here/stream.py" check $bytes ||
  fail "what came out is not what went in"
