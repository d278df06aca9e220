/*
 * The list of a container's processes, for `ps` on the host. Called by the request's handler.
 */
#ifndef HUSK_AGENT_PROCESSES_H
#define HUSK_AGENT_PROCESSES_H

#include "agent/cgroup.h"
#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>

/* The processes in the cgroup and below, by ascending pid of the guest: {"pids": [N...]}, with `details`
 * {"processes": [{...}]} (container.processes of protocol.h). New reference, or NULL with err filled (E2BIG
 * when there are more than a frame holds). One that ends meanwhile is left out of the details. */
json_t *processes_list(const struct cgroup *cgroup, bool details, struct error *err);

#endif
