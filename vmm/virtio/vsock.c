/*
 * virtio-vsock, the device: queues, packets from the guest, knock, reset and snapshots. See vsock.h for what
 * it is and vsock_internal.h for its files.
 *
 * Trust boundary: tx chains are the guest's. A header is copied once; a packet that makes no sense is dropped
 * or answered with RST, and only a broken ring breaks the device. Called by the transport in the device's
 * thread.
 */
#include "vmm/virtio/vsock_internal.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE       128
#define PACKETS_PER_TURN 64

static uint64_t vsock_features(const struct virtio_device *device)
{
    (void)device;
    return 0; /* streams only */
}

static void vsock_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    const struct virtio_vsock *vsock = (const struct virtio_vsock *)device;
    struct virtio_vsock_config config = {.guest_cid = htole64(vsock->guest_cid)};
    memcpy(to, (const char *)&config + offset, length);
}

static int vsock_activate(struct virtio_device *device, uint64_t features)
{
    (void)features;
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
        if (!virtqueue_started(device->queue[i]))
            return -EINVAL; /* §5.10.2: all three */
    }
    vsock->active = true;
    vsock_host_release_parked(vsock);
    return 0; /* the transport's first kick of the rx queue sends them */
}

static bool read_packet(struct virtio_chain *chain, struct vsock_packet *packet)
{
    struct virtio_vsock_hdr header;
    if (virtio_chain_read(chain, &header, sizeof(header)) != sizeof(header))
        return false;
    *packet = (struct vsock_packet){.src_cid = le64toh(header.src_cid),
                                    .dst_cid = le64toh(header.dst_cid),
                                    .src_port = le32toh(header.src_port),
                                    .dst_port = le32toh(header.dst_port),
                                    .len = le32toh(header.len),
                                    .type = le16toh(header.type),
                                    .op = le16toh(header.op),
                                    .flags = le32toh(header.flags),
                                    .buf_alloc = le32toh(header.buf_alloc),
                                    .fwd_cnt = le32toh(header.fwd_cnt)};
    return true;
}

/* The guest asks for a connection. None is granted; the one to the knock port says that it listens now. */
static void take_request(struct virtio_vsock *vsock, const struct vsock_packet *packet)
{
    vsock_rx_reply_rst(vsock, packet);
    if (packet->dst_cid != VMADDR_CID_HOST || packet->dst_port != vsock->knock_port)
        return;
    vsock->guest_listens = true;
    vsock_host_release_parked(vsock);
    if (vsock->knock)
        vsock->knock(vsock->knock_arg);
}

/* One tx chain. There is room for one more reply. */
static void take_packet(struct virtio_vsock *vsock, struct virtio_chain *chain)
{
    struct vsock_packet packet;
    if (!read_packet(chain, &packet) || packet.src_cid != vsock->guest_cid) {
        log_limited(&vsock->limit, "vsock: dropped a packet without a valid header or source");
        return;
    }
    if (packet.type == VIRTIO_VSOCK_TYPE_STREAM && packet.dst_cid == VMADDR_CID_HOST) {
        struct vsock_connection *connection = vsock_connection_find(vsock, packet.dst_port, packet.src_port);
        if (connection) {
            vsock_connection_receive(connection, &packet, chain);
            return;
        }
    }
    if (packet.op == VIRTIO_VSOCK_OP_REQUEST && packet.type == VIRTIO_VSOCK_TYPE_STREAM)
        take_request(vsock, &packet);
    else if (packet.op != VIRTIO_VSOCK_OP_RST) /* an RST is never answered (§5.10.6.4.1) */
        vsock_rx_reply_rst(vsock, &packet);
}

