# Sourced, after lib.sh, by the scripts about networks: a pod's network namespace beside the host's bridge.
#
#   net_make           namespace $netns with eth0 (10.89.0.2/24, fd00:89::2/64), bridge hb0 (10.89.0.1, fd00:89::1)
#   net_guest ARGS...  in_guest in that namespace; net_crun the same with crun
# The container gets the machine's /usr, for its ip, ping and socat.
# shellcheck shell=bash

netns=husk-e2e-$$
bridge=hb$$

net_remove() {
  ip netns pids "$netns" 2> /dev/null | xargs -r kill -KILL || true
  ip netns del "$netns" 2> /dev/null || true
  ip link del "$bridge" 2> /dev/null || true
}

net_finish() {
  local status=$?
  jobs -p | xargs -r kill 2> /dev/null || true
  net_remove
  (exit $status)
  finish
}
trap net_finish EXIT

# A veth pair from the bridge to the namespace.
net_plug() { # net_plug NAME
  ip link add "v$1$$" type veth peer name "$1" netns "$netns"
  ip link set "v$1$$" master "$bridge" up
}

net_make() {
  ip netns add "$netns"
  ip link add "$bridge" type bridge
  ip addr add 10.89.0.1/24 dev "$bridge"
  ip -6 addr add fd00:89::1/64 dev "$bridge" nodad
  ip link set "$bridge" up
  net_plug eth0
  in_netns ip link set lo up
  in_netns ip addr add 10.89.0.2/24 dev eth0
  in_netns ip -6 addr add fd00:89::2/64 dev eth0 nodad
  in_netns ip link set eth0 up
  in_netns ip route add default via 10.89.0.1
  in_netns ip -6 route add default via fd00:89::1
  wait_for 10 net_is_settled
}

# Link-local addresses have been looked for by now.
net_is_settled() { ! in_netns ip addr | grep -q tentative; }

in_netns() { ip netns exec "$netns" "$@"; }

# What a JQ filter of a bundle adds: the namespace, tools, rights.
# shellcheck disable=SC2034
net_config='
  | .mounts += [{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}]
  | .linux.namespaces |= map(if .type == "network" then .path = $netns else . end)
  | .process.capabilities[] += ["CAP_NET_ADMIN", "CAP_NET_RAW"]'

net_config_here() { echo "${net_config//\$netns/\"/run/netns/$netns\"}"; }

net_guest() {
  # shellcheck disable=SC2034 # in_guest's
  local guest_config
  guest_config=$(net_config_here)
  in_guest "$@"
}

net_crun() {
  # shellcheck disable=SC2034 # in_crun's
  local guest_config
  guest_config=$(net_config_here)
  in_crun "$@"
}

# A bundle in $1 for a container that runs COMMAND...
net_bundle() { # net_bundle DIR COMMAND...
  bundle_make "$1" ".process.args = \$args $(net_config_here)" --argjson args "$(jq -cn '$ARGS.positional' --args -- "${@:2}")"
}

# Taps and redirections of ours in the namespace.
net_leftovers() {
  in_netns ip -o link | grep -o 'husk[0-9]*' || true
  for link in $(in_netns ls /sys/class/net 2> /dev/null); do
    in_netns tc filter show dev "$link" ingress 2> /dev/null | grep mirred || true
    in_netns tc qdisc show dev "$link" | grep ingress || true
  done
}
