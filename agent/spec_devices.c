/*
 * linux.devices (OCI runtime-spec config-linux.md "Devices"): see spec.h.
 */
#include "agent/spec_sections.h"

#include "agent/spec_fields.h"
#include "common/device_rules.h"
#include "common/json.h"

#include <errno.h>
#include <linux/major.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The kernel's include/linux/miscdevice.h; Documentation/admin-guide/devices.txt. */
#define KVM_MINOR 232

static const struct spec_name device_types[] = {
    {"c", S_IFCHR}, {"u", S_IFCHR}, {"b", S_IFBLK}, {"p", S_IFIFO}, {NULL, 0},
};

static int device_parse(struct spec_device *device, const json_t *entry, const char *where, struct error *err)
{
    unsigned long type = 0;
    int64_t major = 0, minor = 0, mode = 0666, uid = 0, gid = 0;
    if (json_require(spec_get_name(entry, where, "type", device_types, &type, err), where, "type", err) < 0 ||
        json_require(spec_get_path(entry, where, "path", &device->path, err), where, "path", err) < 0 ||
        json_get_int(entry, where, "fileMode", 0, 0177777, &mode, err) < 0 ||
        json_get_int(entry, where, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        json_get_int(entry, where, "gid", 0, UINT32_MAX - 1, &gid, err) < 0)
        return -1;
    /* Callers copy the whole st_mode: its type must then be the device's. */
    if ((mode & S_IFMT) && (mode & S_IFMT) != (int64_t)type)
        return error_set(err, 0, "%s.fileMode: %llo is the mode of another type", where, (long long)mode);
    if (type != S_IFIFO &&
        (json_require(json_get_int(entry, where, "major", 0, 0xfff, &major, err), where, "major", err) < 0 ||
         json_require(json_get_int(entry, where, "minor", 0, 0xfffff, &minor, err), where, "minor", err) < 0))
        return -1;
    device->mode = (mode_t)(type | (mode & 07777));
    device->rdev = makedev((unsigned)major, (unsigned)minor);
    device->uid = (uid_t)uid;
    device->gid = (gid_t)gid;
    return 0;
}

/* Devices that a container asks for by name, and which can't be in a VM. */
static int device_check(const struct spec_device *device, const char *where, struct error *err)
{
    if (S_ISCHR(device->mode) && device->rdev == makedev(MISC_MAJOR, KVM_MINOR))
        return error_set(err, 0, "%s is not supported: there is no KVM in the guest", where);
    return 0;
}

int spec_parse_devices(void *into, const json_t *object, const char *where, const char *key,
                       struct error *err)
{
    struct spec *spec = into;
    json_t *list = NULL;
    int got = spec_get_objects(object, where, key, SPEC_DEVICES_MAX, &list, err);
    if (got <= 0)
        return got;
    bool privileged = device_rules_are_privileged(object);
    spec->devices = calloc(json_array_size(list) + 1, sizeof(*spec->devices));
    if (!spec->devices)
        return error_set(err, ENOMEM, "%s.%s", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char path[SPEC_PATH_MAX];
        spec_path_element(path, where, key, i);
        if (device_parse(&spec->devices[i], json_array_get(list, i), path, err) ||
            (!privileged && device_check(&spec->devices[i], path, err)))
            return -1;
        spec->device_count = i + 1;
    }
    return 0;
}
