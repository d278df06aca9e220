/*
 * A network device for the VMM: what it is to be, with the descriptors that carry its packets. Filled by who
 * makes the taps, handed to the VMM at its start (vmm_process.h) or later (vmm_control.h).
 */
#ifndef HUSK_SHIM_VMM_NET_H
#define HUSK_SHIM_VMM_NET_H

#include <linux/if_ether.h>
#include <stdbool.h>
#include <stdint.h>

#define VMM_NETS_MAX       8u  /* at the VMM's start */
#define VMM_NET_QUEUES_MAX 32u /* queue pairs of one device */

struct vmm_net {
    uint32_t id; /* tells it from others of the sandbox */
    uint8_t mac[ETH_ALEN];
    uint16_t mtu;    /* told to the guest, which then cannot go beyond; 0: not told */
    unsigned queues; /* 1 to VMM_NET_QUEUES_MAX */
    /* Taps with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR and, for more than one queue, IFF_MULTI_QUEUE. */
    int tap[VMM_NET_QUEUES_MAX];
    bool vhost;
    int vhost_net[VMM_NET_QUEUES_MAX]; /* open /dev/vhost-net, if `vhost` */
};

#endif
