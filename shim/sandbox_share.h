/*
 * Containers that belong together: one whose network namespace is that of a running sandbox becomes a
 * container of that sandbox, in the same VM, as a pod's containers do (podman's --network container:ID and
 * --pod).
 *
 * A sandbox lives as long as the container that it was made for, and ends with it. The others only come and
 * go.
 */
#ifndef HUSK_SHIM_SANDBOX_SHARE_H
#define HUSK_SHIM_SANDBOX_SHARE_H

#include "common/error.h"
#include "shim/store.h"

#include <jansson.h>

/* Finds the sandbox whose network namespace a config.json names by path: *sandbox is its ID (the caller
 * frees), or NULL when there is none. 0, or -1 with err filled. */
int sandbox_share_find(const struct store *store, const json_t *spec, char **sandbox, struct error *err);

/* Which containers of the sandbox have the namespaces that a config.json names by path (/proc/PID/ns/..., PID
 * being a container's for its callers): "namespaces" of container.create (protocol/protocol.h), new
 * reference, or NULL with err filled. */
json_t *sandbox_share_namespaces(const struct store *store, const json_t *spec, const char *sandbox,
                                 struct error *err);

#endif
