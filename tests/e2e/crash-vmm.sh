#!/bin/bash
# The VMM is killed: the container is reported stopped, with a reason, within 2 s, and `husk run` ends.
. "${0%/*}/lib.sh"

crash_start
kill -KILL "$(pgrep -nx husk-vmm)"
crash_expect 'VMM|killed|signal'
