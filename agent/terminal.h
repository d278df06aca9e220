/*
 * The pseudo-terminal of a process, from the container's own devpts.
 */
#ifndef HUSK_AGENT_TERMINAL_H
#define HUSK_AGENT_TERMINAL_H

#include "agent/spec.h"
#include "common/error.h"

/* Opens a new pseudo-terminal below root_fd, of process's size and user. Both fds are the caller's. 0 or -1.
 */
int terminal_open(const struct spec_process *process, int root_fd, int *master, int *slave,
                  struct error *err);

/* Makes the slave /dev/console below root_fd, as the specification wants for an init's terminal. 0 or -1. */
int terminal_make_console(int root_fd, int slave, struct error *err);

/* Makes the slave the calling session leader's controlling terminal and its fd 0, 1 and 2. 0 or -1. */
int terminal_take(int slave, struct error *err);

#endif
