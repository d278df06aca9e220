/* See agent_fixture.h. */
#include "agent_fixture.h"

#include "agent/cgroup.h"
#include "agent/connection.h"
#include "agent/container.h"
#include "common/fd.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cmocka.h>

#define TURNS_MAX 10000 /* of a millisecond at most */

static void child_ended(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)events;
    while (read(watch->fd, &info, sizeof(info)) == sizeof(info))
        ;
    sandbox_reap(watch->arg);
}

static void power_off(struct sandbox *sandbox)
{
    struct agent_fixture *fixture =
        (struct agent_fixture *)((char *)sandbox - offsetof(struct agent_fixture, sandbox));
    fixture->power_offs++;
}

int agent_fixture_open(void **state)
{
    static struct agent_fixture fixture;
    sigset_t signals;
    memset(&fixture, 0, sizeof(fixture));
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (sandbox_init(&fixture.sandbox, NULL))
        return -1;
    fixture.sandbox.power_off = power_off;
    fixture.children = (struct watch){
        .fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), .fn = child_ended, .arg = &fixture.sandbox};
    loop_add(fixture.sandbox.loop, &fixture.children, EPOLLIN);
    fixture.control = agent_connect(&fixture);
    json_t *answer = agent_exchange(&fixture, fixture.control,
                                    json_pack("{s:i, s:s}", "husk", PROTOCOL_VERSION, "open", "control"));
    bool ok = json_is_true(json_object_get(answer, "ok"));
    json_decref(answer);
    *state = &fixture;
    return ok ? 0 : -1;
}

int agent_fixture_close(void **state)
{
    struct agent_fixture *fixture = *state;
    struct container *container;
    fd_close(&fixture->control);
    /* What a failed test left running must not be in the next one's way. */
    LIST_FOREACH(container, &fixture->sandbox.containers, link)
    {
        cgroup_kill(&container->cgroup, SIGKILL);
    }
    for (int turn = 0; turn < 200 && !LIST_EMPTY(&fixture->sandbox.containers) &&
                       cgroup_is_populated(&LIST_FIRST(&fixture->sandbox.containers)->cgroup);
         turn++)
        loop_once(fixture->sandbox.loop, 10);
    fd_close(&fixture->children.fd);
    sandbox_fini(&fixture->sandbox);
    return 0;
}

int agent_connect(struct agent_fixture *fixture)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(connection_new(&fixture->sandbox, pair[1]), 0);
    return pair[0];
}

json_t *agent_next_frame(struct agent_fixture *fixture, int fd)
{
    struct frame_parser *parser = frame_parser_new();
    json_t *message = NULL;
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        int got;
        while ((got = frame_parser_fill(parser, fd, NULL)) > 0 &&
               frame_parser_next(parser, &message, NULL) == 0)
            ;
        if (got < 0 || message)
            break;
        loop_once(fixture->sandbox.loop, 1);
    }
    frame_parser_free(parser);
    return message;
}

json_t *agent_exchange(struct agent_fixture *fixture, int fd, json_t *frame)
{
    size_t length = 0, sent = 0;
    char *bytes = frame_encode(frame, &length, NULL);
    json_decref(frame);
    assert_non_null(bytes);
    while (sent < length) {
        ssize_t put = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
        assert_true(put > 0 || errno == EAGAIN);
        sent += put > 0 ? (size_t)put : 0;
        loop_once(fixture->sandbox.loop, 0);
    }
    free(bytes);
    return agent_next_frame(fixture, fd);
}

static json_t *agent_request(struct agent_fixture *fixture, const char *method, json_t *params)
{
    json_int_t id = ++fixture->next_id;
    json_t *answer =
        agent_exchange(fixture, fixture->control,
                       json_pack("{s:I, s:s, s:o}", "id", id, "method", method, "params", params));
    assert_non_null(answer);
    assert_int_equal(json_integer_value(json_object_get(answer, "id")), id);
    return answer;
}

json_t *agent_call(struct agent_fixture *fixture, const char *method, json_t *params)
{
    json_t *answer = agent_request(fixture, method, params);
    json_t *error = json_object_get(answer, "error");
    if (error)
        fail_msg("%s: %s", method, json_string_value(json_object_get(error, "text")));
    json_t *result = json_incref(json_object_get(answer, "result"));
    json_decref(answer);
    return result;
}

int agent_call_error(struct agent_fixture *fixture, const char *method, json_t *params, char *text,
                     size_t size)
{
    json_t *answer = agent_request(fixture, method, params);
    json_t *error = json_object_get(answer, "error");
    if (!error)
        fail_msg("%s did not fail", method);
    int code = (int)json_integer_value(json_object_get(error, "code"));
    if (text)
        snprintf(text, size, "%s", json_string_value(json_object_get(error, "text")));
    json_decref(answer);
    return code;
}

int agent_open_stream(struct agent_fixture *fixture, const char *id, const char *process, const char *stream)
{
    return agent_open_connection(fixture, id, process, stream, NULL);
}

int agent_open_connection(struct agent_fixture *fixture, const char *id, const char *process,
                          const char *stream, json_t *ends)
{
    int fd = agent_connect(fixture);
    json_t *hello = json_pack("{s:i, s:s, s:s, s:s, s:s}", "husk", PROTOCOL_VERSION, "open", "stream",
                              "container", id, "process", process, "stream", stream);
    json_object_update(hello, ends);
    json_decref(ends);
    json_t *answer = agent_exchange(fixture, fd, hello);
    assert_true(json_is_true(json_object_get(answer, "ok")));
    json_decref(answer);
    return fd;
}

size_t agent_read_all(struct agent_fixture *fixture, int fd, char *buffer, size_t size)
{
    size_t length = 0;
    for (int turn = 0; turn < TURNS_MAX && length < size - 1; turn++) {
        ssize_t got = read(fd, buffer + length, size - 1 - length);
        if (got == 0)
            break;
        if (got > 0)
            length += (size_t)got;
        else
            loop_once(fixture->sandbox.loop, 1);
    }
    buffer[length] = '\0';
    return length;
}

void agent_run_until(struct agent_fixture *fixture, bool (*done)(struct agent_fixture *fixture))
{
    for (int turn = 0; turn < TURNS_MAX && !done(fixture); turn++)
        loop_once(fixture->sandbox.loop, 1);
    assert_true(done(fixture));
}
