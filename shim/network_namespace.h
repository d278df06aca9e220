/*
 * The pod's network namespace as config.json names it (OCI runtime-spec "Namespaces"): joined by path, or
 * made.
 *
 * The monitor enters it before it starts the VMM and stays: /proc/PID/ns/net of the pid that callers know is
 * then the pod's, as with any runtime, and a namespace without a path lives as long as the sandbox.
 * config.json is foreign input.
 */
#ifndef HUSK_SHIM_NETWORK_NAMESPACE_H
#define HUSK_SHIM_NETWORK_NAMESPACE_H

#include "common/error.h"

#include <jansson.h>

/* Finds the network namespace in a config.json: *path is borrowed from it, or NULL for one that is to be
 * made. 0, or -1 with err filled when there is none, which would put the container on the host's network. */
int network_namespace_find(const json_t *spec, const char **path, struct error *err);

/* Opens the namespace at `path`. fd, the caller's, or -1 with err filled: also for one that is the host's. */
int network_namespace_open(const char *path, struct error *err);

/* Moves the thread into the namespace at `path`, or (NULL) into a new one whose loopback interface is up. The
 * fd of the namespace that it was in before, the caller's, or -1 with err filled. */
int network_namespace_enter(const char *path, struct error *err);

#endif
