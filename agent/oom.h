/*
 * Telling the host that the kernel killed a process of a container for want of memory (cgroup-v2,
 * "memory.events"). Called by the requests' handlers and by the container, in the loop's thread.
 */
#ifndef HUSK_AGENT_OOM_H
#define HUSK_AGENT_OOM_H

#include "agent/container.h"

/* container.events: keeps the request until the container has ended; until then its connection gets an event
 * "oom" for each time processes were killed. 0, or -1 with err filled. */
int oom_watch(struct container *container, struct request *request, struct error *err);

/* The container has ended or is freed: answers those who watched and stops watching. */
void oom_unwatch(struct container *container);

#endif
