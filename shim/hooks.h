/*
 * Hooks of config.json that run on the host (OCI runtime-spec "POSIX-platform Hooks"): prestart and
 * createRuntime while a container is created, poststart after its start, poststop after its deletion.
 * createContainer and startContainer are the agent's.
 */
#ifndef HUSK_SHIM_HOOKS_H
#define HUSK_SHIM_HOOKS_H

#include "common/error.h"
#include "shim/container_state.h"

/* Runs the hooks of one kind in the listed order, each with the state on its standard input, waiting for each
 * (at most its timeout). Stops at the first failure: 0, or -1 with err filled ("hooks.prestart[0]: ..."). No
 * hooks of the kind: 0. May be called while signals are blocked; the hook starts with none blocked. `enter`,
 * if not NULL, runs in the hook's process before its program: async-signal-safe calls only. */
int hooks_run(const struct container_state *state, const char *kind, void (*enter)(void *arg), void *arg,
              struct error *err);

/* Checks the hooks' form without running them. 0, or -1 with err filled. */
int hooks_check(const json_t *hooks, struct error *err);

#endif
