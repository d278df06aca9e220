#!/bin/bash
# run writes the pid file, passes signals to the program, and leaves nothing when it ends; --detach leaves it running.
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["sh", "-c", "trap \"echo got USR1; exit 5\" USR1; echo ready; sleep 1000 & wait"]'
command husk --root "$state" run --bundle "$bundle" --pid-file "$work/pid" c1 > "$work/out" < /dev/null &
run=$!
wait_for 60 grep -qs ready "$work/out" || fail "the program did not start"
equal "pid file" "$(cat "$work/pid")" "$(state_of c1 .pid)"
kill -USR1 $run
status=0
wait $run || status=$?
equal "exit status after a signal to husk run" $status 5
equal "output" "$(cat "$work/out")" $'ready\ngot USR1'
fails_with 'does not exist' husk state c1

# A signal to the pid in the pid file reaches the program too.
command husk --root "$state" run --bundle "$bundle" --pid-file "$work/pid" c2 > "$work/out" < /dev/null &
run=$!
wait_for 60 grep -qs ready "$work/out" || fail "the program did not start"
kill -USR1 "$(cat "$work/pid")"
status=0
wait $run || status=$?
equal "exit status after a signal to the pid" $status 5

husk run --detach --bundle "$bundle" c3 > "$work/out" 2>&1 < /dev/null
equal "status after run --detach" "$(state_of c3)" running
husk delete --force c3
