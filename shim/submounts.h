/*
 * What the host has mounted below a tree that a container gets. The guest sees such a mount when it first
 * uses the directory; the agent, told the paths, has it appear before the container starts, as with a runtime
 * on the host (protocol.h, "submounts"). Called by the monitor, in the caller's mount namespace.
 */
#ifndef HUSK_SHIM_SUBMOUNTS_H
#define HUSK_SHIM_SUBMOUNTS_H

#include "common/error.h"

#include <jansson.h>

/* Paths, relative to `source` (absolute), of the mount points below it in the caller's mount namespace, outer
 * ones first, SUBMOUNTS_MAX at most. A new array, empty when there are none, or NULL with err filled: EIO
 * (proc(5) can't be read), ENOMEM, or what realpath(3) has against the source. */
json_t *submounts_list(const char *source, struct error *err);

#endif
