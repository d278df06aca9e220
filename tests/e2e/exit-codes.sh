#!/bin/bash
# husk run ends with the program's exit status, for a sample of all there are.
# limit: 600
. "${0%/*}/lib.sh"

for code in 0 1 2 42 77 125 126 127 128 129 137 254 255; do
  status=0
  in_guest sh -c "exit $code" || status=$?
  equal "exit status" $status $code
done
