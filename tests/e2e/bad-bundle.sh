#!/bin/bash
# A bundle that is no bundle: one clear line each, for create and for run, and nothing is made.
. "${0%/*}/lib.sh"

refused() { # refused REGEX: by create and by run
  fails_with "$1" husk create --bundle "$bundle" c1
  fails_with "$1" husk run --bundle "$bundle" c1
  equal "what is left of it" "$(files_list)" ""
}

bundle=$work/nowhere refused 'nowhere.*No such file or directory'
mkdir "$bundle"
refused 'config\.json.*No such file or directory'
: > "$bundle/config.json"
refused 'config\.json'
echo '{ "ociVersion": "1.0.2", "process": { "args": [ "sh" ' > "$bundle/config.json"
refused 'config\.json.*line [12]'
echo '[]' > "$bundle/config.json"
refused 'config\.json.*object'
head -c 100000 /dev/urandom > "$bundle/config.json"
refused 'config\.json'
bundle_make "$bundle" '.ociVersion = "7.0.0"'
refused 'ociVersion'
bundle_make "$bundle" 'del(.ociVersion)'
refused 'ociVersion'
bundle_make "$bundle" '.root.path = "/no/such/rootfs"'
refused '/no/such/rootfs.*No such file or directory'
touch "$work/file"
bundle_make "$bundle" '.root.path = $file' --arg file "$work/file"
refused 'Not a directory'
bundle_make "$bundle" 'del(.root)'
refused 'root'

# What only the agent can tell, with a VM each.
for case in 'process\.args|.process.args = []' 'process\.args.*array|.process.args = "sh"' 'process\.cwd|.process.cwd = "relative"'; do
  bundle_make "$bundle" "${case#*|}"
  fails_with "${case%|*}" husk run --bundle "$bundle" c1
done
