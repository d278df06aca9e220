#!/bin/bash
# Each transition that the lifecycle does not know is an error of its own and changes nothing.
. "${0%/*}/lib.sh"

readonly gone='does not exist' not_running='container not running|no such process|does not exist'
for verb in state start "kill KILL" delete; do
  read -r name argument <<< "$verb"
  # shellcheck disable=SC2086 # no argument is no word
  fails_with "$gone" husk $name nobody $argument
done

bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
husk create --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
fails_with 'exist' husk create --bundle "$bundle" c1
fails_with 'exist' husk run --bundle "$bundle" c1
equal "status of the first c1" "$(state_of c1)" created

husk start c1
fails_with 'running|created' husk start c1
fails_with 'running|stopped' husk delete c1
fails_with 'signal' husk kill c1 NOSUCHSIGNAL
fails_with 'signal' husk kill c1 100
equal "status after what was refused" "$(state_of c1)" running

husk kill c1 KILL
wait_for 30 stopped c1 || fail "not stopped"
fails_with "$not_running" husk kill c1 TERM
fails_with 'stopped|created' husk start c1
husk delete c1
fails_with "$gone" husk delete c1
ok "delete --force of nothing" husk delete --force c1

# A created container may be deleted with --force, and by runc and crun without.
husk create --bundle "$bundle" c2 > /dev/null 2>&1 < /dev/null
husk delete --force c2
fails_with "$gone" husk state c2
