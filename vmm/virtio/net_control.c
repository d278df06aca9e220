/*
 * The control queue of virtio-net (virtio 1.2 §5.1.6.5): what the driver wants to receive, with how many
 * queue pairs, with which offloads.
 *
 * Trust boundary: commands are the guest's. Class, command and data are copied before they are looked at, and
 * a command that does not fit what was negotiated is answered with VIRTIO_NET_ERR. Called in the device's
 * thread.
 */
#include "vmm/virtio/net_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Commands before others on the loop have their turn. A driver waits for each. */
#define TURN_COMMANDS 16u

typedef bool (*command_fn)(struct virtio_net *net, uint8_t command, struct virtio_chain *chain);

void net_filter_reset(struct net_filter *filter)
{
    *filter = (struct net_filter){.promiscuous = true};
}

/* A command whose data is exactly `length` bytes. */
static bool get_data(struct virtio_chain *chain, void *data, size_t length)
{
    return chain->out_left == length && virtio_chain_read(chain, data, length) == length;
}

/* §5.1.6.5.1 */
static bool set_rx_mode(struct virtio_net *net, uint8_t command, struct virtio_chain *chain)
{
    uint8_t on;
    if (!get_data(chain, &on, sizeof(on)))
        return false;
    if (command == VIRTIO_NET_CTRL_RX_PROMISC)
        net->filter.promiscuous = on;
    else if (command == VIRTIO_NET_CTRL_RX_ALLMULTI)
        net->filter.all_groups = on;
    else
        return false;
    return net_apply_filter(net) == 0;
}

/* One table of addresses; *kept is beyond max when there are more than that. */
static bool get_addresses(struct virtio_chain *chain, uint8_t (*addresses)[ETH_ALEN], unsigned max,
                          unsigned *kept)
{
    uint32_t count;
    if (virtio_chain_read(chain, &count, sizeof(count)) != sizeof(count))
        return false;
    count = le32toh(count);
    if (count > chain->out_left / ETH_ALEN)
        return false;
    if (count > max) {
        virtio_chain_out_skip(chain, (size_t)count * ETH_ALEN);
        *kept = max + 1;
        return true;
    }
    *kept = count;
    return virtio_chain_read(chain, addresses, (size_t)count * ETH_ALEN) == (size_t)count * ETH_ALEN;
}

/* §5.1.6.5.2 */
static bool set_addresses(struct virtio_net *net, uint8_t command, struct virtio_chain *chain)
{
    struct net_filter filter = net->filter;
    if (command == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
        uint64_t mac = 0;
        if (!net_has(net->features, VIRTIO_NET_F_CTRL_MAC_ADDR) || !get_data(chain, &mac, ETH_ALEN))
            return false;
        atomic_store(&net->mac, mac);
        net->device.transport->config_refresh(net->device.transport);
        return net_apply_filter(net) == 0;
    }
    if (command != VIRTIO_NET_CTRL_MAC_TABLE_SET || !net_has(net->features, VIRTIO_NET_F_CTRL_RX) ||
        !get_addresses(chain, filter.unicast, NET_FILTER_UNICAST_MAX, &filter.unicasts) ||
        !get_addresses(chain, filter.group, NET_FILTER_GROUP_MAX, &filter.groups) || chain->out_left > 0)
        return false;
    net->filter = filter;
    return net_apply_filter(net) == 0;
}

/* §5.1.6.5.4 */
static bool acknowledge_announce(struct virtio_net *net, uint8_t command, struct virtio_chain *chain)
{
    if (command != VIRTIO_NET_CTRL_ANNOUNCE_ACK || chain->out_left > 0)
        return false;
    atomic_fetch_and(&net->status, (unsigned short)~VIRTIO_NET_S_ANNOUNCE);
    net->device.transport->config_refresh(net->device.transport);
    return true;
}

/* §5.1.6.5.5 */
static bool set_pairs(struct virtio_net *net, uint8_t command, struct virtio_chain *chain)
{
    uint16_t pairs;
    if (command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !get_data(chain, &pairs, sizeof(pairs)))
        return false;
    pairs = le16toh(pairs);
    if (pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || pairs > net->pairs)
        return false;
    net->pairs_wanted = pairs;
    return net_serve(net) == 0;
}

/* §5.1.6.5.6 */
static bool set_offloads(struct virtio_net *net, uint8_t command, struct virtio_chain *chain)
{
    uint64_t wanted;
    if (command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || !get_data(chain, &wanted, sizeof(wanted)))
        return false;
    wanted = le64toh(wanted);
    if (wanted & ~(net->features & NET_GUEST_OFFLOADS))
        return false;
    net->guest_offloads = wanted;
    return net_apply_offloads(net) == 0;
}

static const struct {
    uint8_t class;
    uint8_t feature; /* that brings the class; ADDR: one of two, seen to there */
    command_fn fn;
} classes[] = {
    {VIRTIO_NET_CTRL_RX, VIRTIO_NET_F_CTRL_RX, set_rx_mode},
    {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_F_CTRL_VQ, set_addresses},
    {VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_F_GUEST_ANNOUNCE, acknowledge_announce},
    {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_F_MQ, set_pairs},
    {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_offloads},
};

static bool execute(struct virtio_net *net, struct virtio_chain *chain)
{
    struct virtio_net_ctrl_hdr header;
    if (virtio_chain_read(chain, &header, sizeof(header)) != sizeof(header))
        return false;
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (classes[i].class == header.class && net_has(net->features, classes[i].feature))
            return classes[i].fn(net, header.cmd, chain);
    }
    return false;
}

void net_control_kick(struct watch *watch, uint32_t events)
{
    struct virtio_net *net = watch->arg;
    struct virtio_device *device = &net->device;
    struct virtqueue *queue = device->queue[net->control_queue];
    unsigned turn = TURN_COMMANDS;
    uint64_t count;
    int got = 0;
    (void)events;
    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    do {
        while (turn > 0 && (got = virtqueue_pop(queue, &net->control_chain)) > 0) {
            uint8_t answer = execute(net, &net->control_chain) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
            virtio_chain_write(&net->control_chain, &answer, sizeof(answer));
            virtqueue_push(queue, &net->control_chain);
            turn--;
        }
    } while (turn > 0 && got == 0 && virtqueue_enable_kicks(queue));
    virtqueue_notify(queue);
    if (got < 0)
        virtio_device_broken(device, net->control_queue);
    else if (turn == 0)
        device->transport->kick_again(device->transport, net->control_queue);
}
