#!/bin/bash
# Block devices of the host in a container: as linux.devices, bound as a file, mounted as a filesystem; what may not be written is
# not, whatever the guest does. crun is asked the same where it can be.
# limit: 300
. "${0%/*}/lib.sh"

[ -e /dev/loop-control ] || modprobe loop 2> /dev/null || skip "needs loop devices"
truncate -s 32M "$work/image"
mkfs.ext4 -q -L husk-disk "$work/image"
loop=$(losetup --show -f "$work/image") || skip "needs loop devices"
trap 'status=$?; losetup -d "$loop"; (exit $status); finish' EXIT
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
guest_config=$(device rwm)
equal "a writable device" "$(in_guest sh -c "$look")" "$(in_crun sh -c "$look")"
guest_config=$(device r)
equal "a device that may be read" "$(in_guest sh -c "$look")" "$(in_crun sh -c "$look")"
equal "a read-only device's disk" "$(in_guest sh -c 'cat /sys/block/vda/ro')" 1

# What was written is on the host's device, and the rest is not.
printf 'from the guest' > "$work/text"
guest_config=$(device rwm)
in_guest sh -c 'printf "from the guest" | dd of=/dev/disk0 bs=512 seek=60000 conv=notrunc,fsync status=none'
equal "bytes on the host" "$(dd if="$work/image" bs=512 skip=60000 count=1 status=none | head -c 14)" "from the guest"

# A filesystem on it, then read-only, then the device file itself bound.
mount='| .mounts += [{"destination": "/srv/disk", "type": "ext4", "source": "'$loop'", "options": ["OPTION"]}]'
guest_config=${mount/OPTION/noatime}
ok "a file on the filesystem" in_guest sh -c 'echo hello > /srv/disk/file; sync; grep -q " /srv/disk ext4 rw" /proc/mounts'
guest_config=${mount/OPTION/ro}
equal "the file, read-only" "$(in_guest sh -c 'cat /srv/disk/file; touch /srv/disk/more 2> /dev/null || echo refused')" "$(printf 'hello\nrefused')"
guest_config='| .mounts += [{"destination": "/dev/bound", "type": "bind", "source": "'$loop'", "options": ["bind"]}]
  | .linux.resources.devices = [{"allow": true, "access": "rwm"}]'
equal "the device file bound" "$(in_guest sh -c 'stat -c "%F %a %u %g" /dev/bound; blkid -p -o value -s LABEL /dev/bound')" \
  "$(in_crun sh -c 'stat -c "%F %a %u %g" /dev/bound; blkid -p -o value -s LABEL /dev/bound')"
