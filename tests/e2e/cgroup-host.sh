#!/bin/bash
# limit: 240
# cgroupsPath in the form of cgroupfs: the VMM with every thread and the monitors are in it, with limits that leave the VMM its
# shellcheck disable=SC2015,SC2016 # jq programs; conditions in a row
# room, before the container is created; hooks are not; nothing of it is left, and nothing of others' is taken.
. "${0%/*}/lib.sh"

cgroups=/sys/fs/cgroup
[ "$(stat -f -c %T $cgroups)" = cgroup2fs ] || skip "the host has no unified cgroup hierarchy"

# The cgroup of a process or thread below the mount point.
cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
vmm_of() { jq .vmm.pid "$state/sandboxes/$1/vmm.json"; }
cgroups_list() { find $cgroups -type d | sort; }
before=$(cgroups_list)

hook=$work/hook
cat > "$hook" << END
#!/bin/bash
sed -n 's/^0:://p' /proc/self/cgroup > "$work/hook.own"
sed -n 's/^0:://p' "/proc/\$(jq .pid)/cgroup" > "$work/hook.state"
END
chmod +x "$hook"

# --- An absolute path with a parent that is missing and one that is not ours, and limits -----------------------
mkdir $cgroups/husk-e2e
device=$(cat /sys/block/{vd,sd,nvme}*/dev 2> /dev/null | head -n 1) || true
bundle_make "$bundle" '.process.args = ["sleep", "1000"]
  | .linux.cgroupsPath = "/husk-e2e/a/../pod//c1"
  | .hooks = {createRuntime: [{path: $hook}]}
  | .linux.resources = {memory: {limit: 209715200}, cpu: {quota: 50000, period: 100000, shares: 512, cpus: "0", mems: "0"}, pids: {limit: 20}}
  | if $device == "" then . else .linux.resources.blockIO = ($device / ":" | map(tonumber) | {major: .[0], minor: .[1]}
      | {throttleReadBpsDevice: [. + {rate: 70000000}], throttleWriteIOPSDevice: [. + {rate: 9000}]}) end' \
  --arg hook "$hook" --arg device "$device"
husk create --bundle "$bundle" c1 < /dev/null > /dev/null 2>&1
path=/husk-e2e/pod/c1
equal "cgroup of state.pid" "$(cgroup_of "$(state_of c1 .pid)")" $path
equal "the hook's state.pid was in it" "$(cat "$work/hook.state")" $path
equal "the hook was not" "$(cat "$work/hook.own")" "$(cgroup_of self)"
threads=0
for task in "/proc/$(vmm_of c1)/task/"*; do
  equal "cgroup of the VMM's thread $(cat "$task/comm")" "$(sed -n 's/^0:://p' "$task/cgroup")" $path
  threads=$((threads + 1))
done
[ $threads -ge 4 ] || fail "the VMM has only $threads threads"
equal "what is in it" "$(sort -n $cgroups$path/cgroup.procs | paste -sd ' ')" \
  "$(printf '%s\n' "$(vmm_of c1)" "$(state_of c1 .pid)" | sort -n | paste -sd ' ')"

# The VMM may hold its whole guest and what it needs itself; the guest was made for the limit.
vm_mib=$(jq .size.memory_mib "$state/sandboxes/c1/vmm.json")
max_mib=$(($(cat $cgroups$path/memory.max) >> 20))
[ "$vm_mib" -gt 200 ] && [ "$max_mib" -gt "$vm_mib" ] && [ "$max_mib" -lt 500 ] ||
  fail "memory.max is $max_mib MiB for a VM of $vm_mib MiB and a limit of 200 MiB"
