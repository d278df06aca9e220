/*
 * Sockets of the host that stand for a process's own: connections that it was given, and listening sockets,
 * of which each connection is accepted here and carried to the process as long as it lives. Each connection
 * has a thread.
 */
#ifndef HUSK_SHIM_MONITOR_SOCKETS_H
#define HUSK_SHIM_MONITOR_SOCKETS_H

#include "common/error.h"
#include "shim/agent_client.h"

#include <stdbool.h>

/* At one time for one process; more wait in the host's backlog. */
#define MONITOR_CONNECTIONS_MAX 256

struct monitor_sockets;

/* For a process of a container. address's fds stay open until this process ends. `ended(arg)` is called in
 * its thread by each connection that has ended. Lives as long as this process does. NULL with err filled. */
struct monitor_sockets *monitor_sockets_new(const struct agent_address *address, const char *container,
                                            const char *process, void (*ended)(void *arg), void *arg,
                                            struct error *err);

/* Carries a connection: the host's fd and the guest's stream, which are taken on success. 0, or -1. */
int monitor_sockets_add_connection(struct monitor_sockets *sockets, int host_fd, int guest_fd,
                                   struct error *err);

/* Accepts what comes at the listening socket, which is taken on success, for the process's stream of that
 * name. 0, or -1. */
int monitor_sockets_add_listener(struct monitor_sockets *sockets, int host_fd, const char *stream,
                                 struct error *err);

/* The process has ended: accepts no more. Whether no connection is left; NULL has none. */
bool monitor_sockets_finish(struct monitor_sockets *sockets);

#endif
