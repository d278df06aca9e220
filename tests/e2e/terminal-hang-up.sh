#!/bin/bash
# When the holder of a terminal's master goes away, the program in the guest is hung up as by the kernel: SIGHUP, and what it
# writes or reads after that fails. crun does the same.
. "${0%/*}/lib.sh"

driver=$here/terminal.py
# As the container's first process, with a handler, which sees what comes after; and as a further one without, which ends.
script='trap "echo hup >&3; read x; echo read \$? >&3; echo; echo write \$? >&3; exit 5" HUP
  exec 3> /told/told 2> /dev/null; echo ready; sleep 1000 & wait'
bundle_make "$bundle" '.process.terminal = true | .process.args = ["sh", "-c", $script]
  | .mounts += [{destination: "/told", type: "bind", source: $told, options: ["bind"]}]' --arg script "$script" --arg told "$work"
bundle_make "$work/idle" '.process.args = ["sleep", "1000"]'
jq '.process | .terminal = true | .args = ["sh", "-c", "echo ready; exec sleep 1000"]' "$work/idle/config.json" > process.json

# hang_up NAME COMMAND...
hang_up() {
  local name=$1
  shift
  rm -f told
  python3 "$driver" hang-up "$work/s" "$work/pid" "$@" run --detach --bundle "$bundle" --console-socket "$work/s" \
    --pid-file "$work/pid" h1 > "$name.out"
  command "$@" delete h1
  cat told >> "$name.out"
  command "$@" run --detach --bundle "$work/idle" h2 < /dev/null > /dev/null 2>&1
  python3 "$driver" hang-up "$work/s" "$work/pid" "$@" exec --detach --console-socket "$work/s" --pid-file "$work/pid" \
    --process process.json h2 >> "$name.out"
  command "$@" delete --force h2
}
hang_up crun crun --root "$work/crun"
hang_up husk husk --root "$state" --log "$log"
ok "a hang-up" diff crun.out husk.out >&2
equal "the outcome" "$(paste -sd' ' husk.out)" "status 5 hup read 1 write 1 status 129"
