/*
 * Namespaces that a container shares with another one of the sandbox. config.json names them by a path of the
 * host's /proc; the host says in container.create which container that is.
 */
#ifndef HUSK_AGENT_JOINS_H
#define HUSK_AGENT_JOINS_H

#include "agent/container.h"
#include "common/error.h"

/* Finds, for each of the container's spec->joins, the init that has the namespace: its pidfd, which stays
 * that process's, goes to join_pidfds. A joined user namespace has the mappings of its own container,
 * whatever config.json says: they replace the spec's. 0, or -1 with err naming the member. */
int joins_resolve(struct container *container, int join_pidfds[SPEC_NAMESPACES], struct error *err);

#endif
