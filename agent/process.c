/*
 * Processes of containers: see process.h. The agent's side; the other side of the fork is launch.c.
 */
#include "agent/process.h"

#include "agent/container.h"
#include "agent/credentials.h"
#include "agent/sync.h"
#include "common/fd.h"
#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int wish_parse_activation(struct process_wish *wish, const json_t *params, struct error *err)
{
    json_t *object = NULL;
    int64_t count = 0;
    if (json_get_object(params, "", "activation", &object, err) < 0)
        return -1;
    if (object && (json_require(json_get_int(object, "activation", "fds", 1, PROCESS_FDS_MAX, &count, err),
                                "activation", "fds", err) < 0 ||
                   json_get_string(object, "activation", "names", &wish->activation.names, err) < 0))
        return -1;
    wish->activation.fds = (unsigned)count;
    return 0;
}

int process_wish_parse(struct process_wish *wish, const json_t *params, bool terminal, struct error *err)
{
    *wish = (struct process_wish){.terminal = terminal};
    if (json_get_bool(params, "", "terminal", &wish->terminal, err) < 0 ||
        json_get_bool(params, "", "start", &wish->start, err) < 0)
        return -1;
    return wish_parse_activation(wish, params, err) || process_streams_parse(&wish->streams, params, err) ? -1
                                                                                                          : 0;
}

static json_t *process_status_to_json(const struct process *process)
{
    int status = process->wait_status;
    if (WIFSIGNALED(status))
        return json_pack("{s:i, s:b}", "signal", WTERMSIG(status), "core", WCOREDUMP(status) ? 1 : 0);
    return json_pack("{s:i}", "status", WEXITSTATUS(status));
}

static void process_answer_waiters(struct process *process)
{
    struct request *request;
    if (process->state != PROCESS_ENDED || !process_streams_are_drained(&process->streams))
        return;
    while ((request = LIST_FIRST(&process->waiters)) != NULL) {
        LIST_REMOVE(request, waiting);
        request_succeed(request, process_status_to_json(process));
        process->waited_for = true;
    }
}

static void process_stream_drained(void *arg)
{
    process_answer_waiters(arg);
}

static void process_succeed(const struct process *process, struct request **request)
{
    request_succeed(*request, json_pack("{s:i}", "pid", (int)process->pid));
    *request = NULL;
}

static void process_close_sync(struct process *process)
{
    loop_del(container_loop(process->container), &process->sync);
    fd_close(&process->sync.fd);
}

/* It will not run: the requests for it fail with the reason, and what was forked goes. */
static void process_fail(struct process *process, const struct error *err)
{
    process->failure = *err;
    process_close_sync(process);
    process_signal(process, SIGKILL);
    if (process->start_request)
        request_fail(process->start_request, err);
    process->start_request = NULL;
    /* A create is answered once the process is reaped, so that nothing of it is left when the host hears. */
}

static void process_take_terminal(struct process *process, int master)
{
    struct error err;
    if (!process->wish.terminal)
        error_say(&err, EPROTO, "it was not asked for");
    if (!process->wish.terminal || process_streams_add_terminal(&process->streams, master, &err)) {
        close(master);
        log_err("process %s: its terminal can't be taken over: %s", process->name, err.text);
        return;
    }
    sandbox_open_waiting_streams(process->container->sandbox);
}

/* It is set up: its create is answered, or the program is let run and that is the answer. */
static void process_is_ready(struct process *process)
{
    struct error err;
    bool is_init = process->spec != &process->own_spec;
    if (credentials_limit(process->pid, process->spec, &err) ||
        (!is_init && credentials_place(process->pid, &process->spec->cpus_final, &err))) {
        process_fail(process, &err);
        return;
    }
    process->state = PROCESS_CREATED;
    if (process->wish.start && process_start(process, process->create_request, &err) == 0)
        process->create_request = NULL;
    else if (process->wish.start)
        process_fail(process, &err);
    else
        process_succeed(process, &process->create_request);
}

/* The conversation's end: exec closed it, or the process's death did, which the reaping will tell. */
static void process_sync_ended(struct process *process)
{
    process_close_sync(process);
    if (process->state != PROCESS_CREATED || !process->start_request)
        return;
    process->state = PROCESS_RUNNING;
    process_succeed(process, &process->start_request);
}

/* Stage 1 has forked the process, which waits to hear that its pid is known here. */
static void process_take_child(struct process *process, pid_t pid, int pidfd)
{
    fd_close(&process->pidfd);
    process->pidfd = pidfd;
    process->pid = pid;
    process->forked = true;
    /* It may have been killed already, and reaped when nobody knew it. */
    if (pidfd_send_signal(pidfd, 0, NULL, 0) < 0 && errno == ESRCH)
        process->vanished = true;
    else
        sync_send(process->sync.fd, SYNC_GO, NULL, -1); /* a failure shows as the end of the conversation */
}

/* Takes one message. False when there is none now, or will be none any more. */
static bool process_take_message(struct process *process)
{
    struct sync_message message;
    int passed = -1;
    int got = process->sync.fd < 0 ? -EAGAIN : sync_receive(process->sync.fd, &message, &passed);
    if (got == -EAGAIN)
        return false;
    if (got <= 0) {
        process_sync_ended(process);
        return false;
    }
    if (message.type == SYNC_CHILD && passed >= 0 && !process->forked) {
        process_take_child(process, message.pid, passed);
        return true;
    }
    if (message.type == SYNC_TERMINAL && passed >= 0) {
        process_take_terminal(process, take_fd(&passed));
    } else if (message.type == SYNC_READY && process->state == PROCESS_SETTING_UP) {
        process_is_ready(process);
    } else if (message.type == SYNC_ERROR) {
        process_fail(process, &message.err);
        return false;
    }
    fd_close(&passed);
    return true;
}

