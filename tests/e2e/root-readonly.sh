#!/bin/bash
# root.readonly: nothing below / can be written, what is mounted over it can.
. "${0%/*}/lib.sh"

guest_config='| .root.readonly = true'
equal "writing" "$(in_guest sh -c '
  touch /srv/x 2> /dev/null && echo wrote /srv
  echo x > /etc/hostname 2> /dev/null && echo wrote /etc
  touch /dev/shm/x && echo shm')" shm
[ ! -e "$rootfs/srv/x" ] || fail "/srv/x was made"
