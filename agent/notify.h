/*
 * The socket on which a container's processes tell their state (sd_notify(3)): a datagram socket in the
 * abstract namespace, which the container shares with the agent as it shares the sandbox's network. What
 * comes in is given to the host's container.notify requests, one datagram each; what nobody asks for waits in
 * the socket.
 *
 * Whoever is in the container may send: the host passes on text, no fds.
 */
#ifndef HUSK_AGENT_NOTIFY_H
#define HUSK_AGENT_NOTIFY_H

#include "agent/connection.h"
#include "common/error.h"
#include "common/loop.h"

struct notify;

/* Binds the abstract socket `name` (without the NUL in front). New, or NULL with err filled (EADDRINUSE). */
struct notify *notify_new(struct loop *loop, const char *name, struct error *err);

/* Closes it; a request that waits fails. NULL is fine. */
void notify_free(struct notify *notify);

/* Answers the request with the next datagram: {"message": text}. 0, or -1 with err filled (EBUSY: another one
 * waits) and the request still the caller's. */
int notify_wait(struct notify *notify, struct request *request, struct error *err);

#endif
