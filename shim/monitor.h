/*
 * The monitor: the host process that stands for a container's process. Its pid is the container's pid for
 * every caller, it carries the standard streams, takes signals for the process, and ends as the process ends
 * (with its exit status or by its signal).
 *
 * It is forked by `create` or `run` and lives on when those exit, adopted by the caller's subreaper (conmon,
 * containerd's shim). It starts the sandbox and owns it. Whatever ends it, the sandbox ends with it: the
 * agent gives up when the control connection is lost.
 *
 * How it ends when the container did not end by itself (the VMM, the agent or the guest's kernel died): like
 * a process that was killed by SIGKILL, with the reason in the state and in the log.
 */
#ifndef HUSK_SHIM_MONITOR_H
#define HUSK_SHIM_MONITOR_H

#include "common/error.h"
#include "common/log.h"
#include "shim/bundle.h"
#include "shim/config.h"
#include "shim/host_cgroup.h"
#include "shim/monitor_fork.h"
#include "shim/preserved_fds.h"
#include "shim/store.h"

/* What a monitor is to make; all borrowed, valid in the forked child. */
struct monitor_task {
    const char *id;
    const struct store *store;
    const struct config *config;
    const struct bundle *bundle;
    int container_fd; /* the container's directory, locked; the child shares the lock */
    enum cgroup_manager cgroup_manager;
    int log_fd; /* --log's file, or -1 */
    enum log_format log_format;
    int console_fd;          /* the connected console socket, or -1 */
    int tty_fd;              /* a terminal in the foreground: the caller's, or -1 */
    const char *notify_path; /* NOTIFY_SOCKET, or NULL */
    struct preserved_fds preserved;
};

/* Forks a monitor and waits until the container is created. 0, or -1 with err filled: then nothing of it is
 * left. Committed (monitor_fork.h), it gives up the container's lock. Single-threaded callers only. */
int monitor_spawn(const struct monitor_task *task, struct monitor *monitor, struct error *err);

#endif
