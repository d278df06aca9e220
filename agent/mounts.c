/*
 * One mount of a container: see mounts.h. A tree is what trees.h has made ready, the rest are filesystems of
 * the guest's kernel. The destination belongs to the image and is resolved inside its root.
 */
#include "agent/mounts.h"

#include "agent/copy_up.h"
#include "agent/resolve.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define FSCONFIG_VALUE_MAX 255 /* fsconfig(2) takes no longer string */

/* Adds what the filesystem itself said about its failure, which fsopen(2) offers for reading. */
static int filesystem_error(int fs_fd, int code, const char *what, struct error *err)
{
    char text[512];
    ssize_t got = read(fs_fd, text, sizeof(text) - 1);
    if (got <= 2)
        return error_set(err, code, "%s", what);
    text[got] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return error_set(err, code, "%s: %s", what, text + 2); /* "e " in front of the message */
}

static int filesystem_option(int fs_fd, const char *option, struct error *err)
{
    char key[FSCONFIG_VALUE_MAX + 1], what[FSCONFIG_VALUE_MAX + 32];
    const char *equals = strchr(option, '=');
    size_t length = equals ? (size_t)(equals - option) : strlen(option);
    if (length == 0 || length > FSCONFIG_VALUE_MAX || (equals && strlen(equals + 1) > FSCONFIG_VALUE_MAX))
        return error_set(err, ENAMETOOLONG, "option '%.64s'", option);
    memcpy(key, option, length);
    key[length] = '\0';
    int failed = equals ? fsconfig(fs_fd, FSCONFIG_SET_STRING, key, equals + 1, 0)
                        : fsconfig(fs_fd, FSCONFIG_SET_FLAG, key, NULL, 0);
    if (failed) {
        int code = errno;
        snprintf(what, sizeof(what), "option '%s'", key);
        return filesystem_error(fs_fd, code, what, err);
    }
    return 0;
}

int mounts_new_filesystem(const char *type, const char *source, const char *const *data, struct error *err)
{
    cleanup_fd int fs_fd = fsopen(type, FSOPEN_CLOEXEC);
    if (fs_fd < 0)
        return error_set(err, errno, "filesystem '%s'", type);
    if (source && *source && fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        return filesystem_error(fs_fd, errno, "source", err);
    for (; data && *data; data++) {
        if (filesystem_option(fs_fd, *data, err))
            return -1;
    }
    if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return filesystem_error(fs_fd, errno, type, err);
    int mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, 0);
    if (mount_fd < 0)
        return filesystem_error(fs_fd, errno, type, err);
    return mount_fd;
}

int mounts_clone(int fd, unsigned at_recursive)
{
    int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | at_recursive);
    return tree < 0 ? -errno : tree;
}

int mounts_attach(int mount_fd, int place_fd)
{
    if (move_mount(mount_fd, "", place_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

int mounts_set_attributes(int fd, unsigned at_recursive, uint64_t set, uint64_t clear, uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
    if (!set && !clear && !propagation)
        return 0;
    return mount_setattr(fd, "", AT_EMPTY_PATH | at_recursive, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

/* The guest has version 2 only, and callers that know only version 1 ask for "cgroup". */
static const char *filesystem_type(const char *type)
{
    return strcmp(type, "cgroup") == 0 ? "cgroup2" : type;
}

/* A tmpfs that is given no mode of its own looks like the directory it covers, as with runc and crun. */
static int tmpfs_take_mode(const struct spec_mount *mount, int root_fd, int mount_fd)
{
    struct stat status;
    if (strcmp(mount->type, "tmpfs") != 0)
        return 0;
    for (const char **option = mount->data; option && *option; option++) {
        if (strncmp(*option, "mode=", 5) == 0)
            return 0;
    }
    cleanup_fd int covered = resolve_open(root_fd, mount->destination, O_PATH | O_DIRECTORY);
    if (covered < 0 || fstat(covered, &status) < 0)
        return 0; /* to be made; an error shows when it is opened to be mounted on */
    return fchmodat(mount_fd, ".", status.st_mode & 07777, 0) < 0 ? -errno : 0;
}

static int place_open(const struct spec_mount *mount, int root_fd, int mount_fd, struct error *err)
{
    struct stat status;
    if (fstat(mount_fd, &status) < 0)
        return error_set(err, errno, "stat");
    int place = S_ISDIR(status.st_mode) ? resolve_make_directory(root_fd, mount->destination)
                                        : resolve_make_file(root_fd, mount->destination);
    return place < 0 ? error_set(err, -place, "mount point") : place;
}

int mounts_apply(const struct spec_mount *mount, int root_fd, int tree_fd, struct error *err)
{
    const struct spec_mount_attributes *attributes = &mount->attributes;
    cleanup_fd int made_fd = -1;
    int mount_fd = tree_fd;
    if (tree_fd < 0)
        mount_fd = made_fd = mounts_new_filesystem(filesystem_type(mount->type), mount->source,
                                                   (const char *const *)mount->data, err);
    if (mount_fd < 0)
        return -1;
    int failed = tmpfs_take_mode(mount, root_fd, mount_fd);
    if (failed)
        return error_set(err, -failed, "mode");
    cleanup_fd int place_fd = place_open(mount, root_fd, mount_fd, err);
    if (place_fd < 0)
        return -1;
    if (mount->copy_up && copy_up(place_fd, mount_fd, err))
        return error_wrap(err, "tmpcopyup");
    failed = mounts_set_attributes(mount_fd, AT_RECURSIVE, attributes->recursive_set,
                                   attributes->recursive_clear, 0);
    if (!failed)
        failed = mounts_set_attributes(mount_fd, 0, attributes->set, attributes->clear, 0);
    if (failed)
        return error_set(err, -failed, "options");
    failed = mounts_attach(mount_fd, place_fd);
    if (failed)
        return error_set(err, -failed, "mount");
    failed = mounts_set_attributes(mount_fd, mount->propagation_recursive ? AT_RECURSIVE : 0, 0, 0,
                                   mount->propagation);
    return failed ? error_set(err, -failed, "propagation") : 0;
}
