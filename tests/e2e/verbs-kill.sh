#!/bin/bash
# kill: signals by name and by number, with and without SIG, in either case, real-time ones; --all reaches every process; the
# words of a refusal are those that podman and containerd look for.
# limit: 300
. "${0%/*}/lib.sh"

cat > "$rootfs/srv/signals.py" << 'PYTHON'
import os, signal, sys
who = "child" if os.fork() == 0 else "init"
def got(number, frame):
    os.write(1, f"{who} {number}\n".encode())
for number in signal.valid_signals() - {9, 17, 19}:
    signal.signal(number, got)
os.write(1, f"{who} up\n".encode())
while True:
    signal.pause()
PYTHON
bundle_make "$bundle" '.process.args = ["python3", "/srv/signals.py"]'
husk run --detach --bundle "$bundle" c1 > "$work/out" 2>&1 < /dev/null || fail "run: $(cat "$work/out")"
wait_for 60 eval '[ "$(grep -c up "$work/out")" = 2 ]' || fail "not up: $(cat "$work/out")"

sent=''
for signal in HUP:1 SIGINT:2 sigquit:3 usr1:10 12:12 64:64 RTMIN:34 SIGRTMIN+3:37 RTMAX-2:62 34:34 CONT:18 WINCH:28; do
  husk kill c1 "${signal%:*}"
  wait_for 20 grep -qx "init ${signal#*:}" "$work/out" || fail "${signal%:*}: $(tail -n 3 "$work/out")"
  sent+="${signal#*:} "
done
equal "each signal arrived, at init alone" "$(grep -v up "$work/out" | awk '$1 == "init" { printf "%s ", $2 } $1 != "init" { print "child!" }')" "$sent"
ok "signal 0" husk kill c1 0
husk kill --all c1 USR2
wait_for 20 grep -qx "child 12" "$work/out" || fail "kill --all did not reach the child"
husk kill c1 # SIGTERM, which they both catch
wait_for 20 grep -qx "init 15" "$work/out" || fail "no SIGTERM by default"
for wrong in SIGNOSUCH 65 -1 RTMIN+31 TERM1; do fails_with "signal|option" husk kill c1 "$wrong"; done
husk kill -a c1 KILL
wait_for 30 stopped c1 || fail "kill --all KILL left it running"
fails_with 'container not running' husk kill c1 TERM
ok "all processes of a stopped container, as runc" husk kill --all c1 9
husk delete c1
fails_with 'does not exist' husk kill c1 9

# crun's --regex, for kill and delete.
bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
husk create --bundle "$bundle" web-1 > /dev/null 2>&1 < /dev/null
husk create --bundle "$bundle" db-1 > /dev/null 2>&1 < /dev/null
husk kill --regex '^web-' KILL
wait_for 30 stopped web-1 || fail "kill --regex"
equal "the one that does not match" "$(state_of db-1)" created
husk delete --regex --force '^(web|db)-[0-9]$'
equal "after delete --regex" "$(husk list -q)" ""
fails_with 'regex' husk delete --regex '('
rm "$rootfs/srv/signals.py"
