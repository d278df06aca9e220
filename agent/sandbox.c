/*
 * The sandbox: see sandbox.h.
 */
#include "agent/sandbox.h"

#include "agent/container.h"
#include "agent/network.h"
#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_FRAME_CHECK_S 1

static void first_frame_check(struct watch *watch, uint32_t events)
{
    (void)events;
    struct sandbox *sandbox = watch->arg;
    uint64_t expirations;
    struct timespec now;
    if (read(watch->fd, &expirations, sizeof(expirations)) < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct connection *next;
    for (struct connection *at = LIST_FIRST(&sandbox->connections); at; at = next) {
        next = connection_next(at);
        connection_expire(at, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    }
}

int sandbox_init(struct sandbox *sandbox, struct error *err)
{
    *sandbox = (struct sandbox){.first_frame_timer = {.fd = -1, .fn = first_frame_check, .arg = sandbox},
                                .loop = loop_new()};
    LIST_INIT(&sandbox->containers);
    LIST_INIT(&sandbox->connections);
    if (!sandbox->loop)
        return error_set(err, errno, "event loop");
    sandbox->first_frame_timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (sandbox->first_frame_timer.fd < 0)
        return error_set(err, errno, "timer");
    int failed = loop_add(sandbox->loop, &sandbox->first_frame_timer, EPOLLIN);
    return failed ? error_set(err, -failed, "timer") : 0;
}

void sandbox_complete(struct sandbox *sandbox)
{
    void (*complete)(void) = sandbox->complete;
    sandbox->complete = NULL;
    if (complete)
        complete();
}

void sandbox_fini(struct sandbox *sandbox)
{
    while (!LIST_EMPTY(&sandbox->connections))
        connection_free(LIST_FIRST(&sandbox->connections));
    while (!LIST_EMPTY(&sandbox->containers))
        container_free(LIST_FIRST(&sandbox->containers));
    fd_close(&sandbox->first_frame_timer.fd);
    network_free(sandbox->network);
    loop_free(sandbox->loop);
}

void sandbox_count_silent(struct sandbox *sandbox, int change)
{
    bool was_running = sandbox->silent_connections > 0;
    sandbox->silent_connections += (unsigned)change;
    bool run = sandbox->silent_connections > 0;
    struct itimerspec interval = {0};
    if (run == was_running)
        return;
    if (run)
        interval.it_interval.tv_sec = interval.it_value.tv_sec = FIRST_FRAME_CHECK_S;
    timerfd_settime(sandbox->first_frame_timer.fd, 0, &interval, NULL);
}

struct container *sandbox_find(struct sandbox *sandbox, const char *id)
{
    struct container *container;
    LIST_FOREACH(container, &sandbox->containers, link)
    {
        if (strcmp(container->id, id) == 0)
            return container;
    }
    return NULL;
}

static struct process *sandbox_find_pid(struct sandbox *sandbox, pid_t pid)
{
    struct container *container;
    struct process *process;
    LIST_FOREACH(container, &sandbox->containers, link)
    {
        LIST_FOREACH(process, &container->processes, link)
        {
            if (process->pid == pid)
                return process;
        }
    }
    return NULL;
}

void sandbox_reap(struct sandbox *sandbox)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        /* Orphans of containers without a pid namespace come here too; nobody waits for those. */
        struct process *process = sandbox_find_pid(sandbox, pid);
        if (process)
            process_reaped(process, pid, status);
    }
}

void sandbox_owner_lost(struct sandbox *sandbox, const struct connection *connection)
{
    struct container *next;
    for (struct container *at = LIST_FIRST(&sandbox->containers); at; at = next) {
        next = LIST_NEXT(at, link);
        if (at->owner != connection)
            continue;
        log_warn("container %s: its monitor is gone", at->id);
        at->owner = NULL;
        at->orphaned = true;
        container_abandon(at);
    }
    if (LIST_EMPTY(&sandbox->containers))
        sandbox_end(sandbox);
}

void sandbox_process_owner_lost(struct sandbox *sandbox, const struct connection *connection)
{
    struct container *container;
    LIST_FOREACH(container, &sandbox->containers, link)
    {
        container_owner_lost(container, connection);
    }
}

void sandbox_open_waiting_streams(struct sandbox *sandbox)
{
    struct connection *next;
    for (struct connection *at = LIST_FIRST(&sandbox->connections); at; at = next) {
        next = connection_next(at);
        connection_open_waiting_stream(at);
    }
}

static void sandbox_power_off(void *arg)
{
    struct sandbox *sandbox = arg;
    sandbox->power_off(sandbox);
}

void sandbox_end(struct sandbox *sandbox)
{
    if (sandbox->ending)
        return;
    sandbox->ending = true;
    /* After the callbacks under way: what they still answer is sent before. */
    if (loop_post(sandbox->loop, sandbox_power_off, sandbox))
        sandbox->power_off(sandbox);
}
