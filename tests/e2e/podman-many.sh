#!/bin/bash
# 50 containers started and removed one after the other leave nothing: no process, fd, mount, cgroup, interface, namespace,
# firewall rule or file; what stays on behalf of a container beside them does not grow.
# limit: 1800
. "$(dirname "$0")/lib.sh"
long
. "$here/lib_podman.sh"

podman_networks=(hm1)

staying() { pgrep -x 'husk.*|conmon|aardvark-dns|netavark|podman|slirp4netns|pasta' | sort -n; }

# What there is, a count a line.
counts() {
  local pid
  echo "processes $(staying | wc -l)"
  for pid in $(staying); do echo "fds of $(cat "/proc/$pid/comm") $pid: $(find "/proc/$pid/fd" | wc -l)"; done
  echo "mounts $(wc -l < /proc/self/mountinfo)"
  echo "mounts of the monitors $(for pid in $(pgrep -x 'husk.*'); do cat "/proc/$pid/mountinfo"; done | wc -l)"
  echo "cgroups $(find /sys/fs/cgroup -type d | wc -l)"
  echo "interfaces $(ip -o link | wc -l)"
  echo "network namespaces $(find /run/netns -mindepth 1 2> /dev/null | wc -l)"
  echo "firewall rules $(iptables-save 2> /dev/null | grep -c '^-A')"
  echo "named sockets $(sockets_list | wc -l)"
  echo "files of husk $(files_list | wc -l)"
  echo "files of podman $(find "$work/storage/overlay-containers" "$work/storage/overlay" "$work/run" "$work/tmp" | wc -l)"
}

# Resident memory in KiB, a process a line; the guest's is the same as long as the container does nothing.
resident() {
  local pid
  for pid in $(staying); do echo "$(cat "/proc/$pid/comm")-$pid $(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")"; done
}

one_more() { # one_more NUMBER: one in two is removed by force, the other by itself
  if [ $(($1 % 2)) = 0 ]; then
    podman run -d --name "c$1" --network hm1 -p 18089:80 "${image:?}" sleep 1000 > /dev/null
    equal "exec" "$(podman exec "c$1" echo there)" there
    podman rm -f -t 0 "c$1" > /dev/null
  else
    equal "run" "$(podman run --rm --network hm1 "${image:?}" echo there)" there
  fi
}

podman network create --subnet 10.95.0.0/24 hm1 > /dev/null
podman run -d --name stays --network hm1 "${image:?}" sleep 100000 > /dev/null
for i in 1 2 3 4; do one_more $i; done # what is made at first use
sleep 2                                # podman's clean-up of the last one
counts > "$work/before"
resident > "$work/resident-before"
say "after 4 containers: $(paste -sd' ' "$work/resident-before")"
start=$SECONDS
for i in $(seq 5 54); do one_more "$i"; done
say "50 containers in $((SECONDS - start)) s"
same() { counts > "$work/after" && cmp -s "$work/before" "$work/after"; }
wait_for 10 same || fail "not as before 50 containers: $(diff "$work/before" "$work/after")"
resident > "$work/resident-after"
say "after 54 containers: $(paste -sd' ' "$work/resident-after")"
grown=$(join "$work/resident-before" "$work/resident-after" | awk '$3 > $2 + 1024 { print }')
equal "what grew by more than 1 MiB" "$grown" ""
say "counts: $(paste -sd, "$work/after")"
