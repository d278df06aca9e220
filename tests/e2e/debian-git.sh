#!/bin/bash
# git in the guest: init, add and commit of 5,000 files, clone, fsck; the clone has the same tree.
# limit: 1800
. "${0%/*}/lib.sh"
long

mkdir -p "$rootfs/srv/git"
in_guest sh -euc '
  export HOME=/srv/git && cd /srv/git
  git config --global user.name nobody && git config --global user.email nobody@example.org
  git init -q one && cd one
  python3 -c "
import os
for d in range(50):
    os.mkdir(f\"d{d}\")
    for f in range(100):
        with open(f\"d{d}/f{f}\", \"w\") as out:
            out.write(f\"{d} {f}\\n\" * (f % 7 + 1))
"
  git add . && git commit -q -m "5000 files"
  cd .. && git clone -q --no-hardlinks one two
  git -C one fsck --strict --no-progress && git -C two fsck --strict --no-progress
  git -C two ls-files | wc -l > count
  git -C one rev-parse "HEAD^{tree}" > tree-one && git -C two rev-parse "HEAD^{tree}" > tree-two
  test -z "$(git -C two status --porcelain)"
' > "$work/log" 2>&1 || fail "git: $(tail -n 5 "$work/log")"
equal "files in the clone" "$(cat "$rootfs/srv/git/count")" 5000
equal "tree of the clone" "$(cat "$rootfs/srv/git/tree-two")" "$(cat "$rootfs/srv/git/tree-one")"
# The host reads the same files that the guest wrote.
equal "a file of the clone, on the host" "$(cat "$rootfs/srv/git/two/d49/f3")" "$(printf '49 3\n49 3\n49 3\n49 3')"
rm -rf "$rootfs/srv/git"
