/*
 * The jail: what the process gives up before it touches anything of the guest's.
 *
 * Order (main.c): pid namespace, then jail_enter, then, once the machine is built, jail_drop_privileges, then
 * per thread seccomp (seccomp.h) and, for threads that serve no files, jail_drop_capabilities. There is no
 * way back from any of them.
 */
#ifndef HUSK_VMM_JAIL_H
#define HUSK_VMM_JAIL_H

#include "common/error.h"

#include <sys/types.h>

/* Makes the process's next child pid 1 of a new pid namespace, forks it, and has it killed when we die.
 * Returns 0 in the child and its pid in the parent, or -1 with err. Single-threaded callers only. */
pid_t jail_fork_pid_namespace(struct error *err);

/* /proc/self/fd as a mount of its own, attached nowhere: through it the file server reopens its O_PATH
 * descriptors, and
 * ".." leads nowhere. Before jail_enter, in the process that will serve. The fd, or -1 with err. */
int jail_open_proc_self_fd(struct error *err);

/* Leaves the host's mount, ipc, uts and cgroup namespaces and pivots into the tree below shared_fd (an O_PATH
 * directory, its submounts included) or, with -1, into an empty read-only tmpfs where the shim attaches
 * trees. Set-user-id bits, device nodes and execution have no effect there. 0 or -1. */
int jail_enter(int shared_fd, struct error *err);

/* Resource limits: as many descriptors as we may have, no core file. 0 or -1. */
int jail_raise_limits(struct error *err);

/* Keeps the capabilities that a file server needs and no others, for good; lets setfsuid keep them; sets
 * no_new_privs. 0 or -1. */
int jail_drop_privileges(struct error *err);

/* The calling thread keeps no capability at all. 0 or -errno. */
int jail_drop_capabilities(void);

#endif
