#!/bin/bash
# The package database is whole, and so are the files of some packages: every checksum is read through virtio-fs.
. "${0%/*}/lib.sh"

in_guest sh -c 'dpkg -l; echo ---; dpkg --audit; dpkg -V base-files coreutils dpkg libc6 perl-base' > "$work/out" 2>&1
equal "packages in the guest" "$(grep -c ^ii "$work/out")" "$(grep -c '^Status: install ok installed' "$rootfs/var/lib/dpkg/status")"
equal "what dpkg --audit and dpkg -V complain of" "$(sed '1,/^---$/d' "$work/out")" ""
equal "the last line" "$(tail -n 1 "$work/out")" ---
