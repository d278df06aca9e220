/*
 * Following the pod's network namespace: interfaces that come, go or change after the VM was started, as
 * engines do it (podman network connect, network plugins, hooks).
 *
 * rtnetlink's notices only say that something changed; then the whole is read again and compared. A new
 * interface gets a tap and is attached to the running VM, the agent is told the whole network anew, and a NIC
 * whose interface is gone is taken from the VM once the agent has let go of it.
 */
#ifndef HUSK_SHIM_NETWORK_FOLLOW_H
#define HUSK_SHIM_NETWORK_FOLLOW_H

#include "common/error.h"
#include "common/loop.h"
#include "shim/network.h"

/* Reads the namespace again and has the VMM (by its control socket in sandbox_fd) attach what is new.
 * *params: what the agent is to be told now (new reference), or NULL when nothing changed. After the agent's
 * answer network_told is called. 0, or -1 with err filled: something could not be carried over, *params may
 * be there all the same. */
int network_update(struct network *network, int sandbox_fd, json_t **params, struct error *err);

/* The agent has answered (result), or failed (result NULL): NICs whose interface is gone leave the VM. */
void network_told(struct network *network, int sandbox_fd, const json_t *result);

/* Sends the agent what network_update said, without waiting: the answer is brought by network_told. 0, or -1
 * with err filled. */
typedef int (*network_tell_fn)(void *arg, json_t *params, struct error *err);

/* Follows from now on, in the loop; what changed since network_open is found at once. sandbox_fd is borrowed
 * until network_close. What can't be carried over later is logged. 0, or -1 with err filled. */
int network_follow(struct network *network, struct loop *loop, int sandbox_fd, network_tell_fn tell,
                   void *arg, struct error *err);

/* The answer to what `tell` sent: its result, or NULL and the failure. */
void network_follow_told(struct network *network, const json_t *result, const struct error *failure);

/* Ends that. Fine without it. */
void network_unfollow(struct network *network);

#endif
