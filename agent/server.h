/*
 * The vsock port where the host reaches the agent.
 */
#ifndef HUSK_AGENT_SERVER_H
#define HUSK_AGENT_SERVER_H

#include "agent/sandbox.h"

struct server {
    struct sandbox *sandbox;
    struct watch listener;
    struct watch knock;
};

/* Listens at AGENT_PORT and knocks at the host's KNOCK_PORT, which tells it so; connections wait in the
 * backlog until server_serve. 0 or -1. */
int server_listen(struct server *server, struct error *err);

/* Has the sandbox's loop accept connections from now on. 0 or -1. */
int server_serve(struct server *server, struct sandbox *sandbox, struct error *err);

#endif
