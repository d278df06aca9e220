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
#include <sys/un.h>

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

/* "CONNECT port" and its answer, read byte by byte: what follows the line is the guest's already. */
static int agent_connect_port(int fd, int vmm_pidfd, int64_t deadline, struct error *err)
{
    char line[32];
    int length = snprintf(line, sizeof(line), "CONNECT %d\n", AGENT_PORT);
    if (send(fd, line, (size_t)length, MSG_NOSIGNAL) != length)
        return error_set(err, errno, "connect to the agent");
    for (size_t at = 0; at < sizeof(line) - 1; at++) {
        if (agent_wait(fd, vmm_pidfd, deadline, err) < 0)
            return -1;
        ssize_t got = recv(fd, line + at, 1, 0);
        if (got <= 0)
            return error_set(err, got < 0 ? errno : ECONNREFUSED, "connect to the agent");
        if (line[at] == '\n') {
            line[at] = '\0';
            return strncmp(line, "OK ", 3) == 0 ? 0 : error_set(err, EPROTO, "connect to the agent");
        }
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

/* Sends the opening frame and reads its answer. */
static int agent_say_hello(int fd, int vmm_pidfd, const json_t *hello, int64_t deadline, struct error *err)
{
    bool ok = false;
    int64_t version = 0;
    if (!hello)
        return error_set(err, EINVAL, "opening frame");
    struct frame_parser *parser = frame_parser_new();
    if (!parser)
        return error_set(err, ENOMEM, "opening frame");
    if (frame_send(fd, hello, err) < 0) {
        frame_parser_free(parser);
        return -1;
    }
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

static int agent_open(const struct agent_address *address, const json_t *hello, int64_t deadline,
                      struct error *err)
{
    cleanup_fd int fd = agent_connect_socket(address->sandbox_fd, err);
    if (fd < 0 || agent_connect_port(fd, address->vmm_pidfd, deadline, err) < 0 ||
        agent_say_hello(fd, address->vmm_pidfd, hello, deadline, err) < 0)
        return -1;
    return take_fd(&fd);
}

int agent_open_stream(const struct agent_address *address, const char *container, const char *process,
                      const char *stream, int64_t deadline, struct error *err)
{
    cleanup_json json_t *hello =
        json_pack("{s:i, s:s, s:s, s:s, s:s}", "husk", PROTOCOL_VERSION, "open", "stream", "container",
                  container, "process", process, "stream", stream);
    int fd = agent_open(address, hello, deadline, err);
    return fd < 0 ? error_wrap(err, "open %s", stream) : fd;
}

struct agent_client *agent_connect(const struct agent_address *address, int64_t deadline, struct error *err)
{
    cleanup_json json_t *hello = json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control");
    cleanup_fd int fd = agent_open(address, hello, deadline, err);
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

json_t *agent_call(struct agent_client *client, const char *method, json_t *params, int64_t deadline,
                   struct error *err)
{
    int64_t id = agent_send(client, method, params, err);
    if (id < 0)
        return NULL;
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
