/*
 * Attaching trees: see attach.h. Called by the monitor while it creates a container, before it has threads.
 *
 * The trees are taken on the host's side, with the caller's rights and in its mount namespace. A child then
 * enters the VMM's mount namespace (setns(2) puts its root at the VMM's root) and moves them into place; the
 * VMM cannot make such a move itself, and the guest cannot name a path here: all names are made from the
 * container's checked ID and numbers.
 */
#include "shim/attach.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "protocol/protocol.h"
#include "shim/overlay_mount.h"
#include "shim/submounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* One detached tree on its way. */
struct attach_tree {
    int fd;
    bool directory;
    char target[NAME_MAX + 64]; /* absolute in the VMM's namespace */
    const char *source;
};

/* What the child tells its parent. */
struct attach_report {
    int code;  /* errno value */
    int stage; /* enum attach_stage */
    int tree;  /* index, where it concerns one */
};

enum attach_stage { STAGE_ENTER, STAGE_WRITABLE, STAGE_MAKE, STAGE_MOVE, STAGE_READONLY };

static const char *const stage_names[] = {"enter the VMM's mount namespace", "make the shared tree writable",
                                          "make the mount point", "move the tree",
                                          "make the shared tree read-only"};

/* A detached copy of the tree at `source`. As a slave it still gets what the host mounts below a shared
 * volume later; nothing ever goes the other way. No device node in it opens on the host: the guest's own
 * kernel opens those. */
