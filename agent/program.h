/*
 * The program of a process: found when the container is created, run when it is started.
 */
#ifndef HUSK_AGENT_PROGRAM_H
#define HUSK_AGENT_PROGRAM_H

#include "agent/spec.h"
#include "common/error.h"

#include <limits.h>

/* Socket activation: how many of the further fds are a service manager's, and LISTEN_FDNAMES, or NULL. */
struct program_activation {
    unsigned fds;
    const char *names;
};

/* Finds process->args[0], in PATH of process->env unless it has a slash, with the caller's rights, and writes
 * its path. Callers of OCI runtimes read the words of these errors, which are runc's: "executable file not
 * found in $PATH", "no such file or directory", "permission denied". 0 or -1. */
int program_find(const struct spec_process *process, char path[PATH_MAX], struct error *err);

/* Runs it, with HOME added from /etc/passwd where env has none, and what sd_listen_fds(3) reads when
 * `activation` says so. Returns only on failure: -1. */
int program_run(const struct spec_process *process, const char *path,
                const struct program_activation *activation, struct error *err);

#endif
