/*
 * A container's figures from the files of its cgroup, for `events --stats`. Called by the request's handler.
 */
#ifndef HUSK_AGENT_STATS_H
#define HUSK_AGENT_STATS_H

#include "agent/cgroup.h"
#include "common/error.h"

#include <jansson.h>

/* The figures as protocol.h describes container.stats; what the kernel does not tell is absent. New
 * reference, or NULL with err filled. */
json_t *stats_read(const struct cgroup *cgroup, struct error *err);

#endif
