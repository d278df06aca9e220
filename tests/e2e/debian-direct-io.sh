#!/bin/bash
# dd with O_DIRECT and fsync: what the guest wrote is what it reads back and what the host reads.
. "${0%/*}/lib.sh"

mkdir -p "$rootfs/srv/dd"
in_guest sh -euc '
  cd /srv/dd
  dd if=/dev/urandom of=random bs=1M count=16 conv=fsync
  dd if=random of=direct bs=64k iflag=direct oflag=direct conv=fsync
  dd if=direct of=small bs=4k count=512 skip=100 seek=7 iflag=direct oflag=direct,sync
  cmp random direct
' 2> "$work/log" || fail "dd: $(tail -n 5 "$work/log")"
ok "what the host reads" cmp "$rootfs/srv/dd/random" "$rootfs/srv/dd/direct"
ok "blocks at an offset" cmp -n $((512 * 4096)) "$rootfs/srv/dd/random" "$rootfs/srv/dd/small" $((100 * 4096)) $((7 * 4096))
rm -rf "$rootfs/srv/dd"
