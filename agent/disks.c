/* Block devices of the host in the guest: see disks.h. */
#include "agent/disks.h"

#include "agent/slots.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define SERIAL_BYTES_MAX 20 /* VIRTIO_BLK_ID_BYTES */
#define ATTRIBUTE_MAX    64

struct disk {
    char serial[SERIAL_BYTES_MAX + 1];
    unsigned host_major, host_minor, major, minor;
    char path[SPEC_DISK_MAX]; /* in the agent's /dev */
};

/* A sysfs attribute without its newline. 0 or -errno. */
static int attribute_read(int block_fd, const char *name, const char *attribute, char value[ATTRIBUTE_MAX])
{
    char path[ATTRIBUTE_MAX];
    if (snprintf(path, sizeof(path), "%.40s/%s", name, attribute) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    cleanup_fd int fd = openat(block_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, value, ATTRIBUTE_MAX - 1);
    if (got < 0)
        return -errno;
    value[got] = '\0';
    value[strcspn(value, "\n")] = '\0';
    return 0;
}

static int disk_take(struct disk *disk, int block_fd, const char *name)
{
    char dev[ATTRIBUTE_MAX];
    if (attribute_read(block_fd, name, "dev", dev) < 0 ||
        sscanf(dev, "%u:%u", &disk->major, &disk->minor) != 2)
        return -1;
    return snprintf(disk->path, sizeof(disk->path), "/dev/%s", name) < (int)sizeof(disk->path) ? 0 : -1;
}

/* The guest's disk with that serial. */
static int disk_find(struct disk *disk, const char *sysfs, struct error *err)
{
    char serial[ATTRIBUTE_MAX];
    DIR *directory = opendir(sysfs);
    if (!directory)
        return error_set(err, errno, "%s", sysfs);
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(directory));) {
        if (entry->d_name[0] != '.' &&
            attribute_read(dirfd(directory), entry->d_name, "serial", serial) == 0 &&
            strcmp(serial, disk->serial) == 0)
            found = disk_take(disk, dirfd(directory), entry->d_name) == 0;
    }
    closedir(directory);
    return found ? 0 : error_set(err, ENODEV, "disk '%s'", disk->serial);
}

/* A disk that came with this container is in a slot that the driver has not looked at. */
static int disk_find_or_bind(struct disk *disk, const json_t *entry, const char *sysfs, const char *where,
                             struct error *err)
{
    const char *slot = NULL;
    int got = json_get_string(entry, where, "device", &slot, err);
    if (got < 0)
        return -1;
    if (disk_find(disk, sysfs, err) == 0)
        return 0;
    if (got == 0 || err->code != ENODEV)
        return -1;
    if (!slot_name_is_valid(slot))
        return error_set(err, 0, "%s.device: '%.64s' is no slot", where, slot);
    return slot_bind(slot, err) < 0 ? -1 : disk_find(disk, sysfs, err);
}

void disks_release(const json_t *entry, const char *sysfs)
{
    struct error err;
    struct disk disk = {.major = 0};
    char path[PATH_MAX], slot[SLOT_NAME_BYTES];
    const char *serial = json_string_value(json_object_get(entry, "serial"));
    if (!json_object_get(entry, "device") || !serial || strlen(serial) > SERIAL_BYTES_MAX)
        return;
    memcpy(disk.serial, serial, strlen(serial) + 1);
    if (disk_find(&disk, sysfs, &err) < 0)
        return;
    /* sysfs/NAME/device is the virtio device. */
    snprintf(path, sizeof(path), "%s/%s/device", sysfs, strrchr(disk.path, '/') + 1);
    if (slot_unbind(path, slot, &err) < 0)
        log_err("disk %s: %s", disk.serial, err.text);
}

static int disk_parse(struct disk *disk, const json_t *entry, const char *where, struct error *err)
{
    const char *serial = "";
    int64_t major = 0, minor = 0;
    if (!json_is_object(entry))
        return error_set(err, 0, "%s: expected an object", where);
    if (json_require(json_get_string(entry, where, "serial", &serial, err), where, "serial", err) < 0 ||
        json_require(json_get_int(entry, where, "major", 0, 0xfff, &major, err), where, "major", err) < 0 ||
        json_require(json_get_int(entry, where, "minor", 0, 0xfffff, &minor, err), where, "minor", err) < 0)
        return -1;
    if (strlen(serial) == 0 || strlen(serial) > SERIAL_BYTES_MAX)
        return error_set(err, 0, "%s.serial: of 1 to %d bytes", where, SERIAL_BYTES_MAX);
    memcpy(disk->serial, serial, strlen(serial) + 1);
    disk->host_major = (unsigned)major;
    disk->host_minor = (unsigned)minor;
    return 0;
}

