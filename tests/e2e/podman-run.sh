#!/bin/bash
# `podman run` with the options of daily use gives what it gives with crun: streams and exit status, environment, user, volumes,
# tmpfs, read-only root, hostname, hosts, capabilities, limits.
# limit: 400
. "$(dirname "$0")/lib.sh"
. "$here/lib_podman.sh"

like_crun "output and exit status" $image sh -c 'echo out; echo err >&2; exit 7'
equal "standard error" "$(cat "$work/husk.err")" err

mkdir "$work/volume"
echo host > "$work/volume/file"
like_crun "environment, directory, user, volume, tmpfs, names, capabilities, limits" -e A=1 -e B='two words' -w /usr/lib -u 1000:1001 \
  --group-add 1005 -v "$work/volume:/volume" -v "$work/volume:/ro:ro" --tmpfs /fast:size=1m --hostname named --add-host other:10.1.2.3 \
  --cap-drop all --cap-add net_raw,chown --read-only --ulimit core=0 --pids-limit 99 --memory 100m --cpus 0.5 $image sh -c '
    echo "$A $B"; pwd; id; cat /volume/file; (echo no > /ro/file) 2> /dev/null || echo refused
    stat -f -c "%T %b" /fast; hostname; grep other /etc/hosts; umask; ulimit -n; ulimit -c
    grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status; (: > /file) 2> /dev/null || echo read-only
    cd /sys/fs/cgroup; cat pids.max memory.max cpu.max'
like_crun "no such program" $image /no/such/program

# standard input, a file made in a volume, and another kernel
equal "standard input" "$(echo typed | podman run --rm -i --network none -v "$work/volume:/volume" $image sh -c 'cat; uname -r > /volume/kernel')" typed
[ "$(cat "$work/volume/kernel")" != "$(uname -r)" ] || fail "the container runs on the host's kernel"
