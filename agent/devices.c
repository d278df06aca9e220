/*
 * Device files and links in a container's /dev (OCI runtime-spec config-linux.md "Default Devices",
 * "Devices", runtime-linux.md "Dev symbolic links"): see devices.h.
 */
#include "agent/devices.h"

#include "agent/mounts.h"
#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Numbers from the kernel's Documentation/admin-guide/devices.txt. */
static const struct {
    const char *path;
    unsigned major, minor;
} default_devices[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

static const struct {
    const char *path, *target;
} default_links[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/ptmx", "pts/ptmx"},         {"/dev/core", "/proc/kcore"},
};

#define DEFAULT_DEVICES (sizeof(default_devices) / sizeof(default_devices[0]))

/* Where devices_prepare makes its device files; exists in the agent's root. */
#define STAGING_DIR "/run"

/* The device with that number: the defaults come first. */
static struct spec_device device_get(const struct spec *spec, size_t index)
{
    if (index >= DEFAULT_DEVICES)
        return spec->devices[index - DEFAULT_DEVICES];
    return (struct spec_device){.path = default_devices[index].path,
                                .mode = S_IFCHR | 0666,
                                .rdev = makedev(default_devices[index].major, default_devices[index].minor)};
}

static int error_wrap_device(struct error *err, const struct spec *spec, size_t index)
{
    if (index < DEFAULT_DEVICES)
        return error_wrap(err, "device %s", default_devices[index].path);
    index -= DEFAULT_DEVICES;
    return error_wrap(err, "linux.devices[%zu] %s", index, spec->devices[index].path);
}

/* The file's name in the staging filesystem is the device's number. */
static int device_stage(const struct spec *spec, size_t index, int *tree_fd, struct error *err)
{
    const struct spec_device device = device_get(spec, index);
    const struct spec_id_maps *maps = &spec->id_maps;
    char path[64];
    int64_t uid = spec_id_outside(maps->uids, maps->uid_count, device.uid);
    int64_t gid = spec_id_outside(maps->gids, maps->gid_count, device.gid);
    snprintf(path, sizeof(path), STAGING_DIR "/%zu", index);
    /* One without an id outside is nobody's, as the agent's own files are for the container. */
    if (mknod(path, device.mode, device.rdev) < 0 || chmod(path, device.mode & 07777) < 0 ||
        lchown(path, uid < 0 ? 0 : (uid_t)uid, gid < 0 ? 0 : (gid_t)gid) < 0)
        return error_set(err, errno, "make");
    cleanup_fd int file = open(path, O_PATH | O_CLOEXEC);
    *tree_fd = file < 0 ? -errno : mounts_clone(file, 0);
    return *tree_fd < 0 ? error_set(err, -*tree_fd, "bind") : 0;
}

int devices_prepare(const struct spec *spec, int **fds, struct error *err)
{
    size_t count = DEFAULT_DEVICES + spec->device_count;
    *fds = calloc(count, sizeof(int));
    if (!*fds)
        return error_set(err, ENOMEM, "devices");
    cleanup_fd int staging = mounts_new_filesystem("tmpfs", "devices", NULL, err);
    if (staging < 0)
        return -1;
    if (unshare(CLONE_NEWNS) < 0)
        return error_set(err, errno, "mount namespace");
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0 ||
        move_mount(staging, "", AT_FDCWD, STAGING_DIR, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_set(err, errno, "devices");
    for (size_t i = 0; i < count; i++) {
        if (device_stage(spec, i, &(*fds)[i], err))
            return error_wrap_device(err, spec, i);
    }
    /* What lies below STAGING_DIR is still wanted. */
    if (umount2(STAGING_DIR, MNT_DETACH) < 0)
        return error_set(err, errno, "devices");
    return 0;
}

/* Binds a staged device file. What may lie at its place already: that very device, or the empty file that was
 * made for it before. */
static int device_bind(int root_fd, const struct spec_device *device, int tree_fd, struct error *err)
{
    struct stat status;
    cleanup_fd int place = resolve_make_file(root_fd, device->path);
    if (place < 0 || fstat(place, &status) < 0)
        return error_set(err, place < 0 ? -place : errno, "mount point");
    if ((status.st_mode & S_IFMT) == (device->mode & S_IFMT) && status.st_rdev == device->rdev)
        return 0;
    if (!S_ISREG(status.st_mode) || status.st_size > 0)
        return error_set(err, EEXIST, "another file is there");
    int failed = mounts_attach(tree_fd, place);
    return failed ? error_set(err, -failed, "bind") : 0;
}

static int device_make(int root_fd, const struct spec_device *device, struct error *err)
{
    const char *name;
    struct stat status;
    cleanup_fd int parent = resolve_make_parent(root_fd, device->path, &name);
    if (parent < 0)
        return error_set(err, -parent, "parent directory");
    if (mknodat(parent, name, device->mode, device->rdev) < 0) {
        /* An existing file is fine if it is that very device; anything else is an error (ibid., "Devices").
         */
        if (errno != EEXIST)
            return error_set(err, errno, "mknod");
        if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            return error_set(err, errno, "stat");
        if ((status.st_mode & S_IFMT) != (device->mode & S_IFMT) ||
            (!S_ISFIFO(status.st_mode) && status.st_rdev != device->rdev))
            return error_set(err, EEXIST, "another file is there");
    }
    /* mknod's mode went through the umask. */
    if (fchmodat(parent, name, device->mode & 07777, 0) < 0 ||
        fchownat(parent, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set(err, errno, "owner and mode");
    return 0;
}

static int link_make(int root_fd, const char *path, const char *target)
{
    const char *name;
    cleanup_fd int parent = resolve_make_parent(root_fd, path, &name);
    if (parent < 0)
        return parent;
    return symlinkat(target, parent, name) < 0 && errno != EEXIST ? -errno : 0;
}

/* Whether the specification brings a /dev of its own, from somewhere or with something in it: then that is
 * what the container gets. */
static bool spec_binds_dev(const struct spec *spec)
{
    for (size_t i = 0; i < spec->mount_count; i++) {
        const char *to = spec->mounts[i].destination + strspn(spec->mounts[i].destination, "/");
        if (spec->mounts[i].bind && (strcmp(to, "dev") == 0 || strcmp(to, "dev/") == 0))
            return true;
    }
    return false;
}

int devices_make(const struct spec *spec, int root_fd, const int *fds, struct error *err)
{
    if (spec_binds_dev(spec))
        return 0;
    for (size_t i = 0; i < DEFAULT_DEVICES + spec->device_count; i++) {
        const struct spec_device device = device_get(spec, i);
        if (fds ? device_bind(root_fd, &device, fds[i], err) : device_make(root_fd, &device, err))
            return error_wrap_device(err, spec, i);
    }
    for (size_t i = 0; i < sizeof(default_links) / sizeof(default_links[0]); i++) {
        int failed = link_make(root_fd, default_links[i].path, default_links[i].target);
        if (failed)
            return error_set(err, -failed, "link %s", default_links[i].path);
    }
    return 0;
}
