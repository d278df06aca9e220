/*
 * Packets from the guest to the tap (virtio 1.2 §5.1.6.2), written straight from guest memory.
 *
 * Trust boundary: the header is copied once, checked against what was negotiated and against the packet's
 * length, and the copy goes to the kernel, which checks it again with the packet's contents in view. A packet
 * that fails is dropped and counted; its chain goes back to the driver like any other. Called in the pair's
 * thread.
 */
#include "vmm/virtio/net_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

static struct virtqueue *tx_queue(const struct net_pair *pair)
{
    return pair->net->device.queue[2 * pair->index + 1];
}

static bool check_checksum(const struct virtio_net_hdr_v1 *header, uint64_t features, size_t bytes)
{
    size_t end = (size_t)le16toh(header->csum_start) + le16toh(header->csum_offset) + sizeof(uint16_t);
    return net_has(features, VIRTIO_NET_F_CSUM) && end <= bytes;
}

/* §5.1.6.2.1: a segmented packet has a size for its segments and leaves its checksums to us. */
static bool check_segments(struct virtio_net_hdr_v1 *header, uint64_t features, size_t bytes)
{
    static const struct {
        uint8_t type;
        uint8_t feature;
    } kinds[] = {
        {VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4},
        {VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6},
        {VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_HOST_USO},
    };
    uint8_t type = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    bool ecn = header->gso_type & VIRTIO_NET_HDR_GSO_ECN;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || le16toh(header->gso_size) == 0 ||
        (ecn && !net_has(features, VIRTIO_NET_F_HOST_ECN)))
        return false;
    if (le16toh(header->hdr_len) > bytes) /* a hint (§5.1.6.2.2), which the kernel takes at its word */
        header->hdr_len = htole16((uint16_t)bytes);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].type == type)
            return net_has(features, kinds[i].feature);
    }
    return false;
}

bool net_tx_check_header(struct virtio_net_hdr_v1 *header, uint64_t features, size_t bytes)
{
    header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* the others are for the other direction */
    header->num_buffers = 0;
    if (bytes < ETH_HLEN || bytes > NET_PACKET_BYTES_MAX - NET_HEADER_BYTES)
        return false;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        header->csum_start = header->csum_offset = 0;
    else if (!check_checksum(header, features, bytes))
        return false;
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return check_segments(header, features, bytes);
    header->gso_size = header->hdr_len = 0;
    return true;
}

/* Sends or drops the packet in pair->chain. 0; -EAGAIN when the tap takes none now. */
static int send_packet(struct net_pair *pair)
{
    struct virtio_net_hdr_v1 header;
    struct virtio_chain *chain = &pair->chain;
    bool good = virtio_chain_read(chain, &header, sizeof(header)) == sizeof(header) &&
                net_tx_check_header(&header, pair->features, chain->out_left);
    size_t bytes = chain->out_left;
    unsigned elements = good ? virtio_chain_out_iov(chain, bytes, pair->tx_iov + 1) : NET_IOV_MAX;
    if (elements >= NET_IOV_MAX) {
        net_count(&pair->count.tx_dropped, 1);
        return 0;
    }
    pair->tx_iov[0] = (struct iovec){&header, sizeof(header)};
    ssize_t sent;
    do {
        sent = writev(pair->tap_fd, pair->tx_iov, (int)elements + 1);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EAGAIN)
        return -EAGAIN;
    /* Otherwise the kernel has found the packet wanting, or the interface is down or gone. */
    net_count(sent < 0 ? &pair->count.tx_dropped : &pair->count.tx_packets, 1);
    if (sent >= 0)
        net_count(&pair->count.tx_bytes, bytes);
    return 0;
}

void net_tx_run(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    struct virtqueue *queue = tx_queue(pair);
    unsigned turn = NET_TURN_PACKETS;
    int got = 0;
    if (pair->tx_blocked)
        return;
    virtqueue_disable_kicks(queue);
    do {
        while (turn > 0 && (got = virtqueue_pop(queue, &pair->chain)) > 0) {
            if (send_packet(pair) < 0) {
                virtqueue_unpop(queue, &pair->chain);
                pair->tx_blocked = true; /* kicks stay off: the tap tells when it goes on */
                virtqueue_notify(queue);
                return;
            }
            virtqueue_push(queue, &pair->chain);
            turn--;
        }
    } while (turn > 0 && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, 2 * pair->index + 1);
    else if (turn == 0)
        device->transport->kick_again(device->transport, 2 * pair->index + 1);
}
