/*
 * Changing the limits of a container that lives. Called by the handler of container.update.
 */
#ifndef HUSK_AGENT_CGROUP_UPDATE_H
#define HUSK_AGENT_CGROUP_UPDATE_H

#include "agent/cgroup.h"
#include "agent/spec.h"
#include "common/error.h"

/* Writes the values in their order. When one is refused, those written before get back what they were: all
 * or nothing. Device rules are left as they are. 0, or -1 with err naming the member. */
int cgroup_update(const struct cgroup *cgroup, const struct spec_resources *resources, struct error *err);

#endif
