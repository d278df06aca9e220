#!/bin/bash
# The container sees Debian's os-release, byte for byte, and runs on a kernel that is not the host's.
. "${0%/*}/lib.sh"

in_guest sh -c 'uname -r; uname -n; cat /etc/os-release' > "$work/out"
ok "os-release in the guest" cmp <(tail -n +3 "$work/out") "$rootfs/etc/os-release"
guest_kernel=$(sed -n 1p "$work/out")
matches "the guest's kernel release" "$guest_kernel" '^6\.12\.'
[ "$guest_kernel" != "$(uname -r)" ] || fail "the guest runs the host's kernel $guest_kernel"
equal "hostname of the guest" "$(sed -n 2p "$work/out")" debian
