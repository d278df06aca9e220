#!/bin/bash
# The root file system does in the guest what it does on the host, in every corner case of guest/fs-semantics.py and with
# every cache policy: none, auto, and always with writeback for trees that nobody else changes.
# limit: 900
. "${0%/*}/lib.sh"

cp "$here/guest/fs-semantics.py" "$rootfs/srv/"
in_crun python3 /srv/fs-semantics.py /srv/cases > "$work/crun.out"
rm -rf "$rootfs/srv/cases"
! grep FAILED "$work/crun.out" || fail "cases that fail on a local file system prove nothing"

# Left out: trusted.* is for CAP_SYS_ADMIN on the host, which the jail takes from the file server.
compare() { # compare POLICY WRITEBACK CASES-THAT-DIFFER
  guest_config="| .annotations[\"io.husk.fs_cache\"] = \"$1\" | .annotations[\"io.husk.fs_writeback\"] = \"$2\"" \
    in_guest python3 /srv/fs-semantics.py /srv/cases > "$work/husk.out"
  rm -rf "$rootfs/srv/cases"
  ok "fs_cache = $1, fs_writeback = $2: the guest's file system (>) as the local one (<)" \
    diff <(grep -vE "^($3):" "$work/crun.out") <(grep -vE "^($3):" "$work/husk.out") >&2
}
compare none false trusted_xattrs
compare auto false trusted_xattrs
compare always true 'trusted_xattrs|sparse' # with writeback the guest answers SEEK_DATA and SEEK_HOLE, and knows no holes
rm "$rootfs/srv/fs-semantics.py"
