/*
 * Streams of a process: see process_streams.h.
 */
#include "agent/process_streams.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHERE_BYTES 48

static int parse_stdio(struct process_streams_wish *wish, const json_t *params, struct error *err)
{
    json_t *object = NULL;
    if (json_get_object(params, "", "stdio", &object, err) < 0)
        return -1;
    for (int i = STREAM_STDIN; object && i <= STREAM_STDERR; i++) {
        const char *what = "stream";
        if (json_get_string(object, "stdio", stream_names[i], &what, err) < 0)
            return -1;
        if (strcmp(what, "null") == 0)
            wish->stdio[i] = PROCESS_STDIO_NULL;
        else if (strcmp(what, "stdout") == 0 && i == STREAM_STDERR)
            wish->stdio[i] = PROCESS_STDIO_STDOUT;
        else if (strcmp(what, "stream") != 0)
            return error_set(err, 0, "stdio.%s: '%.16s' is not known", stream_names[i], what);
    }
    wish->expect = object != NULL;
    return 0;
}

/* "<number>", or -1. */
static int fd_number_parse(const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);
    bool fits = *text >= '0' && *text <= '9' && *end == '\0' && number >= PROCESS_FDS_FIRST &&
                number < PROCESS_FDS_FIRST + PROCESS_FDS_MAX;
    return fits ? (int)number : -1;
}

/* {"listen": ADDRESS, "ipv6_only": bool} or {"socket": ADDRESS, "peer": PEER} */
static int parse_socket(struct process_fd *fd, const json_t *object, const char *where, struct error *err)
{
    json_t *listen = NULL, *socket = NULL, *peer = NULL;
    if (json_get_object(object, where, "listen", &listen, err) < 0 ||
        json_get_object(object, where, "socket", &socket, err) < 0 ||
        json_get_object(object, where, "peer", &peer, err) < 0 ||
        json_get_bool(object, where, "ipv6_only", &fd->ipv6_only, err) < 0)
        return -1;
    if (!listen == !socket || !socket != !peer)
        return error_set(err, EINVAL, "%s: neither a listening socket nor a connection", where);
    fd->kind = listen ? PROCESS_FD_LISTENER : PROCESS_FD_SOCKET;
    if (socket_address_parse(listen ? listen : socket, where, &fd->address, err) < 0)
        return -1;
    return peer ? socket_peer_parse(peer, where, &fd->peer, err) : 0;
}

static int parse_fds(struct process_streams_wish *wish, const json_t *params, struct error *err)
{
    static const char *const kinds[] = {
        [PROCESS_FD_NULL] = "null", [PROCESS_FD_INPUT] = "input", [PROCESS_FD_OUTPUT] = "output"};
    json_t *object = NULL, *value;
    const char *key;
    if (json_get_object(params, "", "fds", &object, err) < 0)
        return -1;
    json_object_foreach(object, key, value)
    {
        char where[WHERE_BYTES];
        int number = fd_number_parse(key);
        const char *what = json_string_value(value);
        unsigned kind = PROCESS_FD_NULL;
        snprintf(where, sizeof(where), "fds.%.16s", key);
        while (what && kind <= PROCESS_FD_OUTPUT && strcmp(what, kinds[kind]) != 0)
            kind++;
        if (number < 0 || (!what && !json_is_object(value)) || kind > PROCESS_FD_OUTPUT)
            return error_set(err, EINVAL, "%s: '%.16s' is not known", where, what ? what : "");
        struct process_fd *fd = &wish->fds[number - PROCESS_FDS_FIRST];
        if (what)
            fd->kind = (enum process_fd_kind)kind;
        else if (parse_socket(fd, value, where, err) < 0)
            return -1;
    }
    return 0;
}

int process_streams_parse(struct process_streams_wish *wish, const json_t *params, struct error *err)
{
    return parse_stdio(wish, params, err) || parse_fds(wish, params, err) ? -1 : 0;
}

void process_streams_init(struct process_streams *streams, struct loop *loop, void (*drained)(void *arg),
                          void *arg)
{
    *streams = (struct process_streams){.loop = loop, .drained = drained, .arg = arg};
    LIST_INIT(&streams->connections);
}

static void connection_free(struct process_connection *connection)
{
    LIST_REMOVE(connection, link);
    stream_free(connection->stream);
    free(connection);
}

