#!/bin/bash
# ps, update and events tell and change what is so in the guest: its pids, its cgroup, its want of memory; the forms are runc's.
# limit: 300
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["sh", "-c", $script] | .linux.resources.memory.limit = 134217728
  | .linux.resources.pids.limit = 50 | .linux.namespaces |= map(select(.type != "cgroup")) + [{type: "cgroup"}]
  | .mounts |= map(select(.destination != "/sys/fs/cgroup")) + [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup"}]' \
  --arg script 'sleep 1001 & sleep 1002 & wait'
husk run --detach --bundle "$bundle" c1 > "$work/out" 2>&1 < /dev/null || fail "run: $(cat "$work/out")"

# --- ps
wait_for 30 eval '[ "$(husk ps c1 | grep -c "sleep 100[12]\$")" = 2 ]' || fail "ps: $(husk ps c1)"
matches "ps's head" "$(husk ps c1 | head -n 1)" '^UID +PID +PPID +C +STIME +TTY +TIME +CMD$'
pids=$(husk ps --format json c1)
matches "ps --format json" "$pids" '^\[[0-9]+(,[0-9]+)+\]$'
equal "the table has the same pids" "$(husk ps c1 -o pid= | head -n 3 | xargs)" "$(jq -r '.[:3] | join(" ")' <<< "$pids")"
equal "pids as the container sees them" "$(husk ps c1 -o nspid= | sort -n | head -n 1 | tr -d ' ')" 1
equal "names" "$(husk ps c1 -o comm= | sort | uniq -c | awk '$2 == "sleep" && $1 >= 2 { print "sleeps" }')" sleeps
fails_with 'not supported' husk ps c1 --forest
fails_with 'invalid format option' husk ps --format xml c1

# --- events --stats against the container's own view of its cgroup
husk events --stats c1 > "$work/stats.json"
equal "event" "$(jq -r '[.type, .id] | join(" ")' "$work/stats.json")" "stats c1"
equal "limits" "$(jq -c '[.data.memory.usage.limit, .data.pids.limit]' "$work/stats.json")" "[134217728,50]"
equal "counts" "$(jq '.data.pids.current >= 3 and .data.memory.usage.usage > 0 and .data.cpu.usage.total > 0' "$work/stats.json")" true
crun_free() { # the members that runc's own events have, of a container under runc
  bundle_make "$work/peer" '.process.args = ["sleep", "1000"]'
  runc --root "$work/runc" run --detach --bundle "$work/peer" peer > /dev/null 2>&1 < /dev/null
  runc --root "$work/runc" events --stats peer | jq -c '[.data | paths(type != "object" and type != "array") | select(.[0] != "blkio" and .[1] != "raw") | join(".")] - ["cpu.throttling.periods", "memory.usage.max", "pids.limit", "memory.cache"] | sort'
  runc --root "$work/runc" delete --force peer
}
equal "members of the figures, as runc's" \
  "$(jq -c '[.data | paths(type != "object" and type != "array") | select(.[0] != "blkio" and .[1] != "raw") | join(".")] - ["cpu.throttling.periods", "memory.usage.max", "pids.limit", "memory.cache"] | sort' "$work/stats.json")" \
  "$(crun_free)"

# --- state is cheap: engines ask for it all the time. It takes no more system calls than crun's, and never asks the guest.
bundle_make "$work/peer" '.process.args = ["sleep", "1000"]'
crun --root "$work/crun" run --detach --bundle "$work/peer" peer > /dev/null 2>&1 < /dev/null
strace -f -o "$work/crun.calls" crun --root "$work/crun" state peer > /dev/null
crun --root "$work/crun" delete --force peer
strace -f -o "$work/husk.calls" "$(type -P husk)" --root "$state" state c1 > /dev/null
say "system calls of state: husk $(wc -l < "$work/husk.calls"), crun $(wc -l < "$work/crun.calls")"
[ "$(wc -l < "$work/husk.calls")" -le "$(wc -l < "$work/crun.calls")" ] || fail "state takes more system calls than crun's"
ok "state connects to nobody" test "$(grep -c 'connect(' "$work/husk.calls")" = 0

# --- update: single flags, a file, standard input; each value arrives in the guest, a wrong one changes nothing
guest_values() { husk exec c1 sh -c 'cd /sys/fs/cgroup; cat "$@" | paste -sd,' sh "$@"; }
husk update --memory 64m --memory-reservation 32m --pids-limit 40 --cpu-quota 50000 --cpu-period 200000 --cpu-share 2 c1
equal "what flags set" "$(guest_values memory.max memory.low pids.max cpu.max cpu.weight)" "67108864,33554432,40,50000 200000,1"
echo '{"cpu": {"quota": 70000}, "pids": {"limit": -1}}' | husk update --resources - c1
equal "after an update of the quota alone, and of pids" "$(guest_values cpu.max pids.max)" "70000 200000,max"
echo '{"memory": {"limit": 83886080}}' > "$work/resources.json"
husk update -r "$work/resources.json" c1
equal "memory.max" "$(guest_values memory.max)" 83886080
equal "what the state keeps" "$(jq -c '.resources | [.memory.limit, .cpu.quota, .cpu.period, .pids.limit]' "$state/containers/c1/state.json")" \
  "[83886080,70000,200000,-1]"
fails_with 'memory' husk update --memory lots c1
fails_with 'RDT' husk update --l3-cache-schema x c1
fails_with 'swap' husk update --pids-limit 30 --memory-swap 1m c1
echo '{"cpu": {"quota": 90000}, "unified": {"memory.high": "64M", "cpu.weight": "nonsense"}}' > "$work/resources.json"
fails_with 'unified|cpu.weight' husk update -r "$work/resources.json" c1
equal "after updates that failed, one of them half-way" "$(guest_values pids.max cpu.max memory.high)" "max,70000 200000,max"
equal "what the state keeps then" "$(jq -c '.resources.cpu.quota' "$state/containers/c1/state.json")" 70000

# --- events: at an interval, and an OOM kill
fails_with 'interval' husk events --interval 0s c1
husk events --interval 500ms c1 > "$work/events" 2> "$work/events.err" &
events=$!
wait_for 30 test -s "$work/events" || fail "no events"
husk update --cpu-quota 200000 c1
status=0
husk exec c1 python3 -c 'x = bytearray(96 << 20); x[::4096] = b"x" * len(x[::4096])' || status=$?
equal "the end of what takes more than memory.max" $status 137
wait_for 60 grep -q '"oom"' "$work/events" || fail "no OOM event; events: $(tail -n 1 "$work/events" | head -c 300) $(cat "$work/events.err")"
equal "the OOM event" "$(grep -m 1 '"oom"' "$work/events")" '{"type":"oom","id":"c1"}'
husk kill c1 KILL
wait_for 60 stopped c1 || fail "not stopped"
ok "events ends well with the container" wait $events
ok "each line is JSON" jq -e . "$work/events" > /dev/null
fails_with 'container with id c1 is not running' husk events c1
fails_with 'not running' husk ps c1
fails_with 'not running' husk update --memory 1m c1
husk delete c1
for verb in ps events update; do fails_with 'does not exist' husk $verb c1; done
