/*
 * Hooks that run in a container's namespaces: createContainer before the root is entered, startContainer
 * after.
 */
#ifndef HUSK_AGENT_HOOKS_H
#define HUSK_AGENT_HOOKS_H

#include "agent/launch.h"
#include "common/error.h"

/* Runs them in their order, each with the container's state on its standard input, and stops at the first
 * that fails. `kind` is their member of config.json, `status` the state's. program_fds, where not NULL, hold
 * the programs, by index. 0 or -1. */
int hooks_run(const struct launch *launch, const struct spec_hooks *hooks, const char *kind,
              const char *status, const int *program_fds, struct error *err);

#endif
