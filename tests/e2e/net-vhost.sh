#!/bin/bash
# limit: 180
# Packets go through the kernel's vhost-net where /dev/vhost-net is, and through the VMM's own data path where it is not.
. "${0%/*}/lib.sh"
. "$here/net.bash"
[ -e /dev/vhost-net ] || skip "the host has no /dev/vhost-net"

# The module's own test of a device with either path: places in the rings, pause, save and restore, reset.
build=$(dirname "$(readlink -f "$(type -P husk)")")/..
if [ -x "$build/tests/test_net_tap" ]; then
  "$build/tests/test_net_tap" > "$work/unit" 2>&1 || fail "test_net_tap: $(tail -n 20 "$work/unit")"
  matches "its part with vhost-net" "$(cat "$work/unit")" 'OK \] saved_device_goes_on \(vhost\)'
fi

net_make
net_bundle "$bundle" sleep 1000

# What the VMM's control socket says of the container's NIC.
nic() {
  python3 - "$state/sandboxes/c/vmm.sock" "$1" << 'PYTHON'
import json, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    sock.connect(sys.argv[1])
    sock.send(json.dumps({"method": "status", "params": {}}).encode())
    devices = json.loads(sock.recv(128 << 10))["result"]["devices"]
print(next(d["statistics"][sys.argv[2]] for d in devices if d["type"] == "net"))
PYTHON
}
vhost_fds() { find "/proc/$(jq .vmm.pid "$state/sandboxes/c/vmm.json")/fd" -lname /dev/vhost-net | wc -l; }
tap_packets() { in_netns cat "/sys/class/net/$(in_netns ls /sys/class/net | grep husk)/statistics/rx_packets"; }
talks() { ok "ping from the host" ping -q -c 5 -i 0.2 -W 20 10.89.0.2 >&2; }

husk run --detach --bundle "$bundle" c < /dev/null > /dev/null 2>&1
talks
equal "the VMM's fds of vhost-net, one a queue pair" "$(vhost_fds)" "$(nic queue-pairs)"
[ "$(tap_packets)" -ge 5 ] || fail "the guest sent $(tap_packets) packets"
equal "packets and kicks that the VMM saw itself" "$(nic tx-packets) $(nic rx-packets) $(nic queue-kicks)" "0 0 0"
husk delete --force c

# An open of a socket fails with ENXIO, as of a node without its driver.
socat UNIX-LISTEN:"$work/none" /dev/null &
wait_for 10 test -S "$work/none"
# shellcheck disable=SC2016 # for the inner shell
hidden() { unshare --mount -- sh -ec 'mount --bind "$1" /dev/vhost-net; shift; exec "$@"' sh "$work/none" "$@"; }
hidden "$(type -P husk)" --root "$state" --log "$log" run --detach --bundle "$bundle" c < /dev/null > /dev/null 2>&1
talks
equal "fds of vhost-net without it" "$(vhost_fds)" 0
[ "$(nic tx-packets)" -ge 5 ] || fail "the VMM sent $(nic tx-packets) packets"
[ "$(nic rx-packets)" -ge 5 ] || fail "the VMM received $(nic rx-packets) packets"
husk delete --force c
equal "left in the namespace" "$(net_leftovers)" ""
