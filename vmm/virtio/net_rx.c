/*
 * Packets from the tap to the guest (virtio 1.2 §5.1.6.3, §5.1.6.4), read straight into guest memory.
 *
 * The kernel tells a packet's length only by giving it. So buffers for the longest one are taken from the
 * queue in advance, and what a packet does not use stays for the next. A packet longer than all that the
 * driver has offered runs over into the spill and waits there for more buffers.
 *
 * Trust boundary: buffers are the guest's and may change under the kernel's hands, which harms nobody but the
 * guest; their number and sizes were checked when they were taken. The header that precedes each packet is
 * the kernel's, and only num_buffers is ours. Called in the pair's thread.
 */
#include "vmm/virtio/net_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

static struct virtqueue *rx_queue(const struct net_pair *pair)
{
    return pair->net->device.queue[2 * pair->index];
}

/* Adds the chain that was just popped. */
static void add_buffer(struct net_rx *rx, const struct virtio_chain *chain)
{
    unsigned elements = virtio_chain_in_iov(chain, NET_PACKET_BYTES_MAX, rx->iov + rx->elements);
    size_t bytes = chain->in_left < NET_PACKET_BYTES_MAX ? chain->in_left : NET_PACKET_BYTES_MAX;
    rx->buffer[rx->buffers].head = chain->head;
    rx->buffer[rx->buffers].elements = (uint16_t)elements;
    rx->buffer[rx->buffers].bytes = (uint32_t)bytes;
    rx->buffers++;
    rx->elements += elements;
    rx->capacity += bytes;
}

/* Whether the buffers hold any packet, or no more of them can be held. Without MRG_RXBUF a packet has one
 * buffer. */
static bool enough(const struct net_pair *pair)
{
    const struct net_rx *rx = &pair->rx;
    if (!net_has(pair->features, VIRTIO_NET_F_MRG_RXBUF))
        return rx->buffers == 1;
    return rx->capacity >= NET_PACKET_BYTES_MAX || rx->full;
}

/* Takes the next buffer. 1; 0 when there is none; -EPROTO when the queue is broken. */
static int take_buffer(struct net_pair *pair)
{
    struct virtqueue *queue = rx_queue(pair);
    struct net_rx *rx = &pair->rx;
    int got = virtqueue_pop(queue, &pair->chain);
    if (got <= 0)
        return got;
    const char *fault = NULL;
    if (pair->chain.in_left < NET_HEADER_BYTES || pair->chain.out_left > 0)
        fault = "receive buffer without room for a header, or not for us to write";
    else if (rx->buffers == 0 && pair->chain.in_count >= NET_IOV_MAX)
        fault = "receive buffer in too many pieces";
    if (fault) {
        virtqueue_unpop(queue, &pair->chain);
        virtqueue_break(queue, fault);
        return -EPROTO;
    }
    if (rx->elements + pair->chain.in_count < NET_IOV_MAX) { /* one element is the spill's */
        add_buffer(rx, &pair->chain);
        rx->full = rx->buffers == NET_QUEUE_SIZE;
    } else {
        virtqueue_unpop(queue, &pair->chain);
        rx->full = true;
    }
    return 1;
}

/* Takes buffers until there are enough. False when the driver must offer some first. Kicks are on exactly
 * while buffers are wanted. */
static bool gather(struct net_pair *pair)
{
    struct virtqueue *queue = rx_queue(pair);
    struct net_rx *rx = &pair->rx;
    int got = 1;
    while (got > 0 && !enough(pair)) {
        got = take_buffer(pair);
        if (got == 0) {
            rx->kicks = true;
            got = virtqueue_enable_kicks(queue);
        }
    }
    if (got < 0) {
        virtio_device_broken(&pair->net->device, 2 * pair->index);
        return false;
    }
    if (got > 0 && rx->kicks) {
        virtqueue_disable_kicks(queue);
        rx->kicks = false;
    }
    return rx->buffers > 0;
}

