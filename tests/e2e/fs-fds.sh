#!/bin/bash
# A tree of 12,000 files is walked, read and written through a VMM that may have 400 open files.
# limit: 600
. "${0%/*}/lib.sh"

tree=$rootfs/srv/many
mkdir -p "$tree"
python3 -c '
import os, sys
for d in range(100):
    os.mkdir(f"{sys.argv[1]}/{d}")
    for f in range(120):
        os.close(os.open(f"{sys.argv[1]}/{d}/{f}", os.O_CREAT | os.O_WRONLY))
' "$tree"
(
  ulimit -n 400
  in_guest sh -euc '
    cd /srv/many
    find . -type f -newermt 2000-01-01 -size -1 | wc -l > /srv/found
    python3 -c "
import os
held = [open(f\"{d}/0\", \"rb\") for d in range(100)]   # many open at a time, and far more known
for d in range(100):
    for f in range(0, 120, 30):
        with open(f\"{d}/{f}\", \"a\") as out:
            out.write(f\"{d} {f}\")
assert all(h.read() == f\"{d} 0\".encode() for d, h in enumerate(held))
"
    rm -r 1*' || fail "the walk ended with $?"
)
equal "files found" "$(cat "$rootfs/srv/found")" 12000
equal "a file" "$(cat "$tree/99/90")" "99 90"
equal "directories left" "$(find "$tree" -mindepth 1 -maxdepth 1 | wc -l)" 89
rm -rf "$tree" "$rootfs/srv/found"
