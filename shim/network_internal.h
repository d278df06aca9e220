/*
 * The network's own structure, shared by network.c (what it consists of) and network_follow.c (how it
 * changes).
 */
#ifndef HUSK_SHIM_NETWORK_INTERNAL_H
#define HUSK_SHIM_NETWORK_INTERNAL_H

#include "common/loop.h"
#include "shim/network.h"
#include "shim/network_follow.h"
#include "shim/network_snapshot.h"
#include "shim/network_tap.h"

struct network_nic {
    uint32_t interface; /* index in the pod's namespace */
    uint32_t tap;       /* the same of its tap */
    uint32_t mtu;
    char name[IFNAMSIZ];
    bool local;        /* whether `addresses` are reached from within the namespace (network_local.h) */
    json_t *addresses; /* of the interface, when it was looked at last */
    char *device;      /* the guest's name of the device, for one that was attached later; else NULL */
};

struct network {
    int runtime_fd;
    unsigned queue_pairs;
    struct mnl_socket *socket; /* of the pod's namespace */
    struct network_nic nics[NETWORK_INTERFACES_MAX];
    size_t count;
    struct vmm_net
        vmm_nets[NETWORK_INTERFACES_MAX]; /* of the first `started` NICs, until they are released */
    unsigned started;
    json_t *described; /* what the agent was told last */
    uint32_t
        leaving[NETWORK_INTERFACES_MAX]; /* ids of NICs that the VMM still has, their interfaces being gone */
    size_t leaving_count;

    /* following: see network_follow.h */
    struct mnl_socket *events; /* hears of changes, from before the first snapshot on */
    struct loop *loop;         /* NULL: not followed */
    struct watch notices, timer;
    int sandbox_fd;
    network_tell_fn tell;
    void *tell_arg;
    bool telling; /* the agent has not answered yet */
    bool again;   /* something changed meanwhile */
};

/* Whether the interface is to have a NIC: 1 or 0, or -1 with err filled for one that would have to, but
 * can't. */
int network_wants(const struct network_interface *link, struct error *err);

/* Makes tap and redirection for an interface: network->nics[network->count++]. 0, or -1 with err filled. */
int network_add_nic(struct network *network, const struct network_interface *link, struct vmm_net *net,
                    struct error *err);

/* Has the NIC's addresses reached from within the namespace, as they are now. That it fails is logged only:
 * the pod's traffic does not need it. */
void network_set_local(struct network *network, struct network_nic *nic,
                       const struct network_interface *link);

/* Forgets a NIC and ends its redirection, if the interface is still there. */
void network_remove_nic(struct network *network, size_t at);

/* What the agent is to be told of a snapshot: new reference, or NULL with err filled. */
json_t *network_describe_snapshot(const struct network *network, const struct network_snapshot *snapshot,
                                  struct error *err);

#endif
