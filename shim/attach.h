/*
 * Attaching a container's trees to its sandbox: the root filesystem and the sources of its bind mounts appear
 * below the VMM's root, where its virtio-fs server shows them to the guest.
 *
 * Only the VMM's own mount namespace ever sees these mounts: they are detached copies (open_tree(2)) moved
 * there, so the host's mount table stays as it was and a VMM that dies leaves none behind.
 */
#ifndef HUSK_SHIM_ATTACH_H
#define HUSK_SHIM_ATTACH_H

#include "common/error.h"
#include "shim/bundle.h"
#include "shim/sandbox.h"

#include <jansson.h>

/* Attaches a bundle's trees at /CONTAINER/rootfs and /CONTAINER/mounts/INDEX (or mapped-INDEX, for what the
 * guest id-maps), and programs of createContainer hooks at /CONTAINER/hooks/INDEX. The VMM has closed its
 * jail (the agent has answered). 0, or -1 with err filled. */
int attach_bundle(const struct sandbox *sandbox, const char *container, const struct bundle *bundle,
                  struct error *err);

/* Takes a container's trees away again, from a sandbox that goes on; the guest has let go of them. What fails
 * is logged. */
void attach_undo(const struct sandbox *sandbox, const char *container);

/* What container.create is told about the trees: {"root", "mounts", "hooks"}, paths below the shared tree,
 * and "submounts" of the trees, paths below these (protocol.h). In the caller's mount namespace. A new
 * object, or NULL with err filled. */
json_t *attach_describe(const char *container, const struct bundle *bundle, struct error *err);

#endif
