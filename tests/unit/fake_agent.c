/*
 * The fake agent: see fake_agent.h. One thread per connection, one container, one lock around everything.
 */
#include "fake_agent.h"

#include "common/fd.h"
#include "common/json.h"
#include "protocol/frame.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    json_t *args;
    int streams[3];
    bool started, ended, shut_down;
    int status, number;
    int listen_fd;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .streams = {-1, -1, -1}};

static const char *fake_arg(size_t index)
{
    const char *text = json_string_value(json_array_get(fake.args, index));
    return text ? text : "";
}

static void fake_end_locked(int status, int number)
{
    for (int i = 0; i < 3; i++)
        fd_close(&fake.streams[i]);
    fake.ended = true;
    fake.status = status;
    fake.number = number;
    pthread_cond_broadcast(&fake.changed);
}

static void *fake_cat(void *arg)
{
    char buffer[65536];
    ssize_t got;
    (void)arg;
    while ((got = read(fake.streams[0], buffer, sizeof(buffer))) > 0)
        fd_write_full(fake.streams[1], buffer, (size_t)got);
    pthread_mutex_lock(&fake.lock);
    fake_end_locked(0, 0);
    pthread_mutex_unlock(&fake.lock);
    return NULL;
}

/* NULL: no answer. */
static json_t *fake_start(json_int_t id)
{
    pthread_t thread;
    const char *what = fake_arg(0);
    if (strcmp(what, "missing") == 0)
        return json_pack("{s:I, s:{s:i, s:s}}", "id", id, "error", "code", ENOENT, "text",
                         "missing: executable file not found in $PATH");
    if (strcmp(what, "mute") == 0)
        return NULL;
    if (strcmp(what, "vanish") == 0)
        _exit(3);
    fake.started = true;
    if (strcmp(what, "cat") == 0) {
        pthread_create(&thread, NULL, fake_cat, NULL);
        pthread_detach(thread);
    } else if (strcmp(what, "exit") == 0) {
        fd_write_full(fake.streams[1], "out\n", 4);
        fd_write_full(fake.streams[2], "err\n", 4);
        fake_end_locked(atoi(fake_arg(1)), 0);
    } else if (strcmp(what, "lie") == 0) {
        fake_end_locked(4711, 0);
    }
    return json_pack("{s:I, s:{}}", "id", id, "result");
}

static json_t *fake_kill(json_int_t id, const json_t *params)
{
    if (fake.ended)
        return json_pack("{s:I, s:{s:i, s:s}}", "id", id, "error", "code", ESRCH, "text", "no such process");
    int number = (int)json_integer_value(json_object_get(params, "signal"));
    if (number == SIGKILL || (fake.started && strcmp(fake_arg(0), "sleep") == 0))
        fake_end_locked(-1, number);
    return json_pack("{s:I, s:{}}", "id", id, "result");
}

struct fake_wait {
    int fd;
    json_int_t id;
};

static void *fake_answer_wait(void *arg)
{
    struct fake_wait *wait = arg;
    pthread_mutex_lock(&fake.lock);
    while (!fake.ended)
        pthread_cond_wait(&fake.changed, &fake.lock);
    json_t *answer =
        fake.number
            ? json_pack("{s:I, s:{s:i, s:b}}", "id", wait->id, "result", "signal", fake.number, "core", 0)
            : json_pack("{s:I, s:{s:i}}", "id", wait->id, "result", "status", fake.status);
    frame_send(wait->fd, answer, NULL);
    pthread_mutex_unlock(&fake.lock);
    json_decref(answer);
    free(wait);
    return NULL;
}

static void fake_wait(int fd, json_int_t id)
{
    pthread_t thread;
    struct fake_wait *wait = malloc(sizeof(*wait));
    *wait = (struct fake_wait){.fd = fd, .id = id};
    pthread_create(&thread, NULL, fake_answer_wait, wait);
    pthread_detach(thread);
}

