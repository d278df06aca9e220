/*
 * The agent's port: see server.h. Only the host may connect: a container can open vsock sockets too, and the
 * kernel loops those back to this port.
 */
#include "agent/server.h"

#include "common/fd.h"
#include "common/log.h"
#include "protocol/protocol.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define BACKLOG      128
#define BUFFER_BYTES (1u << 20) /* of each connection, towards the guest: what the host may send ahead */

static void server_accept(struct watch *watch, uint32_t events)
{
    (void)events;
    struct server *server = watch->arg;
    struct sockaddr_vm peer = {0};
    socklen_t length = sizeof(peer);
    int fd = accept4(watch->fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; /* gone again, or no fd left: the next event brings another try */
    int failed = peer.svm_cid != VMADDR_CID_HOST ? -EPERM : connection_new(server->sandbox, fd);
    if (failed) {
        log_warn("connection refused: cid=%u reason=%s", peer.svm_cid, strerror(-failed));
        close(fd);
    }
}

/* The knock has been heard: the host refuses it, which is all the answer there is. */
static void server_knocked(struct watch *watch, uint32_t events)
{
    (void)events;
    struct server *server = watch->arg;
    loop_del(server->sandbox->loop, watch);
    fd_close(&watch->fd);
}

static void server_knock(struct server *server)
{
    const struct sockaddr_vm host = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = KNOCK_PORT};
    server->knock.fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->knock.fd >= 0 &&
        connect(server->knock.fd, (const struct sockaddr *)&host, sizeof(host)) < 0 && errno != EINPROGRESS)
        fd_close(&server->knock.fd); /* the host may still find out by itself */
}

int server_listen(struct server *server, struct error *err)
{
    const struct sockaddr_vm any = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
    const uint64_t bytes = BUFFER_BYTES;
    *server = (struct server){.listener = {.fd = -1, .fn = server_accept, .arg = server},
                              .knock = {.fd = -1, .fn = server_knocked, .arg = server}};
    cleanup_fd int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, errno, "vsock socket");
    /* Accepted connections have the listener's. */
    if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &bytes, sizeof(bytes)) < 0 ||
        setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &bytes, sizeof(bytes)) < 0)
        return error_set(err, errno, "vsock buffer");
    if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, BACKLOG) < 0)
        return error_set(err, errno, "listen at vsock port %d", AGENT_PORT);
    server->listener.fd = take_fd(&fd);
    server_knock(server);
    return 0;
}

int server_serve(struct server *server, struct sandbox *sandbox, struct error *err)
{
    server->sandbox = sandbox;
    int failed = loop_add(sandbox->loop, &server->listener, EPOLLIN);
    if (!failed && server->knock.fd >= 0)
        failed = loop_add(sandbox->loop, &server->knock, EPOLLOUT);
    return failed ? error_set(err, -failed, "serve") : 0;
}
