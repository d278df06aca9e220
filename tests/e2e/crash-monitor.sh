#!/bin/bash
# The monitor is killed: the container is reported stopped within 2 s, and its VM does not run on.
. "${0%/*}/lib.sh"

crash_start
kill -KILL "$(state_of crash .pid)"
crash_expect 'monitor'
