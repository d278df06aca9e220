#!/bin/bash
# The host's network can't be shared: no network namespace in config.json, or the host's own by path, is refused and says why.
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.linux.namespaces |= map(select(.type != "network"))'
fails_with 'network namespace.*can.t share the host.s network' husk create --bundle "$bundle" c
for path in /proc/self/ns/net /proc/1/ns/net; do
  bundle_make "$bundle" '.linux.namespaces |= map(if .type == "network" then .path = $path else . end)' --arg path $path
  fails_with 'is the host.s.*can.t share the host.s network' husk create --bundle "$bundle" c
done
bundle_make "$bundle" '.linux.namespaces |= map(if .type == "network" then .path = "/run/netns/nosuch" else . end)'
fails_with '/run/netns/nosuch: No such file' husk create --bundle "$bundle" c
bundle_make "$bundle" '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/uts" else . end)'
fails_with 'network namespace /proc/self/ns/uts: it is none' husk create --bundle "$bundle" c
equal "containers" "$(husk list -q)" ""
