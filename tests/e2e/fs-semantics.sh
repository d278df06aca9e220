#!/bin/bash
# The root file system does in the guest what it does on the host, in every corner case of guest/fs-semantics.py and with
# every cache policy: none, auto, and always with writeback for trees that nobody else changes.
# limit: 400
. "${0%/*}/lib.sh"

cp "$here/guest/fs-semantics.py" "$rootfs/srv/"
in_crun python3 /srv/fs-semantics.py /srv/cases > "$work/crun.out"
rm -rf "$rootfs/srv/cases"
! grep FAILED "$work/crun.out" || fail "cases that fail on a local file system prove nothing"

for policy in '"none"' '"auto"' '"always" | .annotations["io.husk.fs_writeback"] = "true"'; do
  guest_config="| .annotations[\"io.husk.fs_cache\"] = $policy" in_guest python3 /srv/fs-semantics.py /srv/cases > "$work/husk.out"
  rm -rf "$rootfs/srv/cases"
  ok "fs_cache = $policy: the guest's file system (>) as the local one (<)" diff "$work/crun.out" "$work/husk.out" >&2
done
rm "$rootfs/srv/fs-semantics.py"
