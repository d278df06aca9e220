/*
 * The sandbox's network: the guest's root network namespace made to look like the pod's on the host.
 *
 * The host sends the whole of it each time (sandbox.network.set, protocol/protocol.h); what it sent before is
 * kept, and only the difference is acted upon. So what a container with the right to changes itself stays,
 * unless the host changes the very same thing. The host's word is checked before the kernel hears it.
 */
#ifndef HUSK_AGENT_NETWORK_H
#define HUSK_AGENT_NETWORK_H

#include "common/error.h"

#include <jansson.h>

struct network;

/* Makes the network as `params` say. Everything that can be done is done; 0, or -1 with err telling the first
 * thing that could not. *network is made when it is NULL. *removed: the platform devices of NICs that were
 * taken away, an array, new reference. */
int network_set(struct network **network, const json_t *params, json_t **removed, struct error *err);

/* The guest has that many processors now: NICs with several queues use them. NULL is fine. */
void network_use_cpus(const struct network *network, unsigned cpus);

/* NULL is fine. */
void network_free(struct network *network);

#endif
