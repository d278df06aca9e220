/*
 * Streams between processes and the host: see stream.h.
 *
 * A stream is one flow, or two for a terminal or a socket. A flow is a ring of one segment: read into an
 * empty buffer, then write it out. Level-triggered events wake the stream when the side it waits for is
 * ready; a side that nothing is wanted from is taken out of the loop, because a hung-up pipe would otherwise
 * wake it for ever.
 */
#include "agent/stream.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define FLOW_BYTES (128u << 10)
/* What is read of a terminal after its process's end unless it is empty before: more than it holds. How much
 * that is, FIONREAD does not tell, because some of it may still be on its way through the kernel's buffers.
 */
#define TERMINAL_LEFT_MAX (1u << 20)
#define FLOW_ROUNDS       16 /* reads in one turn, so that one busy stream does not starve the others */

const char *const stream_names[STREAM_KINDS] = {"stdin", "stdout", "stderr", "terminal", "socket"};

/* Bytes on their way from one side to the other. */
struct flow {
    bool active; /* the stream has this direction, and it has not ended */
    bool at_end; /* the source has ended; what is buffered still has to go */
    char *buffer;
    size_t start, length;
};

struct side {
    struct watch watch; /* fd -1: closed */
    bool watched;
};

struct stream {
    struct loop *loop;
    enum stream_kind kind;
    struct side local, remote;
    int peer_fd;    /* of a terminal: its other side, held so that a process may close it and open it again */
    struct flow in; /* remote to local */
    struct flow out; /* local to remote */
    bool expected;   /* the host has announced its connection: what is there for it is kept until it comes */
    bool finishing;
    uint64_t left; /* of `out`, while finishing: bytes the process left behind and not yet read */
    void (*drained)(void *arg);
    void *arg;
};

static void stream_ready(struct watch *watch, uint32_t events);

static void side_watch(struct stream *stream, struct side *side, uint32_t events)
{
    if (side->watch.fd < 0)
        return;
    if (events == 0) {
        if (side->watched)
            loop_del(stream->loop, &side->watch);
        side->watched = false;
    } else if (side->watched) {
        loop_mod(stream->loop, &side->watch, events);
    } else {
        side->watched = loop_add(stream->loop, &side->watch, events) == 0;
    }
}

static void side_close(struct stream *stream, struct side *side)
{
    side_watch(stream, side, 0);
    fd_close(&side->watch.fd);
}

struct stream *stream_new(struct loop *loop, enum stream_kind kind, int local_fd, void (*drained)(void *arg),
                          void *arg, struct error *err)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    int failed = stream ? fd_set_nonblock(local_fd, 1) : -ENOMEM;
    if (failed) {
        free(stream);
        error_set(err, -failed, "stream %s", stream_names[kind]);
        return NULL;
    }
    *stream = (struct stream){.loop = loop, .kind = kind, .drained = drained, .arg = arg, .peer_fd = -1};
    if (kind == STREAM_TERMINAL)
        stream->peer_fd = ioctl(local_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    stream->local.watch = (struct watch){.fd = local_fd, .fn = stream_ready, .arg = stream};
    stream->remote.watch = (struct watch){.fd = -1, .fn = stream_ready, .arg = stream};
    stream->in.active = kind == STREAM_STDIN || kind == STREAM_TERMINAL || kind == STREAM_SOCKET;
    stream->out.active = kind != STREAM_STDIN;
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    side_close(stream, &stream->local);
    side_close(stream, &stream->remote);
    fd_close(&stream->peer_fd);
    free(stream->in.buffer);
    free(stream->out.buffer);
    free(stream);
}

/* One direction is over: its target learns it, and a side that serves no direction any more is closed. */
static void flow_end(struct stream *stream, struct flow *flow)
{
    flow->active = false;
    flow->length = 0;
    /* A terminal whose host has gone is hung up: the master closes with both of its directions. */
    if (flow == &stream->in && stream->kind == STREAM_TERMINAL && stream->out.active)
        flow_end(stream, &stream->out);
    if (flow == &stream->out && stream->remote.watch.fd >= 0)
        shutdown(stream->remote.watch.fd, SHUT_WR);
    /* A pipe's reader learns the end by its closing. */
    if (flow == &stream->in && stream->kind == STREAM_STDIN)
        side_close(stream, &stream->local);
    if (flow == &stream->in && stream->kind == STREAM_SOCKET && stream->local.watch.fd >= 0)
        shutdown(stream->local.watch.fd, SHUT_WR);
    if (!stream->in.active && !stream->out.active) {
        side_close(stream, &stream->local);
        side_close(stream, &stream->remote);
    }
}

/* Reads once into the empty buffer. True when there may be more to do. */
static bool flow_read(struct stream *stream, struct flow *flow, int from)
{
    ssize_t got = read(from, flow->buffer, FLOW_BYTES);
    if (got > 0) {
        flow->start = 0;
        flow->length = (size_t)got;
        if (flow == &stream->out && stream->finishing)
            stream->left -= (uint64_t)got < stream->left ? (uint64_t)got : stream->left;
        return true;
    }
    if (got < 0 && errno == EINTR)
        return true;
    if (got < 0 && errno == EAGAIN) {
        /* Before a terminal says that it is empty, it looks into what is under way from the other side. */
        if (flow == &stream->out && stream->finishing)
            stream->left = 0;
        return false;
    }
    /* End of file, or as good: EIO is a terminal's last close, a reset the host's. */
    flow->at_end = true;
    flow_end(stream, flow);
    return false;
}

