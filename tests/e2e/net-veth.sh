#!/bin/bash
# limit: 180
# The guest's network is the pod's: addresses, routes, neighbours and rules as crun shows them in the same namespace, and
# bytes go both ways by IPv4 and IPv6 without a loss. So they do from within the namespace, as a port forwarder there connects.
. "${0%/*}/lib.sh"
. "$here/net.bash"

net_make
in_netns ip link set eth0 mtu 1400
in_netns ip addr add 10.90.0.1 peer 10.90.0.9/32 dev eth0
in_netns ip addr add 10.91.0.1/24 dev eth0 noprefixroute
in_netns ip route add 192.0.2.0/24 via 10.89.0.7 metric 50 mtu 1300
in_netns ip route add 198.51.100.0/24 dev eth0 scope link table 200
in_netns ip route add blackhole 203.0.113.0/24
in_netns ip route add 172.20.0.0/16 nexthop via 10.89.0.8 weight 2 nexthop via 10.89.0.9
in_netns ip -6 route add 2001:db8::/32 via fd00:89::7 metric 77
in_netns ip rule add from 10.91.0.1 table 200 priority 900
in_netns ip neigh add 10.89.0.77 lladdr 02:00:00:00:00:77 nud permanent dev eth0
in_netns sysctl -q net.ipv4.conf.eth0.rp_filter=2 net.ipv6.conf.eth0.accept_ra=0

# What differs by nature: the other end of the veth pair, and the queueing of a real NIC.
report='
  ip addr | sed -E "s/@if[0-9]+//; s/ link-netnsid [0-9]+//; s/ qdisc [a-z_]+//"
  ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
  ip neigh show nud permanent
  sysctl net.ipv4.conf.eth0.rp_filter net.ipv6.conf.eth0.accept_ra'
net_crun sh -c "$report" > "$work/wanted"

bytes=$((4 << 20))
head -c $bytes /dev/urandom > "$work/data"
sum=$(sha256sum < "$work/data")
talk='
  { '$report'; } 2>&1
  echo ---
  ping -q -c 3 -W 20 10.89.0.1 >&2 && ping -q -c 1 -W 20 fd00:89::1 >&2 && echo pings
  ping -q -c 1 -W 5 -M do -s 1372 10.89.0.1 > /dev/null && echo "packets of the MTU"
  ping -c 1 -W 5 -M do -s 1373 10.89.0.1 2>&1 > /dev/null | grep -o "Message too long\|message too long" | head -n 1
  socat -u TCP:10.89.0.1:5001 - | sha256sum
  socat -u TCP6:[fd00:89::1]:5002 - | sha256sum
  socat -u TCP-LISTEN:5003 - | sha256sum
  socat -u TCP-LISTEN:5004 - | sha256sum
  head -c '$bytes' /dev/zero | socat -u - TCP:10.89.0.1:5005'

socat -u "OPEN:$work/data" TCP-LISTEN:5001,reuseaddr &
socat -u "OPEN:$work/data" TCP6-LISTEN:5002,reuseaddr &
socat -u TCP-LISTEN:5005,reuseaddr "OPEN:$work/received,creat" &
net_guest sh -c "$talk" > "$work/got" &
guest=$!
wait_for 120 grep -q 'packets of the MTU' "$work/got" || fail "no ping came back: $(tail -n 5 "$work/got")"
ok "ping from the host" ping -q -c 3 -W 20 10.89.0.2 >&2
ok "ping from the host by IPv6" ping -q -c 1 -W 20 fd00:89::2 >&2
wait_for 60 socat -u "OPEN:$work/data" TCP:10.89.0.2:5003 || fail "the guest takes no connection"
wait_for 60 in_netns socat -u "OPEN:$work/data" TCP:10.89.0.2:5004 || fail "the guest takes no connection from within: $(in_netns ip route show table local)"
wait $guest

ok "addresses, routes and the like, as under crun" diff "$work/wanted" <(sed '/^---/,$d' "$work/got") >&2
equal "what was said" "$(sed '1,/^---/d' "$work/got")" "pings
packets of the MTU
message too long
$sum
$sum
$sum
$sum"
equal "bytes from the guest" "$(sha256sum < "$work/received")" "$(head -c $bytes /dev/zero | sha256sum)"
equal "left in the namespace" "$(net_leftovers)" ""
equal "its own address again" "$(in_netns ip -o route get 10.89.0.2 | grep -c "dev lo ")" 1
