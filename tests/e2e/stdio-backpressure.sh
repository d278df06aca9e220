#!/bin/bash
# A reader that stops makes the program wait, loses nothing, and costs neither memory nor processor time meanwhile.
. "${0%/*}/lib.sh"

mkfifo "$work/fifo"
bundle_make "$bundle" '.process.args = ["sh", "-c", "seq 1 3000000 | tee /srv/progress"]'
husk run --bundle "$bundle" slow > "$work/fifo" < /dev/null &
run=$!
exec 8< "$work/fifo"
read -r -u 8 first
equal "the first line" "$first" 1
sleep 3
before=$(stat -c %s "$rootfs/srv/progress")
sleep 2
after=$(stat -c %s "$rootfs/srv/progress")
equal "bytes written while the reader sleeps" "$after" "$before"
[ "$after" -lt 20000000 ] || fail "$after bytes were taken from the program although nobody reads them"
for pid in $(processes_list); do
  resident=$(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status")
  [ "${resident:-0}" -lt 40000 ] || [ "$(cat "/proc/$pid/comm")" = husk-vmm ] || fail "process $pid buffers: $resident kB"
done
equal "the rest" "$(sha256sum <&8)" "$(seq 2 3000000 | sha256sum)"
exec 8<&-
ok "husk run" wait $run
rm "$rootfs/srv/progress"
