#!/bin/bash
# husk check says yes here, point by point, in words that a person can act on.
. "${0%/*}/lib.sh"

husk check > "$work/out" 2>&1 || fail "husk check: $(cat "$work/out")"
for point in /dev/kvm API irqchip irqfd ioeventfd vCPU memory kernel agent; do
  grep -qiF "$point" "$work/out" || fail "husk check does not speak of $point: $(cat "$work/out")"
done
