/*
 * Connections from the host: see connection.h. The bytes are the host's; what they ask for is checked again
 * by the request's handler.
 */
#include "agent/connection.h"

#include "agent/requests.h"
#include "agent/sandbox.h"
#include "agent/stream.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define REQUESTS_MAX 1024        /* unanswered, of one connection */
#define UNSENT_MAX   (16u << 20) /* bytes of answers that the host does not read */
#define FLUSH_TRIES  100         /* of a millisecond */

/* An encoded frame that waits for room in the socket. */
struct unsent {
    STAILQ_ENTRY(unsent) link;
    char *frame;
    size_t length, sent;
};

struct connection {
    LIST_ENTRY(connection) link;
    struct sandbox *sandbox;
    struct watch watch;
    struct frame_parser *parser;
    bool control; /* the first frame has come */
    bool owner, process_owner;
    json_t *awaited; /* the first frame of a stream that is not there yet, or NULL */
    long long deadline_ms;
    struct request_list requests;
    unsigned request_count;
    STAILQ_HEAD(, unsent) unsent;
    size_t unsent_bytes;
    bool broken; /* to be freed by the loop's turn: a handler may still hold it */
};

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Sends what waits, as far as the socket takes it. 0 or -errno. */
static int connection_send_unsent(struct connection *connection)
{
    struct unsent *next;
    while ((next = STAILQ_FIRST(&connection->unsent)) != NULL) {
        ssize_t put = send(connection->watch.fd, next->frame + next->sent, next->length - next->sent,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return loop_mod(connection->sandbox->loop, &connection->watch, EPOLLIN | EPOLLOUT);
        if (put < 0)
            return -errno;
        next->sent += (size_t)put;
        connection->unsent_bytes -= (size_t)put;
        if (next->sent == next->length) {
            STAILQ_REMOVE_HEAD(&connection->unsent, link);
            free(next->frame);
            free(next);
        }
    }
    return loop_mod(connection->sandbox->loop, &connection->watch, EPOLLIN);
}

/* Sends `message` (stolen) in its turn. A connection that can't be written to any more is left to its watch,
 * which sees the end too. */
static void connection_send(struct connection *connection, json_t *message)
{
    struct error err = {0};
    struct unsent *unsent = calloc(1, sizeof(*unsent));
    if (message && unsent)
        unsent->frame = frame_encode(message, &unsent->length, &err);
    json_decref(message);
    if (!unsent || !unsent->frame || connection->unsent_bytes + unsent->length > UNSENT_MAX) {
        log_err("connection: an answer can't be sent: %s", err.code ? err.text : "too much is unread");
        if (unsent)
            free(unsent->frame);
        free(unsent);
        connection->broken = true;
        shutdown(connection->watch.fd, SHUT_RDWR); /* the watch sees the end */
        return;
    }
    STAILQ_INSERT_TAIL(&connection->unsent, unsent, link);
    connection->unsent_bytes += unsent->length;
    if (connection_send_unsent(connection))
        connection->broken = true;
}

static json_t *error_to_json(const struct error *err)
{
    /* A text that quotes the host's bytes may be no UTF-8 where it was cut. */
    json_t *text = json_string(err->text);
    return json_pack("{s:i, s:o}", "code", err->code, "text", text ? text : json_string("error"));
}

static void request_answer(struct request *request, const char *key, json_t *value)
{
    struct connection *connection = request->connection;
    if (connection) {
        LIST_REMOVE(request, of_connection);
        connection->request_count--;
        connection_send(connection, json_pack("{s:I, s:o}", "id", request->id, key, value));
    } else {
        json_decref(value);
    }
    free(request);
}

void request_succeed(struct request *request, json_t *result)
{
    request_answer(request, "result", result ? result : json_object());
}

void request_fail(struct request *request, const struct error *err)
{
    request_answer(request, "error", error_to_json(err));
}

void request_notify(const struct request *request, const char *event, json_t *params)
{
    if (request->connection)
        connection_send(request->connection, json_pack("{s:s, s:o}", "event", event, "params", params));
    else
        json_decref(params);
}

/* The answer to a first frame. */
static void connection_greet(struct connection *connection, const struct error *err)
{
    json_t *answer = err ? json_pack("{s:i, s:o}", "husk", PROTOCOL_VERSION, "error", error_to_json(err))
                         : json_pack("{s:i, s:b}", "husk", PROTOCOL_VERSION, "ok", 1);
    connection_send(connection, answer);
}

void connection_free(struct connection *connection)
{
    struct sandbox *sandbox = connection->sandbox;
    struct request *request;
    struct unsent *unsent;
    while ((request = LIST_FIRST(&connection->requests)) != NULL) {
        LIST_REMOVE(request, of_connection);
        request->connection = NULL;
    }
    while ((unsent = STAILQ_FIRST(&connection->unsent)) != NULL) {
        STAILQ_REMOVE_HEAD(&connection->unsent, link);
        free(unsent->frame);
        free(unsent);
    }
    LIST_REMOVE(connection, link);
    sandbox->connection_count--;
    if (!connection->control)
        sandbox_count_silent(sandbox, -1);
    loop_del(sandbox->loop, &connection->watch);
    fd_close(&connection->watch.fd);
    frame_parser_free(connection->parser);
    json_decref(connection->awaited);
    if (connection->process_owner)
        sandbox_process_owner_lost(sandbox, connection);
    if (connection->owner)
        sandbox_owner_lost(sandbox, connection);
    free(connection);
}

struct connection *connection_next(const struct connection *connection)
{
    return LIST_NEXT(connection, link);
}

void connection_expire(struct connection *connection, long long now)
{
    struct error err;
    if (connection->control || now < connection->deadline_ms)
        return;
    if (connection->awaited) {
        error_say(&err, ETIMEDOUT, "the process of this stream was not made within %d ms", FIRST_FRAME_MS);
        connection_greet(connection, &err);
    } else {
        log_warn("connection: no first frame within %d ms", FIRST_FRAME_MS);
    }
    connection_free(connection);
}

void connection_set_owner(struct connection *connection)
{
    connection->owner = true;
}

void connection_set_process_owner(struct connection *connection)
{
    connection->process_owner = true;
}

void connection_flush(const struct connection *connection)
{
    int left = 0;
    for (int i = 0; i < FLUSH_TRIES; i++) {
        if (ioctl(connection->watch.fd, SIOCOUTQ, &left) < 0 || left == 0)
            return;
        poll(NULL, 0, 1);
    }
}

static int request_parse(struct connection *connection, const json_t *frame, const char **method,
                         json_t **params, int64_t *id, struct error *err)
{
    if (json_require(json_get_int(frame, "", "id", 0, INT64_MAX, id, err), "", "id", err) < 0 ||
        json_require(json_get_string(frame, "", "method", method, err), "", "method", err) < 0 ||
        json_get_object(frame, "", "params", params, err) < 0)
        return -1;
    if (connection->request_count >= REQUESTS_MAX)
        return error_say(err, EAGAIN, "more than %d requests are unanswered", REQUESTS_MAX);
    return 0;
}

/* A request that can't even be parsed is answered if it has an id; the frames themselves are still whole. */
static void connection_handle_request(struct connection *connection, const json_t *frame)
{
    struct error err = {0};
    const char *method = NULL;
    json_t *params = NULL;
    int64_t id = 0;
    int failed = request_parse(connection, frame, &method, &params, &id, &err);
    struct request *request = failed ? NULL : calloc(1, sizeof(*request));
    if (!request) {
        if (!failed)
            error_set(&err, ENOMEM, "request");
        connection_send(connection,
                        json_pack("{s:I, s:o}", "id", (json_int_t)id, "error", error_to_json(&err)));
        return;
    }
    *request = (struct request){.connection = connection, .id = id};
    LIST_INSERT_HEAD(&connection->requests, request, of_connection);
    connection->request_count++;
    requests_handle(connection->sandbox, request, method, params);
}

/* The stream's answer goes out before the stream has its fd, so that no payload can overtake it; the
 * connection is then done with. A stream that is not there yet is waited for if the host wants it. */
static int connection_become_stream(struct connection *connection, json_t *frame, struct error *err)
{
    struct stream *stream = requests_find_stream(connection->sandbox, frame, err);
    if (!stream && err->code == ENOENT && json_is_true(json_object_get(frame, "await"))) {
        if (!connection->awaited)
            connection->awaited = json_incref(frame);
        /* A vsock whose peer is gone is only half closed until this end closes, too: EPOLLHUP alone never
         * comes. */
        return loop_mod(connection->sandbox->loop, &connection->watch, EPOLLRDHUP);
    }
    if (!stream || stream_check_unopened(stream, err))
        return -1;
    cleanup_fd int fd = fcntl(connection->watch.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, errno, "stream");
    connection_greet(connection, NULL);
    connection->broken = true;
    if (stream_connect(stream, fd, err))
        log_err("%s", err->text);
    else
        take_fd(&fd);
    return 0;
}

void connection_open_waiting_stream(struct connection *connection)
{
    struct error err = {0};
    if (!connection->awaited)
        return;
    if (connection_become_stream(connection, connection->awaited, &err)) {
        connection_greet(connection, &err);
        connection->broken = true;
    }
    if (connection->broken)
        connection_free(connection);
}

static int connection_handle_first(struct connection *connection, json_t *frame, struct error *err)
{
    int64_t version = 0;
    const char *open = NULL;
    if (json_require(json_get_int(frame, "", "husk", 0, INT32_MAX, &version, err), "", "husk", err) < 0 ||
        json_require(json_get_string(frame, "", "open", &open, err), "", "open", err) < 0)
        return -1;
    if (version != PROTOCOL_VERSION)
        return error_say(err, EPROTONOSUPPORT, "husk: version %lld, this agent speaks %d", (long long)version,
                         PROTOCOL_VERSION);
    if (strcmp(open, "stream") == 0)
        return connection_become_stream(connection, frame, err);
    if (strcmp(open, "control") != 0)
        return error_set(err, 0, "open: '%s' is not known", open);
    connection->control = true;
    sandbox_count_silent(connection->sandbox, -1);
    connection_greet(connection, NULL);
    sandbox_complete(connection->sandbox); /* while the host prepares its first request */
    return 0;
}

static void connection_handle_frame(struct connection *connection, json_t *frame)
{
    struct error err = {0};
    if (connection->control) {
        connection_handle_request(connection, frame);
    } else if (connection_handle_first(connection, frame, &err)) {
        connection_greet(connection, &err);
        connection->broken = true;
    }
}

static void connection_ready(struct watch *watch, uint32_t events)
{
    struct connection *connection = watch->arg;
    struct error err = {0};
    if ((events & EPOLLOUT) && connection_send_unsent(connection))
        connection->broken = true;
    if (connection->awaited) {
        connection->broken = true; /* watched for its end only */
    } else if (!connection->broken && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        json_t *frame = NULL;
        int next = 0;
        int got = frame_parser_fill(connection->parser, watch->fd, &err);
        while (got > 0 && !connection->broken &&
               (next = frame_parser_next(connection->parser, &frame, &err)) == 1) {
            connection_handle_frame(connection, frame);
            json_decref(frame);
        }
        if (got < 0 || next < 0) {
            if (err.code != EPIPE && err.code != ECONNRESET)
                log_warn("connection: %s", err.text);
            connection->broken = true;
        }
    }
    if (connection->broken)
        connection_free(connection);
}

int connection_new(struct sandbox *sandbox, int fd)
{
    if (sandbox->connection_count >= CONNECTIONS_MAX)
        return -EMFILE;
    struct connection *connection = calloc(1, sizeof(*connection));
    struct frame_parser *parser = frame_parser_new();
    if (!connection || !parser) {
        free(connection);
        frame_parser_free(parser);
        return -ENOMEM;
    }
    *connection = (struct connection){.sandbox = sandbox,
                                      .parser = parser,
                                      .deadline_ms = now_ms() + FIRST_FRAME_MS,
                                      .watch = {.fd = fd, .fn = connection_ready, .arg = connection}};
    LIST_INIT(&connection->requests);
    STAILQ_INIT(&connection->unsent);
    int failed = loop_add(sandbox->loop, &connection->watch, EPOLLIN);
    if (failed) {
        frame_parser_free(parser);
        free(connection);
        return failed;
    }
    LIST_INSERT_HEAD(&sandbox->connections, connection, link);
    sandbox->connection_count++;
    sandbox_count_silent(sandbox, 1);
    return 0;
}