static json_t *fake_handle_locked(int fd, const json_t *request)
{
    const char *method = json_string_value(json_object_get(request, "method"));
    const json_t *params = json_object_get(request, "params");
    json_int_t id = json_integer_value(json_object_get(request, "id"));
    if (strcmp(method, "container.create") == 0) {
        json_t *process = json_object_get(json_object_get(params, "spec"), "process");
        fake.args = json_deep_copy(json_object_get(process, "args"));
        return json_pack("{s:I, s:{s:i}}", "id", id, "result", "pid", 2);
    }
    if (strcmp(method, "container.start") == 0)
        return fake_start(id);
    if (strcmp(method, "container.kill") == 0)
        return fake_kill(id, params);
    if (strcmp(method, "container.pause") == 0 || strcmp(method, "container.resume") == 0 ||
        strcmp(method, "container.update") == 0)
        return json_pack("{s:I, s:{}}", "id", id, "result");
    if (strcmp(method, "process.wait") == 0) {
        fake_wait(fd, id);
        return NULL;
    }
    if (strcmp(method, "sandbox.shutdown") == 0) {
        fake.shut_down = true;
        shutdown(fake.listen_fd, SHUT_RDWR);
        return json_pack("{s:I, s:{}}", "id", id, "result");
    }
    return json_pack("{s:I, s:{s:i, s:s}}", "id", id, "error", "code", ENOSYS, "text", method);
}

/* Like the guest of the real one, a container that runs `sleep mortal` does not outlive its monitor. */
static void fake_end_with_owner(const json_t *request, bool *owner)
{
    if (request)
        *owner |= json_is_true(json_object_get(json_object_get(request, "params"), "owner"));
    else if (*owner && strcmp(fake_arg(1), "mortal") == 0)
        _exit(0);
}

static void fake_serve_control(int fd)
{
    bool owner = false;
    for (;;) {
        json_t *request = frame_receive(fd, NULL);
        fake_end_with_owner(request, &owner);
        if (!request)
            return;
        pthread_mutex_lock(&fake.lock);
        json_t *answer = fake_handle_locked(fd, request);
        if (answer)
            frame_send(fd, answer, NULL);
        pthread_mutex_unlock(&fake.lock);
        json_decref(answer);
        json_decref(request);
    }
}

static void *fake_serve_connection(void *arg)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    int fd = (int)(intptr_t)arg;
    char line[16] = "";
    for (size_t at = 0; at < sizeof(line) - 1 && (at == 0 || line[at - 1] != '\n'); at++) {
        if (fd_read_full(fd, line + at, 1) < 0)
            break;
    }
    json_t *hello = NULL;
    if (strcmp(line, "CONNECT 1024\n") == 0 && fd_write_full(fd, "OK 1\n", 5) == 0)
        hello = frame_receive(fd, NULL);
    const char *open = json_string_value(json_object_get(hello, "open"));
    json_t *ok = json_pack("{s:i, s:b}", "husk", PROTOCOL_VERSION, "ok", 1);
    if (open && strcmp(open, "stream") == 0) {
        pthread_mutex_lock(&fake.lock);
        for (int i = 0; i < 3; i++) {
            if (strcmp(names[i], json_string_value(json_object_get(hello, "stream"))) == 0)
                fake.streams[i] = fd;
        }
        pthread_mutex_unlock(&fake.lock);
        frame_send(fd, ok, NULL);
    } else {
        if (open && frame_send(fd, ok, NULL) == 0)
            fake_serve_control(fd);
        close(fd);
    }
    json_decref(ok);
    json_decref(hello);
    return NULL;
}

void fake_agent_serve(int listen_fd)
{
    fake.listen_fd = listen_fd;
    for (;;) {
        int fd = accept(listen_fd, NULL, NULL);
        pthread_mutex_lock(&fake.lock);
        bool end = fake.shut_down;
        pthread_mutex_unlock(&fake.lock);
        if (fd < 0 || end)
            return;
        pthread_t thread;
        pthread_create(&thread, NULL, fake_serve_connection, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
}
