/*
 * The container's root filesystem: see rootfs.h. Trust: the root's content is the image's, and only ever
 * resolved beneath the fd of its tree.
 */
#include "agent/rootfs.h"

#include "agent/mounts.h"
#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Nothing that is mounted from here on may show in the agent's own namespace, nor the reverse. */
static int isolate_mounts(struct error *err)
{
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return error_set(err, errno, "make the mounts private");
    return 0;
}

int rootfs_attach(const struct spec *spec, const struct trees *trees, struct error *err)
{
    if (isolate_mounts(err))
        return -1;
    if (move_mount(trees->root_fd, "", AT_FDCWD, ROOTFS_ATTACH_DIR, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_set(err, errno, "attach the root");
    for (size_t i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *mount = &spec->mounts[i];
        if (mounts_apply(mount, trees->root_fd, trees->mount_fds[i], err))
            return error_wrap(err, "mounts[%zu]: %s on %s", i, mount->type, mount->destination);
    }
    return 0;
}

/* What is hidden by maskedPaths: files behind /dev/null, directories behind an empty read-only filesystem, of
 * which one serves all. */
struct mask {
    int null_fd;
    int empty_fd;
};

static int mask_directory(struct mask *mask, int place_fd, struct error *err)
{
    static const char *const options[] = {"size=0k", "nr_inodes=2", "mode=555", NULL};
    if (mask->empty_fd < 0) {
        mask->empty_fd = mounts_new_filesystem("tmpfs", "tmpfs", options, err);
        if (mask->empty_fd < 0)
            return -1;
        int failed = mounts_set_attributes(mask->empty_fd, 0, MOUNT_ATTR_RDONLY, 0, 0);
        if (!failed)
            failed = mounts_attach(mask->empty_fd, place_fd);
        return failed ? error_set(err, -failed, "cover the directory") : 0;
    }
    cleanup_fd int copy_fd = mounts_clone(mask->empty_fd, 0);
    int failed = copy_fd < 0 ? copy_fd : mounts_attach(copy_fd, place_fd);
    return failed ? error_set(err, -failed, "cover the directory") : 0;
}

static int mask_file(const struct mask *mask, int place_fd, struct error *err)
{
    cleanup_fd int copy_fd = mounts_clone(mask->null_fd, 0);
    /* Read-only keeps the container from changing the owner and mode of the agent's device. */
    int failed = copy_fd < 0 ? copy_fd : mounts_set_attributes(copy_fd, 0, MOUNT_ATTR_RDONLY, 0, 0);
    if (!failed)
        failed = mounts_attach(copy_fd, place_fd);
    return failed ? error_set(err, -failed, "cover the file") : 0;
}

static int mask_path(struct mask *mask, int root_fd, const char *path, struct error *err)
{
    cleanup_fd int place_fd = resolve_open(root_fd, path, O_PATH);
    struct stat status;
    if (place_fd == -ENOENT || place_fd == -ENOTDIR)
        return 0; /* what is not there needs no hiding */
    if (place_fd < 0 || fstat(place_fd, &status) < 0)
        return error_set(err, place_fd < 0 ? -place_fd : errno, "open");
    return S_ISDIR(status.st_mode) ? mask_directory(mask, place_fd, err) : mask_file(mask, place_fd, err);
}

static int protect_masked(const struct spec *spec, int root_fd, struct error *err)
{
    /* The agent's own null device: the container's could be anything by now. */
    cleanup_fd int null_fd = open("/dev/null", O_PATH | O_CLOEXEC);
    struct mask mask = {.null_fd = null_fd, .empty_fd = -1};
    int failed = null_fd < 0 ? error_set(err, errno, "/dev/null") : 0;
    for (size_t i = 0; !failed && spec->masked_paths && spec->masked_paths[i]; i++) {
        failed = mask_path(&mask, root_fd, spec->masked_paths[i], err);
        if (failed)
            error_wrap(err, "linux.maskedPaths[%zu] '%s'", i, spec->masked_paths[i]);
    }
    fd_close(&mask.empty_fd);
    return failed;
}

/* A read-only bind mount of the path on itself. */
static int protect_readonly(int root_fd, const char *path)
{
    cleanup_fd int place_fd = resolve_open(root_fd, path, O_PATH);
    if (place_fd == -ENOENT || place_fd == -ENOTDIR)
        return 0;
    if (place_fd < 0)
        return place_fd;
    cleanup_fd int copy_fd = mounts_clone(place_fd, AT_RECURSIVE);
    if (copy_fd < 0)
        return copy_fd;
    int failed = mounts_set_attributes(copy_fd, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0);
    return failed ? failed : mounts_attach(copy_fd, place_fd);
}

int rootfs_protect(const struct spec *spec, int root_fd, struct error *err)
{
    for (size_t i = 0; spec->readonly_paths && spec->readonly_paths[i]; i++) {
        int failed = protect_readonly(root_fd, spec->readonly_paths[i]);
        if (failed)
            return error_set(err, -failed, "linux.readonlyPaths[%zu] '%s'", i, spec->readonly_paths[i]);
    }
    if (protect_masked(spec, root_fd, err))
        return -1;
    if (spec->root_readonly) {
        int failed = mounts_set_attributes(root_fd, 0, MOUNT_ATTR_RDONLY, 0, 0);
        if (failed)
            return error_set(err, -failed, "root.readonly");
    }
    return 0;
}

int rootfs_pivot(const struct spec *spec, int root_fd, struct error *err)
{
    /* With "." as both, the old root comes to lie over the new one, at the same place, and is detached from
     * there: no directory of the image has to hold it (pivot_root(2), NOTES). */
    if (fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0)
        return error_set(err, errno, "pivot_root");
    if (spec->propagation) {
        struct mount_attr attr = {.propagation = spec->propagation & ~(uint64_t)MS_REC};
        unsigned recursive = spec->propagation & MS_REC ? AT_RECURSIVE : 0;
        if (mount_setattr(AT_FDCWD, "/", recursive, &attr, sizeof(attr)) < 0)
            return error_set(err, errno, "linux.rootfsPropagation");
    }
    return 0;
}
