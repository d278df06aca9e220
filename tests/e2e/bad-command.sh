#!/bin/bash
# Command lines that make no sense: one line that names the word, exit status not 0.
. "${0%/*}/lib.sh"

fails_with 'nosuch' husk nosuch
fails_with 'no-such-option' husk run --no-such-option c1
fails_with 'no-such-option' husk --no-such-option list
fails_with 'ID|id|argument' husk run
fails_with 'ID|id|argument' husk state
fails_with 'argument' husk state one two
fails_with 'bundle' husk run c1 --bundle
fails_with 'No such file|Not a directory|Permission|read-only' command husk --root /proc/nosuch list
matches "--version" "$(husk --version)" '^husk version [0-9]+\.[0-9]+'
matches "--help" "$(husk --help)" 'create'
matches "run --help" "$(husk run --help)" '--bundle'

status=0
husk-vmm --no-such-option > "$work/out" 2> "$work/err" || status=$?
[ $status != 0 ] || fail "husk-vmm --no-such-option ended with 0"
matches "husk-vmm --no-such-option" "$(cat "$work/err")" 'no-such-option'
for option in id cpus memory kernel initrd vsock shared console status log; do
  matches "husk-vmm --help" "$(husk-vmm --help)" "--$option"
done
