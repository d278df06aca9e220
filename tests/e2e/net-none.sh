#!/bin/bash
# A namespace without a path, or with nothing but lo in it: lo is up, and there is nothing else.
. "${0%/*}/lib.sh"
. "$here/net.bash"

look='ip -o link | cut -d" " -f2; ip -o addr show lo | sed "s/ *valid.*//; s/.*lo *//"; ping -c 1 -W 10 127.0.0.1 > /dev/null && echo answer'
ip netns add "$netns"
in_netns ip link set lo up
husk_out=$(net_guest sh -c "$look")
equal "in an empty namespace, as under crun" "$husk_out" "$(net_crun sh -c "$look")"

net_config=${net_config//.path = \$netns/.}
namespaces() { lsns -t net -n -o NS | sort; }
before=$(namespaces)
unchanged() { [ "$(namespaces)" = "$before" ]; }
husk_out=$(net_guest sh -c "$look")
equal "in a namespace of its own, as under crun" "$husk_out" "$(net_crun sh -c "$look")"
wait_for 5 unchanged || fail "a network namespace is left"
