#!/bin/bash
# Mounts below a shared tree and bind mounts of config.json: each has a device number of its own, inode numbers that clash do
# not confuse, and read-only ones refuse writes.
. "${0%/*}/lib.sh"

mkdir -p "$work/volume/sub" "$work/ro"
mount -t tmpfs tmpfs "$work/volume/sub"
echo outer > "$work/volume/file" && echo inner > "$work/volume/sub/file"
echo data > "$work/ro/file"
bundle_make "$bundle" '.mounts += [
    {"destination": "/volume", "type": "bind", "source": $volume, "options": ["rbind", "rw"]},
    {"destination": "/ro", "type": "bind", "source": $ro, "options": ["bind", "ro"]},
    {"destination": "/etc/hostname", "type": "bind", "source": $file, "options": ["bind", "ro"]}]
  | .process.args = ["sh", "-c", $script]' --arg volume "$work/volume" --arg ro "$work/ro" --arg file "$work/ro/file" --arg script '
  cat /volume/file /volume/sub/file /ro/file /etc/hostname
  echo from guest > /volume/sub/new
  touch /ro/x 2> /dev/null || echo refused
  [ "$(stat -c %d /volume)" != "$(stat -c %d /volume/sub)" ] && echo another device
  find /volume -xdev | wc -l
  mv /volume/file /volume/sub/moved && cat /volume/sub/moved
  ln /volume/sub/moved /volume/hard 2> /dev/null || echo no link across'
out=$(husk run --bundle "$bundle" c1 < /dev/null) || fail "husk run ended with $?"
equal "output" "$out" $'outer\ninner\ndata\ndata\nrefused\nanother device\n3\nouter\nno link across'
equal "what the guest wrote" "$(cat "$work/volume/sub/new")" "from guest"
umount "$work/volume/sub"
