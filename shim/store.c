/*
 * Directories of state and their locks: see store.h. Container IDs come from the command line; nothing else
 * here is foreign, the tree below --root is root's own (0700).
 */
#include "shim/store.h"

#include "common/fd.h"
#include "protocol/protocol.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DIR_MODE 0700

/* mkdir -p. */
static int store_make_root(const char *root, struct error *err)
{
    char path[PATH_MAX];
    size_t length = strlen(root);
    if (length == 0 || length >= sizeof(path))
        return error_set(err, length ? ENAMETOOLONG : 0, "--root \"%s\"", root);
    memcpy(path, root, length + 1);
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at)
            continue;
        char kept = *at;
        *at = '\0';
        if (mkdir(path, DIR_MODE) < 0 && errno != EEXIST)
            return error_set(err, errno, "make %s", path);
        if (!kept)
            return 0;
        *at = kept;
    }
}

/* Opens a directory below the root, which is made when it is not there: engines ask for states hundreds of
 * times, so what is usual takes one system call. */
static int store_open_below(const struct store *store, int root_fd, const char *name, struct error *err)
{
    for (;;) {
        int fd = openat(root_fd, name, O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != ENOENT)
            return error_set(err, errno, "open %s/%s", store->root, name);
        if (mkdirat(root_fd, name, DIR_MODE) < 0 && errno != EEXIST)
            return error_set(err, errno, "make %s/%s", store->root, name);
    }
}

int store_init(struct store *store, const char *root, struct error *err)
{
    *store = (struct store){.containers_fd = -1, .sandboxes_fd = -1};
    cleanup_fd int root_fd = open(root, O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 && errno == ENOENT && *root) {
        if (store_make_root(root, err) < 0)
            return -1;
        root_fd = open(root, O_DIRECTORY | O_CLOEXEC);
    }
    if (root_fd < 0)
        return error_set(err, *root ? errno : 0, "--root \"%s\"", root);
    store->root = realpath(root, NULL);
    if (!store->root)
        return error_set(err, errno, "open %s", root);
    store->containers_fd = store_open_below(store, root_fd, "containers", err);
    if (store->containers_fd >= 0)
        store->sandboxes_fd = store_open_below(store, root_fd, "sandboxes", err);
    if (store->sandboxes_fd >= 0)
        return 0;
    store_fini(store);
    return -1;
}

void store_fini(struct store *store)
{
    fd_close(&store->containers_fd);
    fd_close(&store->sandboxes_fd);
    free(take_ptr(&store->root));
}

int store_check_id(const char *id, struct error *err)
{
    size_t length = strlen(id);
    if (length == 0)
        return error_set(err, 0, "container ID is empty");
    if (length > CONTAINER_ID_MAX)
        return error_set(err, 0, "container ID is longer than %d characters", CONTAINER_ID_MAX);
    if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0 ||
        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.") != length)
        return error_set(err, 0, "invalid container ID \"%s\"", id);
    return 0;
}

int store_open_container(const struct store *store, const char *id, struct error *err)
{
    if (store_check_id(id, err) < 0)
        return -1;
    int fd = openat(store->containers_fd, id, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT) {
            error_set(err, 0, "container does not exist");
            if (err)
                err->code = ENOENT;
        } else {
            error_set(err, errno, "open %s/containers/%s", store->root, id);
        }
    }
    return fd;
}

/* Locks an open directory, then makes sure that it is still the one its name leads to: its last holder may
 * have removed it. 1, or 0 when it is another, or -errno. */
static int store_lock_fd(const struct store *store, const char *id, int fd)
{
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    struct stat held, named;
    if (fstat(fd, &held) < 0)
        return -errno;
    if (fstatat(store->containers_fd, id, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    return held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

int store_lock_container(const struct store *store, const char *id, struct error *err)
{
    for (;;) {
        cleanup_fd int fd = store_open_container(store, id, err);
        if (fd < 0)
            return -1;
        int same = store_lock_fd(store, id, fd);
        if (same < 0)
            return error_set(err, -same, "lock %s/containers/%s", store->root, id);
        if (same)
            return take_fd(&fd);
    }
}

int store_create_container(const struct store *store, const char *id, struct error *err)
{
    if (store_check_id(id, err) < 0)
        return -1;
    for (;;) {
        if (mkdirat(store->containers_fd, id, DIR_MODE) < 0 && errno != EEXIST)
            return error_set(err, errno, "make %s/containers/%s", store->root, id);
        cleanup_fd int fd = openat(store->containers_fd, id, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return error_set(err, errno, "open %s/containers/%s", store->root, id);
        /* A taken ID is told at once, without waiting for a creator or a deleter that holds the lock. */
        if (faccessat(fd, STORE_STATE_FILE, F_OK, 0) == 0)
            return error_set(err, 0, "container with given ID already exists");
        int same = store_lock_fd(store, id, fd);
        if (same < 0)
            return error_set(err, -same, "lock %s/containers/%s", store->root, id);
        if (!same)
            continue;
        if (faccessat(fd, STORE_STATE_FILE, F_OK, 0) == 0)
            return error_set(err, 0, "container with given ID already exists");
        return take_fd(&fd);
    }
}

int store_create_sandbox(const struct store *store, const char *id, struct error *err)
{
    if (mkdirat(store->sandboxes_fd, id, DIR_MODE) < 0)
        return error_set(err, errno, "make %s/sandboxes/%s", store->root, id);
    return store_open_sandbox(store, id, err);
}

int store_open_sandbox(const struct store *store, const char *id, struct error *err)
{
    int fd = openat(store->sandboxes_fd, id, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error_set(err, errno, "open %s/sandboxes/%s", store->root, id);
    return fd;
}

/* Unlinks every file of a flat directory but `keep`. 0 or -errno. */
static int store_empty_dir(int dir_fd, const char *keep)
{
    int copy = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        int err = -errno;
        fd_close(&copy);
        return err;
    }
    int err = 0;
    rewinddir(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            (keep && strcmp(entry->d_name, keep) == 0))
            continue;
        if (unlinkat(dir_fd, entry->d_name, 0) < 0 && errno != ENOENT)
            err = -errno;
    }
    closedir(dir);
    return err;
}

static int store_remove_dir(int parent_fd, const char *name, const char *last)
{
    cleanup_fd int fd = openat(parent_fd, name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int err = store_empty_dir(fd, last);
    if (err)
        return err;
    if (last && unlinkat(fd, last, 0) < 0 && errno != ENOENT)
        return -errno;
    return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int store_remove_sandbox(const struct store *store, const char *id, struct error *err)
{
    int result = store_remove_dir(store->sandboxes_fd, id, NULL);
    return result ? error_set(err, -result, "remove %s/sandboxes/%s", store->root, id) : 0;
}

int store_remove_container(const struct store *store, const char *id, struct error *err)
{
    int result = store_remove_dir(store->containers_fd, id, STORE_STATE_FILE);
    return result ? error_set(err, -result, "remove %s/containers/%s", store->root, id) : 0;
}
