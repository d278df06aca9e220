/*
 * rtnetlink's requests and dumps: see netlink.h.
 */
#include "shim/netlink.h"

#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define DUMP_TRIES   16
#define ANSWER_BYTES 65536 /* the kernel fills what the reader offers, a dump of many routes most of all */

struct mnl_socket *netlink_open(struct error *err)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (!socket || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        error_set(err, errno, "netlink socket");
        if (socket)
            mnl_socket_close(socket);
        return NULL;
    }
    int on = 1;
    mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &on, sizeof(on)); /* only makes errors clearer */
    mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, sizeof(on));
    return socket;
}

struct mnl_socket *netlink_listen(struct error *err)
{
    static const int groups[] = {RTNLGRP_LINK,        RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
                                 RTNLGRP_NEIGH,       RTNLGRP_IPV4_ROUTE,  RTNLGRP_IPV6_ROUTE,
                                 RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,   RTNLGRP_IPV4_NETCONF,
                                 RTNLGRP_IPV6_NETCONF};
    struct mnl_socket *socket = netlink_open(err);
    for (size_t i = 0; socket && i < sizeof(groups) / sizeof(groups[0]); i++) {
        int group = groups[i];
        if (mnl_socket_setsockopt(socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
            error_set(err, errno, "netlink group %d", group);
            mnl_socket_close(socket);
            return NULL;
        }
    }
    return socket;
}

struct mnl_socket *netlink_open_in(int netns_fd, struct error *err)
{
    cleanup_fd int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(netns_fd, CLONE_NEWNET) < 0) {
        error_set(err, errno, "enter the network namespace");
        return NULL;
    }
    struct mnl_socket *socket = netlink_open(err);
    if (setns(own, CLONE_NEWNET) < 0 && socket) {
        error_set(err, errno, "leave the network namespace");
        mnl_socket_close(socket);
        return NULL;
    }
    return socket;
}

void *netlink_start(void *buffer, uint16_t type, uint16_t flags, size_t family_bytes)
{
    memset(buffer, 0, NETLINK_REQUEST_BYTES);
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
    message->nlmsg_type = type;
    message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    return mnl_nlmsg_put_extra_header(message, family_bytes);
}

/* The kernel's sentence about a failed request (NETLINK_EXT_ACK), or NULL. Needs NETLINK_CAP_ACK: the request
 * is not quoted in the answer. */
static const char *netlink_error_text(const struct nlmsghdr *answer)
{
    const struct nlattr *attribute;
    if (!(answer->nlmsg_flags & NLM_F_ACK_TLVS))
        return NULL;
    netlink_for_each(attribute, answer, sizeof(struct nlmsgerr))
    {
        if (mnl_attr_get_type(attribute) == NLMSGERR_ATTR_MSG &&
            mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
            return mnl_attr_get_str(attribute);
    }
    return NULL;
}

/* 0 for an acknowledgement, -1 with err filled for an error. */
static int netlink_read_result(const struct nlmsghdr *answer, struct error *err)
{
    if (answer->nlmsg_len < mnl_nlmsg_size(sizeof(struct nlmsgerr)))
        return error_set(err, EPROTO, "netlink");
    const struct nlmsgerr *result = mnl_nlmsg_get_payload(answer);
    if (result->error == 0)
        return 0;
    const char *text = netlink_error_text(answer);
    return text ? error_set(err, -result->error, "%s", text) : error_set(err, -result->error, "netlink");
}

/* A message's number, by which its answer is known. */
static uint32_t netlink_number(struct nlmsghdr *message)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    message->nlmsg_seq = (uint32_t)now.tv_nsec ^ (uint32_t)((uint64_t)now.tv_sec << 30);
    return message->nlmsg_seq;
}

int netlink_request(struct mnl_socket *socket, void *buffer, struct error *err)
{
    char answer[4096];
    struct nlmsghdr *message = buffer;
    message->nlmsg_flags |= NLM_F_ACK;
    uint32_t number = netlink_number(message);
    if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0)
        return error_set(err, errno, "netlink");
    for (;;) {
        ssize_t length = mnl_socket_recvfrom(socket, answer, sizeof(answer));
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return error_set(err, errno, "netlink");
        int left = (int)length;
        for (const struct nlmsghdr *at = (void *)answer; mnl_nlmsg_ok(at, left);
             at = mnl_nlmsg_next(at, &left)) {
            if (at->nlmsg_seq == number && at->nlmsg_type == NLMSG_ERROR)
                return netlink_read_result(at, err);
        }
    }
}

/* 0 at the dump's end, or -errno; -EINTR when it must be started over. */
static int netlink_dump_once(struct mnl_socket *socket, struct nlmsghdr *message, char *answer, mnl_cb_t each,
                             void *arg)
{
    uint32_t number = netlink_number(message);
    if (mnl_socket_sendto(socket, message, message->nlmsg_len) < 0)
        return -errno;
    for (int going = MNL_CB_OK; going > MNL_CB_STOP;) {
        ssize_t length = mnl_socket_recvfrom(socket, answer, ANSWER_BYTES);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return -errno;
        going = mnl_cb_run(answer, (size_t)length, number, mnl_socket_get_portid(socket), each, arg);
        if (going < 0 && errno == ESRCH) { /* what is left of a dump that was given up */
            going = MNL_CB_OK;
            continue;
        }
        if (going < 0)
            return -errno;
    }
    return 0;
}

int netlink_dump(struct mnl_socket *socket, void *buffer, mnl_cb_t each, void (*restart)(void *arg),
                 void *arg, struct error *err)
{
    struct nlmsghdr *message = buffer;
    cleanup_free char *answer = malloc(ANSWER_BYTES);
    int failed = answer ? -EINTR : -ENOMEM;
    message->nlmsg_flags |= NLM_F_DUMP;
    for (int tries = 0; failed == -EINTR && tries < DUMP_TRIES; tries++) {
        restart(arg);
        failed = netlink_dump_once(socket, message, answer, each, arg);
    }
    return failed ? error_set(err, -failed, "netlink dump") : 0;
}
