/* Block devices of the host: see host_disks.h. */
#include "shim/host_disks.h"

#include "common/device_rules.h"
#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define PATH_BYTES   128
#define UEVENT_BYTES 4096

static bool number_fits(const json_t *rule, const char *key, unsigned number)
{
    const json_t *value = json_object_get(rule, key);
    json_int_t given = json_is_integer(value) ? json_integer_value(value) : -1;
    return given < 0 || given == (json_int_t)number;
}

bool host_disks_may_write(const json_t *rules, unsigned major, unsigned minor)
{
    bool allowed = json_array_size(rules) == 0;
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const char *type = json_string_value(json_object_get(rule, "type"));
        const char *access = json_string_value(json_object_get(rule, "access"));
        bool fits =
            (!type || !*type || *type == 'a' || *type == 'b') && (!access || !*access || strchr(access, 'w'));
        if (fits && number_fits(rule, "major", major) && number_fits(rule, "minor", minor))
            allowed = json_is_true(json_object_get(rule, "allow"));
    }
    return allowed;
}

/* The device file of a number: the kernel names it. */
static int device_path(dev_t rdev, char path[PATH_BYTES], struct stat *status)
{
    char uevent[PATH_BYTES], *save;
    cleanup_free char *text = NULL;
    snprintf(uevent, sizeof(uevent), "/sys/dev/block/%u:%u/uevent", major(rdev), minor(rdev));
    ssize_t got = fd_read_file_at(AT_FDCWD, uevent, UEVENT_BYTES, &text);
    if (got < 0)
        return (int)got;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "DEVNAME=", 8) != 0 || strlen(line + 8) >= PATH_BYTES - 8)
            continue;
        snprintf(path, PATH_BYTES, "/dev/%s", line + 8);
        if (stat(path, status) == 0 && S_ISBLK(status->st_mode) && status->st_rdev == rdev)
            return 0;
    }
    /* udev's links, where /dev has names of its own. */
    snprintf(path, PATH_BYTES, "/dev/block/%u:%u", major(rdev), minor(rdev));
    if (stat(path, status) < 0)
        return -errno;
    return S_ISBLK(status->st_mode) && status->st_rdev == rdev ? 0 : -ENXIO;
}

/* The entry of the device, a new one if it has none. NULL with err. */
static struct host_disk *disk_get(struct host_disks *disks, const struct stat *status, struct error *err)
{
    for (size_t i = 0; i < disks->count; i++) {
        if (disks->disk[i].rdev == status->st_rdev)
            return &disks->disk[i];
    }
    if (disks->count == HOST_DISKS_MAX) {
        error_set(err, E2BIG, "more than %u block devices", HOST_DISKS_MAX);
        return NULL;
    }
    struct host_disk *disk = &disks->disk[disks->count];
    *disk = (struct host_disk){.rdev = status->st_rdev,
                               .mode = status->st_mode & 07777,
                               .uid = status->st_uid,
                               .gid = status->st_gid,
                               .mounts = json_array()};
    if (!disk->mounts) {
        error_set(err, ENOMEM, "disks");
        return NULL;
    }
    disks->count++;
    return disk;
}

/* One that may only be read is a disk of its own, beside one of the same device that may be written. */
static void disk_allow(struct host_disk *disk, bool writable)
{
    disk->writable |= writable;
    snprintf(disk->serial, sizeof(disk->serial), "%u:%u%s", major(disk->rdev), minor(disk->rdev),
             disk->writable ? "" : "r");
}

