/*
 * virtio-vsock, one connection: its states, credit (virtio 1.2 §5.10.6.3), half-closes, and the ring that
 * holds the guest's bytes while the host is slow.
 *
 * Trust boundary: the guest's packets may break every rule; what they break is their own connection, which is
 * answered with RST. The host may vanish at any time. Consequences are drawn in one place, settle, so that no
 * function in between frees what its caller still uses. Called by the loop, vsock.c and vsock_rx.c.
 */
#include "vmm/virtio/vsock_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT_BITS 12
_Static_assert(VSOCK_CONNECTIONS_MAX == 1 << SLOT_BITS, "a host port's low bits are its slot");
#define GENERATION_MAX ((1u << (32 - SLOT_BITS)) - 2) /* host ports are never VMADDR_PORT_ANY */

static void on_host_event(struct watch *watch, uint32_t events);

static unsigned take_slot(struct virtio_vsock *vsock)
{
    unsigned slot = vsock->next_slot;
    while (vsock->slot[slot])
        slot = (slot + 1) % VSOCK_CONNECTIONS_MAX;
    vsock->next_slot = (slot + 1) % VSOCK_CONNECTIONS_MAX;
    vsock->generation = vsock->generation % GENERATION_MAX + 1;
    return slot;
}

struct vsock_connection *vsock_connection_new(struct virtio_vsock *vsock, int fd)
{
    struct vsock_connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    connection->vsock = vsock;
    connection->host = (struct watch){.fd = fd, .fn = on_host_event, .arg = connection};
    int err = loop_add(vsock->device.loop, &connection->host, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (err) {
        close(fd);
        free(connection);
        errno = -err;
        return NULL;
    }
    unsigned slot = take_slot(vsock);
    vsock->slot[slot] = connection;
    vsock->connections++;
    connection->host_port = vsock->generation << SLOT_BITS | slot;
    bool full = vsock->buffer_promised + VSOCK_BUFFER_BYTES > VSOCK_BUFFER_BUDGET;
    connection->buf_alloc = full ? VSOCK_BUFFER_SMALL_BYTES : VSOCK_BUFFER_BYTES;
    vsock->buffer_promised += connection->buf_alloc;
    return connection;
}

struct vsock_connection *vsock_connection_find(const struct virtio_vsock *vsock, uint32_t host_port,
                                               uint32_t guest_port)
{
    struct vsock_connection *connection = vsock->slot[host_port % VSOCK_CONNECTIONS_MAX];
    if (!connection || connection->host_port != host_port || connection->guest_port != guest_port)
        return NULL;
    return connection->state == VSOCK_REQUESTED || connection->state == VSOCK_OPEN ? connection : NULL;
}

/* Counts bytes that the host was given, or never will be. */
static void forward(struct vsock_connection *connection, size_t bytes)
{
    connection->fwd_cnt += (uint32_t)bytes;
}

static void drop_buffer(struct vsock_connection *connection)
{
    forward(connection, connection->buffered);
    connection->start = connection->buffered = 0;
    free(connection->buffer);
    connection->buffer = NULL;
}

/* One sendmsg to the host: bytes taken, 0 when it is slow or gone. */
static size_t send_host(struct vsock_connection *connection, struct iovec *iov, size_t count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t sent;
    do
        sent = sendmsg(connection->host.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (size_t)sent;
    if (errno != EAGAIN)
        connection->host_dead = true;
    return 0;
}

/* Gives the host what waits in the ring. */
static void flush(struct vsock_connection *connection)
{
    while (connection->buffered > 0 && !connection->host_dead) {
        uint32_t first = connection->buf_alloc - connection->start;
        if (first > connection->buffered)
            first = connection->buffered;
        struct iovec iov[2] = {{connection->buffer + connection->start, first},
                               {connection->buffer, connection->buffered - first}};
        size_t sent = send_host(connection, iov, iov[1].iov_len ? 2 : 1);
        if (sent == 0)
            break;
        connection->start = (connection->start + (uint32_t)sent) % connection->buf_alloc;
        connection->buffered -= (uint32_t)sent;
        forward(connection, sent);
    }
    if (connection->buffer && (connection->buffered == 0 || connection->host_dead))
        drop_buffer(connection);
}

/* Closing a Unix socket with unread bytes in it makes the peer's last read an error instead of an end of
 * file. After SHUT_RD the peer adds none. */
static void close_host(struct vsock_connection *connection)
{
    char unread[4096];
    shutdown(connection->host.fd, SHUT_RD);
    while (recv(connection->host.fd, unread, sizeof(unread), MSG_DONTWAIT) > 0)
        ;
    close(connection->host.fd);
}

void vsock_connection_free(struct vsock_connection *connection)
{
    struct virtio_vsock *vsock = connection->vsock;
    flush(connection); /* a last chance for what the guest sent before the device's end */
    if (connection->ready)
        TAILQ_REMOVE(&vsock->ready, connection, link);
    loop_del(vsock->device.loop, &connection->host);
    close_host(connection);
    vsock->slot[connection->host_port % VSOCK_CONNECTIONS_MAX] = NULL;
    vsock->connections--;
    vsock->buffer_promised -= connection->buf_alloc;
    free(connection->buffer);
    free(connection);
    vsock_host_accept_more(vsock);
}

/* Keeps what is left of the chain's payload for later. It fits: the guest stayed within its credit. */
static void keep(struct vsock_connection *connection, struct virtio_chain *chain, uint32_t length)
{
    if (!connection->buffer)
        connection->buffer = malloc(connection->buf_alloc);
    if (!connection->buffer) {
        log_limited(&connection->vsock->limit, "vsock: no memory for bytes that the host does not read");
        connection->host_dead = true;
        return;
    }
    while (length > 0) {
        uint32_t at = (connection->start + connection->buffered) % connection->buf_alloc;
        uint32_t piece = connection->buf_alloc - at;
        if (piece > length)
            piece = length;
        virtio_chain_read(chain, connection->buffer + at, piece);
        connection->buffered += piece;
        length -= piece;
    }
}

/* RW: hands the payload to the host straight from guest memory, and keeps what the host does not take. */
static void take_payload(struct vsock_connection *connection, struct virtio_chain *chain, uint32_t length)
{
    struct iovec *iov = connection->vsock->iov;
    connection->received_cnt += length;
    while (length > 0 && connection->buffered == 0 && !connection->host_dead) {
        unsigned count = virtio_chain_out_iov(chain, length, iov);
        size_t sent = send_host(connection, iov, count);
        if (sent == 0)
            break;
        virtio_chain_out_skip(chain, sent);
        forward(connection, sent);
        length -= (uint32_t)sent;
    }
    if (length > 0 && !connection->host_dead)
        keep(connection, chain, length);
    else
        forward(connection, length);
}

/* The connection is over for the guest; with `rst` it has to be told. The host can write no more, but may go
 * on reading what the guest sent. */
static void leave_guest(struct vsock_connection *connection, bool rst)
{
    connection->state = VSOCK_GONE;
    if (!connection->host_eof)
        shutdown(connection->host.fd, SHUT_RD);
    connection->host_eof = true;
    connection->owes = rst ? VSOCK_OWES_RST : 0;
}

static void protocol_error(struct vsock_connection *connection, const char *what)
{
    log_limited(&connection->vsock->limit, "vsock: port=%u reset: %s", connection->guest_port, what);
    leave_guest(connection, true);
}

static void receive_while_requested(struct vsock_connection *connection, const struct vsock_packet *packet)
{
    char line[VSOCK_LINE_MAX];
    switch (packet->op) {
    case VIRTIO_VSOCK_OP_RESPONSE:
        connection->state = VSOCK_OPEN;
        connection->vsock->guest_listens = true;
        struct iovec iov = {line, (size_t)snprintf(line, sizeof(line), "OK %u\n", connection->host_port)};
        if (send_host(connection, &iov, 1) != iov.iov_len)
            connection->host_dead = true; /* nothing was written before: only a closed socket is full */
        break;
    case VIRTIO_VSOCK_OP_RST:
        if (connection->vsock->guest_listens)
            leave_guest(connection, false);
        else
            vsock_host_park(connection);
        break;
    default:
        protocol_error(connection, "packet before its RESPONSE");
    }
}

static void receive_while_open(struct vsock_connection *connection, const struct vsock_packet *packet,
                               struct virtio_chain *chain)
{
    switch (packet->op) {
    case VIRTIO_VSOCK_OP_RW:
        if (packet->len > chain->out_left)
            protocol_error(connection, "length beyond its packet");
        else if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
            protocol_error(connection, "bytes after their end");
        else if (packet->len > connection->buf_alloc - (connection->received_cnt - connection->fwd_cnt))
            protocol_error(connection, "bytes beyond their credit");
        else
            take_payload(connection, chain, packet->len);
        break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        connection->guest_shutdown |= packet->flags & VSOCK_SHUTDOWN_BOTH;
        break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break; /* every packet is one */
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        connection->owes |= VSOCK_OWES_CREDIT_UPDATE;
        break;
    case VIRTIO_VSOCK_OP_RST:
        leave_guest(connection, false);
        break;
    default:
        protocol_error(connection, "unexpected operation");
    }
}

void vsock_connection_receive(struct vsock_connection *connection, const struct vsock_packet *packet,
                              struct virtio_chain *chain)
{
    connection->guest_buf_alloc = packet->buf_alloc;
    connection->guest_fwd_cnt = packet->fwd_cnt;
    if (connection->state == VSOCK_REQUESTED)
        receive_while_requested(connection, packet);
    else
        receive_while_open(connection, packet, chain);
    vsock_connection_settle(connection);
}

void vsock_connection_forget(struct vsock_connection *connection)
{
    if (connection->state == VSOCK_REQUESTED)
        vsock_host_park(connection);
    else if (connection->state == VSOCK_OPEN)
        leave_guest(connection, false);
    else
        connection->owes = 0;
    vsock_connection_settle(connection);
}

/* Edge-triggered: an event says that something changed, and the flags remember it until used up. */
static void on_host_event(struct watch *watch, uint32_t events)
{
    struct vsock_connection *connection = watch->arg;
    struct virtio_vsock *vsock = connection->vsock;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        connection->ended = true;
    if (events & (EPOLLHUP | EPOLLERR)) {
        flush(connection);
        connection->host_dead = true;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        connection->readable = true;
    if (events & EPOLLOUT)
        flush(connection);
    if (connection->state == VSOCK_GREETING && connection->readable)
        vsock_host_greet(connection);
    vsock_connection_settle(connection);
    vsock_rx_pump(vsock);
}

uint32_t vsock_connection_may_send(const struct vsock_connection *connection)
{
    if (connection->state != VSOCK_OPEN || !connection->readable || connection->host_eof)
        return 0;
    /* Counters wrap; a guest whose numbers make no sense has no credit. */
    uint32_t on_the_way = connection->sent_cnt - connection->guest_fwd_cnt;
    return on_the_way < connection->guest_buf_alloc ? connection->guest_buf_alloc - on_the_way : 0;
}

/* Shutdowns of the guest that take effect on the host's socket, each once. */
static void apply_guest_shutdown(struct vsock_connection *connection)
{
    if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV && !connection->host_eof) {
        shutdown(connection->host.fd, SHUT_RD);
        connection->host_eof = true;
    }
    if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND && connection->buffered == 0 &&
        !connection->host_ended) {
        shutdown(connection->host.fd, SHUT_WR);
        connection->host_ended = true;
    }
    if (connection->guest_shutdown == VSOCK_SHUTDOWN_BOTH)
        leave_guest(connection, true); /* §5.10.6.5: RST confirms a shutdown of both directions */
}

/* What an open connection owes the guest by now. */
static void note_debts(struct vsock_connection *connection)
{
    uint32_t shutdown_due = (connection->host_eof ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0u) |
                            (connection->host_dead ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0u);
    if (shutdown_due & ~connection->shutdown_sent)
        connection->owes |= VSOCK_OWES_SHUTDOWN;
    /* The guest is told of freed credit when it may soon run out of it, rather than with every read. Linux
     * lets no more bytes be on their way than its own buffer holds, whatever we offer. */
    uint32_t window = connection->buf_alloc < connection->guest_buf_alloc ? connection->buf_alloc
                                                                          : connection->guest_buf_alloc;
    if (connection->fwd_cnt != connection->fwd_told &&
        connection->received_cnt - connection->fwd_told >= window / 2)
        connection->owes |= VSOCK_OWES_CREDIT_UPDATE;
    /* Asked once in a stall: a guest that does not read answers at once that nothing has changed. */
    bool stalled =
        connection->readable && !connection->host_eof && vsock_connection_may_send(connection) == 0;
    if (stalled && !connection->credit_asked)
        connection->owes |= VSOCK_OWES_CREDIT_REQUEST;
    connection->credit_asked = stalled;
}

static bool is_done(const struct vsock_connection *connection)
{
    switch (connection->state) {
    case VSOCK_OPEN: /* the host has closed its socket, and the guest has everything */
        return connection->shutdown_sent == VSOCK_SHUTDOWN_BOTH;
    case VSOCK_GONE:
        return connection->owes == 0 && (connection->buffered == 0 || connection->host_dead);
    default:
        return connection->host_dead;
    }
}

bool vsock_connection_settle(struct vsock_connection *connection)
{
    if (connection->host_dead)
        drop_buffer(connection);
    if (connection->state == VSOCK_OPEN)
        apply_guest_shutdown(connection);
    if (connection->state == VSOCK_OPEN)
        note_debts(connection);
    if (is_done(connection)) {
        vsock_connection_free(connection);
        return false;
    }
    bool ready = connection->owes != 0 || vsock_connection_may_send(connection) > 0;
    if (ready && !connection->ready)
        TAILQ_INSERT_TAIL(&connection->vsock->ready, connection, link);
    else if (!ready && connection->ready)
        TAILQ_REMOVE(&connection->vsock->ready, connection, link);
    connection->ready = ready;
    return true;
}
