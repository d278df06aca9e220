#!/bin/bash
# A config.json that asks for what does not exist or cannot be had: refused by the member's name; what the specification does
# not know is ignored, and so is a capability that is not known (OCI runtime-spec, "process.capabilities": a warning).
# limit: 600
. "${0%/*}/lib.sh"

refused() { # refused REGEX FILTER
  bundle_make "$bundle" "$2"
  fails_with "$1" husk run --bundle "$bundle" c1
}

refused 'namespaces.*type|namespaces.*nosuch' '.linux.namespaces += [{"type": "nosuch"}]'
refused 'namespaces' '.linux.namespaces += [{"type": "pid"}]'
refused 'rlimits' '.process.rlimits = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]'
refused 'nosuchfs' '.mounts += [{"destination": "/mnt", "type": "nosuchfs", "source": "x"}]'
refused 'mounts.*destination' '.mounts += [{"destination": "relative", "type": "tmpfs", "source": "tmpfs"}]'
refused '/no/such/source.*No such file' '.mounts += [{"destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"]}]'
refused 'io\.husk\.nosuch' '.annotations["io.husk.nosuch"] = "1"'
refused 'vcpus' '.annotations["io.husk.vcpus"] = "0"'
refused 'vcpus' '.annotations["io.husk.vcpus"] = "many"'
refused 'memory_mib' '.annotations["io.husk.memory_mib"] = "16"'
refused 'kernel' '.annotations["io.husk.kernel"] = "/etc/passwd"'

guest_config='| .nosuch = 1 | .process.nosuch = true | .linux.nosuch = {} | .annotations["org.example"] = "x"
  | .process.capabilities.bounding += ["CAP_NOSUCH"]'
equal "with unknown members and an unknown capability" "$(in_guest echo fine)" fine
