/*
 * The start file: see spec_default.h.
 */
#include "shim/spec_default.h"

#include "common/json.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
static const char default_text[] = JSON_TEXT({
    "ociVersion": "1.2.0",
    "process": {
        "terminal": true,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": true
    },
    "root": {"path": "rootfs", "readonly": true},
    "hostname": "husk",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ],
    "linux": {
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                       {"type": "mount"}, {"type": "cgroup"}],
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                        "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    }
});
/* clang-format on */

/* The caller's own id is root inside: the one id he may map without help. */
static json_t *own_mapping(unsigned id)
{
    return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)id, "size", 1);
}

/* As runc: without a group that is not mapped, and without limits, which need a cgroup of one's own. A
 * network namespace stays, since a VM has no network of the host to share. */
static void make_rootless(json_t *spec)
{
    json_t *section = json_object_get(spec, "linux"), *mount;
    size_t index;
    json_array_append_new(json_object_get(section, "namespaces"), json_pack("{s:s}", "type", "user"));
    json_object_set_new(section, "uidMappings", own_mapping(geteuid()));
    json_object_set_new(section, "gidMappings", own_mapping(getegid()));
    json_object_del(section, "resources");
    json_array_foreach(json_object_get(spec, "mounts"), index, mount)
    {
        json_t *options = json_object_get(mount, "options");
        for (size_t i = json_array_size(options); i-- > 0;) {
            if (strcmp(json_string_value(json_array_get(options, i)), "gid=5") == 0)
                json_array_remove(options, i);
        }
    }
}

json_t *spec_default(bool rootless, struct error *err)
{
    json_t *spec = json_parse_object(default_text, sizeof(default_text) - 1, err);
    if (spec && rootless)
        make_rootless(spec);
    return spec;
}
