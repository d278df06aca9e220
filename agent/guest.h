/*
 * The guest's machine, as its PID 1 finds and leaves it: first mounts, last sync.
 */
#ifndef HUSK_AGENT_GUEST_H
#define HUSK_AGENT_GUEST_H

#include "agent/sandbox.h"
#include "common/error.h"

/* What must be there before anything else: a root that can be pivoted from, /dev, fds 0 to 2, the log. 0 or
 * -1.
 */
int guest_prepare(struct error *err);

/* The rest: /proc, /sys, cgroups, the shared tree, the loopback interface, limits. What fails is logged and
 * is missed only by who needs it. */
void guest_complete(void);

/* Ends every process, writes back what is not, and turns the machine off. Does not return. */
void guest_power_off(struct sandbox *sandbox);

#endif
