#!/bin/bash
# A program ended by signal N gives exit status 128 + N, as under crun, by run and by exec. What run starts has no pid namespace
# of its own, since signals that are not handled do not reach a namespace's process 1; the last one, a real fault, does.
# limit: 300
. "${0%/*}/lib.sh"

end_by() { echo "ulimit -c 0; kill -$1 \$\$; sleep 100"; }

shared='| .linux.namespaces |= map(select(.type != "pid"))'
for signal in KILL TERM; do
  husk_status=0 crun_status=0
  guest_config=$shared in_guest bash -c "$(end_by $signal)" || husk_status=$?
  guest_config=$shared in_crun bash -c "$(end_by $signal)" || crun_status=$?
  equal "exit status after SIG$signal" $husk_status $((128 + $(kill -l $signal)))
  equal "exit status after SIG$signal under crun" $husk_status $crun_status
done
status=0
in_guest python3 -c 'import ctypes; ctypes.string_at(0)' || status=$?
equal "exit status after a fault of process 1" $status 139

bundle_of_arguments "$bundle" sleep 1000
husk run --detach --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
crun --root "$work/crun" run --detach --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
for signal in HUP INT ABRT SEGV RTMAX; do
  husk_status=0 crun_status=0
  husk exec c1 bash -c "$(end_by $signal)" || husk_status=$?
  crun --root "$work/crun" exec c1 bash -c "$(end_by $signal)" || crun_status=$?
  equal "exec's exit status after SIG$signal" $husk_status $((128 + $(kill -l $signal)))
  equal "exec's exit status after SIG$signal under crun" $husk_status $crun_status
done
husk delete --force c1
crun --root "$work/crun" delete --force c1
