# Sourced by podman-*.sh after lib.sh: podman with husk as its runtime, on the image store of tests/bundle, and the same with
# crun beside it. Containers, their storage and the networks of $podman_networks are this script's own and gone at its end.
# shellcheck shell=bash disable=SC2154,SC2034
command -v podman > /dev/null || skip "podman is not installed"
images=$(dirname "$rootfs")/images
[ -d "$images" ] || skip "there is no image store beside $rootfs"
image=localhost/husk-test

export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
cat > "$CONTAINERS_STORAGE_CONF" << CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
[storage.options]
additionalimagestores = ["$images"]
CONF
cat > "$CONTAINERS_CONF" << CONF
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$work/tmp"
runtime = "husk"
[engine.runtimes]
husk = ["$work/bin/husk"]
crun = ["$(type -P crun)"]
CONF

# podman through husk, whose state lies where leaks_check looks. By a wrapper: podman's clean-up of a container that has ended is
# another process of its own, which would not be given --runtime-flag.
mkdir "$work/bin"
cat > "$work/bin/husk" << RUNTIME
#!/bin/sh
exec "$(type -P husk)" --root "$state" --log "$log" "\$@"
RUNTIME
chmod +x "$work/bin/husk"
podman() { command podman --runtime husk "$@"; }
podman_crun() { command podman --runtime crun "$@"; }

podman_networks=()
podman_finish() {
  local status=$?
  command podman rm --all --force --time 0 > /dev/null 2>&1 || true
  [ ${#podman_networks[@]} = 0 ] || command podman network rm --force "${podman_networks[@]}" > /dev/null 2>&1 || true
  grep -F " $work/" /proc/self/mountinfo | cut -d' ' -f5 | sort -r | xargs -r umount -l || true
  (exit $status) || false
  finish
}
trap podman_finish EXIT
