#!/bin/bash
# limit: 240
# process, root, hostname, domainname, linux.sysctl, personality and rootfsPropagation, of the init and of an exec: what the
# process finds of itself is what it finds under crun.
. "${0%/*}/lib.sh"

cat > "$rootfs/srv/report.py" <<'PY'
import ctypes, os, resource, socket, sys
libc = ctypes.CDLL(None)
print(sys.argv[1:], sorted(os.environ.items()), os.getcwd(), os.getresuid(), os.getresgid(), sorted(os.getgroups()))
print([l.split() for l in open("/proc/self/status") if l.startswith(("Cap", "NoNewPrivs", "Seccomp:", "Umask", "SigIgn", "SigBlk"))])
print([(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith("RLIMIT_") and n[7:] in
       "AS CORE CPU DATA FSIZE MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()])
print(hex(libc.personality(0xffffffff)), os.uname().machine, libc.syscall(252, 1, 0), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
print(sorted(int(f) for f in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + f)), socket.gethostname())
for name in "kernel/shmmni kernel/msgmax kernel/sem fs/mqueue/msg_max net/ipv4/ip_unprivileged_port_start kernel/domainname".split():
    print(name, open("/proc/sys/" + name).read().split())
for path in ("/srv/x", "/dev/shm/x"):
    try: print(open(path, "w").close())
    except OSError as e: print(e)
print([f.split(":")[0] for l in open("/proc/self/mountinfo") if l.split()[4] == "/" for f in l.split(" - ")[0].split()[6:]])
PY
limits='[["AS", 4000000000, 5000000000], ["CORE", 0, 1024], ["CPU", 1000, 2000], ["DATA", 3000000000, 4000000000], ["FSIZE", 1000000, 2000000],
  ["MEMLOCK", 65536, 131072], ["MSGQUEUE", 1000, 2000], ["NICE", 1, 2], ["NOFILE", 100, 200], ["NPROC", 50, 60], ["RSS", 1, 9000000000],
  ["RTPRIO", 3, 4], ["RTTIME", 5000000, 6000000], ["SIGPENDING", 7, 8], ["STACK", 4194304, 8388608]]
  | map({"type": ("RLIMIT_" + .[0]), "soft": .[1], "hard": .[2]})'
process=$(jq -cn '{"args": ["python3", "/srv/report.py", "", "a b", "$x", "*", "it'"'"'s"], "cwd": "/usr/share",
  "env": ["PATH=/usr/bin:/bin", "HOME=/h", "A=b=c", "EMPTY=", "TEXT=ä\"\\\n"],
  "user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 6, 20000], "umask": 23}, "noNewPrivileges": true,
  "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"], "effective": ["CAP_KILL"],
    "permitted": ["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"], "inheritable": ["CAP_KILL", "CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"]},
  "rlimits": ('"$limits"')}')
# A process of its own before the sleep, so that the init stays with what the report was made of.
config='.root.readonly = true | .hostname = "thing" | .domainname = "example" | .linux.personality = {"domain": "LINUX32"}
  | .linux.rootfsPropagation = "shared"
  | .linux.sysctl = {"kernel.shmmni": "1234", "kernel/msgmax": "4321", "kernel.sem": "250 32000 32 99", "fs.mqueue.msg_max": "33",
      "net.ipv4.ip_unprivileged_port_start": "77"}
  | .process += $process | .process.oomScoreAdj = 321 | .process.args = ["sh", "-c", "\"$@\"; cat /proc/self/oom_score_adj; exec sleep 1000", "-"] + .process.args'
