#!/bin/bash
# A container with a terminal by a console socket and in the foreground, and the same for exec: size and its changes, keys that
# make signals, job control, end of input, all output at the end, exit status. crun holds the same dialog, word for word.
# limit: 400
. "${0%/*}/lib.sh"

shell='["bash", "--norc", "--noprofile", "--noediting", "-i"]'
terminal='.process.terminal = true | .process.consoleSize = {height: 30, width: 100}
  | .process.env += ["PS1=@@ ", "TERM=dumb"]'
driver=$here/terminal.py

bundle_make "$bundle" "$terminal | .process.args = $shell"
bundle_make "$work/idle" "$terminal | .process.terminal = false | .process.args = [\"sleep\", \"1000\"]"
# A process object for exec, as conmon writes one.
jq ".process | .terminal = true | .args = $shell | .consoleSize = {height: 30, width: 100}" "$work/idle/config.json" > process.json

# by_console NAME COMMAND...: both detached ways to a terminal with the runtime COMMAND.
by_console() {
  local name=$1
  shift
  python3 "$driver" console "$work/s" "$work/pid" "$@" run --detach --bundle "$bundle" --console-socket "$work/s" \
    --pid-file "$work/pid" t1 > "$name.run"
  command "$@" delete t1
  command "$@" run --detach --bundle "$work/idle" t2 < /dev/null > /dev/null 2>&1
  python3 "$driver" console "$work/s" "$work/pid" "$@" exec --detach --console-socket "$work/s" --pid-file "$work/pid" \
    --process process.json t2 > "$name.exec"
}
by_console crun crun --root "$work/crun"
command crun --root "$work/crun" delete --force t2
by_console husk husk --root "$state" --log "$log"
# In the foreground crun 1.8 does not follow a change of size, so husk is held against the same two dialogs.
python3 "$driver" pty husk --root "$state" --log "$log" run --bundle "$bundle" t3 > husk.run-pty
python3 "$driver" pty husk --root "$state" --log "$log" exec --tty t2 bash --norc --noprofile --noediting -i > husk.exec-pty
for way in run run-pty exec exec-pty; do
  ok "the dialog by $way" diff "crun.${way%-pty}" "husk.$way" >&2
  equal "the end of the dialog by $way" "$(tail -n 1 "husk.$way")" "status 7"
done

# A terminal in the foreground is set back even if husk is killed; the killed exec takes its process with it.
ok "the terminal after a kill" python3 "$driver" restored 9 husk --root "$state" --log "$log" exec -t t2 \
  bash --norc --noprofile --noediting -i
ok "the process of a killed exec" wait_for 10 husk exec t2 sh -c '! ps -eo comm= | grep -qx bash'
husk delete --force t2
matches "the first size" "$(cat husk.run)" $'\n''stty size'$'\n''30 100'

# What does not fit together is refused as by runc.
fails_with 'cannot allocate tty if husk will detach without setting console socket' husk create --bundle "$bundle" t4
fails_with 'cannot use console socket if husk will not detach or allocate tty' \
  husk run --bundle "$bundle" --console-socket "$work/none" t4
fails_with 'cannot use console socket if husk will not detach or allocate tty' \
  husk create --bundle "$work/idle" --console-socket "$work/none" t4
fails_with "$work/none: No such file" husk create --bundle "$bundle" --console-socket "$work/none" t4
