#!/bin/bash
# limit: 180
# Nothing of ours stays in the pod's namespace: after a run, a failed create, a killed monitor, a killed VMM.
. "${0%/*}/lib.sh"
. "$here/net.bash"

net_make
none_left() { [ -z "$(net_leftovers)" ]; }
clean() { wait_for 5 none_left || fail "left after $1: $(net_leftovers)"; }

net_guest true
clean "a run"

net_bundle "$bundle" /nosuch
fails_with nosuch husk create --bundle "$bundle" c
clean "a create that failed"

net_bundle "$bundle" sleep 1000
for victim in monitor vmm; do
  husk run --detach --bundle "$bundle" c < /dev/null > /dev/null 2>&1
  [ -n "$(net_leftovers)" ] || fail "no redirection is there: the test sees nothing"
  case $victim in
  monitor) kill -KILL "$(state_of c .pid)" ;;
  vmm) kill -KILL "$(jq .vmm.pid "$state/sandboxes/c/vmm.json")" ;;
  esac
  wait_for 20 stopped c || fail "not stopped without its $victim"
  husk delete --force c
  clean "the $victim was killed"
done

# The host's own stack is back where it was.
ok "the namespace talks again" in_netns ping -q -c 1 -W 10 10.89.0.1 >&2
