#!/bin/bash
# Any command may be killed at any system call: create (alone, and with all that it has started), start, kill, pause, resume,
# update and delete. Afterwards state and list say something true and whole, no lock stays, and delete --force leaves nothing.
# Many kills, so the VM is a stand-in (tests/unit/fake_vmm.c); crash-monitor.sh and crash-races.sh take a real one.
# limit: 300
. "${0%/*}/lib.sh"

fake=$(dirname "$(readlink -f "$(type -P husk)")")/../tests/fake-vmm
[ -x "$fake" ] || skip "no $fake"
mkdir "$work/etc"
printf '%s = %s\n' vmm "$fake" kernel "$fake" initramfs "$fake" > "$work/etc/husk.conf"
rm -rf "$work/rootfs" && mkdir -p "$work/rootfs" "$bundle"
jq --arg rootfs "$work/rootfs" '.root.path = $rootfs | .process.args = ["sleep", "mortal"] | .mounts = []' \
  "$here/../bundle/config.json" > "$bundle/config.json"
# Emulation is slow and each kill takes about a second there: every n-th system call, from a random one on.
id=sweep-$$ # nobody else has a cgroup of that name
stride=${HUSK_SWEEP_STRIDE:-$([ -d /run/testbed ] && echo 97 || echo 3)}
kills=0

fake_husk() { timeout -k 1 40 "$(type -P husk)" --root "$state" --log "$log" --config-dir "$work/etc" "$@"; }

# Runs husk under strace. Standard streams are files: what outlives the command must not keep the test waiting. With -f among the
# options, the processes that husk starts are traced too.
traced() { # traced [-f] STRACE-OPTION -- ARGUMENT...
  local options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  # -D: strace is no parent that waits for all that husk leaves running.
  # The exit status 137 is the script's own to see, not a signal for its shell to tell of.
  sh -c '"$@"; exit $?' sh timeout -k 1 40 strace -D -qq "${options[@]}" -- "$(type -P husk)" --root "$state" --log "$log" \
    --config-dir "$work/etc" "$@" > "$work/killed.out" 2>&1 < /dev/null
}

# The system calls that the command makes, one a line, as "NAME K": the K-th one of that name.
calls_list() { # calls_list [-f] -- ARGUMENT...
  traced -o "$work/calls" "$@" || fail "$*: $(cat "$work/killed.out")"
  sed -nE 's/^([0-9]+ +)?([a-z_0-9]+)\(.*/\2/p' "$work/calls" | grep -v execve | awk '{ print $1, ++count[$1] }'
}

true_and_whole() { # true_and_whole WHERE
  local status
  status=$(fake_husk state "$id" 2> "$work/err" | jq -r .status) || true
  matches "$1: status" "${status:-$(cat "$work/err")}" '^(creating|created|running|paused|stopped|.*does not exist)$'
  fake_husk list --format json | jq -e . > /dev/null || fail "$1: list is broken"
}

gone() { # gone WHERE
  fake_husk delete --force "$id" 2> "$work/err" || fail "$1: delete --force: $? $(cat "$work/err")"
  wait_for 10 test -z "$(processes_all)" || fail "$1: processes: $(processes_all)"
  [ -z "$(files_list)" ] || fail "$1: files: $(files_list)"
  [ -z "$(cgroups_list)" ] || fail "$1: cgroups: $(cgroups_list)"
}

cgroups_list() { find /sys/fs/cgroup -type d -name "*$id*" 2> /dev/null || true; }
processes_all() { pgrep -af "$fake|--config-dir $work/etc" | grep -v strace || true; }

# Kills `husk ARGUMENTS` at the K-th system call NAME. BEFORE makes the container's state; -f kills each process that comes of the
# command at its own such call.
kill_at() { # kill_at BEFORE NAME K [-f] -- ARGUMENT...
  local before=$1 name=$2 k=$3 follow=() status=0
  shift 3
  if [ "$1" = -f ]; then
    follow=(-f)
    shift
  fi
  shift
  local where="$* killed at $name $k"
  eval "$before" || fail "$where: before it: $(tail -n 3 "$log")"
  traced "${follow[@]}" -o /dev/null "--inject=$name:signal=KILL:when=$k" -- "$@" || status=$?
  [ $status != 124 ] || fail "$where: hangs"
  kills=$((kills + (status == 137)))
  true_and_whole "$where"
  gone "$where"
}

# The same at one system call after the other.
sweep() { # sweep BEFORE [-f] -- ARGUMENT...
  local before=$1 at=$((RANDOM % stride)) name k calls
  shift
  eval "$before"
  mapfile -t calls < <(calls_list "$@")
  gone "$*"
  [ ${#calls[@]} -gt 20 ] || fail "$*: ${#calls[@]} system calls only"
  for (( ; at < ${#calls[@]}; at += stride)); do
    read -r name k <<< "${calls[at]}"
    kill_at "$before" "$name" "$k" "$@"
  done
}

create() { fake_husk create --bundle "$bundle" "$id" > /dev/null 2>&1 < /dev/null; }
create_paused() { create && fake_husk pause "$id"; }

# With the pid file half made: the container is ready, and its monitor in a file system without cgroups.
kill_at true renameat 1 -- create --bundle "$bundle" --pid-file "$work/pid" "$id"
sweep true -- create --bundle "$bundle" --pid-file "$work/pid" "$id"
sweep true -f -- create --bundle "$bundle" "$id"
sweep create -- start "$id"
sweep create -- kill "$id" KILL
sweep create -- pause "$id"
sweep create_paused -- resume "$id"
sweep create -- update --memory 64m "$id"
sweep create -- delete --force "$id"
sweep create -f -- delete "$id"
ok "a container after all this" create
equal "its status" "$(state_of "$id")" created
gone "at the end"
[ $kills -gt 5 ] || fail "only $kills kills"
say "$kills kills, every ${stride}th system call"
