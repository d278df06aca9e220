/*
 * The routes and policy rules of a network namespace as JSON: the second half of network_snapshot.h.
 */
#ifndef HUSK_SHIM_NETWORK_ROUTES_H
#define HUSK_SHIM_NETWORK_ROUTES_H

#include "common/error.h"

#include <jansson.h>

struct mnl_socket;

/* All routes of all tables, IPv4 and IPv6, but those that the kernel makes by itself (local ones, multicast).
 * A new array in *routes (also on failure, then for the caller to drop). 0, or -1 with err filled: a route
 * that can't be carried over is named. */
int network_routes_read(json_t **routes, struct mnl_socket *socket, struct error *err);

/* All policy rules but the three that every namespace starts with. As above. */
int network_rules_read(json_t **rules, struct mnl_socket *socket, struct error *err);

#endif
