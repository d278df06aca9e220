/*
 * Pausing a container: the freezer of its cgroup (kernel documentation cgroup-v2, "cgroup.freeze"). Called by
 * the requests' handlers and by the container, in the loop's thread.
 */
#ifndef HUSK_AGENT_FREEZER_H
#define HUSK_AGENT_FREEZER_H

#include "agent/container.h"

/* container.pause: keeps the request until every process stands still. 0, or -1 with err filled: ESRCH when
 * the container is neither created nor running. */
int freezer_pause(struct container *container, struct request *request, struct error *err);

/* container.resume: of one that is not paused as well. A pause under way fails with ECANCELED. 0, or -1 with
 * err filled. */
int freezer_resume(struct container *container, struct request *request, struct error *err);

/* cgroup.events has changed, or the container has ended: answers what waits for it. */
void freezer_changed(struct container *container);

#endif
