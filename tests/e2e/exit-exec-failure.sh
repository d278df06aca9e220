#!/bin/bash
# A program that cannot be executed is an error of `run` that says why, with the words that callers look for.
. "${0%/*}/lib.sh"

: > "$rootfs/srv/not-executable"
printf '#!/no/such/interpreter\n' > "$rootfs/srv/no-interpreter" && chmod 755 "$rootfs/srv/no-interpreter"
fails_with '[Nn]o such file or directory|executable file not found' in_guest no-such-program
pod_start
guest_config=$pod_join
fails_with '[Nn]o such file or directory|executable file not found' in_guest /no/such/program
fails_with '[Pp]ermission denied' in_guest /srv/not-executable
fails_with '[Nn]o such file or directory' in_guest /srv/no-interpreter
husk delete --force pod
rm "$rootfs/srv/not-executable" "$rootfs/srv/no-interpreter"
