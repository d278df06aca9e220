/*
 * virtio-vsock, towards the guest: fills its rx buffers with what is owed to it.
 *
 * First RSTs that belong to no connection, then connections in turn: each sends its control packets and one
 * batch of bytes, then goes to the end of the line, so that one stream cannot starve the others. Bytes go
 * from the host's socket straight into guest memory: one read over the payloads of several rx chains, headers
 * after. A turn is bounded, and the rx buffers bound it further. Called by the loop's callbacks in vsock.c
 * and vsock_connection.c.
 */
#include "vmm/virtio/vsock_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define TURN_BATCHES 32
#define BATCH_BYTES  (64u << 10)

/* What came of an attempt to send. */
enum sent { SENT_ALL, SENT_SOME, SENT_NO_BUFFER };

bool vsock_rx_reply_rst(struct virtio_vsock *vsock, const struct vsock_packet *packet)
{
    if (vsock->replies == VSOCK_REPLIES_MAX)
        return false;
    unsigned at = (vsock->reply_start + vsock->replies++) % VSOCK_REPLIES_MAX;
    vsock->reply[at] = (struct vsock_reply){.src_cid = packet->dst_cid,
                                            .src_port = packet->dst_port,
                                            .dst_port = packet->src_port,
                                            .type = packet->type};
    return true;
}

/* Takes an rx chain with room for a header and `payload` bytes at least. Smaller ones go back empty: they are
 * the driver's mistake. False when there is none. */
static bool pop_buffer(struct virtio_vsock *vsock, struct virtio_chain *chain, size_t payload)
{
    struct virtqueue *queue = vsock->device.queue[VSOCK_RX];
    int got;
    while ((got = virtqueue_pop(queue, chain)) > 0) {
        if (chain->in_left >= VSOCK_HEADER_BYTES + payload)
            return true;
        virtqueue_push(queue, chain);
        log_limited(&vsock->limit, "vsock: rx buffer of %zu bytes is too small", chain->in_left);
    }
    if (got < 0)
        virtio_device_broken(&vsock->device, VSOCK_RX);
    return false;
}

static void push_packet(struct virtio_vsock *vsock, struct virtio_chain *chain,
                        const struct virtio_vsock_hdr *header)
{
    virtio_chain_write(chain, header, sizeof(*header));
    virtio_chain_in_skip(chain, le32toh(header->len));
    virtqueue_push(vsock->device.queue[VSOCK_RX], chain);
}

static bool send_reply(struct virtio_vsock *vsock)
{
    struct virtio_chain *chain = &vsock->rx_chain[0];
    if (!pop_buffer(vsock, chain, 0))
        return false;
    const struct vsock_reply *reply = &vsock->reply[vsock->reply_start];
    struct virtio_vsock_hdr header = {.src_cid = htole64(reply->src_cid),
                                      .dst_cid = htole64(vsock->guest_cid),
                                      .src_port = htole32(reply->src_port),
                                      .dst_port = htole32(reply->dst_port),
                                      .type = htole16(reply->type),
                                      .op = htole16(VIRTIO_VSOCK_OP_RST)};
    push_packet(vsock, chain, &header);
    vsock->reply_start = (vsock->reply_start + 1) % VSOCK_REPLIES_MAX;
    vsock->replies--;
    return true;
}

/* A packet of the connection; every one tells the guest its credit. */
static struct virtio_vsock_hdr make_header(struct vsock_connection *connection, uint16_t op, uint32_t length,
                                           uint32_t flags)
{
    connection->fwd_told = connection->fwd_cnt;
    return (struct virtio_vsock_hdr){.src_cid = htole64(VMADDR_CID_HOST),
                                     .dst_cid = htole64(connection->vsock->guest_cid),
                                     .src_port = htole32(connection->host_port),
                                     .dst_port = htole32(connection->guest_port),
                                     .len = htole32(length),
                                     .type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
                                     .op = htole16(op),
                                     .flags = htole32(flags),
                                     .buf_alloc = htole32(connection->buf_alloc),
                                     .fwd_cnt = htole32(connection->fwd_cnt)};
}

