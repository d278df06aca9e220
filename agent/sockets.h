/*
 * Sockets that a process of the container gets in place of the host's: those a caller passes on
 * (--preserve-fds, sd_listen_fds(3)). The host's monitor carries the bytes of a connection; here stands a
 * socket of the same family with the host's addresses on both ends, so that getsockname(2), getpeername(2)
 * and SO_PEERCRED answer as they would without a VM.
 *
 * All of them live in a network namespace of the agent's own in which every address is local: they take no
 * port of the container's network, and nothing in it can reach them. Requests of the host are not trusted.
 * Belongs to the loop's thread, whose network namespace and effective IDs change for the time of a call.
 */
#ifndef HUSK_AGENT_SOCKETS_H
#define HUSK_AGENT_SOCKETS_H

#include "common/error.h"

#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/un.h>

struct socket_address {
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
        struct sockaddr_un unix_; /* of a request only the family; the kernel chooses an abstract name */
    };
    socklen_t length;
};

/* One end of a connection, and whose it is. */
struct socket_peer {
    struct socket_address address;
    uid_t uid; /* of a Unix socket: what SO_PEERCRED is to say */
    gid_t gid;
};

/* An ADDRESS or PEER of protocol.h. `where` is its place, for errors. 0 or -1. */
int socket_address_parse(const json_t *object, const char *where, struct socket_address *address,
                         struct error *err);
int socket_peer_parse(const json_t *object, const char *where, struct socket_peer *peer, struct error *err);

/* A listening stream socket with that address, which then is where to connect. ipv6_only: IPV6_V6ONLY. fd,
 * the caller's, or -1. */
int sockets_listen(struct socket_address *address, bool ipv6_only, struct error *err);

/* Connects from the peer to a listening socket's address. Non-blocking; fd, the caller's, or -1: ECONNREFUSED
 * when nobody listens any more (an IP socket may learn that later), EAGAIN when a Unix socket's backlog is
 * full. */
int sockets_connect(const struct socket_address *address, const struct socket_peer *peer, struct error *err);

/* A connection: *theirs is the end at that address. Our end, or -1; both are the caller's. */
int sockets_pair(const struct socket_address *address, const struct socket_peer *peer, int *theirs,
                 struct error *err);

#endif
