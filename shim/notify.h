/*
 * The host's side of sd_notify(3): what a container's processes say reaches the service manager that husk was
 * started by (NOTIFY_SOCKET). In the guest stands a socket of the agent's (agent/notify.h); the monitor
 * passes its messages on, as runc does, with its own pid for theirs.
 */
#ifndef HUSK_SHIM_NOTIFY_H
#define HUSK_SHIM_NOTIFY_H

#include "common/error.h"

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

/* The name of a container's socket in the guest's abstract namespace, for container.create. */
#define NOTIFY_NAME_MAX 108
void notify_name(char name[NOTIFY_NAME_MAX], const char *container);

/* A copy of config.json's object whose process has NOTIFY_SOCKET in its environment. New reference, or NULL
 * with err filled. */
json_t *notify_add_to_spec(json_t *spec, const char *container, struct error *err);

/* Rewrites a message of the container for the host: what is about fds is left out (none come along), and
 * MAINPID is `pid`, told with READY=1 as well. Bytes in `text` without the NUL; 0: nothing is left. What does
 * not fit is left out line by line. */
size_t notify_rewrite(const char *message, pid_t pid, char *text, size_t size);

/* Keeps the host's socket in reach of a process that leaves the host's mount namespace: the path to use from
 * then on, in `kept` or `path` itself (abstract, NULL, or nothing there). Opens an fd that stays. */
#define NOTIFY_KEPT_MAX 32
const char *notify_keep(const char *path, char kept[NOTIFY_KEPT_MAX]);

/* Sends the text to the host's socket `path` ("@..." is abstract). 0, or -1 with err filled. */
int notify_send(const char *path, const char *text, size_t length, struct error *err);

#endif
