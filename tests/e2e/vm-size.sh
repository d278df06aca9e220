#!/bin/bash
# limit: 240
# cpus: 2
# The VM is as large as the container's limits need, and grows and shrinks with them while the container runs; the limits on
# the host follow and never fall below what the VM has.
# shellcheck disable=SC2015,SC2016 # jq programs; conditions in a row
. "${0%/*}/lib.sh"

[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || skip "the host has no unified cgroup hierarchy"
[ "$(nproc)" -ge 2 ] || skip "the host has one CPU"

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

# More of both: a vCPU is made and comes online, memory is plugged.
husk update --cpu-quota 160000 --memory 536870912 c1
equal "vCPUs for 1.6 CPUs" "$(size vcpus) $(guest_cpus)" "2 2"
grown=$(size memory_mib)
[ "$grown" -ge 512 ] || fail "a VM of $grown MiB for a limit of 512"
[ "$(guest_total_mib)" -gt $((total + 200)) ] || fail "the guest sees $(guest_total_mib) MiB after it saw $total"
[ "$(host_max_mib)" -gt "$grown" ] || fail "memory.max on the host is $(host_max_mib) MiB, the VM has $grown"
equal "cpu.max on the host" "$(cat /sys/fs/cgroup/husk-vm-size/cpu.max)" "185000 100000"
equal "both vCPUs work" "$(husk exec c1 sh -c 'taskset 2 sh -c "echo on 1"' < /dev/null)" "on 1"

# What can't be changes nothing, neither in the guest nor on the host.
fails_with 'cpu' husk update --cpuset-cpus 4000 c1
fails_with 'linux\.resources\.cpu\.period|cpu\.period' husk update --cpu-period 5000000 c1
equal "cpu.max after failures" "$(cat /sys/fs/cgroup/husk-vm-size/cpu.max)" "185000 100000"

# Less: the vCPU goes, memory goes as far as the guest lets go of it.
husk update --cpu-quota 50000 --memory 268435456 c1
equal "vCPUs after less" "$(size vcpus) $(guest_cpus)" "1 1"
now=$(size memory_mib)
[ "$now" -ge "$boot" ] && [ "$now" -le "$grown" ] || fail "a VM of $now MiB, between $boot and $grown was due"
[ "$(host_max_mib)" -gt "$now" ] || fail "memory.max on the host is $(host_max_mib) MiB, the VM has $now"
equal "status" "$(state_of c1)" running
husk delete --force c1
[ ! -d /sys/fs/cgroup/husk-vm-size ] || fail "the cgroup is left"
