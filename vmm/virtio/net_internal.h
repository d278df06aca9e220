/*
 * Inside virtio-net: the device, its queue pairs, and what the parts share. net.c is the device as its
 * transport sees it, net_control.c the control queue, net_pair.c a pair's life, net_rx.c and net_tx.c our own
 * data path, vhost_net.c the kernel's. Nobody else includes this but tests.
 *
 * A pair's struct belongs to its loop's thread while the pair runs, and to the device's thread while it does
 * not. Everything else of the device is the device's thread's, or atomic.
 */
#ifndef HUSK_VMM_VIRTIO_NET_INTERNAL_H
#define HUSK_VMM_VIRTIO_NET_INTERNAL_H

#include "vmm/virtio/net.h"

#include "common/loop.h"
#include "vmm/virtio/tap.h"
#include "vmm/virtio/vhost_net.h"

#include <linux/virtio_net.h>
#include <stdatomic.h>

#define NET_QUEUE_SIZE   256
#define NET_HEADER_BYTES sizeof(struct virtio_net_hdr_v1)
/* The largest packet of a tap: §5.1.6.3.1's 65550 bytes, a VLAN tag, and the header. */
#define NET_PACKET_BYTES_MAX (65550u + 4u + (unsigned)NET_HEADER_BYTES)
/* Packets each way before others on the same loop have their turn. */
#define NET_TURN_PACKETS 64u
/* What one system call takes (UIO_MAXIOV). */
#define NET_IOV_MAX 1024u

#define NET_FILTER_UNICAST_MAX 64u
#define NET_FILTER_GROUP_MAX   64u

/* Chains taken from the receive queue and not yet filled. Their elements follow each other in iov. */
struct net_rx {
    struct {
        uint16_t head;
        uint16_t elements;
        uint32_t bytes;
    } buffer[NET_QUEUE_SIZE];
    unsigned buffers;
    struct iovec iov[NET_IOV_MAX]; /* one behind the last belongs to the spill */
    unsigned elements;
    size_t capacity; /* bytes of all buffers */
    bool full;       /* no more buffers can be held */
    bool kicks;      /* the driver was asked to kick */
    /* A packet that is longer than what the driver had offered when it came: its last `spilled` bytes are in
     * the spill. 0: none. */
    size_t packet_bytes, spilled;
    uint8_t spill[NET_PACKET_BYTES_MAX];
};

struct net_counters {
    atomic_ullong rx_packets, rx_bytes, rx_dropped;
    atomic_ullong tx_packets, tx_bytes, tx_dropped;
    atomic_ullong kicks;
};

struct net_pair {
    struct virtio_net *net;
    unsigned index;
    int tap_fd, vhost_fd; /* vhost_fd -1: our own data path */
    struct loop *loop;
    bool running;
    bool attached;                      /* its tap queue; as whoever opened it left it at first */
    struct watch rx_kick, tx_kick, tap; /* in the loop while the pair runs on our own data path */
    struct watch vhost_error[2];        /* in the device's loop while it runs on vhost; the pair's eventfds */
    uint64_t features;                  /* negotiated, copied when the pair starts */
    bool tx_blocked;                    /* the tap takes no more until it says so */
    struct log_limit limit;
    struct net_counters count;
    struct virtio_chain chain; /* the one being looked at */
    struct iovec tx_iov[NET_IOV_MAX + 1];
    struct net_rx rx;
};

/* What the driver wants to hear (§5.1.6.5.1, §5.1.6.5.2). */
struct net_filter {
    bool promiscuous, all_groups;
    unsigned unicasts, groups; /* more than fit: all of that kind */
    uint8_t unicast[NET_FILTER_UNICAST_MAX][ETH_ALEN];
    uint8_t group[NET_FILTER_GROUP_MAX][ETH_ALEN];
};

struct virtio_net {
    struct virtio_device device; /* first */
    const struct guest_memory *memory;
    uint32_t id;
    unsigned pairs;
    uint16_t mtu;
    uint64_t offered;     /* device features; constant */
    uint64_t mac_initial; /* the octets in memory order; the two behind are 0 */
    atomic_ullong mac;    /* in the same form; the driver may change it */
    atomic_ushort status; /* VIRTIO_NET_S_* */

    /* The device's thread. */
    bool active, paused;
    uint64_t features;       /* negotiated */
    unsigned pairs_wanted;   /* by the driver; 1 after reset */
    uint64_t guest_offloads; /* feature bits that are switched on (§5.1.6.5.6) */
    struct net_filter filter;
    struct watch control_kick;
    unsigned control_queue; /* its index; depends on what is negotiated. 0: none */
    struct virtio_chain control_chain;

    struct net_pair *pair[VIRTIO_NET_PAIRS_MAX]; /* `pairs` of them; constant */
};

/* The features that CTRL_GUEST_OFFLOADS switches. */
#define NET_GUEST_OFFLOADS                                                                                   \
    (1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |   \
     1ULL << VIRTIO_NET_F_GUEST_ECN | 1ULL << VIRTIO_NET_F_GUEST_USO4 | 1ULL << VIRTIO_NET_F_GUEST_USO6)

static inline bool net_has(uint64_t features, unsigned bit)
{
    return features >> bit & 1;
}

static inline void net_count(atomic_ullong *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* net.c, in the device's thread: makes the pairs that should run do so, and no others. 0 or -errno. */
int net_serve(struct virtio_net *net);
/* Tells the tap of net->guest_offloads, net->filter. 0 or -errno. */
int net_apply_offloads(struct virtio_net *net);
int net_apply_filter(struct virtio_net *net);

/* net_control.c, in the device's thread. */
void net_filter_reset(struct net_filter *filter);
void net_control_kick(struct watch *watch, uint32_t events);

/* net_pair.c, called in the device's thread. The pair takes both descriptors. NULL without memory. */
struct net_pair *net_pair_new(struct virtio_net *net, unsigned index, struct loop *loop, int tap_fd,
                              int vhost_fd);
void net_pair_free(struct net_pair *pair);
/* Has the pair's queues served by its loop's thread, or by vhost. 0, also when the driver did not start the
 * queues; -errno. stop returns when no thread touches them any more, and no chain is in flight. */
int net_pair_start(struct net_pair *pair);
void net_pair_stop(struct net_pair *pair);

/* net_rx.c, net_tx.c: in the pair's thread. Move packets until there is nothing left to do, or the turn is
 * over (then they see to it that they are called again). */
void net_rx_run(struct net_pair *pair);
void net_tx_run(struct net_pair *pair);
/* Gives untouched buffers back to the driver's side of the queue. */
void net_rx_stop(struct net_pair *pair);

/* net_tx.c: whether a header of the driver's fits the negotiated features and `bytes` of packet behind it;
 * clears what means nothing. */
bool net_tx_check_header(struct virtio_net_hdr_v1 *header, uint64_t features, size_t bytes);

#endif
