/*
 * What the agent and a process it has forked say to each other until the program runs: a SOCK_SEQPACKET pair
 * whose end in the process is close-on-exec, so that the end of the conversation is the exec itself.
 *
 *   stage 1 -> agent   SYNC_CHILD (with the process's pid and pidfd), SYNC_ERROR
 *   agent -> process   SYNC_GO
 *   process -> agent   SYNC_TERMINAL (with the pseudo-terminal's master), SYNC_READY, SYNC_ERROR
 *   agent -> process   SYNC_START
 */
#ifndef HUSK_AGENT_SYNC_H
#define HUSK_AGENT_SYNC_H

#include "common/error.h"

#include <sys/types.h>

enum sync_type { SYNC_CHILD, SYNC_GO, SYNC_TERMINAL, SYNC_READY, SYNC_ERROR, SYNC_START };

struct sync_message {
    enum sync_type type;
    pid_t pid;        /* of SYNC_CHILD, in the agent's pid namespace */
    struct error err; /* of SYNC_ERROR */
};

/* Sends a message; err only with SYNC_ERROR, pass_fd only with SYNC_TERMINAL (else NULL and -1). 0 or -errno.
 */
int sync_send(int fd, enum sync_type type, const struct error *err, int pass_fd);

/* Sends SYNC_CHILD. 0 or -errno. */
int sync_send_child(int fd, pid_t pid, int pidfd);

/* Waits for a message of that type, on a blocking fd. 0, -ECANCELED at the end of the conversation, -EPROTO
 * for any other message, or -errno. */
int sync_wait(int fd, enum sync_type type);

/* Receives a message. *passed is the fd that came with it, the caller's, or -1. 1, 0 at the end of the
 * conversation, or -errno (-EAGAIN on a non-blocking fd, -EPROTO). */
int sync_receive(int fd, struct sync_message *message, int *passed);

#endif