static void process_end(struct process *process, int wait_status);

static void process_sync_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct process *process = watch->arg;
    process_take_message(process);
    if (process->vanished)
        process_end(process, SIGKILL);
}

static int process_fork(struct process *process, struct launch *launch, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, errno, "socket pair");
    process->sync.fd = pair[0];
    cleanup_fd int theirs = pair[1];
    launch->sync_fd = theirs;
    launch->process = process->spec;
    launch->terminal = process->wish.terminal;
    launch->activation = process->wish.activation;
    int failed = fd_set_nonblock(process->sync.fd, 1);
    if (!failed)
        failed = loop_add(container_loop(process->container), &process->sync, EPOLLIN);
    if (failed)
        return error_set(err, -failed, "process");
    process->pid = launch_start(launch, err);
    if (process->pid < 0) {
        process->pid = 0;
        return -1;
    }
    /* Not reaped before the loop's next turn, so the pid is its own. */
    process->pidfd = pidfd_open(process->pid, 0);
    return process->pidfd < 0 ? error_set(err, errno, "pidfd") : 0;
}

struct process *process_new(struct container *container, const char *name, const struct spec_process *spec,
                            const struct process_wish *wish, struct launch *launch, struct request *request,
                            struct error *err)
{
    struct process *process = calloc(1, sizeof(*process));
    if (!process) {
        error_set(err, ENOMEM, "process");
        return NULL;
    }
    process->container = container;
    process->spec = spec;
    process->wish = *wish;
    process->pidfd = -1;
    process->sync = (struct watch){.fd = -1, .fn = process_sync_ready, .arg = process};
    strncpy(process->name, name, sizeof(process->name) - 1);
    LIST_INIT(&process->waiters);
    for (int i = 0; i < 3; i++)
        launch->stdio[i] = -1;
    for (int i = 0; i < PROCESS_FDS_MAX; i++)
        launch->fds[i] = -1;
    process_streams_init(&process->streams, container_loop(container), process_stream_drained, process);
    int failed = process_streams_make(&process->streams, &wish->streams, wish->terminal, launch->stdio,
                                      launch->fds, err);
    if (!failed)
        failed = process_fork(process, launch, err);
    for (int i = 0; i < 3; i++)
        fd_close(&launch->stdio[i]);
    for (int i = 0; i < PROCESS_FDS_MAX; i++)
        fd_close(&launch->fds[i]);
    if (failed) {
        if (process->pid > 0) /* an unknown child: reaped like any other that is nobody's */
            kill(process->pid, SIGKILL);
        process_free(process);
        return NULL;
    }
    process->create_request = request;
    return process;
}

void process_free(struct process *process)
{
    struct error gone;
    struct request *request;
    error_say(&gone, ESRCH, "process %s is no more", process->name);
    process_close_sync(process);
    if (process->create_request)
        request_fail(process->create_request, process->failure.code ? &process->failure : &gone);
    if (process->start_request)
        request_fail(process->start_request, &gone);
    while ((request = LIST_FIRST(&process->waiters)) != NULL) {
        LIST_REMOVE(request, waiting);
        request_fail(request, &gone);
    }
    process_streams_free(&process->streams);
    fd_close(&process->pidfd);
    spec_process_fini(&process->own_spec);
    free(process);
}

struct stream *process_open_stream(struct process *process, const json_t *first_frame, struct error *err)
{
    struct stream *stream = process_streams_open(&process->streams, first_frame, err);
    if (!stream)
        error_wrap(err, "process %s", process->name);
    return stream;
}

int process_start(struct process *process, struct request *request, struct error *err)
{
    if (process->state != PROCESS_CREATED || process->start_request)
        return error_say(err, EBUSY, "process %s has been started", process->name);
    int failed = sync_send(process->sync.fd, SYNC_START, NULL, -1);
    if (failed)
        return error_set(err, -failed, "start process %s", process->name);
    process->start_request = request;
    return 0;
}

int process_signal(const struct process *process, int signal)
{
    if (process->state == PROCESS_ENDED || process->pidfd < 0)
        return -ESRCH;
    return pidfd_send_signal(process->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

void process_abandon(struct process *process)
{
    process->wish.owner = NULL;
    process_signal(process, SIGKILL);
    process->waited_for = true;
    process_streams_expect_none(&process->streams);
}

void process_wait(struct process *process, struct request *request)
{
    LIST_INSERT_HEAD(&process->waiters, request, waiting);
    process_answer_waiters(process);
}

void process_reaped(struct process *process, pid_t pid, int wait_status)
{
    /* What it said last may still wait in its socket: the loop could have brought the death first. */
    while (process_take_message(process))
        ;
    if (process->pid == pid)
        process_end(process, wait_status);
    else if (process->vanished) /* it was stage 1 that has ended, as it should */
        process_end(process, SIGKILL);
}

/* May free the process. */
static void process_end(struct process *process, int wait_status)
{
    process_close_sync(process);
    if (process->state == PROCESS_SETTING_UP && !process->failure.code)
        error_say(&process->failure, EIO, "process %s ended before it was set up (wait status 0x%x)",
                  process->name, (unsigned)wait_status);
    process->state = PROCESS_ENDED;
    process->pid = 0;
    process->wait_status = wait_status;
    process_streams_finish(&process->streams);
    process_answer_waiters(process);
    container_process_ended(process->container, process);
}

bool process_is_over(const struct process *process)
{
    return process->state == PROCESS_ENDED && process->waited_for &&
           process_streams_are_over(&process->streams);
}
