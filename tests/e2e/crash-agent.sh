#!/bin/bash
# The agent dies (its code is overwritten from a container that shares its pid namespace): the guest's kernel panics, and the
# container is reported stopped within 2 s.
. "${0%/*}/lib.sh"

guest_config='| .linux.namespaces |= map(select(.type != "pid"))
  | .process.capabilities |= map_values(. + ["CAP_SYS_PTRACE"])'
crash_start 'exec python3 -c "
code = []
for line in open(\"/proc/1/maps\"):
    span, flags = line.split()[:2]
    if \"x\" in flags and \"[\" not in line:
        code.append([int(n, 16) for n in span.split(\"-\")])
print(\"armed\", flush=True)
input()
with open(\"/proc/1/mem\", \"r+b\", buffering=0) as mem:
    for start, end in code:
        mem.seek(start)
        mem.write(b\"\x0f\x0b\" * ((end - start) // 2))
import time; time.sleep(1000)"'
crash_trigger
wait_for 60 grep -qs armed "$work/out" || fail "the program did not start: $(cat "$work/err")"
crash_trigger
crash_expect '[Pp]anic'
