/*
 * virtio-net as its transport sees it: features, configuration space, activation, reset, pause, snapshots.
 * See net.h, and net_internal.h for the other parts. Called in the device's thread but where said.
 *
 * Queues (§5.1.2): receiveq1, transmitq1, ... and the control queue behind the last pair, or at index 2 for
 * a driver that did not negotiate MQ.
 */
#include "vmm/virtio/net_internal.h"

#include "common/fd.h"
#include "vmm/snapshot.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/epoll.h>

#define BIT(feature) (1ULL << (feature))

/* Which offloads of a tap stand for which features. */
static const struct {
    unsigned tap;
    uint64_t guest, host;
} offloads[] = {
    {TUN_F_CSUM, BIT(VIRTIO_NET_F_GUEST_CSUM), BIT(VIRTIO_NET_F_CSUM)},
    {TUN_F_TSO4, BIT(VIRTIO_NET_F_GUEST_TSO4), BIT(VIRTIO_NET_F_HOST_TSO4)},
    {TUN_F_TSO6, BIT(VIRTIO_NET_F_GUEST_TSO6), BIT(VIRTIO_NET_F_HOST_TSO6)},
    {TUN_F_TSO_ECN, BIT(VIRTIO_NET_F_GUEST_ECN), BIT(VIRTIO_NET_F_HOST_ECN)},
    {TUN_F_USO4, BIT(VIRTIO_NET_F_GUEST_USO4), BIT(VIRTIO_NET_F_HOST_USO)},
    {TUN_F_USO6, BIT(VIRTIO_NET_F_GUEST_USO6), BIT(VIRTIO_NET_F_HOST_USO)},
};
#define OFFLOADS (sizeof(offloads) / sizeof(offloads[0]))

/* What a device with this tap offers. No CTRL_VLAN and no CTRL_RX_EXTRA: a tap has no such filters, and a
 * driver that knows it filters itself. */
static uint64_t features_of(unsigned known_offloads, const struct virtio_net_options *options)
{
    uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
                        BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |
                        BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |
                        BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);
    if (options->mtu > 0)
        features |= BIT(VIRTIO_NET_F_MTU);
    if (options->pairs > 1)
        features |= BIT(VIRTIO_NET_F_MQ);
    for (size_t i = 0; i < OFFLOADS; i++) {
        if (known_offloads & offloads[i].tap)
            features |= offloads[i].guest | offloads[i].host;
    }
    return features;
}

int net_apply_offloads(struct virtio_net *net)
{
    unsigned wanted = 0;
    for (size_t i = 0; i < OFFLOADS; i++) {
        if (net->guest_offloads & offloads[i].guest)
            wanted |= offloads[i].tap;
    }
    if (!(wanted & TUN_F_CSUM)) /* segments without checksums make no sense (§5.1.3.1) */
        wanted = 0;
    return tap_set_offloads(net->pair[0]->tap_fd, wanted);
}

int net_apply_filter(struct virtio_net *net)
{
    const struct net_filter *filter = &net->filter;
    uint8_t addresses[2 + NET_FILTER_UNICAST_MAX + NET_FILTER_GROUP_MAX][ETH_ALEN];
    uint64_t mac = atomic_load(&net->mac);
    int tap_fd = net->pair[0]->tap_fd;
    unsigned count = 2;
    if (filter->promiscuous || filter->unicasts > NET_FILTER_UNICAST_MAX)
        return tap_set_filter(tap_fd, NULL, 0, true);
    memcpy(addresses[0], &mac, ETH_ALEN);
    memset(addresses[1], 0xff, ETH_ALEN);
    memcpy(addresses + count, filter->unicast, filter->unicasts * sizeof(addresses[0]));
    count += filter->unicasts;
    bool all_groups = filter->all_groups || filter->groups > NET_FILTER_GROUP_MAX;
    if (!all_groups) {
        memcpy(addresses + count, filter->group, filter->groups * sizeof(addresses[0]));
        count += filter->groups;
    }
    return tap_set_filter(tap_fd, addresses, count, all_groups);
}

