/*
 * Notify sockets: see notify.h.
 */
#include "agent/notify.h"

#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MESSAGE_BYTES_MAX 4096 /* as systemd reads them */

struct notify {
    struct loop *loop;
    struct watch watch;
    struct request *request; /* that waits for a datagram; while there is none the socket is not watched */
};

/* Text only: fds that come along are the kernel's to drop, and what is no UTF-8 is no message. */
static void notify_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct notify *notify = watch->arg;
    char text[MESSAGE_BYTES_MAX];
    ssize_t got = recv(watch->fd, text, sizeof(text), MSG_DONTWAIT);
    if (got < 0)
        return;
    json_t *message = json_stringn(text, (size_t)got);
    if (!message) {
        log_warn("a notification of %zd bytes is no text", got);
        return;
    }
    struct request *request = notify->request;
    notify->request = NULL;
    loop_del(notify->loop, watch);
    request_succeed(request, json_pack("{s:o}", "message", message));
}

struct notify *notify_new(struct loop *loop, const char *name, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    struct notify *notify = NULL;
    if (length == 0 || length > sizeof(address.sun_path) - 1) {
        error_set(err, 0, "notify: a name of %zu bytes", length);
        return NULL;
    }
    memcpy(address.sun_path + 1, name, length);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0)
        error_set(err, errno, "notify socket");
    else if (!(notify = calloc(1, sizeof(*notify))))
        error_set(err, ENOMEM, "notify socket");
    else
        *notify =
            (struct notify){.loop = loop, .watch = {.fd = take_fd(&fd), .fn = notify_ready, .arg = notify}};
    return notify;
}

void notify_free(struct notify *notify)
{
    struct error err;
    if (!notify)
        return;
    if (notify->request) {
        error_say(&err, ESRCH, "the container is no more");
        loop_del(notify->loop, &notify->watch);
        request_fail(notify->request, &err);
    }
    fd_close(&notify->watch.fd);
    free(notify);
}

int notify_wait(struct notify *notify, struct request *request, struct error *err)
{
    if (notify->request)
        return error_say(err, EBUSY, "notifications are waited for already");
    int failed = loop_add(notify->loop, &notify->watch, EPOLLIN);
    if (failed)
        return error_set(err, -failed, "notify socket");
    notify->request = request;
    return 0;
}
