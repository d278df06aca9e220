#!/bin/bash
# What the machine or its administrator got wrong: no /dev/kvm, a kernel that is no ELF file or is cut short, one that is not
# there, no initramfs, a kernel that panics at once. One line that says so, and nothing stays behind.
. "${0%/*}/lib.sh"

# In a mount namespace of its own: an empty /etc/husk with CONF as husk.conf, then the script in "$@".
with_conf() { # with_conf CONF COMMAND...
  mkdir -p /etc/husk
  unshare --mount sh -euc 'mount -t tmpfs tmpfs /etc/husk; echo "$1" > /etc/husk/husk.conf; shift; exec "$@"' sh "$@"
}
bundle_make "$bundle" '.process.args = ["true"]'
run=(husk --root "$state" --log "$log" run --bundle "$bundle" c1)
kernel=$(readlink -f "$(dirname "$(type -P husk)")/../guest/vmlinux")
vmm() { husk-vmm --id v --cpus 1 --memory "${1:-256}" --kernel "${2:-$kernel}" --initrd /dev/null; }

echo "no kernel at all" > "$work/text"
head -c 100000 "$kernel" > "$work/cut"
gcc -x c -c -m32 -o "$work/elf32" - <<< 'int a;'
: > "$work/empty"
for file in text cut elf32 empty; do
  fails_with 'ELF|kernel' with_conf "kernel = $work/$file" "${run[@]}"
  fails_with 'ELF|kernel' vmm 256 "$work/$file"
done
fails_with "$work/nosuch.*No such file" with_conf "kernel = $work/nosuch" "${run[@]}"
fails_with "$work/nosuch.*No such file" with_conf "initramfs = $work/nosuch" "${run[@]}"
fails_with "$work/nosuch.*No such file" with_conf "vmm = $work/nosuch" "${run[@]}"
fails_with 'husk.conf:1.*nosuch' with_conf "nosuch = 1" "${run[@]}"
fails_with 'memory' with_conf "memory_mib = 16" "${run[@]}"
# A kernel that panics before it has found its console and pvpanic: the early console heard it.
fails_with 'reset.*Kernel panic.*memory map' with_conf "kernel_params = memmap=exactmap" "${run[@]}"
fails_with 'memory' vmm 16
fails_with 'cpus' husk-vmm --id v --cpus 0 --memory 256 --kernel "$kernel" --initrd /dev/null

without_kvm() { unshare --mount sh -euc 'mount --bind /dev/null /dev/kvm; exec "$@"' sh "$@"; }
fails_with '/dev/kvm' without_kvm "${run[@]}"
status=0
without_kvm husk check > "$work/out" 2>&1 || status=$?
[ $status != 0 ] || fail "husk check ended with 0 without /dev/kvm"
matches "husk check without /dev/kvm" "$(cat "$work/out")" '/dev/kvm'
