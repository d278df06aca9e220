#!/bin/bash
# Processes that outlive their parent are reaped: by the container's init when it does so, and with it when it ends.
. "${0%/*}/lib.sh"

start=$SECONDS
equal "output" "$(in_guest sh -c '(sleep 1000 &) ; (setsid sleep 1000 > /dev/null 2>&1 &) ; echo done')" "done"
[ $((SECONDS - start)) -lt 60 ] || fail "the container waited for an orphan"
