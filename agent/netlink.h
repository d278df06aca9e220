/*
 * Requests to rtnetlink: one message out, its acknowledgement or dump in.
 *
 * Own code, and small, because the agent is a static program: Debian has no static libmnl, and its static
 * libnl brings the resolver and 400 KiB along. Messages are built with the kernel's UAPI headers only. The
 * kernel is trusted.
 */
#ifndef HUSK_AGENT_NETLINK_H
#define HUSK_AGENT_NETLINK_H

#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_MESSAGE_BYTES 4096

struct netlink_message {
    union {
        struct nlmsghdr header;
        char bytes[NETLINK_MESSAGE_BYTES];
    };
    bool too_long; /* something did not fit: sending fails with -EMSGSIZE */
};

/* A socket in the current network namespace, CLOEXEC, the caller's, or -errno. */
int netlink_open(void);

/* Starts a message: header with NLM_F_REQUEST | flags, then `family_bytes` zeroed, which are returned. */
void *netlink_start(struct netlink_message *message, uint16_t type, uint16_t flags, size_t family_bytes);

/* Appends an attribute. */
void netlink_put(struct netlink_message *message, uint16_t type, const void *data, size_t length);
void netlink_put_u32(struct netlink_message *message, uint16_t type, uint32_t value);

/* Appends `length` raw bytes, aligned (struct rtnexthop). The copy in the message, or NULL when it did not
 * fit. */
void *netlink_append(struct netlink_message *message, const void *data, size_t length);

/* Starts an attribute that holds what is appended until netlink_end. */
size_t netlink_nest(struct netlink_message *message, uint16_t type);
void netlink_end(struct netlink_message *message, size_t nest);

/* Sends the message and waits for the acknowledgement. 0 or -errno (the kernel's). */
int netlink_call(int socket, struct netlink_message *message);

/* Sends the message as a dump; `each` gets every answer. 0 or -errno. */
int netlink_dump(int socket, struct netlink_message *message,
                 void (*each)(const struct nlmsghdr *answer, void *arg), void *arg);

/* The attribute of that type after the family header, or NULL. */
const struct rtattr *netlink_find(const struct nlmsghdr *answer, size_t family_bytes, uint16_t type);

#endif
