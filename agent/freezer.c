/*
 * The freezer: see freezer.h. The kernel freezes a cgroup step by step; its "frozen" in cgroup.events, which
 * the container watches anyway, tells when the last process stands.
 */
#include "agent/freezer.h"

#include "common/fd.h"

#include <errno.h>
#include <string.h>

#define EVENTS_BYTES_MAX 4096

static bool freezer_is_frozen(const struct container *container)
{
    cleanup_free char *events = NULL;
    return fd_read_file_at(container->cgroup.fd, "cgroup.events", EVENTS_BYTES_MAX, &events) > 0 &&
           strstr(events, "frozen 1");
}

static void freezer_fail_waiting(struct container *container, int code, const char *text)
{
    struct request *request;
    struct error err;
    error_say(&err, code, "%s", text);
    while ((request = LIST_FIRST(&container->pause_requests)) != NULL) {
        LIST_REMOVE(request, waiting);
        request_fail(request, &err);
    }
}

int freezer_pause(struct container *container, struct request *request, struct error *err)
{
    enum process_state state = container->init->state;
    if (container->removing || (state != PROCESS_CREATED && state != PROCESS_RUNNING))
        return error_say(err, ESRCH, "container not running");
    int failed = cgroup_write_file(container->cgroup.fd, "cgroup.freeze", "1");
    if (failed)
        return error_set(err, -failed, "freeze");
    LIST_INSERT_HEAD(&container->pause_requests, request, waiting);
    freezer_changed(container);
    return 0;
}

int freezer_resume(struct container *container, struct request *request, struct error *err)
{
    int failed = cgroup_write_file(container->cgroup.fd, "cgroup.freeze", "0");
    if (failed)
        return error_set(err, -failed, "thaw");
    freezer_fail_waiting(container, ECANCELED, "the container was resumed");
    request_succeed(request, NULL);
    return 0;
}

void freezer_changed(struct container *container)
{
    struct request *request;
    if (LIST_EMPTY(&container->pause_requests))
        return;
    if (container->removing || container->init->state == PROCESS_ENDED)
        freezer_fail_waiting(container, ESRCH, "container not running");
    else if (freezer_is_frozen(container)) {
        while ((request = LIST_FIRST(&container->pause_requests)) != NULL) {
            LIST_REMOVE(request, waiting);
            request_succeed(request, NULL);
        }
    }
}
