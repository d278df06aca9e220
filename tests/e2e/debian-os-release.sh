#!/bin/bash
# The container sees Debian's os-release, byte for byte, and runs on a kernel that is not the host's.
. "${0%/*}/lib.sh"

equal "os-release in the guest" "$(in_guest cat /etc/os-release | sha256sum)" "$(sha256sum < "$rootfs/etc/os-release")"
guest_kernel=$(in_guest uname -r)
matches "the guest's kernel release" "$guest_kernel" '^6\.12\.'
[ "$guest_kernel" != "$(uname -r)" ] || fail "the guest runs the host's kernel $guest_kernel"
equal "hostname of the guest" "$(in_guest uname -n)" debian
