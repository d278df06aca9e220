/*
 * What a process does inside its new namespaces, or to get into existing ones. Steps of launch.c's staircase.
 */
#ifndef HUSK_AGENT_NAMESPACES_H
#define HUSK_AGENT_NAMESPACES_H

#include "agent/spec.h"
#include "common/error.h"

/* Of an init, while it has the agent's rights: sysctls of a network namespace that is not the container's
 * alone. 0 or -1. */
int namespaces_prepare(const struct spec *spec, struct error *err);

/* Makes the time namespace of the children to be forked, owned by the current user namespace, and sets its
 * offsets. Needs the agent's /proc. 0 or -1. */
int namespaces_make_time(const struct spec *spec, struct error *err);

/* An init: the cgroup namespace (which must be made inside the cgroup), host and domain name, the other
 * sysctls. Needs the agent's /proc. 0 or -1. */
int namespaces_set_up(const struct spec *spec, struct error *err);

/* Brings the loopback interface of the current network namespace up. 0 or -errno. */
int namespaces_loopback_up(void);

#endif
