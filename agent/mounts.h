/*
 * One mount of a container: made detached, given its attributes, and only then moved to its place.
 */
#ifndef HUSK_AGENT_MOUNTS_H
#define HUSK_AGENT_MOUNTS_H

#include "agent/spec.h"
#include "common/error.h"

#include <stdint.h>

/* Mounts `mount` in the root root_fd: the detached tree_fd, or with -1 a new filesystem. 0 or -1 with the
 * step in err. */
int mounts_apply(const struct spec_mount *mount, int root_fd, int tree_fd, struct error *err);

/* A new filesystem of that type, mounted nowhere yet. fd, or -1 with the kernel's own words in err. `source`
 * may be NULL; `data` is NULL or NULL-terminated. */
int mounts_new_filesystem(const char *type, const char *source, const char *const *data, struct error *err);

/* A detached copy of the mount at fd (a file or directory), with AT_RECURSIVE all mounts below it. fd or
 * -errno. */
int mounts_clone(int fd, unsigned at_recursive);

/* Puts the detached mount on the file or directory place_fd. 0 or -errno. */
int mounts_attach(int mount_fd, int place_fd);

/* Sets and clears MOUNT_ATTR_* and sets the propagation (0: leaves it) of the mount at fd. 0 or -errno. */
int mounts_set_attributes(int fd, unsigned at_recursive, uint64_t set, uint64_t clear, uint64_t propagation);

#endif
