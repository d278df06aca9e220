#!/bin/bash
# limit: 240
# mounts, maskedPaths and readonlyPaths of config.json: the default mounts and devices, flags and their recursive forms,
# tmpcopyup, files, destinations behind symbolic links, and what the host has mounted below a volume look as under crun; what
# the host mounts there later is seen, too.
. "${0%/*}/lib.sh"

mkdir -p "$work"/volume/{sub,deep/er}
mount --bind "$work/volume" "$work/volume" && mount --make-shared "$work/volume"
trap 'status=$?; set +e; umount --lazy --recursive "$work/volume"; (exit $status); finish' EXIT
echo one > "$work/volume/file"
mount -t tmpfs -o mode=755 inner "$work/volume/sub"
mkdir "$work/volume/sub/dir" && mount -t tmpfs -o mode=755 inmost "$work/volume/sub/dir"
links=$rootfs/srv/links
rm -rf "$links" && mkdir -p "$links"/{real,copied} && ln -s /srv/links/real "$links/abs"
ln -s ../../../../../../../srv/links/real "$links/out" && echo kept > "$links/copied/kept" && chmod 1751 "$links/copied"
volume='{"type": "bind", "source": $volume}'
guest_config='| .mounts += ([["ro"], ["nosuid", "nodev"], ["noexec"], ["nodiratime"], ["noatime"], ["strictatime"], ["rprivate"], ["rslave"],
     ["unbindable"], ["rro"], ["rnosuid", "rnodev"], ["rnoexec"], ["rw"], ["nosymfollow"]]
    | to_entries | map('"$volume"' + {"destination": "/mnt/\(.key)-\(.value[0])", "options": (["rbind"] + .value)}))
  + ['"$volume"' + {"destination": "/mnt/single", "options": ["bind"]},
     '"$volume"' + {"destination": "/mnt/one/file", "source": ($volume + "/file"), "options": ["bind", "ro"]},
     '"$volume"' + {"destination": "/srv/links/abs", "options": ["bind"]},
     '"$volume"' + {"destination": "/mnt/late", "options": ["rbind", "rslave"]},
     {"destination": "/srv/links/out/deep", "type": "tmpfs", "source": "t", "options": ["size=64k", "mode=711", "nosuid"]},
     {"destination": "/srv/links/copied", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "size=1m"]},
     {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}]
  | .linux.namespaces += [{"type": "cgroup"}]
  | .linux.maskedPaths = ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/etc/apt", "/no/such"]
  | .linux.readonlyPaths = ["/proc/sys", "/proc/sysrq-trigger", "/usr/share", "/no/such"]'
guest_config=${guest_config//\$volume/\"$work/volume\"}
report='
  # Where, flags, file systems that are the runtime'"'"'s to choose. atime flags of a bind mount come from where it was taken.
  awk "\$5 !~ /^\/(|proc.(keys|timer_list))\$/ { print \$5, \$6, (\$5 ~ /^.(mnt|srv|usr|etc)/ ? \"\" : \$(NF - 2)) }" /proc/self/mountinfo |
    sed -E "s/,(relatime|noatime|idmapped|nosymfollow)//g" | sort
  cat /mnt/one/file /srv/links/copied/kept; stat -c "%a %U" /srv/links/real/deep; ls -d /srv/links/real/sub
  touch /mnt/9-rro/sub/x /mnt/9-rro/sub/dir/x /mnt/9-rro/x /mnt/0-ro/x /usr/share/x /mnt/one/file /sys/fs/cgroup/x /sys/x 2>&1
  touch /mnt/0-ro/sub/x && rm /mnt/0-ro/sub/x && echo below
  cp /bin/true /mnt/12-rw/run; for d in 2-noexec 11-rnoexec 12-rw; do /mnt/$d/run && echo $d runs; done 2>&1; rm /mnt/12-rw/run
  ls /etc/apt | wc -l; wc -c < /proc/keys; echo 1 > /proc/sys/kernel/shmmni
  ls -A /mnt/single/sub | wc -l
  for d in null zero full random urandom tty; do stat -c "%n %t:%T %a %F" /dev/$d; done
  for l in fd stdin stdout stderr ptmx; do echo "$l $(readlink /dev/$l)"; done
  head -c 4 /dev/zero | od -An -tx1; echo x > /dev/full || echo full; echo x > /dev/shm/x && stat -c %a /dev/shm /dev/pts/ptmx; echo end'
in_crun sh -c "$report" > "$work/crun.out" 2>&1 || true
crash_start "echo up; ($report) 2>&1; grep -E ' /mnt/(3|4|5|8|13)-[a-z]+ ' /proc/self/mountinfo | cut -d' ' -f 6,7; stat -c %a /srv/links/copied
  echo ready; read go; cat /mnt/late/deep/er/late; read go; ls /mnt/late/deep/er | wc -l"
wait_for 120 grep -qx ready "$work/out" || fail "no report: $(cat "$work/out" "$work/err")"
ok "mounts as under crun" diff "$work/crun.out" <(sed '1d; /^end$/q' "$work/out") >&2
matches "the report" "$(cat "$work/crun.out")" '/mnt/9-rro/sub/dir ro.*below.*12-rw runs.*end$'
equal "what depends on the host, and what crun 1.8 does otherwise" "$(sed '1,/^end$/d' "$work/out")" "rw,nodiratime,relatime -
rw,noatime -
rw -
rw,relatime unbindable
rw,relatime,nosymfollow -
1751
ready"

# What is mounted on the host while the container runs shows below a volume, and goes again.
mount -t tmpfs late "$work/volume/deep/er" && echo later > "$work/volume/deep/er/late"
crash_trigger
wait_for 20 grep -q later "$work/out" || fail "the later mount is not seen: $(cat "$work/out" "$work/err")"
umount --lazy "$work/volume/deep/er" # the file server has it open, as long as the guest remembers it
sleep 1.1 # what the guest may still believe
crash_trigger
wait $crash_run || fail "exit status $?"
equal "after the host's umount" "$(tail -n 1 "$work/out")" 0
husk delete --force crash
exec 9>&-
rm -rf "$links"
