#!/bin/bash
# nginx, redis and postgres of Debian, each in a container with a published port, answer under load without an error, as they
# do with crun beside them; the rates of both are told.
# limit: 1200
. "$(dirname "$0")/lib.sh"
long
. "$here/lib_podman.sh"

podman_networks=(hs1)

# shellcheck disable=SC2016 # for the container's shell
postgres='printf "local all all trust\nhost all all all trust\n" > /tmp/hba
  exec setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main \
    -c config_file=/etc/postgresql/15/main/postgresql.conf -c hba_file=/tmp/hba -c unix_socket_directories=/tmp -c ssl=off -c "listen_addresses=*"'

# serve RUNTIME FIRST-PORT: the three servers, published on that port and the next ones.
serve() {
  local runtime=$1 port=$2
  command podman --runtime "$runtime" run -d --name "nginx-$runtime" --network hs1 -p "$port:80" "${image:?}" nginx -g 'daemon off;' > /dev/null &
  command podman --runtime "$runtime" run -d --name "redis-$runtime" --network hs1 -p "$((port + 1)):6379" "${image:?}" \
    redis-server --protected-mode no --save '' > /dev/null &
  command podman --runtime "$runtime" run -d --name "postgres-$runtime" --network hs1 -p "$((port + 2)):5432" "${image:?}" sh -c "$postgres" > /dev/null
  wait
}

# load COMMAND...: a client of the image, on the host's network.
load() { podman_crun run --rm --network host "${image:?}" "$@"; }

answers() { [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 "http://127.0.0.1:$1/")" = 200 ]; }
takes_queries() { load /usr/lib/postgresql/15/bin/pg_isready -q -h 127.0.0.1 -p "$1"; }

measure() { # measure RUNTIME FIRST-PORT
  local runtime=$1 port=$2 got pgbench="/usr/lib/postgresql/15/bin/pgbench -h 127.0.0.1 -p $(($2 + 2)) -U postgres"
  wait_for 60 answers "$port" || fail "nginx under $runtime does not answer: $(command podman logs "nginx-$runtime" 2>&1)"
  got=$(load wrk -t 1 -c 8 -d 5 --timeout 30 "http://127.0.0.1:$port/")
  matches "wrk, $runtime" "$got" 'Requests/sec: +[1-9]'
  [[ ! $got =~ (Socket errors|Non-2xx) ]] || fail "wrk, $runtime: $got"
  say "nginx $runtime: $(grep Requests/sec <<< "$got")"

  got=$(load redis-benchmark -h 127.0.0.1 -p $((port + 1)) -t set,get,lpush,lrange_100 -n 2000 -c 20 -q 2>&1 | tr '\r' '\n' | grep 'per second')
  equal "figures of redis-benchmark, $runtime" "$(wc -l <<< "$got")" 5 # lrange comes with an lpush of its own
  say "redis $runtime: $(cut -d, -f1 <<< "$got" | paste -sd';')"

  wait_for 60 takes_queries $((port + 2)) || fail "postgres under $runtime takes no queries: $(command podman logs "postgres-$runtime" 2>&1)"
  # shellcheck disable=SC2086 # words
  load $pgbench -q -i -s 1 postgres > "$work/pgbench" 2>&1 || fail "pgbench -i, $runtime: $(tail -n 5 "$work/pgbench")"
  # shellcheck disable=SC2086
  got=$(load $pgbench -c 4 -t 50 postgres 2>&1)
  matches "pgbench, $runtime" "$got" 'transactions actually processed: 200/200'
  matches "pgbench, $runtime" "$got" 'failed transactions: 0 '
  say "postgres $runtime: $(grep '^tps' <<< "$got")"
}

podman network create --subnet 10.96.0.0/24 hs1 > /dev/null
serve husk 18200
measure husk 18200
command podman rm --all --force --time 5 > /dev/null
serve crun 18210
measure crun 18210
