/*
 * Trees for a container: see trees.h. The paths below SHARED_DIR are the host's and are resolved beneath it.
 *
 * Id mapping. A container with a user namespace finds its root either with owners that its mappings lead to:
 * then it stays as it is; or with owners as an image has them, from 0 up: then the root is mounted with the
 * container's own mapping, so that nothing has to be changed on the disk. Other mounts are mapped when
 * config.json says so. Linux maps filesystems, not directories: a virtio-fs tree can be mapped if it is in
 * the main superblock of the shared tree (the host's file server sees to that, see shim/attach.c).
 */
#include "agent/trees.h"

#include "agent/cgroup.h"
#include "agent/devices.h"
#include "agent/launch.h"
#include "agent/mounts.h"
#include "agent/resolve.h"
#include "agent/user_namespace.h"
#include "common/fd.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static int map_tree(int tree_fd, bool recursive, int user_fd, struct error *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)user_fd};
    if (mount_setattr(tree_fd, "", AT_EMPTY_PATH | (recursive ? (unsigned)AT_RECURSIVE : 0), &attr,
                      sizeof(attr)) < 0)
        return error_set(err, errno, "id mapping");
    return 0;
}

/* A directory that is a mount of its own on the host is one in the guest as soon as it is opened as a
 * directory (fuse: FUSE_ATTR_SUBMOUNT), and before that a plain directory of the tree above it. */
static int open_shared(int shared_fd, const char *path)
{
    int fd = resolve_beneath(shared_fd, path, O_PATH | O_DIRECTORY);
    return fd == -ENOTDIR ? resolve_beneath(shared_fd, path, O_PATH) : fd;
}

/* Has the mounts that the host has below a tree appear, which they otherwise do when they are first used:
 * then a copy of the tree holds them, each with flags of its own. Those that are not to be seen, or gone
 * again, are left. */
static void reveal_submounts(const struct launch *launch, const char *of, int source_fd)
{
    const json_t *path, *paths = json_object_get(launch->submounts, of);
    size_t i;
    json_array_foreach(paths, i, path)
    {
        cleanup_fd int fd = -1;
        if (i < SUBMOUNTS_MAX && json_is_string(path))
            fd = resolve_beneath(source_fd, json_string_value(path), O_PATH | O_DIRECTORY);
    }
}

/* `of` names the tree among the submounts; NULL: without them. */
static int clone_shared(const struct launch *launch, int shared_fd, const char *path, const char *of,
                        struct error *err)
{
    bool recursive = of != NULL;
    cleanup_fd int source = open_shared(shared_fd, path);
    if (source < 0)
        return error_set(err, -source, "source '%s'", path);
    if (recursive)
        reveal_submounts(launch, of, source);
    int tree = mounts_clone(source, recursive ? AT_RECURSIVE : 0);
    return tree < 0 ? error_set(err, -tree, "source '%s'", path) : tree;
}

static int prepare_root(const struct launch *launch, int shared_fd, struct trees *trees, struct error *err)
{
    const struct spec_id_maps *maps = &launch->spec->id_maps;
    struct stat status;
    trees->root_fd = clone_shared(launch, shared_fd, launch->root, "root", err);
    if (trees->root_fd < 0)
        return -1;
    if (fstat(trees->root_fd, &status) < 0)
        return error_set(err, errno, "stat");
    if (!S_ISDIR(status.st_mode))
        return error_set(err, ENOTDIR, "'%s'", launch->root);
    if (launch->user_fd < 0 || spec_id_is_mapped(maps->uids, maps->uid_count, status.st_uid))
        return 0;
    return map_tree(trees->root_fd, false, launch->user_fd, err);
}

/* A disk's device file. */
static int clone_disk(const char *path, struct error *err)
{
    cleanup_fd int source = open(path, O_PATH | O_CLOEXEC);
    int tree = source < 0 ? -errno : mounts_clone(source, 0);
    return tree < 0 ? error_set(err, -tree, "%s", path) : tree;
}

