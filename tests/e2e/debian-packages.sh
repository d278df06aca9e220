#!/bin/bash
# The package database is whole, and so are the files of some packages: every checksum is read through virtio-fs.
. "${0%/*}/lib.sh"

equal "dpkg --audit" "$(in_guest dpkg --audit 2>&1)" ""
in_guest dpkg -l > "$work/packages"
equal "packages in the guest" "$(grep -c ^ii "$work/packages")" "$(grep -c '^Status: install ok installed' "$rootfs/var/lib/dpkg/status")"
equal "dpkg -V" "$(in_guest dpkg -V base-files coreutils dpkg libc6 perl-base python3.11-minimal 2>&1)" ""
