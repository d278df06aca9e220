/*
 * Mounts of type overlay in config.json (podman's `--mount type=image` and `-v DIR:PATH:O`). Their layers are
 * directories of the host, so the host makes the mount, and the guest gets it as the tree of a bind mount.
 * Called by the bundle's reader and by the monitor; config.json is the caller's own, who could make the mount
 * too.
 */
#ifndef HUSK_SHIM_OVERLAY_MOUNT_H
#define HUSK_SHIM_OVERLAY_MOUNT_H

#include "common/error.h"

#include <jansson.h>

/* Makes an entry of config.json's mounts, of type overlay, the bind mount that the agent is to see: what its
 * options say to the filesystem goes to *layers (a new array of strings), the rest stays. `where` names the
 * entry. 0, or -1 with err. */
int overlay_mount_split(json_t *mount, const char *where, json_t **layers, struct error *err);

/* Mounts it, attached nowhere yet. The fd of its root, the caller's, or -1 with err. */
int overlay_mount_open(const json_t *layers, struct error *err);

#endif
