#!/bin/bash
# sqlite3 in WAL mode: POSIX locks and a shared mapping of the -shm file. Two writers at a time, then integrity_check.
. "${0%/*}/lib.sh"

mkdir -p "$rootfs/srv/db"
in_guest sh -euc '
  cd /srv/db
  test "$(sqlite3 t.db "PRAGMA journal_mode=WAL; CREATE TABLE t(writer, n);")" = wal
  writer() {
    i=0
    while [ $i -lt 20 ]; do
      sqlite3 -cmd ".timeout 20000" t.db "BEGIN IMMEDIATE;
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c LIMIT 50) INSERT INTO t SELECT $1, n FROM c; COMMIT;"
      i=$((i + 1))
    done
  }
  writer 1 & one=$!
  writer 2 & two=$!
  wait $one && wait $two
  sqlite3 t.db "PRAGMA integrity_check; SELECT writer, count(*) FROM t GROUP BY writer;" > result
' || fail "sqlite3 in the guest ended with $?"
equal "integrity and counts" "$(cat "$rootfs/srv/db/result")" $'ok\n1|1000\n2|1000'
rm -rf "$rootfs/srv/db"
