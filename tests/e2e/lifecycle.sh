#!/bin/bash
# create, start, kill, delete: each changes the state as OCI runtime-spec "Lifecycle" says, and the program runs between
# start and kill only.
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["sh", "-c", "touch /srv/started; echo started; trap \"echo got TERM; exit 9\" TERM; sleep 1000 & wait"]
  | .annotations = {"org.example.kept": "a value"}'
husk create --bundle "$bundle" --pid-file "$work/pid" c1 > "$work/out" 2> "$work/err" < /dev/null

equal "status after create" "$(state_of c1)" created
[ ! -e "$rootfs/srv/started" ] || fail "create ran the program"
equal "members of the state" "$(state_of c1 '[.ociVersion, .id, .bundle, .annotations["org.example.kept"]] | join(" ")')" \
  "$(jq -r .ociVersion "$bundle/config.json") c1 $bundle a value"
pid=$(state_of c1 .pid)
equal "pid file, without newline" "$(od -An -c "$work/pid" | tr -d ' \n')" "$pid"
ok "the pid is a process's" kill -0 "$pid"

husk start c1
wait_for 30 grep -q started "$work/out" || fail "the program did not start"
equal "status after start" "$(state_of c1)" running
equal "pid after start" "$(state_of c1 .pid)" "$pid"
[ -e "$rootfs/srv/started" ] || fail "the program's file is not there"

husk kill c1 TERM
wait_for 30 stopped c1 || fail "not stopped after SIGTERM"
equal "output of the program" "$(cat "$work/out")" $'started\ngot TERM'
ok "the pid's process is gone" test ! -e "/proc/$pid/root" -o "$(ps -o stat= -p "$pid" | cut -c1)" = Z
husk delete c1
fails_with 'does not exist' husk state c1
rm "$rootfs/srv/started"
