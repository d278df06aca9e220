#!/bin/bash
# podman as an ordinary user: ids, files and volumes are the user's, slirp4netns carries packets both
# ways.
# limit: 400
. "$(dirname "$0")/lib.sh"
long
[ -d /run/testbed ] || skip "makes a user of the machine and gives /dev/kvm to a group: done in the testbed only"
for program in podman newuidmap slirp4netns; do
  command -v $program > /dev/null || skip "$program is not installed"
done

user=husk-e2e
getent group kvm > /dev/null || groupadd --system kvm
id $user > /dev/null 2>&1 || useradd --no-create-home --groups kvm --home-dir "$work/home" $user
grep -q "^$user:" /etc/subuid || usermod --add-subuids 300000-365535 --add-subgids 300000-365535 $user
chgrp kvm /dev/kvm
chmod 660 /dev/kvm

# What an installed husk is, where the user may read it; the user's own directories.
runtime=$work/run
chmod 711 "$work"
mkdir -p "$work/husk/bin" "$work/husk/guest"
own=$(dirname "$(readlink -f "$(type -P husk)")")
cp "$own/husk" "$own/husk-vmm" "$work/husk/bin"
cp -L "$own/../guest/vmlinux" "$own/../guest/initramfs.cpio" "$work/husk/guest"
mkdir -m 700 "$runtime" "$work/home"
chown $user: "$runtime" "$work/home"
cat > "$work/containers.conf" << CONF
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
husk = ["$work/husk/bin/husk"]
CONF
as_user() {
  (cd "$work/home" && setpriv --reuid $user --regid $user --init-groups env -i PATH="$work/husk/bin:$PATH" HOME="$work/home" \
    XDG_RUNTIME_DIR="$runtime" CONTAINERS_CONF="$work/containers.conf" LC_ALL=C "$@")
}
podman() { as_user podman --runtime husk "$@"; }
podman_crun() { as_user podman --runtime crun "$@"; }

rootless_finish() {
  local status=$?
  podman rm --all --force --time 0 > /dev/null 2>&1 || true
  jobs -p | xargs -r kill 2> /dev/null || true
  pgrep -u $user | xargs -r kill -KILL || true # podman's pause process, which holds the user's namespaces
  (exit $status) || false
  finish
}
trap rootless_finish EXIT

mkdir -p "$work"/tree/{bin,etc,proc,sys,dev,tmp,srv}
cp /bin/busybox "$work/tree/bin"
for applet in sh id cat touch stat httpd wget uname ip; do ln -s busybox "$work/tree/bin/$applet"; done
echo served > "$work/tree/srv/file"
tar -C "$work/tree" -c . | podman import -q - busybox > /dev/null 2> "$work/err" || fail "podman import: $(cat "$work/err")"

mkdir -m 777 "$work/home/volume"
chown $user: "$work/home/volume"
like_crun "ids and files" -v "$work/home/volume:/volume" busybox sh -c 'id; touch /of-root && stat -c "%u:%g" /of-root /bin
  cat /srv/file; touch /volume/of-root; exit 7'
# slirp4netns, in both directions. It shows the host's loopback as 10.0.2.2. Ports are published by itself or, as podman has it by
# default, by rootlesskit, which connects to the container's address from inside the namespace.
mkdir "$work/www"
echo of-the-host > "$work/www/file"
(cd "$work/www" && exec busybox httpd -f -p 127.0.0.1:18092) &
web=$!
answers() { [ "$(curl -s --max-time 10 http://127.0.0.1:18091/file)" = served ]; }
podman run -d --name forwarded -p 18091:8000 busybox httpd -f -p 8000 -h /srv > /dev/null
wait_for 60 answers || fail "the port published by rootlesskit does not answer: $(podman exec forwarded ip addr)"
podman rm --force --time 0 forwarded > /dev/null
podman run -d --name server --network slirp4netns:allow_host_loopback=true,port_handler=slirp4netns -p 18091:8000 \
  -v "$work/home/volume:/volume" busybox httpd -f -p 8000 -h /srv > /dev/null
wait_for 60 answers || fail "the published port does not answer: $(podman exec server ip addr)"
equal "from the container" "$(podman exec server wget -q -O - http://10.0.2.2:18092/file)" of-the-host
equal "a kernel of its own" "$(podman exec server cat /proc/sys/kernel/random/boot_id | sort -u - /proc/sys/kernel/random/boot_id | wc -l)" 2
matches "its processes, by the pid's mount namespace" "$(podman top server user pid args)" '0 +1 +httpd'
equal "another user" "$(podman exec --user 5:6 server sh -c 'id -u; touch /volume/of-five; stat -c "%u:%g" /volume/of-five')" "5
5:6"
first=$(awk -F: -v user=$user '$1 == user { print $2; exit }' /etc/subuid)
equal "owners on the host" "$(stat -c '%u:%g' "$work/home/volume/of-root" "$work/home/volume/of-five")" "$(id -u $user):$(id -g $user)
$((first + 4)):$((first + 5))"
equal "state" "$(as_user husk list -q | wc -l)" 1
podman stop -t 0 server > /dev/null
podman rm server > /dev/null
kill $web
equal "state left" "$(find "$runtime/husk" -mindepth 2)" ""