int net_serve(struct virtio_net *net)
{
    bool serve = net->active && !net->paused;
    int first_err = 0;
    for (unsigned i = 0; i < net->pairs; i++) {
        struct net_pair *pair = net->pair[i];
        bool wanted = i < net->pairs_wanted;
        int err = 0;
        if (serve && wanted)
            err = net_pair_start(pair);
        else
            net_pair_stop(pair);
        /* A queue that nobody reads must not be given packets. */
        if (!err && !wanted && pair->attached)
            err = tap_set_attached(pair->tap_fd, pair->attached = false);
        if (err && !first_err)
            first_err = err;
    }
    return first_err;
}

static struct virtio_net *net_of(struct virtio_device *device)
{
    return (struct virtio_net *)device;
}

/* Any thread. */
static uint64_t net_features(const struct virtio_device *device)
{
    return ((const struct virtio_net *)device)->offered;
}

/* Any thread. */
static void net_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t length)
{
    const struct virtio_net *net = (const struct virtio_net *)device;
    struct virtio_net_config config = {.status = htole16(atomic_load(&net->status)),
                                       .max_virtqueue_pairs = htole16((uint16_t)net->pairs),
                                       .mtu = htole16(net->mtu)};
    uint64_t mac = atomic_load(&net->mac);
    memcpy(config.mac, &mac, ETH_ALEN);
    memcpy(to, (const char *)&config + offset, length);
}

static int watch_control(struct virtio_net *net)
{
    struct virtio_device *device = &net->device;
    if (net->control_queue == 0 || !virtqueue_started(device->queue[net->control_queue]))
        return 0;
    net->control_kick =
        (struct watch){.fd = device->kick_fd[net->control_queue], .fn = net_control_kick, .arg = net};
    return loop_add(device->loop, &net->control_kick, EPOLLIN);
}

static void unwatch_control(struct virtio_net *net)
{
    loop_del(net->device.loop, &net->control_kick);
    net->control_kick.fd = -1;
}

/* Serves all queues of an active device that is not paused. */
static int serve_all(struct virtio_net *net)
{
    if (!net->active || net->paused)
        return 0;
    if (net->pair[0]->vhost_fd >= 0)
        net->device.transport->calls_direct(net->device.transport, true);
    int err = net_serve(net);
    return err ? err : watch_control(net);
}

/* As if no driver had come yet. */
static void settle(struct virtio_net *net)
{
    net->active = false;
    net_serve(net);
    unwatch_control(net);
    if (net->pair[0]->vhost_fd >= 0)
        net->device.transport->calls_direct(net->device.transport, false);
    net->features = net->guest_offloads = 0;
    net_apply_offloads(net);
    net_filter_reset(&net->filter);
    net_apply_filter(net);
    for (unsigned i = 0; i < net->pairs_wanted; i++)
        tap_drain(net->pair[i]->tap_fd); /* segments and bare checksums meant for the driver that was */
    net->pairs_wanted = 1;
    net_serve(net);
    atomic_store(&net->mac, net->mac_initial);
    atomic_fetch_and(&net->status, (unsigned short)~VIRTIO_NET_S_ANNOUNCE);
    net->device.transport->config_refresh(net->device.transport);
}

static int net_activate(struct virtio_device *device, uint64_t features)
{
    struct virtio_net *net = net_of(device);
    net->features = features;
    net->active = true;
    net->pairs_wanted = 1;
    net->guest_offloads = features & NET_GUEST_OFFLOADS;
    net->control_queue = !net_has(features, VIRTIO_NET_F_CTRL_VQ) ? 0
                         : net_has(features, VIRTIO_NET_F_MQ)     ? 2 * net->pairs
                                                                  : 2;
    int err = net_apply_offloads(net);
    if (!err)
        err = serve_all(net);
    if (err)
        settle(net);
    return err;
}

static void net_reset(struct virtio_device *device)
{
    settle(net_of(device));
}

static void net_pause(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    net->paused = true;
    net_serve(net);
    unwatch_control(net);
}

static void net_resume(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    net->paused = false;
    if (serve_all(net))
        device->transport->broken(device->transport);
}

