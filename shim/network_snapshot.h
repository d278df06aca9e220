/*
 * What a network namespace looks like: its interfaces with all that the guest's are to have, routes and
 * rules.
 *
 * Read by dumps of rtnetlink and written as the JSON of the request sandbox.network.set
 * (protocol/protocol.h), so that two snapshots can be compared and the agent gets what was read. Numbers are
 * the kernel's (rtnetlink(7)), addresses are text. What is automatic in every network namespace (local
 * routes, default rules, multicast) is left out.
 */
#ifndef HUSK_SHIM_NETWORK_SNAPSHOT_H
#define HUSK_SHIM_NETWORK_SNAPSHOT_H

#include "common/error.h"

#include <jansson.h>
#include <linux/if_ether.h>
#include <net/if.h> /* before any header of the kernel's that would bring its own */
#include <stdbool.h>
#include <stdint.h>

struct mnl_socket;

#define NETWORK_INTERFACES_MAX 64
#define NETWORK_KIND_BYTES     16

struct network_interface {
    uint32_t index;
    char name[IFNAMSIZ];
    char kind[NETWORK_KIND_BYTES]; /* IFLA_INFO_KIND: "veth", "tun", "macvlan", ...; "" for hardware */
    uint16_t hardware;             /* ARPHRD_* */
    uint32_t flags;                /* IFF_* */
    uint32_t mtu;
    uint32_t queue_length;
    uint32_t master; /* index of the bridge or bond it belongs to, or 0 */
    uint32_t lower;  /* index of the interface in the same namespace that it lies on, or 0 */
    unsigned char mac[ETH_ALEN];
    json_t *sysctls, *addresses, *neighbours; /* owned */
};

struct network_snapshot {
    struct network_interface *interfaces; /* in the order of their indices */
    size_t count;
    json_t *routes, *rules; /* of all interfaces; owned */
};

/* Reads the namespace of the socket. 0, or -1 with err filled: also when it holds something that can't be
 * carried over (an encapsulated route, say), which is named. Undone by network_snapshot_fini, whatever the
 * result. */
int network_snapshot_take(struct network_snapshot *snapshot, struct mnl_socket *socket, struct error *err);
void network_snapshot_fini(struct network_snapshot *snapshot);

/* The interface of that index, or NULL. */
struct network_interface *network_snapshot_find(const struct network_snapshot *snapshot, uint32_t index);

#endif
