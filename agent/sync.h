/*
 * What the agent and a process it has forked say to each other until the program runs: a SOCK_SEQPACKET pair
 * whose end in the process is close-on-exec, so that the end of the conversation is the exec itself.
 *
 *   process -> agent   SYNC_TERMINAL (with the pseudo-terminal's master), SYNC_READY, SYNC_ERROR
 *   agent -> process   SYNC_START
 */
#ifndef HUSK_AGENT_SYNC_H
#define HUSK_AGENT_SYNC_H

#include "common/error.h"

enum sync_type { SYNC_TERMINAL, SYNC_READY, SYNC_ERROR, SYNC_START };

struct sync_message {
    enum sync_type type;
    struct error err; /* of SYNC_ERROR */
};

/* Sends a message; err only with SYNC_ERROR, pass_fd only with SYNC_TERMINAL (else NULL and -1). 0 or -errno.
 */
int sync_send(int fd, enum sync_type type, const struct error *err, int pass_fd);

/* Receives a message. *passed is the fd that came with it, the caller's, or -1. 1, 0 at the end of the
 * conversation, or -errno (-EAGAIN on a non-blocking fd, -EPROTO). */
int sync_receive(int fd, struct sync_message *message, int *passed);

#endif
