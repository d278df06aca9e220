/*
 * virtio-vsock, the Unix socket outside: accepting clients, their CONNECT line, and parking.
 *
 * Trust boundary: clients are whoever may open the socket, that is the sandbox's owner. They are bounded in
 * number all the same, and a line that is no CONNECT ends the connection. Called by the loop and by vsock.c.
 */
#include "vmm/virtio/vsock_internal.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Connections may be requested of the guest: its driver is up and has taken note of a reset. */
static bool may_request(const struct virtio_vsock *vsock)
{
    return vsock->active && vsock->reset == VSOCK_RESET_NONE;
}

void vsock_host_park(struct vsock_connection *connection)
{
    connection->state = VSOCK_PARKED;
    connection->owes = 0;
}

static void request(struct vsock_connection *connection)
{
    connection->state = VSOCK_REQUESTED;
    connection->owes = VSOCK_OWES_REQUEST;
}

void vsock_host_release_parked(struct virtio_vsock *vsock)
{
    if (!may_request(vsock))
        return;
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        struct vsock_connection *connection = vsock->slot[i];
        if (connection && connection->state == VSOCK_PARKED) {
            request(connection);
            vsock_connection_settle(connection);
        }
    }
}

/* The port of "CONNECT <port>\n", or VMADDR_PORT_ANY for anything else. */
static uint32_t parse_connect(const char *line)
{
    static const char word[] = "CONNECT ";
    if (strncmp(line, word, sizeof(word) - 1) != 0)
        return VMADDR_PORT_ANY;
    const char *digits = line + sizeof(word) - 1;
    size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 10 || strcmp(digits + length, "\n") != 0)
        return VMADDR_PORT_ANY;
    unsigned long long port = strtoull(digits, NULL, 10);
    return port < UINT32_MAX ? (uint32_t)port : VMADDR_PORT_ANY;
}

void vsock_host_greet(struct vsock_connection *connection)
{
    /* Peeked at first: what follows the line is the stream's. */
    char line[VSOCK_LINE_MAX + 1];
    ssize_t length = recv(connection->host.fd, line, VSOCK_LINE_MAX, MSG_PEEK | MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    const char *end = length > 0 ? memchr(line, '\n', (size_t)length) : NULL;
    if (length > 0 && length < VSOCK_LINE_MAX && !end && !connection->ended)
        return; /* the rest is on its way */
    size_t line_length = end ? (size_t)(end - line) + 1 : 0;
    line[line_length] = '\0';
    uint32_t port = parse_connect(line);
    if (port == VMADDR_PORT_ANY || recv(connection->host.fd, line, line_length, MSG_DONTWAIT) < 0) {
        log_limited(&connection->vsock->limit, "vsock: a client sent no CONNECT line");
        connection->host_dead = true;
        return;
    }
    connection->guest_port = port;
    connection->readable = true; /* more may have come with the line */
    if (may_request(connection->vsock))
        request(connection);
    else
        vsock_host_park(connection);
}

/* Without a free fd a waiting client could not even be turned away, and the socket would stay readable for
 * ever: the spare fd makes room to accept and close it. */
static void refuse_client(struct virtio_vsock *vsock)
{
    fd_close(&vsock->spare_fd);
    int fd = accept4(vsock->listen.fd, NULL, NULL, SOCK_CLOEXEC);
    fd_close(&fd);
    vsock->spare_fd = fcntl(vsock->listen.fd, F_DUPFD_CLOEXEC, 0);
}

static void on_client(struct watch *watch, uint32_t events)
{
    (void)events;
    struct virtio_vsock *vsock = watch->arg;
    while (vsock->connections < VSOCK_CONNECTIONS_MAX) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return; /* the loop comes back while clients wait */
        if (fd < 0 || !vsock_connection_new(vsock, fd)) {
            log_limited(&vsock->limit, "vsock: client turned away: %s", strerror(errno));
            if (fd < 0)
                refuse_client(vsock);
            return;
        }
    }
    loop_del(vsock->device.loop, watch);
    vsock->accepting = false;
}

void vsock_host_accept_more(struct virtio_vsock *vsock)
{
    if (vsock->accepting || vsock->connections == VSOCK_CONNECTIONS_MAX)
        return;
    vsock->listen.fn = on_client;
    vsock->listen.arg = vsock;
    int err = loop_add(vsock->device.loop, &vsock->listen, EPOLLIN);
    if (err)
        log_err("vsock: watch the socket: %s", strerror(-err));
    vsock->accepting = err == 0;
}
