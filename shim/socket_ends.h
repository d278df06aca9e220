/*
 * The two ends of a stream socket of the host, as the agent is told of them (ADDRESS and PEER of
 * protocol/protocol.h), so that the guest's stand-in has the same.
 */
#ifndef HUSK_SHIM_SOCKET_ENDS_H
#define HUSK_SHIM_SOCKET_ENDS_H

#include <jansson.h>

/* What its own end is bound to. New reference, or NULL with errno: EAFNOSUPPORT when it is neither IPv4, IPv6
 * nor Unix. */
json_t *socket_ends_local(int fd);

/* Who is at the other end. New reference, or NULL with errno: ENOTCONN. */
json_t *socket_ends_peer(int fd);

#endif
