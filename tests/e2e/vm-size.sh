#!/bin/bash
# limit: 240
# The VM is as large as the container's limits need, and the host lets it have all of that.
# shellcheck disable=SC2015,SC2016 # jq programs; conditions in a row
. "${0%/*}/lib.sh"

[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || skip "the host has no unified cgroup hierarchy"

size() { jq ".size.$1" "$state/sandboxes/c1/vmm.json"; }
host_max_mib() { echo $(($(cat /sys/fs/cgroup/husk-vm-size/memory.max) >> 20)); }
guest_cpus() { husk exec c1 nproc < /dev/null; }
guest_total_mib() { husk exec c1 awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo < /dev/null; }

bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .linux.cgroupsPath = "/husk-vm-size"
  | .linux.resources = {memory: {limit: 268435456}, cpu: {quota: 60000, period: 100000}}'
husk create --bundle "$bundle" c1 < /dev/null > /dev/null 2>&1
husk start c1
boot=$(size memory_mib)
[ "$boot" -gt 256 ] || fail "a VM of $boot MiB for a limit of 256"
[ "$boot" -lt 420 ] || fail "a VM of $boot MiB for a limit of 256"
equal "vCPUs for 0.6 CPUs" "$(size vcpus) $(guest_cpus)" "1 1"
total=$(guest_total_mib)
[ "$total" -le "$boot" ] || fail "the guest sees $total MiB in a VM of $boot"
[ "$total" -ge 256 ] || fail "the guest sees $total MiB and its container may use 256"
[ "$(host_max_mib)" -gt "$boot" ] || fail "memory.max on the host is $(host_max_mib) MiB, the VM has $boot"

equal "status" "$(state_of c1)" running
husk delete --force c1
[ ! -d /sys/fs/cgroup/husk-vm-size ] || fail "the cgroup is left"