bundle_make "$work/long" "$config" --argjson process "$process"
husk run --bundle "$work/long" long < /dev/null > "$work/husk.out" 2>&1 &
long_run=$!
# crun 1.8.1 knows domainname as a sysctl only, and makes its standard streams the process's user's: not with the machine's /dev/null.
: > "$work/none"
bundle_make "$work/peer" "$config"' | del(.domainname) | .linux.sysctl["kernel.domainname"] = "example"' --argjson process "$process"
trap 'status=$?; set +e; crun --root "$work/crun" delete --force peer 2> /dev/null; (exit $status); finish' EXIT
crun --root "$work/crun" run --bundle "$work/peer" peer < "$work/none" > "$work/crun.out" 2>&1 &
wait_for 60 grep -qx 321 "$work/husk.out" || fail "no report: $(cat "$work/husk.out")"
wait_for 60 grep -qx 321 "$work/crun.out" || fail "no report of crun: $(cat "$work/crun.out")"
ok "the process as under crun" diff "$work/crun.out" "$work/husk.out" >&2
matches "the report" "$(cat "$work/husk.out")" '/usr/share \(1000, 1000, 1000\) \(1001, 1001, 1001\).*0x8 i686.*Read-only.*shared'

# The same by exec.
echo "$process" > "$work/process.json"
husk exec --process "$work/process.json" long > "$work/husk.out" 2>&1 < /dev/null
crun --root "$work/crun" exec --process "$work/process.json" peer > "$work/crun.out" 2>&1 < "$work/none"
ok "an exec as under crun" diff "$work/crun.out" "$work/husk.out" >&2

# What crun 1.8.1 does not know or leaves out: the kernel is asked.
execute() { # execute FILTER [PYTHON]
  jq --arg code "${2:-}" '.args = ["python3", "-c", "import os\n" + $code] | '"$1" "$work/process.json" > "$work/extra.json"
  husk exec --process "$work/extra.json" long < /dev/null
}
equal "scheduling, ioPriority, oomScoreAdj, a session of its own" "$(execute '.oomScoreAdj = 654
  | .scheduler = {"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
  | .execCPUAffinity = {"initial": "0", "final": "0"} | .ioPriority = {"class": "IOPRIO_CLASS_BE", "priority": 3}' '
import ctypes
print(hex(os.sched_getscheduler(0)), os.sched_getparam(0).sched_priority, os.sched_getaffinity(0), ctypes.CDLL(None).syscall(252, 1, 0))
print(open("/proc/self/oom_score_adj").read().strip(), os.getsid(0) == os.getpid())')" "0x40000001 7 {0} $((2 << 13 | 3))
654 True"
equal "nice value; engines' profiles for all" "$(execute '.scheduler = {"policy": "SCHED_BATCH", "nice": 5}
  | .apparmorProfile = "containers-default-0.50.1" | .selinuxLabel = "system_u:system_r:container_t:s0:c1,c2"' \
  'print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))')" "3 5"

refused() { # refused REGEX FILTER
  fails_with "$1" execute "$2"
}
refused 'process\.execCPUAffinity' '.execCPUAffinity.final = "1023"'
refused 'process\.rlimits\[15\]\.type: RLIMIT_NOFILE was given before' '.rlimits += [.rlimits[8]]'
refused 'process\.apparmorProfile is not supported' '.apparmorProfile = "mine"'
refused 'process\.selinuxLabel is not supported' '.selinuxLabel = "u:r:mine_t:s0"'
refused 'process\.scheduler' '.scheduler = {"policy": "SCHED_FIFO", "priority": 0}'
refused 'process\.ioPriority\.class' '.ioPriority = {"class": "IOPRIO_CLASS_NONE"}'
refused 'args must not be empty' '.args = []' # crun's words
refused 'process\.cwd' '.cwd = "/no/such/directory"'
refused 'Cwd must be an absolute path' '.cwd = "relative"' # runc's
refused 'process\.user\.uid' '.user.uid = -1'
refused 'process\.user\.additionalGids\[0\]' '.user.additionalGids = ["staff"]'
refused 'process\.user\.umask' '.user.umask = 4096'
refused 'process\.env' '.env = {}'
refused 'process\.capabilities\.bounding' '.capabilities.bounding = [1]'
refused 'process\.oomScoreAdj' '.oomScoreAdj = 1001'
refused 'process\.noNewPrivileges' '.noNewPrivileges = "yes"'
husk delete --force long
wait $long_run || true
rm "$rootfs/srv/report.py"
