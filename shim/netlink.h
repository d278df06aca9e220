/*
 * Requests to rtnetlink over libmnl: one socket, a message out, its acknowledgement or dump in.
 *
 * A socket belongs for ever to the network namespace that its thread was in when it was opened; where the
 * thread is later does not matter. The kernel is trusted. Called by the network_*.c files, in one thread.
 */
#ifndef HUSK_SHIM_NETLINK_H
#define HUSK_SHIM_NETLINK_H

#include "common/error.h"

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>

/* The attributes of a message after its family header, and those in `bytes` from `start` on. libmnl's own
 * loops hide a conversion that our warnings do not allow. */
#define netlink_for_each(attribute, message, header_bytes)                                                   \
    for ((attribute) = mnl_nlmsg_get_payload_offset((message), (header_bytes));                              \
         netlink_attribute_ok((attribute), mnl_nlmsg_get_payload_tail(message));                             \
         (attribute) = mnl_attr_next(attribute))
#define netlink_for_each_in(attribute, start, bytes)                                                         \
    for ((attribute) = (const void *)(start);                                                                \
         netlink_attribute_ok((attribute), (const char *)(start) + (bytes));                                 \
         (attribute) = mnl_attr_next(attribute))
#define netlink_for_each_nested(attribute, nest)                                                             \
    netlink_for_each_in((attribute), mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest))

static inline bool netlink_attribute_ok(const struct nlattr *attribute, const void *end)
{
    return mnl_attr_ok(attribute, (int)((const char *)end - (const char *)attribute));
}

/* Room for any request made here. */
#define NETLINK_REQUEST_BYTES 1024

/* Opens a socket in the current network namespace, CLOEXEC. The caller closes it with mnl_socket_close. NULL
 * with err filled. */
struct mnl_socket *netlink_open(struct error *err);

/* A socket that hears of every change of links, addresses, neighbours, routes, rules and interface settings
 * in the current network namespace. As above. */
struct mnl_socket *netlink_listen(struct error *err);

/* As netlink_open, in the network namespace of netns_fd; the thread is back in its own when this returns. */
struct mnl_socket *netlink_open_in(int netns_fd, struct error *err);

/* Starts a message in buffer (NETLINK_REQUEST_BYTES): header with NLM_F_REQUEST | flags, then `family_bytes`
 * of zeroed family header (struct ifinfomsg, tcmsg, ...), which is returned. */
void *netlink_start(void *buffer, uint16_t type, uint16_t flags, size_t family_bytes);

/* Sends the message and waits for its acknowledgement. 0, or -1 with err filled: the kernel's errno as code,
 * its own words in the text where it has any. */
int netlink_request(struct mnl_socket *socket, void *buffer, struct error *err);

/* Sends the message as a dump and hands each answer to `each` (MNL_CB_OK to go on; MNL_CB_ERROR with errno
 * set ends it). Starts over, after calling `restart`, when the kernel says that what it dumped changed
 * meanwhile. 0, or -1 with err filled. */
int netlink_dump(struct mnl_socket *socket, void *buffer, mnl_cb_t each, void (*restart)(void *arg),
                 void *arg, struct error *err);

#endif
