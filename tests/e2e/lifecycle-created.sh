#!/bin/bash
# A created container can be killed and deleted without having been started, and later edits of config.json do not count.
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["echo", "first"]'
husk create --bundle "$bundle" c1 > "$work/out" 2>&1 < /dev/null
bundle_make "$bundle" '.process.args = ["echo", "second"]'
husk start c1
wait_for 30 stopped c1 || fail "not stopped"
equal "output" "$(cat "$work/out")" first
husk delete c1

husk create --bundle "$bundle" c2 > "$work/out" 2>&1 < /dev/null
husk kill c2 KILL
wait_for 30 stopped c2 || fail "not stopped after kill"
husk delete c2
equal "output of a container that never ran" "$(cat "$work/out")" ""

husk create --bundle "$bundle" c3 > /dev/null 2>&1 < /dev/null
husk delete c3
