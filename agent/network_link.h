/*
 * The guest's NICs: finding one by its MAC, naming it, its sysctls, binding and unbinding its driver.
 */
#ifndef HUSK_AGENT_NETWORK_LINK_H
#define HUSK_AGENT_NETWORK_LINK_H

#include "agent/slots.h"
#include "common/error.h"

#include <jansson.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETWORK_LINKS_MAX 64

struct network_link {
    uint32_t index;
    char name[IFNAMSIZ];
    unsigned char mac[ETH_ALEN];
    bool loopback;
};

/* The links of the network namespace: their number, or -1 with err filled. */
int network_links_list(int socket, struct network_link links[NETWORK_LINKS_MAX], struct error *err);

/* What an interface is to be, checked. Strings are borrowed from the JSON. */
struct network_wish {
    int64_t id;
    const char *name;
    const char *device; /* the platform device to bind first, or NULL */
    unsigned char mac[ETH_ALEN];
    bool loopback, up, noarp;
    uint32_t mtu, queue_length;
    json_t *addresses, *neighbours, *sysctls; /* borrowed; NULL: none */
};

/* Reads one of "interfaces". 0 or -1. */
int network_wish_read(struct network_wish *wish, const json_t *entry, struct error *err);

/* Gives the link the wish's name (another one of that name gets a name of its own first), MAC, MTU, queue
 * length and flags, but not yet up. 0 or -1. */
int network_link_set(int socket, const struct network_link *link, const struct network_wish *wish,
                     struct error *err);

/* Sets the link up or down. 0 or -1. */
int network_link_set_up(int socket, uint32_t index, bool up, struct error *err);

/* Writes the wish's sysctls, all but addr_gen_mode or (late) that one only: it would make addresses at once.
 * 0 or -1. */
int network_link_set_sysctls(const struct network_wish *wish, bool late, struct error *err);

/* Takes the driver from the NIC of that name and tells its slot. 0 or -1. */
int network_device_unbind(const char *name, char slot[SLOT_NAME_BYTES], struct error *err);

/* Has every NIC use a queue pair for each of `cpus` processors, as far as it has them. A NIC that can't keeps
 * what it has. */
void network_links_use_cpus(int socket_fd, unsigned cpus);

#endif
