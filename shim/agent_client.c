/*
 * Connections to the agent: see agent_client.h. Trust boundary: everything read here was written by the VMM
 * or the guest.
 */
#include "shim/agent_client.h"

#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"
#include "shim/deadline.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define GREETING_MAX 32 /* "CONNECT 1024\n" and its answer "OK 1073741824\n" */

struct agent_client {
    int fd;
    int vmm_pidfd; /* a copy of the address's */
    int64_t last_id;
    struct frame_parser *parser;
};

/* Waits for input. 0, or -1 with err filled when the deadline passed or the VMM ended first. What the VMM
 * sent before its end is still there to be read. */
static int agent_wait(int fd, int vmm_pidfd, int64_t deadline, struct error *err)
{
    struct pollfd pfds[2] = {{.fd = fd, .events = POLLIN}, {.fd = vmm_pidfd, .events = POLLIN}};
    for (;;) {
        int ready = poll(pfds, 2, deadline_left_ms(deadline));
        if (ready < 0 && errno != EINTR)
            return error_set(err, errno, "wait for the agent");
        if (ready == 0)
            return error_set(err, ETIMEDOUT, "wait for the agent");
        if (ready > 0 && pfds[0].revents)
            return 0;
        if (ready > 0)
            return error_set(err, ECONNRESET, "the VM ended");
    }
}

/* Connects to the sandbox's socket. Its path is longer than sockaddr_un may hold, the way by the open
 * directory is not. */
static int agent_connect_socket(int sandbox_fd, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, errno, "socket");
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" AGENT_VSOCK_SOCKET, sandbox_fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "connect to the VM");
    return take_fd(&fd);
}

/* The answer to "CONNECT port", of which not one byte too much is read: what follows it is the guest's. */
static int agent_take_greeting(int fd, int vmm_pidfd, int64_t deadline, struct error *err)
{
    char line[GREETING_MAX];
    size_t length = 0;
    while (length < sizeof(line)) {
        if (agent_wait(fd, vmm_pidfd, deadline, err) < 0)
            return -1;
        ssize_t got = recv(fd, line + length, sizeof(line) - length, MSG_PEEK);
        if (got <= 0)
            return error_set(err, got < 0 ? errno : ECONNREFUSED, "connect to the agent");
        const char *end = memchr(line + length, '\n', (size_t)got);
        size_t wanted = end ? (size_t)(end - (line + length)) + 1 : (size_t)got;
        if (recv(fd, line + length, wanted, 0) != (ssize_t)wanted)
            return error_set(err, EPROTO, "connect to the agent");
        length += wanted;
        if (end)
            return strncmp(line, "OK ", 3) == 0 ? 0 : error_set(err, EPROTO, "connect to the agent");
    }
    return error_set(err, EPROTO, "connect to the agent");
}

json_t *agent_answer_result(const json_t *answer, struct error *err)
{
    json_t *error = NULL, *result = NULL;
    int64_t code = 0;
    const char *text = NULL;
    if (json_get_object(answer, "answer", "error", &error, err) < 0)
        return NULL;
    if (error) {
        if (json_require(json_get_int(error, "error", "code", 1, INT32_MAX, &code, err), "error", "code",
                         err) < 0 ||
            json_require(json_get_string(error, "error", "text", &text, err), "error", "text", err) < 0)
            return NULL;
        error_set(err, 0, "%s (agent)", text);
        if (err)
            err->code = (int)code;
        return NULL;
    }
    if (json_require(json_get_object(answer, "answer", "result", &result, err), "answer", "result", err) < 0)
        return NULL;
    return result;
}

/* Waits for one frame. New reference or NULL. */
static json_t *agent_wait_frame(int fd, int vmm_pidfd, struct frame_parser *parser, int64_t deadline,
                                struct error *err)
{
    json_t *message = NULL;
    for (;;) {
        int got = frame_parser_next(parser, &message, err);
        if (got != 0)
            return got > 0 ? message : NULL;
        if (agent_wait(fd, vmm_pidfd, deadline, err) < 0 || frame_parser_fill(parser, fd, err) < 0)
            return NULL;
    }
}

/* Connects, and says "CONNECT port" and the opening frame at once: the VMM keeps what follows the line until
 * the guest has accepted, so that nobody waits for an answer only to ask the next thing. */
static int agent_begin(int sandbox_fd, const json_t *hello, struct error *err)
{
    struct iovec parts[2];
    char line[GREETING_MAX];
    size_t length = 0;
    cleanup_free char *frame = frame_encode(hello, &length, err);
    if (!frame)
        return -1;
    cleanup_fd int fd = agent_connect_socket(sandbox_fd, err);
    if (fd < 0)
        return -1;
    parts[0] = (struct iovec){line, (size_t)snprintf(line, sizeof(line), "CONNECT %d\n", AGENT_PORT)};
    parts[1] = (struct iovec){frame, length};
    /* Far below what an empty socket takes: all or nothing. */
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)(parts[0].iov_len + length))
        return error_set(err, errno, "connect to the agent");
    return take_fd(&fd);
}

