#!/bin/bash
# limit: 180
# Interfaces that come, change and go while the container runs are followed.
. "${0%/*}/lib.sh"
. "$here/net.bash"

net_make
net_bundle "$bundle" sleep 1000
husk run --detach --bundle "$bundle" c < /dev/null > /dev/null 2>&1
shows() { husk exec c "${@:2}" 2> /dev/null | grep -q -- "$1"; }
shows_not() { ! shows "$@"; }
follows() { wait_for 30 "$@" || fail "not followed: $*: $(husk exec c ip addr)"; }

in_netns ip addr add 10.89.0.3/24 dev eth0
in_netns ip link set eth0 mtu 1300
in_netns ip route add 192.0.2.0/24 via 10.89.0.7
follows shows 10.89.0.3 ip addr show eth0
follows shows 'mtu 1300' ip link show eth0
follows shows '192.0.2.0/24 via 10.89.0.7' ip route
in_netns ip addr del 10.89.0.3/24 dev eth0
follows shows_not 10.89.0.3 ip addr show eth0

net_plug eth1
in_netns ip addr add 10.92.0.2/24 dev eth1
in_netns ip link set eth1 up
ip addr add 10.92.0.1/24 dev "$bridge"
follows shows 10.92.0.2 ip addr show eth1
equal "MAC of the new one" "$(husk exec c cat /sys/class/net/eth1/address)" "$(in_netns cat /sys/class/net/eth1/address)"
ok "ping through the new one" husk exec c ping -q -c 1 -W 20 -I eth1 10.92.0.1 >&2

ip link del "veth1$$"
follows shows_not eth1 ip link
ok "the first one still works" ping -q -c 1 -W 20 10.89.0.2 >&2

net_plug eth1
in_netns ip link set eth1 up
follows shows 'eth1.*,UP' ip link
husk kill c KILL
wait_for 20 stopped c || fail "it did not stop"
husk delete c
equal "left in the namespace" "$(net_leftovers)" ""
