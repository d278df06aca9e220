#!/bin/bash
# NOTIFY_SOCKET: what a container says by sd_notify(3) reaches the host's service manager, with the monitor's pid for its own.
. "${0%/*}/lib.sh"

cat > listen.py << 'PY'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
listener.settimeout(60)
print("ready", flush=True)
while True:
    print(repr(listener.recv(4096).decode()), flush=True)
PY
python3 listen.py "$work/manager" > told &
listener=$!
wait_for 60 grep -q ready told || fail "no listener"
bundle_make "$bundle" '.process.args = ["sh", "-c", $script]' --arg script \
  'test -n "$NOTIFY_SOCKET" || exit 3; python3 -c "$0" STATUS=starting; python3 -c "$0" "MAINPID=1
READY=1"; sleep 1000'
jq --arg send 'import os, socket, sys
name = os.environ["NOTIFY_SOCKET"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(sys.argv[1].encode(), "\0" + name[1:] if name[0] == "@" else name)' '.process.args += [$send]' \
  "$bundle/config.json" > config.json
mv config.json "$bundle/config.json"
NOTIFY_SOCKET=$work/manager husk run --detach --bundle "$bundle" --pid-file pid n < /dev/null > /dev/null 2>&1
wait_for 60 grep -q READY told || fail "nothing came: $(cat told)"
equal "what was told" "$(tail -n +2 told | paste -sd' ')" "'STATUS=starting\\n' 'READY=1\\nMAINPID=$(cat pid)\\n'"
husk delete --force n
kill $listener
