/*
 * How a monitor comes to be and how it ends, whatever it stands for: a container's init (monitor.h) or a
 * further process (monitor_exec.h).
 *
 * Handshake over a socket pair: the monitor reports a struct error, whose code is 0 when its process is made;
 * the parent answers with a byte once its own part (the pid file) is done. A monitor whose parent vanishes
 * instead undoes everything, so a command killed at any moment leaves nothing.
 */
#ifndef HUSK_SHIM_MONITOR_FORK_H
#define HUSK_SHIM_MONITOR_FORK_H

#include "common/error.h"
#include "shim/preserved_fds.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The parent's hold on a monitor that is not yet on its own. */
struct monitor {
    pid_t pid;
    int channel_fd;
};

/* --- The parent's side. Single-threaded callers only. --- */

/* Forks; main(task, channel_fd) is the child's, and never returns. Waits for its report. 0, or -1 with err
 * filled by what it reported, or with ECHILD when it was killed before it could. */
int monitor_fork(void (*main)(const void *task, int channel_fd), const void *task, struct monitor *monitor,
                 struct error *err);

/* Sets the monitor on its own. 0, or -1 with err filled when it is gone. */
int monitor_commit(struct monitor *monitor, struct error *err);

/* Has a monitor that was not committed undo everything, and waits for that. */
void monitor_abandon(struct monitor *monitor);

/* --- The monitor's side. --- */

#define MONITOR_FDS_MAX 8

/* Closes every fd above standard error but those listed, at most MONITOR_FDS_MAX (-1 is passed over), and
 * those to be passed on: what the caller left open must not live as long as a monitor does. */
void monitor_close_other_fds(const int *own, size_t count, const struct preserved_fds *preserved);

/* Blocks all 64 signals, and gives a signalfd that takes them. It is the caller's, or -1 with err filled. */
int monitor_take_signals(struct error *err);

/* Reports to the parent and waits for its answer. True when the parent has signed, and the monitor is on its
 * own; never after an error was reported. */
bool monitor_report(int channel_fd, const struct error *err);

/* Ends as a process ended, by exit status or (number > 0) by a signal, so that waitpid(2) tells the truth to
 * whoever waits for the monitor; without a core dump of its own. */
void monitor_end_like(int status, int number) __attribute__((noreturn));

#endif
