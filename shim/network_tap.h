/*
 * A tap in the pod's network namespace: where the VMM's NIC is plugged in, and the traffic between it and the
 * interface it stands for.
 *
 * The kernel redirects (tc's ingress hook, a matchall filter, the action mirred): what the interface receives
 * leaves by the tap, and what the tap receives, which is what the guest sends, leaves by the interface. The
 * host's own stack sees neither, so it answers no ARP, neighbour or port for the addresses that stay on the
 * interface for callers to look at. A tap ends with its last fd; a redirection ends with
 * network_redirect_remove.
 */
#ifndef HUSK_SHIM_NETWORK_TAP_H
#define HUSK_SHIM_NETWORK_TAP_H

#include "common/error.h"
#include "shim/network_snapshot.h"
#include "shim/vmm_net.h"

struct mnl_socket;

/* The names of taps: "husk" and a number that the kernel chooses. */
#define NETWORK_TAP_PREFIX "husk"

/* Makes the tap for an interface in the current network namespace: `pairs` queue pairs (1 to
 * VMM_NET_QUEUES_MAX), up, with the interface's MTU, MAC address and queue length, and a
 * vhost-net fd for each pair where the host has vhost-net. Fills `net` (undone by network_tap_close) and
 * *index. 0, or -1 with err filled. */
int network_tap_open(const struct network_interface *link, unsigned pairs, struct mnl_socket *socket,
                     struct vmm_net *net, uint32_t *index, struct error *err);

/* Closes the fds. The tap goes when the VMM has closed its own too. */
void network_tap_close(struct vmm_net *net);

/* Has the tap follow the MTU of its interface. 0, or -1 with err filled. */
int network_tap_set_mtu(uint32_t index, uint32_t mtu, struct mnl_socket *socket, struct error *err);

/* Redirects all traffic between the interface and the tap. 0, or -1 with err filled: then neither is
 * redirected. */
int network_redirect_add(uint32_t interface, uint32_t tap, struct mnl_socket *socket, struct error *err);

/* Has what the tap receives for an IPv4 address (in network order) go to the host's own stack in place of the
 * interface, whatever MAC address it was sent to. After network_redirect_add. 0, or -1 with err filled: the
 * kernel may lack tc's action skbedit. */
int network_redirect_except(uint32_t tap, uint32_t address, struct mnl_socket *socket, struct error *err);

/* Ends the redirection of an interface, by whichever sandbox; other filters stay. Fine when there is none. */
void network_redirect_remove(uint32_t interface, struct mnl_socket *socket);

#endif
