#!/bin/bash
# What needs no container: help, version, features, spec, the global options of runc and crun, and what is refused by name.
. "${0%/*}/lib.sh"

matches "--version" "$(husk --version)" $'^husk version [0-9.]+\ncommit: [0-9a-z-]+\nspec: 1\\.2\\.[0-9]\nlibseccomp: [0-9.]+$'
equal "-v" "$(husk -v)" "$(husk --version)"
equal "-V" "$(husk -V)" "$(husk --version)"
all_help=$(husk --help)
for verb in create start run state kill delete exec ps list pause resume update events features spec check; do
  help=$(husk $verb --help)
  matches "$verb --help" "$help" "^NAME:.*husk $verb - .*USAGE:.*OPTIONS:"
  equal "$verb -h" "$(husk $verb -h)" "$help"
  equal "help $verb" "$(husk help $verb)" "$help"
  matches "--help" "$all_help" $'\n'"   $verb "
done

# Options in front of the command, as podman, CRI-O and containerd's shim write them.
ok "crun's" husk --cgroup-manager=cgroupfs --rootless=false --debug list -q
ok "runc's" husk --systemd-cgroup --rootless auto --criu /usr/sbin/criu --log-format text list -q
ok "containerd's" command husk --root "$work/other" --log "$work/log.json" --log-format json --systemd-cgroup list
fails_with 'rootless' husk --rootless=perhaps list
fails_with 'cgroup-manager' husk --cgroup-manager=none list
ok "a log as crun has it" command husk --root "$work/other" --log "file:$work/file.log" list
[ -e "$work/file.log" ] || fail "--log file:FILE"
fails_with 'journald.*only files' command husk --log journald:husk list
fails_with 'log-format' husk --log-format=xml list

# podman asks `checkpoint --help` whether a runtime can do it.
fails_with 'checkpoint.*not supported' husk checkpoint --help
fails_with 'checkpoint.*not supported' husk checkpoint --image-path "$work/image" --leave-running c1
fails_with 'restore.*not supported' husk restore --detach --image-path "$work/image" --bundle "$bundle" c1

# features: runc's members are there, and what the agent refuses is not.
husk features > "$work/features.json"
equal "features" "$(jq -r '[.ociVersionMin, .ociVersionMax, .linux.cgroup.v2, .linux.apparmor.enabled, .annotations["io.husk.version"]] | join(" ")' "$work/features.json")" \
  "1.0.0 1.2.0 true false $(husk --version | sed -n 's/^husk version //p')"
missing=$(jq -n --slurpfile husk "$work/features.json" --slurpfile runc <(runc features) \
  '[$runc[0] | paths(type != "object" and type != "array" and (. != false)) | select(.[0] != "annotations" and all(.[]; type == "string"))]
    - [$husk[0] | paths(type != "object" and type != "array") ] | map(join(".")) | join(" ")' -r)
equal "members that runc has and husk lacks" "$missing" ""

# spec: runs as it is, but for the terminal; never replaces a file.
mkdir "$work/spec"
husk spec --bundle "$work/spec"
fails_with 'File config.json exists. Remove it first' husk spec --bundle "$work/spec"
jq --arg rootfs "$rootfs" '.root.path = $rootfs | .process.terminal = false | .process.args = ["echo", "from spec"]' "$work/spec/config.json" > "$work/config.json"
mv "$work/config.json" "$work/spec/config.json"
equal "a container by spec" "$(husk run --bundle "$work/spec" c1 < /dev/null)" "from spec"
rm "$work/spec/config.json"
(cd "$work/spec" && husk spec --rootless)
equal "spec --rootless" "$(jq -c '[.linux.uidMappings[0].size, .linux.resources]' "$work/spec/config.json")" "[1,null]"
