/*
 * Giving a container's cgroup to the container (cgroup-v2.rst, "Delegation").
 */
#ifndef HUSK_AGENT_CGROUP_DELEGATE_H
#define HUSK_AGENT_CGROUP_DELEGATE_H

#include "common/error.h"

#include <sys/types.h>

/* Makes `owner` the owner of the cgroup's directory and of the files that the kernel lists as delegatable
 * (/sys/kernel/cgroup/delegate), so that it can make cgroups below and move processes between them. Limits
 * stay the agent's. 0 or -1. */
int cgroup_delegate(int cgroup_fd, uid_t owner, struct error *err);

#endif
