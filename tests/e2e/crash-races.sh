#!/bin/bash
# Two commands race on one container: one of two creates and of two starts wins, every loser says why, nothing hangs, and
# delete --force, also racing, leaves nothing. With a real VM, and a stand-in for the many rounds.
# limit: 300
# cpus: 2
. "${0%/*}/lib.sh"

fake=$(dirname "$(readlink -f "$(type -P husk)")")/../tests/fake-vmm
[ -x "$fake" ] || skip "no $fake"
mkdir -p "$work/etc" "$work/rootfs" "$bundle" "$work/stand-in"
printf '%s = %s\n' vmm "$fake" kernel "$fake" initramfs "$fake" > "$work/etc/husk.conf"
jq --arg rootfs "$work/rootfs" '.root.path = $rootfs | .process.args = ["sleep", "mortal"] | .mounts = []' \
  "$here/../bundle/config.json" > "$work/stand-in/config.json"
rounds=${HUSK_RACE_ROUNDS:-$([ -d /run/testbed ] && echo 1 || echo 5)}

timed_husk() { timeout -k 1 60 "$(type -P husk)" --root "$state" --log "$log" "${config[@]}" "$@"; }

# Runs both at once; their exit statuses in $first and $second, what they said in $work/1 and $work/2.
race() { # race "COMMAND..." "COMMAND..."
  first=0 second=0
  local begin=$SECONDS
  # shellcheck disable=SC2086 # words
  timed_husk $1 > "$work/1" 2>&1 < /dev/null &
  local one=$!
  # shellcheck disable=SC2086 # words
  timed_husk $2 > "$work/2" 2>&1 < /dev/null || second=$?
  wait $one || first=$?
  [ $((SECONDS - begin)) -lt 60 ] || fail "$1 | $2: hangs ($first, $second)"
  # 137 is what an exec ends with whose process was killed: that is no failure of husk's to speak of
  [ $first = 0 ] || [ -s "$work/1" ] || [ "${1%% *} $first" = "exec 137" ] || fail "$1 | $2: the first failed with $first, without a word"
  [ $second = 0 ] || [ -s "$work/2" ] || fail "$1 | $2: the second failed with $second, without a word"
}

one_wins() { # one_wins WHAT WORDS-OF-THE-LOSER
  local loser=2
  [ $first != 0 ] && loser=1
  [ $((first == 0)) != $((second == 0)) ] || fail "$1: statuses $first and $second, said $(cat "$work/1" "$work/2")"
  matches "$1: the loser's words" "$(cat "$work/$loser")" "$2"
}

nothing_left() { # nothing_left WHAT
  wait_for 10 test -z "$(pgrep -f -- "--config-dir $work/etc|$fake" || true)" || fail "$1: processes are left"
  [ -z "$(files_list)" ] || fail "$1: files are left: $(files_list)"
}

delete_force() { timed_husk delete --force c1 || fail "$1: delete --force failed"; }
created() { timed_husk create --bundle "$dir" c1 > /dev/null 2>&1 < /dev/null || fail "create: $(tail -n 2 "$log")"; }

round() {
  race "create --bundle $dir c1" "create --bundle $dir c1"
  one_wins "two creates" 'already exists'
  race "start c1" "start c1"
  one_wins "two starts" 'already running'
  race "pause c1" "resume c1"
  matches "pause and resume" "$(state_of c1)" '^(running|paused)$'
  timed_husk resume c1 > /dev/null 2>&1 || true
  race "kill c1 KILL" "delete c1" # a delete that comes too early is refused
  race "delete --force c1" "delete --force c1"
  [ "$first$second" = 00 ] || fail "two deletes by force: $first and $second: $(cat "$work/1" "$work/2")"
  nothing_left "two deletes by force"

  local verb
  for verb in "start c1" "pause c1" "kill c1 KILL" "state c1" "update --memory 64m c1" "list"; do
    created
    race "$verb" "delete --force c1"
    [ $second = 0 ] || fail "$verb | delete --force: $(cat "$work/2")"
    delete_force "$verb"
    nothing_left "$verb | delete --force"
  done
  race "create --bundle $dir c1" "delete --force c1"
  [ $second = 0 ] || fail "create | delete --force: $(cat "$work/2")"
  delete_force "create | delete --force"
  nothing_left "create | delete --force"
}

config=(--config-dir "$work/etc") dir=$work/stand-in
for ((i = 0; i < rounds; i++)); do round; done

# The same with a guest, for the pairs that need one.
config=() dir=$bundle
bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
created
race "start c1" "start c1"
one_wins "two starts" 'already running'
race "exec c1 true" "exec c1 true"
[ "$first$second" = 00 ] || fail "two execs: $(cat "$work/1" "$work/2")"
# An exec that is killed at any moment leaves no process behind, and the next one works.
for delay in 0 0.05 0.15 0.3 0.6; do
  timed_husk exec c1 sleep 1003 > /dev/null 2>&1 < /dev/null &
  sleep $delay
  pkill -KILL -f -- "--root $state .* exec c1 sleep 1003" || true
  wait $! 2> /dev/null || true
done
wait_for 20 eval '! husk ps c1 | grep -q "sleep 1003"' || fail "killed execs go on: $(husk ps c1)"
ok "an exec after those" timed_husk exec c1 true
race "exec c1 sleep 1000" "delete --force c1"
[ $second = 0 ] || fail "exec | delete --force: $(cat "$work/2")"
nothing_left "exec | delete --force"
