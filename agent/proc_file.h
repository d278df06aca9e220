/*
 * Files of the /proc that belongs to a container's pid namespace, for the host's view of the container
 * (container.proc of protocol.h): as the container's own processes would read them, whatever it has mounted.
 *
 * Called by the request's handler. Paths come from the host and are checked all the same.
 */
#ifndef HUSK_AGENT_PROC_FILE_H
#define HUSK_AGENT_PROC_FILE_H

#include "common/error.h"

#include <jansson.h>

/* A procfs of the pid namespace that the process is in. Waits for a helper, some milliseconds. fd, or -1 with
 * err filled: ESRCH when the process has ended. */
int proc_open(int pidfd, struct error *err);

/* `path` is "" for the processes, {"pids": [N...]}, or "NAME" or "PID/NAME" for a file, {"hex": TEXT}: two
 * digits a byte, PROC_FILE_BYTES_MAX bytes at most, or "PID/ns/NAME" for a link, {"link": TEXT}. New
 * reference, or NULL with err filled. */
json_t *proc_read(int proc_fd, const char *path, struct error *err);

#endif
