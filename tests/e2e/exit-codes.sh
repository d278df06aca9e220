#!/bin/bash
# husk run and husk exec end with the program's exit status, for a sample of all there are.
. "${0%/*}/lib.sh"

for code in 0 1 255; do
  status=0
  in_guest sh -c "exit $code" || status=$?
  equal "exit status of run" $status $code
done

bundle_of_arguments "$bundle" sleep 1000
husk run --detach --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
for code in 0 2 42 77 125 126 127 128 129 137 254 255; do
  status=0
  husk exec c1 sh -c "exit $code" || status=$?
  equal "exit status of exec" $status $code
done
husk delete --force c1
