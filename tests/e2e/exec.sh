#!/bin/bash
# exec: a further process in a running container, by options and by a process object; what it sees, says and ends with is as under
# crun. Its errors have the words that callers look for. Nothing of it stays.
# limit: 300
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .process.env += ["OWN=1"]'
report='import os, sys
print(sys.argv[1:], dict(sorted(os.environ.items())), os.getcwd(), os.getresuid(), os.getresgid(), sorted(os.getgroups()))
print([l.split() for l in open("/proc/self/status") if l.startswith(("Cap", "NoNewPrivs", "SigBlk", "SigIgn", "Seccomp:"))])
print(sorted(os.listdir("/proc/self/fd"))[:3], os.readlink("/proc/self/fd/0"), sys.stdin.read())
sys.stderr.write("to stderr\n")
sys.exit(7)
'
jq --arg report "$report" '.process | .args = ["python3", "-c", $report, "by", "object"] | .cwd = "/tmp" | .env = ["PATH=/usr/bin:/bin", "X=y"]
  | .user = {uid: 33, gid: 44, additionalGids: [10, 20], umask: 63} | .capabilities = {} | .noNewPrivileges = true' \
  "$bundle/config.json" > process.json

# in_turn NAME COMMAND...: the same execs with the runtime COMMAND; their words and ends go to NAME.out.
in_turn() {
  local name=$1
  shift
  command "$@" run --detach --bundle "$bundle" e < /dev/null > /dev/null 2>&1
  run() { # run ARGUMENT...
    local status=0
    command "${runtime[@]}" exec "$@" < "${input:-/dev/null}" >> "$name.out" 2>> "$name.err" || status=$?
    echo "status $status" >> "$name.out"
  }
  local -a runtime=("$@")
  run e python3 -c "$report" plain
  run --user 7 --no-new-privs e python3 -c "$report"
  run --process process.json e
  head -c 300000 /dev/urandom | base64 > in
  input=in run e sha256sum
  run e sh -c 'kill -9 $$'
  run e sh -c 'exit 255'
}
in_turn crun crun --root "$work/crun"
command crun --root "$work/crun" delete --force e
in_turn husk husk --root "$state" --log "$log"
sed -i '/^[0-9a-f]\{64\} /d' crun.out # of other bytes
equal "the input" "$(grep '^[0-9a-f]\{64\} ' husk.out)" "$(sha256sum < in)"
sed -i '/^[0-9a-f]\{64\} /d' husk.out
ok "further processes as under crun" diff crun.out husk.out >&2
ok "their standard error" diff crun.err husk.err >&2

# By options (crun 1.8 does not run this one).
equal "what options say" "$(husk exec --cwd /usr --env A=b --env 'C=d e' --env OWN=2 --user 1000:1001 e \
  sh -c 'pwd; id -u; id -g; echo "$A,$C,$OWN"; echo "[$1] [$2]"' sh '' 'two words' | paste -sd' ')" "/usr 1000 1001 b,d e,2 [] [two words]"

# What crun 1.8 does not take from the container, runc does: directory and groups. Capabilities go where runc puts them.
jq '.process.cwd = "/srv" | .process.user.additionalGids = [5]' "$bundle/config.json" > config.json
mv config.json "$bundle/config.json"
equal "of the container's own" "$(husk exec --additional-gids 9 e sh -c 'pwd; id -G' | paste -sd' ')" "/srv 0 5 9"
equal "an added capability" "$(husk exec --cap CAP_SYS_TIME e python3 -c \
  'print([int(line.split()[1], 16) >> 25 & 1 for line in open("/proc/self/status") if line.startswith("CapEff")])')" "[1]"

# Standard output and error that are one file keep their order.
husk exec e sh -c 'for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done' > both 2>&1
equal "the order of two streams in one file" "$(paste -sd' ' both)" \
  "out 1 err 1 out 2 err 2 out 3 err 3 out 4 err 4 out 5 err 5"
# A process that leaves others behind has ended all the same.
equal "beside one left behind" "$(husk exec e sh -c 'sleep 1000 & echo over')" over

# What callers look for in the words.
fails_with 'exec failed: .*executable file not found in \$PATH' husk exec e no-such-program
fails_with 'exec failed: .*no such file or directory' husk exec e /no/such/program
fails_with 'exec failed: .*permission denied' husk exec e /etc/passwd
fails_with 'process args cannot be empty' husk exec e
fails_with 'container none: container does not exist' husk exec none true
fails_with 'Cwd must be an absolute path' husk exec --cwd here e true
fails_with 'parsing root as int for uid failed' husk exec --user root e true
fails_with "$work/none: No such file or directory" husk exec --process "$work/none" e
fails_with 'executable file not found' husk exec --detach --pid-file "$work/pid" e no-such-program
[ ! -e "$work/pid" ] || fail "a pid file for what never ran"
fails_with 'preserve-fds 1 is not supported: fd 3 is a file of the host, open for reading and writing' \
  husk exec --preserve-fds 1 e true 3<> process.json
husk exec --preserve-fds 3 e sh -c 'cat <&4; echo out >&5; readlink /proc/self/fd/3; [ ! -e /proc/self/fd/6 ]' \
  3< /dev/null 4< process.json 5> passed 6>&- > out
equal "input by a preserved fd, and /dev/null by another" "$(cat out)" "$(cat process.json; echo /dev/null)"
equal "output by a preserved fd" "$(cat passed)" out
fails_with 'cgroup none: No such file or directory' husk exec --cgroup none e true
equal "the cgroup that is the container's" "$(husk exec --cgroup / e cat /proc/self/cgroup)" \
  "$(husk exec e cat /proc/self/cgroup)"
status=0
husk exec e no-such-program 2> /dev/null || status=$?
equal "the status when there is none of a process" $status 255

husk pause e
fails_with 'cannot exec in a paused container \(use --ignore-paused to override\)' husk exec e true
husk exec --ignore-paused e echo thawed > out &
husk resume e
wait $!
equal "of a process in a paused container" "$(cat out)" thawed

# Nobody's process and no fd of the agent is left after many of them.
for _ in 1 2 3 4 5 6 7 8 9 10; do husk exec e true; done
equal "processes left" "$(husk exec e ps -eo comm= | sort | paste -sd' ')" "ps sleep sleep"
husk kill e KILL
wait_for 10 stopped e
fails_with 'cannot exec in a stopped container' husk exec e true
husk delete e
