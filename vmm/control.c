/* The control socket's connections and messages: see control.h. Called by the main thread's loop. */
#include "vmm/control.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"
#include "common/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* A request with what belongs to it. Lives until it is answered, even if its connection ends before. */
struct pending {
    struct control_request request; /* first: what handlers hold */
    struct connection *connection;  /* NULL once that is closed */
    json_t *message;
    int fds[CONTROL_FDS_MAX];
};

struct connection {
    struct control *control;
    struct watch watch;      /* fd -1: free */
    struct pending *pending; /* the request that waits for its answer */
};

struct control {
    struct loop *loop;
    struct watch listener;
    const struct control_method *methods;
    size_t count;
    void *arg;
    struct connection connection[CONTROL_CONNECTIONS_MAX];
};

static void pending_free(struct pending *pending)
{
    if (pending->connection)
        pending->connection->pending = NULL;
    for (size_t i = 0; i < pending->request.fd_count; i++)
        fd_close(&pending->fds[i]);
    json_decref(pending->message);
    free(pending);
}

/* The handler of a request that is not answered yet keeps it. */
static void connection_close(struct connection *connection)
{
    loop_del(connection->control->loop, &connection->watch);
    fd_close(&connection->watch.fd);
    if (connection->pending)
        connection->pending->connection = NULL;
    connection->pending = NULL;
}

/* A peer that does not read its answers is not waited for. (send(2) is not among the thread's system calls.)
 */
static int send_answer(const struct connection *connection, char *text, size_t length)
{
    struct iovec part = {.iov_base = text, .iov_len = length};
    const struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (length > CONTROL_ANSWER_BYTES_MAX)
        return -EMSGSIZE;
    return sendmsg(connection->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Sends an answer and forgets the request. Takes the reference. */
static void pending_reply(struct pending *pending, json_t *answer)
{
    struct connection *connection = pending->connection;
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    pending_free(pending);
    if (!connection) {
        free(text);
        return;
    }
    int err = text ? send_answer(connection, text, strlen(text)) : -ENOMEM;
    free(text);
    if (err) {
        log_warn("control: answer not sent: %s", strerror(-err));
        connection_close(connection);
    }
}

void control_answer(struct control_request *request, json_t *result)
{
    pending_reply((struct pending *)request, json_pack("{s:o}", "result", result ? result : json_object()));
}

void control_fail(struct control_request *request, const struct error *err)
{
    json_t *answer = json_pack("{s:{s:i, s:s}}", "error", "code", err->code, "text", err->text);
    if (!answer) /* a text that is not UTF-8 */
        answer = json_pack("{s:{s:i, s:s}}", "error", "code", err->code, "text", strerror(err->code));
    pending_reply((struct pending *)request, answer);
}

/* The method's handler, with its parameters in the request. NULL with err. */
static control_fn request_resolve(const struct control *control, struct pending *pending, struct error *err)
{
    const char *method;
    json_t *params = NULL;
    if (json_require(json_get_string(pending->message, "", "method", &method, err), "", "method", err) < 0 ||
        json_get_object(pending->message, "", "params", &params, err) < 0)
        return NULL;
    if (!params) {
        params = json_object();
        if (!params || json_object_set_new(pending->message, "params", params) < 0) {
            error_set(err, ENOMEM, "control");
            return NULL;
        }
    }
    pending->request.params = params;
    for (size_t i = 0; i < control->count; i++) {
        if (strcmp(control->methods[i].name, method) == 0)
            return control->methods[i].fn;
    }
    error_set(err, ENOSYS, "control: method '%.64s'", method);
    return NULL;
}

static void request_serve(struct pending *pending, const char *text, size_t length)
{
    struct control *control = pending->connection->control;
    struct error err;
    json_t *result = NULL;
    int rc = -1;
    pending->message = json_parse_object(text, length, &err);
    control_fn fn = pending->message ? request_resolve(control, pending, &err) : NULL;
    if (fn)
        rc = fn(control->arg, &pending->request, &result, &err);
    if (rc == 0)
        control_answer(&pending->request, result);
    else if (rc < 0)
        control_fail(&pending->request, &err);
}

/* The descriptors of a message. False when some did not fit, which the kernel then has closed. */
static bool take_descriptors(struct pending *pending, struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(pending->fds, CMSG_DATA(c), count * sizeof(int)); /* at most what the room below holds */
        pending->request.fd_count = count;
    }
    return !(message->msg_flags & MSG_CTRUNC);
}

/* One message. 1; 0 when there is none yet; -1 when the connection is to be closed. */
static int connection_receive(struct connection *connection, char *text, size_t *length)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
    } ancillary;
    struct iovec part = {.iov_base = text, .iov_len = CONTROL_REQUEST_BYTES_MAX};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &ancillary,
                             .msg_controllen = sizeof(ancillary.room)};
    struct pending *pending = calloc(1, sizeof(*pending));
    if (!pending)
        return -1;
    pending->request.fds = pending->fds;
    ssize_t got = recvmsg(connection->watch.fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int error = errno;
    bool whole = got > 0 && take_descriptors(pending, &message) && !(message.msg_flags & MSG_TRUNC);
    if (whole && !connection->pending) {
        pending->connection = connection;
        connection->pending = pending;
        *length = (size_t)got;
        return 1;
    }
    pending_free(pending);
    if (got < 0 && (error == EAGAIN || error == EINTR))
        return 0;
    if (got > 0)
        log_warn("control: connection closed: %s",
                 whole ? "a request before the answer to the last one" : "a message too long");
    return -1;
}

static void on_message(struct watch *watch, uint32_t events)
{
    struct connection *connection = watch->arg;
    char text[CONTROL_REQUEST_BYTES_MAX];
    size_t length;
    (void)events;
    int got = connection_receive(connection, text, &length);
    if (got < 0)
        connection_close(connection);
    else if (got > 0)
        request_serve(connection->pending, text, length);
}

static void on_connect(struct watch *watch, uint32_t events)
{
    struct control *control = watch->arg;
    (void)events;
    cleanup_fd int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        struct connection *connection = &control->connection[i];
        if (connection->watch.fd >= 0)
            continue;
        *connection =
            (struct connection){.control = control, .watch = {.fd = fd, .fn = on_message, .arg = connection}};
        if (loop_add(control->loop, &connection->watch, EPOLLIN) < 0)
            connection->watch.fd = -1;
        else
            take_fd(&fd);
        return;
    }
    log_warn("control: connection refused: %u are open", CONTROL_CONNECTIONS_MAX);
}

struct control *control_new(struct loop *loop, int listen_fd, const struct control_method *methods,
                            size_t count, void *arg)
{
    struct control *control = calloc(1, sizeof(*control));
    if (!control) {
        close(listen_fd);
        return NULL;
    }
    *control = (struct control){.loop = loop,
                                .listener = {.fd = listen_fd, .fn = on_connect, .arg = control},
                                .methods = methods,
                                .count = count,
                                .arg = arg};
    for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        control->connection[i].watch.fd = -1;
    int rc = loop_add(loop, &control->listener, EPOLLIN);
    if (rc == 0)
        return control;
    close(listen_fd);
    free(control);
    errno = -rc;
    return NULL;
}

void control_free(struct control *control)
{
    if (!control)
        return;
    loop_del(control->loop, &control->listener);
    fd_close(&control->listener.fd);
    for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        if (control->connection[i].watch.fd >= 0)
            connection_close(&control->connection[i]);
    }
    free(control);
}
