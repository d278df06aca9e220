#!/bin/bash
# cgroup version 1: the VMM and the monitor are in the container's cgroup of every hierarchy, with its limits, and nothing is
# left. Where the host has version 2, hierarchies of version 1 are mounted for the test alone, of controllers that can be had.
# shellcheck disable=SC2015,SC2016 # jq programs; conditions in a row
set -euo pipefail

at=/sys/fs/cgroup
if [ "${1-}" != inside ] && [ "$(stat -f -c %T $at)" = cgroup2fs ]; then
  if [ ! -d /run/testbed ]; then
    echo "skipped: the host has cgroup version 2, which is in use" >&2
    exit 77
  fi
  # A cgroup that someone left behind (podman does) may have controllers in use.
  find $at -mindepth 1 -depth -type d -exec rmdir {} + 2> /dev/null || true
  # What version 2 uses can't be mounted elsewhere. What it gave up comes back with the mounts' end.
  for controller in cpu pids; do
    echo "-$controller" > $at/cgroup.subtree_control
  done
  status=0
  unshare --mount --propagation private "$0" inside || status=$?
  for controller in cpu pids; do
    for try in $(seq 100); do
      ! echo "+$controller" 2> /dev/null > $at/cgroup.subtree_control || break
      [ "$try" != 100 ] || echo "controller $controller did not come back" >&2
      sleep 0.1
    done
  done
  exit $status
fi
if [ "${1-}" = inside ]; then
  mount -t tmpfs tmpfs $at
  for controllers in cpu pids devices freezer none,name=systemd; do
    mkdir "$at/${controllers#*=}"
    mount -t cgroup -o "$controllers" cgroup "$at/${controllers#*=}" || rmdir "$at/${controllers#*=}"
  done
fi
. "${0%/*}/lib.sh"

# "CONTROLLERS:PATH" of a process in the hierarchies that are mounted.
cgroups_of() {
  local number controllers path
  while IFS=: read -r number controllers path; do
    [ "$number" != 0 ] && grep -qF " - cgroup cgroup " <(grep -E "[ ,]($controllers)(,|$)" /proc/self/mountinfo) || continue
    echo "$controllers:$path"
  done < "$1"
}
dirs_list() { find $at -mindepth 2 -type d | sort; }
dirs_before=$(dirs_list)
[ -d $at/cpu ] && [ -f $at/cpu/cpu.shares ] || skip "the controller cpu can't be had in version 1"

bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .linux.cgroupsPath = "/husk-e2e/c1"
  | .linux.resources = {cpu: {quota: 50000, period: 100000, shares: 512}, pids: {limit: 20}}'
husk create --bundle "$bundle" c1 < /dev/null > /dev/null 2>&1
vmm=$(jq .vmm.pid "$state/sandboxes/c1/vmm.json")
for file in /proc/"$(state_of c1 .pid)"/cgroup /proc/"$vmm"/task/*/cgroup; do
  got=$(cgroups_of "$file")
  [ "$(wc -l <<< "$got")" -ge 3 ] || fail "only these hierarchies: $got"
  equal "cgroups in $file" "$(grep -v ':/husk-e2e/c1$' <<< "$got" || true)" ""
done
equal cpu.shares "$(cat $at/cpu/husk-e2e/c1/cpu.shares)" 512
equal "cpu.cfs_quota_us: the quota and a quarter of a CPU" "$(cat $at/cpu/husk-e2e/c1/cpu.cfs_quota_us)" 75000
[ ! -f $at/pids/husk-e2e/c1/pids.max ] || equal pids.max "$(cat $at/pids/husk-e2e/c1/pids.max)" max
husk start c1
husk update --cpu-share 256 c1
equal "cpu.shares after an update" "$(cat $at/cpu/husk-e2e/c1/cpu.shares)" 256
husk delete --force c1
equal "cgroups left" "$(dirs_list)" "$dirs_before"

# A relative path starts at the caller's own cgroup; a limit without its controller is an error that names it.
mkdir $at/cpu/husk-own
echo $$ > $at/cpu/husk-own/cgroup.procs
bundle_make "$bundle" '.process.args = ["true"] | .linux.cgroupsPath = "rel"'
husk create --bundle "$bundle" c2 < /dev/null > /dev/null 2>&1
equal "cgroup of a relative path" "$(sed -n 's/^[0-9]*:cpu\(,cpuacct\)\?://p' "/proc/$(state_of c2 .pid)/cgroup")" /husk-own/rel
husk delete --force c2
echo $$ > $at/cpu/cgroup.procs
rmdir $at/cpu/husk-own
if ! grep -q ' - cgroup cgroup .*memory' /proc/self/mountinfo; then
  bundle_make "$bundle" '.linux.resources = {memory: {limit: 134217728}}'
  fails_with 'no cgroup hierarchy of the controller memory' husk create --bundle "$bundle" c3
fi
equal "cgroups left in the end" "$(dirs_list)" "$dirs_before"