static const struct {
    unsigned debt;
    uint16_t op;
} control_packets[] = {
    {VSOCK_OWES_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
    {VSOCK_OWES_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
    {VSOCK_OWES_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
    {VSOCK_OWES_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN},
    {VSOCK_OWES_RST, VIRTIO_VSOCK_OP_RST},
};

static bool send_control(struct vsock_connection *connection)
{
    struct virtio_vsock *vsock = connection->vsock;
    struct virtio_chain *chain = &vsock->rx_chain[0];
    for (size_t i = 0; i < sizeof(control_packets) / sizeof(control_packets[0]); i++) {
        if (!(connection->owes & control_packets[i].debt))
            continue;
        if (!pop_buffer(vsock, chain, 0))
            return false;
        uint32_t flags = 0;
        if (control_packets[i].debt == VSOCK_OWES_SHUTDOWN) {
            flags = (connection->host_eof ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0u) |
                    (connection->host_dead ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0u);
            connection->shutdown_sent |= flags;
        }
        struct virtio_vsock_hdr header = make_header(connection, control_packets[i].op, 0, flags);
        push_packet(vsock, chain, &header);
        connection->owes &= ~control_packets[i].debt;
    }
    return true;
}

/* The payload part of an rx chain as iovecs behind `iov`: the header's place is skipped without moving the
 * cursor. Returns the number of elements; *bytes is their sum. */
static unsigned payload_iov(const struct virtio_chain *chain, size_t max_bytes, struct iovec *iov,
                            size_t *bytes)
{
    unsigned count = virtio_chain_in_iov(chain, VSOCK_HEADER_BYTES + max_bytes, iov);
    size_t skip = VSOCK_HEADER_BYTES;
    unsigned first = 0;
    while (skip >= iov[first].iov_len) { /* ends: the chain has more bytes than a header */
        skip -= iov[first].iov_len;
        first++;
    }
    iov[first].iov_base = (char *)iov[first].iov_base + skip;
    iov[first].iov_len -= skip;
    memmove(iov, iov + first, (count - first) * sizeof(*iov));
    *bytes = 0;
    for (unsigned i = 0; i < count - first; i++)
        *bytes += iov[i].iov_len;
    return count - first;
}

/* Takes rx chains for at most `want` bytes; the payloads' memory goes to vsock->iov. */
static unsigned take_buffers(struct virtio_vsock *vsock, size_t want, size_t room[VSOCK_RX_BATCH],
                             unsigned *iovs)
{
    unsigned chains = 0;
    *iovs = 0;
    while (chains < VSOCK_RX_BATCH && want > 0 && *iovs < IOV_MAX) {
        if (!pop_buffer(vsock, &vsock->rx_chain[chains], 1))
            break;
        *iovs += payload_iov(&vsock->rx_chain[chains], want, vsock->iov + *iovs, &room[chains]);
        want -= room[chains];
        chains++;
    }
    if (*iovs > IOV_MAX)
        *iovs = IOV_MAX; /* fewer bytes than room: the rest of the chain stays empty */
    return chains;
}

/* One read of the host's socket into the taken chains. What the end of the stream or an error means for the
 * connection is noted in it. */
static size_t read_host(struct vsock_connection *connection, unsigned iovs, size_t room)
{
    struct msghdr message = {.msg_iov = connection->vsock->iov, .msg_iovlen = iovs};
    ssize_t length;
    do
        length = recvmsg(connection->host.fd, &message, MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length <= 0) {
        connection->readable = false;
        if (length == 0 || errno != EAGAIN)
            connection->host_eof = true;
        return 0;
    }
    /* A short read emptied the socket, and what comes later comes with an event. But the end of the stream
     * may have been announced already: then read on until it shows. */
    if ((size_t)length < room && !connection->ended)
        connection->readable = false;
    return (size_t)length;
}

static enum sent send_bytes(struct vsock_connection *connection, size_t want)
{
    struct virtio_vsock *vsock = connection->vsock;
    size_t room[VSOCK_RX_BATCH], total = 0;
    unsigned iovs;
    unsigned chains = take_buffers(vsock, want, room, &iovs);
    if (chains == 0)
        return SENT_NO_BUFFER;
    for (unsigned i = 0; i < iovs; i++)
        total += vsock->iov[i].iov_len;
    size_t length = read_host(connection, iovs, total);
    connection->sent_cnt += (uint32_t)length;

    unsigned used = 0;
    for (; length > 0; used++) {
        size_t part = length < room[used] ? length : room[used];
        struct virtio_vsock_hdr header = make_header(connection, VIRTIO_VSOCK_OP_RW, (uint32_t)part, 0);
        push_packet(vsock, &vsock->rx_chain[used], &header);
        length -= part;
    }
    while (chains > used)
        virtqueue_unpop(vsock->device.queue[VSOCK_RX], &vsock->rx_chain[--chains]);
    return SENT_SOME;
}

static enum sent serve(struct vsock_connection *connection)
{
    if (!send_control(connection))
        return SENT_NO_BUFFER;
    size_t want = vsock_connection_may_send(connection);
    if (want == 0)
        return SENT_ALL;
    return send_bytes(connection, want < BATCH_BYTES ? want : BATCH_BYTES);
}

/* Whether something is left to send, that is, whether the loop below has to come back. */
static bool pump_turn(struct virtio_vsock *vsock)
{
    while (vsock->replies > 0) {
        if (!send_reply(vsock))
            return true;
    }
    for (unsigned batches = 0; batches < TURN_BATCHES; batches++) {
        struct vsock_connection *connection = TAILQ_FIRST(&vsock->ready);
        if (!connection)
            return false;
        enum sent sent = serve(connection);
        if (sent == SENT_NO_BUFFER) {
            vsock_connection_settle(connection);
            return true;
        }
        TAILQ_REMOVE(&vsock->ready, connection, link); /* to the end of the line, if it has more */
        connection->ready = false;
        vsock_connection_settle(connection);
    }
    return !TAILQ_EMPTY(&vsock->ready);
}

void vsock_rx_pump(struct virtio_vsock *vsock)
{
    if (!vsock->active || vsock->paused)
        return;
    struct virtqueue *queue = vsock->device.queue[VSOCK_RX];
    bool more = pump_turn(vsock);
    virtqueue_notify(queue);
    /* With buffers left the turn was used up: go on after others had theirs. Without, wait for the driver. */
    if (!more)
        virtqueue_disable_kicks(queue);
    else if (virtqueue_enable_kicks(queue))
        vsock->device.transport->kick_again(vsock->device.transport, VSOCK_RX);
    if (vsock->tx_stalled && vsock->replies < VSOCK_REPLIES_MAX) {
        vsock->tx_stalled = false;
        vsock->device.transport->kick_again(vsock->device.transport, VSOCK_TX);
    }
}
