/*
 * Open files that a caller wants to pass on to a process: --preserve-fds, and those of socket activation
 * (sd_listen_fds(3)). An open file is an object of the host's kernel, and the process has another kernel.
 * What can be told from the outside by its bytes alone is carried like a standard stream: a pipe or a file
 * opened for reading only or for writing only comes out as a pipe; /dev/null is the guest's. A connection
 * (IPv4, IPv6, Unix stream) and a listening socket come out as sockets of the guest with the same addresses,
 * and the monitor carries the bytes of each connection; fds and credentials sent over a Unix socket
 * (SCM_RIGHTS) do not come along. All else is refused by what it is.
 */
#ifndef HUSK_SHIM_PRESERVED_FDS_H
#define HUSK_SHIM_PRESERVED_FDS_H

#include "common/error.h"
#include "protocol/protocol.h"

#include <jansson.h>

enum preserved_kind {
    PRESERVED_NULL,
    PRESERVED_INPUT,
    PRESERVED_OUTPUT,
    PRESERVED_SOCKET,
    PRESERVED_LISTENER
};

struct preserved_fd {
    int number; /* ours, and the process's */
    enum preserved_kind kind;
};

struct preserved_fds {
    struct preserved_fd fd[PROCESS_FDS_MAX];
    unsigned count;
    unsigned activated; /* LISTEN_FDS: that many from the first on are a service manager's */
};

/* Finds what the caller passes on: of `count` fds from 3 on those that it left open (this process's own are
 * close-on-exec and not meant), behind those of LISTEN_FDS in this process's environment. 0, or -1 with err
 * when one of them cannot be carried. Those found become close-on-exec: no child of this process is to have
 * them. */
int preserved_fds_find(struct preserved_fds *fds, unsigned count, struct error *err);

/* The "fds" of a request to make the process (protocol.h). New reference, or NULL. */
json_t *preserved_fds_describe(const struct preserved_fds *fds);

/* Its "activation", of this process's environment. New reference, or NULL when there is none. */
json_t *preserved_fds_describe_activation(const struct preserved_fds *fds);

#endif
