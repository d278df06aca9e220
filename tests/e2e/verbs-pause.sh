#!/bin/bash
# pause stops every process of a container and resume lets them go on; what may not be done to a paused container is an
# error of its own, in the words of runc. SIGKILL ends it, delete --force removes it.
# limit: 300
. "${0%/*}/lib.sh"

ticks() { stat -c %s "$rootfs/srv/ticks"; }
ticks_go_on() { local before; before=$(ticks); wait_for 20 eval "[ \"\$(ticks)\" != $before ]"; }

rm -f "$rootfs/srv/ticks"
bundle_make "$bundle" '.process.args = ["sh", "-c", "while :; do printf . >> /srv/ticks; sleep 0.2; done"]'
husk create --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
husk pause c1
equal "status of a created container, paused" "$(state_of c1)" paused
fails_with 'cannot start a container in the paused state' husk start c1
husk resume c1
equal "status of a created container, resumed" "$(state_of c1)" created
husk start c1
wait_for 30 test -s "$rootfs/srv/ticks" || fail "the program does not run"

husk pause c1
equal "status after pause" "$(state_of c1)" paused
equal "list tells it too" "$(husk list --format json | jq -r '.[].status')" paused
before=$(ticks)
sleep 1
equal "what the program has done meanwhile" "$(ticks)" "$before"
fails_with 'already paused' husk pause c1
fails_with 'paused state' husk start c1
fails_with 'cannot delete container c1 that is not stopped: paused' husk delete c1
fails_with 'paused container' husk exec c1 true
equal "processes of a paused container" "$(husk ps --format json c1 | jq 'length > 0')" true
husk resume c1
equal "status after resume" "$(state_of c1)" running
ticks_go_on || fail "the program does not go on after resume"
fails_with 'container not paused' husk resume c1

# Signals: others wait for the resume, SIGKILL does not.
husk pause c1
husk kill c1 TERM
equal "status of a paused container with a signal to come" "$(state_of c1)" paused
husk kill c1 KILL
wait_for 30 stopped c1 || fail "SIGKILL did not end a paused container"
fails_with 'container not running' husk pause c1
fails_with 'container not paused' husk resume c1
husk delete c1

husk run --detach --bundle "$bundle" c2 > /dev/null 2>&1 < /dev/null
husk pause c2
husk delete --force c2
fails_with 'does not exist' husk state c2
fails_with 'does not exist' husk pause c2
rm "$rootfs/srv/ticks"