/* A filesystem on a disk that cannot be written must itself be told so, not only its mount. */
static int mount_set_read_only(struct spec_mount *mount)
{
    if (mount->bind || !(mount->attributes.set & MOUNT_ATTR_RDONLY))
        return 0;
    const char **data = realloc(mount->data, (mount->data_count + 2) * sizeof(*data));
    if (!data)
        return -ENOMEM;
    data[mount->data_count++] = "ro";
    data[mount->data_count] = NULL;
    mount->data = data;
    return 0;
}

/* Mounts with the disk as their source. A bind shows the device file itself: with the host's owner and mode.
 */
static int mounts_map(struct spec *spec, const struct disk *disk, const json_t *entry, const char *where,
                      struct error *err)
{
    json_t *mounts = NULL;
    int64_t mode = 0660, uid = 0, gid = 0;
    if (json_get_array(entry, where, "mounts", &mounts, err) < 0 ||
        json_get_int(entry, where, "mode", 0, 07777, &mode, err) < 0 ||
        json_get_int(entry, where, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        json_get_int(entry, where, "gid", 0, UINT32_MAX - 1, &gid, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const json_t *index = json_array_get(mounts, i);
        json_int_t number = json_is_integer(index) ? json_integer_value(index) : -1;
        if (number < 0 || (size_t)number >= spec->mount_count)
            return error_set(err, 0, "%s.mounts[%zu]: no index of mounts", where, i);
        struct spec_mount *mount = &spec->mounts[number];
        memcpy(mount->disk, disk->path, sizeof(mount->disk));
        mount->source = mount->disk;
        if (mount_set_read_only(mount) < 0)
            return error_set(err, ENOMEM, "mounts[%d]", (int)number);
        if (mount->bind &&
            (chmod(disk->path, (mode_t)mode) < 0 || chown(disk->path, (uid_t)uid, (gid_t)gid) < 0))
            return error_set(err, errno, "mounts[%d]: %s", (int)number, disk->path);
    }
    return 0;
}

static const struct disk *disk_of(const struct disk *disks, size_t count, unsigned major, unsigned minor)
{
    for (size_t i = 0; i < count; i++) {
        if (disks[i].host_major == major && disks[i].host_minor == minor)
            return &disks[i];
    }
    return NULL;
}

static void devices_map(struct spec *spec, const struct disk *disks, size_t count)
{
    for (size_t i = 0; i < spec->device_count; i++) {
        struct spec_device *device = &spec->devices[i];
        const struct disk *disk = disk_of(disks, count, major(device->rdev), minor(device->rdev));
        if (S_ISBLK(device->mode) && disk)
            device->rdev = makedev(disk->major, disk->minor);
    }
}

static void rules_map(struct spec_resources *resources, const struct disk *disks, size_t count)
{
    for (size_t i = 0; i < resources->device_rule_count; i++) {
        struct spec_device_rule *rule = &resources->device_rules[i];
        if (rule->type != 'b' || rule->major < 0 || rule->minor < 0)
            continue;
        const struct disk *disk = disk_of(disks, count, (unsigned)rule->major, (unsigned)rule->minor);
        if (disk) {
            rule->major = disk->major;
            rule->minor = disk->minor;
        }
    }
}

int disks_apply(struct spec *spec, const json_t *params, const char *sysfs, struct error *err)
{
    json_t *list = NULL;
    if (json_get_array(params, "", "disks", &list, err) < 0)
        return -1;
    size_t count = json_array_size(list);
    if (count == 0)
        return 0;
    if (count > DISKS_MAX)
        return error_set(err, E2BIG, "disks: %zu, at most %u", count, DISKS_MAX);
    cleanup_free struct disk *disks = calloc(count, sizeof(*disks));
    if (!disks)
        return error_set(err, ENOMEM, "disks");
    for (size_t i = 0; i < count; i++) {
        char where[32];
        snprintf(where, sizeof(where), "disks[%zu]", i);
        const json_t *entry = json_array_get(list, i);
        if (disk_parse(&disks[i], entry, where, err) < 0 ||
            disk_find_or_bind(&disks[i], entry, sysfs, where, err) < 0 ||
            mounts_map(spec, &disks[i], entry, where, err) < 0)
            return -1;
    }
    /* All at once: a number may be one disk's on the host and another's in the guest. */
    devices_map(spec, disks, count);
    rules_map(&spec->resources, disks, count);
    return 0;
}
