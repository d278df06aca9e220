/*
 * Paths inside a container's root, resolved so that no symbolic link, no ".." and no mount made by an image
 * can lead out of it (openat2 with RESOLVE_IN_ROOT). Called between fork and exec, before the pivot.
 */
#ifndef HUSK_AGENT_RESOLVE_H
#define HUSK_AGENT_RESOLVE_H

#include "common/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Opens `path` below root_fd with open flags (O_CLOEXEC is added). Symbolic links are followed as if root_fd
 * were "/". fd or -errno. */
int resolve_open(int root_fd, const char *path, int flags);

/* Opens `path` below root_fd, in which no component may be a symbolic link or "..": for what the host named.
 * fd or -errno. */
int resolve_beneath(int root_fd, const char *path, int flags);

/* Opens the directory (O_PATH), made with its parents where it is missing, mode 0755. fd or -errno. */
int resolve_make_directory(int root_fd, const char *path);

/* As resolve_make_directory for an empty regular file in such a directory. fd or -errno. */
int resolve_make_file(int root_fd, const char *path);

/* Opens (O_PATH) the parent directory of path, made where missing, and points *name at the last component in
 * path. fd, or -errno: -EINVAL when the last component is no name. */
int resolve_make_parent(int root_fd, const char *path, const char **name);

#endif
