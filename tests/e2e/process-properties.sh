#!/bin/bash
# What config.json says about the process holds: arguments as they are, environment and nothing else, cwd, user, groups,
# umask, capabilities, rlimits, hostname. crun with the same bundle says the same.
. "${0%/*}/lib.sh"

guest_config='| .process.cwd = "/usr/share" | .hostname = "thing"
  | .process.env = ["PATH=/usr/bin:/bin", "ONE=1 and more", "EMPTY=", "TEXT=ä\"\\\n"]
  | .process.user = {"uid": 33, "gid": 44, "additionalGids": [10, 20, 20000]}
  | .process.capabilities.bounding += ["CAP_NET_RAW"]
  | .process.capabilities.ambient = []'
report='
import os, resource, socket, sys
print(sys.argv[1:], dict(sorted(os.environ.items())), os.getcwd(), os.getresuid(), os.getresgid(), sorted(os.getgroups()))
print(socket.gethostname(), oct(os.umask(0)), os.getpid())
print([l.split() for l in open("/proc/self/status") if l.startswith(("Cap", "NoNewPrivs", "SigBlk", "SigIgn"))])
print(sorted(os.listdir("/proc/self/fd"))[:3])
'
in_guest python3 -c "$report" '' 'two words' "it's" '$HOME' '*' > "$work/husk.out"
in_crun python3 -c "$report" '' 'two words' "it's" '$HOME' '*' > "$work/crun.out"
ok "the process as under crun" diff "$work/crun.out" "$work/husk.out" >&2
matches "user" "$(cat "$work/husk.out")" '\(33, 33, 33\) \(44, 44, 44\) \[10, 20, (44, )?20000\]'
