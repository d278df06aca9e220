/*
 * Stand-ins of the host's sockets: see sockets.h.
 */
#include "agent/sockets.h"

#include "agent/netlink.h"
#include "common/fd.h"
#include "common/json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOPBACK_INDEX 1 /* of a new network namespace */

int socket_address_parse(const json_t *object, const char *where, struct socket_address *address,
                         struct error *err)
{
    const char *family = NULL, *text = NULL;
    int64_t port = 0;
    *address = (struct socket_address){0};
    if (json_require(json_get_string(object, where, "family", &family, err), where, "family", err) < 0)
        return -1;
    if (strcmp(family, "unix") == 0) {
        address->any.sa_family = AF_UNIX;
        address->length = sizeof(sa_family_t);
        return 0;
    }
    bool is_ipv4 = strcmp(family, "ipv4") == 0;
    if (!is_ipv4 && strcmp(family, "ipv6") != 0)
        return error_set(err, EINVAL, "%s.family: '%.16s' is not known", where, family);
    if (json_require(json_get_string(object, where, "address", &text, err), where, "address", err) < 0 ||
        json_require(json_get_int(object, where, "port", 0, UINT16_MAX, &port, err), where, "port", err) < 0)
        return -1;
    address->any.sa_family = is_ipv4 ? AF_INET : AF_INET6;
    address->length = is_ipv4 ? sizeof(address->ipv4) : sizeof(address->ipv6);
    *(is_ipv4 ? &address->ipv4.sin_port : &address->ipv6.sin6_port) = htons((uint16_t)port);
    void *bytes = is_ipv4 ? (void *)&address->ipv4.sin_addr : &address->ipv6.sin6_addr;
    if (inet_pton(address->any.sa_family, text, bytes) != 1)
        return error_set(err, EINVAL, "%s.address: '%.64s' is none", where, text);
    /* Of a link-local address the host's link means nothing here; there is only one. */
    if (!is_ipv4 && IN6_IS_ADDR_LINKLOCAL(&address->ipv6.sin6_addr))
        address->ipv6.sin6_scope_id = LOOPBACK_INDEX;
    return 0;
}

int socket_peer_parse(const json_t *object, const char *where, struct socket_peer *peer, struct error *err)
{
    int64_t uid = 0, gid = 0;
    *peer = (struct socket_peer){0};
    if (socket_address_parse(object, where, &peer->address, err) < 0)
        return -1;
    if (peer->address.any.sa_family == AF_UNIX &&
        (json_require(json_get_int(object, where, "uid", 0, UINT32_MAX - 1, &uid, err), where, "uid", err) <
             0 ||
         json_require(json_get_int(object, where, "gid", 0, UINT32_MAX - 1, &gid, err), where, "gid", err) <
             0))
        return -1;
    peer->uid = (uid_t)uid;
    peer->gid = (gid_t)gid;
    return 0;
}

/* Every address is local where a route says so: packets to it go through the loopback device. */
static int route_everything(int netlink, unsigned char family)
{
    struct netlink_message message;
    struct rtmsg *route =
        netlink_start(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct rtmsg));
    *route = (struct rtmsg){.rtm_family = family,
                            .rtm_table = RT_TABLE_LOCAL,
                            .rtm_protocol = RTPROT_STATIC,
                            .rtm_scope = RT_SCOPE_HOST,
                            .rtm_type = RTN_LOCAL};
    netlink_put_u32(&message, RTA_OIF, LOOPBACK_INDEX);
    return netlink_call(netlink, &message);
}

