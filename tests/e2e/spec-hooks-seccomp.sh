#!/bin/bash
# limit: 240
# linux.seccomp: each action does what it does under crun. Hooks createContainer and startContainer run in the guest with the
# state on their stdin.
. "${0%/*}/lib.sh"

guest_config='| .process.noNewPrivileges = true | .linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
  "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
    {"names": ["getsid"], "action": "SCMP_ACT_ERRNO"},
    {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    {"names": ["setpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
     "args": [{"index": 2, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
    {"names": ["sched_yield"], "action": "SCMP_ACT_TRAP"}, {"names": ["getpgid"], "action": "SCMP_ACT_KILL_PROCESS"},
    {"names": ["sync"], "action": "SCMP_ACT_LOG"}, {"names": ["acct"], "action": "SCMP_ACT_TRACE"}]}'
report='
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    return libc.syscall(*args), ctypes.get_errno()
print(call(83, b"/srv/no", 0o755), call(124, 0), call(135, 8), call(135, 0xffffffff)[1], call(141, 0, 0, 3), call(141, 0, 0, 1), call(162), call(163, 0))
for name, number in (("trap", 24), ("kill", 121)):
    pid = os.fork()
    if pid == 0:
        libc.syscall(number, 0)
        os._exit(0)
    print(name, signal.Signals(os.WTERMSIG(os.waitpid(pid, 0)[1])).name)
print([l.split() for l in open("/proc/self/status") if l.startswith(("Seccomp", "NoNewPrivs"))])'
in_crun python3 -c "$report" > "$work/crun.out" 2>&1
pod_start
guest_config+=$pod_join
in_guest python3 -c "$report" > "$work/husk.out" 2>&1
ok "seccomp as under crun" diff "$work/crun.out" "$work/husk.out" >&2

# A program of the host, which is in no root, and one of the container.
printf '#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) { char b[4096]; long n = read(0, b, sizeof b); gethostname(b + 3000, 64);
  FILE *f = fopen(v[1], "w"); fprintf(f, "%%s %%s %%.*s\\n", b + 3000, getenv("E"), (int)n, b); return fclose(f); }\n' > "$work/hook.c"
gcc -static -w -include stdlib.h -o "$work/hook" "$work/hook.c"
guest_config=$pod_join'| .hostname = "hooked" | .annotations = {"k": "v"} | .hooks = {
    "createContainer": [{"path": $hook, "args": ["hook", "/run/husk/root/dev/shm/made"], "env": ["E=1"], "timeout": 30}],
    "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/shm/started; hostname >> /dev/shm/started"], "env": ["PATH=/bin"]}]}'
guest_config=${guest_config//\$hook/\"$work/hook\"}
got=$(in_guest sh -c 'cat /dev/shm/made /dev/shm/started')
matches "createContainer" "$got" '^hooked 1 \{"ociVersion":"1[^"]*","id":"c[0-9]*","status":"creating","pid":1,"bundle":"/[^"]*","annotations":\{"k":"v"\}\}'
matches "startContainer" "$got" '"status":"created","pid":1,.*hooked$'
husk delete --force pod