static int prepare_bind(const struct launch *launch, size_t index, int shared_fd, struct error *err)
{
    const struct spec_mount *mount = &launch->spec->mounts[index];
    const char *source = launch->mount_sources[index];
    char of[24];
    if (mount->disk[0])
        return clone_disk(mount->disk, err);
    if (!source)
        return error_set(err, 0, "source '%s' was not shared with the guest",
                         mount->source ? mount->source : "");
    snprintf(of, sizeof(of), "%zu", index);
    cleanup_fd int tree = clone_shared(launch, shared_fd, source, mount->recursive ? of : NULL, err);
    if (tree < 0 || !mount->idmap)
        return tree < 0 ? -1 : take_fd(&tree);
    cleanup_fd int own = mount->id_maps.uid_count ? user_namespace_new(&mount->id_maps, err) : -1;
    if (mount->id_maps.uid_count && own < 0)
        return -1;
    if (map_tree(tree, mount->idmap_recursive, own >= 0 ? own : launch->user_fd, err))
        return -1;
    return take_fd(&tree);
}

/* The tree of the agent's that is shown instead of a new mount, or NULL. A cgroup2 mount made in the initial
 * cgroup namespace would set the options of the hierarchy for everybody (nsdelegate); sysfs may only be
 * mounted with right over the network namespace. */
static const char *stand_in(const struct launch *launch, const char *type, char path[PATH_MAX])
{
    const struct spec *spec = launch->spec;
    bool user = launch->user_fd >= 0;
    if ((strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0) &&
        !(spec_own_namespaces(spec) & CLONE_NEWCGROUP)) {
        snprintf(path, PATH_MAX, "%s%s%s", CGROUP_ROOT, user ? "/" : "", user ? launch->cgroup_name : "");
        return path;
    }
    return strcmp(type, "sysfs") == 0 && user ? "/sys" : NULL;
}

static int prepare_mount(const struct launch *launch, size_t index, int shared_fd, int *tree_fd,
                         struct error *err)
{
    const struct spec_mount *mount = &launch->spec->mounts[index];
    char path[PATH_MAX];
    if (mount->bind)
        return (*tree_fd = prepare_bind(launch, index, shared_fd, err)) < 0 ? -1 : 0;
    const char *instead = stand_in(launch, mount->type, path);
    if (!instead)
        return 0;
    cleanup_fd int place = open(instead, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place < 0)
        return error_set(err, errno, "%s", instead);
    *tree_fd = mounts_clone(place, 0);
    return *tree_fd < 0 ? error_set(err, -*tree_fd, "%s", instead) : 0;
}

/* Programs of createContainer hooks are the host's (config.md: their path "MUST resolve in the runtime
 * namespace"), and come as single files. */
static int prepare_hooks(const struct launch *launch, int shared_fd, struct trees *trees, struct error *err)
{
    const struct spec_hooks *hooks = &launch->spec->create_hooks;
    trees->hook_fds = calloc(hooks->count + 1, sizeof(int));
    if (!trees->hook_fds)
        return error_set(err, ENOMEM, "hooks");
    for (size_t i = 0; i < hooks->count; i++) {
        const char *program = launch->hook_programs[i];
        int fd = program ? resolve_beneath(shared_fd, program, O_PATH) : -ENOENT;
        if (fd < 0)
            return error_set(err, -fd, "hooks.createContainer[%zu].path '%s' of the host", i,
                             hooks->list[i].path);
        trees->hook_fds[i] = fd;
    }
    return 0;
}

int trees_prepare(const struct launch *launch, struct trees *trees, struct error *err)
{
    const struct spec *spec = launch->spec;
    *trees = (struct trees){.root_fd = -1, .mount_fds = calloc(spec->mount_count + 1, sizeof(int))};
    if (!trees->mount_fds)
        return error_set(err, ENOMEM, "mounts");
    cleanup_fd int shared_fd = open(SHARED_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (shared_fd < 0)
        return error_set(err, errno, "the shared tree");
    if (prepare_root(launch, shared_fd, trees, err))
        return error_wrap(err, "root");
    for (size_t i = 0; i < spec->mount_count; i++) {
        const struct spec_mount *mount = &spec->mounts[i];
        trees->mount_fds[i] = -1;
        if (prepare_mount(launch, i, shared_fd, &trees->mount_fds[i], err))
            return error_wrap(err, "mounts[%zu]: %s on %s", i, mount->type, mount->destination);
    }
    if (prepare_hooks(launch, shared_fd, trees, err))
        return -1;
    /* Device files can't be made in a user namespace. */
    return launch->user_fd >= 0 ? devices_prepare(spec, &trees->device_fds, err) : 0;
}
