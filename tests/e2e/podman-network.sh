#!/bin/bash
# podman's networks: two containers that know each other by name, a published port, a container in another's network, a network
# that is connected and disconnected while the container runs.
# limit: 500
. "$(dirname "$0")/lib.sh"
. "$here/lib_podman.sh"

podman_networks=(hn1 hn2)

podman network create --subnet 10.93.0.0/24 hn1 > /dev/null
podman network create --subnet 10.94.0.0/24 hn2 > /dev/null
podman run -d --name client --network hn1,hn2 "${image:?}" sleep 1000 > /dev/null &
client=$!
podman run -d --name server --network hn1 -p 18080:8000 "${image:?}" python3 -m http.server 8000 -d /etc > /dev/null
wait $client
read_server=$(podman exec server cat /proc/sys/kernel/random/boot_id /etc/os-release)
wanted=${read_server#*$'\n'}
answers() { [ "$(curl -s --max-time 10 "$1")" = "$wanted" ]; }
client_gets() { equal "$1" "$(podman exec client curl -s --max-time 20 "$2")" "$wanted"; }
address_in() { podman inspect server --format "{{.NetworkSettings.Networks.$1.IPAddress}}"; }

wait_for 60 answers http://127.0.0.1:18080/os-release || fail "the published port does not answer"
ok "the address from the host" answers "http://$(address_in hn1):8000/os-release"
client_gets "by name from another container" http://server:8000/os-release
equal "a container in the other's network, on the same kernel" \
  "$(podman run --rm --network container:server "${image:?}" sh -c 'curl -s --max-time 20 http://127.0.0.1:8000/os-release; cat /proc/sys/kernel/random/boot_id')" \
  "$wanted
${read_server%%$'\n'*}"
ok "the server goes on" answers http://127.0.0.1:18080/os-release

podman network connect hn2 server
connected() { podman exec server ip -o addr | grep -q ' 10\.94\.0\.'; }
wait_for 30 connected || fail "hn2 was connected, but the container has: $(podman exec server ip -o addr)"
client_gets "by the second network" "http://$(address_in hn2):8000/os-release"
podman network disconnect hn2 server
disconnected() { ! connected; }
wait_for 30 disconnected || fail "hn2 was disconnected, but the container has: $(podman exec server ip -o addr)"
ok "the first network still works" answers http://127.0.0.1:18080/os-release

podman rm -f -t 0 server client > /dev/null
equal "taps left" "$(ip -o link | grep -o 'husk[0-9]*:' || true)" ""
