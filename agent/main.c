/*
 * husk-agent: PID 1 of the guest, and all that its initramfs holds.
 *
 * It serves the host over vsock (server.h, connection.h, requests.h), makes containers and processes
 * (container.h, process.h, launch.h) and moves their streams (stream.h), all from one thread and one loop.
 * The host is not trusted further than a request's check, containers not at all. If the agent ends, the
 * kernel panics, and the VMM reports that: there is no other way to go on.
 */
#include "agent/guest.h"
#include "agent/server.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void child_ended(struct watch *watch, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof(info)) == sizeof(info))
        ;
    sandbox_reap(watch->arg);
}

static int watch_children(struct sandbox *sandbox, struct watch *children, struct error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return error_set(err, errno, "signals");
    *children = (struct watch){
        .fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), .fn = child_ended, .arg = sandbox};
    if (children->fd < 0)
        return error_set(err, errno, "signalfd");
    int failed = loop_add(sandbox->loop, children, EPOLLIN);
    return failed ? error_set(err, -failed, "signalfd") : 0;
}

/* The staircase of the start. The host hears the knock as early as the agent can listen, its greeting is
 * answered next, and what only containers need is made ready while the host acts on that. */
static int agent_run(struct error *err)
{
    struct server server;
    struct sandbox sandbox;
    struct watch children;
    if (guest_prepare(err) || server_listen(&server, err) || sandbox_init(&sandbox, err))
        return -1;
    sandbox.power_off = guest_power_off;
    sandbox.complete = guest_complete;
    if (watch_children(&sandbox, &children, err) || server_serve(&server, &sandbox, err))
        return -1;
    int failed = loop_run(sandbox.loop);
    return error_set(err, failed ? -failed : EIO, "event loop");
}

int main(void)
{
    struct error err = {0};
    if (getpid() != 1) {
        fprintf(stderr, "husk-agent is the first process of husk's guests and runs nowhere else\n");
        return 1;
    }
    agent_run(&err);
    log_err("%s", err.text);
    return 1;
}
