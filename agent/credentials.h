/*
 * Who a process is and what it may do: limits, user, capabilities (OCI runtime-spec config.md "POSIX
 * process", "Linux Process"). Steps of the staircase in launch.c, to be taken in the order given here.
 */
#ifndef HUSK_AGENT_CREDENTIALS_H
#define HUSK_AGENT_CREDENTIALS_H

#include "agent/spec.h"
#include "common/error.h"

/* oom_score_adj, I/O priority: for the caller and what it forks, with the agent's rights. Needs
 * the agent's /proc. 0 or -1. */
int credentials_prepare(const struct spec_process *process, struct error *err);

/* Sets resource limits and scheduler of the process `pid`, with the agent's rights: called by the agent when
 * all is built, so that no limit of the container is met by the building of it. 0 or -1. */
int credentials_limit(pid_t pid, const struct spec_process *process, struct error *err);

/* Lets the process `pid` (0: the caller) run on these processors only, if given. 0 or -1. */
int credentials_place(pid_t pid, const struct spec_cpus *cpus, struct error *err);

/* Bounding set, user and groups, umask. All capabilities are kept for the steps that follow. 0 or -1. */
int credentials_set_user(const struct spec_process *process, struct error *err);

/* Makes the effective set what the program will have, so that a look-up of it meets the program's own rights,
 * and leaves the permitted set as it is, for what is still to be done. 0 or -1. */
int credentials_narrow(const struct spec_process *process, struct error *err);

/* Adds CAP_SYS_ADMIN to the effective set, for the moment that loading a filter takes. 0 or -1. */
int credentials_raise_admin(const struct spec_process *process, struct error *err);

/* The last step: the sets exactly as given, ambient ones too. 0 or -1. */
int credentials_settle(const struct spec_process *process, struct error *err);

#endif
