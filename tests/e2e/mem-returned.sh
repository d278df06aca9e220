#!/bin/bash
# Memory that a container frees goes back to the host by itself, within seconds, while the container runs on.
# limit: 240
. "${0%/*}/lib.sh"

mib=300
vmm_rss_mib() { # of the largest: husk-vmm and its warden have one name
  local pid
  for pid in $(pgrep -x husk-vmm); do
    awk '/^VmRSS:/ { print int($2 / 1024) }' "/proc/$pid/status"
  done | sort -n | tail -n 1
}

crash_start "exec python3 -c '
print(\"up\", flush=True)
input()
full = b\"x\" * ($mib << 20)
print(\"full\", flush=True)
input()
del full
print(\"freed\", flush=True)
input()'"
idle=$(vmm_rss_mib)
crash_trigger
wait_for 120 grep -qs full "$work/out" || fail "the container did not fill its memory: $(cat "$work/err")"
full=$(vmm_rss_mib)
say "VMM's RSS: $idle MiB idle, $full MiB with $mib MiB in use"
[ $((full - idle)) -ge $((mib * 9 / 10)) ] || fail "the memory in use is not seen in the VMM: $idle -> $full MiB"
crash_trigger
wait_for 60 grep -qs freed "$work/out" || fail "the container did not free its memory"
returned() {
  left=$(vmm_rss_mib)
  [ $((full - left)) -ge $((mib * 9 / 10)) ]
}
start=$SECONDS
wait_for 30 returned || fail "$left of $full MiB are still the VMM's 30 s after the guest freed $mib"
say "VMM's RSS: $left MiB $((SECONDS - start)) s after"
crash_trigger
status=0
wait $crash_run || status=$?
equal "status of the container" $status 0
exec 9>&-