static int net_save(const struct virtio_device *device, struct snapshot_writer *writer)
{
    const struct virtio_net *net = (const struct virtio_net *)device;
    const struct net_filter *filter = &net->filter;
    snapshot_put_u64(writer, atomic_load(&net->mac));
    snapshot_put_u32(writer, net->pairs);
    snapshot_put_u32(writer, net->pairs_wanted);
    snapshot_put_u64(writer, net->guest_offloads);
    snapshot_put_u8(writer, filter->promiscuous);
    snapshot_put_u8(writer, filter->all_groups);
    snapshot_put_u32(writer, filter->unicasts);
    snapshot_put_u32(writer, filter->groups);
    snapshot_put_bytes(writer, filter->unicast, sizeof(filter->unicast));
    snapshot_put_bytes(writer, filter->group, sizeof(filter->group));
    return 0;
}

static int net_restore(struct virtio_device *device, struct snapshot_reader *reader)
{
    struct virtio_net *net = net_of(device);
    struct net_filter filter;
    uint64_t mac = snapshot_get_u64(reader);
    uint32_t pairs = snapshot_get_u32(reader), wanted = snapshot_get_u32(reader);
    uint64_t guest_offloads = snapshot_get_u64(reader);
    filter.promiscuous = snapshot_get_u8(reader) != 0;
    filter.all_groups = snapshot_get_u8(reader) != 0;
    filter.unicasts = snapshot_get_u32(reader);
    filter.groups = snapshot_get_u32(reader);
    snapshot_get_bytes(reader, filter.unicast, sizeof(filter.unicast));
    snapshot_get_bytes(reader, filter.group, sizeof(filter.group));
    int err = snapshot_reader_error(reader);
    if (err)
        return err;
    if (mac >> (8 * ETH_ALEN) || pairs != net->pairs || wanted == 0 || wanted > pairs ||
        guest_offloads & ~(net->features & NET_GUEST_OFFLOADS) ||
        filter.unicasts > NET_FILTER_UNICAST_MAX + 1 || filter.groups > NET_FILTER_GROUP_MAX + 1)
        return -EPROTO;
    atomic_store(&net->mac, mac);
    net->pairs_wanted = wanted;
    net->guest_offloads = guest_offloads;
    net->filter = filter;
    err = net_apply_offloads(net);
    if (!err)
        err = net_apply_filter(net);
    if (!err)
        virtio_net_announce(device); /* who restores may be elsewhere */
    return err;
}

static void net_free(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    for (unsigned i = 0; i < net->pairs; i++)
        net_pair_free(net->pair[i]);
    free(net);
}

/* Sums over all pairs. Any thread. */
static unsigned net_statistics(const struct virtio_device *device, struct virtio_statistic *rows,
                               unsigned max)
{
    const struct virtio_net *net = (const struct virtio_net *)device;
    struct virtio_statistic sums[] = {{"rx-packets", 0},  {"rx-bytes", 0},    {"rx-dropped", 0},
                                      {"tx-packets", 0},  {"tx-bytes", 0},    {"tx-dropped", 0},
                                      {"queue-kicks", 0}, {"queue-pairs", 0}, {"vhost", 0}};
    unsigned count = sizeof(sums) / sizeof(sums[0]);
    for (unsigned i = 0; i < net->pairs; i++) {
        const struct net_counters *counters = &net->pair[i]->count;
        const atomic_ullong *each[] = {&counters->rx_packets, &counters->rx_bytes, &counters->rx_dropped,
                                       &counters->tx_packets, &counters->tx_bytes, &counters->tx_dropped,
                                       &counters->kicks};
        for (unsigned row = 0; row < sizeof(each) / sizeof(each[0]); row++)
            sums[row].value += atomic_load_explicit(each[row], memory_order_relaxed);
    }
    sums[7].value = net->pairs;
    sums[8].value = net->pair[0]->vhost_fd >= 0;
    if (count > max)
        count = max;
    memcpy(rows, sums, count * sizeof(sums[0]));
    return count;
}

static const struct virtio_device_ops net_ops = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .features = net_features,
    .config_size =
        offsetof(struct virtio_net_config, speed), /* what comes behind belongs to other features */
    .config_read = net_config_read,
    .activate = net_activate,
    .reset = net_reset,
    .pause = net_pause,
    .resume = net_resume,
    .save = net_save,
    .restore = net_restore,
    .statistics = net_statistics,
    .free = net_free,
};

