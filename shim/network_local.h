/*
 * The way from the pod's network namespace itself to the guest: connections that a process of the host makes
 * within it to the addresses of an interface, as rootless podman's port forwarder does for `-p`.
 *
 * Such a packet is local to the namespace and would never see the interface. Its local route is taken away
 * and one to the tap put in its place, with a source address that leads back. The guest answers by its
 * default route, to that address, which is how the answer is told from what the interface is to send. The
 * guest itself is not told of anything. IPv4 only; without a default route in the guest there is no answer.
 *
 * Trust: whatever the guest sends to the source address reaches the namespace's own stack, and what listens
 * there on all addresses, as what it sends to its gateway reaches the host's. It is not forwarded.
 */
#ifndef HUSK_SHIM_NETWORK_LOCAL_H
#define HUSK_SHIM_NETWORK_LOCAL_H

#include "common/error.h"
#include "shim/network_snapshot.h"

struct mnl_socket;

/* What the guest sees such connections come from: of the range for one link (RFC 3927). */
#define NETWORK_LOCAL_SOURCE "169.254.104.117"

/* Once for a tap, which is redirected already: the filter that lets answers through. 0, or -1 with err
 * filled.
 */
int network_local_add_tap(uint32_t tap, struct mnl_socket *socket, struct error *err);

/* Has the interface's IPv4 addresses reached through its tap, and no longer those that it had `before` (NULL:
 * none). Fine to repeat, which changes nothing where nothing has changed. 0, or -1 with err filled: the first
 * that failed, the others are done. */
int network_local_set(const struct network_interface *link, const json_t *before, uint32_t tap,
                      struct mnl_socket *socket, struct error *err);

/* The addresses are the host's own again, as before network_local_set. Fine without it, and when the tap or
 * the interface is gone. */
void network_local_restore(uint32_t interface, const json_t *addresses, struct mnl_socket *socket);

#endif
