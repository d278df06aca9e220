#!/bin/bash
# The agent dies (its code is overwritten from a container that shares its pid namespace): the guest's kernel panics, and the
# container is reported stopped within 2 s.
. "${0%/*}/lib.sh"

guest_config='| .linux.namespaces |= map(select(.type != "pid"))
  | .process.capabilities |= map_values(. + ["CAP_SYS_PTRACE"])'
# shellcheck disable=SC2016 # the script is the guest's
crash_start 'exec python3 -c "
mem = open(\"/proc/1/mem\", \"r+b\", buffering=0)
print(\"up\", flush=True)
input()
for line in open(\"/proc/1/maps\"):
    span, flags = line.split()[:2]
    if \"x\" in flags and \"[\" not in line:
        start, end = (int(n, 16) for n in span.split(\"-\"))
        mem.seek(start)
        mem.write(b\"\x0f\x0b\" * ((end - start) // 2))
"' # its end wakes the agent
crash_trigger
crash_expect '[Pp]anic'