void virtio_net_options_init(struct virtio_net_options *options)
{
    *options = (struct virtio_net_options){.pairs = 0};
    for (unsigned i = 0; i < VIRTIO_NET_PAIRS_MAX; i++)
        options->tap_fd[i] = options->vhost_fd[i] = -1;
}

void virtio_net_options_close(struct virtio_net_options *options)
{
    for (unsigned i = 0; i < VIRTIO_NET_PAIRS_MAX; i++) {
        fd_close(&options->tap_fd[i]);
        fd_close(&options->vhost_fd[i]);
    }
}

/* The pairs, each on the next loop. 0, or -1 with err. */
static int make_pairs(struct virtio_net *net, const struct virtio_net_host *host,
                      struct virtio_net_options *options, struct error *err)
{
    for (unsigned i = 0; i < options->pairs; i++) {
        if (tap_init(options->tap_fd[i], options->pairs > 1, err) < 0 ||
            (options->vhost_fd[i] >= 0 && vhost_net_init(options->vhost_fd[i], err) < 0))
            return -1;
        struct net_pair *pair = net_pair_new(net, i, host->loops[i % host->loop_count],
                                             take_fd(&options->tap_fd[i]), take_fd(&options->vhost_fd[i]));
        if (!pair)
            return error_set(err, ENOMEM, "queue pair %u", i);
        net->pair[net->pairs++] = pair;
    }
    net->offered = features_of(tap_known_offloads(net->pair[0]->tap_fd), options);
    int rc = net_serve(net); /* nothing is served, so all queues but the first are detached */
    return rc < 0 ? error_set(err, -rc, "detach tap queues") : 0;
}

struct virtio_device *virtio_net_new(const struct virtio_net_host *host, struct virtio_net_options *options,
                                     struct error *err)
{
    struct virtio_net *net = NULL;
    if (options->pairs == 0 || options->pairs > VIRTIO_NET_PAIRS_MAX || host->loop_count == 0)
        error_set(err, EINVAL, "queue pairs");
    else if (!(net = calloc(1, sizeof(*net))))
        error_set(err, ENOMEM, "device");
    if (!net) {
        virtio_net_options_close(options);
        error_wrap(err, "virtio net");
        return NULL;
    }
    net->device = (struct virtio_device){.ops = &net_ops,
                                         .loop = host->loop,
                                         .queue_count = 2 * options->pairs + 1,
                                         .queue_size_max = NET_QUEUE_SIZE};
    net->memory = host->memory;
    net->id = options->id;
    net->mtu = options->mtu;
    net->pairs_wanted = 1;
    net->control_kick.fd = -1;
    net_filter_reset(&net->filter);
    memcpy(&net->mac_initial, options->mac, ETH_ALEN);
    atomic_store(&net->mac, net->mac_initial);
    atomic_store(&net->status, VIRTIO_NET_S_LINK_UP);
    int rc = make_pairs(net, host, options, err);
    virtio_net_options_close(options); /* what was not taken */
    if (rc == 0)
        return &net->device;
    error_wrap(err, "virtio net");
    net_free(&net->device);
    return NULL;
}

uint32_t virtio_net_id(const struct virtio_device *device)
{
    return ((const struct virtio_net *)device)->id;
}

void virtio_net_set_link(struct virtio_device *device, bool up)
{
    struct virtio_net *net = net_of(device);
    unsigned short before = up ? atomic_fetch_or(&net->status, VIRTIO_NET_S_LINK_UP)
                               : atomic_fetch_and(&net->status, (unsigned short)~VIRTIO_NET_S_LINK_UP);
    if (up != (bool)(before & VIRTIO_NET_S_LINK_UP))
        device->transport->config_changed(device->transport);
}

void virtio_net_announce(struct virtio_device *device)
{
    struct virtio_net *net = net_of(device);
    if (!net->active || !net_has(net->features, VIRTIO_NET_F_GUEST_ANNOUNCE))
        return;
    atomic_fetch_or(&net->status, VIRTIO_NET_S_ANNOUNCE);
    device->transport->config_changed(device->transport);
}
