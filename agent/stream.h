/*
 * One stream of a process: bytes between a local fd (a pipe's end, a pseudo-terminal's master or a connected
 * socket) and the connection that the host opened for it. When the host ends its half of a terminal, that is
 * hung up.
 *
 * Back-pressure goes both ways: a side is read only while what was read before fits on the other. Until the
 * host has connected nothing moves, and what the process writes waits in its pipe. Belongs to the loop's
 * thread.
 */
#ifndef HUSK_AGENT_STREAM_H
#define HUSK_AGENT_STREAM_H

#include "common/error.h"
#include "common/loop.h"

#include <stdbool.h>

enum stream_kind {
    STREAM_STDIN,    /* remote to local */
    STREAM_STDOUT,   /* local to remote */
    STREAM_STDERR,   /* local to remote */
    STREAM_TERMINAL, /* both */
    STREAM_SOCKET    /* both, and each may end before the other */
};
#define STREAM_KINDS 5

/* "stdin", "stdout", "stderr", "terminal", "socket". */
extern const char *const stream_names[STREAM_KINDS];

struct stream;

/* A stream that owns local_fd. `drained(arg)` is called at most once, after stream_finish, when what the
 * process left behind has been handed over. NULL with err filled; local_fd is then still the caller's. */
struct stream *stream_new(struct loop *loop, enum stream_kind kind, int local_fd, void (*drained)(void *arg),
                          void *arg, struct error *err);

/* Closes both sides. NULL is fine. */
void stream_free(struct stream *stream);

/* 0, or -1 with err filled (EBUSY) when the host has opened it before. */
int stream_check_unopened(const struct stream *stream, struct error *err);

/* Starts moving bytes to and from remote_fd, which it owns from now on. 0, or -1 (EBUSY: opened before) with
 * remote_fd still the caller's. */
int stream_connect(struct stream *stream, int remote_fd, struct error *err);

/* Whether the host has announced that it will connect: then what the process says is kept for it, even beyond
 * the process's end. */
void stream_expect(struct stream *stream, bool expected);

/* The process has ended: what its output holds at this moment is to be handed over, and no more is waited
 * for, since processes it left behind may keep the pipe open: it is closed once that is done. */
void stream_finish(struct stream *stream);

/* Whether all that was to be handed over has been; without a connection there is nobody to hand it to. */
bool stream_is_drained(const struct stream *stream);

/* Whether no byte can move any more: each direction has ended, or the host never connected. */
bool stream_is_over(const struct stream *stream);

/* Sets a terminal's size. 0 or -errno. */
int stream_resize(struct stream *stream, unsigned short rows, unsigned short columns);

#endif
