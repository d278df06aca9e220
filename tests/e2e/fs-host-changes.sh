#!/bin/bash
# With the default cache policy, what the host changes below the root is seen by the guest soon, and the reverse at once.
. "${0%/*}/lib.sh"

mkdir -p "$rootfs/srv/shared"
echo one > "$rootfs/srv/shared/file"
mkfifo "$work/in" "$work/out.fifo"
exec 8<> "$work/in" 9<> "$work/out.fifo"
bundle_make "$bundle" '.process.args = ["sh"]'
husk run --bundle "$bundle" c1 < "$work/in" > "$work/out.fifo" 8>&- 9>&- &
run=$!
ask() {
  echo "$1; echo end of answer" >&8
  answer=''
  while read -r -t 60 -u 9 line && [ "$line" != "end of answer" ]; do answer+="$line "; done
}

ask 'cd /srv/shared; cat file; ls'
equal "before" "$answer" "one file "
echo three > "$rootfs/srv/shared/file"
echo new > "$rootfs/srv/shared/other"
sleep 2
ask 'cat file other'
equal "after a change by the host" "$answer" "three new "
rm "$rootfs/srv/shared/other"
mv "$rootfs/srv/shared/file" "$rootfs/srv/shared/renamed"
sleep 2
ask 'ls; cat renamed; cat other 2> /dev/null || echo gone'
equal "after removal and rename by the host" "$answer" "renamed three gone "
ask 'echo from guest > renamed; mkdir d'
equal "the guest's write, seen by the host" "$(cat "$rootfs/srv/shared/renamed"; ls -d "$rootfs"/srv/shared/d)" "from guest"$'\n'"$rootfs/srv/shared/d"
echo 'exit 0' >&8
ok "husk run" wait $run
rm -rf "$rootfs/srv/shared"
