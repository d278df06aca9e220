#!/bin/bash
# apt-get installs a package made in the guest, runs its maintainer script, and removes it again.
. "${0%/*}/lib.sh"

in_guest sh -euc '
  mkdir -p /srv/deb/pkg/DEBIAN /srv/deb/pkg/usr/bin && cd /srv/deb
  cat > pkg/DEBIAN/control <<CONTROL
Package: husk-hello
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a package of one file
CONTROL
  printf "#!/bin/sh\necho configured > /var/lib/husk-hello\n" > pkg/DEBIAN/postinst
  printf "#!/bin/sh\necho hello from a package\n" > pkg/usr/bin/husk-hello
  chmod 755 pkg/DEBIAN/postinst pkg/usr/bin/husk-hello
  dpkg-deb --root-owner-group --build pkg husk-hello.deb
  DEBIAN_FRONTEND=noninteractive apt-get install -y ./husk-hello.deb
  husk-hello > said
' > "$work/log" 2>&1 || fail "apt-get install: $(tail -n 5 "$work/log")"
equal "the installed program's output" "$(cat "$rootfs/srv/deb/said")" "hello from a package"
equal "what postinst wrote" "$(cat "$rootfs/var/lib/husk-hello")" configured
# Another guest finds it installed, and removes it.
matches "status of the package" "$(in_guest dpkg -s husk-hello)" 'Status: install ok installed'
in_guest apt-get purge -y husk-hello > "$work/log" 2>&1 || fail "apt-get purge: $(tail -n 5 "$work/log")"
[ ! -e "$rootfs/usr/bin/husk-hello" ] || fail "the package's file is still there"
rm -rf "$rootfs/srv/deb" "$rootfs/var/lib/husk-hello"
