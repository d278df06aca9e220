#!/bin/bash
# A detached container's life through podman: start, exec, logs, pause, stats, inspect, cp, diff, rename, kill, wait, stop, rm.
# limit: 400
. "$(dirname "$0")/lib.sh"
. "$here/lib_podman.sh"

id=$(podman run -d --name one --network none $image sh -c 'trap "echo bye; exit 5" TERM; echo up; sleep 1000 & wait')
said_up() { podman logs one | grep -q up; }
wait_for 60 said_up || fail "no log: $(podman logs one 2>&1)"
read -r said pid <<< "$(podman inspect -f '{{.State.Status}} {{.State.Pid}}' one)"
equal "status" "$said" running
matches "the pid is the monitor's" "$(cat /proc/"$pid"/comm)" husk
status=0
said=$(echo in | podman exec -i -e X=1 -w /tmp one sh -c 'echo $X $PWD; cat; exit 9') || status=$?
equal "exec: environment, directory, input" "$said" "1 /tmp
in"
equal "exec's exit status" $status 9
fails=0
podman exec one /no/such 2> "$work/err" || fails=$?
equal "exit status of an exec without program" $fails 127
matches "its message" "$(cat "$work/err")" "no such file or directory"

matches "statistics" "$(podman stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' one)" '^[1-9]'

# podman reads /proc in the mount namespace of the pid: with crun it is the container's own. Times differ, and so do host pids.
podman_crun run -d --name peer --network none $image sh -c 'trap "echo bye; exit 5" TERM; echo up; sleep 1000 & wait' > /dev/null
columns=(pid ppid pgid user group state tty nice capeff capbnd seccomp comm args)
equal "top" "$(podman top one "${columns[@]}")" "$(podman_crun top peer "${columns[@]}")"
matches "top as it is asked for mostly" "$(podman top one)" "root +2 +1 .* sleep 1000"
podman_crun rm --force --time 0 peer > /dev/null

ok "pause" podman pause one
equal "paused" "$(podman inspect -f '{{.State.Status}}' one)" paused
ok "unpause" podman unpause one

# Callers enter the mount namespace of the pid: it is the container's tree, and nothing of the host's is in reach by it.
echo copied > "$work/file"
ok "cp into it" podman cp "$work/file" one:/srv/copied-in
ok "update" podman update --cpus 0.7 one
equal "the copy and the new limit" "$(podman exec one sh -c 'cat /srv/copied-in /sys/fs/cgroup/cpu.max; echo own > /srv/own')" "copied
70000 100000"
[ ! -e /srv/copied-in ] || fail "the copy went to the host"
ok "cp out of it" podman cp one:/srv/own "$work/out"
equal "the copy out" "$(cat "$work/out")" own
equal "the pid's root" "$(cat "/proc/$pid/root/srv/own")" own
matches "diff" "$(podman diff one)" "A /srv/copied-in"
ok "rename" podman rename one two
ok "stop" podman stop -t 30 two
equal "exit status of the stopped" "$(podman wait two)" 5
matches "its last word" "$(podman logs two)" "bye"
ok "start again" podman start two
ok "kill" podman kill --signal KILL two
equal "exit status of the killed" "$(podman wait two)" 137
ok "rm" podman rm two
equal "containers left" "$(podman ps -aq)" ""
matches "id" "$id" '^[0-9a-f]{64}$'