static int add_device(struct host_disks *disks, const json_t *device, const json_t *rules, const char *where,
                      struct error *err)
{
    const char *type = NULL;
    int64_t major = -1, minor = -1;
    if (!json_is_object(device))
        return 0; /* the agent says what is wrong */
    if (json_get_string(device, where, "type", &type, err) < 0 ||
        json_get_int(device, where, "major", 0, 0xfff, &major, err) < 0 ||
        json_get_int(device, where, "minor", 0, 0xfffff, &minor, err) < 0)
        return -1;
    if (!type || strcmp(type, "b") != 0 || major < 0 || minor < 0)
        return 0;
    char path[PATH_BYTES];
    struct stat status;
    int rc = device_path(makedev((unsigned)major, (unsigned)minor), path, &status);
    if (rc == -ENOENT)
        return 0; /* a device file for nothing: as it would be on the host */
    if (rc < 0)
        return error_set(err, -rc, "%s: block device %d:%d of the host", where, (int)major, (int)minor);
    struct host_disk *disk = disk_get(disks, &status, err);
    if (!disk)
        return error_wrap(err, "%s", where);
    disk_allow(disk, host_disks_may_write(rules, (unsigned)major, (unsigned)minor));
    return 0;
}

int host_disks_add_devices(struct host_disks *disks, const json_t *linux_section, struct error *err)
{
    json_t *devices = NULL, *resources = NULL, *rules = NULL;
    if (json_get_array(linux_section, "linux", "devices", &devices, err) < 0 ||
        json_get_object(linux_section, "linux", "resources", &resources, err) < 0 ||
        json_get_array(resources, "linux.resources", "devices", &rules, err) < 0)
        return -1;
    if (device_rules_are_privileged(linux_section))
        return 0;
    for (size_t i = 0; i < json_array_size(devices); i++) {
        char where[48];
        snprintf(where, sizeof(where), "linux.devices[%zu]", i);
        if (add_device(disks, json_array_get(devices, i), rules, where, err) < 0)
            return -1;
    }
    return 0;
}

int host_disks_add_mount(struct host_disks *disks, size_t index, const char *path, bool writable,
                         struct error *err)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set(err, errno, "mounts[%zu].source: %s", index, path);
    struct host_disk *disk = disk_get(disks, &status, err);
    if (!disk)
        return error_wrap(err, "mounts[%zu]", index);
    disk_allow(disk, writable);
    return json_array_append_new(disk->mounts, json_integer((json_int_t)index)) < 0
               ? error_set(err, ENOMEM, "mounts[%zu]", index)
               : 0;
}

void host_disks_fini(struct host_disks *disks)
{
    for (size_t i = 0; i < disks->count; i++)
        json_decref(take_ptr(&disks->disk[i].mounts));
    disks->count = 0;
}

/* A device that is read-only itself can be given to a writer, who then meets EROFS or EPERM, as on the host.
 */
static int disk_open(const struct host_disk *disk, bool *writable, struct error *err)
{
    char path[PATH_BYTES];
    struct stat status;
    int rc = device_path(disk->rdev, path, &status);
    if (rc < 0)
        return error_set(err, -rc, "block device %s of the host", disk->serial);
    int fd = open(path, (*writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && *writable && (errno == EROFS || errno == EACCES || errno == EPERM)) {
        *writable = false;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    return fd < 0 ? error_set(err, errno, "open %s", path) : fd;
}

int host_disks_open(struct host_disks *disks, int fds[HOST_DISKS_MAX], struct error *err)
{
    for (size_t i = 0; i < disks->count; i++) {
        fds[i] = disk_open(&disks->disk[i], &disks->disk[i].writable, err);
        if (fds[i] >= 0)
            continue;
        while (i > 0)
            fd_close(&fds[--i]);
        return -1;
    }
    return 0;
}

json_t *host_disks_describe(const struct host_disks *disks)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < disks->count; i++) {
        const struct host_disk *disk = &disks->disk[i];
        json_t *entry =
            json_pack("{s:s, s:i, s:i, s:O, s:i, s:I, s:I}", "serial", disk->serial, "major",
                      (int)major(disk->rdev), "minor", (int)minor(disk->rdev), "mounts", disk->mounts, "mode",
                      (int)disk->mode, "uid", (json_int_t)disk->uid, "gid", (json_int_t)disk->gid);
        if (json_array_append_new(list, entry) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}