/* Makes the current network namespace, a new one, what sockets.h says. 0 or -errno. */
static int namespace_furnish(void)
{
    struct netlink_message message;
    cleanup_fd int netlink = netlink_open();
    if (netlink < 0)
        return netlink;
    struct ifinfomsg *link = netlink_start(&message, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
    *link = (struct ifinfomsg){
        .ifi_family = AF_UNSPEC, .ifi_index = LOOPBACK_INDEX, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    int failed = netlink_call(netlink, &message);
    if (!failed)
        failed = route_everything(netlink, AF_INET);
    return failed ? failed : route_everything(netlink, AF_INET6);
}

/* Into the namespace of the sockets, which is made when it is first needed. The caller's own, for
 * namespace_leave, or -1. */
static int namespace_enter(struct error *err)
{
    static int sockets_namespace = -1; /* one for the agent's life, as its own namespaces are */
    cleanup_fd int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return error_set(err, errno, "network namespace");
    if (sockets_namespace >= 0)
        return setns(sockets_namespace, CLONE_NEWNET) < 0 ? error_set(err, errno, "network namespace")
                                                          : take_fd(&own);
    if (unshare(CLONE_NEWNET) < 0)
        return error_set(err, errno, "network namespace of sockets");
    int failed = namespace_furnish();
    if (!failed && (sockets_namespace = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
        failed = -errno;
    if (!failed)
        return take_fd(&own);
    setns(own, CLONE_NEWNET);
    return error_set(err, -failed, "network namespace of sockets");
}

/* Without its own network namespace the agent could not answer for the pod's. */
static void namespace_leave(int own)
{
    if (setns(own, CLONE_NEWNET) < 0)
        abort();
    close(own);
}

static int socket_new(const struct socket_address *address, struct error *err)
{
    const int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->any.sa_family != AF_UNIX)
        setsockopt(fd, SOL_IP, IP_FREEBIND, &on,
                   sizeof(on)); /* both families: no address is the device's own */
    return fd;
}

static int listen_here(struct socket_address *address, bool ipv6_only, struct error *err)
{
    const int only = ipv6_only;
    cleanup_fd int fd = socket_new(address, err);
    if (fd < 0)
        return -1;
    if (address->any.sa_family == AF_INET6 && setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
        return error_set(err, errno, "IPV6_V6ONLY");
    if (bind(fd, &address->any, address->length) < 0 || listen(fd, SOMAXCONN) < 0)
        return error_set(err, errno, "listen");
    address->length = sizeof(address->unix_);
    return getsockname(fd, &address->any, &address->length) < 0 ? error_set(err, errno, "listen")
                                                                : take_fd(&fd);
}

int sockets_listen(struct socket_address *address, bool ipv6_only, struct error *err)
{
    int own = namespace_enter(err);
    if (own < 0)
        return -1;
    int fd = listen_here(address, ipv6_only, err);
    namespace_leave(own);
    return fd;
}

/* A Unix socket has no address here, but who connects is who it is said to be. */
static int connect_as(int fd, const struct socket_address *address, const struct socket_peer *peer)
{
    if (address->any.sa_family != AF_UNIX)
        return connect(fd, &address->any, address->length) < 0 ? -errno : 0;
    if (setegid(peer->gid) < 0 || seteuid(peer->uid) < 0) {
        int failed = -errno;
        if (setegid(0) < 0)
            abort();
        return failed;
    }
    int result = connect(fd, &address->any, address->length) < 0 ? -errno : 0;
    if (seteuid(0) < 0 || setegid(0) < 0)
        abort(); /* the agent is root, or it is nothing */
    return result;
}

static int connect_here(const struct socket_address *address, const struct socket_peer *peer, bool from_peer,
                        struct error *err)
{
    cleanup_fd int fd = socket_new(address, err);
    if (fd < 0)
        return -1;
    int failed = fd_set_nonblock(fd, 1);
    if (!failed && from_peer && bind(fd, &peer->address.any, peer->address.length) < 0)
        failed = -errno;
    if (!failed)
        failed = connect_as(fd, address, peer);
    return failed && failed != -EINPROGRESS
               ? error_say(err, -failed, "connect to the process: %s", strerror(-failed))
               : take_fd(&fd);
}

int sockets_connect(const struct socket_address *address, const struct socket_peer *peer, struct error *err)
{
    if (peer->address.any.sa_family != address->any.sa_family)
        return error_say(err, EINVAL, "peer: of another address family");
    bool is_unix = address->any.sa_family == AF_UNIX;
    int own = namespace_enter(err);
    if (own < 0)
        return -1;
    int fd = connect_here(address, peer, !is_unix, err);
    /* An earlier connection of that very peer may linger (TIME_WAIT): better another port than none. */
    if (fd < 0 && !is_unix && (err->code == EADDRINUSE || err->code == EADDRNOTAVAIL))
        fd = connect_here(address, peer, false, err);
    namespace_leave(own);
    return fd;
}

int sockets_pair(const struct socket_address *address, const struct socket_peer *peer, int *theirs,
                 struct error *err)
{
    struct socket_address at = *address;
    cleanup_fd int listener = sockets_listen(&at, false, err);
    cleanup_fd int ours = listener < 0 ? -1 : sockets_connect(&at, peer, err);
    if (ours < 0)
        return -1;
    *theirs = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return *theirs < 0 ? error_set(err, errno, "accept") : take_fd(&ours);
}
