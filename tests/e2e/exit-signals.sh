#!/bin/bash
# A program ended by signal N gives exit status 128 + N, as under crun. The container has no pid namespace of its own, since
# signals that are not handled do not reach a namespace's process 1; the last one, a real fault, does.
# limit: 600
. "${0%/*}/lib.sh"

shared='| .linux.namespaces |= map(select(.type != "pid"))'
for signal in HUP INT ABRT KILL SEGV TERM RTMAX; do
  husk_status=0 crun_status=0
  guest_config=$shared in_guest bash -c "ulimit -c 0; kill -$signal \$\$; sleep 100" || husk_status=$?
  guest_config=$shared in_crun bash -c "ulimit -c 0; kill -$signal \$\$; sleep 100" || crun_status=$?
  equal "exit status after SIG$signal" $husk_status $((128 + $(kill -l $signal)))
  equal "exit status after SIG$signal under crun" $husk_status $crun_status
done
status=0
in_guest python3 -c 'import ctypes; ctypes.string_at(0)' || status=$?
equal "exit status after a fault of process 1" $status 139
