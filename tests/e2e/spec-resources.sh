#!/bin/bash
# limit: 240
# linux.resources and linux.devices: the container's cgroup files hold what crun writes for the same config.json; device rules
# decide in their order; a delegated cgroup is its user's.
. "${0%/*}/lib.sh"

cgroup='| .linux.namespaces += [{"type": "cgroup"}]
  | .mounts += [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}]'
guest_config=$cgroup'
  | .linux.resources = {
      "cpu": {"shares": 512, "quota": 800000, "period": 200000, "burst": 10000},
      "memory": {"limit": 134217728, "reservation": 67108864, "swap": 201326592, "checkBeforeUpdate": true},
      "pids": {"limit": 77}, "blockIO": {"weight": 500}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
      "unified": {"memory.high": "100000000", "cpu.weight": "42"},
      "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "c", "major": 10, "access": "r"}, {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "w"}]}
  | .linux.devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 3},
      {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 384, "uid": 1, "gid": 2},
      {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3}, {"path": "/dev/pipe", "type": "p", "fileMode": 420, "uid": 0, "gid": 0}]'
report='
  cd /sys/fs/cgroup
  grep "" cpu.weight cpu.max cpu.idle memory.max memory.low memory.swap.max memory.high pids.max io.weight hugetlb.2MB.max
  stat -c "%n %F %t:%T %a %u:%g" /dev/fuse /dev/net/tun /dev/unbuffered /dev/pipe
  for d in /dev/fuse /dev/net/tun /dev/unbuffered; do for m in "<" ">>"; do sh -c "true $m $d" 2> /dev/null && echo "$d $m"; done; done
  mknod /srv/dev-$1 c 10 237 && echo made; rm -f /srv/dev-$1; mknod /dev/kmsg c 1 11 && { true < /dev/kmsg; } 2> /dev/null && echo kmsg
  mkdir sub && echo $$ > sub/cgroup.procs && cat /proc/self/cgroup'
in_crun sh -c "$report" - crun > "$work/crun.out" 2>&1 || true
pod_start
guest_config+=$pod_join
in_guest sh -c "$report; cat /sys/fs/cgroup/cpu.max.burst" - husk > "$work/husk.out" 2>&1 || true
equal "cpu.burst, which crun 1.8 leaves out" "$(tail -n 1 "$work/husk.out")" 10000
ok "the cgroup as under crun" diff "$work/crun.out" <(head -n -1 "$work/husk.out") >&2

# An idle group, and no limits. crun 1.8 has no swap without a memory limit.
guest_config=$cgroup'| .linux.resources = {"cpu": {"idle": 1}, "memory": {"limit": -1}, "pids": {"limit": -1}}'
report='cd /sys/fs/cgroup; grep "" cpu.idle cpu.weight cpu.max memory.max pids.max'
in_crun sh -c "$report" > "$work/crun.out" 2>&1 || true
guest_config+=$pod_join
in_guest sh -c "$report" > "$work/husk.out" 2>&1 || true
ok "no limits, as under crun" diff "$work/crun.out" "$work/husk.out" >&2

# The files that the kernel lists as delegatable are the process's user's, and no others.
guest_config="$cgroup | .linux.resources.memory.useHierarchy = true | .process.user = {\"uid\": 1000, \"gid\": 1000} $pod_join"
got=$(in_guest sh -c 'cd /sys/fs/cgroup; for f in *; do [ $(stat -c %u $f) = 0 ] || echo $f; done | sort
  stat -c %u .; mkdir a && echo $$ > a/cgroup.procs && cat /proc/self/cgroup; cat /sys/kernel/cgroup/delegate | sort >&2' 2> "$work/delegate")
equal "a delegated cgroup" "$got" "$(grep -xFf <(echo "$got") "$work/delegate")
1000
0::/a"
matches "delegated files" "$got" 'cgroup.procs.*cgroup.subtree_control'
husk delete --force pod
