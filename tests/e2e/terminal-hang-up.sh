#!/bin/bash
# When the holder of a terminal's master goes away, the program in the guest is hung up as by the kernel: SIGHUP, and what it
# writes or reads after that fails. crun does the same.
. "${0%/*}/lib.sh"

driver=$here/terminal.py
# Without a handler the signal ends it; with one it sees the rest.
script='trap "echo hup >&3; read x; echo read \$? >&3; echo; echo write \$? >&3; exit 5" HUP
  exec 3> /told/told 2> /dev/null; echo ready; while :; do sleep 0.1; done'
filter='.process.terminal = true | .process.args = ["sh", "-c", $script]
  | .mounts += [{destination: "/told", type: "bind", source: $told, options: ["bind"]}]'
bundle_make "$work/plain" "$filter" --arg script 'echo ready; sleep 1000' --arg told "$work"
bundle_make "$work/trap" "$filter" --arg script "$script" --arg told "$work"

# hang_up NAME COMMAND...
hang_up() {
  local name=$1 which
  shift
  for which in plain trap; do
    rm -f told
    python3 "$driver" hang-up "$work/s" "$work/pid" "$@" run --detach --bundle "$work/$which" \
      --console-socket "$work/s" --pid-file "$work/pid" "$which" >> "$name.out"
    command "$@" delete "$which"
  done
  cat told >> "$name.out"
}
hang_up crun crun --root "$work/crun"
hang_up husk husk --root "$state" --log "$log"
ok "a hang-up" diff crun.out husk.out >&2
equal "the outcome" "$(paste -sd' ' husk.out)" "status 129 status 5 hup read 1 write 1"
