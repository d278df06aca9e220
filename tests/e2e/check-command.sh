#!/bin/bash
# husk check says yes here, point by point, in words that a person can act on; also for a copy that is installed elsewhere.
. "${0%/*}/lib.sh"

husk check > "$work/out" 2>&1 || fail "husk check: $(cat "$work/out")"
for point in /dev/kvm API irqchip irqfd ioeventfd vCPU memory kernel agent; do
  grep -qiF "$point" "$work/out" || fail "husk check does not speak of $point: $(cat "$work/out")"
done

build=$(dirname "$(dirname "$(type -P husk)")")
cmake --install "$build" --prefix "$work/prefix" > "$work/install" 2>&1 || fail "cmake --install: $(cat "$work/install")"
"$work/prefix/bin/husk" check > "$work/out" 2>&1 || fail "husk check when installed: $(cat "$work/out")"
grep -qF "$work/prefix/share/husk/vmlinux" "$work/out" || fail "another copy's kernel: $(cat "$work/out")"
rm "$work/prefix/share/husk/initramfs.cpio"
"$work/prefix/bin/husk" check > "$work/out" 2>&1 && fail "husk check says yes without an agent image"
grep -qF "$work/prefix/share/husk/initramfs.cpio" "$work/out" || fail "the missing file is not named: $(cat "$work/out")"
