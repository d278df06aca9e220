#!/bin/bash
# The default mounts, device nodes and links of a container are there and work as the runtime specification says.
. "${0%/*}/lib.sh"

report='
  awk "{ print \$5, \$(NF - 2) }" /proc/self/mountinfo | grep -vE "^/ " | sort
  for d in null zero full random urandom tty; do stat -c "%n %t:%T %a %F" /dev/$d; done
  for l in fd stdin stdout stderr ptmx; do echo "$l $(readlink /dev/$l)"; done
  head -c 4 /dev/zero | od -An -tx1
  echo x > /dev/full || echo full
  echo $$ > /dev/shm/x && stat -c %a /dev/shm
  ls /proc | grep -c "^[0-9]" > /dev/null && readlink /proc/self > /dev/null && echo proc
  touch /sys/x 2> /dev/null || echo read-only sys
  stat -c %a /dev/pts/ptmx
'
in_guest sh -c "$report" > "$work/husk.out" 2> /dev/null
in_crun sh -c "$report" > "$work/crun.out" 2> /dev/null
ok "mounts and devices as under crun" diff "$work/crun.out" "$work/husk.out" >&2
