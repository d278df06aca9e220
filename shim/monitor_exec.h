/*
 * The monitor of a further process of a container (exec). It stands for the process as the container's
 * monitor does for its init (monitor.h), but owns no sandbox: its end, however it comes, ends its process and
 * nothing else, because the agent kills what the lost connection owned.
 *
 * In the foreground the calling process is the monitor itself: nothing has to be forked, and whoever waits
 * for `husk exec` waits for the process. Detached, it is a child that goes on when the command has ended,
 * adopted by the caller's subreaper.
 */
#ifndef HUSK_SHIM_MONITOR_EXEC_H
#define HUSK_SHIM_MONITOR_EXEC_H

#include "common/error.h"
#include "common/log.h"
#include "shim/monitor_fork.h"
#include "shim/preserved_fds.h"
#include "shim/store.h"

#include <jansson.h>

/* What is to be run, and where; all borrowed. */
struct exec_task {
    const struct store *store;
    const char *container;    /* ID */
    const char *sandbox;      /* ID */
    const json_t *cgroup;     /* the container's on the host, as its state has it; or NULL */
    const char *guest_cgroup; /* below the container's, or NULL: the container's own */
    json_t *spec;             /* OCI process object */
    bool terminal;
    int console_fd; /* the connected console socket, or -1 */
    int tty_fd;     /* a terminal in the foreground: the caller's, or -1 */
    int log_fd;     /* --log's file, or -1 */
    enum log_format log_format;
    struct preserved_fds preserved;
};

/* Runs the process in the foreground. `made(arg, err)` is called when its program runs; if it fails, the
 * process is killed. Signals that come to this process are the process's; its terminal is raw meanwhile. The
 * exit status that a shell would give (0..255), or -1 with err filled. When the sandbox was lost meanwhile,
 * the status is that of a process killed by SIGKILL and err says why; else err->code is 0. Single-threaded
 * callers only. */
int monitor_exec_run(const struct exec_task *task, int (*made)(void *arg, struct error *err), void *arg,
                     struct error *err);

/* Forks a monitor that runs the process, and waits until its program runs. 0, or -1 with err filled: then
 * nothing of it is left. To be committed or abandoned (monitor_fork.h). Single-threaded callers only. */
int monitor_exec_spawn(const struct exec_task *task, struct monitor *monitor, struct error *err);

#endif
