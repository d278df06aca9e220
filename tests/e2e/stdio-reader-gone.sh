#!/bin/bash
# A reader that goes away ends the program as a broken pipe does on the host; the container does not run on unseen.
. "${0%/*}/lib.sh"

start=$SECONDS
out=$(in_guest sh -c 'yes; echo "yes ended with $?" >&2' 2> "$work/stderr" | head -n 1) || true
equal "the first line" "$out" y
[ $((SECONDS - start)) -lt 60 ] || fail "the container ran on"
