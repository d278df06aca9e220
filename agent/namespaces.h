/*
 * What a process does inside its new namespaces, or to get into existing ones. Steps of launch.c's staircase.
 */
#ifndef HUSK_AGENT_NAMESPACES_H
#define HUSK_AGENT_NAMESPACES_H

#include "agent/spec.h"
#include "common/error.h"

/* An init: the cgroup namespace (which must be made inside the cgroup), host and domain name, the loopback
 * interface, sysctls. Needs the agent's /proc. 0 or -1. */
int namespaces_set_up(const struct spec *spec, struct error *err);

/* A further process: joins all namespaces of the init but the pid namespace, which it was forked into. 0 or
 * -1.
 */
int namespaces_join(const struct spec *spec, int init_pidfd, struct error *err);

/* Brings the loopback interface of the current network namespace up. 0 or -errno. */
int namespaces_loopback_up(void);

#endif