/* Copies into the buffers, `offset` bytes from their start. Within their capacity. */
static void copy_in(const struct net_rx *rx, size_t offset, const void *from, size_t bytes)
{
    const uint8_t *next = from;
    for (const struct iovec *iov = rx->iov; bytes > 0; iov++) {
        if (offset >= iov->iov_len) {
            offset -= iov->iov_len;
            continue;
        }
        size_t part = iov->iov_len - offset < bytes ? iov->iov_len - offset : bytes;
        memcpy((uint8_t *)iov->iov_base + offset, next, part);
        next += part;
        bytes -= part;
        offset = 0;
    }
}

/* Gives the driver a packet that lies in the first buffers; the others are kept for the next one. */
static void deliver(struct net_pair *pair, size_t bytes)
{
    struct net_rx *rx = &pair->rx;
    struct virtqueue_used used[NET_QUEUE_SIZE];
    unsigned count = 0, elements = 0;
    size_t left = bytes;
    while (left > 0) {
        size_t here = rx->buffer[count].bytes < left ? rx->buffer[count].bytes : left;
        used[count] = (struct virtqueue_used){.head = rx->buffer[count].head, .written = (uint32_t)here};
        elements += rx->buffer[count].elements;
        rx->capacity -= rx->buffer[count].bytes;
        left -= here;
        count++;
    }
    uint16_t num_buffers = htole16((uint16_t)count);
    copy_in(rx, offsetof(struct virtio_net_hdr_v1, num_buffers), &num_buffers, sizeof(num_buffers));
    virtqueue_push_all(rx_queue(pair), used, count);
    rx->buffers -= count;
    rx->elements -= elements;
    rx->full = false;
    memmove(rx->buffer, rx->buffer + count, rx->buffers * sizeof(rx->buffer[0]));
    memmove(rx->iov, rx->iov + elements, rx->elements * sizeof(rx->iov[0]));
    net_count(&pair->count.rx_packets, 1);
    net_count(&pair->count.rx_bytes, bytes - NET_HEADER_BYTES);
}

/* Goes on with a packet that ran over. False while it needs more buffers. */
static bool deliver_spilled(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    if (rx->capacity >= rx->packet_bytes) {
        copy_in(rx, rx->packet_bytes - rx->spilled, rx->spill, rx->spilled);
        deliver(pair, rx->packet_bytes);
    } else if (enough(pair)) { /* more can't be had: the driver's buffers are too small */
        net_count(&pair->count.rx_dropped, 1);
    } else {
        return false;
    }
    rx->packet_bytes = 0;
    return true;
}

/* One packet from the tap. 1; 0 when there is none. */
static int receive(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    ssize_t got;
    rx->iov[rx->elements] = (struct iovec){rx->spill, sizeof(rx->spill)};
    do {
        got = readv(pair->tap_fd, rx->iov, (int)rx->elements + 1);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno != EAGAIN)
        log_limited(&pair->limit, "virtio-net: pair=%u read from the tap: %s", pair->index, strerror(errno));
    if (got < (ssize_t)NET_HEADER_BYTES)
        return got > 0; /* shorter than a header: no tap does that */
    if ((size_t)got <= rx->capacity) {
        deliver(pair, (size_t)got);
        return 1;
    }
    rx->packet_bytes = (size_t)got;
    rx->spilled = (size_t)got - rx->capacity;
    return 1;
}

void net_rx_run(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    unsigned turn = NET_TURN_PACKETS;
    for (; turn > 0; turn--) {
        bool offered = gather(pair);
        if (pair->rx.packet_bytes > 0) {
            if (virtqueue_fault(rx_queue(pair)) || !deliver_spilled(pair))
                break;
        } else if (!offered || receive(pair) == 0) {
            break;
        }
    }
    virtqueue_notify(rx_queue(pair));
    if (turn == 0)
        device->transport->kick_again(device->transport, 2 * pair->index);
}

void net_rx_stop(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    for (; rx->buffers > 0; rx->buffers--)
        virtqueue_unpop(rx_queue(pair), &pair->chain);
    if (rx->packet_bytes > 0)
        net_count(&pair->count.rx_dropped, 1);
    rx->elements = 0;
    rx->capacity = rx->packet_bytes = 0;
    rx->full = rx->kicks = false;
}
