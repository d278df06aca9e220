/*
 * The container's root filesystem: the tree the host shared, what is mounted into it, and the pivot.
 *
 * Runs between fork and exec, in the container's new mount namespace, whose other inhabitant is the agent's
 * own root. Everything is addressed by fd relative to the new root, so that nothing in an image can redirect
 * it.
 */
#ifndef HUSK_AGENT_ROOTFS_H
#define HUSK_AGENT_ROOTFS_H

#include "agent/spec.h"
#include "agent/trees.h"
#include "common/error.h"

/* Attaches trees->root_fd, which is the new root from then on, and mounts what spec->mounts says, in order. 0
 * or -1. */
int rootfs_attach(const struct spec *spec, const struct trees *trees, struct error *err);

/* Applies maskedPaths, readonlyPaths and root.readonly. After this nothing can be made in the root. 0 or -1.
 */
int rootfs_protect(const struct spec *spec, int root_fd, struct error *err);

/* Makes root_fd "/", and what was "/" unreachable. 0 or -1. */
int rootfs_pivot(const struct spec *spec, int root_fd, struct error *err);

/* Directory in the agent's own root on which a container's root is attached, in its own mount namespace. */
#define ROOTFS_ATTACH_DIR "/run/husk/root"

#endif
