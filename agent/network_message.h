/*
 * The members of sandbox.network.set (protocol/protocol.h) as messages to rtnetlink: addresses, neighbours,
 * routes, rules.
 *
 * The JSON is the host's and not trusted: every member is checked, and an error names the entry. Each
 * function writes the message that adds (RTM_NEW*) or deletes (RTM_DEL*) what the entry tells of. Nothing
 * here touches the system.
 */
#ifndef HUSK_AGENT_NETWORK_MESSAGE_H
#define HUSK_AGENT_NETWORK_MESSAGE_H

#include "agent/netlink.h"
#include "common/error.h"

#include <jansson.h>

/* Turns the host's id of an interface into the guest's index: 0 for one that is not known. */
struct network_indices {
    uint32_t (*find)(void *arg, int64_t id);
    void *arg;
};

/* An address of the interface `index`. extra_flags (IFA_F_*) are added to the entry's own. 0 or -1. */
int network_message_address(struct netlink_message *message, uint16_t type, uint32_t index,
                            const json_t *entry, uint32_t extra_flags, struct error *err);

/* The route that the kernel makes by itself for such an address: destination and family for
 * network_message_route's entries to be compared with, "10.88.0.0/16". 1, or 0 when it makes none, or -1. */
int network_message_connected(const json_t *entry, char *text, size_t size, struct error *err);

/* A permanent neighbour. 0 or -1. */
int network_message_neighbour(struct netlink_message *message, uint16_t type, uint32_t index,
                              const json_t *entry, struct error *err);

/* A route. 0 or -1. */
int network_message_route(struct netlink_message *message, uint16_t type, const json_t *entry,
                          const struct network_indices *indices, struct error *err);

/* A policy rule. 0 or -1. */
int network_message_rule(struct netlink_message *message, uint16_t type, const json_t *entry,
                         struct error *err);

#endif
