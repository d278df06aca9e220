/*
 * virtio-net (virtio 1.2 §5.1) between the guest and tap devices that the shim opened, one a queue pair.
 *
 * Two data paths: the kernel's (vhost-net, vhost_net.h) where the shim gave its descriptors, or our own
 * (net_rx.c, net_tx.c): readv and writev between the tap and guest memory, in threads that serve nothing
 * else, so that neither vsock nor the file server waits for packets. Each queue pair belongs to one of
 * `loops`; everything else of the device, the control queue too, to its own loop.
 *
 * Trust boundary: chains, headers and commands are the guest's. What goes to the tap is checked against what
 * was negotiated; what comes from the tap is the kernel's word.
 */
#ifndef HUSK_VMM_VIRTIO_NET_H
#define HUSK_VMM_VIRTIO_NET_H

#include "common/error.h"
#include "vmm/virtio/device.h"

#include <linux/if_ether.h>

/* A queue pair for each vCPU of the largest machine. */
#define VIRTIO_NET_PAIRS_MAX 32

struct virtio_net_options {
    uint32_t id; /* the host's name for the device; tells it from others of the machine */
    uint8_t mac[ETH_ALEN];
    uint16_t mtu;   /* told to the guest, which then cannot go beyond; 0: not told */
    unsigned pairs; /* 1 to VIRTIO_NET_PAIRS_MAX */
    /* Taps with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR and, for more than one pair, IFF_MULTI_QUEUE. */
    int tap_fd[VIRTIO_NET_PAIRS_MAX];
    /* Open /dev/vhost-net, one a pair, or -1 in all. */
    int vhost_fd[VIRTIO_NET_PAIRS_MAX];
};

/* No pairs, no MAC, all descriptors -1. */
void virtio_net_options_init(struct virtio_net_options *options);
/* Closes the descriptors. */
void virtio_net_options_close(struct virtio_net_options *options);

/* What a device needs of its machine. */
struct virtio_net_host {
    struct loop *loop;         /* the device's own: control queue, activation, reset */
    struct loop *const *loops; /* of the data path, at least one; constant */
    unsigned loop_count;
    const struct guest_memory *memory; /* what vhost is told of; the caller's */
};

/* The device takes the options' descriptors, also on failure, and makes them non-blocking. NULL with err: a
 * tap that is not as above, a vhost-net that lacks a feature, no memory. In the loop's thread. */
struct virtio_device *virtio_net_new(const struct virtio_net_host *host, struct virtio_net_options *options,
                                     struct error *err);

/* The options' id. Any thread. */
uint32_t virtio_net_id(const struct virtio_device *device);
/* Tells the guest that the link is up or down (§5.1.4.2). In the loop's thread. */
void virtio_net_set_link(struct virtio_device *device, bool up);
/* Asks the guest to announce its addresses (§5.1.6.5.4), as after a restore. In the loop's thread. */
void virtio_net_announce(struct virtio_device *device);

#endif