/* The host or the process has ended them; their buffers are what the next one takes. */
static void connections_sweep(struct process_streams *streams)
{
    struct process_connection *connection = LIST_FIRST(&streams->connections);
    while (connection) {
        struct process_connection *next = LIST_NEXT(connection, link);
        if (stream_is_over(connection->stream))
            connection_free(connection);
        connection = next;
    }
}

void process_streams_free(struct process_streams *streams)
{
    struct process_connection *connection;
    while ((connection = LIST_FIRST(&streams->connections)) != NULL)
        connection_free(connection);
    for (int i = 0; i < PROCESS_STREAMS; i++)
        stream_free(streams->streams[i]);
    for (int i = 0; i < PROCESS_FDS_MAX; i++)
        free(streams->listeners[i]);
}

/* A stream for `ours`, which is taken also on failure, kept as streams[index]. */
static int make_stream(struct process_streams *streams, unsigned index, enum stream_kind kind, int ours,
                       struct error *err)
{
    streams->streams[index] = stream_new(streams->loop, kind, ours, streams->drained, streams->arg, err);
    if (!streams->streams[index]) {
        close(ours);
        return -1;
    }
    stream_expect(streams->streams[index], streams->expect);
    return 0;
}

static int make_pipe(struct process_streams *streams, unsigned index, enum stream_kind kind, int *theirs,
                     struct error *err)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    *theirs = kind == STREAM_STDIN ? pair[0] : pair[1];
    return make_stream(streams, index, kind, kind == STREAM_STDIN ? pair[1] : pair[0], err);
}

/* The standard streams of a process without terminal. */
static int make_stdio(struct process_streams *streams, const struct process_streams_wish *wish, int stdio[3],
                      struct error *err)
{
    for (int i = STREAM_STDIN; i <= STREAM_STDERR; i++) {
        switch (wish->stdio[i]) {
        case PROCESS_STDIO_STREAM:
            if (make_pipe(streams, (unsigned)i, (enum stream_kind)i, &stdio[i], err))
                return -1;
            break;
        case PROCESS_STDIO_NULL:
            stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
            break;
        case PROCESS_STDIO_STDOUT:
            stdio[i] = fcntl(stdio[STREAM_STDOUT], F_DUPFD_CLOEXEC, 0);
            break;
        }
        if (stdio[i] < 0)
            return error_set(err, errno, "%s", stream_names[i]);
    }
    return 0;
}

/* Only the process and its children hold a listening socket: when they are gone, connections are refused. */
static int make_listener(struct process_streams *streams, unsigned i, const struct process_fd *wish,
                         int *theirs, struct error *err)
{
    streams->listeners[i] = malloc(sizeof(*streams->listeners[i]));
    if (!streams->listeners[i])
        return error_set(err, ENOMEM, "socket");
    *streams->listeners[i] = wish->address;
    *theirs = sockets_listen(streams->listeners[i], wish->ipv6_only, err);
    return *theirs < 0 ? -1 : 0;
}

static int make_fd(struct process_streams *streams, unsigned i, const struct process_fd *wish, int *theirs,
                   struct error *err)
{
    int ours;
    switch (wish->kind) {
    case PROCESS_FD_CLOSED:
        return 0;
    case PROCESS_FD_NULL:
        *theirs = open("/dev/null", O_RDWR | O_CLOEXEC);
        return *theirs < 0 ? error_set(err, errno, "/dev/null") : 0;
    case PROCESS_FD_INPUT:
        return make_pipe(streams, STREAM_KINDS + i, STREAM_STDIN, theirs, err);
    case PROCESS_FD_OUTPUT:
        return make_pipe(streams, STREAM_KINDS + i, STREAM_STDOUT, theirs, err);
    case PROCESS_FD_SOCKET:
        ours = sockets_pair(&wish->address, &wish->peer, theirs, err);
        return ours < 0 ? -1 : make_stream(streams, STREAM_KINDS + i, STREAM_SOCKET, ours, err);
    case PROCESS_FD_LISTENER:
        return make_listener(streams, i, wish, theirs, err);
    }
    return error_set(err, EINVAL, "kind %d", (int)wish->kind);
}

