# Sourced by tests/suites/*: other projects' test suites, run with crun and with husk, and compared.
#
# A suite's results are kept in its directory of the build directory: RUNTIME/*.results, a line `ok|not ok|skip FILE NAME` for
# each test. SUITE.exceptions names each test that crun passes and husk need not, with the reason, after $separator. The bar: of
# the tests that crun passes, 90 %, those not counted that a virtual machine can't hold (the reason's first word is `vm`).
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C
readonly bar=90

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
build=${HUSK_BUILD:-$(readlink -f "$here/../../build")}
suite=$(basename "$0")
dir=$build/suites/$suite
separator=' '

die() {
  echo "tests/suites/$suite: $*" >&2
  exit 1
}

# The source of a Debian package becomes $dir/source. From the mirror this machine's apt uses; with lists of its own, as the
# machine's sources may name no source packages, and stay as they are.
source_fetch() { # source_fetch PACKAGE
  local apt=$dir/apt options
  mkdir -p "$apt"/{lists/partial,cache}
  sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > "$apt/debian.sources"
  options=(-o Dir::Etc::sourcelist="$apt/debian.sources" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists"
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
  apt-get -qq "${options[@]}" update
  (cd "$dir" && apt-get -qq "${options[@]}" source "$1" > apt.log 2>&1) || die "apt-get source $1: $(tail -n 3 "$dir/apt.log")"
  mv "$dir/$1"-*/ "$dir/source"
}

# Where KVM works, in a fresh testbed or in HUSK_SUITE_TESTBED.
testbed() {
  "$here/../testbed/run" ${HUSK_SUITE_TESTBED:+--attach "$HUSK_SUITE_TESTBED"} -- "$@"
}

# The reason for which a test is excepted, or nothing.
exception_of() { # exception_of NAME
  awk -v start="$1$separator" 'index($0, start) == 1 { print substr($0, length(start) + 1); exit }' \
    "$here/$suite.exceptions" | sed 's/^ *//'
}

# What husk's results say of a test: `ok`, `not ok`, `skip` or nothing.
result_of() { # result_of "FILE NAME"
  awk -v end=" $1" 'length($0) > length(end) && substr($0, length($0) - length(end) + 1) == end &&
    (said = substr($0, 1, length($0) - length(end))) ~ /^(ok|not ok|skip)$/ { print said; exit }' "$dir/husk.results"
}

counts() { # counts RUNTIME
  echo "$1: $(grep -c '^ok' "$dir/$1.results") pass, $(grep -c '^not ok' "$dir/$1.results") fail," \
    "$(grep -c '^skip' "$dir/$1.results") skipped"
}

# The verdict over all results that there are.
compare() {
  local runtime file name ours reason passed=0 counted=0 held=0 unexplained=0
  for runtime in crun husk; do
    cat "$dir/$runtime"/*.results > "$dir/$runtime.results" 2> /dev/null || return 0
  done
  while read -r file name; do
    passed=$((passed + 1))
    ours=$(result_of "$file $name")
    reason=$(exception_of "$name")
    case ${reason%% *} in vm) ;; *) counted=$((counted + 1)) ;; esac
    if [ "$ours" = ok ]; then
      held=$((held + 1))
      case ${reason%% *} in vm) held=$((held - 1)) ;; esac
      [ -z "$reason" ] || echo "passes now: $name ($reason)"
    else
      [ -n "$reason" ] || unexplained=$((unexplained + 1))
      echo "${ours:-no result}: $file $name: ${reason:-UNEXPLAINED}"
    fi
  done < <(sed -n 's/^ok //p' "$dir/crun.results")
  counts crun
  counts husk
  echo "of $passed that crun passes a VM can hold $counted; husk passes $held of these" \
    "($((held * 100 / (counted > 0 ? counted : 1))) %), $unexplained unexplained"
  [ $((held * 100)) -ge $((counted * bar)) ] && [ $unexplained = 0 ]
}
