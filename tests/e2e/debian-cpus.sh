#!/bin/bash
# Four vCPUs: all are online in the guest, and four busy processes run on four of them.
# cpus: 2
. "${0%/*}/lib.sh"

guest_config='| .annotations["io.husk.vcpus"] = "4"'
equal "vCPUs that did work" "$(in_guest python3 -c '
import multiprocessing, os, time
def busy(cpu):
    os.sched_setaffinity(0, {cpu})
    n, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        n += 1
    return n > 1000 and os.sched_getaffinity(0) == {cpu}
with multiprocessing.Pool(4) as pool:
    print(os.cpu_count(), sum(pool.map(busy, range(4), 1)))
')" "4 4"
