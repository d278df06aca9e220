#!/bin/bash
# Block devices of the host in containers of a sandbox that runs already, which gets a disk with each container and loses it with
# it: as linux.devices, bound as a file, mounted as a filesystem; what may not be written is not, whatever the guest does. crun is
# asked the same where it can be.
. "${0%/*}/lib.sh"

[ -e /dev/loop-control ] || modprobe loop 2> /dev/null || skip "needs loop devices"
truncate -s 32M "$work/image"
mkfs.ext4 -q -L husk-disk "$work/image"
loop=$(losetup --show -f "$work/image") || skip "needs loop devices"
trap 'status=$?; set +e; losetup -d "$loop"; (exit $status); finish' EXIT
numbers=$(stat -c '%Hr %Lr' "$loop")
major=${numbers% *} minor=${numbers#* }

device() { # device ACCESS: the filter that gives the container the loop device as /dev/disk0
  printf '| .linux.devices = [{"type": "b", "path": "/dev/disk0", "major": %d, "minor": %d, "fileMode": 416, "uid": 0, "gid": 6}]
    | .linux.resources.devices = [{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": %d, "minor": %d, "access": "%s"}]' \
    "$major" "$minor" "$major" "$minor" "$1"
}

# shellcheck disable=SC2016 # the scripts are the guest's
look='stat -c "%F %a %u %g" /dev/disk0; blkid -p -o value -s LABEL /dev/disk0; blockdev --getsize64 --getss /dev/disk0
  dd if=/dev/zero of=/dev/disk0 bs=4096 count=1 seek=8000 conv=fsync status=none 2> /dev/null && echo written || echo refused'
pod_start
no_disk() { [ "$(husk exec pod sh -c 'ls /sys/block | wc -l' < /dev/null)" = 0 ]; }
ok "no disk before" no_disk
vmm=$(pgrep -x husk-vmm | grep -vxF "${processes_before:-none}")
vmm_disks() { # one line for each descriptor of the device that the VMM has: number and flags
  find /proc/"$vmm"/fd -lname "$loop" -printf '%f\n' | while read -r fd; do echo "$fd $(awk '/^flags:/ { print $2 }' "/proc/$vmm/fdinfo/$fd")"; done
}
guest_config=$(device rwm)
wanted=$(in_crun sh -c "$look")
guest_config+=$pod_join
equal "a writable device" "$(in_guest sh -c "$look")" "$wanted"
wait_for 10 no_disk || fail "the disk stays after its container"
equal "the VMM's descriptors of it afterwards" "$(vmm_disks)" ""

guest_config=$(device r)
wanted=$(in_crun sh -c "$look")
guest_config+=$pod_join
equal "a device that may be read" "$(in_guest sh -c "$look")" "$wanted"
# The host's own file is open for reading alone.
bundle_make "$bundle" ".process.args = [\"sleep\", \"1000\"] $guest_config"
ok "a container that runs with a disk" husk run --detach --bundle "$bundle" reader > "$work/out" < /dev/null
equal "a read-only device's disk" "$(husk exec reader sh -c 'cat /sys/block/vda/ro; blockdev --setrw /dev/disk0; dd if=/dev/zero of=/dev/disk0 count=1 2> /dev/null || echo refused' < /dev/null 2> "$work/err")" \
  "$(printf '1\nrefused')"
flags=$(vmm_disks | sed 's/^.* //')
equal "how the VMM has it open" $((0${flags:?the disk is not open} & 3)) 0
husk delete --force reader

# What was written is on the host's device, and the rest is not.
printf 'from the guest' > "$work/text"
guest_config=$(device rwm)$pod_join
in_guest sh -c 'printf "from the guest" | dd of=/dev/disk0 bs=512 seek=60000 conv=notrunc,fsync status=none'
equal "bytes on the host" "$(dd if="$work/image" bs=512 skip=60000 count=1 status=none | head -c 14)" "from the guest"

# A filesystem on it, then read-only, then the device file itself bound.
mount='| .mounts += [{"destination": "/srv/disk", "type": "ext4", "source": "'$loop'", "options": ["OPTION"]}]'
guest_config=${mount/OPTION/noatime}$pod_join
ok "a file on the filesystem" in_guest sh -c 'echo hello > /srv/disk/file; sync; grep -q " /srv/disk ext4 rw" /proc/mounts'
guest_config=${mount/OPTION/ro}$pod_join
equal "the file, read-only" "$(in_guest sh -c 'cat /srv/disk/file; touch /srv/disk/more 2> /dev/null || echo refused')" "$(printf 'hello\nrefused')"
guest_config='| .mounts += [{"destination": "/dev/bound", "type": "bind", "source": "'$loop'", "options": ["bind"]}]
  | .linux.resources.devices = [{"allow": true, "access": "rwm"}]'
look='stat -c "%F %a %u %g" /dev/bound; blkid -p -o value -s LABEL /dev/bound'
wanted=$(in_crun sh -c "$look")
guest_config+=$pod_join
equal "the device file bound" "$(in_guest sh -c "$look")" "$wanted"
wait_for 10 no_disk || fail "disks stay after their containers"
equal "the VMM's descriptors of disks at last" "$(vmm_disks)" ""
husk delete --force pod
