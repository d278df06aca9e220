#!/bin/bash
# A running VM gets more vCPUs and memory, and gives memory back: what the guest sees, and what its VMM holds.
# cpus: 2
# limit: 240
. "${0%/*}/lib.sh"

python3 "$here/vm_resize.py" "$(dirname "$rootfs")"
