/*
 * Events of want of memory: see oom.h. memory.events is watched as cgroup.events is (EPOLLPRI until it is
 * read), and only while somebody wants to know.
 */
#include "agent/oom.h"

#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_BYTES_MAX 4096

/* The counter of processes killed; reading the file acknowledges the event. */
static unsigned long long oom_read_kills(int fd)
{
    char text[EVENTS_BYTES_MAX];
    ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "oom_kill ");
    return line ? strtoull(line + strlen("oom_kill "), NULL, 10) : 0;
}

/* Those whose connection has gone wait for nothing any more. */
static void oom_drop_gone(struct container *container)
{
    struct request *next;
    for (struct request *at = LIST_FIRST(&container->oom_requests); at; at = next) {
        next = LIST_NEXT(at, waiting);
        if (at->connection)
            continue;
        LIST_REMOVE(at, waiting);
        request_succeed(at, NULL);
    }
}

static void oom_stop(struct container *container)
{
    if (container->oom_events.fd < 0)
        return;
    loop_del(container_loop(container), &container->oom_events);
    fd_close(&container->oom_events.fd);
}

static void oom_changed(struct watch *watch, uint32_t events)
{
    (void)events;
    struct container *container = watch->arg;
    struct request *request;
    unsigned long long kills = oom_read_kills(watch->fd);
    oom_drop_gone(container);
    if (LIST_EMPTY(&container->oom_requests)) {
        oom_stop(container);
        return;
    }
    if (kills == container->oom_kills)
        return;
    container->oom_kills = kills;
    LIST_FOREACH(request, &container->oom_requests, waiting)
    {
        request_notify(request, "oom", json_pack("{s:s}", "container", container->id));
    }
}

static int oom_start(struct container *container, struct error *err)
{
    struct watch *watch = &container->oom_events;
    if (watch->fd >= 0)
        return 0;
    *watch = (struct watch){.fn = oom_changed, .arg = container};
    watch->fd = openat(container->cgroup.fd, "memory.events", O_RDONLY | O_CLOEXEC);
    if (watch->fd < 0)
        return error_set(err, errno, "memory.events");
    container->oom_kills = oom_read_kills(watch->fd);
    int failed = loop_add(container_loop(container), watch, EPOLLPRI);
    if (!failed)
        return 0;
    fd_close(&watch->fd);
    return error_set(err, -failed, "watch memory.events");
}

int oom_watch(struct container *container, struct request *request, struct error *err)
{
    if (container->removing || container->init->state == PROCESS_ENDED)
        return error_say(err, ESRCH, "container not running");
    oom_drop_gone(container);
    if (oom_start(container, err))
        return -1;
    LIST_INSERT_HEAD(&container->oom_requests, request, waiting);
    return 0;
}

void oom_unwatch(struct container *container)
{
    struct request *request;
    if (container->oom_events.fd >= 0)
        oom_changed(&container->oom_events, 0); /* a last one that the loop has not brought yet */
    while ((request = LIST_FIRST(&container->oom_requests)) != NULL) {
        LIST_REMOVE(request, waiting);
        request_succeed(request, NULL);
    }
    oom_stop(container);
}
