#!/bin/bash
# The root file system does in the guest what it does on the host, in every corner case of guest/fs-semantics.py and with
# every cache policy: none, auto, and always with writeback for trees that nobody else changes.
# limit: 900
. "${0%/*}/lib.sh"

cp "$here/guest/fs-semantics.py" "$rootfs/srv/"
in_crun python3 /srv/fs-semantics.py /srv/cases > "$work/crun.out"
rm -rf "$rootfs/srv/cases"
! grep FAILED "$work/crun.out" || fail "cases that fail on a local file system prove nothing"

# In the testbed, where all cases take a minute, policies other than the default run those that have to do with a file's data.
cached='open_flags tmpfile unlinked_but_open renamed_over_but_open sparse fallocate_modes copy_file_range truncate mapped executed
  vectored_and_large_io sync_calls handles_and_statx times setuid_cleared_by_write capability_dropped_by_write appending_together'
[ -d /run/testbed ] && [ "${HUSK_LONG:-0}" != 1 ] || cached=''

# Left out: trusted.* is for CAP_SYS_ADMIN on the host, which the jail takes from the file server.
compare() { # compare POLICY WRITEBACK CASES-THAT-DIFFER [CASE...]: all cases without any
  local policy=$1 writeback=$2 differ=$3 only
  shift 3
  only=$(IFS='|' && echo "$*")
  guest_config="| .annotations[\"io.husk.fs_cache\"] = \"$policy\" | .annotations[\"io.husk.fs_writeback\"] = \"$writeback\"" \
    in_guest python3 /srv/fs-semantics.py /srv/cases "$@" > "$work/husk.out"
  rm -rf "$rootfs/srv/cases"
  ok "fs_cache = $policy, fs_writeback = $writeback: the guest's file system (>) as the local one (<)" \
    diff <(grep -E "^(${only:-.*}):" "$work/crun.out" | grep -vE "^($differ):") <(grep -vE "^($differ):" "$work/husk.out") >&2
}
compare auto false trusted_xattrs
# shellcheck disable=SC2086 # words
compare none false trusted_xattrs $cached
# shellcheck disable=SC2086
compare always true 'trusted_xattrs|sparse' $cached # with writeback the guest answers SEEK_DATA and SEEK_HOLE, and knows no holes
rm "$rootfs/srv/fs-semantics.py"
