/*
 * The pod's network on the host: its namespace, a tap for each interface, and what the agent is told.
 *
 * The monitor opens it before it starts the VMM, which gets the taps; then it tells the agent what the
 * network is, and follows the namespace's changes (network_follow.h). Container engines and network plugins
 * prepare the namespace and look into it afterwards: interfaces, addresses and routes stay as they made them,
 * only the traffic goes to the guest (and the local routes to their addresses: network_local.h). Packet
 * filters in the namespace do not see that traffic.
 *
 * One thread, the monitor's own.
 */
#ifndef HUSK_SHIM_NETWORK_H
#define HUSK_SHIM_NETWORK_H

#include "common/error.h"
#include "shim/vmm_net.h"

#include <jansson.h>

struct network;

/* Moves the caller into the pod's network namespace and makes the taps in it: with at most `queue_pairs`
 * queue pairs each. What a later command needs to clean up is written into the container's directory first.
 * The network, or NULL with err filled: then no tap or redirection is left. */
struct network *network_open(const json_t *spec, int container_fd, unsigned queue_pairs, struct error *err);

/* The same for a container of a sandbox that has that network already: only moves the caller into the
 * namespace. */
struct network *network_join(const json_t *spec, struct error *err);

/* The network namespace that the caller was in before: where the host's hooks run. Borrowed. */
int network_runtime_fd(const struct network *network);

/* The NICs that the VMM is started with: *count of them, borrowed. */
const struct vmm_net *network_nics(const struct network *network, unsigned *count);

/* Closes our fds of the taps: the VMM has its own, and the taps are to end with it. */
void network_release_nics(struct network *network);

/* Ends the redirections and frees everything. NULL is fine. */
void network_close(struct network *network);

/* Does what network_close did not do because its process was killed. The container's directory is given; fine
 * when there is nothing to do. */
void network_clean(int container_fd);

#endif