static void vsock_tx(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = vsock->device.queue[VSOCK_TX];
    unsigned packets = 0;
    int got = 0;
    virtqueue_disable_kicks(queue);
    do {
        while (packets < PACKETS_PER_TURN && vsock->replies < VSOCK_REPLIES_MAX &&
               (got = virtqueue_pop(queue, &vsock->tx_chain)) > 0) {
            take_packet(vsock, &vsock->tx_chain);
            virtqueue_push(queue, &vsock->tx_chain);
            packets++;
        }
        /* Without room for an answer packets wait (§5.10.6.1.2): the pump comes back to them. */
        vsock->tx_stalled = vsock->replies == VSOCK_REPLIES_MAX;
    } while (packets < PACKETS_PER_TURN && !vsock->tx_stalled && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(&vsock->device, VSOCK_TX);
    else if (packets == PACKETS_PER_TURN)
        vsock->device.transport->kick_again(vsock->device.transport, VSOCK_TX);
    vsock_rx_pump(vsock);
}

/* The driver takes note of TRANSPORT_RESET in its own time; when it has given its buffer back, connections
 * that are asked for now are no longer hit by it. */
static void vsock_event(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = vsock->device.queue[VSOCK_EVENT];
    struct virtio_vsock_event event = {.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
    if (vsock->reset == VSOCK_RESET_DUE) {
        vsock->event_buffers = virtqueue_available(queue);
        int got = virtqueue_pop(queue, &vsock->tx_chain);
        if (got > 0) {
            virtio_chain_write(&vsock->tx_chain, &event, sizeof(event));
            virtqueue_push(queue, &vsock->tx_chain);
            virtqueue_notify(queue);
            vsock->reset = VSOCK_RESET_SENT;
        } else if (got < 0) {
            virtio_device_broken(&vsock->device, VSOCK_EVENT);
        }
    }
    if (virtqueue_enable_kicks(queue) && vsock->reset == VSOCK_RESET_DUE)
        vsock->device.transport->kick_again(vsock->device.transport, VSOCK_EVENT);
    if (vsock->reset == VSOCK_RESET_SENT && virtqueue_available(queue) >= vsock->event_buffers) {
        vsock->reset = VSOCK_RESET_NONE;
        vsock_host_release_parked(vsock);
        vsock_rx_pump(vsock);
    }
}

static void vsock_kick(struct virtio_device *device, unsigned queue)
{
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    if (queue == VSOCK_RX)
        vsock_rx_pump(vsock);
    else if (queue == VSOCK_TX)
        vsock_tx(vsock);
    else
        vsock_event(vsock);
}

static void forget_connections(struct virtio_vsock *vsock)
{
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        if (vsock->slot[i])
            vsock_connection_forget(vsock->slot[i]);
    }
}

static void vsock_reset(struct virtio_device *device)
{
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    vsock->active = false;
    vsock->guest_listens = false;
    vsock->replies = 0;
    vsock->tx_stalled = false;
    vsock->reset = VSOCK_RESET_NONE;
    forget_connections(vsock);
}

/* Every chain is finished within its kick; what must stop is the host's side, which fills rx buffers. */
static void vsock_pause(struct virtio_device *device)
{
    ((struct virtio_vsock *)device)->paused = true;
}

static void vsock_resume(struct virtio_device *device)
{
    ((struct virtio_vsock *)device)->paused = false; /* the transport kicks every queue */
}

static int vsock_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    const struct virtio_vsock *vsock = (const struct virtio_vsock *)device;
    snapshot_put_u64(writer, vsock->guest_cid);
    snapshot_put_u32(writer, vsock->generation);
    snapshot_put_u8(writer, vsock->guest_listens);
    return 0;
}

/* The guest still has the connections of the process that was saved: it is told to drop them. Host ports go
 * on where that one stopped, so that a late packet of an old connection meets no new one. RSTs that were owed
 * are owed no more: their connections are gone with the rest. */
static int vsock_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    uint64_t guest_cid = snapshot_get_u64(reader);
    vsock->generation = snapshot_get_u32(reader);
    vsock->guest_listens = snapshot_get_u8(reader) != 0;
    if (guest_cid <= VMADDR_CID_HOST || guest_cid > UINT32_MAX)
        return -EPROTO;
    vsock->guest_cid = guest_cid; /* the driver may not have read it yet, or have: it must not change */
    if (vsock->active)
        vsock->reset = VSOCK_RESET_DUE;
    forget_connections(vsock);
    return snapshot_reader_error(reader);
}

static void vsock_free(struct virtio_device *device)
{
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    loop_del(device->loop, &vsock->listen);
    vsock->accepting = true; /* keeps freed connections from watching the socket again */
    for (unsigned i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
        if (vsock->slot[i])
            vsock_connection_free(vsock->slot[i]);
    }
    fd_close(&vsock->spare_fd);
    free(vsock);
}

static const struct virtio_device_ops vsock_ops = {
    .name = "vsock",
    .id = VIRTIO_ID_VSOCK,
    .features = vsock_features,
    .config_size = sizeof(struct virtio_vsock_config),
    .config_read = vsock_config_read,
    .activate = vsock_activate,
    .kick = vsock_kick,
    .reset = vsock_reset,
    .pause = vsock_pause,
    .resume = vsock_resume,
    .save = vsock_save,
    .restore = vsock_restore,
    .free = vsock_free,
};

struct virtio_device *virtio_vsock_new(struct loop *loop, int listen_fd, uint64_t guest_cid,
                                       uint32_t knock_port)
{
    if (guest_cid <= VMADDR_CID_HOST || guest_cid > UINT32_MAX) {
        errno = EINVAL;
        return NULL;
    }
    int err = fd_set_nonblock(listen_fd, 1);
    struct virtio_vsock *vsock = err ? NULL : calloc(1, sizeof(*vsock));
    if (!vsock) {
        errno = err ? -err : ENOMEM;
        return NULL;
    }
    vsock->device = (struct virtio_device){
        .ops = &vsock_ops, .loop = loop, .queue_count = VSOCK_QUEUES, .queue_size_max = QUEUE_SIZE};
    vsock->guest_cid = guest_cid;
    vsock->knock_port = knock_port;
    vsock->listen.fd = listen_fd;
    vsock->spare_fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
    TAILQ_INIT(&vsock->ready);
    vsock_host_accept_more(vsock);
    if (vsock->spare_fd < 0 || !vsock->accepting) {
        int saved = errno;
        vsock_free(&vsock->device);
        errno = saved;
        return NULL;
    }
    return &vsock->device;
}

void virtio_vsock_on_knock(struct virtio_device *device, void (*fn)(void *arg), void *arg)
{
    struct virtio_vsock *vsock = (struct virtio_vsock *)device;
    vsock->knock = fn;
    vsock->knock_arg = arg;
}
