/* The monitor's own file system: see monitor_view.h. */
#include "shim/monitor_view.h"

#include "common/fd.h"
#include "common/log.h"
#include "shim/proc_view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A detached copy of the host's tree at `path`. fd or -errno. */
static int tree_clone(const char *path, bool recursive, uint64_t attributes)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? (unsigned)AT_RECURSIVE : 0);
    struct mount_attr attr = {.attr_set = attributes, .propagation = MS_SLAVE};
    cleanup_fd int fd = open_tree(AT_FDCWD, path, flags);
    if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return -errno;
    return take_fd(&fd);
}

/* An empty tmpfs. fd or -errno. */
static int tree_empty(uint64_t attributes)
{
    cleanup_fd int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return fd < 0 ? -errno : fd;
}

/* Mounts the tree, which is a directory or not, at `path` of the view; a path that is not there is left. 0 or
 * -errno. */
static int view_attach(int root_fd, const char *path, int tree_fd, bool directory)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    cleanup_fd int target = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    if (target < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    struct stat status;
    if (fstat(target, &status) < 0)
        return -errno;
    if (directory != S_ISDIR(status.st_mode))
        return 0; /* a file where a directory would go is nothing that a caller could mean */
    if (move_mount(tree_fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

/* The same; takes the tree, or an error in its place. */
static int view_mount(int root_fd, const char *path, int tree)
{
    cleanup_fd int tree_fd = tree;
    struct stat status;
    if (tree_fd < 0)
        return tree_fd;
    if (fstat(tree_fd, &status) < 0)
        return -errno;
    return view_attach(root_fd, path, tree_fd, S_ISDIR(status.st_mode));
}

static const struct bundle_mount *host_mount_find(const struct bundle *bundle, size_t index)
{
    for (size_t i = 0; i < bundle->mount_count; i++)
        if (bundle->mounts[i].index == index)
            return &bundle->mounts[i];
    return NULL;
}

static bool mount_is_readonly(const json_t *mount)
{
    size_t i;
    json_t *option;
    bool readonly = false;
    json_array_foreach(json_object_get(mount, "options"), i, option) readonly |=
        json_is_string(option) && strcmp(json_string_value(option), "ro") == 0;
    return readonly;
}

/* config.json's mounts in their order: those of the host as they are, the guest's own as empty directories.
 * So are overlays: one more mount of an upper layer is none of the kernel's promises. */
static int view_mount_all(const struct bundle *bundle, int root_fd, struct error *err)
{
    size_t i;
    json_t *mount;
    json_array_foreach(json_object_get(bundle->spec, "mounts"), i, mount)
    {
        const struct bundle_mount *host = host_mount_find(bundle, i);
        const char *destination = json_string_value(json_object_get(mount, "destination"));
        uint64_t attributes = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
        if (mount_is_readonly(mount))
            attributes |= MOUNT_ATTR_RDONLY;
        if (!destination)
            continue; /* the agent has refused it */
        int tree = host && !host->overlay ? tree_clone(host->source, host->recursive, attributes)
                                          : tree_empty(MOUNT_ATTR_RDONLY);
        int failed = view_mount(root_fd, destination, tree);
        if (failed)
            return error_set(err, -failed, "monitor: show mounts[%zu] at %s", i, destination);
    }
    return 0;
}

/* The view's root, mounted over the bundle's in this namespace. An fd of it, or -1 with err filled. */
static int view_root(const struct bundle *bundle, struct error *err)
{
    uint64_t attributes = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
    if (json_is_true(json_object_get(json_object_get(bundle->spec, "root"), "readonly")))
        attributes |= MOUNT_ATTR_RDONLY;
    cleanup_fd int tree = tree_clone(bundle->rootfs, true, attributes);
    if (tree < 0)
        return error_set(err, -tree, "monitor: show %s", bundle->rootfs);
    struct stat status;
    bool whole = fstatat(tree, "proc", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode) &&
                 fstatat(tree, "dev", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
    if (!whole) {
        fd_close(&tree);
        tree = tree_empty(0);
        if (tree < 0)
            return error_set(err, -tree, "monitor: an empty root");
        if (mkdirat(tree, "proc", 0755) < 0 || mkdirat(tree, "dev", 0755) < 0)
            return error_set(err, errno, "monitor: an empty root");
    }
    if (move_mount(tree, "", AT_FDCWD, bundle->rootfs, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_set(err, errno, "monitor: mount its root");
    if (whole && view_mount_all(bundle, tree, err) < 0)
        return -1;
    return take_fd(&tree);
}

/* The container's processes, or the host's where there is no FUSE. fd or -errno. */
static int proc_tree(int *fuse_fd)
{
    int tree = proc_view_mount(fuse_fd);
    if (tree >= 0)
        return tree;
    log_info("monitor: /proc of the container's pid is the host's: FUSE: %s", strerror(-tree));
    return tree_clone("/proc", true, MOUNT_ATTR_RDONLY);
}

int monitor_enter_view(const struct bundle *bundle, struct monitor_home *home, int *fuse_fd,
                       struct error *err)
{
    *fuse_fd = -1;
    home->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    home->mounts_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home->root_fd < 0 || home->mounts_fd < 0)
        return error_set(err, errno, "monitor: its own mount namespace");
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return error_set(err, errno, "monitor: a mount namespace");
    cleanup_fd int root = view_root(bundle, err);
    if (root < 0)
        return -1;
    /* Nobody answers for it yet: it is mounted without a look at it. */
    cleanup_fd int proc = proc_tree(fuse_fd);
    int failed = proc < 0 ? proc : view_attach(root, "proc", proc, true);
    if (!failed)
        failed = view_mount(root, "dev", tree_clone("/dev", true, MOUNT_ATTR_RDONLY));
    if (failed)
        return error_set(err, -failed, "monitor: /proc and /dev");
    /* The old root ends up on top of the new one, and goes (pivot_root(2)). */
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0)
        return error_set(err, errno, "monitor: change its root");
    return 0;
}

int monitor_go_home(const struct monitor_home *home)
{
    if (home->mounts_fd < 0)
        return 0;
    /* The namespace's root need not be the one that the process had. */
    if (setns(home->mounts_fd, CLONE_NEWNS) < 0 || fchdir(home->root_fd) < 0 || chroot(".") < 0)
        return -errno;
    return 0;
}

void monitor_home_close(struct monitor_home *home)
{
    fd_close(&home->mounts_fd);
    fd_close(&home->root_fd);
}