int process_streams_make(struct process_streams *streams, const struct process_streams_wish *wish,
                         bool terminal, int stdio[3], int fds[PROCESS_FDS_MAX], struct error *err)
{
    streams->expect = wish->expect;
    if (!terminal && make_stdio(streams, wish, stdio, err))
        return -1;
    for (unsigned i = 0; i < PROCESS_FDS_MAX; i++) {
        if (make_fd(streams, i, &wish->fds[i], &fds[i], err))
            return error_wrap(err, "fd %u", PROCESS_FDS_FIRST + i);
    }
    return 0;
}

int process_streams_add_terminal(struct process_streams *streams, int master, struct error *err)
{
    struct stream **stream = &streams->streams[STREAM_TERMINAL];
    if (*stream)
        return error_say(err, EEXIST, "there is a terminal");
    *stream = stream_new(streams->loop, STREAM_TERMINAL, master, streams->drained, streams->arg, err);
    if (!*stream)
        return -1;
    stream_expect(*stream, streams->expect);
    return 0;
}

/* A connection that the host has accepted on the listening socket that stands for this one. */
static struct stream *open_connection(struct process_streams *streams, const struct socket_address *listener,
                                      const json_t *first_frame, struct error *err)
{
    json_t *local = NULL, *remote = NULL;
    struct socket_address address;
    struct socket_peer peer;
    if (json_require(json_get_object(first_frame, "", "local", &local, err), "", "local", err) < 0 ||
        json_require(json_get_object(first_frame, "", "peer", &remote, err), "", "peer", err) < 0 ||
        socket_address_parse(local, "local", &address, err) < 0 ||
        socket_peer_parse(remote, "peer", &peer, err) < 0)
        return NULL;
    if (listener->any.sa_family == AF_UNIX)
        address = *listener;
    connections_sweep(streams);
    struct process_connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        error_set(err, ENOMEM, "connection");
        return NULL;
    }
    cleanup_fd int fd = sockets_connect(&address, &peer, err);
    if (fd >= 0)
        connection->stream =
            stream_new(streams->loop, STREAM_SOCKET, fd, streams->drained, streams->arg, err);
    if (!connection->stream) {
        free(connection);
        return NULL;
    }
    take_fd(&fd);
    LIST_INSERT_HEAD(&streams->connections, connection, link);
    return connection->stream;
}

struct stream *process_streams_open(struct process_streams *streams, const json_t *first_frame,
                                    struct error *err)
{
    const char *name = NULL;
    struct stream *stream = NULL;
    if (json_require(json_get_string(first_frame, "", "stream", &name, err), "", "stream", err) < 0)
        return NULL;
    int number = strncmp(name, "fd", 2) == 0 ? fd_number_parse(name + 2) : -1;
    if (number >= 0 && streams->listeners[number - PROCESS_FDS_FIRST])
        return open_connection(streams, streams->listeners[number - PROCESS_FDS_FIRST], first_frame, err);
    if (number >= 0)
        stream = streams->streams[STREAM_KINDS + number - PROCESS_FDS_FIRST];
    for (int kind = 0; number < 0 && kind < STREAM_KINDS; kind++) {
        if (strcmp(stream_names[kind], name) == 0)
            stream = streams->streams[kind];
    }
    if (!stream)
        error_set(err, ENOENT, "no stream '%.16s'", name);
    return stream;
}

void process_streams_finish(struct process_streams *streams)
{
    struct process_connection *connection;
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        if (streams->streams[i])
            stream_finish(streams->streams[i]);
    }
    LIST_FOREACH(connection, &streams->connections, link)
    stream_finish(connection->stream);
}

void process_streams_expect_none(struct process_streams *streams)
{
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        if (streams->streams[i])
            stream_expect(streams->streams[i], false);
    }
}

/* Whether it holds of each. */
static bool holds_of_all(const struct process_streams *streams, bool (*holds)(const struct stream *stream))
{
    const struct process_connection *connection;
    for (int i = 0; i < PROCESS_STREAMS; i++) {
        if (streams->streams[i] && !holds(streams->streams[i]))
            return false;
    }
    LIST_FOREACH(connection, &streams->connections, link)
    {
        if (!holds(connection->stream))
            return false;
    }
    return true;
}

bool process_streams_are_drained(const struct process_streams *streams)
{
    return holds_of_all(streams, stream_is_drained);
}

bool process_streams_are_over(const struct process_streams *streams)
{
    return holds_of_all(streams, stream_is_over);
}
