/*
 * Paths inside a container's root: see resolve.h. The image's author decides what lies there; the kernel's
 * RESOLVE_IN_ROOT does the resolving, in one system call, so that nothing can change under a check.
 */
#include "agent/resolve.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LINKS_MAX 40 /* as the kernel's own limit on nested symbolic links */

static int open_how(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
    /* EAGAIN: a rename or mount elsewhere made a ".." uncertain. */
    for (int tries = 0; tries < 128; tries++) {
        long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}

int resolve_open(int root_fd, const char *path, int flags)
{
    return open_how(root_fd, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int resolve_beneath(int root_fd, const char *path, int flags)
{
    return open_how(root_fd, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

/* Replaces path's first `prefix` characters, whose last component is the symbolic link `name` in parent_fd,
 * by what the link points to. */
static int path_follow_link(char path[PATH_MAX], size_t prefix, int parent_fd, const char *name)
{
    char target[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t length = readlinkat(parent_fd, name, target, sizeof(target) - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    int parent = (int)(prefix - strlen(name));
    int put = snprintf(joined, sizeof(joined), "%.*s%s%s", target[0] == '/' ? 0 : parent, path, target,
                       path + prefix);
    if (put < 0 || put >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(path, joined, (size_t)put + 1);
    return 0;
}

/* Opens path's parent, making what is missing; path changes when a link that leads nowhere is followed. On
 * return *name is the last component, which is not resolved yet. */
static int open_parent(int root_fd, char path[PATH_MAX], unsigned *links, const char **name)
{
    for (size_t at = 0;;) {
        while (path[at] == '/')
            at++;
        size_t end = at + strcspn(path + at, "/");
        size_t next = end + strspn(path + end, "/");
        /* The parent of this component, by a path that the kernel resolves from the root each time. */
        char saved = path[at];
        path[at] = '\0';
        cleanup_fd int parent_fd = resolve_open(root_fd, at ? path : "/", O_PATH | O_DIRECTORY);
        path[at] = saved;
        if (parent_fd < 0)
            return parent_fd;
        if (path[next] == '\0') {
            path[end] = '\0';
            *name = path + at;
            return take_fd(&parent_fd);
        }
        char separator = path[end];
        path[end] = '\0';
        int fd = resolve_open(root_fd, path, O_PATH | O_DIRECTORY);
        int err = fd < 0 ? fd : 0;
        if (fd >= 0)
            close(fd);
        if (err == -ENOENT) {
            err = mkdirat(parent_fd, path + at, 0755) < 0 ? -errno : 0;
            if (err == -EEXIST && ++*links <= LINKS_MAX) {
                char link_name[NAME_MAX + 1];
                snprintf(link_name, sizeof(link_name), "%s", path + at);
                path[end] = separator;
                err = path_follow_link(path, end, parent_fd, link_name);
                if (err)
                    return err;
                at = 0;
                continue;
            }
        }
        path[end] = separator;
        if (err)
            return err;
        at = next;
    }
}

int resolve_make_parent(int root_fd, const char *path, const char **name)
{
    char copy[PATH_MAX];
    unsigned links = 0;
    size_t length = strlen(path);
    if (length >= sizeof(copy))
        return -ENAMETOOLONG;
    memcpy(copy, path, length + 1);
    const char *last = "";
    int fd = open_parent(root_fd, copy, &links, &last);
    if (fd < 0)
        return fd;
    /* The caller's own path holds the same last component, unless it ends in a slash. */
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (strcmp(*name, last) != 0 || !**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) {
        close(fd);
        return -EINVAL;
    }
    return fd;
}

static int make_node(int parent_fd, const char *name, int directory)
{
    if (directory)
        return mkdirat(parent_fd, name, 0755) < 0 ? -errno : 0;
    int fd = openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int resolve_make(int root_fd, const char *given, int directory)
{
    int flags = directory ? O_PATH | O_DIRECTORY : O_PATH;
    char path[PATH_MAX];
    unsigned links = 0;
    size_t length = strlen(given);
    if (length >= sizeof(path))
        return -ENAMETOOLONG;
    memcpy(path, given, length + 1);
    for (;;) {
        int fd = resolve_open(root_fd, path, flags);
        if (fd != -ENOENT)
            return fd;
        const char *name = "";
        cleanup_fd int parent_fd = open_parent(root_fd, path, &links, &name);
        if (parent_fd < 0)
            return parent_fd;
        int err = make_node(parent_fd, name, directory);
        if (err && err != -EEXIST)
            return err;
        /* It exists and yet could not be opened: a link that leads nowhere; what it points to is made. */
        if (err && ++links > LINKS_MAX)
            return -ELOOP;
        if (err) {
            char link_name[NAME_MAX + 1];
            snprintf(link_name, sizeof(link_name), "%s", name);
            err = path_follow_link(path, strlen(path), parent_fd, link_name);
            if (err)
                return err;
        }
    }
}

int resolve_make_directory(int root_fd, const char *path)
{
    return resolve_make(root_fd, path, 1);
}

int resolve_make_file(int root_fd, const char *path)
{
    return resolve_make(root_fd, path, 0);
}