/* Reads what agent_begin's words are answered with. */
static int agent_finish(int fd, int vmm_pidfd, int64_t deadline, struct error *err)
{
    bool ok = false;
    int64_t version = 0;
    if (agent_take_greeting(fd, vmm_pidfd, deadline, err) < 0)
        return -1;
    struct frame_parser *parser = frame_parser_new();
    if (!parser)
        return error_set(err, ENOMEM, "opening frame");
    cleanup_json json_t *answer = agent_wait_frame(fd, vmm_pidfd, parser, deadline, err);
    frame_parser_free(parser);
    if (!answer)
        return -1;
    if (json_require(json_get_int(answer, "", "husk", 1, INT32_MAX, &version, err), "", "husk", err) < 0)
        return -1;
    if (version != PROTOCOL_VERSION)
        return error_set(err, EPROTO, "the agent speaks protocol version %lld, husk %d", (long long)version,
                         PROTOCOL_VERSION);
    if (json_object_get(answer, "error")) {
        agent_answer_result(answer, err);
        return -1;
    }
    if (json_require(json_get_bool(answer, "", "ok", &ok, err), "", "ok", err) < 0)
        return -1;
    return ok ? 0 : error_set(err, EPROTO, "the agent refused the connection");
}

int agent_begin_stream(const struct agent_address *address, const char *container, const char *process,
                       const char *stream, json_t *ends, struct error *err)
{
    cleanup_json json_t *hello =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:b}", "husk", PROTOCOL_VERSION, "open", "stream", "container",
                  container, "process", process, "stream", stream, "await", ends == NULL);
    if (ends && json_object_update(hello, ends) < 0)
        return error_set(err, ENOMEM, "open %s", stream);
    int fd = agent_begin(address->sandbox_fd, hello, err);
    return fd < 0 ? error_wrap(err, "open %s", stream) : fd;
}

int agent_finish_stream(const struct agent_address *address, int fd, const char *stream, int64_t deadline,
                        struct error *err)
{
    return agent_finish(fd, address->vmm_pidfd, deadline, err) < 0 ? error_wrap(err, "open %s", stream) : 0;
}

struct agent_client *agent_begin_control(const struct agent_address *address, struct error *err)
{
    cleanup_json json_t *hello = json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control");
    cleanup_fd int fd = agent_begin(address->sandbox_fd, hello, err);
    if (fd < 0)
        return NULL;
    struct agent_client *client = calloc(1, sizeof(*client));
    if (!client) {
        error_set(err, ENOMEM, "agent client");
        return NULL;
    }
    *client = (struct agent_client){.fd = take_fd(&fd), .vmm_pidfd = -1, .parser = frame_parser_new()};
    if (address->vmm_pidfd >= 0)
        client->vmm_pidfd = fcntl(address->vmm_pidfd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (!client->parser || (address->vmm_pidfd >= 0 && client->vmm_pidfd < 0)) {
        error_set(err, client->parser ? errno : ENOMEM, "agent client");
        agent_client_free(client);
        return NULL;
    }
    return client;
}

int agent_finish_control(struct agent_client *client, int64_t deadline, struct error *err)
{
    return agent_finish(client->fd, client->vmm_pidfd, deadline, err);
}

struct agent_client *agent_connect(const struct agent_address *address, int64_t deadline, struct error *err)
{
    struct agent_client *client = agent_begin_control(address, err);
    if (client && agent_finish_control(client, deadline, err) < 0) {
        agent_client_free(client);
        return NULL;
    }
    return client;
}

void agent_client_free(struct agent_client *client)
{
    if (!client)
        return;
    fd_close(&client->fd);
    fd_close(&client->vmm_pidfd);
    frame_parser_free(client->parser);
    free(client);
}

int agent_client_fd(const struct agent_client *client)
{
    return client->fd;
}

int64_t agent_send(struct agent_client *client, const char *method, json_t *params, struct error *err)
{
    int64_t id = client->last_id + 1;
    cleanup_json json_t *request =
        json_pack("{s:I, s:s, s:o}", "id", (json_int_t)id, "method", method, "params", params);
    if (!request)
        return error_set(err, EINVAL, "%s: the request can't be written as JSON", method);
    if (frame_send(client->fd, request, err) < 0)
        return error_wrap(err, "%s", method);
    client->last_id = id;
    return id;
}

int agent_receive(struct agent_client *client, json_t **message, struct error *err)
{
    struct pollfd pfd = {.fd = client->fd, .events = POLLIN};
    for (;;) {
        int got = frame_parser_next(client->parser, message, err);
        if (got != 0)
            return got;
        if (poll(&pfd, 1, 0) <= 0)
            return 0;
        if (frame_parser_fill(client->parser, client->fd, err) < 0)
            return -1;
    }
}

json_t *agent_await(struct agent_client *client, int64_t id, const char *method, int64_t deadline,
                    struct error *err)
{
    for (;;) {
        cleanup_json json_t *answer =
            agent_wait_frame(client->fd, client->vmm_pidfd, client->parser, deadline, err);
        if (!answer) {
            error_wrap(err, "%s", method);
            return NULL;
        }
        if (json_integer_value(json_object_get(answer, "id")) == id)
            return json_incref(agent_answer_result(answer, err));
    }
}

json_t *agent_call(struct agent_client *client, const char *method, json_t *params, int64_t deadline,
                   struct error *err)
{
    int64_t id = agent_send(client, method, params, err);
    return id < 0 ? NULL : agent_await(client, id, method, deadline, err);
}
