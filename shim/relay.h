/*
 * Standard streams of a container's process: bytes go between the monitor's own fds 0, 1, 2 and the agent's
 * stream connections, each direction in a thread that blocks.
 *
 * Threads, not an event loop: the monitor's fds are shared with the caller (a terminal, a file, conmon's
 * pipes), and making them non-blocking would change them under the caller's feet. Back-pressure is then the
 * kernel's: a relay holds at most one buffer, and nothing is ever dropped.
 */
#ifndef HUSK_SHIM_RELAY_H
#define HUSK_SHIM_RELAY_H

#include "common/error.h"

#include <pthread.h>
#include <stdbool.h>

struct relay {
    const char *name; /* "stdin", "stdout", "stderr", "terminal input", "terminal output" */
    int from_fd;      /* both are the relay's */
    int to_fd;
    bool to_socket;           /* towards the guest: half-close at the end of input... */
    bool keep_open;           /* ...unless this says that the end of input is none of the guest's concern */
    void (*ended)(void *arg); /* called in the relay's thread when all is said, or NULL */
    void *ended_arg;
    pthread_t thread;
};

/* Starts the thread; fills nothing but `thread`. The struct stays until the process ends or relay_join
 * returned. 0, or -1 with err filled. */
int relay_start(struct relay *relay, struct error *err);

/* The relay's work, in the caller's thread: until the end of input or until the reader is gone; then closes
 * both fds in the way their peers expect. */
void relay_run(struct relay *relay);

/* Waits for the thread's end. */
void relay_join(struct relay *relay);

#endif