charged=$(($(cat $cgroups$path/memory.peak 2> /dev/null || cat $cgroups$path/memory.current) >> 10))
[ $charged -gt 20000 ] || fail "only $charged KiB were ever charged to a cgroup with a booted guest in it"
equal "cpu.max: the quota and a quarter of a CPU" "$(cat $cgroups$path/cpu.max)" "75000 100000"
equal cpu.weight "$(cat $cgroups$path/cpu.weight)" 20
equal cpuset.cpus "$(cat $cgroups$path/cpuset.cpus)" 0
equal cpuset.mems "$(cat $cgroups$path/cpuset.mems)" 0
[ -z "$device" ] || equal "limits of a host's disk" "$(cat $cgroups$path/io.max)" "$device rbps=70000000 wbps=max riops=max wiops=9000"
equal "pids.max: tasks of the guest are none of the host" "$(cat $cgroups$path/pids.max)" max
husk start c1

# The monitors of further processes too: in the foreground, and on their own.
command husk --root "$state" --log "$log" exec c1 sleep 1000 < /dev/null > /dev/null 2>&1 &
wait_for 60 grep -q "^$!$" $cgroups$path/cgroup.procs || fail "an exec in the foreground is in $(cgroup_of $!)"
husk exec --detach --pid-file "$work/exec.pid" c1 sleep 1000 < /dev/null > /dev/null 2>&1
equal "cgroup of a detached exec" "$(cgroup_of "$(cat "$work/exec.pid")")" $path
husk delete --force c1
wait || true
[ -d $cgroups/husk-e2e ] || fail "a cgroup that was there before was removed"
rmdir $cgroups/husk-e2e
equal "cgroups left" "$(cgroups_list)" "$before"

# --- A relative path ---------------------------------------------------------------------------------------
bundle_make "$bundle" '.process.args = ["sh", "-c", "echo up; sleep 1000"] | .linux.cgroupsPath = "husk-e2e-relative"'
husk run --bundle "$bundle" c3 > "$work/out" 2>&1 < /dev/null &
wait_for 60 grep -q up "$work/out" || fail "c3 did not start: $(cat "$work/out")"
own=$(cgroup_of self)
equal "a relative path starts at the caller's parent" "$(cgroup_of "$(state_of c3 .pid)")" "${own%/*}/husk-e2e-relative"

# --- Crashes: the VMM and the monitor are killed; another process hides in the cgroup ---------------------------
sleep 1000 &
hidden=$!
echo $hidden > "$cgroups${own%/*}/husk-e2e-relative/cgroup.procs"
kill -KILL "$(state_of c3 .pid)"
wait_for 10 stopped c3 || fail "c3 is still $(state_of c3)"
husk delete --force c3
wait || true
equal "cgroups left after a crash" "$(cgroups_list)" "$before"

# --- Errors name what is wrong, and leave nothing ------------------------------------------------------------------
bundle_make "$bundle" '.linux.cgroupsPath = "/.."'
fails_with 'cgroupsPath: "/\.\." is the root' husk create --bundle "$bundle" c4
bundle_make "$bundle" '.linux.cgroupsPath = "/husk-e2e/c5" | .linux.resources = {cpu: {cpus: "4000"}}'
fails_with 'linux\.resources\.cpu\.cpus: write .4000. to .*/cpuset\.cpus' husk create --bundle "$bundle" c5
bundle_make "$bundle" '.linux.resources = {memory: {limit: "1G"}}'
fails_with 'linux\.resources\.memory\.limit' husk create --bundle "$bundle" c6
equal "cgroups left after errors" "$(cgroups_list)" "$before"

# --- Without a cgroup on the host the limits size the VM, and hold in the guest -----------------------------------------
bundle_make "$bundle" '.process.args = ["awk", "/^MemTotal/ { print $2 < 262144 }", "/proc/meminfo"]
  | .linux.resources = {memory: {limit: 134217728}} | .linux.cgroupsPath = "/husk-e2e/none"'
equal "a guest of less than 256 MiB" "$(husk --cgroup-manager disabled run --bundle "$bundle" c7)" 1
equal "cgroups made although disabled" "$(cgroups_list)" "$before"
bundle_make "$bundle" '.linux.resources = {cpu: {cpus: "0"}}'
fails_with 'linux\.resources\.cpu\.cpus: needs a cgroup' husk --cgroup-manager disabled create --bundle "$bundle" c8
