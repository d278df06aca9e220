/*
 * Device files and links in a container's /dev (OCI runtime-spec config-linux.md "Default Devices",
 * "Devices", runtime-linux.md "Dev symbolic links"). Part of rootfs.h.
 */
#include "agent/rootfs.h"

#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
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
        const char *to = spec->mounts[i].destination;
        if (spec->mounts[i].bind && to[0] == '/' && to[1] == 'd' && to[2] == 'e' && to[3] == 'v' &&
            (to[4] == '\0' || (to[4] == '/' && to[5] == '\0')))
            return true;
    }
    return false;
}

int rootfs_make_devices(const struct spec *spec, int root_fd, struct error *err)
{
    if (spec_binds_dev(spec))
        return 0;
    for (size_t i = 0; i < sizeof(default_devices) / sizeof(default_devices[0]); i++) {
        struct spec_device device = {.path = default_devices[i].path,
                                     .mode = S_IFCHR | 0666,
                                     .rdev = makedev(default_devices[i].major, default_devices[i].minor)};
        if (device_make(root_fd, &device, err))
            return error_wrap(err, "device %s", device.path);
    }
    for (size_t i = 0; i < spec->device_count; i++) {
        if (device_make(root_fd, &spec->devices[i], err))
            return error_wrap(err, "linux.devices[%zu] %s", i, spec->devices[i].path);
    }
    for (size_t i = 0; i < sizeof(default_links) / sizeof(default_links[0]); i++) {
        int failed = link_make(root_fd, default_links[i].path, default_links[i].target);
        if (failed)
            return error_set(err, -failed, "link %s", default_links[i].path);
    }
    return 0;
}
