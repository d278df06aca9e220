/*
 * What a container's mounts need of the agent's own rights and root, made ready before the container's
 * namespaces exist: copies of shared trees, id-mapped where that is asked for, and what stands in for
 * filesystems that a user namespace may not mount.
 */
#ifndef HUSK_AGENT_TREES_H
#define HUSK_AGENT_TREES_H

#include "common/error.h"

struct launch;

/* All are detached mounts (open_tree(2)), close-on-exec. */
struct trees {
    int root_fd;
    int *mount_fds;  /* by index in spec->mounts; -1: a filesystem that the container's own process mounts */
    int *hook_fds;   /* by index in spec->create_hooks: the program, a plain file */
    int *device_fds; /* see devices.h; NULL: device files are made where they belong */
};

/* Fills *trees; what it held is forgotten. Nothing is freed on failure: the caller's process ends then. Runs
 * in stage 1 (launch.c), in the agent's namespaces; may leave the agent's mount namespace for a copy. 0 or
 * -1. */
int trees_prepare(const struct launch *launch, struct trees *trees, struct error *err);

#endif
