# Sourced by every script of tests/e2e: one behaviour a script, run as root where /dev/kvm works, with husk on PATH.
#
# A script's checks are `ok`, `equal`, `matches`, `fails_with`; the first that does not hold ends it with status 1. At the end
# the script must have left nothing: no process of husk's, mount, socket or file under --root (leaks_check). `skip` ends it
# with status 77; `long` does so in the testbed. What the runtime's peer (crun) says or does is asked for in the same run,
# never written down.
# shellcheck shell=bash
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export LC_ALL=C
work=$(mktemp -d "${TMPDIR:-/tmp}/husk-e2e.XXXXXX")
state=$work/state
log=$work/husk.log
bundle=$work/bundle

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "FAILED: $*"
  [ ! -s "$log" ] || sed 's/^/  husk.log: /' "$log" | tail -n 20 >&2
  exit 1
}

skip() {
  say "skipped: $*"
  exit 77
}

# long: ends a test that takes many minutes in emulation, unless HUSK_LONG=1 asks for it. Where KVM works it always runs.
long() {
  [ ! -d /run/testbed ] || [ "${HUSK_LONG:-0}" = 1 ] || skip "takes many minutes in the testbed; HUSK_LONG=1 runs it there"
}

ok() { # ok WHAT COMMAND...
  local what=$1
  shift
  "$@" || fail "$what: $* ended with $?"
}

equal() { # equal WHAT GOT WANTED
  [ "$2" = "$3" ] || fail "$1: got '$(head -c 600 <<< "$2")', wanted '$(head -c 600 <<< "$3")'"
}

matches() { # matches WHAT GOT REGEX
  [[ $2 =~ $3 ]] || fail "$1: got '$(head -c 600 <<< "$2")', wanted a match of '$3'"
}

