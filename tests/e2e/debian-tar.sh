#!/bin/bash
# tar of /usr out of the container and into it again compares equal: content, owners, modes, times, links and xattrs.
# limit: 900
. "${0%/*}/lib.sh"
long

readonly plain=(--numeric-owner --sort=name --format=posix "--pax-option=delete=atime,delete=ctime")
readonly kinds=("${plain[@]}" --xattrs '--xattrs-include=*' --acls)
# Something to carry beside what Debian has: a file capability, an ACL, a user attribute, a hard link, other owners.
mark=$rootfs/usr/share/husk-tar
mkdir -p "$mark"
echo data > "$mark/file" && ln "$mark/file" "$mark/hard" && ln -s file "$mark/soft"
chown -h 1234:4321 "$mark/file" "$mark/soft" && chmod 6755 "$mark/file"
setfattr -n user.colour -v blue "$mark/file"
cp /bin/true "$mark/capable" && setcap cap_net_raw+ep "$mark/capable"
setfacl -m u:33:rwx,d:g:44:rx "$mark"

# Out: the guest's archive of the whole of /usr has the content that the host sees, and of the marked part the attributes.
mkfifo "$work/guest"
in_guest tar "${plain[@]}" -C / -cf - usr > "$work/guest" &
guest=$!
ok "archive of /usr made in the guest" cmp "$work/guest" <(tar "${plain[@]}" -C "$rootfs" -cf - usr)
ok "tar in the guest" wait $guest
ok "attributes, as the guest reads them" cmp <(in_guest tar "${kinds[@]}" -C / -cf - usr/share/husk-tar) \
  <(tar "${kinds[@]}" -C "$rootfs" -cf - usr/share/husk-tar)

# In: unpacked in the guest from its stdin, it makes the same archive again on the host.
readonly part=(usr/share/husk-tar usr/bin usr/lib/git-core usr/share/perl5 usr/include)
mkdir -p "$rootfs/srv/in"
tar "${kinds[@]}" -C "$rootfs" -cf - "${part[@]}" > "$work/out.tar"
in_guest tar --xattrs '--xattrs-include=*' --acls --numeric-owner -C /srv/in -xpf - < "$work/out.tar"
tar "${kinds[@]}" -C "$rootfs/srv/in" -cf "$work/in.tar" "${part[@]}"
ok "archive of what the guest unpacked" cmp "$work/in.tar" "$work/out.tar"
matches "capability of the unpacked file" "$(getcap "$rootfs/srv/in/usr/share/husk-tar/capable")" 'cap_net_raw=ep'
rm -rf "$mark" "$rootfs/srv/in"
