#!/bin/bash
# limit: 300
# linux.namespaces: user namespaces with any mappings, time namespaces with offsets, cgroup namespaces. With owners that match
# the mappings the container looks as under crun; an image's owners are mapped by the mount. What can't be joined is named.
. "${0%/*}/lib.sh"

report='
  cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id; hostname; cat /proc/self/cgroup
  grep -E "^(Cap|Groups|NSpid)" /proc/self/status
  stat -c "%n %u:%g %a" / /etc /etc/shadow /dev /dev/null /dev/pts/ptmx /dev/shm
  touch /srv/own-$1 && chown 33:44 /srv/own-$1 && stat -c "%u:%g" /srv/own-$1; rm -f /srv/own-$1
  echo x > /dev/null; head -c 3 /dev/zero | wc -c
  unshare -Ur sh -c "id -u; unshare -r id -u"
  for n in pid ipc uts mnt cgroup user time; do [ "$(readlink /proc/self/ns/$n)" = "$(readlink /proc/1/ns/$n)" ] || echo "$n differs"; done'

# The first 1000 ids are the host'"'"'s own, so that both runtimes find the tree usable.
guest_config='| .linux.namespaces += [{"type": "user"}, {"type": "cgroup"}]
  | .linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 1000}, {"containerID": 1000, "hostID": 70000, "size": 64536}]
  | .linux.gidMappings = [{"containerID": 0, "hostID": 0, "size": 60000}]
  | .process.user.additionalGids = [5, 44]'
in_crun sh -c "$report" - crun > "$work/crun.out"
pod_start
guest_config+=$pod_join
in_guest sh -c "$report" - husk > "$work/husk.out"
ok "a user namespace as under crun" diff "$work/crun.out" "$work/husk.out" >&2

# Owners of an image: the root is id-mapped. New files are on the disk with the image's ids. A volume is mapped when asked for.
mkdir -p "$work/volume" && touch "$work/volume/of-7" && chown 7:8 "$work/volume/of-7"
guest_config=$pod_join'| .linux.namespaces += [{"type": "user"}, {"type": "time"}]
  | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
  | .linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 65536}]
  | .linux.timeOffsets = {"monotonic": {"secs": 5000000}, "boottime": {"secs": 7000000}}
  | .mounts += [{"destination": "/mnt/idmap", "type": "bind", "source": $volume, "options": ["rbind", "idmap"]},
      {"destination": "/mnt/plain", "type": "bind", "source": $volume, "options": ["bind"]},
      {"destination": "/mnt/own", "type": "bind", "source": $volume, "options": ["bind"],
       "uidMappings": [{"containerID": 7, "hostID": 100009, "size": 1}], "gidMappings": [{"containerID": 8, "hostID": 200010, "size": 1}]}]
  | .linux.devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 3, "gid": 4}]'
guest_config=${guest_config//\$volume/\"$work/volume\"}
report='
  cat /proc/self/uid_map /proc/self/gid_map
  stat -c "%n %u:%g" / /etc/shadow /dev/null /dev/fuse /mnt/idmap/of-7 /mnt/plain/of-7 /mnt/own/of-7
  touch /mnt/idmap/new && stat -c %u:%g /mnt/idmap/new; touch /mnt/plain/no 2>&1
  setfacl -m u:12:rw /mnt/idmap/new && getfacl -ncp /mnt/idmap/new | grep :12:
  awk "\$5 == \"/\" { print \$6 }" /proc/self/mountinfo
  python3 -c "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC) // 5000000, time.clock_gettime(time.CLOCK_BOOTTIME) // 7000000)"'
got=$(in_guest sh -c "$report" 2>&1)
equal "a mapped image" "$got" "         0     100000      65536
         0     200000      65536
/ 0:0
/etc/shadow 0:42
/dev/null 0:0
/dev/fuse 3:4
/mnt/idmap/of-7 7:8
/mnt/plain/of-7 65534:65534
/mnt/own/of-7 9:10
0:0
touch: cannot touch '/mnt/plain/no': Permission denied
user:12:rw-
rw,relatime,idmapped
1.0 1.0"
equal "owner on the host" "$(stat -c %u:%g "$work/volume/new")" 0:0

# A PID namespace of another container of the sandbox, which goes on when this one has ended.
monitor=$(state_of pod .pid)
guest_config="$pod_join"'| .linux.namespaces |= map(if .type == "pid" then .path = "/proc/'$monitor'/ns/pid" else . end)'
got=$(in_guest sh -c 'echo $(tr "\0" " " < /proc/1/cmdline); [ $$ != 1 ] && readlink /proc/self/ns/pid')
equal "a shared PID namespace" "$got" "sleep 1000000
$(husk exec pod readlink /proc/self/ns/pid < /dev/null)"
equal "its owner" "$(state_of pod)" running

# An exec into a container that has lent controllers to cgroups of its own, and so can have no process in its topmost one.
bundle_make "$work/lends" '.process.args = ["sh", "-c", "cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs &&
    echo +pids +memory > cgroup.subtree_control && exec sleep 1000"]'"$pod_join"'| .linux.namespaces += [{"type": "cgroup"}]
  | .mounts += [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}]'
husk run --detach --bundle "$work/lends" lends < /dev/null > /dev/null 2>&1
lent() { [ "$(husk exec lends cat /proc/1/comm < /dev/null)" = sleep ]; }
wait_for 20 lent || fail "the container did not lend its controllers: $(husk exec lends cat /proc/1/cgroup < /dev/null)"
equal "where an exec is" "$(husk exec lends sh -c 'cat /sys/fs/cgroup/cgroup.subtree_control /proc/self/cgroup' < /dev/null)" \
  "memory pids
0::/init"
husk delete --force lends
husk delete --force pod