static int tree_open(struct attach_tree *tree, const char *source, bool recursive, const json_t *overlay,
                     struct error *err)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? (unsigned)AT_RECURSIVE : 0);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV, .propagation = MS_SLAVE};
    struct stat status;
    tree->source = source;
    tree->fd = overlay ? overlay_mount_open(overlay, err) : open_tree(AT_FDCWD, source, flags);
    if (overlay && tree->fd < 0)
        return -1;
    if (tree->fd < 0)
        return error_set(err, errno, "take the tree %s", source);
    if (mount_setattr(tree->fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
        return error_set(err, errno, "flags of the tree %s", source);
    if (fstat(tree->fd, &status) < 0)
        return error_set(err, errno, "%s", source);
    tree->directory = S_ISDIR(status.st_mode);
    return 0;
}

/* In the child: makes the directories above the target and the target itself. 0 or -errno. */
static int child_make_target(const struct attach_tree *tree)
{
    char path[sizeof(tree->target)];
    memcpy(path, tree->target, sizeof(path));
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    if (tree->directory)
        return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int child_set_readonly(bool readonly)
{
    struct mount_attr attr = {.attr_set = readonly ? MOUNT_ATTR_RDONLY : 0,
                              .attr_clr = readonly ? 0 : MOUNT_ATTR_RDONLY};
    return mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int child_move_trees(const struct attach_tree *trees, size_t count, struct attach_report *report)
{
    int err = 0;
    for (size_t i = 0; i < count && !err; i++) {
        report->tree = (int)i;
        report->stage = STAGE_MAKE;
        err = child_make_target(&trees[i]);
        if (err)
            break;
        report->stage = STAGE_MOVE;
        if (move_mount(trees[i].fd, "", AT_FDCWD, trees[i].target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            err = -errno;
    }
    return err;
}

/* Whether the VMM has left the host's mount namespace. Without this look a VMM that has not closed its jail
 * would have the steps below change the host's own root. */
static int check_namespace(const struct sandbox *sandbox, struct error *err)
{
    char path[64];
    struct stat own, its;
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)sandbox->vmm.pid);
    if (stat("/proc/self/ns/mnt", &own) < 0 || stat(path, &its) < 0)
        return error_set(err, errno, "attach trees: %s", path);
    if (own.st_ino == its.st_ino && own.st_dev == its.st_dev)
        return error_set(err, 0, "attach trees: the VMM has no mount namespace of its own");
    return 0;
}

/* The child's whole life. Each stage is one line, so that a failure can be told from its number. */
static int child_attach(int vmm_pidfd, const struct attach_tree *trees, size_t count,
                        struct attach_report *report)
{
    report->stage = STAGE_ENTER;
    if (setns(vmm_pidfd, CLONE_NEWNS) < 0)
        return -errno;
    report->stage = STAGE_WRITABLE;
    int err = child_set_readonly(false);
    if (err)
        return err;
    err = child_move_trees(trees, count, report);
    if (err)
        return err;
    report->stage = STAGE_READONLY;
    return child_set_readonly(true);
}

static int attach_wait_child(pid_t child, int report_fd, const struct attach_tree *trees, struct error *err)
{
    struct attach_report report = {.code = ECHILD};
    int got = fd_read_full(report_fd, &report, sizeof(report));
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return error_set(err, ECHILD, "attach trees: the child was killed");
    if (report.code == 0)
        return 0;
    if (report.stage == STAGE_MAKE || report.stage == STAGE_MOVE)
        return error_set(err, report.code, "attach %s: %s", trees[report.tree].source,
                         stage_names[report.stage]);
    return error_set(err, report.code, "attach trees: %s", stage_names[report.stage]);
}

static int attach_trees(const struct sandbox *sandbox, const struct attach_tree *trees, size_t count,
                        struct error *err)
{
    int ends[2];
    if (check_namespace(sandbox, err) < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    cleanup_fd int report_read = ends[0], report_write = ends[1];
    pid_t child = fork();
    if (child < 0)
        return error_set(err, errno, "fork");
    if (child == 0) {
        struct attach_report report = {0};
        report.code = -child_attach(sandbox->vmm_pidfd, trees, count, &report);
        _exit(fd_write_full(report_write, &report, sizeof(report)) < 0);
    }
    fd_close(&report_write);
    return attach_wait_child(child, report_read, trees, err);
}

static void trees_close(struct attach_tree *trees, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fd_close(&trees[i].fd);
    free(trees);
}

/* Where the tree of a mount, or a hook's program, is in the container's directory. */
static void mount_name(char name[NAME_MAX], const struct bundle_mount *mount)
{
    snprintf(name, NAME_MAX, "%s%zu", mount->idmap ? SHARED_MAPPED : "mounts/", mount->index);
}

static json_t *create_hooks(const struct bundle *bundle)
{
    return json_object_get(bundle->hooks, "createContainer");
}

/* The programs of hooks that run in the guest, one plain file each. */
static int attach_hooks(struct attach_tree *trees, const char *container, const struct bundle *bundle,
                        struct error *err)
{
    for (size_t i = 0; i < json_array_size(create_hooks(bundle)); i++) {
        struct attach_tree *tree = &trees[i];
        const char *path =
            json_string_value(json_object_get(json_array_get(create_hooks(bundle), i), "path"));
        snprintf(tree->target, sizeof(tree->target), "/%s/hooks/%zu", container, i);
        if (tree_open(tree, path ? path : "", false, NULL, err) < 0)
            return error_wrap(err, "hooks.createContainer[%zu]", i);
        if (tree->directory)
            return error_set(err, EISDIR, "hooks.createContainer[%zu]: %s", i, path);
    }
    return 0;
}

int attach_bundle(const struct sandbox *sandbox, const char *container, const struct bundle *bundle,
                  struct error *err)
{
    size_t count = bundle->mount_count + 1 + json_array_size(create_hooks(bundle));
    struct attach_tree *trees = calloc(count, sizeof(*trees));
    if (!trees)
        return error_set(err, ENOMEM, "attach trees");
    for (size_t i = 0; i < count; i++)
        trees[i].fd = -1;
    snprintf(trees[0].target, sizeof(trees[0].target), "/%s/" SHARED_ROOTFS, container);
    int result = tree_open(&trees[0], bundle->rootfs, true, NULL, err);
    for (size_t i = 1; i <= bundle->mount_count && result == 0; i++) {
        const struct bundle_mount *mount = &bundle->mounts[i - 1];
        char name[NAME_MAX];
        mount_name(name, mount);
        snprintf(trees[i].target, sizeof(trees[i].target), "/%s/%s", container, name);
        result = tree_open(&trees[i], mount->source, mount->recursive, mount->overlay, err);
        if (result < 0)
            error_wrap(err, "mounts[%zu].source", mount->index);
    }
    if (result == 0)
        result = attach_hooks(trees + 1 + bundle->mount_count, container, bundle, err);
    if (result == 0)
        result = attach_trees(sandbox, trees, count, err);
    trees_close(trees, count);
    return result;
}

/* Adds {"<index>": path} to a map. 0 or -1. */
static int describe(json_t *map, size_t index, const char *container, const char *name)
{
    char key[24];
    snprintf(key, sizeof(key), "%zu", index);
    return json_object_set_new(map, key, json_sprintf("%s/%s", container, name));
}

/* Adds {NAME: [path ...]} when the host has mounts below the tree. 0 or -1. */
static int describe_submounts(json_t *map, const char *name, const char *source, struct error *err)
{
    json_t *paths = submounts_list(source, err);
    if (!paths)
        return -1;
    if (json_array_size(paths) > 0)
        return json_object_set_new(map, name, paths) < 0 ? error_set(err, ENOMEM, "container.create") : 0;
    json_decref(paths);
    return 0;
}

/* Those of all trees that are taken with what is mounted below them. A new object, or NULL with err filled.
 */
static json_t *describe_all_submounts(const struct bundle *bundle, struct error *err)
{
    json_t *map = json_object();
    int failed = map ? describe_submounts(map, "root", bundle->rootfs, err)
                     : error_set(err, ENOMEM, "container.create");
    for (size_t i = 0; i < bundle->mount_count && !failed; i++) {
        const struct bundle_mount *mount = &bundle->mounts[i];
        char key[24];
        snprintf(key, sizeof(key), "%zu", mount->index);
        if (mount->recursive)
            failed = describe_submounts(map, key, mount->source, err);
    }
    if (!failed)
        return map;
    json_decref(map);
    return NULL;
}

json_t *attach_describe(const char *container, const struct bundle *bundle, struct error *err)
{
    cleanup_json json_t *submounts = describe_all_submounts(bundle, err);
    if (!submounts)
        return NULL;
    json_t *mounts = json_object(), *hooks = json_object();
    char name[NAME_MAX];
    int failed = 0;
    for (size_t i = 0; i < bundle->mount_count && !failed; i++) {
        mount_name(name, &bundle->mounts[i]);
        failed = describe(mounts, bundle->mounts[i].index, container, name);
    }
    for (size_t i = 0; i < json_array_size(create_hooks(bundle)) && !failed; i++) {
        snprintf(name, sizeof(name), "hooks/%zu", i);
        failed = describe(hooks, i, container, name);
    }
    json_t *params = json_pack("{s:o, s:o, s:o, s:o, s:O}", "root",
                               json_sprintf("%s/" SHARED_ROOTFS, container), "mounts", mounts, "hooks", hooks,
                               "disks", host_disks_describe(&bundle->disks), "submounts", submounts);
    if (!failed && params)
        return params;
    json_decref(params);
    error_set(err, ENOMEM, "container.create");
    return NULL;
}

/* In the child: unmounts what lies in the directory `path` (of the VMM's root) and removes the names;
 * directories of mounts one level down as well. */
static void child_remove_tree(const char *path, int depth)
{
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char below[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >= (int)sizeof(below))
            continue;
        /* What is no mount is a directory of them. */
        if (umount2(below, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno == EINVAL && depth > 0)
            child_remove_tree(below, depth - 1);
        if (rmdir(below) < 0)
            unlink(below);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

void attach_undo(const struct sandbox *sandbox, const char *container)
{
    struct error err;
    char path[NAME_MAX + 2];
    int status = 0;
    if (check_namespace(sandbox, &err) < 0) {
        log_warn("%s", err.text);
        return;
    }
    snprintf(path, sizeof(path), "/%s", container);
    pid_t child = fork();
    if (child == 0) {
        if (setns(sandbox->vmm_pidfd, CLONE_NEWNS) < 0 || child_set_readonly(false) < 0)
            _exit(1);
        child_remove_tree(path, 1);
        _exit(child_set_readonly(true) < 0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child < 0 || status != 0)
        log_warn("the trees of container %s stay with its sandbox", container);
}
