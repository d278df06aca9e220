#!/bin/bash
# Any command may be killed at any moment: a killed create leaves nothing that delete --force does not remove, and state is
# never half-written.
# limit: 600
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
for delay in 0 0.02 0.05 0.1 0.2 0.4 0.8 1.6; do
  command husk --root "$state" create --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null &
  create=$!
  sleep $delay
  kill -KILL $create 2> /dev/null || true
  wait $create 2> /dev/null || true
  husk state c1 > "$work/state.json" 2> "$work/err" || matches "after $delay s: the error" "$(cat "$work/err")" 'does not exist'
  [ ! -s "$work/state.json" ] || matches "after $delay s: the status" "$(jq -r .status "$work/state.json")" '^(creating|created|stopped)$'
  husk list --format json | jq -e . > /dev/null || fail "after $delay s: list is broken"
  husk delete --force c1
  wait_for 5 test -z "$(processes_list)" || fail "after $delay s: processes: $(ps -o pid=,args= -p "$(processes_list | paste -sd,)")"
  [ -z "$(files_list)" ] || fail "after $delay s: files: $(files_list)"
done
ok "a container after all this" husk run --bundle "$bundle" --detach c1 > /dev/null 2>&1 < /dev/null
equal "its status" "$(state_of c1)" running
husk delete --force c1
