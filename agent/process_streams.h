/*
 * What a process has open besides its program: standard fds, a terminal, and further fds from
 * PROCESS_FDS_FIRST on, each with a stream (stream.h) to the host. A listening socket has as many as the host
 * has connections for it. Requests of the host are not trusted. Belongs to the loop's thread.
 */
#ifndef HUSK_AGENT_PROCESS_STREAMS_H
#define HUSK_AGENT_PROCESS_STREAMS_H

#include "agent/sockets.h"
#include "agent/stream.h"
#include "common/loop.h"
#include "protocol/protocol.h"

#include <jansson.h>
#include <sys/queue.h>

/* What becomes a standard stream of a process without terminal. */
enum process_stdio {
    PROCESS_STDIO_STREAM, /* a stream that the host opens */
    PROCESS_STDIO_NULL,   /* /dev/null */
    PROCESS_STDIO_STDOUT  /* of stderr only: the same as stdout, so that what is written stays in its order */
};

/* What becomes of a further fd. */
enum process_fd_kind {
    PROCESS_FD_CLOSED,
    PROCESS_FD_NULL,
    PROCESS_FD_INPUT,
    PROCESS_FD_OUTPUT,
    PROCESS_FD_SOCKET,
    PROCESS_FD_LISTENER
};

struct process_fd {
    enum process_fd_kind kind;
    bool ipv6_only;                /* of a listener */
    struct socket_address address; /* of a socket or listener */
    struct socket_peer peer;       /* of a socket */
};

struct process_streams_wish {
    bool expect;                                 /* the host opens the streams while the process is made */
    enum process_stdio stdio[STREAM_STDERR + 1]; /* without terminal */
    struct process_fd fds[PROCESS_FDS_MAX];      /* from PROCESS_FDS_FIRST on */
};

/* By enum stream_kind, then those of the further fds. */
#define PROCESS_STREAMS (STREAM_KINDS + PROCESS_FDS_MAX)

/* A connection to a listening socket. */
struct process_connection {
    LIST_ENTRY(process_connection) link;
    struct stream *stream;
};

struct process_streams {
    struct loop *loop;
    void (*drained)(void *arg); /* stream_new's */
    void *arg;
    bool expect;
    struct stream *streams[PROCESS_STREAMS];
    struct socket_address *listeners[PROCESS_FDS_MAX]; /* where to connect, or NULL */
    LIST_HEAD(, process_connection) connections;
};

/* Takes "stdio" and "fds" of a request's params. 0 or -1. */
int process_streams_parse(struct process_streams_wish *wish, const json_t *params, struct error *err);

/* `drained(arg)` is called by each stream as stream_new says. */
void process_streams_init(struct process_streams *streams, struct loop *loop, void (*drained)(void *arg),
                          void *arg);

/* Closes everything. */
void process_streams_free(struct process_streams *streams);

/* Makes the streams of a wish. The process's ends go to stdio (unless terminal) and fds, all -1 before, which
 * the caller closes, also on failure. 0 or -1. */
int process_streams_make(struct process_streams *streams, const struct process_streams_wish *wish,
                         bool terminal, int stdio[3], int fds[PROCESS_FDS_MAX], struct error *err);

/* Takes the master of its terminal. 0, or -1 with master still the caller's. */
int process_streams_add_terminal(struct process_streams *streams, int master, struct error *err);

/* The stream that a host's first frame (protocol.h) names; of a listening socket a new one. NULL with err:
 * ENOENT when it has none of the name. */
struct stream *process_streams_open(struct process_streams *streams, const json_t *first_frame,
                                    struct error *err);

/* stream_finish, stream_expect(.., false), stream_is_drained and stream_is_over of all. */
void process_streams_finish(struct process_streams *streams);
void process_streams_expect_none(struct process_streams *streams);
bool process_streams_are_drained(const struct process_streams *streams);
bool process_streams_are_over(const struct process_streams *streams);

#endif
