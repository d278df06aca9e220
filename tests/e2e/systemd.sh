#!/bin/bash
# limit: 900
# systemd as the init of two containers in one sandbox, one after the other, the second with a user namespace: each comes up `running`, has a cgroup
# tree of its own, a journal and timers, an exec into it works, and SIGRTMIN+3 stops it with status 0.
. "${0%/*}/lib.sh"
long

services=$(readlink -f "${rootfs%/rootfs}/images/rootfs")
[ -x "$services/usr/lib/systemd/systemd" ] || skip "the bundle has no tree with systemd"

# What a container engine gives to a container that runs an init.
config='.root.path = $root | .process.args = ["/usr/lib/systemd/systemd"] | .process.env += ["container=oci"]
  | .process.capabilities |= map_values(. + ["CAP_AUDIT_WRITE", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_PTRACE"] | unique)
  | .hostname = "booted" | .linux.namespaces += [{"type": "cgroup"}]
  | .mounts += [{"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]},
      {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
      {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "rw"]}]'
users='| .linux.namespaces += [{"type": "user"}]
  | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'

roots_unmount() {
  local status=$? root
  set +e
  for root in "$work"/*/rootfs; do umount --lazy "$root"; done
  (exit $status)
  finish
}
trap roots_unmount EXIT

boot() { # boot ID CONFIG
  mkdir -p "$work/$1"/{upper,work,rootfs}
  mount -t overlay -o "lowerdir=$services,upperdir=$work/$1/upper,workdir=$work/$1/work" overlay "$work/$1/rootfs"
  local units=$work/$1/rootfs/etc/systemd/system
  mkdir -p "$units/timers.target.wants"
  printf '[Timer]\nOnActiveSec=1\nAccuracySec=1ms\n' > "$units/mark.timer"
  printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo it was the timer; touch /run/mark"\n' > "$units/mark.service"
  ln -s ../mark.timer "$units/timers.target.wants/mark.timer"
  # Servers that the tree has for other tests, and what a machine has and a container not: terminals, disks to care for, updates.
  for unit in nginx.service redis-server.service postgresql.service getty.target apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer; do ln -s /dev/null "$units/$unit"; done
  bundle_make "$work/$1/bundle" "$config $2 $pod_join" --arg root "$work/$1/rootfs"
  husk run --bundle "$work/$1/bundle" "$1" > "$work/$1.out" 2>&1 < /dev/null &
  runs[$1]=$!
}

within() { husk exec "$@" < /dev/null; }

# Seldom: each look is a process in a guest that has enough to do.
has_begun() { # has_begun ID
  sleep 5
  within "$1" test -S /run/systemd/private 2> /dev/null
}

check() { # check ID
  local status=0
  wait_for 300 has_begun "$1" || fail "$1: systemd does not begin: $(tail -n 30 "$work/$1.out")"
  [ "$(within "$1" timeout 400 systemctl is-system-running --wait)" = running ] ||
    fail "$1: $(within "$1" systemctl list-jobs; within "$1" systemctl list-units --failed)"
  equal "$1: failed units" "$(within "$1" systemctl list-units --failed --plain --no-legend)" ""
  wait_for 60 within "$1" test -e /run/mark || fail "$1: the timer did not run: $(within "$1" systemctl status mark.timer)"
  matches "$1: the journal" "$(within "$1" journalctl --unit mark.service --output cat)" 'it was the timer'
  equal "$1: cgroup of init" "$(within "$1" cat /proc/1/cgroup)" 0::/init.scope
  ok "$1: controllers below" within "$1" grep -qw pids /sys/fs/cgroup/cgroup.subtree_control
  husk kill "$1" RTMIN+3
  wait "${runs[$1]}" || status=$?
  equal "$1: exit status" $status 0
}

declare -A runs
pod_start
boot plain ''
check plain
boot users "$users"
check users
husk delete --force pod
