#!/bin/bash
# limit: 480
# Fields of config.json that ask for what does not exist or can't be had are refused by their name, and the container that was
# begun leaves nothing in its sandbox. What the specification does not know is ignored, and so is an unknown capability.
. "${0%/*}/lib.sh"

# The pod sees the cgroups of all containers.
pod_start '| .mounts += [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}]'
cgroups_list() { husk exec pod find /sys/fs/cgroup -type d < /dev/null; }
cgroups_before=$(cgroups_list)
# What is to be refused is gathered first: one jq makes all the files.
regexes=() filters=()
refused() { # refused REGEX FILTER
  regexes+=("$1")
  filters+=("($2)")
}
refuse_all() {
  local i=0 wrong=0 config
  bundle_make "$bundle" ". $pod_join"
  while IFS= read -r config; do
    printf '%s' "$config" > "$bundle/config.json"
    (fails_with "${regexes[i]}" husk run --bundle "$bundle" refused) || wrong=$((wrong + 1))
    i=$((i + 1))
  done < <(jq -c "$(IFS=,; echo "${filters[*]}")" "$bundle/config.json")
  equal "what was looked at" $i ${#regexes[@]}
  equal "what was not refused as it should" $wrong 0
}
mount='.mounts += [{"destination": "/mnt"} + '

refused 'root is missing|root' 'del(.root)'
refused 'root\.readonly' '.root.readonly = 1'
refused 'process is missing' 'del(.process)'
refused 'process\.terminal' '.process.terminal = "yes"'
refused 'process\.consoleSize' '.process.terminal = true | .process.consoleSize = {"height": -1, "width": 80}'
refused 'process\.rlimits\[0\]\.type' '.process.rlimits = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]'
refused 'process\.commandLine is not supported' '.process.commandLine = "dir"'
refused 'hostname' '.hostname = "h" * 65'
refused 'hostname: needs a uts namespace' '.linux.namespaces |= map(select(.type != "uts"))'
refused 'mounts\[6\]\.destination is missing' '.mounts += [{"type": "tmpfs"}]'
refused '/no/such/source.*No such file' "$mount"'{"type": "bind", "source": "/no/such/source", "options": ["bind"]}]'
refused "mounts\[6\].*'sized'" "$mount"'{"type": "tmpfs", "source": "t", "options": ["sized=1"]}]'
refused "mounts\[6\]\.options: 'size=1' is no option of a bind mount" "$mount"'{"type": "bind", "source": "/srv", "options": ["bind", "size=1"]}]'
refused "mounts\[6\]\.options\[0\]: 'remount' is not supported" "$mount"'{"type": "tmpfs", "options": ["remount"]}]'
refused 'mounts\[6\]\.options: tmpcopyup' "$mount"'{"type": "mqueue", "options": ["tmpcopyup"]}]'
refused 'mounts\[6\].*overlay.*No such file' "$mount"'{"type": "overlay", "source": "overlay", "options": ["lowerdir=/no/such"]}]'
refused 'mounts\[6\]\.options: .idmap. without uidMappings' "$mount"'{"type": "bind", "source": "/srv", "options": ["bind", "idmap"]}]'
refused 'mounts\[6\].*(Not a directory|mount point)' '.mounts += [{"destination": "/etc/hostname/below", "type": "tmpfs", "source": "t"}]'
refused 'linux\.namespaces\[5\]\.type' '.linux.namespaces += [{"type": "nosuch"}]'
refused 'linux\.namespaces\[5\]\.type' '.linux.namespaces += [{"type": "pid"}]'
refused 'linux\.namespaces\[0\]\.path: the pid namespace is of another kernel' '.linux.namespaces[0].path = "/proc/1/ns/pid"'
refused 'linux\.namespaces\[1\]\.path is not supported' '.linux.namespaces[1].path = "/proc/1/ns/mnt"'
refused 'linux\.namespaces: a new user namespace needs uidMappings' '.linux.namespaces += [{"type": "user"}]'
refused 'linux\.uidMappings: mappings are given, but no user' '.linux.uidMappings = [{"containerID": 0, "hostID": 1, "size": 1}]'
refused 'linux\.timeOffsets: offsets are given, but no new time' '.linux.timeOffsets = {"monotonic": {"secs": 1}}'
refused 'linux\.devices\[0\] /dev/null: another file' '.linux.devices = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 5}]'
refused 'linux\.devices\[0\] is not supported: there is no KVM' '.linux.devices = [{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}]'
refused 'linux\.netDevices is not supported' '.linux.netDevices = {"eth7": {}}'
refused 'linux\.cgroupsPath' '.linux.cgroupsPath = 7'
refused 'linux\.resources\.memory\.swap' '.linux.resources.memory = {"limit": 100000000, "swap": 50000000}'
refused 'linux\.resources\.memory\.kernel is not supported' '.linux.resources.memory.kernel = 1000000'
refused 'linux\.resources\.memory\.swappiness is not supported' '.linux.resources.memory.swappiness = 60'
refused 'linux\.resources\.memory\.disableOOMKiller is not supported' '.linux.resources.memory.disableOOMKiller = true'
refused 'linux\.resources\.cpu\.realtimeRuntime is not supported' '.linux.resources.cpu.realtimeRuntime = 1000'
refused 'linux\.resources\.cpu\.idle' '.linux.resources.cpu.idle = 2'
refused 'linux\.resources\.cpu\.quota' '.linux.resources.cpu.quota = 5'
refused 'linux\.resources\.pids\.limit' '.linux.resources.pids.limit = "all"'
refused 'linux\.resources\.blockIO\.weight' '.linux.resources.blockIO.weight = 5'
refused 'linux\.resources\.blockIO\.leafWeight is not supported' '.linux.resources.blockIO.leafWeight = 500'
refused 'linux\.resources\.hugepageLimits' '.linux.resources.hugepageLimits = [{"pageSize": "3MB", "limit": 1}]'
refused 'linux\.resources\.network is not supported' '.linux.resources.network.classID = 7'
refused 'linux\.resources\.rdma is not supported' '.linux.resources.rdma = {"mlx": {"hcaHandles": 1}}'
refused 'linux\.resources\.unified\.nothing\.max' '.linux.resources.unified = {"nothing.max": "1"}'
refused 'linux\.resources\.devices\[0\]\.access' '.linux.resources.devices = [{"allow": true, "access": "rx"}]'
refused 'linux\.sysctl.*kernel\.panic.* not in a separate kernel namespace' '.linux.sysctl = {"kernel.panic": "1"}'
refused 'linux\.sysctl: kernel\.shmmni' '.linux.sysctl = {"kernel.shmmni": "many"}'
refused 'linux\.seccomp\.syscalls\[0\]\.action: SCMP_ACT_NOTIFY is not supported: its listener is in another kernel' \
  '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}'
refused 'linux\.seccomp\.listenerPath is not supported' '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock"}'
refused 'linux\.seccomp\.architectures\[0\]' '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}'
refused 'linux\.rootfsPropagation' '.linux.rootfsPropagation = "sideways"'
refused 'linux\.maskedPaths\[0\]' '.linux.maskedPaths = ["proc"]'
refused 'linux\.readonlyPaths' '.linux.readonlyPaths = [7]'
refused 'linux\.mountLabel is not supported' '.linux.mountLabel = "system_u:object_r:mine_t:s0"'
refused 'linux\.intelRdt is not supported' '.linux.intelRdt = {"closID": "x"}'
refused 'linux\.personality\.domain' '.linux.personality = {"domain": "BSD"}'
refused 'hooks\.createContainer\[0\]\.path|hooks\.createContainer\[0\]' '.hooks.createContainer = [{"path": "relative"}]'
refused 'hooks\.startContainer\[0\]: /bin/sh: exit status 3: because' '.hooks.startContainer = [{"path": "/bin/sh", "args": ["sh", "-c", "echo because; exit 3"]}]'
refused 'vm is not supported' '.vm = {"kernel": {"path": "/x"}}'
refused 'windows is not supported' '.windows = {"layerFolders": ["x"]}'
refused 'annotations' '.annotations = {"a": 1}'
refused 'io\.husk\.nosuch' '.annotations["io.husk.nosuch"] = "1"'
refuse_all
equal "containers left" "$(husk list --quiet)" pod

guest_config="$pod_join"' | .nosuch = 1 | .process.nosuch = true | .linux.nosuch = {} | .annotations["org.example"] = "x"
  | .process.capabilities.bounding += ["CAP_NOSUCH"] | .linux.mountLabel = "system_u:object_r:container_file_t:s0:c1,c2"'
equal "with unknown members and an unknown capability" "$(in_guest echo fine)" fine
equal "cgroups left in the sandbox" "$(cgroups_list)" "$cgroups_before"
husk delete --force pod

# What the sandbox is made of: no machine starts.
refused_alone() { # refused REGEX FILTER
  bundle_make "$bundle" "$2"
  fails_with "$1" husk create --bundle "$bundle" refused
}
refused_alone 'vcpus' '.annotations["io.husk.vcpus"] = "0"'
refused_alone 'vcpus' '.annotations["io.husk.vcpus"] = "many"'
refused_alone 'memory_mib' '.annotations["io.husk.memory_mib"] = "16"'
refused_alone 'kernel' '.annotations["io.husk.kernel"] = "/etc/passwd"'