/* Writes what is buffered. True when all of it went. */
static bool flow_write(struct stream *stream, struct flow *flow, int to, bool to_socket)
{
    while (flow->length > 0) {
        ssize_t put = to_socket ? send(to, flow->buffer + flow->start, flow->length, MSG_NOSIGNAL)
                                : write(to, flow->buffer + flow->start, flow->length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return false;
        if (put < 0) {
            /* Nobody reads any more. The source has to learn it, so that it does not wait for ever: a process
             * by SIGPIPE, the host by a reset. */
            flow->at_end = true;
            flow_end(stream, flow);
            if (flow == &stream->out && stream->kind != STREAM_TERMINAL)
                side_close(stream, &stream->local);
            return false;
        }
        flow->start += (size_t)put;
        flow->length -= (size_t)put;
    }
    return true;
}

static bool flow_turn(struct stream *stream, struct flow *flow, struct side *from, struct side *to)
{
    if (!flow->active || !flow_write(stream, flow, to->watch.fd, to == &stream->remote))
        return false;
    return flow_read(stream, flow, from->watch.fd);
}

/* Waits for what each direction lacks: its target's room, or its source's bytes. */
static void stream_rewatch(struct stream *stream)
{
    uint32_t local = 0, remote = 0;
    if (stream->in.active)
        *(stream->in.length ? &local : &remote) |= stream->in.length ? EPOLLOUT : EPOLLIN;
    if (stream->out.active)
        *(stream->out.length ? &remote : &local) |= stream->out.length ? EPOLLOUT : EPOLLIN;
    side_watch(stream, &stream->local, local);
    side_watch(stream, &stream->remote, remote);
}

bool stream_is_drained(const struct stream *stream)
{
    if (!stream->out.active)
        return true;
    if (stream->remote.watch.fd < 0)
        return !stream->expected;
    return stream->finishing && stream->left == 0 && stream->out.length == 0;
}

bool stream_is_over(const struct stream *stream)
{
    return stream->remote.watch.fd < 0 && !stream->expected;
}

/* Tells the owner once; nothing of the stream is touched after that. The host gets its end of file even if
 * processes that were left behind keep the pipe open: to them it is as if its reader had gone. */
static void stream_tell_drained(struct stream *stream)
{
    if (!stream->finishing || !stream_is_drained(stream))
        return;
    if (stream->out.active && stream->remote.watch.fd >= 0) {
        stream->out.at_end = true;
        flow_end(stream, &stream->out);
        side_close(stream, &stream->local);
    }
    /* What the other end of a socket would still say has nobody to be said to. */
    if (stream->kind == STREAM_SOCKET && stream->in.active)
        flow_end(stream, &stream->in);
    if (!stream->drained)
        return;
    void (*drained)(void *arg) = stream->drained;
    stream->drained = NULL;
    drained(stream->arg);
}

static void stream_move(struct stream *stream)
{
    bool more = true;
    for (int round = 0; more && round < FLOW_ROUNDS; round++) {
        more = flow_turn(stream, &stream->in, &stream->remote, &stream->local);
        more |= flow_turn(stream, &stream->out, &stream->local, &stream->remote);
    }
    stream_rewatch(stream);
    stream_tell_drained(stream);
}

static void stream_ready(struct watch *watch, uint32_t events)
{
    struct stream *stream = watch->arg;
    /* The host's connection is gone for good in both directions (a half-close comes as EPOLLRDHUP and end of
     * file instead): what is still in its buffer is read, and the write fails by itself. */
    (void)events;
    stream_move(stream);
}

int stream_check_unopened(const struct stream *stream, struct error *err)
{
    if (stream->remote.watch.fd >= 0 || stream->in.buffer || stream->out.buffer)
        return error_say(err, EBUSY, "stream %s was opened before", stream_names[stream->kind]);
    return 0;
}

int stream_connect(struct stream *stream, int remote_fd, struct error *err)
{
    if (stream_check_unopened(stream, err))
        return -1;
    if ((stream->in.active && !(stream->in.buffer = malloc(FLOW_BYTES))) ||
        (stream->out.active && !(stream->out.buffer = malloc(FLOW_BYTES))))
        return error_set(err, ENOMEM, "stream %s", stream_names[stream->kind]);
    int failed = fd_set_nonblock(remote_fd, 1);
    if (failed)
        return error_set(err, -failed, "stream %s", stream_names[stream->kind]);
    stream->remote.watch.fd = remote_fd;
    stream->expected = false;
    if (stream->finishing)
        stream_move(stream);
    else
        stream_rewatch(stream);
    return 0;
}

void stream_expect(struct stream *stream, bool expected)
{
    stream->expected = expected;
    if (!expected && stream->finishing)
        stream_tell_drained(stream);
}

void stream_finish(struct stream *stream)
{
    int pending = 0;
    fd_close(&stream->peer_fd);
    if (stream->out.active && stream->kind == STREAM_TERMINAL)
        stream->left = TERMINAL_LEFT_MAX;
    else if (stream->out.active && ioctl(stream->local.watch.fd, FIONREAD, &pending) == 0 && pending > 0)
        stream->left = (uint64_t)pending;
    stream->finishing = true;
    if (stream->remote.watch.fd >= 0)
        stream_move(stream);
    else
        stream_tell_drained(stream);
}

int stream_resize(struct stream *stream, unsigned short rows, unsigned short columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (stream->local.watch.fd < 0)
        return -EIO;
    return ioctl(stream->local.watch.fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}
