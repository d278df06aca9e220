#!/bin/bash
# limit: 240
# cgroupsPath in systemd's form, with Debian's systemd as process 1 of a pid namespace: first asked directly, then over a bus.
# The scope is in its slice and delegated, holds VMM and monitors, has the limits as properties, and ends with the container.
# shellcheck disable=SC2016 # jq programs
set -euo pipefail

# systemd gets namespaces, a cgroup and a /run of its own; this script runs a second time in there.
if [ "${1-}" != inside ]; then
  skip_why=
  [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || skip_why="the host has no unified cgroup hierarchy"
  [ -x /lib/systemd/systemd ] && [ -e /lib/systemd/system/dbus.socket ] || skip_why="systemd or dbus is not installed"
  [ "$(cat /proc/1/comm)" != systemd ] || skip_why="the host has a systemd of its own"
  if [ -n "$skip_why" ]; then
    echo "skipped: $skip_why" >&2
    exit 77
  fi
  "${0%/*}/../bundle/attach" > /dev/null
  area=$(mktemp -d) cgroup=/sys/fs/cgroup/husk-systemd
  mkdir $cgroup
  cat > "$area/boot" << 'END'
set -e
mount -t proc proc /proc
umount /sys/fs/cgroup
mount -t cgroup2 cgroup /sys/fs/cgroup # of the cgroup namespace
mount -t tmpfs -o mode=755 tmpfs "$1"
for dir in /run/husk-bundle /run/testbed; do
  [ -d $dir ] || continue
  mkdir "$1${dir#/run}"
  mount --rbind $dir "$1${dir#/run}"
done
mkdir "$1/mount" # where mount(8) keeps notes
mount -n --move "$1" /run
mkdir -p /run/systemd/system /run/dbus
printf '[Unit]\nDescription=nothing\nDefaultDependencies=no\n' > /run/systemd/system/husk-test.target
# The bus alone: what starts with a system would empty /tmp and more.
for unit in dbus.service dbus.socket; do
  mkdir /run/systemd/system/$unit.d
  printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/$unit.d/alone.conf
done
exec env -i container=husk PATH="$PATH" /lib/systemd/systemd --system --unit=husk-test.target --log-target=console --log-level=err \
  --show-status=no < /dev/null
END
  mkdir "$area/run"
  sh -c "echo \$\$ > $cgroup/cgroup.procs; exec unshare --mount --pid --cgroup --fork --kill-child --propagation private \
    bash $area/boot $area/run" > "$area/log" 2>&1 &
  outer=$!
  disown
  status=1
  for try in $(seq 240); do
    init=$(pgrep -P $outer || true)
    [ -n "$init" ] && [ -S "/proc/$init/root/run/systemd/private" ] && break
    kill -0 $outer 2> /dev/null || break
    sleep 0.5
  done
  if [ -n "$init" ] && [ -S "/proc/$init/root/run/systemd/private" ]; then
    status=0
    # No process may be where systemd lends controllers; the caller needs a cgroup that can be seen in there.
    echo $outer > "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/cgroup.procs"
    mkdir $cgroup/caller
    sh -c 'echo $$ > "$1"; shift; exec "$@"' - $cgroup/caller/cgroup.procs \
      nsenter -t "$init" --mount --pid --cgroup "$(readlink -f "$0")" inside || status=$?
  else
    echo "systemd did not start (after $try tries): $(cat "$area/log")" >&2
  fi
  kill -KILL $outer 2> /dev/null || true
  for try in $(seq 50); do
    find $cgroup -depth -type d -exec rmdir {} + 2> /dev/null && break
    sleep 0.1
  done
  rm -rf "$area"
  exit $status
fi
. "${0%/*}/lib.sh"

cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
property() { systemctl show -p "$2" --value "$1"; }
scopes_list() { systemctl list-units --all --plain --no-legend '*.scope' | awk '{ print $1 }' | grep -v '^init.scope$' || true; }

# --- Asked directly: no bus runs ------------------------------------------------------------------------------
bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .linux.cgroupsPath = "husk-e2e.slice:husk:c1"
  | .linux.resources = {memory: {limit: 209715200}, cpu: {quota: 50000, period: 100000, shares: 512, cpus: "0"}}'
husk --systemd-cgroup create --bundle "$bundle" c1 < /dev/null > /dev/null 2>&1 || fail "create c1"
path=/husk.slice/husk-e2e.slice/husk-c1.scope
vmm=$(jq .vmm.pid "$state/sandboxes/c1/vmm.json") # as process 1 of its own namespace it is known here by this pid
equal "cgroup of state.pid" "$(cgroup_of "$(state_of c1 .pid)")" $path
for task in "/proc/$vmm/task/"*; do
  equal "cgroup of the VMM's thread $(cat "$task/comm")" "$(cgroup_of "${task#/proc/}")" $path
done
equal Slice "$(property husk-c1.scope Slice)" husk-e2e.slice
equal Delegate "$(property husk-c1.scope Delegate)" yes
equal CPUQuotaPerSecUSec "$(property husk-c1.scope CPUQuotaPerSecUSec)" 750ms
equal CPUWeight "$(property husk-c1.scope CPUWeight)" 20
equal AllowedCPUs "$(property husk-c1.scope AllowedCPUs)" 0
equal "MemoryMax is the file's" "$(property husk-c1.scope MemoryMax)" "$(cat /sys/fs/cgroup$path/memory.max)"
[ "$(property husk-c1.scope MemoryMax)" -gt 209715200 ] || fail "MemoryMax is $(property husk-c1.scope MemoryMax)"
husk start c1
husk exec --detach --pid-file "$work/exec.pid" c1 sleep 1000 < /dev/null > /dev/null 2>&1
equal "cgroup of a detached exec" "$(cgroup_of "$(cat "$work/exec.pid")")" $path
husk update --cpu-share 1024 c1
systemctl daemon-reload
equal "CPUWeight after an update" "$(property husk-c1.scope CPUWeight) $(cat /sys/fs/cgroup$path/cpu.weight)" "39 39"

# --- Over a bus, while c1 runs: the same name again is refused and does no harm; the default name -----------------
systemctl start dbus.service
bundle_make "$bundle" '.process.args = ["true"] | .linux.cgroupsPath = "husk-e2e.slice:husk:c1"'
fails_with 'systemd: StartTransientUnit husk-c1\.scope: ' husk --systemd-cgroup create --bundle "$bundle" c2
equal "c1 lives" "$(state_of c1) $(property husk-c1.scope ActiveState)" "running active"
husk delete --force c1
bundle_make "$bundle" '.process.args = ["true"]'
husk --cgroup-manager systemd create --bundle "$bundle" c3 < /dev/null > /dev/null 2>&1 || fail "create c3"
equal "cgroup by default" "$(cgroup_of "$(state_of c3 .pid)")" /system.slice/husk-c3.scope

# --- A crash: the monitor is killed, delete ends the scope -----------------------------------------------------------
kill -KILL "$(state_of c3 .pid)"
husk delete --force c3
equal "scopes left" "$(scopes_list)" ""
equal "cgroups left" "$(find /sys/fs/cgroup -name '*.scope' ! -name init.scope)" ""
bundle_make "$bundle" ".linux.cgroupsPath = \"/a/b\""
fails_with "expected .slice:prefix:name." husk --systemd-cgroup create --bundle "$bundle" c4