# The command must fail, without output, with one line on stderr that matches REGEX.
fails_with() { # fails_with REGEX COMMAND...
  local regex=$1 status=0 lines
  shift
  "$@" > "$work/out" 2> "$work/err" < /dev/null || status=$?
  [ $status != 0 ] || fail "$* ended with 0, an error was due"
  [ ! -s "$work/out" ] || fail "$* failed but wrote to stdout: $(head -c 300 "$work/out")"
  mapfile -t lines < "$work/err"
  [ ${#lines[@]} = 1 ] || fail "$* should write one line to stderr, it wrote: $(cat "$work/err")"
  matches "message of: $*" "${lines[0]}" "$regex"
}

# jq takes 40 ms of processor time to start, a second of it in emulation; gojq runs the same programs in 3.
jq() { command gojq "$@"; }

# --- The bundle ---------------------------------------------------------------

# bundle_make DIR [JQ-FILTER [JQ-ARGUMENT...]]: a bundle on the shared root, its config.json changed by the filter.
bundle_make() {
  local dir=$1 filter=${2:-.}
  shift $(($# < 2 ? $# : 2))
  mkdir -p "$dir"
  jq --arg rootfs "$rootfs" "$@" ".root.path = \$rootfs | $filter" "$here/../bundle/config.json" > "$dir/config.json"
}

# bundle_of_arguments DIR COMMAND...: one that runs the command, its config.json changed by the filter $guest_config, if any.
bundle_of_arguments() {
  mkdir -p "$1"
  jq --arg rootfs "$rootfs" ".root.path = \$rootfs | .process.args = \$ARGS.positional ${guest_config:-}" \
    --args -- "${@:2}" < "$here/../bundle/config.json" > "$1/config.json"
}

# --- husk ---------------------------------------------------------------------

husk() { command husk --root "$state" --log "$log" "$@"; }

# in_guest COMMAND...: runs it in a new container; standard streams and exit status are the command's.
in_guest() {
  local id=c$RANDOM$RANDOM status=0
  bundle_of_arguments "$work/$id" "$@"
  husk run --bundle "$work/$id" "$id" || status=$?
  rm -rf "${work:?}/$id"
  return $status
}

# The same with crun, on the host's own kernel.
in_crun() {
  local id=c$RANDOM$RANDOM status=0
  bundle_of_arguments "$work/$id" "$@"
  crun --root "$work/crun" run --bundle "$work/$id" "$id" || status=$?
  rm -rf "${work:?}/$id"
  return $status
}

# like_crun WHAT RUN-ARGUMENT...: `podman run --rm` must give the same output and exit status under husk as under
# crun. With the functions podman and podman_crun of the script or of lib_podman.sh.
like_crun() {
  local what=$1 status=0 wanted=0
  shift
  podman_crun run --rm --network none "$@" > "$work/crun.out" 2> "$work/crun.err" < /dev/null || wanted=$?
  podman run --rm --network none "$@" > "$work/husk.out" 2> "$work/husk.err" < /dev/null || status=$?
  [ $status = $wanted ] || fail "$what: ended with $status, with crun $wanted: $(head -c 600 "$work/husk.err" "$work/crun.err")"
  equal "$what" "$(cat "$work/husk.out")" "$(cat "$work/crun.out")"
}

# pod_start [JQ-FILTER]: starts the container `pod`, whose sandbox later ones join: with ${pod_join} in guest_config, or in a
# filter of bundle_make, a container needs no boot. It stays until `husk delete --force pod`.
pod_start() {
  bundle_make "$work/pod" '.process.args = ["sleep", "1000000"] '"${1:-}"
  husk run --detach --bundle "$work/pod" pod < /dev/null > "$work/pod.out" 2>&1 || fail "pod: $(cat "$work/pod.out")"
  # shellcheck disable=SC2034 # the scripts use it
  pod_join='| .linux.namespaces |= map(if .type == "network" then .path = "/proc/'$(state_of pod .pid)'/ns/net" else . end)'
}

state_of() { husk state "$1" | jq -r "${2:-.status}"; }

# wait_for SECONDS COMMAND...: until the command holds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.05
  done
}

stopped() { [ "$(state_of "$1")" = stopped ]; }

# --- Crashes --------------------------------------------------------------------

# Starts the container `crash` with SCRIPT, which says "up" and goes on when crash_trigger gives its stdin a line.
crash_start() { # crash_start [SCRIPT]
  mkfifo "$work/go"
  exec 9<> "$work/go"
  bundle_make "$bundle" ".process.args = [\"sh\", \"-c\", \$script] ${guest_config:-}" \
    --arg script "${1:-echo up; sleep 1000}"
  husk run --bundle "$bundle" crash > "$work/out" 2> "$work/err" < "$work/go" 9>&- &
  crash_run=$!
  wait_for 60 grep -qs up "$work/out" || fail "the container did not start: $(cat "$work/err")"
}

crash_trigger() { echo go >&9; }

# Within 2 s of now the state is `stopped`, `husk run` has ended with an error that matches REGEX, and delete leaves nothing.
crash_expect() { # crash_expect REGEX
  local start=${EPOCHREALTIME/./} took status=0
  until [ ! -e "$state/containers/crash" ] || stopped crash 2> /dev/null; do
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    [ $took -lt 20000 ] || fail "still $(state_of crash) after $took ms"
    sleep 0.02
  done
  took=$(((${EPOCHREALTIME/./} - start) / 1000))
  say "stopped after $took ms"
  [ $took -le 2000 ] || fail "reported stopped after $took ms only"
  wait $crash_run || status=$?
  [ $status != 0 ] || fail "husk run ended with 0"
  matches "what husk run said" "$(cat "$work/err")" "$1"
  husk delete --force crash
  exec 9>&-
}

# --- What a script must not leave ---------------------------------------------

processes_list() { pgrep -x 'husk|husk-vmm' | grep -vxF "${processes_before:-none}" || true; }
mounts_list() { cut -d' ' -f5 /proc/self/mountinfo | grep -vxE '/run/(husk-bundle|netns)' | sort; }
sockets_list() { awk 'NR > 1 && NF == 8 { print $8 }' /proc/net/unix | grep -F "$work" || true; }
files_list() { [ ! -d "$state" ] || find "$state" -mindepth 2 || true; }

leaks_check() {
  local left=''
  wait_for 2 test -z "$(processes_list)" || left+=" processes: $(ps -o pid=,args= -p "$(processes_list | paste -sd,)")"
  [ "$(mounts_list)" = "$mounts_before" ] || left+=" mounts: $(diff <(echo "$mounts_before") <(mounts_list))"
  [ -z "$(sockets_list)" ] || left+=" sockets: $(sockets_list)"
  [ -z "$(files_list)" ] || left+=" files: $(files_list)"
  [ -z "$left" ] || fail "left behind:$left"
}

finish() {
  local status=$?
  trap - EXIT
  if [ $status = 0 ]; then
    (leaks_check) || status=1
  fi
  if [ $status != 0 ]; then # the next script must not meet this one's remains
    processes_list | xargs -r kill -KILL
  fi
  cd /
  rm -rf --one-file-system "$work" || true
  exit $status
}

processes_before=$(processes_list)
rootfs=$("$here/../bundle/attach") # all scripts share it and write below /srv in it
mounts_before=$(mounts_list)
trap finish EXIT
cd "$work"
