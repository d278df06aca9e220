#!/bin/bash
# stdout and stderr are apart, in order each, also what is written in the program's last moment.
. "${0%/*}/lib.sh"

in_guest sh -c 'for i in $(seq 500); do echo "out $i"; echo "err $i" >&2; done; printf last; printf end >&2' \
  > "$work/stdout" 2> "$work/stderr"
ok "stdout" cmp "$work/stdout" <(for i in $(seq 500); do echo "out $i"; done; printf last)
ok "stderr" cmp "$work/stderr" <(for i in $(seq 500); do echo "err $i"; done; printf end)

# A closed stdout is the program's problem (EPIPE or EBADF), not husk's.
status=0
in_guest sh -c 'echo to stderr >&2; exit 3' >&- 2> "$work/stderr" || status=$?
equal "exit status with a closed stdout" $status 3
equal "stderr with a closed stdout" "$(cat "$work/stderr")" "to stderr"
