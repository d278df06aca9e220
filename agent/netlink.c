/*
 * rtnetlink's messages: see netlink.h. Sockets block; the kernel answers a request before it returns from
 * sending.
 */
#include "agent/netlink.h"

#include "common/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_BYTES 32768 /* what the kernel fills at most for one read of a dump */

int netlink_open(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    cleanup_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return take_fd(&fd);
}

void *netlink_start(struct netlink_message *message, uint16_t type, uint16_t flags, size_t family_bytes)
{
    memset(message, 0, sizeof(*message));
    message->header.nlmsg_type = type;
    message->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    message->header.nlmsg_len = (uint32_t)NLMSG_SPACE(family_bytes);
    return NLMSG_DATA(&message->header);
}

void *netlink_append(struct netlink_message *message, const void *data, size_t length)
{
    size_t at = message->header.nlmsg_len;
    if (length > NETLINK_MESSAGE_BYTES || at + NLMSG_ALIGN(length) > NETLINK_MESSAGE_BYTES) {
        message->too_long = true;
        return NULL;
    }
    if (length > 0)
        memcpy(message->bytes + at, data, length);
    message->header.nlmsg_len = (uint32_t)(at + NLMSG_ALIGN(length));
    return message->bytes + at;
}

void netlink_put(struct netlink_message *message, uint16_t type, const void *data, size_t length)
{
    if (length > NETLINK_MESSAGE_BYTES) {
        message->too_long = true;
        return;
    }
    struct rtattr attribute = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(length)};
    if (netlink_append(message, &attribute, sizeof(attribute)))
        netlink_append(message, data, length);
}

void netlink_put_u32(struct netlink_message *message, uint16_t type, uint32_t value)
{
    netlink_put(message, type, &value, sizeof(value));
}

size_t netlink_nest(struct netlink_message *message, uint16_t type)
{
    size_t at = message->header.nlmsg_len;
    netlink_put(message, type, NULL, 0);
    return at;
}

void netlink_end(struct netlink_message *message, size_t nest)
{
    struct rtattr *attribute = (void *)(message->bytes + nest);
    if (!message->too_long)
        attribute->rta_len = (uint16_t)(message->header.nlmsg_len - nest);
}

/* Hands every message of a read to `each`. 1 when more is to come, 0 at the end, or -errno. */
static int answers_take(const char *buffer, size_t length, void (*each)(const struct nlmsghdr *, void *),
                        void *arg)
{
    for (const struct nlmsghdr *at = (const void *)buffer; NLMSG_OK(at, length);
         at = NLMSG_NEXT(at, length)) {
        if (at->nlmsg_type == NLMSG_DONE)
            return 0;
        if (at->nlmsg_type == NLMSG_ERROR)
            return ((const struct nlmsgerr *)NLMSG_DATA(at))->error;
        if (each)
            each(at, arg);
    }
    return 1;
}

static int netlink_exchange(int socket, struct netlink_message *message,
                            void (*each)(const struct nlmsghdr *, void *), void *arg)
{
    if (message->too_long)
        return -EMSGSIZE;
    cleanup_free char *buffer = malloc(ANSWER_BYTES);
    if (!buffer)
        return -ENOMEM;
    if (send(socket, message->bytes, message->header.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t length = recv(socket, buffer, ANSWER_BYTES, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return -errno;
        int more = answers_take(buffer, (size_t)length, each, arg);
        if (more <= 0)
            return more;
    }
}

int netlink_call(int socket, struct netlink_message *message)
{
    message->header.nlmsg_flags |= NLM_F_ACK;
    return netlink_exchange(socket, message, NULL, NULL);
}

int netlink_dump(int socket, struct netlink_message *message,
                 void (*each)(const struct nlmsghdr *answer, void *arg), void *arg)
{
    message->header.nlmsg_flags |= NLM_F_DUMP;
    return netlink_exchange(socket, message, each, arg);
}

const struct rtattr *netlink_find(const struct nlmsghdr *answer, size_t family_bytes, uint16_t type)
{
    const char *start = NLMSG_DATA(answer);
    long left = (long)answer->nlmsg_len - (long)NLMSG_SPACE(family_bytes);
    for (const struct rtattr *at = (const void *)(start + NLMSG_ALIGN(family_bytes)); RTA_OK(at, left);
         at = RTA_NEXT(at, left)) {
        if ((at->rta_type & NLA_TYPE_MASK) == type)
            return at;
    }
    return NULL;
}
